/*
 * session.c
 *		A provider account in use: its credentials, its bearer token, its
 *		connections.
 *
 * The token is shared by the dispatchers of all tiers through one row of a
 * table: whoever finds it too old, under a row lock, mints the next.  APNs
 * refuses tokens older than an hour and punishes those that change more often
 * than every 20 minutes, over restarts, too (PROVIDERS section 1.4).
 *
 * While a session is parked nothing is claimed for it.  It is parked for want of
 * working credentials of our own; a provider that fails is its breaker's affair
 * (lane_gate.c).
 */
#include "postgres.h"

#include <sys/stat.h>
#include <time.h>

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "../src/core/mem.h"
#include "../src/ids.h"
#include "../src/settings.h"
#include "dispatcher.h"

#define TOKEN_RENEW_S	3000	/* mint a new one at this age */
#define TOKEN_MIN_AGE_S	1200	/* never sooner than this */
#define TOKEN_LOOK_MS	5000	/* refused before that age: has the clock been set right? */
#define PARK_FIRST_MS	1000
#define PARK_MAX_MS		60000
#define REPORT_EVERY_MS	60000
#define CREDENTIAL_MAX	(64 * 1024)
#define CONNECTION_LIFETIME_MS	(INT64CONST(4) * 3600 * 1000)

/* ---- credentials ----------------------------------------------------------- */

/*
 * Reads a key or certificate that the server's user owns or may read and that
 * nobody else can write; NULL with a line in error.  *passing: that tells of this
 * process and not of the file.
 */
static char *
read_credential(const char *path, bool secret, bool *passing, char *error, size_t error_size)
{
	struct stat st;
	int			fd;
	char	   *text;
	ssize_t		n;

	if (!is_absolute_path(path))
	{
		snprintf(error, error_size, "file reference \"%s\" is not an absolute path", path);
		return NULL;
	}
	/* opening a pipe would wait for its other end */
	fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);
	if (fd < 0)
	{
		*passing |= errno == EMFILE || errno == ENFILE || errno == ENOMEM;
		snprintf(error, error_size, "cannot open \"%s\": %s", path, strerror(errno));
		return NULL;
	}
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > CREDENTIAL_MAX)
		snprintf(error, error_size, "\"%s\" is not a regular file of a sensible size", path);
	else if (st.st_mode & (S_IWGRP | S_IWOTH))
		snprintf(error, error_size, "\"%s\" may be written by others: chmod go-w", path);
	else if (secret && (st.st_mode & S_IRWXO))
		snprintf(error, error_size, "\"%s\" may be read by everybody: chmod o-rwx", path);
	else
	{
		text = palloc(st.st_size + 1);
		n = read(fd, text, st.st_size);
		CloseTransientFile(fd);
		if (n < 0)
		{
			snprintf(error, error_size, "cannot read \"%s\": %s", path, strerror(errno));
			return NULL;
		}
		text[n] = '\0';
		return text;
	}
	CloseTransientFile(fd);
	return NULL;
}

/* Value of a reference; *ok false with a line in error when it has none. */
static char *
resolve_reference(const char *ref, char *value, bool secret, bool *ok, bool *passing, char *error, size_t error_size)
{
	if (ref == NULL)
		return NULL;
	if (strncmp(ref, "file:", 5) == 0)
		value = read_credential(ref + 5, secret, passing, error, error_size);
	else if (value == NULL)
		snprintf(error, error_size, "reference \"%s\" has no value", ref);
	*ok = *ok && value != NULL;
	return value;
}

/* A provider's definition with its secrets, read once per reload. */
typedef struct Definition
{
	char	   *name;			/* NULL: the provider is gone */
	char	   *kind;
	char	   *settings;
	char	   *key;
	char	   *cert;
	bool		complete;		/* every reference has a value, else see error */
	bool		passing;		/* want of descriptors or memory kept one away */
	char		error[NOTIF_LANE_ERROR];
	uint64		fingerprint;	/* of all that a connection depends on */
	NotifPacerLimits limits;
} Definition;

static uint64
fingerprint_add(uint64 seed, const char *text)
{
	if (text == NULL)
		return hash_bytes_extended((const unsigned char *) "", 0, seed + 1);
	return hash_bytes_extended((const unsigned char *) text, strlen(text), seed);
}

