/*
 * fuzz_data.c
 *		libFuzzer target: the JSON reader, with jansson as a second opinion.
 *
 * Traps if canonical text is not a fixed point of parsing, or if what we accept
 * and jansson reads differs in meaning.
 */
#include <jansson.h>
#include <stdint.h>
#include <string.h>

#include "../../src/message/data.h"

int			LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	NotifJson  *json;
	NotifJson  *again;
	NotifData  *data;
	NotifBuf	text;
	json_t	   *theirs;
	json_t	   *theirs_again;

	if (notif_data_parse((const char *) input, size, &data) == NOTIF_OK)
		notif_data_free(data);
	theirs = json_loadb((const char *) input, size, JSON_DECODE_ANY, NULL);
	if (notif_json_parse((const char *) input, size, &json, NULL) != NOTIF_OK)
	{
		/* ours has a lower depth limit, and \u0000 in a key or value is refused by both */
		json_decref(theirs);
		return 0;
	}
	if (json->len > size || notif_json_parse(json->text, json->len, &again, NULL) != NOTIF_OK ||
		again->len != json->len || memcmp(again->text, json->text, json->len) != 0 ||
		again->n_nodes != json->n_nodes)
		__builtin_trap();
	notif_json_free(again);
	if (theirs != NULL)			/* jansson refuses numbers that do not fit */
	{
		theirs_again = json_loadb(json->text, json->len, JSON_DECODE_ANY, NULL);
		if (!json_equal(theirs, theirs_again))
			__builtin_trap();
		json_decref(theirs_again);
	}
	json_decref(theirs);

	/* decoding and escaping a string gives its canonical text back */
	notif_buf_init(&text, 2 * NOTIF_JSON_MAX);
	for (uint32_t i = 0; i < json->n_nodes; i++)
	{
		const NotifJsonNode *node = &json->nodes[i];
		size_t		decoded;

		if (node->kind != NOTIF_JSON_STRING)
			continue;
		notif_buf_reset(&text);
		if (notif_json_decode(json, i, &text) != NOTIF_OK)
			__builtin_trap();
		decoded = text.len;
		if (notif_buf_reserve(&text, 6 * decoded) != NOTIF_OK ||
			notif_json_escape(&text, text.data, decoded) != NOTIF_OK ||
			text.len - decoded != node->len - 2 ||
			memcmp(text.data + decoded, json->text + node->start + 1, node->len - 2) != 0)
			__builtin_trap();
	}
	notif_buf_free(&text);
	notif_json_free(json);
	return 0;
}
