/*
 * apns_classify.c
 *		APNs's answers as verdicts (PROVIDERS section 1.5).
 *
 * The reason decides; the status only when the reason is unknown or the body
 * is not what Apple documents (proxies answer in HTML).  An unknown reason
 * never kills an address, unless the status is 410, which says just that.
 */
#include <string.h>

#include "../core/retry_after.h"
#include "../core/text.h"
#include "../message/json.h"
#include "apns_internal.h"

/* Apple swaps tokens at most every 20 minutes on one connection. */
#define APNS_TOKEN_UPDATE_S 1200

typedef struct ApnsReason
{
	const char *reason;
	NotifVerdictKind kind;
	bool		retire;
} ApnsReason;

static const ApnsReason apns_reasons[] = {
	{"BadCollapseId", NOTIF_VERDICT_MESSAGE_BAD, false},
	{"BadDeviceToken", NOTIF_VERDICT_ENDPOINT_SUSPECT, false},
	{"BadExpirationDate", NOTIF_VERDICT_MESSAGE_BAD, false},
	{"BadMessageId", NOTIF_VERDICT_MESSAGE_BAD, false},
	{"BadPriority", NOTIF_VERDICT_MESSAGE_BAD, false},
	{"BadTopic", NOTIF_VERDICT_CREDENTIALS_BAD, false},
	{"DeviceTokenNotForTopic", NOTIF_VERDICT_ENDPOINT_SUSPECT, false},
	{"DuplicateHeaders", NOTIF_VERDICT_CREDENTIALS_BAD, false},
	{"IdleTimeout", NOTIF_VERDICT_PROVIDER_DOWN, true},
	{"InvalidPushType", NOTIF_VERDICT_MESSAGE_BAD, false},
	{"MissingDeviceToken", NOTIF_VERDICT_MESSAGE_BAD, false},
	{"MissingTopic", NOTIF_VERDICT_CREDENTIALS_BAD, false},
	{"PayloadEmpty", NOTIF_VERDICT_MESSAGE_BAD, false},
	{"TopicDisallowed", NOTIF_VERDICT_CREDENTIALS_BAD, false},
	{"BadCertificate", NOTIF_VERDICT_CREDENTIALS_BAD, false},
	{"BadCertificateEnvironment", NOTIF_VERDICT_CREDENTIALS_BAD, false},
	{"ExpiredProviderToken", NOTIF_VERDICT_CREDENTIALS_STALE, true},
	{"Forbidden", NOTIF_VERDICT_CREDENTIALS_BAD, false},
	{"InvalidProviderToken", NOTIF_VERDICT_CREDENTIALS_BAD, false},
	{"MissingProviderToken", NOTIF_VERDICT_CREDENTIALS_BAD, false},
	{"UnrelatedKeyIdInToken", NOTIF_VERDICT_PROVIDER_DOWN, true},
	{"BadEnvironmentKeyIdInToken", NOTIF_VERDICT_CREDENTIALS_BAD, false},
	{"BadEnvironmentKeyInToken", NOTIF_VERDICT_CREDENTIALS_BAD, false},
	{"BadPath", NOTIF_VERDICT_CREDENTIALS_BAD, false},
	{"MethodNotAllowed", NOTIF_VERDICT_CREDENTIALS_BAD, false},
	{"ExpiredToken", NOTIF_VERDICT_ENDPOINT_GONE, false},
	{"Unregistered", NOTIF_VERDICT_ENDPOINT_GONE, false},
	{"PayloadTooLarge", NOTIF_VERDICT_MESSAGE_BAD, false},
	{"TooManyProviderTokenUpdates", NOTIF_VERDICT_SLOW_DOWN, false},
	{"TooManyRequests", NOTIF_VERDICT_THROTTLED, false},
	{"InternalServerError", NOTIF_VERDICT_RETRY, false},
	{"ServiceUnavailable", NOTIF_VERDICT_RETRY, false},
	{"Shutdown", NOTIF_VERDICT_PROVIDER_DOWN, true},
};

static const char *
apns_net_error(NotifNetError error)
{
	switch (error)
	{
		case NOTIF_NET_NONE:
			break;
		case NOTIF_NET_DNS:
			return "dns";
		case NOTIF_NET_CONNECT:
			return "connect";
		case NOTIF_NET_TLS:
			return "tls";
		case NOTIF_NET_PROTOCOL:
			return "protocol";
		case NOTIF_NET_REFUSED:
			return "refused";
		case NOTIF_NET_RESET:
			return "reset";
		case NOTIF_NET_TIMEOUT:
			return "timeout";
		case NOTIF_NET_SHUTDOWN:
			return "shutdown";
	}
	return "no answer";
}

