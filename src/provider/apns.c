/*
 * apns.c
 *		The APNs provider: requests, and the table of its functions.
 *
 * Everything of a request that is made here lies in the caller's scratch
 * buffer; pointers into it are taken only after the last byte was added,
 * because adding may move it.
 */
#include "apns.h"

#include <inttypes.h>
#include <string.h>

#include "apns_internal.h"

#define APNS_UUID_LEN		36
#define APNS_MEASURE_CAP	(16 * 1024 * 1024)

static size_t
apns_token_len(const char *token)
{
	size_t		len = strspn(token, "0123456789abcdefABCDEF");

	return token[len] == '\0' && len >= APNS_TOKEN_MIN && len <= APNS_TOKEN_MAX &&
		len % 2 == 0 ? len : 0;
}

bool
notif_apns_token_valid(const char *token)
{
	return apns_token_len(token) > 0;
}

/* Canonical, lower case: APNs echoes it and we compare bytes. */
static bool
apns_is_uuid(const char *id)
{
	for (int i = 0; i < APNS_UUID_LEN; i++)
	{
		bool		dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? id[i] != '-' : !((id[i] >= '0' && id[i] <= '9') || (id[i] >= 'a' && id[i] <= 'f')))
			return false;
	}
	return id[APNS_UUID_LEN] == '\0';
}

/* What may stand in a header: printable bytes, no space at either end. */
static bool
apns_is_header_value(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		if ((unsigned char) value[i] < 0x20 || value[i] == 0x7F)
			return false;
	}
	return len > 0 && value[0] != ' ' && value[len - 1] != ' ';
}

static size_t
apns_payload_limit(const NotifMessageTemplate *tmpl)
{
	return ((const NotifApnsTemplate *) tmpl)->push_type->limit;
}

static size_t
apns_payload_bound(const NotifMessageTemplate *tmpl, size_t data_len, size_t attributes_len,
				   size_t other_len)
{
	return notif_template_max_size(((const NotifApnsTemplate *) tmpl)->payload,
								   data_len, attributes_len, other_len);
}

static void
apns_template_vars(const NotifMessageTemplate *tmpl,
				   void (*visit) (void *ud, const char *name), void *ud)
{
	notif_template_vars(((const NotifApnsTemplate *) tmpl)->payload, visit, ud);
}

/* The payload did not fit into buf: how large is it? */
static NotifStatus
apns_too_big(const NotifApnsTemplate *t, const NotifVars *vars, char *error, size_t error_size)
{
	NotifBuf	whole;
	NotifStatus status;

	notif_buf_init(&whole, APNS_MEASURE_CAP);
	status = notif_template_render(t->payload, vars, &whole, error, error_size);
	if (status == NOTIF_OK || status == NOTIF_ETOOBIG)
	{
		if (error_size > 0)
			snprintf(error, error_size, "payload of %s%zu bytes, limit of push type %s is %zu",
					 status == NOTIF_OK ? "" : "more than ",
					 status == NOTIF_OK ? whole.len : (size_t) APNS_MEASURE_CAP,
					 t->push_type->name, t->push_type->limit);
		status = NOTIF_ETOOBIG;
	}
	notif_buf_free(&whole);
	return status;
}

static NotifStatus
apns_render(const NotifMessageTemplate *tmpl, const NotifVars *vars, NotifBuf *payload,
			char *error, size_t error_size)
{
	const NotifApnsTemplate *t = (const NotifApnsTemplate *) tmpl;
	size_t		before = payload->len;
	NotifStatus status;

	if (error == NULL)
		error_size = 0;
	status = notif_template_render(t->payload, vars, payload, error, error_size);
	if (status == NOTIF_OK && payload->len - before > t->push_type->limit)
	{
		payload->len = before;
		payload->data[before] = '\0';
		status = NOTIF_ETOOBIG;
	}
	return status != NOTIF_ETOOBIG ? status : apns_too_big(t, vars, error, error_size);
}

/* Adds text and its NUL; *at is where it begins. */
static NotifStatus
apns_scratch(NotifBuf *scratch, size_t *at, const char *text, size_t len)
{
	NotifStatus status = notif_buf_add(scratch, text, len);

	*at = scratch->len - (status == NOTIF_OK ? len : 0);
	return status == NOTIF_OK ? notif_buf_addc(scratch, '\0') : status;
}

static void
apns_header(NotifH2Request *request, const char *name, const char *value, size_t len,
			NotifHeaderIndex index)
{
	NotifHeader *header = &request->headers[request->n_headers++];

	header->name = name;
	header->value = value;
	header->value_len = len;
	header->index = index;
}

/* What is wrong with the message itself. */
static NotifStatus
apns_check_message(const NotifApnsAccount *account, const NotifApnsTemplate *t,
				   const NotifMessage *message, const char *bearer, size_t *token_len,
				   char *error, size_t error_size)
{
	*token_len = apns_token_len(message->address);
	if (*token_len == 0)
		return apns_invalid(error, error_size, "device token");
	if (!apns_is_uuid(message->delivery_id))
		return apns_invalid(error, error_size, "delivery id");
	if (message->collapse_key != NULL)
	{
		size_t		len = strlen(message->collapse_key);

		if (len > APNS_COLLAPSE_ID_MAX || !apns_is_header_value(message->collapse_key, len))
			return apns_invalid(error, error_size, "collapse key");
	}
	if (message->expires_at_s < 0)
		return apns_invalid(error, error_size, "expiry");
	if (account->key != NULL && bearer == NULL)
		return apns_invalid(error, error_size, "no provider token");
	if (account->key == NULL && t->push_type->type == APNS_LOCATION)
		return apns_invalid(error, error_size,
							"push type location needs authentication by token");
	return NOTIF_OK;
}

