/*
 * test_message_template.c
 *		Templates: what they render, what they refuse, what they cost in memory.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "../../src/message/data.h"
#include "../../src/message/template.h"
#include "fail_alloc.h"
#include "unit.h"

static NotifData *data;
static NotifData *attributes;
static NotifVars vars;

static const char data_json[] =
	"{\"name\":\"Zo\\u00eb\",\"n\":19.99,\"big\":12345678901234567890,\"t\":true,\"f\":false,"
	"\"nil\":null,\"o\":{\"b\":{\"c\":\"deep\"},\"l\":[1,\"x\"]},\"a\":[1,2],\"q\":\"a\\\"b\\\\\\n\","
	"\"empty\":\"\",\"k-1_x\":\"dash\",\"\xC3\xA4\":\"umlaut\",\"aps\":{\"x\":1},\"image-url\":\"u\"}";

static void
set_up(void)
{
	static const char attributes_json[] = "{\"first\":\"Ann\",\"plan\":{\"tier\":2},\"x\":null}";

	CHECK_INT(notif_data_parse(data_json, sizeof(data_json) - 1, &data), NOTIF_OK);
	CHECK_INT(notif_data_parse(attributes_json, sizeof(attributes_json) - 1, &attributes), NOTIF_OK);
	vars = (NotifVars) {
		.data = data, .attributes = attributes, .recipient_ref = "u\"1", .recipient_locale = NULL,
		.event_id = "0190-ev", .type_name = "order.shipped", .event_time_s = 1700000000
	};
}

typedef struct Case
{
	const char *template;
	const char *want;
	NotifStatus status;			/* of rendering; want is its error then */
} Case;

static void
run_cases(const Case *cases, size_t n, bool json)
{
	for (size_t i = 0; i < n; i++)
	{
		NotifTemplate *tmpl = NULL;
		NotifBuf	buf;
		char		error[256] = "";
		size_t		len = strlen(cases[i].template);
		NotifStatus status;
		bool		ok;

		notif_buf_init(&buf, 4096);
		notif_buf_adds(&buf, ">");
		status = json ? notif_template_new_json(cases[i].template, len, &tmpl, error, sizeof(error)) :
			notif_template_new_text(cases[i].template, len, &tmpl, error, sizeof(error));
		ok = CHECK_INT(status, NOTIF_OK);
		if (ok)
		{
			status = notif_template_render(tmpl, &vars, &buf, error, sizeof(error));
			ok = CHECK_INT(status, cases[i].status) &&
				CHECK_STR(status == NOTIF_OK ? buf.data + 1 : error, cases[i].want);
			if (status != NOTIF_OK)
				ok = CHECK_STR(buf.data, ">") && ok;
			else
				ok = CHECK(buf.len - 1 <= notif_template_max_size(tmpl, notif_data_size(data),
																  notif_data_size(attributes), 16)) && ok;
		}
		if (!ok)
			fprintf(stderr, "  case %zu: %s (%s)\n", i, cases[i].template, error);
		notif_template_free(tmpl);
		notif_buf_free(&buf);
	}
}

static void
test_text(void)
{
	static const Case cases[] = {
		{"", "", NOTIF_OK},
		{"plain \"text\"\n", "plain \"text\"\n", NOTIF_OK},
		{"Hi {name}!", "Hi Zo\xC3\xAB!", NOTIF_OK},
		{"{name}{name}", "Zo\xC3\xABZo\xC3\xAB", NOTIF_OK},
		{"{{name}}", "{name}", NOTIF_OK},
		{"{{{name}}}", "{Zo\xC3\xAB}", NOTIF_OK},
		{"{{}}{{", "{}{", NOTIF_OK},
		{"{n} {big} {t} {f}", "19.99 12345678901234567890 true false", NOTIF_OK},
		{"{o.b.c}", "deep", NOTIF_OK},
		{"{q}", "a\"b\\\n", NOTIF_OK},
		{"[{empty}]", "[]", NOTIF_OK},
		{"{k-1_x} {\xC3\xA4}", "dash umlaut", NOTIF_OK},
		{"{recipient.ref}|{recipient.locale}|{recipient.first}|{recipient.plan.tier}",
		"u\"1||Ann|2", NOTIF_OK},
		{"{notif.event} {notif.type} {notif.timestamp}", "0190-ev order.shipped 1700000000", NOTIF_OK},
		{"{a.0}{a.1}{o.l.1}", "12x", NOTIF_OK},
		{"{a.2}", "a.2", NOTIF_EMISSING},
		/* one name for each element */
		{"{a.01}", "a.01", NOTIF_EMISSING},
		{"{a.x}", "a.x", NOTIF_EMISSING},
		{"{a.1x}", "a.1x", NOTIF_EMISSING},
		{"{a.4294967296}", "a.4294967296", NOTIF_EMISSING},
		{"{a.0.b}", "a.0.b", NOTIF_EMISSING},
		{"{o.0}", "o.0", NOTIF_EMISSING},
		{"{nope}", "nope", NOTIF_EMISSING},
		{"{name} {o.b.x}", "o.b.x", NOTIF_EMISSING},
		{"{name.x}", "name.x", NOTIF_EMISSING},
		{"{nil}", "nil", NOTIF_EMISSING},
		{"{recipient.nope}", "recipient.nope", NOTIF_EMISSING},
		{"{recipient.x}", "recipient.x", NOTIF_EMISSING},
		{"{o}", "{o} is an object and cannot stand in text", NOTIF_EINVAL},
		{"{a}", "{a} is an array and cannot stand in text", NOTIF_EINVAL},
		{"{recipient.plan}", "{recipient.plan} is an object and cannot stand in text", NOTIF_EINVAL},
	};

	run_cases(cases, sizeof(cases) / sizeof(cases[0]), false);
}

