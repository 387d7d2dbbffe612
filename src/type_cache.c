/*
 * type_cache.c
 *		Cached types and the names of the extension's objects.
 *
 * define_type and its like call notif_private.config_changed(), which sends a
 * relcache invalidation of the type table at commit: so the cache of every
 * backend and worker falls with the transaction that changed the definition,
 * with shared memory or without.  The invalidation may come in the middle of
 * anything, so it only marks; the next call cleans.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "access/htup_details.h"

#include "notif.h"
#include "spi.h"
#include "type_cache.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(notif_config_changed);

static HTAB *types = NULL;
static MemoryContext cache_context = NULL;
static NotifConfig config;
static Oid	type_relid = InvalidOid;
static bool stale = true;

/*
 * A transaction with one snapshot for all of its statements may read a
 * definition as it was before a change whose invalidation has been heard
 * already.  What it read ends with it.
 */
static bool heard_in_xact = false;
static bool read_by_old_snapshot = false;

static void
type_cache_invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == type_relid)
	{
		stale = true;
		heard_in_xact = true;
	}
}

static void
type_cache_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PARALLEL_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		return;
	if (read_by_old_snapshot)
		stale = true;
	read_by_old_snapshot = false;
	heard_in_xact = false;
}

/* Call before something is read into the cache. */
static void
type_cache_note_read(void)
{
	if (heard_in_xact && IsolationUsesXactSnapshot())
		read_by_old_snapshot = true;
}

