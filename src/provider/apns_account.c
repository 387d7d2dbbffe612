/*
 * apns_account.c
 *		Settings of an APNs account, and its provider tokens.
 *
 * Authentication is by token (secret_key is the .p8 signing key) or, when a
 * certificate is given, by TLS client certificate (secret_key is its key).
 * The signing key stays parsed; the PEM text of a client key is kept, because
 * the connection pool wants it, and overwritten when freed.
 */
#include <string.h>

#include "../core/mem.h"
#include "../crypto/jwt.h"
#include "../message/json.h"
#include "apns_internal.h"

#define APNS_MAX_CONNECTIONS	32
#define APNS_SETTING_MAX		1024	/* bytes of a text setting */

/* 10 upper-case letters and digits: how Apple names teams and keys. */
static bool
apns_is_apple_id(const char *id)
{
	return strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == 10 && id[10] == '\0';
}

bool
notif_apns_topic_valid(const char *topic)
{
	size_t		len = strspn(topic, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
							 "0123456789.-_");

	return len > 0 && len <= APNS_TOPIC_MAX && topic[len] == '\0';
}

/* A copy of a text setting. */
static NotifStatus
apns_setting_text(const NotifJson *json, uint32_t node, const char *name, char **value,
				  char *error, size_t error_size)
{
	NotifBuf	text;
	NotifStatus status;

	if (json->nodes[node].kind != NOTIF_JSON_STRING)
		return apns_invalid(error, error_size, "setting \"%s\" must be a string", name);
	notif_buf_init(&text, APNS_SETTING_MAX);
	status = notif_json_decode(json, node, &text);
	if (status == NOTIF_ETOOBIG)
		status = apns_invalid(error, error_size, "setting \"%s\" is too long", name);
	else if (status == NOTIF_OK && text.len == 0)
		status = apns_invalid(error, error_size, "setting \"%s\" is empty", name);
	else if (status == NOTIF_OK)
	{
		notif_free(*value);		/* a name given twice: the last one counts */
		*value = notif_strdup(text.data);
		if (*value == NULL)
			status = NOTIF_ENOMEM;
	}
	notif_buf_free(&text);
	return status;
}

static NotifStatus
apns_setting_int(const NotifJson *json, uint32_t node, const char *name, int min, int max,
				 int *value, char *error, size_t error_size)
{
	const NotifJsonNode *n = &json->nodes[node];
	const char *at = json->text + n->start;
	int			result = 0;
	bool		ok = n->kind == NOTIF_JSON_NUMBER && n->len <= 6;

	for (uint32_t i = 0; ok && i < n->len; i++)
	{
		ok = at[i] >= '0' && at[i] <= '9';
		result = result * 10 + (at[i] - '0');
	}
	if (!ok || result < min || result > max)
		return apns_invalid(error, error_size, "setting \"%s\" must be a number from %d to %d",
							name, min, max);
	*value = result;
	return NOTIF_OK;
}

static bool
apns_is_host(const char *host)
{
	size_t		len = strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
							 "0123456789.-");

	return len > 0 && len <= 253 && host[len] == '\0';
}

/* Text settings as they are read, before they are checked together. */
typedef struct ApnsSettings
{
	char	   *host;
	char	   *environment;
	char	   *address;
	char	   *ca_file;
	char	   *team_id;
	char	   *key_id;
	char	   *topic;
	int			port;
	int			max_connections;
} ApnsSettings;

static void
apns_settings_free(ApnsSettings *settings)
{
	notif_free(settings->host);
	notif_free(settings->environment);
	notif_free(settings->address);
	notif_free(settings->ca_file);
	notif_free(settings->team_id);
	notif_free(settings->key_id);
	notif_free(settings->topic);
}

