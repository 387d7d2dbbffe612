/*
 * apns.c
 *		Apple's contract: what a request says and what it deserves.
 *
 * Headers are taken apart as they arrive; the judgement runs once the request
 * is complete and walks the checks in one fixed order, so that a request with
 * two faults is always refused for the same one.  Statuses and reason strings
 * are those of Apple's "Handling notification responses from APNs".
 *
 * Three answers are the sandbox's own reading where Apple names no string:
 * background with priority 10 is BadPriority, a topic whose suffix does not
 * fit the push type is BadTopic, and (only with --strict-json) a body that is
 * not a JSON object is BadRequestPayload.
 */
#include "sandbox.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#define APNS_JWT_MAX_AGE_S	3600

typedef struct ApnsType
{
	const char *name;
	const char *suffix;			/* of the topic; NULL = none is asked for */
} ApnsType;

static const ApnsType apns_types[] = {
	{"alert", ""},
	{"background", ""},
	{"complication", ".complication"},
	{"controls", ".push-type.controls"},
	{"fileprovider", ".pushkit.fileprovider"},
	{"liveactivity", ".push-type.liveactivity"},
	{"location", ".location-query"},
	{"mdm", NULL},
	{"pushtotalk", ".voip-ptt"},
	{"voip", ".voip"},
	{"widgets", ".push-type.widgets"},
};

#define APNS_NTYPES (sizeof(apns_types) / sizeof(apns_types[0]))

static const char *const apns_reasons[] = {
	"BadCollapseId", "BadDeviceToken", "BadExpirationDate", "BadMessageId", "BadPriority",
	"BadTopic", "DeviceTokenNotForTopic", "DuplicateHeaders", "IdleTimeout", "InvalidPushType",
	"MissingDeviceToken", "MissingTopic", "PayloadEmpty", "TopicDisallowed", "BadCertificate",
	"BadCertificateEnvironment", "ExpiredProviderToken", "Forbidden", "InvalidProviderToken",
	"MissingProviderToken", "UnrelatedKeyIdInToken", "BadEnvironmentKeyIdInToken",
	"BadEnvironmentKeyInToken", "BadPath", "MethodNotAllowed", "ExpiredToken", "Unregistered",
	"PayloadTooLarge", "TooManyProviderTokenUpdates", "TooManyRequests", "InternalServerError",
	"ServiceUnavailable", "Shutdown",
};

/*
 * A lasting copy of a reason text chosen from outside.  Unknown ones are kept
 * for the life of the program, because answers may still point at them.
 */
const char *
sb_apns_reason(const char *text)
{
	static char *extra[256];
	static size_t nextra;

	for (size_t i = 0; i < sizeof(apns_reasons) / sizeof(apns_reasons[0]); i++)
		if (strcmp(apns_reasons[i], text) == 0)
			return apns_reasons[i];
	for (size_t i = 0; i < nextra; i++)
		if (strcmp(extra[i], text) == 0)
			return extra[i];
	if (nextra == sizeof(extra) / sizeof(extra[0]))
		return "InternalServerError";
	extra[nextra] = strdup(text);
	if (extra[nextra] == NULL)
		sb_die("out of memory");
	return extra[nextra++];
}

/* ---- headers ---- */

static void
apns_path(SbStream *s, const char *value, size_t len)
{
	static const char prefix[] = "/3/device/";
	const size_t plen = sizeof(prefix) - 1;

	s->path = SB_PATH_BAD;
	/* the bare collection counts as a path without token, as Apple's does */
	if (len == plen - 1 && memcmp(value, prefix, len) == 0)
		s->path = SB_PATH_NO_TOKEN;
	if (len < plen || memcmp(value, prefix, plen) != 0)
		return;
	if (len == plen)
	{
		s->path = SB_PATH_NO_TOKEN;
		return;
	}
	s->path = SB_PATH_DEVICE;
	s->token_len = len - plen;
	memcpy(s->token, value + plen, s->token_len < SB_MAX_TOKEN ? s->token_len : SB_MAX_TOKEN);
}