static void
type_cache_reset(void)
{
	HASHCTL		ctl = {0};

	if (types != NULL)
	{
		HASH_SEQ_STATUS scan;
		NotifType  *type;

		hash_seq_init(&scan, types);
		while ((type = hash_seq_search(&scan)) != NULL)
		{
			if (type->tmpl != NULL)
				type->ops->template_free(type->tmpl);
			type->tmpl = NULL;
		}
		hash_destroy(types);
		types = NULL;
	}
	if (cache_context == NULL)
	{
		CacheRegisterRelcacheCallback(type_cache_invalidate, (Datum) 0);
		RegisterXactCallback(type_cache_xact_end, NULL);
		/* nobody listened before */
		heard_in_xact = true;
		cache_context = AllocSetContextCreate(TopMemoryContext, "notif types",
											  ALLOCSET_SMALL_SIZES);
	}
	MemoryContextReset(cache_context);
	ctl.keysize = sizeof(((NotifType *) NULL)->name);
	ctl.entrysize = sizeof(NotifType);
	ctl.hcxt = cache_context;
	types = hash_create("notif types", 64, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

static Oid
relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

const NotifConfig *
notif_config_get(void)
{
	static NotifStmt incarnation = {
		.sql = "SELECT notif_private.read_incarnation()"
	};
	Oid			namespace;
	Oid			caller;
	int			sec_context;
	NotifRows	rows;

	/* an incarnation of 0 is one that an ERROR kept from being read */
	if (!stale && config.incarnation != 0)
		return &config;
	/* what is sent, is sent as UTF-8: nothing in between converts */
	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("notif needs a database with encoding UTF8, not %s", GetDatabaseEncodingName()),
				errhint("Create the database with ENCODING 'UTF8' TEMPLATE template0."));
	type_cache_reset();
	type_cache_note_read();
	config.incarnation = 0;
	namespace = get_namespace_oid(NOTIF_PRIVATE_SCHEMA, false);
	config.event_relid = get_relname_relid("event", namespace);
	config.recipient_relid = get_relname_relid("recipient", namespace);
	type_relid = get_relname_relid("type", namespace);
	if (!OidIsValid(config.event_relid) || !OidIsValid(config.recipient_relid) ||
		!OidIsValid(type_relid))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("the tables of extension \"notif\" are missing"),
				errhint("Run CREATE EXTENSION notif."));
	config.owner = relation_owner(config.event_relid);
	/* marked before reading, so that an invalidation in between is not lost */
	stale = false;
	GetUserIdAndSecContext(&caller, &sec_context);
	SetUserIdAndSecContext(config.owner, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	rows = notif_spi_run(&incarnation, NULL, NULL, 1);
	config.incarnation = notif_spi_int16(&rows, 0, 1, NULL);
	SetUserIdAndSecContext(caller, sec_context);
	return &config;
}

static void
note_name(void *ud, const char *name)
{
	NotifType  *type = ud;

	if (strncmp(name, "recipient.", 10) == 0)
		type->personal = true;
	else if (strncmp(name, "notif.", 6) != 0)
		type->names = lappend(type->names, pstrdup(name));
}

static void
type_compile(NotifType *type, const char *title, const char *body, const char *options)
{
	char		error[256] = "";
	NotifStatus status;
	MemoryContext old;

	type->ops = notif_provider_find("apns");
	status = type->ops->template_new(title, body, options, &type->tmpl, error, sizeof(error));
	if (status != NOTIF_OK)
		ereport(ERROR,
				errcode(status == NOTIF_ENOMEM ? ERRCODE_OUT_OF_MEMORY : ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the message of type \"%s\" does not compile", type->name),
				errdetail("%s", error),
				errhint("Define the type again."));
	old = MemoryContextSwitchTo(cache_context);
	type->ops->template_vars(type->tmpl, note_name, type);
	MemoryContextSwitchTo(old);
}

NotifType *
notif_type_get(const char *name)
{
	static NotifStmt lookup = {
		.sql = "SELECT t.id, t.tier, t.enabled, t.title, t.body, t.push::pg_catalog.text, t.ttl, "
		"'push' OPERATOR(pg_catalog.=) ANY (t.channels) "
		"FROM notif_private.type t WHERE t.name OPERATOR(pg_catalog.=) $1",
		.nargs = 1,.argtypes = {TEXTOID}
	};
	NotifType  *type;
	NotifType	fresh = {0};
	Datum		arg;
	NotifRows	rows;
	Interval   *ttl;

	if (strlen(name) >= sizeof(fresh.name))
		return NULL;
	(void) notif_config_get();
	type = hash_search(types, name, HASH_FIND, NULL);
	if (type != NULL)
		return type;

	type_cache_note_read();
	arg = CStringGetTextDatum(name);
	rows = notif_spi_run(&lookup, &arg, NULL, 1);
	if (rows.count == 0)
		return NULL;
	strlcpy(fresh.name, name, sizeof(fresh.name));
	fresh.id = notif_spi_int32(&rows, 0, 1, NULL);
	fresh.tier = notif_spi_int16(&rows, 0, 2, NULL);
	fresh.enabled = notif_spi_bool(&rows, 0, 3, NULL);
	ttl = DatumGetIntervalP(notif_spi_datum(&rows, 0, 7, NULL));
	fresh.ttl = *ttl;
	fresh.pushes = notif_spi_bool(&rows, 0, 8, NULL);
	if (fresh.pushes)
		type_compile(&fresh, notif_spi_text(&rows, 0, 4, CurrentMemoryContext),
					 notif_spi_text(&rows, 0, 5, CurrentMemoryContext),
					 notif_spi_text(&rows, 0, 6, CurrentMemoryContext));
	type = hash_search(types, name, HASH_ENTER, NULL);
	*type = fresh;
	return type;
}

Datum
notif_config_changed(PG_FUNCTION_ARGS)
{
	Oid			relid = get_relname_relid("type", get_namespace_oid(NOTIF_PRIVATE_SCHEMA, false));

	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);

	/*
	 * A worker that sleeps sees no invalidation: a mended provider would wait
	 * for its next look.
	 */
	for (int tier = 0; tier < NOTIF_TIERS; tier++)
		notif_wake_for_change(tier);
	PG_RETURN_VOID();
}
