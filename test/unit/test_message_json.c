/*
 * test_message_json.c
 *		The JSON reader: tables, and jansson as a second opinion.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "../../src/message/data.h"
#include "../../src/message/json.h"
#include "fail_alloc.h"
#include "unit.h"

static void
test_canonical(void)
{
	static const struct
	{
		const char *in;
		const char *want;		/* NULL: refused */
		size_t		error_at;
	}			cases[] = {
		{"{}", "{}", 0}, {" [ ] ", "[]", 0}, {"null", "null", 0}, {" true\n", "true", 0},
		{"{ \"a\" : [ 1 , 2.50 , -0e+5 ] , \"b\" : { } }", "{\"a\":[1,2.50,-0e+5],\"b\":{}}", 0},
		{"19.99", "19.99", 0}, {"123456789012345678901234567890", "123456789012345678901234567890", 0},
		{"\"\\u0041\\/\\u00e9\\ud83d\\ude00\"", "\"A/\xC3\xA9\xF0\x9F\x98\x80\"", 0},
		{"\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001F\\u000a\"",
		"\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\\n\"", 0},
		{"\"\xE2\x82\xAC\"", "\"\xE2\x82\xAC\"", 0}, {"\"\\u20AC\"", "\"\xE2\x82\xAC\"", 0},
		{"\"\x7F\"", "\"\x7F\"", 0},
		{"", NULL, 0}, {"  ", NULL, 2}, {"{", NULL, 1}, {"[1,]", NULL, 3}, {"{\"a\":1,}", NULL, 7},
		{"{\"a\" 1}", NULL, 5}, {"{a:1}", NULL, 1}, {"[1 2]", NULL, 3}, {"01", NULL, 1}, {"1.", NULL, 2},
		{".5", NULL, 0}, {"-", NULL, 1}, {"+1", NULL, 0}, {"1e", NULL, 2}, {"0x1", NULL, 1}, {"NaN", NULL, 0},
		{"nul", NULL, 0}, {"truex", NULL, 4}, {"\"a", NULL, 2}, {"\"\n\"", NULL, 1}, {"\"\\x\"", NULL, 2},
		{"\"\\u12G4\"", NULL, 3}, {"\"\\u0000\"", NULL, 7}, {"\"\\ud800\"", NULL, 7},
		{"\"\\ud800\\u0041\"", NULL, 13}, {"\"\\udc00\"", NULL, 7}, {"\"\xC0\x80\"", NULL, 1},
		{"\"\xED\xA0\x80\"", NULL, 1}, {"\"\xFF\"", NULL, 1}, {"[]]", NULL, 2}, {"\"\\", NULL, 2},
		{"\xEF\xBB\xBF{}", NULL, 0}, {"{}\v", NULL, 2},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		NotifJson  *json;
		size_t		error_at = 999;
		NotifStatus status = notif_json_parse(cases[i].in, strlen(cases[i].in), &json, &error_at);
		bool		ok = CHECK_INT(status, cases[i].want != NULL ? NOTIF_OK : NOTIF_EINVAL);

		if (status == NOTIF_OK)
			ok = CHECK_STR(json->text, cases[i].want) && CHECK_INT(json->len, strlen(json->text)) && ok;
		else
			ok = CHECK_INT(error_at, cases[i].error_at) && ok;
		if (!ok)
			fprintf(stderr, "  case %zu: %s\n", i, cases[i].in);
		notif_json_free(json);
	}
}

static void
test_caps(void)
{
	static char deep[2 * NOTIF_JSON_MAX_DEPTH + 2];
	char	   *large = calloc(NOTIF_JSON_MAX + 2, 1);
	NotifJson  *json;

	memset(deep, '[', NOTIF_JSON_MAX_DEPTH);
	memset(deep + NOTIF_JSON_MAX_DEPTH, ']', NOTIF_JSON_MAX_DEPTH);
	CHECK_INT(notif_json_parse(deep, 2 * NOTIF_JSON_MAX_DEPTH, &json, NULL), NOTIF_OK);
	notif_json_free(json);
	memset(deep, '[', NOTIF_JSON_MAX_DEPTH + 1);
	memset(deep + NOTIF_JSON_MAX_DEPTH + 1, ']', NOTIF_JSON_MAX_DEPTH + 1);
	CHECK_INT(notif_json_parse(deep, sizeof(deep), &json, NULL), NOTIF_EINVAL);

	memset(large, ' ', NOTIF_JSON_MAX + 1);
	large[0] = '1';
	CHECK_INT(notif_json_parse(large, NOTIF_JSON_MAX, &json, NULL), NOTIF_OK);
	notif_json_free(json);
	CHECK_INT(notif_json_parse(large, NOTIF_JSON_MAX + 1, &json, NULL), NOTIF_ETOOBIG);
	free(large);
	CHECK_INT(notif_json_parse("\"a\0b\"", 5, &json, NULL), NOTIF_EINVAL);
}