static void
apns_authorization(SbConn *c, SbStream *s, const char *value, size_t len)
{
	if (len == c->auth_len && memcmp(value, c->auth_text, len) == 0)
	{
		s->auth = SB_AUTH_CURRENT;
		return;
	}
	if (len == c->prev_len && memcmp(value, c->prev_text, len) == 0)
	{
		s->auth = SB_AUTH_PREVIOUS;
		return;
	}
	s->auth = SB_AUTH_OTHER;
	s->auth_verdict = len > SB_MAX_JWT ? SB_JWT_INVALID : sb_jwt_check(value, len, &s->auth_info);
	s->auth_len = len > SB_MAX_JWT ? 0 : len;
	memcpy(s->auth_text, value, s->auth_len);
}

static size_t
apns_keep(char *dst, const char *value, size_t len)
{
	if (len > SB_MAX_FIELD)
		len = SB_MAX_FIELD;
	memcpy(dst, value, len);
	return len;
}

static SbHeader
apns_header_kind(const char *name, size_t len)
{
#define APNS_IS(text, kind) \
	if (len == sizeof(text) - 1 && memcmp(name, text, sizeof(text) - 1) == 0) \
		return kind
	switch (len)
	{
		case 5:
			APNS_IS(":path", SB_H_PATH);
			break;
		case 7:
			APNS_IS("apns-id", SB_H_ID);
			APNS_IS(":method", SB_H_METHOD);
			break;
		case 10:
			APNS_IS("apns-topic", SB_H_TOPIC);
			break;
		case 12:
			APNS_IS("content-type", SB_H_CONTENT_TYPE);
			break;
		case 13:
			APNS_IS("authorization", SB_H_AUTH);
			APNS_IS("apns-priority", SB_H_PRIORITY);
			break;
		case 14:
			APNS_IS("apns-push-type", SB_H_TYPE);
			break;
		case 15:
			APNS_IS("apns-expiration", SB_H_EXPIRATION);
			break;
		case 16:
			APNS_IS("apns-collapse-id", SB_H_COLLAPSE);
			break;
		default:
			break;
	}
#undef APNS_IS
	return 0;
}

/* Takes one header of a request; unknown ones are ignored, as Apple does. */
void
sb_apns_header(SbConn *c, SbStream *s, const uint8_t *name, size_t namelen,
			   const uint8_t *value_bytes, size_t len)
{
	const char *value = (const char *) value_bytes;
	SbHeader	kind = apns_header_kind((const char *) name, namelen);
	int64_t		number;

	if (kind == 0)
		return;
	if (s->headers & kind)
	{
		s->duplicate_header = true;
		return;
	}
	s->headers |= kind;
	switch (kind)
	{
		case SB_H_METHOD:
			s->is_post = len == 4 && memcmp(value, "POST", 4) == 0;
			break;
		case SB_H_PATH:
			apns_path(s, value, len);
			break;
		case SB_H_AUTH:
			apns_authorization(c, s, value, len);
			break;
		case SB_H_ID:
			s->bad_id = !sb_uuid_parse(value, len, s->id_bin);
			sb_idset_prefetch(s->id_bin);
			break;
		case SB_H_TOPIC:
			s->topic_len = apns_keep(s->topic, value, len);
			break;
		case SB_H_TYPE:
			s->type_len = apns_keep(s->type, value, len);
			break;
		case SB_H_COLLAPSE:
			s->bad_collapse = len > 64;
			s->collapse_len = apns_keep(s->collapse, value, len);
			break;
		case SB_H_PRIORITY:
			s->bad_priority = !sb_parse_int(value, len, &s->priority) ||
				(s->priority != 10 && s->priority != 5 && s->priority != 1);
			break;
		case SB_H_EXPIRATION:
			s->bad_expiration = !sb_parse_int(value, len, &number) || number < 0;
			break;
		case SB_H_CONTENT_TYPE:
			break;
	}
}

/* ---- judgement ---- */

static bool
apns_refuse(SbAnswer *answer, int status, const char *reason)
{
	answer->status = status;
	answer->reason = reason;
	return false;
}

static const ApnsType *
apns_find_type(const SbStream *s)
{
	for (size_t i = 0; i < APNS_NTYPES; i++)
		if (strlen(apns_types[i].name) == s->type_len &&
			memcmp(apns_types[i].name, s->type, s->type_len) == 0)
			return &apns_types[i];
	return NULL;
}

