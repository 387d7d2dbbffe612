/*
 * sign.c
 *		What a result says of the provider itself, apart from the message.
 *
 * The provider's fault is what would have befallen any other message, too: a
 * 5xx answer, no answer, no connection.  A 4xx is an answer: it is there.  What
 * we brought about ourselves (a pool that was closed, a bearer token due for
 * renewal, too many requests) says nothing either way.
 */
#include "provider.h"

static NotifSign
sign_not_sent(NotifNetError error, bool connected)
{
	switch (error)
	{
		case NOTIF_NET_DNS:
		case NOTIF_NET_CONNECT:
		case NOTIF_NET_TLS:
		case NOTIF_NET_PROTOCOL:
			return NOTIF_SIGN_UNREACHED;
		case NOTIF_NET_TIMEOUT:
			return connected ? NOTIF_SIGN_NEUTRAL : NOTIF_SIGN_UNREACHED;
		case NOTIF_NET_REFUSED:
		case NOTIF_NET_RESET:
			return NOTIF_SIGN_FAILED;
		case NOTIF_NET_NONE:
		case NOTIF_NET_SHUTDOWN:
			break;
	}
	return NOTIF_SIGN_NEUTRAL;
}

NotifSign
notif_provider_sign(const NotifResult *result, const NotifVerdict *verdict, bool connected)
{
	switch (result->known)
	{
		case NOTIF_NOT_SENT:
			return sign_not_sent(result->error, connected);
		case NOTIF_UNKNOWN:
			return result->error == NOTIF_NET_SHUTDOWN ? NOTIF_SIGN_NEUTRAL : NOTIF_SIGN_FAILED;
		case NOTIF_ANSWERED:
			break;
	}
	switch (verdict->kind)
	{
		case NOTIF_VERDICT_CREDENTIALS_BAD:
			return NOTIF_SIGN_CREDENTIALS;
		case NOTIF_VERDICT_ENDPOINT_SUSPECT:
			return NOTIF_SIGN_SUSPECT;
		case NOTIF_VERDICT_CREDENTIALS_STALE:
		case NOTIF_VERDICT_SLOW_DOWN:
			return NOTIF_SIGN_NEUTRAL;
		case NOTIF_VERDICT_PROVIDER_DOWN:
			/* it closes the connection, but is well */
			return result->status >= 500 ? NOTIF_SIGN_FAILED : NOTIF_SIGN_NEUTRAL;
		case NOTIF_VERDICT_ACCEPTED:
		case NOTIF_VERDICT_RETRY:
		case NOTIF_VERDICT_THROTTLED:
		case NOTIF_VERDICT_ENDPOINT_GONE:
		case NOTIF_VERDICT_MESSAGE_BAD:
		case NOTIF_VERDICT_UNKNOWN:
			break;
	}
	return result->status >= 500 ? NOTIF_SIGN_FAILED : NOTIF_SIGN_GOOD;
}
