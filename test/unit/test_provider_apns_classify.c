/*
 * test_provider_apns_classify.c
 *		Every status and reason that APNs documents, and what is none of them.
 *
 * Covers F-N-9 (which answers are permanent), F-N-10, F-N-13.
 */
#include <stdbool.h>
#include <stdint.h>

#include "../../src/provider/apns.h"
#include "fail_alloc.h"
#include "unit.h"

typedef struct Case
{
	int			status;
	const char *body;
	const char *retry_after;
	NotifVerdictKind kind;
	const char *reason;
	int			retry_after_s;
	int64_t		gone_at_ms;
	bool		retire;
} Case;

#define R(name) "{\"reason\":\"" name "\"}"

static const Case cases[] = {
	{200, "", "", NOTIF_VERDICT_ACCEPTED, "", 0, 0, false},
	{200, R("Whatever"), "5", NOTIF_VERDICT_ACCEPTED, "", 0, 0, false},
	{400, R("BadCollapseId"), "", NOTIF_VERDICT_MESSAGE_BAD, "BadCollapseId", 0, 0, false},
	{400, R("BadDeviceToken"), "", NOTIF_VERDICT_ENDPOINT_SUSPECT, "BadDeviceToken", 0, 0, false},
	{400, R("BadExpirationDate"), "", NOTIF_VERDICT_MESSAGE_BAD, "BadExpirationDate", 0, 0, false},
	{400, R("BadMessageId"), "", NOTIF_VERDICT_MESSAGE_BAD, "BadMessageId", 0, 0, false},
	{400, R("BadPriority"), "", NOTIF_VERDICT_MESSAGE_BAD, "BadPriority", 0, 0, false},
	{400, R("BadTopic"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "BadTopic", 0, 0, false},
	{400, R("DeviceTokenNotForTopic"), "", NOTIF_VERDICT_ENDPOINT_SUSPECT, "DeviceTokenNotForTopic", 0, 0, false},
	{400, R("DuplicateHeaders"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "DuplicateHeaders", 0, 0, false},
	{400, R("IdleTimeout"), "", NOTIF_VERDICT_PROVIDER_DOWN, "IdleTimeout", 0, 0, true},
	{400, R("InvalidPushType"), "", NOTIF_VERDICT_MESSAGE_BAD, "InvalidPushType", 0, 0, false},
	{400, R("MissingDeviceToken"), "", NOTIF_VERDICT_MESSAGE_BAD, "MissingDeviceToken", 0, 0, false},
	{400, R("MissingTopic"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "MissingTopic", 0, 0, false},
	{400, R("PayloadEmpty"), "", NOTIF_VERDICT_MESSAGE_BAD, "PayloadEmpty", 0, 0, false},
	{400, R("TopicDisallowed"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "TopicDisallowed", 0, 0, false},
	{403, R("BadCertificate"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "BadCertificate", 0, 0, false},
	{403, R("BadCertificateEnvironment"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "BadCertificateEnvironment", 0, 0, false},
	{403, R("ExpiredProviderToken"), "", NOTIF_VERDICT_CREDENTIALS_STALE, "ExpiredProviderToken", 0, 0, true},
	{403, R("Forbidden"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "Forbidden", 0, 0, false},
	{403, R("InvalidProviderToken"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "InvalidProviderToken", 0, 0, false},
	{403, R("MissingProviderToken"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "MissingProviderToken", 0, 0, false},
	{403, R("UnrelatedKeyIdInToken"), "", NOTIF_VERDICT_PROVIDER_DOWN, "UnrelatedKeyIdInToken", 0, 0, true},
	{403, R("BadEnvironmentKeyIdInToken"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "BadEnvironmentKeyIdInToken", 0, 0, false},
	{403, R("BadEnvironmentKeyInToken"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "BadEnvironmentKeyInToken", 0, 0, false},
	{404, R("BadPath"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "BadPath", 0, 0, false},
	{405, R("MethodNotAllowed"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "MethodNotAllowed", 0, 0, false},
	{410, "{\"reason\":\"ExpiredToken\",\"timestamp\":1454948015990}", "",
	NOTIF_VERDICT_ENDPOINT_GONE, "ExpiredToken", 0, 1454948015990, false},
	{410, "{\"reason\":\"Unregistered\",\"timestamp\":1454948015990}", "",
	NOTIF_VERDICT_ENDPOINT_GONE, "Unregistered", 0, 1454948015990, false},
	{410, R("Unregistered"), "", NOTIF_VERDICT_ENDPOINT_GONE, "Unregistered", 0, 0, false},
	{410, "{\"reason\":\"Unregistered\",\"timestamp\":-5}", "", NOTIF_VERDICT_ENDPOINT_GONE, "Unregistered", 0, 0, false},
	{410, "{\"reason\":\"Unregistered\",\"timestamp\":\"x\"}", "", NOTIF_VERDICT_ENDPOINT_GONE, "Unregistered", 0, 0, false},
	{410, "{\"reason\":\"Unregistered\",\"timestamp\":99999999999999999999}", "", NOTIF_VERDICT_ENDPOINT_GONE, "Unregistered", 0, 0, false},
	{413, R("PayloadTooLarge"), "", NOTIF_VERDICT_MESSAGE_BAD, "PayloadTooLarge", 0, 0, false},
	{429, R("TooManyProviderTokenUpdates"), "", NOTIF_VERDICT_SLOW_DOWN, "TooManyProviderTokenUpdates", 1200, 0, false},
	{429, R("TooManyProviderTokenUpdates"), "3000", NOTIF_VERDICT_SLOW_DOWN, "TooManyProviderTokenUpdates", 3000, 0, false},
	{429, R("TooManyRequests"), "", NOTIF_VERDICT_THROTTLED, "TooManyRequests", 0, 0, false},
	{429, R("TooManyRequests"), "30", NOTIF_VERDICT_THROTTLED, "TooManyRequests", 30, 0, false},
	{500, R("InternalServerError"), "", NOTIF_VERDICT_RETRY, "InternalServerError", 0, 0, false},
	{503, R("ServiceUnavailable"), "99999999", NOTIF_VERDICT_RETRY, "ServiceUnavailable", 3600, 0, false},
	{503, R("ServiceUnavailable"), "-1", NOTIF_VERDICT_RETRY, "ServiceUnavailable", 1, 0, false},
	{503, R("ServiceUnavailable"), "Sun, 06 Nov 1994 08:49:37 GMT", NOTIF_VERDICT_RETRY, "ServiceUnavailable", 0, 0, false},
	{503, R("Shutdown"), "", NOTIF_VERDICT_PROVIDER_DOWN, "Shutdown", 0, 0, true},
	/* what nobody documented falls back on the status */
	{400, R("NewReason"), "", NOTIF_VERDICT_MESSAGE_BAD, "NewReason", 0, 0, false},
	{400, "", "", NOTIF_VERDICT_MESSAGE_BAD, "HTTP 400", 0, 0, false},
	{401, "", "", NOTIF_VERDICT_CREDENTIALS_BAD, "HTTP 401", 0, 0, false},
	{403, R("NewReason"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "NewReason", 0, 0, false},
	{404, "<html>", "", NOTIF_VERDICT_CREDENTIALS_BAD, "HTTP 404", 0, 0, false},
	{408, "", "", NOTIF_VERDICT_RETRY, "HTTP 408", 0, 0, false},
	{410, "gone", "", NOTIF_VERDICT_ENDPOINT_GONE, "HTTP 410", 0, 0, false},
	{413, "", "", NOTIF_VERDICT_MESSAGE_BAD, "HTTP 413", 0, 0, false},
	{418, "[1]", "", NOTIF_VERDICT_MESSAGE_BAD, "HTTP 418", 0, 0, false},
	{429, "slow down", "7", NOTIF_VERDICT_SLOW_DOWN, "HTTP 429", 7, 0, false},
	{429, R("NewReason"), "99999999", NOTIF_VERDICT_SLOW_DOWN, "NewReason", 3600, 0, false},
	{301, "", "", NOTIF_VERDICT_CREDENTIALS_BAD, "HTTP 301", 0, 0, false},
	{307, R("Unregistered"), "", NOTIF_VERDICT_CREDENTIALS_BAD, "HTTP 307", 0, 0, false},
	{502, "<html>bad gateway</html>", "", NOTIF_VERDICT_RETRY, "HTTP 502", 0, 0, false},
	{599, R("Odd\\n\xC3\xA4"), "", NOTIF_VERDICT_RETRY, "Odd\\n??", 0, 0, false},
	{400, "{\"reason\":5}", "", NOTIF_VERDICT_MESSAGE_BAD, "HTTP 400", 0, 0, false},
	{400, "{\"reason\":\"BadDeviceToken\",\"timestamp\":1454948015990}", "",
	NOTIF_VERDICT_ENDPOINT_SUSPECT, "BadDeviceToken", 0, 0, false},
	{500, R("0123456789012345678901234567890123456789012345678901234567890123456789"), "",
	NOTIF_VERDICT_RETRY, "012345678901234567890123456789012345678901234567890123456789012", 0, 0, false},
};

static void
test_answers(const NotifProviderOps *ops)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		const Case *c = &cases[i];
		NotifResult result = {
			.known = NOTIF_ANSWERED, .status = c->status, .body = c->body,
			.body_len = strlen(c->body), .message_id = "", .retry_after = c->retry_after, .detail = ""
		};
		NotifVerdict verdict;
		bool		ok;

		memset(&verdict, 0xA5, sizeof(verdict));
		ops->classify(&result, &verdict);
		ok = CHECK_INT(verdict.kind, c->kind);
		ok = CHECK_STR(verdict.reason, c->reason) && ok;
		ok = CHECK_INT(verdict.retry_after_s, c->retry_after_s) && ok;
		ok = CHECK_INT(verdict.gone_at_ms, c->gone_at_ms) && ok;
		ok = CHECK_INT(verdict.retire_connection, c->retire) && ok;
		if (!ok)
			fprintf(stderr, "  case %zu: %d %s\n", i, c->status, c->body);
	}
}

static void
test_no_answers(const NotifProviderOps *ops)
{
	static const struct
	{
		NotifNetError error;
		const char *reason;
	}			errors[] = {
		{NOTIF_NET_NONE, "no answer"}, {NOTIF_NET_DNS, "dns"}, {NOTIF_NET_CONNECT, "connect"},
		{NOTIF_NET_TLS, "tls"}, {NOTIF_NET_PROTOCOL, "protocol"}, {NOTIF_NET_REFUSED, "refused"},
		{NOTIF_NET_RESET, "reset"}, {NOTIF_NET_TIMEOUT, "timeout"}, {NOTIF_NET_SHUTDOWN, "shutdown"},
	};

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
	{
		NotifResult result = {
			.known = NOTIF_NOT_SENT, .error = errors[i].error, .body = "", .message_id = "",
			.retry_after = "", .detail = ""
		};
		NotifVerdict verdict;

		ops->classify(&result, &verdict);
		CHECK_INT(verdict.kind, NOTIF_VERDICT_PROVIDER_DOWN);
		CHECK_STR(verdict.reason, errors[i].reason);
		result.known = NOTIF_UNKNOWN;
		ops->classify(&result, &verdict);
		CHECK_INT(verdict.kind, NOTIF_VERDICT_UNKNOWN);
		CHECK_STR(verdict.reason, errors[i].reason);
		CHECK(!verdict.retire_connection && verdict.retry_after_s == 0);
	}
}

/* Without memory to read the reason, no address is condemned. */
static void
test_failing_memory(const NotifProviderOps *ops)
{
	static const char body[] = "{\"reason\":\"Unregistered\",\"timestamp\":1}";
	NotifResult result = {
		.known = NOTIF_ANSWERED, .status = 410, .body = body, .body_len = sizeof(body) - 1,
		.message_id = "", .retry_after = "", .detail = ""
	};
	NotifVerdict verdict;
	int			failures = 0;

	for (long n = 1; fail_alloc_begin(n), ops->classify(&result, &verdict), fail_alloc_end(); n++)
	{
		failures++;
		CHECK_INT(verdict.kind, NOTIF_VERDICT_RETRY);
		CHECK_STR(verdict.reason, "out of memory");
	}
	CHECK(failures > 0);
	CHECK_INT(verdict.kind, NOTIF_VERDICT_ENDPOINT_GONE);
}

/* F-N-13: a body that is no JSON, or too odd to be read, leaves it to the status. */
static void
test_hostile(const NotifProviderOps *ops)
{
	enum {DEEP = 100000};
	static char deep[2 * DEEP + 64];
	static char list[2 * DEEP];
	static char long_reason[DEEP];
	static const struct
	{
		int			status;
		NotifVerdictKind kind;
		const char *reason;
	}			statuses[] = {
		{200, NOTIF_VERDICT_ACCEPTED, ""}, {301, NOTIF_VERDICT_CREDENTIALS_BAD, "HTTP 301"},
		{400, NOTIF_VERDICT_MESSAGE_BAD, "HTTP 400"}, {403, NOTIF_VERDICT_CREDENTIALS_BAD, "HTTP 403"},
		{404, NOTIF_VERDICT_CREDENTIALS_BAD, "HTTP 404"}, {410, NOTIF_VERDICT_ENDPOINT_GONE, "HTTP 410"},
		{429, NOTIF_VERDICT_SLOW_DOWN, "HTTP 429"}, {500, NOTIF_VERDICT_RETRY, "HTTP 500"},
		{999, NOTIF_VERDICT_RETRY, "HTTP 999"},
	};
	struct
	{
		const char *body;
		size_t		len;
	}			bodies[] = {
		{"{\"reason\":\"Unregis", 18}, {"{\"reason\":\"A\0B\"}", 16},
		{"\0{\"reason\":\"Unregistered\"}", 26}, {"{\"reason\":\"\xFF\xFE\"}", 15},
		{"{\"reason\":\"\xED\xA0\x80\"}", 16}, {"{\"reason\":\"Unregistered\"}}", 26},
		{"{\"reason\":\"Unregistered\"", 24}, {"{reason:Unregistered}", 21},
		{"{\"reason\":[\"Unregistered\"]}", 27}, {"\x1F\x8B\x08\x00\x00\x00\x00\x00", 8},
		{"<html>Unregistered</html>", 25}, {"\xEF\xBB\xBF{\"reason\":\"Unregistered\"}", 28},
		{deep, 0}, {list, sizeof(list)}, {long_reason, sizeof(long_reason)},
	};
	NotifVerdict verdict;

	memset(deep, '[', DEEP);
	memset(deep + DEEP, ']', DEEP);
	bodies[12].len = 2 * DEEP;
	for (size_t i = 0; i < sizeof(list); i += 5)
		memcpy(list + i, "{\"a\":", 5);
	memset(long_reason, 'x', sizeof(long_reason));
	memcpy(long_reason, "{\"reason\":\"", 11);
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
	{
		for (size_t j = 0; j < sizeof(statuses) / sizeof(statuses[0]); j++)
		{
			NotifResult result = {
				.known = NOTIF_ANSWERED, .status = statuses[j].status, .body = bodies[i].body,
				.body_len = bodies[i].len, .message_id = "", .retry_after = "", .detail = ""
			};

			ops->classify(&result, &verdict);
			if (!CHECK_INT(verdict.kind, statuses[j].kind) ||
				!CHECK_STR(verdict.reason, statuses[j].reason))
				fprintf(stderr, "  body %zu, status %d\n", i, statuses[j].status);
			CHECK_INT(verdict.gone_at_ms, 0);
		}
	}
	/* Of a name that is there twice one counts, and it does not kill by chance. */
	{
		static const char twice[] = "{\"reason\":\"TooManyRequests\",\"reason\":\"ServiceUnavailable\"}";
		NotifResult result = {
			.known = NOTIF_ANSWERED, .status = 503, .body = twice, .body_len = sizeof(twice) - 1,
			.message_id = "", .retry_after = "", .detail = ""
		};

		ops->classify(&result, &verdict);
		CHECK(strcmp(verdict.reason, "TooManyRequests") == 0 || strcmp(verdict.reason, "ServiceUnavailable") == 0);
		CHECK(verdict.kind == NOTIF_VERDICT_THROTTLED || verdict.kind == NOTIF_VERDICT_RETRY);
	}
}

int
main(void)
{
	const NotifProviderOps *ops = notif_provider_find("apns");

	CHECK(ops != NULL && strcmp(ops->channel, "push") == 0);
	CHECK(notif_provider_find("APNS") == NULL);
	CHECK(notif_provider_find("") == NULL);
	test_answers(ops);
	test_no_answers(ops);
	test_failing_memory(ops);
	test_hostile(ops);
	return unit_done();
}