static NotifStatus
apns_settings_read(const NotifJson *json, ApnsSettings *settings, char *error, size_t error_size)
{
	const struct
	{
		const char *name;
		char	  **text;
		int		   *number;
		int			min;
		int			max;
	}			known[] = {
		{"host", &settings->host, NULL, 0, 0},
		{"environment", &settings->environment, NULL, 0, 0},
		{"address", &settings->address, NULL, 0, 0},
		{"ca_file", &settings->ca_file, NULL, 0, 0},
		{"team_id", &settings->team_id, NULL, 0, 0},
		{"key_id", &settings->key_id, NULL, 0, 0},
		{"topic", &settings->topic, NULL, 0, 0},
		{"port", NULL, &settings->port, 1, 65535},
		{"max_connections", NULL, &settings->max_connections, 1, APNS_MAX_CONNECTIONS},
	};
	NotifStatus status = NOTIF_OK;

	for (uint32_t key = 1; key < json->nodes[0].end && status == NOTIF_OK;
		 key = json->nodes[key + 1].end)
	{
		size_t		i = 0;

		while (i < sizeof(known) / sizeof(known[0]) && !notif_json_is(json, key, known[i].name))
			i++;
		if (i == sizeof(known) / sizeof(known[0]))
			return apns_invalid(error, error_size, "unknown setting %.*s",
								(int) (json->nodes[key].len < 80 ? json->nodes[key].len : 80),
								json->text + json->nodes[key].start);
		if (known[i].text != NULL)
			status = apns_setting_text(json, key + 1, known[i].name, known[i].text,
									   error, error_size);
		else
			status = apns_setting_int(json, key + 1, known[i].name, known[i].min, known[i].max,
									  known[i].number, error, error_size);
	}
	return status;
}

/* Checks what was read and fills in defaults. */
static NotifStatus
apns_settings_check(ApnsSettings *settings, bool token_auth, char *error, size_t error_size)
{
	bool		sandbox = false;

	if (settings->environment != NULL)
	{
		sandbox = strcmp(settings->environment, "sandbox") == 0;
		if (!sandbox && strcmp(settings->environment, "production") != 0)
			return apns_invalid(error, error_size,
								"setting \"environment\" must be \"production\" or \"sandbox\"");
	}
	if (settings->host == NULL)
	{
		settings->host = notif_strdup(sandbox ? "api.sandbox.push.apple.com" :
									  "api.push.apple.com");
		if (settings->host == NULL)
			return NOTIF_ENOMEM;
	}
	if (!apns_is_host(settings->host))
		return apns_invalid(error, error_size, "setting \"host\" is not a host name");
	if (settings->topic != NULL && !notif_apns_topic_valid(settings->topic))
		return apns_invalid(error, error_size, "setting \"topic\" is not a bundle id");
	if (!token_auth)
	{
		if (settings->team_id != NULL || settings->key_id != NULL)
			return apns_invalid(error, error_size,
								"setting \"%s\" belongs to authentication by token, "
								"but a certificate is given",
								settings->team_id != NULL ? "team_id" : "key_id");
		return NOTIF_OK;
	}
	if (settings->team_id == NULL || !apns_is_apple_id(settings->team_id))
		return apns_invalid(error, error_size,
							"setting \"team_id\" must be 10 upper-case letters or digits");
	if (settings->key_id == NULL || !apns_is_apple_id(settings->key_id))
		return apns_invalid(error, error_size,
							"setting \"key_id\" must be 10 upper-case letters or digits");
	if (settings->topic == NULL)
		return apns_invalid(error, error_size, "setting \"topic\" (the bundle id) is missing");
	return NOTIF_OK;
}

/* Reads and checks in one go; settings is freed by the caller, error or not. */
static NotifStatus
apns_settings_parse(const char *settings_json, bool token_auth, ApnsSettings *settings,
					char *error, size_t error_size)
{
	NotifJson  *json = NULL;
	NotifStatus status;

	status = notif_json_parse(settings_json, strlen(settings_json), &json, NULL);
	if (status == NOTIF_ENOMEM)
		return status;
	if (status != NOTIF_OK || json->nodes[0].kind != NOTIF_JSON_OBJECT)
	{
		notif_json_free(json);
		return apns_invalid(error, error_size, "the settings are not a JSON object");
	}
	status = apns_settings_read(json, settings, error, error_size);
	notif_json_free(json);
	if (status == NOTIF_OK)
		status = apns_settings_check(settings, token_auth, error, error_size);
	return status;
}

NotifStatus
notif_apns_settings_check(const char *settings_json, bool has_key, bool has_cert,
						  char *error, size_t error_size)
{
	ApnsSettings settings = {.port = 443, .max_connections = 2};
	NotifStatus status;

	if (error == NULL)
		error_size = 0;
	if (!has_key)
		return apns_invalid(error, error_size, has_cert ?
							"the certificate's private key is missing" :
							"the signing key is missing");
	status = apns_settings_parse(settings_json, !has_cert, &settings, error, error_size);
	apns_settings_free(&settings);
	return status;
}

