/*
 * test_provider_apns_template.c
 *		APNs payloads, compared as JSON values, and what a type may not say.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "../../src/message/data.h"
#include "../../src/provider/apns.h"
#include "fail_alloc.h"
#include "unit.h"

static const NotifProviderOps *ops;
static NotifData *data;
static NotifVars vars;

static const char data_json[] =
	"{\"order\":\"A-17\",\"price\":19.5,\"n\":3,\"half\":1.5,\"state\":{\"score\":3},\"at\":1700003600,"
	"\"tags\":[1,\"x\"],\"quote\":\"say \\\"hi\\\"\\n\",\"nothing\":null}";

#define DATA "\"order\":\"A-17\",\"price\":19.5,\"n\":3,\"half\":1.5,\"state\":{\"score\":3},\"at\":1700003600," \
	"\"tags\":[1,\"x\"],\"quote\":\"say \\\"hi\\\"\\n\",\"nothing\":null"

typedef struct Payload
{
	const char *title;
	const char *body;
	const char *options;
	const char *want;
} Payload;

static const Payload payloads[] = {
	{"Order {order}", NULL, NULL, "{\"aps\":{\"alert\":{\"title\":\"Order A-17\"}}," DATA "}"},
	{"", "costs {price}", "", "{\"aps\":{\"alert\":{\"body\":\"costs 19.5\"}}," DATA "}"},
	{"T", "B {quote}", "{\"data\":false}", "{\"aps\":{\"alert\":{\"title\":\"T\",\"body\":\"B say \\\"hi\\\"\\n\"}}}"},
	{"T", NULL, "{\"data\":true}", "{\"aps\":{\"alert\":{\"title\":\"T\"}}," DATA "}"},
	{"T", NULL, "{\"data\":{}}", "{\"aps\":{\"alert\":{\"title\":\"T\"}}}"},
	{"T", NULL, "{\"data\":{\"o\":\"{order}\",\"s\":\"{state}\",\"l\":[\"{n}\",\"n{n}\",null,true],\"x\":{\"y\":\"{{}}\"}}}",
	"{\"aps\":{\"alert\":{\"title\":\"T\"}},\"o\":\"A-17\",\"s\":{\"score\":3},\"l\":[3,\"n3\",null,true],\"x\":{\"y\":\"{}\"}}"},
	{"T", "B", "{\"subtitle\":\"S {n}\",\"badge\":\"{n}\",\"sound\":\"ding.caf\",\"thread_id\":\"o-{order}\",\"category\":\"C\","
		"\"interruption_level\":\"time-sensitive\",\"relevance_score\":0.8,\"mutable_content\":true,\"content_available\":1,"
		"\"target_content_id\":\"w\",\"filter_criteria\":\"f\",\"launch_image\":\"i\",\"data\":false}",
	"{\"aps\":{\"alert\":{\"title\":\"T\",\"body\":\"B\",\"subtitle\":\"S 3\",\"launch-image\":\"i\"},\"badge\":3,"
		"\"sound\":\"ding.caf\",\"thread-id\":\"o-A-17\",\"category\":\"C\",\"content-available\":1,\"mutable-content\":1,"
		"\"target-content-id\":\"w\",\"interruption-level\":\"time-sensitive\",\"relevance-score\":0.8,\"filter-criteria\":\"f\"}}"},
	{"T", NULL, "{\"badge\":0,\"mutable_content\":false,\"content_available\":0,\"sound\":null,\"data\":false}",
	"{\"aps\":{\"alert\":{\"title\":\"T\"},\"badge\":0}}"},
	{"T", NULL, "{\"sound\":{\"critical\":1,\"name\":\"a{n}\",\"volume\":0.25},\"data\":false}",
	"{\"aps\":{\"alert\":{\"title\":\"T\"},\"sound\":{\"critical\":1,\"name\":\"a3\",\"volume\":0.25}}}"},
	{"T", NULL, "{\"sound\":{\"critical\":true},\"data\":false}",
	"{\"aps\":{\"alert\":{\"title\":\"T\"},\"sound\":{\"critical\":1,\"name\":\"default\"}}}"},
	{"T", NULL, "{\"image_url\":\"https://x.example/{order}.png\",\"data\":{\"a\":1}}",
	"{\"aps\":{\"alert\":{\"title\":\"T\"},\"mutable-content\":1},\"image-url\":\"https://x.example/A-17.png\",\"a\":1}"},
	{"T", NULL, "{\"image_url\":\"u\",\"mutable_content\":1}",
	"{\"aps\":{\"alert\":{\"title\":\"T\"},\"mutable-content\":1},\"image-url\":\"u\"," DATA "}"},
	{NULL, NULL, "{\"title_loc_key\":\"K\",\"title_loc_args\":[\"{order}\",\"x\"],\"loc_key\":\"L\",\"loc_args\":[\"{n}\"],"
		"\"subtitle_loc_key\":\"M\",\"subtitle_loc_args\":[],\"data\":false}",
	"{\"aps\":{\"alert\":{\"title-loc-key\":\"K\",\"title-loc-args\":[\"A-17\",\"x\"],\"subtitle-loc-key\":\"M\","
		"\"subtitle-loc-args\":[],\"loc-key\":\"L\",\"loc-args\":[\"3\"]}}}"},
	{NULL, NULL, "{\"push_type\":\"background\"}", "{\"aps\":{\"content-available\":1}," DATA "}"},
	{NULL, NULL, "{\"push_type\":\"background\",\"content_available\":true,\"priority\":5,\"data\":false}",
	"{\"aps\":{\"content-available\":1}}"},
	{NULL, NULL, "{\"push_type\":\"voip\",\"data\":{\"call\":\"{order}\"}}", "{\"aps\":{},\"call\":\"A-17\"}"},
	{NULL, NULL, "{\"push_type\":\"widgets\",\"content_changed\":true,\"data\":false}", "{\"aps\":{\"content-changed\":true}}"},
	{NULL, NULL, "{\"push_type\":\"mdm\",\"data\":{\"mdm\":\"{order}\"}}", "{\"mdm\":\"A-17\"}"},
	{NULL, NULL, "{\"push_type\":\"mdm\"}", "{" DATA "}"},
	{NULL, NULL, "{\"push_type\":\"fileprovider\",\"data\":{\"container-identifier\":\"c\"}}",
	"{\"aps\":{},\"container-identifier\":\"c\"}"},
	{"T", "{order}", "{\"push_type\":\"liveactivity\",\"event\":\"update\",\"content_state\":\"{state}\",\"stale_date\":\"{at}\","
		"\"relevance_score\":75,\"sound\":\"s\",\"data\":false}",
	"{\"aps\":{\"alert\":{\"title\":\"T\",\"body\":\"A-17\",\"sound\":\"s\"},\"relevance-score\":75,\"timestamp\":1700000000,"
		"\"event\":\"update\",\"content-state\":{\"score\":3},\"stale-date\":1700003600}}"},
	{"T", NULL, "{\"push_type\":\"liveactivity\",\"event\":\"start\",\"content_state\":{\"s\":\"{n}\"},\"attributes_type\":\"A\","
		"\"attributes\":{\"o\":\"{order}\"},\"timestamp\":5,\"input_push_token\":1,\"data\":false}",
	"{\"aps\":{\"alert\":{\"title\":\"T\"},\"timestamp\":5,\"event\":\"start\",\"content-state\":{\"s\":3},\"attributes-type\":\"A\","
		"\"attributes\":{\"o\":\"A-17\"},\"input-push-token\":1}}"},
	{NULL, NULL, "{\"push_type\":\"liveactivity\",\"event\":\"end\",\"dismissal_date\":1700003600,\"data\":false}",
	"{\"aps\":{\"timestamp\":1700000000,\"event\":\"end\",\"dismissal-date\":1700003600}}"},
};

static void
test_payloads(void)
{
	for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++)
	{
		const Payload *p = &payloads[i];
		NotifMessageTemplate *tmpl;
		NotifBuf	payload;
		char		error[256] = "";
		bool		ok;

		notif_buf_init(&payload, 8192);
		ok = CHECK_INT(ops->template_new(p->title, p->body, p->options, &tmpl, error, sizeof(error)), NOTIF_OK);
		if (ok)
		{
			json_t	   *got;
			json_t	   *want = json_loads(p->want, JSON_REJECT_DUPLICATES, NULL);

			ok = CHECK_INT(ops->render(tmpl, &vars, &payload, error, sizeof(error)), NOTIF_OK);
			got = json_loads(notif_buf_text(&payload), JSON_REJECT_DUPLICATES, NULL);
			ok = CHECK(want != NULL) && CHECK(json_equal(got, want)) && ok;
			ok = CHECK(payload.len <= ops->payload_bound(tmpl, notif_data_size(data), 2, 36)) && ok;
			json_decref(got);
			json_decref(want);
			ops->template_free(tmpl);
		}
		if (!ok)
			fprintf(stderr, "  case %zu: %s (%s)\n  got  %s\n  want %s\n", i, p->options, error,
					notif_buf_text(&payload), p->want);
		notif_buf_free(&payload);
	}
}

static const struct
{
	const char *title;
	const char *options;
	const char *error;
}			refused[] = {
	{NULL, NULL, "push_type alert needs a title or a body"},
	{"", "{\"subtitle\":\"s\"}", "push_type alert needs a title or a body"},
	{"T {", NULL, "title: byte 3: \"{\" without \"}\" (write \"{{\" for a brace)"},
	{"T", "{", "byte 2 of the push options: not valid JSON"},
	{"T", "[]", "the push options are not a JSON object"},
	{"T", "{\"soud\":1}", "unknown push option \"soud\""},
	{"T", "{\"push_type\":\"x\"}", "unknown push_type \"x\""},
	{"T", "{\"push_type\":1}", "push_type must be a string"},
	{"T", "{\"priority\":7}", "priority must be 10, 5 or 1"},
	{"T", "{\"priority\":\"10\"}", "priority must be a whole number"},
	{"T", "{\"priority\":\"{p}\"}", "priority must be 10, 5 or 1"},
	{"T", "{\"badge\":-1}", "badge must be a whole number or a placeholder"},
	{"T", "{\"badge\":1.5}", "badge must be a whole number or a placeholder"},
	{"T", "{\"badge\":\"3\"}", "badge must be a whole number or a placeholder"},
	{"T", "{\"badge\":\"x{n}\"}", "badge must be a whole number or a placeholder"},
	{"T", "{\"badge\":3000000000}", "badge is too large"},
	{"T", "{\"sound\":1}", "sound must be a string or an object"},
	{"T", "{\"sound\":{\"volume\":1.5}}", "sound.volume must be a number from 0 to 1"},
	{"T", "{\"sound\":{\"volume\":-0.1}}", "sound.volume must be a number from 0 to 1"},
	{"T", "{\"sound\":{\"volume\":\"loud\"}}", "sound.volume must be a number from 0 to 1"},
	{"T", "{\"sound\":{\"critical\":2}}", "sound.critical must be a boolean or 0 or 1"},
	{"T", "{\"sound\":{\"name\":2}}", "sound.name must be a string"},
	{"T", "{\"sound\":{\"loud\":1}}", "unknown member \"loud\" of sound"},
	{"T", "{\"sound\":\"{\"}", "sound: byte 1: \"{\" without \"}\" (write \"{{\" for a brace)"},
	{"T", "{\"thread_id\":7}", "thread_id must be a string"},
	{"T", "{\"loc_args\":\"x\"}", "loc_args must be an array of strings"},
	{"T", "{\"loc_args\":[1]}", "loc_args must be an array of strings"},
	{"T", "{\"loc_args\":[\"x\"]}", "loc_args needs loc_key"},
	{"T", "{\"interruption_level\":\"loud\"}", "interruption_level must be passive, active, time-sensitive or critical"},
	{"T", "{\"relevance_score\":1.1}", "relevance_score must be a number from 0 to 1"},
	{"T", "{\"relevance_score\":\"x\"}", "relevance_score must be a number or a placeholder"},
	{"T", "{\"mutable_content\":2}", "mutable_content must be a boolean or 0 or 1"},
	{"T", "{\"mutable_content\":\"true\"}", "mutable_content must be a boolean or 0 or 1"},
	{"T", "{\"image_url\":\"u\",\"mutable_content\":false}", "image_url needs mutable_content"},
	{"T", "{\"data\":7}", "data must be an object, true or false"},
	{"T", "{\"data\":{\"aps\":{}}}", "data may not have a member \"aps\""},
	{"T", "{\"image_url\":\"u\",\"data\":{\"image-url\":1}}", "data may not have a member \"image-url\" beside image_url"},
	{"T", "{\"data\":{\"x\":[\"{a\"]}}", "data: byte 1: \"{\" without \"}\" (write \"{{\" for a brace)"},
	{"T", "{\"topic\":\"a b\"}", "topic is not a bundle id"},
	{"T", "{\"topic\":\"\"}", "topic is not a bundle id"},
	{"T", "{\"event\":\"update\"}", "event belongs to push_type liveactivity"},
	{"T", "{\"content_state\":{}}", "content_state belongs to push_type liveactivity"},
	{"T", "{\"push_type\":\"background\"}", "push_type background may not carry an alert: remove title and body"},
	{NULL, "{\"push_type\":\"background\",\"sound\":\"x\"}", "push_type background may not carry sound"},
	{NULL, "{\"push_type\":\"background\",\"badge\":1}", "push_type background may not carry badge"},
	{NULL, "{\"push_type\":\"background\",\"loc_key\":\"x\"}", "push_type background may not carry loc_key"},
	{NULL, "{\"push_type\":\"background\",\"image_url\":\"x\"}", "push_type background may not carry image_url"},
	{NULL, "{\"push_type\":\"background\",\"content_available\":false}", "push_type background needs content_available"},
	{NULL, "{\"push_type\":\"background\",\"priority\":10}", "push_type background needs priority 5"},
	{"T", "{\"push_type\":\"mdm\"}", "push_type mdm carries data only"},
	{"T", "{\"push_type\":\"liveactivity\"}", "push_type liveactivity needs event (start, update or end)"},
	{"T", "{\"push_type\":\"liveactivity\",\"event\":\"stop\"}", "event must be start, update or end"},
	{"T", "{\"push_type\":\"liveactivity\",\"event\":\"{e}\"}", "event must be start, update or end"},
	{"T", "{\"push_type\":\"liveactivity\",\"event\":\"start\"}", "starting a live activity needs attributes_type"},
	{"T", "{\"push_type\":\"liveactivity\",\"event\":\"start\",\"attributes_type\":\"A\"}", "starting a live activity needs attributes"},
	{"T", "{\"push_type\":\"liveactivity\",\"event\":\"start\",\"attributes_type\":\"A\",\"attributes\":{}}",
	"starting a live activity needs content_state"},
	{NULL, "{\"push_type\":\"liveactivity\",\"event\":\"start\",\"attributes_type\":\"A\",\"attributes\":{},\"content_state\":{}}",
	"starting a live activity needs an alert: a title or a body"},
	{"T", "{\"push_type\":\"liveactivity\",\"event\":\"update\",\"content_state\":[]}", "content_state must be an object or a placeholder"},
	{"T", "{\"push_type\":\"liveactivity\",\"event\":\"update\",\"stale_date\":\"soon\"}", "stale_date must be a whole number or a placeholder"},
	{"T", "{\"push_type\":\"liveactivity\",\"event\":\"update\",\"priority\":1}", "push_type liveactivity allows priority 10 or 5"},
};

static void
test_refused(void)
{
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		NotifMessageTemplate *tmpl;
		char		error[256] = "";

		if (!CHECK_INT(ops->template_new(refused[i].title, NULL, refused[i].options, &tmpl, error,
										 sizeof(error)), NOTIF_EINVAL) ||
			!CHECK_STR(error, refused[i].error))
			fprintf(stderr, "  case %zu: %s\n", i, refused[i].options);
		CHECK(tmpl == NULL);
		CHECK_INT(ops->template_new(refused[i].title, NULL, refused[i].options, &tmpl, NULL, 100), NOTIF_EINVAL);
	}
}

static void
test_render_errors(void)
{
	static const struct
	{
		const char *options;
		NotifStatus status;
		const char *error;
	}			cases[] = {
		{"{\"subtitle\":\"{nope}\"}", NOTIF_EMISSING, "nope"},
		{"{\"badge\":\"{half}\"}", NOTIF_EINVAL, "{half} must be a whole number"},
		{"{\"badge\":\"{order}\"}", NOTIF_EINVAL, "{order} must be a whole number"},
		{"{\"badge\":\"{nothing}\"}", NOTIF_EMISSING, "nothing"},
		{"{\"subtitle\":\"{state}\"}", NOTIF_EINVAL, "{state} is an object and cannot stand in text"},
		{"{\"push_type\":\"liveactivity\",\"event\":\"update\",\"content_state\":\"{tags}\"}", NOTIF_EINVAL,
		"{tags} must be an object"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		NotifMessageTemplate *tmpl;
		NotifBuf	payload;
		char		error[256] = "";

		notif_buf_init(&payload, 8192);
		CHECK_INT(ops->template_new("T", NULL, cases[i].options, &tmpl, error, sizeof(error)), NOTIF_OK);
		CHECK_INT(ops->render(tmpl, &vars, &payload, error, sizeof(error)), cases[i].status);
		CHECK_STR(error, cases[i].error);
		CHECK_INT(payload.len, 0);
		ops->template_free(tmpl);
		notif_buf_free(&payload);
	}
}

/* To the byte: at the limit it passes, one above it does not. */
static void
test_limits(void)
{
	static const struct
	{
		const char *options;
		size_t		limit;
		const char *over;
	}			cases[] = {
		{"{\"data\":{\"x\":\"{x}\"}}", 4096, "payload of 4097 bytes, limit of push type alert is 4096"},
		{"{\"push_type\":\"voip\",\"data\":{\"x\":\"{x}\"}}", 5120, "payload of 5121 bytes, limit of push type voip is 5120"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		NotifMessageTemplate *tmpl;
		NotifBuf	payload;
		char		error[256] = "";
		char		json[8192];
		size_t		empty = 0;

		notif_buf_init(&payload, 65536);
		CHECK_INT(ops->template_new("T", NULL, cases[i].options, &tmpl, error, sizeof(error)), NOTIF_OK);
		CHECK_INT(ops->payload_limit(tmpl), cases[i].limit);
		for (int step = 0; step < 4; step++)
		{
			size_t		fill = step == 0 ? 0 : cases[i].limit - empty + (step > 1);
			NotifVars	v = vars;
			NotifData  *big;
			NotifStatus status;
			int			len = snprintf(json, sizeof(json), "{\"x\":\"%*s\"}", (int) fill, "");

			CHECK_INT(notif_data_parse(json, (size_t) len, &big), NOTIF_OK);
			v.data = big;
			notif_buf_reset(&payload);
			payload.cap = step == 3 ? cases[i].limit : 65536;	/* measured though it does not fit */
			status = ops->render(tmpl, &v, &payload, error, sizeof(error));
			CHECK_INT(status, step > 1 ? NOTIF_ETOOBIG : NOTIF_OK);
			if (step == 0)
				empty = payload.len;
			else if (step == 1)
				CHECK_INT(payload.len, cases[i].limit);
			else
			{
				CHECK_STR(error, cases[i].over);
				CHECK_INT(payload.len, 0);
			}
			notif_data_free(big);
		}
		ops->template_free(tmpl);
		notif_buf_free(&payload);
	}
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
	NotifMessageTemplate *tmpl;
	NotifBuf	names;

	notif_buf_init(&names, 1000);
	CHECK_INT(ops->template_new("{a} {b}", "{a}", "{\"badge\":\"{n}\",\"data\":{\"x\":[\"{recipient.z}\"]}}", &tmpl, NULL, 0),
			  NOTIF_OK);
	ops->template_vars(tmpl, visit, &names);
	CHECK_STR(notif_buf_text(&names), "a b n recipient.z ");
	ops->template_free(tmpl);
	notif_buf_free(&names);
}

static void
test_failing_memory(void)
{
	static const char options[] =
		"{\"topic\":\"com.example.other\",\"image_url\":\"u{n}\",\"loc_key\":\"k\",\"loc_args\":[\"{n}\"],"
		"\"sound\":{\"name\":\"{order}\"},\"data\":{\"s\":\"{state}\",\"t\":\"x{n}\"}}";
	NotifMessageTemplate *tmpl;
	NotifStatus status;
	NotifBuf	payload;
	long		failures = 0;

	for (long n = 1; fail_alloc_begin(n),
		 status = ops->template_new("T {order}", "B {price}", options, &tmpl, NULL, 0),
		 fail_alloc_end(); n++)
	{
		failures++;
		CHECK_INT(status, NOTIF_ENOMEM);
		CHECK(tmpl == NULL);
	}
	CHECK(failures > 10);
	CHECK_INT(status, NOTIF_OK);
	notif_buf_init(&payload, 4096);
	for (long n = 1; notif_buf_free(&payload), fail_alloc_begin(n),
		 status = ops->render(tmpl, &vars, &payload, NULL, 0), fail_alloc_end(); n++)
		CHECK_INT(status, NOTIF_ENOMEM);
	CHECK_INT(status, NOTIF_OK);
	notif_buf_free(&payload);
	ops->template_free(tmpl);
	ops->template_free(NULL);
}

int
main(void)
{
	ops = notif_provider_find("apns");
	CHECK_INT(notif_data_parse(data_json, sizeof(data_json) - 1, &data), NOTIF_OK);
	vars = (NotifVars) {
		.data = data, .recipient_ref = "u1", .event_id = "e", .type_name = "t", .event_time_s = 1700000000
	};
	test_payloads();
	test_refused();
	test_render_errors();
	test_limits();
	test_vars();
	test_failing_memory();
	notif_data_free(data);
	return unit_done();
}