/* A status without a reason that is known. */
static NotifVerdictKind
apns_status_kind(int status)
{
	if (status >= 200 && status < 300)
		return NOTIF_VERDICT_ACCEPTED;
	if (status == 429)
		return NOTIF_VERDICT_SLOW_DOWN;
	if (status >= 500 || status == 408)
		return NOTIF_VERDICT_RETRY;
	if (status == 410)
		return NOTIF_VERDICT_ENDPOINT_GONE;
	if (status == 401 || status == 403 || status == 404 || status == 405 || status < 400)
		return NOTIF_VERDICT_CREDENTIALS_BAD;	/* not the service, or not for us */
	return NOTIF_VERDICT_MESSAGE_BAD;
}

/* Milliseconds since the epoch that the number node stands for; 0 if absurd. */
static int64_t
apns_timestamp(const NotifJson *json, uint32_t node)
{
	const char *at = json->text + json->nodes[node].start;
	int64_t		value = 0;

	if (json->nodes[node].kind != NOTIF_JSON_NUMBER || json->nodes[node].len > 15)
		return 0;
	for (uint32_t i = 0; i < json->nodes[node].len; i++)
	{
		if (at[i] < '0' || at[i] > '9')
			return 0;
		value = value * 10 + (at[i] - '0');
	}
	return value;
}

/* Reads {"reason": …, "timestamp": …}; false only when out of memory. */
static bool
apns_read_body(const NotifResult *result, NotifVerdict *verdict)
{
	NotifJson  *json;
	NotifStatus status;
	uint32_t	node;

	status = notif_json_parse(result->body, result->body_len, &json, NULL);
	if (status != NOTIF_OK)
		return status != NOTIF_ENOMEM;
	node = notif_json_member(json, 0, "reason", 6);
	if (node > 0 && json->nodes[node].kind == NOTIF_JSON_STRING)
		notif_text_ascii(json->text + json->nodes[node].start + 1, json->nodes[node].len - 2,
						 verdict->reason, sizeof(verdict->reason));
	node = notif_json_member(json, 0, "timestamp", 9);
	if (node > 0 && result->status == 410)
		verdict->gone_at_ms = apns_timestamp(json, node);
	notif_json_free(json);
	return true;
}

void
notif_apns_classify(const NotifResult *result, NotifVerdict *verdict)
{
	const ApnsReason *known = NULL;

	memset(verdict, 0, sizeof(*verdict));
	if (result->known != NOTIF_ANSWERED)
	{
		verdict->kind = result->known == NOTIF_NOT_SENT ?
			NOTIF_VERDICT_PROVIDER_DOWN : NOTIF_VERDICT_UNKNOWN;
		snprintf(verdict->reason, sizeof(verdict->reason), "%s", apns_net_error(result->error));
		return;
	}
	verdict->kind = apns_status_kind(result->status);
	if (verdict->kind == NOTIF_VERDICT_ACCEPTED)
		return;

	verdict->retry_after_s = notif_retry_after_delta_s(result->retry_after);
	/* a redirect is nothing that Apple sends: its body says nothing of an address */
	if (result->status >= 400 && !apns_read_body(result, verdict))
	{
		/* without the reason nothing may be concluded about the address */
		verdict->kind = NOTIF_VERDICT_RETRY;
		snprintf(verdict->reason, sizeof(verdict->reason), "out of memory");
		return;
	}
	for (size_t i = 0; i < sizeof(apns_reasons) / sizeof(apns_reasons[0]) && known == NULL; i++)
	{
		if (strcmp(apns_reasons[i].reason, verdict->reason) == 0)
			known = &apns_reasons[i];
	}
	if (known != NULL)
	{
		verdict->kind = known->kind;
		verdict->retire_connection = known->retire;
		if (strcmp(known->reason, "TooManyProviderTokenUpdates") == 0 &&
			verdict->retry_after_s < APNS_TOKEN_UPDATE_S)
			verdict->retry_after_s = APNS_TOKEN_UPDATE_S;
	}
	if (verdict->reason[0] == '\0')
		snprintf(verdict->reason, sizeof(verdict->reason), "HTTP %d", result->status);
}