/* Keys and certificates into the account. */
static NotifStatus
apns_account_secrets(NotifApnsAccount *account, const char *secret_key, const char *cert_pem,
					 char *error, size_t error_size)
{
	NotifStatus status;

	if (cert_pem == NULL)
		return notif_key_load_p256(secret_key, &account->key, error, error_size);
	status = notif_key_check_pair(cert_pem, secret_key, error, error_size);
	if (status != NOTIF_OK)
		return status;
	account->cert_pem = notif_strdup(cert_pem);
	account->key_pem = notif_strdup(secret_key);
	return account->cert_pem != NULL && account->key_pem != NULL ? NOTIF_OK : NOTIF_ENOMEM;
}

NotifStatus
notif_apns_account_new(const char *settings_json, const char *secret_key, const char *cert_pem,
					   NotifAccount **account, char *error, size_t error_size)
{
	ApnsSettings settings = {.port = 443, .max_connections = 2};
	NotifApnsAccount *result = NULL;
	NotifStatus status;

	*account = NULL;
	if (error == NULL)
		error_size = 0;
	if (cert_pem != NULL && cert_pem[0] == '\0')
		cert_pem = NULL;
	if (secret_key == NULL || secret_key[0] == '\0')
		return apns_invalid(error, error_size, cert_pem != NULL ?
							"the certificate's private key is missing" :
							"the signing key is missing");
	status = apns_settings_parse(settings_json, cert_pem == NULL, &settings, error, error_size);
	if (status == NOTIF_OK)
	{
		result = notif_calloc(1, sizeof(NotifApnsAccount));
		if (result == NULL)
			status = NOTIF_ENOMEM;
	}
	if (status == NOTIF_OK)
	{
		result->port = (uint16_t) settings.port;
		result->max_connections = settings.max_connections;
		if (cert_pem == NULL)
		{
			memcpy(result->team_id, settings.team_id, sizeof(result->team_id));
			memcpy(result->key_id, settings.key_id, sizeof(result->key_id));
		}
		/* the account takes these over */
		result->host = settings.host;
		result->address = settings.address;
		result->ca_file = settings.ca_file;
		result->topic = settings.topic;
		settings.host = settings.address = settings.ca_file = settings.topic = NULL;
		status = apns_account_secrets(result, secret_key, cert_pem, error, error_size);
	}
	apns_settings_free(&settings);
	if (status != NOTIF_OK)
	{
		notif_apns_account_free((NotifAccount *) result);
		return status;
	}
	*account = (NotifAccount *) result;
	return NOTIF_OK;
}

void
notif_apns_account_free(NotifAccount *account)
{
	NotifApnsAccount *a = (NotifApnsAccount *) account;

	if (a == NULL)
		return;
	notif_free(a->host);
	notif_free(a->address);
	notif_free(a->ca_file);
	notif_free(a->topic);
	notif_key_free(a->key);
	notif_free(a->cert_pem);
	if (a->key_pem != NULL)
		notif_key_cleanse(a->key_pem, strlen(a->key_pem));
	notif_free(a->key_pem);
	notif_free(a);
}

void
notif_apns_account_origin(const NotifAccount *account, NotifAccountOrigin *origin)
{
	const NotifApnsAccount *a = (const NotifApnsAccount *) account;

	memset(origin, 0, sizeof(*origin));
	origin->host = a->host;
	origin->port = a->port;
	origin->address = a->address;
	origin->ca_file = a->ca_file;
	origin->token_auth = a->key != NULL;
	origin->cert_pem = a->cert_pem;
	origin->key_pem = a->key_pem;
	origin->max_connections = a->max_connections;
}

NotifStatus
notif_apns_mint(const NotifAccount *account, int64_t iat, NotifBuf *token)
{
	const NotifApnsAccount *a = (const NotifApnsAccount *) account;

	if (a->key == NULL)
		return NOTIF_ESTATE;
	return notif_jwt_apns(a->key, a->key_id, a->team_id, iat, token);
}
