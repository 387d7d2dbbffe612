/*
 * apns_internal.h
 *		What the apns_*.c files share: accounts, push types, templates.
 *
 * NotifAccount and NotifMessageTemplate are opaque names common to all
 * providers; the casts between them and the structs here are all in these
 * files.
 */
#ifndef NOTIF_PROVIDER_APNS_INTERNAL_H
#define NOTIF_PROVIDER_APNS_INTERNAL_H

#include <stdio.h>

#include "../crypto/key.h"
#include "../message/template.h"
#include "apns.h"

#define APNS_TOPIC_MAX			255
#define APNS_COLLAPSE_ID_MAX	64
#define APNS_TOKEN_MIN			8
#define APNS_TOKEN_MAX			200

typedef enum ApnsType
{
	APNS_ALERT,
	APNS_BACKGROUND,
	APNS_COMPLICATION,
	APNS_CONTROLS,
	APNS_FILEPROVIDER,
	APNS_LIVEACTIVITY,
	APNS_LOCATION,
	APNS_MDM,
	APNS_PUSHTOTALK,
	APNS_VOIP,
	APNS_WIDGETS
} ApnsType;

/* PROVIDERS section 1.3 */
typedef struct ApnsPushType
{
	const char *name;			/* apns-push-type */
	const char *suffix;			/* of the topic */
	size_t		limit;			/* bytes of payload */
	ApnsType	type;
} ApnsPushType;

/* NULL for an unknown name (name is not NUL-terminated). */
const ApnsPushType *notif_apns_push_type(const char *name, size_t len);

typedef struct NotifApnsAccount
{
	char	   *host;
	uint16_t	port;
	char	   *address;		/* or NULL */
	char	   *ca_file;		/* or NULL */
	char	   *topic;			/* or NULL (certificate authentication only) */
	int			max_connections;
	char		team_id[11];	/* token authentication */
	char		key_id[11];
	NotifKey   *key;			/* token authentication, else NULL */
	char	   *cert_pem;		/* certificate authentication, else NULL */
	char	   *key_pem;		/* secret: cleansed when freed */
} NotifApnsAccount;

typedef struct NotifApnsTemplate
{
	const ApnsPushType *push_type;
	const char *priority;		/* apns-priority, static text */
	char	   *topic;			/* replaces the account's, or NULL */
	NotifTemplate *payload;
} NotifApnsTemplate;

/* One line into error, if there is room for one; yields NOTIF_EINVAL. */
#define apns_invalid(error, error_size, ...) \
	((error_size) > 0 ? (void) snprintf((error), (error_size), __VA_ARGS__) : (void) 0, \
	 NOTIF_EINVAL)

/* apns_account.c */
NotifStatus notif_apns_settings_check(const char *settings_json, bool has_key, bool has_cert,
									  char *error, size_t error_size);
NotifStatus notif_apns_account_new(const char *settings_json, const char *secret_key,
								   const char *cert_pem, NotifAccount **account,
								   char *error, size_t error_size);
void		notif_apns_account_free(NotifAccount *account);
void		notif_apns_account_origin(const NotifAccount *account, NotifAccountOrigin *origin);
NotifStatus notif_apns_mint(const NotifAccount *account, int64_t iat, NotifBuf *token);

/* True if text can be an apns-topic. */
bool		notif_apns_topic_valid(const char *topic);

/* apns_template.c */
NotifStatus notif_apns_template_new(const char *title, const char *body,
									const char *options_json, NotifMessageTemplate **tmpl,
									char *error, size_t error_size);
void		notif_apns_template_free(NotifMessageTemplate *tmpl);

/* apns_classify.c */
void		notif_apns_classify(const NotifResult *result, NotifVerdict *verdict);

#endif							/* NOTIF_PROVIDER_APNS_INTERNAL_H */