static void
test_access(void)
{
	static const char text[] = "{\"a\":{\"b\":[1,{\"c\":\"x\\ny\"}]},\"s\":\"q\\u00e9\\\"\",\"a\":7,\"\":0}";
	static const char controls[] = "\"\\b\\f\\n\\r\\t\\u0001\\u001b\\\\\"";
	NotifJson  *json;
	NotifBuf	buf;
	uint32_t	node;

	notif_buf_init(&buf, 100);
	CHECK_INT(notif_json_parse(text, sizeof(text) - 1, &json, NULL), NOTIF_OK);
	node = notif_json_member(json, 0, "a", 1);
	CHECK(node > 0 && json->nodes[node].kind == NOTIF_JSON_NUMBER); /* the last one */
	CHECK_INT(notif_json_member(json, node, "b", 1), 0);
	CHECK_INT(notif_json_member(json, 0, "zz", 2), 0);
	CHECK(notif_json_member(json, 0, "", 0) > 0);
	node = notif_json_member(json, 0, "s", 1);
	CHECK(json->nodes[node].escaped);
	CHECK_INT(notif_json_decode(json, node, &buf), NOTIF_OK);
	CHECK_STR(buf.data, "q\xC3\xA9\"");
	notif_json_free(json);

	CHECK_INT(notif_json_parse(controls, sizeof(controls) - 1, &json, NULL), NOTIF_OK);
	notif_buf_reset(&buf);
	CHECK_INT(notif_json_decode(json, 0, &buf), NOTIF_OK);
	CHECK_STR(buf.data, "\b\f\n\r\t\x01\x1B\\");
	CHECK(!notif_json_is(json, 0, "x"));
	buf.cap = buf.len + 3;
	CHECK_INT(notif_json_decode(json, 0, &buf), NOTIF_ETOOBIG);
	CHECK_STR(buf.data, "\b\f\n\r\t\x01\x1B\\");
	notif_json_free(json);

	notif_buf_free(&buf);
	notif_buf_init(&buf, 39);
	CHECK_INT(notif_json_escape(&buf, "a\"\\\n\x02\xC3\xA9\xFFz", 9), NOTIF_OK);
	CHECK_STR(buf.data, "a\\\"\\\\\\n\\u0002\xC3\xA9\xEF\xBF\xBDz");
	CHECK_INT(notif_json_escape(&buf, "0123456789012345678\n", 20), NOTIF_ETOOBIG);
	CHECK_STR(buf.data, "a\\\"\\\\\\n\\u0002\xC3\xA9\xEF\xBF\xBDz");
	notif_buf_free(&buf);
}

static void
test_data(void)
{
	NotifData  *data;
	NotifData  *other;

	CHECK_INT(notif_data_parse("[]", 2, &data), NOTIF_EINVAL);
	CHECK_INT(notif_data_parse("{", 1, &data), NOTIF_EINVAL);
	CHECK(data == NULL);
	CHECK_INT(notif_data_parse("{ \"a\": 1 }", 10, &data), NOTIF_OK);
	CHECK_INT(notif_data_size(data), 7);
	CHECK_STR(notif_data_text(data), "{\"a\":1}");
	other = notif_data_ref(data);
	notif_data_free(data);
	CHECK_STR(notif_data_text(other), "{\"a\":1}");
	notif_data_free(other);
	notif_data_free(NULL);
	CHECK_INT(notif_data_size(NULL), 2);
	for (long n = 1; fail_alloc_begin(n), notif_data_parse("{\"a\":1}", 7, &data), fail_alloc_end(); n++)
		CHECK(data == NULL);
	notif_data_free(data);
}

static uint64_t rng_state = 0xABCDEF12345;

static unsigned
rng(unsigned n)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return (unsigned) ((rng_state >> 11) % n);
}

/* Texts that are JSON more often than not, some cut or bent. */
static size_t
random_json(char *out, size_t size, int depth)
{
	static const char *const atoms[] = {
		"1", "-0.5", "10e2", "true", "false", "null", "\"\"", "\"a\"", "\"\\n\\u00e9\"", "\"\\ud83d\\ude00\"",
		"\"\xC3\xBC\"", " 7 ", "\"\\\\\\\"\"", "0", "3.0E-2",
	};
	size_t		used = 0;
	unsigned	kind = depth > 4 ? 2 : rng(4);

	if (size < 200)
		kind = 2;
	if (kind >= 2)
	{
		const char *atom = atoms[rng(sizeof(atoms) / sizeof(atoms[0]))];

		used = strlen(atom);
		memcpy(out, atom, used);
		return used;
	}
	out[used++] = kind == 0 ? '[' : '{';
	for (unsigned i = 0, n = rng(4); i < n; i++)
	{
		if (i > 0)
			out[used++] = ',';
		if (kind == 1)
			used += (size_t) snprintf(out + used, size - used, " \"k%u\": ", rng(1000));
		used += random_json(out + used, (size - used) / 2, depth + 1);
	}
	out[used++] = kind == 0 ? ']' : '}';
	return used;
}

/* Accepts and means the same as jansson does, over 100,000 texts. */
static void
test_differential(void)
{
	int			disagree = 0;
	int			accepted = 0;

	for (int i = 0; i < 100000; i++)
	{
		char		text[4096];
		size_t		len = random_json(text, sizeof(text), 0);
		NotifJson  *json;
		json_t	   *theirs;
		bool		ok;

		if (rng(3) == 0 && len > 0)
			text[rng((unsigned) len)] = "[]{},:\"\\ \t0e.x"[rng(14)];
		theirs = json_loadb(text, len, JSON_DECODE_ANY, NULL);
		ok = notif_json_parse(text, len, &json, NULL) == NOTIF_OK;
		if (ok != (theirs != NULL))
		{
			disagree++;
			fprintf(stderr, "  disagree on %.*s\n", (int) len, text);
		}
		else if (ok)
		{
			json_t	   *again = json_loadb(json->text, json->len, JSON_DECODE_ANY, NULL);

			accepted++;
			if (!json_equal(theirs, again))
				disagree++;
			json_decref(again);
		}
		json_decref(theirs);
		notif_json_free(json);
	}
	CHECK_INT(disagree, 0);
	CHECK(accepted > 50000);
}

int
main(void)
{
	test_canonical();
	test_caps();
	test_access();
	test_data();
	test_differential();
	return unit_done();
}
