/*
 * provider.h
 *		What every provider offers: compile the settings and the template of a
 *		type once, then build(message) -> request and classify(result) -> verdict,
 *		both pure.  Adding a provider touches its own file and one line of
 *		registry.c.
 */
#ifndef NOTIF_PROVIDER_PROVIDER_H
#define NOTIF_PROVIDER_PROVIDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../core/breaker.h"
#include "../core/buf.h"
#include "../core/status.h"
#include "../message/vars.h"
#include "../net/h2_pool.h"
#include "../net/result.h"

typedef enum NotifVerdictKind
{
	NOTIF_VERDICT_ACCEPTED,		/* the provider took it */
	NOTIF_VERDICT_RETRY,		/* transient: back off, counts an attempt */
	NOTIF_VERDICT_THROTTLED,	/* transient: only this endpoint is too fast */
	NOTIF_VERDICT_SLOW_DOWN,	/* the account as a whole is too fast: not
								 * counted */
	NOTIF_VERDICT_ENDPOINT_GONE,	/* the address is dead */
	NOTIF_VERDICT_ENDPOINT_SUSPECT, /* dead, or our configuration is wrong: quorum */
	NOTIF_VERDICT_MESSAGE_BAD,	/* this message can never be sent */
	NOTIF_VERDICT_CREDENTIALS_STALE,	/* new token, then send again; not counted */
	NOTIF_VERDICT_CREDENTIALS_BAD,	/* configuration: stop the lane, alert */
	NOTIF_VERDICT_PROVIDER_DOWN,	/* not sent through no fault of the message:
									 * back off the lane, not counted */
	NOTIF_VERDICT_UNKNOWN		/* bytes left, no answer */
} NotifVerdictKind;

#define NOTIF_REASON_MAX 64

typedef struct NotifVerdict
{
	NotifVerdictKind kind;
	char		reason[NOTIF_REASON_MAX];	/* provider's word, sanitised ASCII */
	int			retry_after_s;	/* told by the provider in seconds, clamped
								 * 1..3600; 0: not told, or told as a date, which
								 * is in the result */
	int64_t		gone_at_ms;		/* 410: since when the address is dead; 0: not told */
	bool		retire_connection;	/* open no more streams on this connection */
} NotifVerdict;

/* One delivery as the bridge hands it over.  Strings stay the caller's. */
typedef struct NotifMessage
{
	const char *delivery_id;	/* UUID text, lower case */
	const char *address;		/* device token */
	const char *collapse_key;	/* or NULL */
	int64_t		expires_at_s;	/* UNIX seconds; 0: none */
	const NotifVars *vars;		/* what placeholders read */
} NotifMessage;

/*
 * Settings of one provider account, from notif.define_provider's settings
 * (JSON text), opaque to the bridge; and one type's message for that provider,
 * compiled from title, body and push options (JSON text).
 */
typedef struct NotifAccount NotifAccount;
typedef struct NotifMessageTemplate NotifMessageTemplate;

/* Where requests of an account go; strings live as long as the account. */
typedef struct NotifAccountOrigin
{
	const char *host;
	uint16_t	port;
	const char *address;		/* NULL or override of DNS */
	const char *ca_file;		/* NULL: system trust store */
	bool		token_auth;		/* bearer token that bridge mints through mint() */
	const char *cert_pem;		/* certificate auth, else NULL */
	const char *key_pem;
	int			max_connections;
} NotifAccountOrigin;

typedef struct NotifProviderOps
{
	const char *kind;			/* 'apns' */
	const char *channel;		/* 'push' */

	/* Checks settings without the secrets, which the worker reads later;
	 * NOTIF_EINVAL with a line in error. */
	NotifStatus (*settings_check) (const char *settings_json, bool has_key, bool has_cert,
								   char *error, size_t error_size);

	/* Whether an address has the form that this provider takes. */
	bool		(*address_valid) (const char *address);

	/* error (may be NULL) gets one line without secrets. secret_key: PEM text
	 * of the signing or client key, cert_pem: certificate chain or NULL. */
	NotifStatus (*account_new) (const char *settings_json, const char *secret_key,
								const char *cert_pem, NotifAccount **account,
								char *error, size_t error_size);
	void		(*account_free) (NotifAccount *account);
	void		(*account_origin) (const NotifAccount *account, NotifAccountOrigin *origin);

	/* Signs a bearer token issued at iat (UNIX seconds) into token. */
	NotifStatus (*mint) (const NotifAccount *account, int64_t iat, NotifBuf *token);

	/* Checks and compiles; NOTIF_EINVAL with a line in error. */
	NotifStatus (*template_new) (const char *title, const char *body, const char *options_json,
								 NotifMessageTemplate **tmpl, char *error, size_t error_size);
	void		(*template_free) (NotifMessageTemplate *tmpl);

	/* Calls visit once per distinct placeholder. */
	void		(*template_vars) (const NotifMessageTemplate *tmpl,
								  void (*visit) (void *ud, const char *name), void *ud);

	/* Renders the payload alone (publish-time size check).  NOTIF_EMISSING: a
	 * placeholder has no value, its name in error.  NOTIF_ETOOBIG: over the
	 * provider's limit for this push type, both sizes in error. */
	NotifStatus (*render) (const NotifMessageTemplate *tmpl, const NotifVars *vars,
						   NotifBuf *payload, char *error, size_t error_size);

	/* Most bytes a payload of this template may have. */
	size_t		(*payload_limit) (const NotifMessageTemplate *tmpl);

	/*
	 * An upper bound of the payload's size without rendering: data_len and
	 * attributes_len are the JSON sizes of the event's data and of the
	 * recipient's attributes, other_len the most bytes of any of his reference,
	 * his locale and the type's name.  At or under payload_limit, the payload
	 * surely fits.
	 */
	size_t		(*payload_bound) (const NotifMessageTemplate *tmpl, size_t data_len,
								  size_t attributes_len, size_t other_len);

	/*
	 * Fills method, path, headers and body of request and leaves the rest of it
	 * alone; its strings live in scratch (reset by the caller between
	 * calls) or in the arguments.  Errors as render.  bearer is the token text
	 * or NULL with certificate authentication.
	 */
	NotifStatus (*build) (const NotifAccount *account, const NotifMessageTemplate *tmpl,
						  const NotifMessage *message, const char *bearer,
						  NotifBuf *scratch, NotifH2Request *request,
						  char *error, size_t error_size);

	/* Pure: the same result gives the same verdict. */
	void		(*classify) (const NotifResult *result, NotifVerdict *verdict);
} NotifProviderOps;

/*
 * What a result says of the provider itself, for its breaker.  connected: a
 * connection to it is open, so that a request that found no stream in time has
 * only been waiting.
 */
NotifSign	notif_provider_sign(const NotifResult *result, const NotifVerdict *verdict, bool connected);

/* NULL for an unknown kind. */
const NotifProviderOps *notif_provider_find(const char *kind);

#endif							/* NOTIF_PROVIDER_PROVIDER_H */
