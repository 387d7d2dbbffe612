/*
 * fuzz_template.c
 *		libFuzzer target: compile and render text, JSON and APNs templates.
 *
 * Input: template, 0xFF, event data (JSON).  Traps if a rendering is larger
 * than its bound, or if a JSON template or an APNs payload renders to something
 * that is not JSON.
 */
#include <stdint.h>
#include <string.h>

#include "../../src/message/data.h"
#include "../../src/message/template.h"
#include "../../src/provider/apns.h"

int			LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static void
must_be_json(const NotifBuf *buf)
{
	NotifJson  *json;
	size_t		brackets = 0;

	/* after substitution values may nest deeper than one document may */
	for (size_t i = 0; i < buf->len; i++)
		brackets += buf->data[i] == '[' || buf->data[i] == '{';
	if (notif_json_parse(buf->data, buf->len, &json, NULL) == NOTIF_EINVAL &&
		brackets <= NOTIF_JSON_MAX_DEPTH)
		__builtin_trap();
	notif_json_free(json);
}

static void
fuzz_render(NotifTemplate *tmpl, const NotifVars *vars, size_t data_size, int is_json)
{
	char		error[128];
	NotifBuf	buf;

	notif_buf_init(&buf, 1 << 20);
	if (notif_template_render(tmpl, vars, &buf, error, sizeof(error)) == NOTIF_OK)
	{
		if (buf.len > notif_template_max_size(tmpl, data_size, data_size, 36))
			__builtin_trap();
		if (is_json)
			must_be_json(&buf);
	}
	notif_buf_free(&buf);
	notif_template_free(tmpl);
}

static void
fuzz_apns(const char *text, const NotifVars *vars, size_t data_size)
{
	const NotifProviderOps *ops = notif_provider_find("apns");
	NotifMessageTemplate *tmpl;
	char		error[128];
	NotifBuf	buf;

	/* as the options of a push and as its body */
	for (int as_body = 0; as_body < 2; as_body++)
	{
		if (ops->template_new("t", as_body ? text : "b", as_body ? NULL : text, &tmpl,
							  error, sizeof(error)) != NOTIF_OK)
			continue;
		notif_buf_init(&buf, 1 << 20);
		if (ops->render(tmpl, vars, &buf, error, sizeof(error)) == NOTIF_OK)
		{
			if (buf.len > ops->payload_limit(tmpl) ||
				buf.len > ops->payload_bound(tmpl, data_size, data_size, 36))
				__builtin_trap();
			must_be_json(&buf);
		}
		notif_buf_free(&buf);
		ops->template_free(tmpl);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	const uint8_t *split = memchr(input, 0xFF, size);
	size_t		len = split != NULL ? (size_t) (split - input) : size;
	NotifVars	vars = {
		.recipient_ref = "r\"1", .event_id = "0190a0a0-0000-7000-8000-000000000000",
		.type_name = "t", .event_time_s = 1700000000
	};
	NotifData  *data = NULL;
	NotifTemplate *tmpl;
	char		error[128];
	char		text[4096];

	if (split != NULL)
		notif_data_parse((const char *) split + 1, size - len - 1, &data);
	vars.data = data;
	vars.attributes = data;
	if (notif_template_new_text((const char *) input, len, &tmpl, error, sizeof(error)) == NOTIF_OK)
		fuzz_render(tmpl, &vars, notif_data_size(data), 0);
	if (notif_template_new_json((const char *) input, len, &tmpl, error, sizeof(error)) == NOTIF_OK)
		fuzz_render(tmpl, &vars, notif_data_size(data), 1);
	if (len < sizeof(text))
	{
		memcpy(text, input, len);
		text[len] = '\0';
		fuzz_apns(text, &vars, notif_data_size(data));
	}
	notif_data_free(data);
	return 0;
}