/* The suffix of the topic behind an allowed bundle id, or NULL. */
static const char *
apns_topic_suffix(const char *topic, size_t len, const char *bundle)
{
	size_t		blen = strlen(bundle);

	if (len < blen || memcmp(topic, bundle, blen) != 0)
		return NULL;
	for (size_t i = 0; i < APNS_NTYPES; i++)
	{
		const char *suffix = apns_types[i].suffix;

		if (suffix != NULL && strlen(suffix) == len - blen &&
			memcmp(suffix, topic + blen, len - blen) == 0)
			return suffix;
	}
	return NULL;
}

static const char *
apns_topic_allowed(const SbConn *c, const SbStream *s)
{
	if (c->cert_auth)
		return apns_topic_suffix(s->topic, s->topic_len, c->cert_topic);
	for (int i = 0; i < sb.opt.ntopics; i++)
	{
		const char *suffix = apns_topic_suffix(s->topic, s->topic_len, sb.opt.topics[i]);

		if (suffix != NULL)
			return suffix;
	}
	return NULL;
}

/* What the device token itself brings about; true if nothing. */
static bool
apns_device(const SbStream *s, const SbToken *token, SbAnswer *answer)
{
	if (s->token_len < 64 || s->token_len > (size_t) sb.opt.token_hex_max || s->token_len % 2 != 0)
		return apns_refuse(answer, 400, "BadDeviceToken");
	for (size_t i = 0; i < s->token_len; i++)
	{
		unsigned char ch = (unsigned char) s->token[i];

		if ((unsigned) (ch - '0') > 9 && (unsigned) ((ch | 0x20) - 'a') > 5)
			return apns_refuse(answer, 400, "BadDeviceToken");
	}
	if (token == NULL)
		return true;
	if (token->state == SB_TOKEN_WRONG)
		return apns_refuse(answer, 400, "BadDeviceToken");
	if (token->state == SB_TOKEN_DEAD || token->state == SB_TOKEN_EXPIRED)
	{
		answer->timestamp_ms = token->timestamp_ms;
		return apns_refuse(answer, 410, token->state == SB_TOKEN_DEAD ? "Unregistered" : "ExpiredToken");
	}
	if (token->state == SB_TOKEN_MISMATCH &&
		(strlen(token->topic) != s->topic_len ||
		 memcmp(token->topic, s->topic, s->topic_len) != 0))
		return apns_refuse(answer, 400, "DeviceTokenNotForTopic");
	return true;
}

static bool
apns_expired(const SbJwtInfo *info)
{
	if (info->iat + APNS_JWT_MAX_AGE_S < sb.request_us / 1000000)
		return true;
	/* the switch ages every token it has seen, and all minted before it */
	return sb.fault.jwt_expired_us > 0 &&
		(info->seen_us <= sb.fault.jwt_expired_us ||
		 info->iat < sb.fault.jwt_expired_us / 1000000);
}

/* Makes the token of the stream the current one of the connection. */
static void
apns_adopt_token(SbConn *c, const SbStream *s)
{
	c->prev_len = c->auth_len;
	memcpy(c->prev_text, c->auth_text, c->auth_len);
	c->prev_info = c->auth_info;
	c->auth_len = s->auth_len;
	memcpy(c->auth_text, s->auth_text, s->auth_len);
	c->auth_info = s->auth_info;
	c->auth_since_us = sb_mono_us();
}

static bool
apns_provider_token(SbConn *c, const SbStream *s, SbAnswer *answer)
{
	SbAuthKind	kind = s->auth;
	const SbJwtInfo *info;

	/* another stream may have made this text the current one meanwhile */
	if (kind == SB_AUTH_OTHER && s->auth_len == c->auth_len && s->auth_len > 0 &&
		memcmp(s->auth_text, c->auth_text, s->auth_len) == 0)
		kind = SB_AUTH_CURRENT;
	if (kind == SB_AUTH_NONE ||
		(kind == SB_AUTH_OTHER && s->auth_verdict == SB_JWT_MISSING))
		return apns_refuse(answer, 403, "MissingProviderToken");
	if ((kind == SB_AUTH_OTHER && s->auth_verdict != SB_JWT_OK) ||
		apns_topic_allowed(c, s) == NULL)
		return apns_refuse(answer, 403, "InvalidProviderToken");
	info = kind == SB_AUTH_OTHER ? &s->auth_info :
		kind == SB_AUTH_CURRENT ? &c->auth_info : &c->prev_info;
	if (c->expired || apns_expired(info))
	{
		c->expired = true;
		return apns_refuse(answer, 403, "ExpiredProviderToken");
	}
	if (kind == SB_AUTH_OTHER)
	{
		if (c->auth_len > 0 &&
			sb_mono_us() - c->auth_since_us < (int64_t) sb.opt.token_update_min_s * 1000000)
			return apns_refuse(answer, 429, "TooManyProviderTokenUpdates");
		apns_adopt_token(c, s);
	}
	return true;
}