static void
test_json(void)
{
	static const Case cases[] = {
		{"{}", "{}", NOTIF_OK},
		{" { \"a\" : [ 1, true , null ] } ", "{\"a\":[1,true,null]}", NOTIF_OK},
		{"\"{o}\"", "{\"b\":{\"c\":\"deep\"},\"l\":[1,\"x\"]}", NOTIF_OK},
		{"{\"x\":\"{n}\",\"y\":\"{a}\",\"z\":\"{nil}\",\"w\":\"{t}\",\"v\":\"{q}\"}",
		"{\"x\":19.99,\"y\":[1,2],\"z\":null,\"w\":true,\"v\":\"a\\\"b\\\\\\n\"}", NOTIF_OK},
		{"{\"x\":\"v{n}\",\"y\":\"{n}{t}\",\"z\":\" {q}\"}",
		"{\"x\":\"v19.99\",\"y\":\"19.99true\",\"z\":\" a\\\"b\\\\\\n\"}", NOTIF_OK},
		{"[\"{{n}}\",\"{{{n}}}\",\"a\\n\\\"{{\"]", "[\"{n}\",\"{19.99}\",\"a\\n\\\"{\"]", NOTIF_OK},
		{"{\"{n}\":1}", "{\"{n}\":1}", NOTIF_OK},
		{"[\"{recipient.ref}\",\"{recipient.locale}\",\"{notif.timestamp}\",\"{notif.event}\"]",
		"[\"u\\\"1\",\"\",1700000000,\"0190-ev\"]", NOTIF_OK},
		{"[\"\\u007bn\\u007d\"]", "[19.99]", NOTIF_OK},
		{"[\"{a.0}\",\"{o.l.1}\"]", "[1,\"x\"]", NOTIF_OK},
		{"[\"x {o}\"]", "{o} is an object and cannot stand in text", NOTIF_EINVAL},
		{"[\"{nope}\"]", "nope", NOTIF_EMISSING},
		{"[\"x{nil}\"]", "nil", NOTIF_EMISSING},
	};

	run_cases(cases, sizeof(cases) / sizeof(cases[0]), true);
}