static void
definition_read(int provider, Definition *def)
{
	static NotifStmt read = {
		.sql = "SELECT * FROM notif_private.worker_provider($1)",
		.nargs = 1,.argtypes = {INT4OID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		arg = Int32GetDatum(provider);
	NotifRows	rows = notif_spi_run(&read, &arg, NULL, 1);
	bool		none;

	memset(def, 0, sizeof(*def));
	def->name = notif_spi_text(&rows, 0, 1, cxt);
	def->kind = notif_spi_text(&rows, 0, 2, cxt);
	def->settings = notif_spi_text(&rows, 0, 3, cxt);
	def->complete = true;
	def->key = resolve_reference(notif_spi_text(&rows, 0, 4, cxt), notif_spi_text(&rows, 0, 5, cxt), true,
								 &def->complete, &def->passing, def->error, sizeof(def->error));
	def->cert = resolve_reference(notif_spi_text(&rows, 0, 6, cxt), notif_spi_text(&rows, 0, 7, cxt), false,
								  &def->complete, &def->passing, def->error, sizeof(def->error));
	def->limits.rate = notif_spi_double(&rows, 0, 8, &none);
	if (none)
		def->limits.rate = 0;
	def->limits.burst = notif_spi_int32(&rows, 0, 9, NULL);
	def->limits.max_in_flight = notif_spi_int32(&rows, 0, 10, NULL);
	def->fingerprint = fingerprint_add(0, def->name);
	def->fingerprint = fingerprint_add(def->fingerprint, def->kind);
	def->fingerprint = fingerprint_add(def->fingerprint, def->settings);
	def->fingerprint = fingerprint_add(def->fingerprint, def->key);
	def->fingerprint = fingerprint_add(def->fingerprint, def->cert);
}

static void
definition_forget(Definition *def)
{
	if (def->key != NULL)
		explicit_bzero(def->key, strlen(def->key));
}

static void
session_open(Session *session, const Definition *def)
{
	Dispatcher *d = session->dispatcher;
	NotifAccountOrigin origin;
	NotifH2PoolConfig config = {0};

	strlcpy(session->error, def->error, sizeof(session->error));
	session->ops = notif_provider_find(def->kind);
	if (session->ops == NULL)
	{
		snprintf(session->error, sizeof(session->error), "unknown kind of provider \"%s\"", def->kind);
		return;
	}
	if (!def->complete ||
		session->ops->account_new(def->settings, def->key, def->cert, &session->account,
								  session->error, sizeof(session->error)) != NOTIF_OK)
	{
		session->account = NULL;
		return;
	}
	session->ops->account_origin(session->account, &origin);
	session->token_auth = origin.token_auth;
	config.host = origin.host;
	config.port = origin.port;
	config.address = origin.address;
	config.ca_file = origin.ca_file;
	config.cert_pem = origin.cert_pem;
	config.key_pem = origin.key_pem;
	config.max_connections = origin.max_connections;
	config.one_stream_first = origin.token_auth;
	config.max_lifetime_ms = CONNECTION_LIFETIME_MS;
	config.done = session_result;
	config.ud = session;
	session->pool = notif_h2_pool_new(d->loop, d->resolver, &config, session->error, sizeof(session->error));
	if (session->pool == NULL)
	{
		session->ops->account_free(session->account);
		session->account = NULL;
	}
}

void
session_free(Session *session)
{
	/* Its requests are reported, as not sent or unknown, before this returns. */
	if (session->pool != NULL)
		notif_h2_pool_free(session->pool);
	if (session->account != NULL)
		session->ops->account_free(session->account);
	if (session->bearer != NULL)
	{
		explicit_bzero(session->bearer, strlen(session->bearer));
		notif_free(session->bearer);
	}
	dlist_delete(&session->node);
	pfree(session);
}

/* ---- lanes and sessions of the tier ----------------------------------------- */

/*
 * The session of a provider as it is defined now.  When the definition or a
 * secret has changed, a new one takes over and the old one lives on until its
 * requests are answered.
 */
static Session *
session_get(Dispatcher *d, int provider)
{
	Definition	def;
	Session    *session;
	dlist_iter	it;

	definition_read(provider, &def);
	dlist_foreach(it, &d->sessions)
	{
		session = dlist_container(Session, node, it.cur);
		if (session->provider == provider && session->fingerprint == def.fingerprint)
		{
			session->used++;
			session->limits = def.limits;

			/*
			 * What kept it from opening may be mended without the definition
			 * knowing: a file of certificates, memory.
			 */
			if (session->account == NULL && def.name != NULL)
				session_open(session, &def);
			definition_forget(&def);
			return session;
		}
	}
	/* a key that cannot be read just now is no new key */
	dlist_foreach(it, &d->sessions)
	{
		session = dlist_container(Session, node, it.cur);
		if (def.passing && session->provider == provider && session->account != NULL)
		{
			session->used++;
			definition_forget(&def);
			return session;
		}
	}
	session = MemoryContextAllocZero(d->worker->life, sizeof(Session));
	session->provider = provider;
	session->fingerprint = def.fingerprint;
	session->limits = def.limits;
	session->dispatcher = d;
	session->used = 1;
	strlcpy(session->name, def.name != NULL ? def.name : "?", sizeof(session->name));
	dlist_push_tail(&d->sessions, &session->node);
	if (def.name != NULL)
		session_open(session, &def);
	definition_forget(&def);
	if (session->account == NULL)
		ereport(LOG,
				errcode(ERRCODE_CONFIG_FILE_ERROR),
				errmsg("notif cannot use provider \"%s\"", session->name),
				errdetail("%s", session->error),
				errhint("Mend it with notif.define_provider(); nothing is lost meanwhile."));
	return session;
}

static Lane *
lane_get(Dispatcher *d, int id)
{
	dlist_iter	it;
	Lane	   *lane;

	dlist_foreach(it, &d->lanes)
	{
		lane = dlist_container(Lane, node, it.cur);
		if (lane->id == id)
			return lane;
	}
	lane = MemoryContextAllocZero(d->worker->life, sizeof(Lane));
	lane->id = id;
	lane->next_due = DT_NOEND;
	lane->due_unknown = true;
	dlist_init(&lane->done);
	dlist_push_tail(&d->lanes, &lane->node);
	return lane;
}

void
sessions_reload(Dispatcher *d)
{
	char		sql[128];
	static NotifStmt list;
	NotifRows	rows;
	dlist_mutable_iter it;

	if (list.sql == NULL)
	{
		snprintf(sql, sizeof(sql), "SELECT * FROM notif_private.worker_lanes_%s()", notif_tier_name(d->worker->tier));
		list.sql = MemoryContextStrdup(d->worker->life, sql);
	}
	content_forget_types(d->content);
	rows = notif_spi_run(&list, NULL, NULL, 0);
	dlist_foreach_modify(it, &d->lanes)
		dlist_container(Lane, node, it.cur)->present = false;
	dlist_foreach_modify(it, &d->sessions)
		dlist_container(Session, node, it.cur)->used = 0;
	for (uint64 i = 0; i < rows.count; i++)
	{
		Lane	   *lane = lane_get(d, notif_spi_int32(&rows, i, 1, NULL));
		bool		none;
		int			provider = notif_spi_int32(&rows, i, 2, &none);

		lane->present = true;
		lane->hungry = true;
		/* something that was parked may have been resumed */
		lane->due_unknown = true;
		lane->session = none ? NULL : session_get(d, provider);
	}
	/* A lane that vanished keeps what it has in flight and reads no more. */
	dlist_foreach_modify(it, &d->lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, it.cur);

		if (!lane->present)
			lane->session = NULL;
	}
	dlist_foreach_modify(it, &d->sessions)
	{
		Session    *session = dlist_container(Session, node, it.cur);

		if (session->used == 0 && session->in_flight == 0)
			session_free(session);
	}
	lane_gates_attach(d);
}

/* ---- may it send? ------------------------------------------------------------ */

void
session_park(Session *session, int ms, const char *error)
{
	if (ms <= 0)
	{
		session->park_ms = session->park_ms == 0 ? PARK_FIRST_MS : Min(session->park_ms * 2, PARK_MAX_MS);
		ms = session->park_ms;
	}
	session->parked_until_ms = Max(session->parked_until_ms, notif_monotonic_ms() + ms);
	strlcpy(session->error, error, sizeof(session->error));
}

bool
session_usable(const Session *session)
{
	return session != NULL && session->account != NULL && session->parked_until_ms <= notif_monotonic_ms();
}

void
session_explain(Session *session, const char *reason, const char *detail)
{
	snprintf(session->error, sizeof(session->error), "%s%s%s", reason, detail[0] != '\0' ? ": " : "", detail);
}

/*
 * Not from a result's callback, which must not raise.  One line per error and
 * minute: a provider that is away for a day shall not fill the disk.
 */
void
sessions_report(Dispatcher *d)
{
	int64		now = notif_monotonic_ms();
	dlist_iter	it;

	dlist_foreach(it, &d->sessions)
	{
		Session    *session = dlist_container(Session, node, it.cur);

		/* without an account it was told when the definition was read */
		if (session->error[0] == '\0' || session->account == NULL ||
			strcmp(session->error, session->reported) == 0 ||
			(session->reported_ms != 0 && now - session->reported_ms < REPORT_EVERY_MS))
			continue;
		strlcpy(session->reported, session->error, sizeof(session->reported));
		session->reported_ms = now;
		ereport(LOG,
				errcode(ERRCODE_CONNECTION_FAILURE),
				errmsg("notif cannot send through provider \"%s\"", session->name),
				errdetail("%s", session->error),
				errhint("Deliveries wait and are tried again; notif.providers shows how it goes on."));
	}
}

int
session_capacity(Session *session)
{
	if (!session_usable(session))
		return 0;
	return notif_h2_pool_capacity(session->pool);
}

/* Unix seconds of the real clock: providers know no other. */
static int64
real_seconds(void)
{
	return notif_timestamp_to_unix_ms(GetCurrentTimestamp()) / 1000;
}

static void
session_take_token(Session *session, int64 issued_at, const char *token)
{
	char	   *bearer = notif_strdup(token);

	if (bearer == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	if (session->bearer != NULL)
	{
		explicit_bzero(session->bearer, strlen(session->bearer));
		notif_free(session->bearer);
		/* APNs ties a connection to its token: the old ones are drained */
		notif_h2_pool_retire_all(session->pool);
	}
	session->bearer = bearer;
	session->bearer_number++;
	session->issued_at = issued_at;
	session->bearer_refused = false;
}

static void
session_mint(Dispatcher *d, Session *session, int64 now)
{
	static NotifStmt store = {
		.sql = "SELECT notif_private.worker_token_store($1, $2, $3)",
		.nargs = 3,.argtypes = {INT4OID, INT8OID, TEXTOID}
	};
	NotifBuf	token;
	char	   *copy;
	NotifStatus status;
	Datum		args[3];

	notif_buf_init(&token, 8192);
	status = session->ops->mint(session->account, now, &token);
	if (status != NOTIF_OK)
	{
		notif_buf_free(&token);
		session_park(session, 0, "the signing key cannot sign");
		return;
	}
	copy = pstrdup(notif_buf_text(&token));
	explicit_bzero(token.data, token.len);
	notif_buf_free(&token);
	args[0] = Int32GetDatum(session->provider);
	args[1] = Int64GetDatum(now);
	args[2] = CStringGetTextDatum(copy);
	notif_spi_run(&store, args, NULL, 0);
	session_take_token(session, now, copy);
	explicit_bzero(copy, strlen(copy));
}

bool
session_ready(Dispatcher *d, Session *session)
{
	static NotifStmt lock = {
		.sql = "SELECT * FROM notif_private.worker_token_lock($1)",
		.nargs = 1,.argtypes = {INT4OID}
	};
	int64		now = real_seconds();
	Datum		arg;
	NotifRows	rows;
	int64		issued_at;
	char	   *token;
	bool		refused;

	if (!session->token_auth)
		return true;
	if (session->bearer != NULL && !session->bearer_refused && now - session->issued_at < TOKEN_RENEW_S &&
		session->issued_at <= now + 30)
		return true;

	if (!notif_worker_begin(d->worker, "notif: renewing a provider token"))
		return false;
	arg = Int32GetDatum(session->provider);
	rows = notif_spi_run(&lock, &arg, NULL, 1);

	/*
	 * A key that has been replaced meanwhile must not sign what the dispatchers
	 * with the new one would take over.
	 */
	AcceptInvalidationMessages();
	if (dispatcher_config_invalid())
	{
		notif_worker_rollback(d->worker);
		return false;
	}
	issued_at = notif_spi_int64(&rows, 0, 1, NULL);
	token = notif_spi_text(&rows, 0, 2, d->worker->turn);
	refused = session->bearer_refused && token != NULL && session->bearer != NULL && strcmp(token, session->bearer) == 0;
	if (token != NULL && !refused && now - issued_at < TOKEN_RENEW_S && issued_at <= now + 30)
		session_take_token(session, issued_at, token);
	else if (token != NULL && refused && now - issued_at < TOKEN_MIN_AGE_S && issued_at <= now + 30)
	{
		/*
		 * One refresh in 20 minutes, whatever the provider says.  It is the wall
		 * clock that is probably wrong, so look at it again before it is over.
		 */
		session_park(session, (int) Min((TOKEN_MIN_AGE_S - (now - issued_at)) * 1000, TOKEN_LOOK_MS),
					 "the provider refuses a token that is younger than 20 minutes: is the clock right?");
	}
	else
		session_mint(d, session, now);

	/*
	 * The claim that first uses the token commits durably after this, and so
	 * flushes it, too.  Waiting here, for an absent standby perhaps, would keep
	 * every other dispatcher waiting for the lock.
	 */
	notif_worker_commit(d->worker, false);
	return session->parked_until_ms <= notif_monotonic_ms();
}