static bool
apns_authorized(SbConn *c, const SbStream *s, SbAnswer *answer)
{
	if (!c->cert_auth)
		return apns_provider_token(c, s, answer);
	if (c->cert_bad)
		return apns_refuse(answer, 403, "BadCertificate");
	if (apns_topic_allowed(c, s) == NULL)
		return apns_refuse(answer, 400, "TopicDisallowed");
	return true;
}

static bool
apns_body_is_object(const SbStream *s)
{
	json_t	   *root = json_loadb(s->body, s->body_len, JSON_REJECT_DUPLICATES, NULL);
	bool		ok = json_is_object(root);

	json_decref(root);
	return ok;
}

static bool
apns_check(SbConn *c, SbStream *s, SbAnswer *answer)
{
	const ApnsType *type = NULL;
	const SbToken *token = NULL;
	const char *suffix;
	bool		voip;

	if (s->bad_id)
		return apns_refuse(answer, 400, "BadMessageId");
	if (!s->is_post)
		return apns_refuse(answer, 405, "MethodNotAllowed");
	if (s->topic_len == 0 && c->cert_auth && sb.opt.ntopics == 1)
		s->topic_len = sb_copy(s->topic, sizeof(s->topic), c->cert_topic, strlen(c->cert_topic));
	if (s->topic_len == 0)
		return apns_refuse(answer, 400, "MissingTopic");
	if (s->bad_collapse)
		return apns_refuse(answer, 400, "BadCollapseId");
	if (s->bad_priority)
		return apns_refuse(answer, 400, "BadPriority");
	if (s->bad_expiration)
		return apns_refuse(answer, 400, "BadExpirationDate");
	if ((s->headers & SB_H_TYPE) && (type = apns_find_type(s)) == NULL)
		return apns_refuse(answer, 400, "InvalidPushType");
	if (s->path == SB_PATH_NO_TOKEN)
		return apns_refuse(answer, 400, "MissingDeviceToken");
	if (s->path == SB_PATH_DEVICE)
	{
		token = s->token_len <= SB_MAX_TOKEN ? sb_tokens_find(s->token, s->token_len) : NULL;
		if (!apns_device(s, token, answer))
			return false;
	}
	else
		return apns_refuse(answer, 404, "BadPath");
	if (!apns_authorized(c, s, answer))
		return false;
	voip = type != NULL && strcmp(type->name, "voip") == 0;
	if (s->body_len == 0)
		return apns_refuse(answer, 400, "PayloadEmpty");
	if (s->body_len > (voip ? 5120 : 4096))
		return apns_refuse(answer, 413, "PayloadTooLarge");
	if (type == &apns_types[1] && s->priority == 10)
		return apns_refuse(answer, 400, "BadPriority");
	suffix = apns_topic_allowed(c, s);
	if (type != NULL && type->suffix != NULL && strcmp(type->suffix, suffix) != 0)
		return apns_refuse(answer, 400, "BadTopic");
	if (s->duplicate_header)
		return apns_refuse(answer, 400, "DuplicateHeaders");
	if (sb.opt.strict_json && !apns_body_is_object(s))
	{
		sb.stats.bad_json++;
		return apns_refuse(answer, 400, "BadRequestPayload");
	}
	if (token != NULL && token->state == SB_TOKEN_THROTTLED)
		return apns_refuse(answer, 429, "TooManyRequests");
	return true;
}

/*
 * Judges a complete request.  Fills *answer; may make the request's provider
 * token the connection's current one or mark the connection as expired.
 */
void
sb_apns_judge(SbConn *c, SbStream *s, SbAnswer *answer)
{
	memset(answer, 0, sizeof(*answer));
	if (apns_check(c, s, answer))
		answer->status = 200;
}