static void
test_malformed(void)
{
	static const struct
	{
		const char *template;
		bool		json;
		const char *error;
	}			cases[] = {
		{"abc {", false, "byte 5: \"{\" without \"}\" (write \"{{\" for a brace)"},
		{"{name", false, "byte 1: \"{\" without \"}\" (write \"{{\" for a brace)"},
		{"a } b", false, "byte 3: \"}\" without \"{\" (write \"}}\" for a brace)"},
		{"{}", false, "byte 1: placeholder without a name"},
		{"{ name }", false, "byte 2: this character cannot be in a placeholder"},
		{"{a b}", false, "byte 3: this character cannot be in a placeholder"},
		{"{a{b}}", false, "byte 3: this character cannot be in a placeholder"},
		{"{a..b}", false, "byte 1: empty part in placeholder {a..b}"},
		{"{.a}", false, "byte 1: empty part in placeholder {.a}"},
		{"{a.}", false, "byte 1: empty part in placeholder {a.}"},
		{"{recipient}", false, "byte 1: there is no value {recipient}"},
		{"{recipient.}", false, "byte 1: empty part in placeholder {recipient.}"},
		{"x{notif}", false, "byte 2: there is no value {notif}"},
		{"{notif.foo}", false, "byte 1: there is no value {notif.foo}"},
		{"{notif.event.x}", false, "byte 1: there is no value {notif.event.x}"},
		{"bad \xFF", false, "text is not valid UTF-8"},
		{"{\"a\":}", true, "byte 6: not valid JSON"},
		{"[\"{x\"]", true, "byte 1: \"{\" without \"}\" (write \"{{\" for a brace)"},
		{"[\"{notif.x}\"]", true, "byte 1: there is no value {notif.x}"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		NotifTemplate *tmpl = (NotifTemplate *) &tmpl;
		char		error[256] = "";
		size_t		len = strlen(cases[i].template);
		NotifStatus status = cases[i].json ?
			notif_template_new_json(cases[i].template, len, &tmpl, error, sizeof(error)) :
			notif_template_new_text(cases[i].template, len, &tmpl, error, sizeof(error));

		CHECK_INT(status, NOTIF_EINVAL);
		CHECK(tmpl == NULL);
		if (!CHECK_STR(error, cases[i].error))
			fprintf(stderr, "  case %zu: %s\n", i, cases[i].template);
		/* no room for an error is no reason to fail otherwise */
		CHECK_INT(notif_template_new_text(cases[i].template, len, &tmpl, NULL, 0),
				  cases[i].json ? NOTIF_EINVAL : status);
	}
	{
		NotifTemplate *tmpl;

		CHECK_INT(notif_template_new_text("a\0b", 3, &tmpl, NULL, 0), NOTIF_EINVAL);
	}
}

static void
test_caps(void)
{
	char	   *text = malloc(NOTIF_TEMPLATE_TEXT_MAX + 1);
	char		error[256];
	NotifTemplate *tmpl;
	NotifBuf	buf;
	size_t		len = 0;

	memset(text, '"', NOTIF_TEMPLATE_TEXT_MAX + 1);
	CHECK_INT(notif_template_new_text(text, NOTIF_TEMPLATE_TEXT_MAX, &tmpl, error, sizeof(error)),
			  NOTIF_OK);
	notif_buf_init(&buf, NOTIF_TEMPLATE_TEXT_MAX - 1);
	CHECK_INT(notif_template_render(tmpl, &vars, &buf, error, sizeof(error)), NOTIF_ETOOBIG);
	notif_buf_free(&buf);
	notif_template_free(tmpl);
	CHECK_INT(notif_template_new_text(text, NOTIF_TEMPLATE_TEXT_MAX + 1, &tmpl, error, sizeof(error)),
			  NOTIF_ETOOBIG);
	CHECK_STR(error, "text of 65537 bytes is longer than 65536");
	CHECK_INT(notif_template_new_json(text, NOTIF_TEMPLATE_TEXT_MAX + 1, &tmpl, error, sizeof(error)),
			  NOTIF_ETOOBIG);

	for (int i = 0; i < NOTIF_TEMPLATE_HOLES_MAX; i++, len += 3)
		memcpy(text + len, "{n}", 3);
	CHECK_INT(notif_template_new_text(text, len, &tmpl, error, sizeof(error)), NOTIF_OK);
	notif_template_free(tmpl);
	memcpy(text + len, "{n}", 3);
	CHECK_INT(notif_template_new_text(text, len + 3, &tmpl, error, sizeof(error)), NOTIF_ETOOBIG);
	CHECK_STR(error, "byte 769: more than 256 placeholders");

	text[0] = '{';
	memset(text + 1, 'n', NOTIF_TEMPLATE_NAME_MAX + 1);
	text[NOTIF_TEMPLATE_NAME_MAX + 1] = '}';
	CHECK_INT(notif_template_new_text(text, NOTIF_TEMPLATE_NAME_MAX + 2, &tmpl, error, sizeof(error)),
			  NOTIF_OK);
	notif_template_free(tmpl);
	text[NOTIF_TEMPLATE_NAME_MAX + 1] = 'n';
	text[NOTIF_TEMPLATE_NAME_MAX + 2] = '}';
	CHECK_INT(notif_template_new_text(text, NOTIF_TEMPLATE_NAME_MAX + 3, &tmpl, error, sizeof(error)),
			  NOTIF_ETOOBIG);
	free(text);
}

static void
test_pieces(void)
{
	static const char *const except[] = {"aps", "image-url"};
	static const char simple[] = "{\"a\":1,\"b\":2}";
	static const char only[] = "{\"aps\":1}";
	NotifTemplate *tmpl = notif_template_new();
	NotifJson  *json;
	NotifData  *small;
	NotifVars	v = vars;
	NotifBuf	buf;
	char		error[256];

	notif_buf_init(&buf, 4096);
	CHECK_INT(notif_template_add_literal(tmpl, "{\"x\":0", 6), NOTIF_OK);
	CHECK_INT(notif_template_add_members(tmpl, except, 2, true), NOTIF_OK);
	CHECK_INT(notif_template_add_literal(tmpl, "}", 1), NOTIF_OK);
	CHECK_INT(notif_template_render(tmpl, &v, &buf, error, sizeof(error)), NOTIF_OK);
	CHECK(strstr(buf.data, "aps") == NULL && strstr(buf.data, "image-url") == NULL);
	CHECK(strncmp(buf.data, "{\"x\":0,\"name\":\"Zo\xC3\xAB\",\"n\":19.99,\"big\":12345678901234567890,", 40) == 0);
	CHECK(buf.len > 18 && strcmp(buf.data + buf.len - 15, ",\"\xC3\xA4\":\"umlaut\"}") == 0);

	v.data = NULL;
	notif_buf_reset(&buf);
	CHECK_INT(notif_template_render(tmpl, &v, &buf, error, sizeof(error)), NOTIF_OK);
	CHECK_STR(buf.data, "{\"x\":0}");
	notif_data_parse(only, sizeof(only) - 1, &small);
	v.data = small;
	notif_buf_reset(&buf);
	CHECK_INT(notif_template_render(tmpl, &v, &buf, error, sizeof(error)), NOTIF_OK);
	CHECK_STR(buf.data, "{\"x\":0}");
	notif_data_free(small);
	notif_template_free(tmpl);

	/* members without a comma in front, all of them and all but one */
	notif_data_parse(simple, sizeof(simple) - 1, &small);
	v.data = small;
	for (int n = 0; n <= 1; n++)
	{
		static const char *const not_a[] = {"a"};

		tmpl = notif_template_new();
		notif_template_add_members(tmpl, not_a, n, false);
		notif_buf_reset(&buf);
		CHECK_INT(notif_template_render(tmpl, &v, &buf, error, sizeof(error)), NOTIF_OK);
		CHECK_STR(buf.data, n == 0 ? "\"a\":1,\"b\":2" : "\"b\":2");
		notif_template_free(tmpl);
	}
	notif_data_free(small);

	/* kinds that a whole value may have */
	{
		static const struct
		{
			const char *json;
			unsigned	accept;
			NotifStatus status;
			const char *want;
		}			cases[] = {
			{"\"{n}\"", NOTIF_JSON_NUMBER, NOTIF_OK, "19.99"},
			{"\"{n}\"", NOTIF_TEMPLATE_INTEGER, NOTIF_EINVAL, "{n} must be a whole number"},
			{"\"{big}\"", NOTIF_TEMPLATE_INTEGER, NOTIF_OK, "12345678901234567890"},
			{"\"{name}\"", NOTIF_JSON_NUMBER, NOTIF_EINVAL, "{name} must be a number"},
			{"\"{o}\"", NOTIF_JSON_OBJECT, NOTIF_OK, "{\"b\":{\"c\":\"deep\"},\"l\":[1,\"x\"]}"},
			{"\"{a}\"", NOTIF_JSON_OBJECT, NOTIF_EINVAL, "{a} must be an object"},
			{"\"{nil}\"", NOTIF_JSON_OBJECT, NOTIF_EMISSING, "nil"},
			{"\"{notif.timestamp}\"", NOTIF_TEMPLATE_INTEGER, NOTIF_OK, "1700000000"},
			{"\"{notif.timestamp}\"", NOTIF_JSON_STRING, NOTIF_EINVAL, "{notif.timestamp} must be a string"},
			{"\"{notif.type}\"", NOTIF_JSON_NUMBER, NOTIF_EINVAL, "{notif.type} must be a number"},
		};

		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		{
			tmpl = notif_template_new();
			notif_json_parse(cases[i].json, strlen(cases[i].json), &json, NULL);
			CHECK_INT(notif_template_add_json(tmpl, json, 0, cases[i].accept, error, sizeof(error)),
					  NOTIF_OK);
			notif_buf_reset(&buf);
			CHECK_INT(notif_template_render(tmpl, &vars, &buf, error, sizeof(error)), cases[i].status);
			CHECK_STR(cases[i].status == NOTIF_OK ? buf.data : error, cases[i].want);
			notif_template_free(tmpl);
			notif_json_free(json);
		}
	}
	v = (NotifVars) {0};
	CHECK_INT(notif_template_new_text("{recipient.ref}", 15, &tmpl, error, sizeof(error)), NOTIF_OK);
	CHECK_INT(notif_template_render(tmpl, &v, &buf, error, sizeof(error)), NOTIF_EMISSING);
	notif_template_free(tmpl);
	CHECK_INT(notif_template_new_text("{recipient.x}{notif.timestamp}", 30, &tmpl, NULL, 0), NOTIF_OK);
	CHECK_INT(notif_template_render(tmpl, &v, &buf, NULL, 0), NOTIF_EMISSING);
	notif_template_free(tmpl);
	notif_buf_free(&buf);
}

static void
test_timestamp(void)
{
	static const struct
	{
		int64_t		time;
		const char *want;
	}			cases[] = {
		{0, "0"}, {-1, "-1"}, {INT64_MAX, "9223372036854775807"}, {INT64_MIN, "-9223372036854775808"},
	};
	NotifTemplate *tmpl;
	NotifBuf	buf;

	notif_buf_init(&buf, 100);
	notif_template_new_text("{notif.timestamp}", 17, &tmpl, NULL, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		NotifVars	v = {.event_time_s = cases[i].time};

		notif_buf_reset(&buf);
		CHECK_INT(notif_template_render(tmpl, &v, &buf, NULL, 0), NOTIF_OK);
		CHECK_STR(buf.data, cases[i].want);
	}
	notif_template_free(tmpl);
	notif_buf_free(&buf);
}

static void
visit(void *ud, const char *name)
{
	notif_buf_adds(ud, name);
	notif_buf_addc(ud, ' ');
}

static void
test_vars(void)
{
	static const char text[] = "{b}{a}{b}{recipient.b}{a.b}{notif.type}{a}";
	NotifTemplate *tmpl;
	NotifBuf	names;

	notif_buf_init(&names, 1000);
	notif_template_new_text(text, sizeof(text) - 1, &tmpl, NULL, 0);
	notif_template_vars(tmpl, visit, &names);
	CHECK_STR(names.data, "b a recipient.b a.b notif.type ");
	notif_template_free(tmpl);
	notif_buf_free(&names);
}

/* The bound is sound and, for disjoint placeholders, does not multiply. */
static void
test_bound(void)
{
	NotifTemplate *tmpl;

	notif_template_new_text("{a}{b}{c.d}", 11, &tmpl, NULL, 0);
	CHECK_INT(notif_template_max_size(tmpl, 1000, 5, 5), 1000);
	notif_template_free(tmpl);
	notif_template_new_text("x{a}{a.b}{a.b.c}{c}", 19, &tmpl, NULL, 0);
	CHECK_INT(notif_template_max_size(tmpl, 1000, 5, 5), 3001);
	CHECK(notif_template_max_size(tmpl, SIZE_MAX / 2, 5, 5) == SIZE_MAX);
	notif_template_free(tmpl);
	notif_template_new_text("{recipient.a}{recipient.b}{recipient.ref}", 41, &tmpl, NULL, 0);
	CHECK_INT(notif_template_max_size(tmpl, 1000, 50, 100), 50 + 2 + 600);
	notif_template_free(tmpl);
}

static void
test_failing_memory(void)
{
	static const char json[] = "{\"a\":\"{n}\",\"b\":[\"x {q} \\u00e9\",{\"c\":\"{o}\"}],\"d\":\"{recipient.ref}\"}";
	long		failures = 0;
	NotifTemplate *tmpl;
	NotifBuf	buf;
	NotifStatus status;

	for (long n = 1; fail_alloc_begin(n),
		 status = notif_template_new_json(json, sizeof(json) - 1, &tmpl, NULL, 0),
		 fail_alloc_end(); n++)
	{
		failures++;
		CHECK_INT(status, NOTIF_ENOMEM);
		CHECK(tmpl == NULL);
	}
	CHECK(failures >= 4);
	CHECK_INT(status, NOTIF_OK);
	notif_buf_init(&buf, 4096);
	for (long n = 1; notif_buf_free(&buf), fail_alloc_begin(n),
		 status = notif_template_render(tmpl, &vars, &buf, NULL, 0), fail_alloc_end(); n++)
		CHECK_INT(status, NOTIF_ENOMEM);
	CHECK_INT(status, NOTIF_OK);
	notif_buf_free(&buf);
	notif_template_free(tmpl);
}

int
main(void)
{
	set_up();
	test_text();
	test_json();
	test_malformed();
	test_caps();
	test_pieces();
	test_timestamp();
	test_vars();
	test_bound();
	test_failing_memory();
	notif_data_free(data);
	notif_data_free(attributes);
	return unit_done();
}
