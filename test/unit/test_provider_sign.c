/*
 * test_provider_sign.c
 *		What a result says of the provider: every error of the network and every
 *		kind of verdict.
 */
#include "../../src/provider/apns.h"
#include "unit.h"

#define R(name) "{\"reason\":\"" name "\"}"

static void
test_answers(const NotifProviderOps *ops)
{
	static const struct
	{
		int			status;
		const char *body;
		NotifSign	sign;
	}			cases[] = {
		{200, "", NOTIF_SIGN_GOOD},
		{400, R("BadDeviceToken"), NOTIF_SIGN_SUSPECT},
		{400, R("DeviceTokenNotForTopic"), NOTIF_SIGN_SUSPECT},
		{400, R("PayloadEmpty"), NOTIF_SIGN_GOOD},
		{400, R("IdleTimeout"), NOTIF_SIGN_NEUTRAL},
		{403, R("InvalidProviderToken"), NOTIF_SIGN_CREDENTIALS},
		{403, R("ExpiredProviderToken"), NOTIF_SIGN_NEUTRAL},
		{401, "", NOTIF_SIGN_CREDENTIALS},
		{410, R("Unregistered"), NOTIF_SIGN_GOOD},
		{413, R("PayloadTooLarge"), NOTIF_SIGN_GOOD},
		{429, R("TooManyRequests"), NOTIF_SIGN_GOOD},
		{429, R("TooManyProviderTokenUpdates"), NOTIF_SIGN_NEUTRAL},
		{429, "", NOTIF_SIGN_NEUTRAL},
		{500, R("InternalServerError"), NOTIF_SIGN_FAILED},
		{502, "<html>", NOTIF_SIGN_FAILED},
		{503, R("ServiceUnavailable"), NOTIF_SIGN_FAILED},
		{503, R("Shutdown"), NOTIF_SIGN_FAILED},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		NotifResult result = {
			.known = NOTIF_ANSWERED, .status = cases[i].status, .body = cases[i].body,
			.body_len = strlen(cases[i].body), .message_id = "", .retry_after = "", .detail = ""
		};
		NotifVerdict verdict;

		ops->classify(&result, &verdict);
		if (!CHECK_INT(notif_provider_sign(&result, &verdict, true), cases[i].sign))
			fprintf(stderr, "  %d %s\n", cases[i].status, cases[i].body);
	}
}

static void
test_no_answers(const NotifProviderOps *ops)
{
	static const struct
	{
		NotifNetError error;
		NotifSign	not_sent;
		NotifSign	unknown;
	}			cases[] = {
		{NOTIF_NET_DNS, NOTIF_SIGN_UNREACHED, NOTIF_SIGN_FAILED},
		{NOTIF_NET_CONNECT, NOTIF_SIGN_UNREACHED, NOTIF_SIGN_FAILED},
		{NOTIF_NET_TLS, NOTIF_SIGN_UNREACHED, NOTIF_SIGN_FAILED},
		{NOTIF_NET_PROTOCOL, NOTIF_SIGN_UNREACHED, NOTIF_SIGN_FAILED},
		{NOTIF_NET_REFUSED, NOTIF_SIGN_FAILED, NOTIF_SIGN_FAILED},
		{NOTIF_NET_RESET, NOTIF_SIGN_FAILED, NOTIF_SIGN_FAILED},
		{NOTIF_NET_TIMEOUT, NOTIF_SIGN_NEUTRAL, NOTIF_SIGN_FAILED},
		{NOTIF_NET_SHUTDOWN, NOTIF_SIGN_NEUTRAL, NOTIF_SIGN_NEUTRAL},
		{NOTIF_NET_NONE, NOTIF_SIGN_NEUTRAL, NOTIF_SIGN_FAILED},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		NotifResult result = {
			.known = NOTIF_NOT_SENT, .error = cases[i].error, .body = "", .message_id = "",
			.retry_after = "", .detail = ""
		};
		NotifVerdict verdict;

		ops->classify(&result, &verdict);
		CHECK_INT(notif_provider_sign(&result, &verdict, true), cases[i].not_sent);
		/* waiting for a stream of a connection that does not come about */
		CHECK_INT(notif_provider_sign(&result, &verdict, false),
				  cases[i].error == NOTIF_NET_TIMEOUT ? NOTIF_SIGN_UNREACHED : cases[i].not_sent);
		result.known = NOTIF_UNKNOWN;
		ops->classify(&result, &verdict);
		CHECK_INT(notif_provider_sign(&result, &verdict, true), cases[i].unknown);
	}
}

int
main(void)
{
	const NotifProviderOps *ops = notif_provider_find("apns");

	test_answers(ops);
	test_no_answers(ops);
	return unit_done();
}