static NotifStatus
apns_build(const NotifAccount *account, const NotifMessageTemplate *tmpl,
		   const NotifMessage *message, const char *bearer, NotifBuf *scratch,
		   NotifH2Request *request, char *error, size_t error_size)
{
	static const char path_prefix[] = "/3/device/";
	const NotifApnsAccount *a = (const NotifApnsAccount *) account;
	const NotifApnsTemplate *t = (const NotifApnsTemplate *) tmpl;
	const char *base = t->topic != NULL ? t->topic : a->topic;
	size_t		body_at = scratch->len;
	size_t		body_len;
	size_t		path_at = 0;
	size_t		topic_at = 0;
	size_t		bearer_at = 0;
	size_t		bearer_len = 0;
	size_t		expires_at = 0;
	size_t		topic_len = 0;
	size_t		token_len;
	char		expires[24];
	int			expires_len = 0;
	NotifStatus status;

	if (error == NULL)
		error_size = 0;
	status = apns_check_message(a, t, message, bearer, &token_len, error, error_size);
	if (status == NOTIF_OK)
		status = apns_render(tmpl, message->vars, scratch, error, error_size);
	if (status != NOTIF_OK)
		return status;
	body_len = scratch->len - body_at;
	status = notif_buf_addc(scratch, '\0');

	if (status == NOTIF_OK)
		status = notif_buf_add(scratch, path_prefix, sizeof(path_prefix) - 1);
	path_at = scratch->len - (sizeof(path_prefix) - 1);
	if (status == NOTIF_OK)
	{
		size_t		at;

		status = apns_scratch(scratch, &at, message->address, token_len);
		for (size_t i = at; status == NOTIF_OK && i < at + token_len; i++)
		{
			if (scratch->data[i] >= 'A' && scratch->data[i] <= 'F')
				scratch->data[i] = (char) (scratch->data[i] - 'A' + 'a');
		}
	}
	if (status == NOTIF_OK && base != NULL)
	{
		/* a topic of the template has its suffix already */
		const char *suffix = t->topic != NULL ? "" : t->push_type->suffix;

		topic_at = scratch->len;
		status = notif_buf_adds(scratch, base);
		if (status == NOTIF_OK)
			status = notif_buf_add(scratch, suffix, strlen(suffix) + 1);
		topic_len = scratch->len - topic_at - 1;
	}
	if (status == NOTIF_OK && a->key != NULL)
	{
		bearer_at = scratch->len;
		status = notif_buf_add(scratch, "bearer ", 7);
		if (status == NOTIF_OK)
			status = notif_buf_add(scratch, bearer, strlen(bearer) + 1);
		bearer_len = scratch->len - bearer_at - 1;
	}
	if (status == NOTIF_OK && message->expires_at_s > 0)
	{
		expires_len = snprintf(expires, sizeof(expires), "%" PRId64, message->expires_at_s);
		status = apns_scratch(scratch, &expires_at, expires, (size_t) expires_len);
	}
	if (status != NOTIF_OK)
	{
		scratch->len = body_at;
		if (error_size > 0 && status == NOTIF_ETOOBIG)
			snprintf(error, error_size, "the request does not fit into its buffer");
		return status;
	}

	request->method = "POST";
	request->path = scratch->data + path_at;
	request->body = scratch->data + body_at;
	request->body_len = body_len;
	request->n_headers = 0;
	if (base != NULL)
		apns_header(request, "apns-topic", scratch->data + topic_at, topic_len,
					NOTIF_INDEX_VALUE);
	apns_header(request, "apns-push-type", t->push_type->name, strlen(t->push_type->name),
				NOTIF_INDEX_VALUE);
	apns_header(request, "apns-priority", t->priority, strlen(t->priority), NOTIF_INDEX_VALUE);
	if (a->key != NULL)
		apns_header(request, "authorization", scratch->data + bearer_at, bearer_len,
					NOTIF_INDEX_VALUE);
	apns_header(request, "apns-id", message->delivery_id, APNS_UUID_LEN, NOTIF_INDEX_NAME);
	if (expires_len > 0)
		apns_header(request, "apns-expiration", scratch->data + expires_at, (size_t) expires_len,
					NOTIF_INDEX_NAME);
	if (message->collapse_key != NULL)
		apns_header(request, "apns-collapse-id", message->collapse_key,
					strlen(message->collapse_key), NOTIF_INDEX_NAME);
	return NOTIF_OK;
}

const NotifProviderOps notif_apns_ops = {
	.kind = "apns",
	.channel = "push",
	.settings_check = notif_apns_settings_check,
	.address_valid = notif_apns_token_valid,
	.account_new = notif_apns_account_new,
	.account_free = notif_apns_account_free,
	.account_origin = notif_apns_account_origin,
	.mint = notif_apns_mint,
	.template_new = notif_apns_template_new,
	.template_free = notif_apns_template_free,
	.template_vars = apns_template_vars,
	.render = apns_render,
	.payload_limit = apns_payload_limit,
	.payload_bound = apns_payload_bound,
	.build = apns_build,
	.classify = notif_apns_classify,
};
