/*
 * lane_switch.c
 *		Breakers and pacers as SQL sees them.
 *
 * A breaker that a session opens or closes changes at the very end of its commit,
 * when others can see what else it has changed (a provider's new key, see wake.c),
 * and not at all if it, or the subtransaction that did it, is rolled back.  Until
 * then the wish stands in a list of this backend.  Its row of the log is the SQL
 * caller's to write, in the same transaction, under the epoch that is returned.
 *
 * SQL-callable here:
 *
 *	notif_breaker_known_sql(provider, route)	boolean: its state is in shared
 *						memory; else restore it
 *	notif_breaker_restore_sql(provider, route, epoch, at, state, cause, step,
 *						probe_at, why, by)
 *	notif_breaker_switch_sql(provider, route, open, mend, why, by)
 *						record: epoch, from_state; NULL: nothing to do
 *	notif_breaker_status_sql()	SETOF record, this database's
 *	notif_pacer_status_sql()	SETOF record, this database's
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "ids.h"
#include "lane_shmem.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(notif_breaker_known_sql);
PG_FUNCTION_INFO_V1(notif_breaker_restore_sql);
PG_FUNCTION_INFO_V1(notif_breaker_switch_sql);
PG_FUNCTION_INFO_V1(notif_breaker_status_sql);
PG_FUNCTION_INFO_V1(notif_pacer_status_sql);

#define BREAKER_COLUMNS 12
#define PACER_COLUMNS 6

/* What this transaction does to a breaker when it commits. */
typedef struct LaneSwitch
{
	NotifBreakerRef ref;
	bool		open;
	uint64		epoch;
	SubTransactionId subid;
	char		why[NOTIF_BREAKER_WHY];
	char		by[NAMEDATALEN];
} LaneSwitch;

/* In TopTransactionContext; NIL between transactions. */
static List *pending = NIL;

/* The transaction has committed and is about to be done. */
static bool due = false;

static void switch_register(void);
static void switch_at_xact_end(XactEvent event, void *arg);
static void switch_at_release(ResourceReleasePhase phase, bool is_commit, bool is_top, void *arg);
static void switch_at_subxact_end(SubXactEvent event, SubTransactionId subid,
								  SubTransactionId parent, void *arg);
static LaneSwitch *switch_pending(NotifBreakerRef ref);
static void switch_text(FunctionCallInfo fcinfo, int arg, char *to, size_t size);
static Datum status_time(TimestampTz at, bool *isnull);
static Datum status_text(const char *text, bool *isnull);

Datum
notif_breaker_known_sql(PG_FUNCTION_ARGS)
{
	bool		known;

	notif_require_preload();
	(void) notif_breaker_find(PG_GETARG_INT32(0), PG_GETARG_INT32(1), &known);
	PG_RETURN_BOOL(known);
}

Datum
notif_breaker_restore_sql(PG_FUNCTION_ARGS)
{
	NotifBreakerChange last = {0};
	NotifBreakerRef ref;
	char		word[32];
	char		by[NAMEDATALEN];
	bool		known;

	notif_require_preload();
	ref = notif_breaker_find(PG_GETARG_INT32(0), PG_GETARG_INT32(1), &known);
	last.epoch = PG_ARGISNULL(2) ? 1 : (uint64) PG_GETARG_INT64(2);
	last.at = PG_ARGISNULL(3) ? notif_now() : PG_GETARG_TIMESTAMPTZ(3);
	switch_text(fcinfo, 4, word, sizeof(word));
	/* a word that we do not know is one of a later version: begin anew */
	if (!notif_breaker_state_parse(word, &last.to))
		last.to = NOTIF_BREAKER_CLOSED;
	switch_text(fcinfo, 5, word, sizeof(word));
	if (!notif_breaker_cause_parse(word, &last.cause))
		last.cause = NOTIF_BREAKER_CAUSE_NONE;
	last.step = PG_ARGISNULL(6) ? 0 : PG_GETARG_INT32(6);
	last.probe_at = PG_ARGISNULL(7) ? last.at : PG_GETARG_TIMESTAMPTZ(7);
	switch_text(fcinfo, 8, last.why, sizeof(last.why));
	switch_text(fcinfo, 9, by, sizeof(by));
	notif_breaker_recall(ref, &last, by);
	PG_RETURN_VOID();
}

Datum
notif_breaker_switch_sql(PG_FUNCTION_ARGS)
{
	bool		open = PG_GETARG_BOOL(2);
	bool		mend = PG_GETARG_BOOL(3);
	NotifBreakerState from = NOTIF_BREAKER_CLOSED;
	NotifBreakerRef ref;
	LaneSwitch *wish;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false};
	uint64		epoch;
	bool		known;
	MemoryContext old;

	notif_require_preload();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	ref = notif_breaker_find(PG_GETARG_INT32(0), PG_GETARG_INT32(1), &known);

	/* what this transaction has done before is what it sees */
	wish = switch_pending(ref);
	if (wish != NULL && (wish->open == open || mend))
		PG_RETURN_NULL();
	if (!notif_breaker_reserve(ref, open, mend, wish != NULL, &epoch, &from))
		PG_RETURN_NULL();
	if (wish != NULL)
		from = wish->open ? NOTIF_BREAKER_OPEN : NOTIF_BREAKER_CLOSED;

	switch_register();
	old = MemoryContextSwitchTo(TopTransactionContext);
	wish = palloc0(sizeof(LaneSwitch));
	wish->ref = ref;
	wish->open = open;
	wish->epoch = epoch;
	wish->subid = GetCurrentSubTransactionId();
	switch_text(fcinfo, 4, wish->why, sizeof(wish->why));
	switch_text(fcinfo, 5, wish->by, sizeof(wish->by));
	pending = lappend(pending, wish);
	MemoryContextSwitchTo(old);

	values[0] = Int64GetDatum((int64) epoch);
	values[1] = CStringGetTextDatum(notif_breaker_state_text(from));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* Once per backend, never per transaction. */
static void
switch_register(void)
{
	static bool registered = false;

	if (registered)
		return;
	RegisterXactCallback(switch_at_xact_end, NULL);
	RegisterResourceReleaseCallback(switch_at_release, NULL);
	RegisterSubXactCallback(switch_at_subxact_end, NULL);
	registered = true;
}

static void
switch_at_xact_end(XactEvent event, void *arg)
{
	if (pending == NIL)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:

			/*
			 * COMMIT PREPARED may be run by any backend, which knows nothing of
			 * the list.
			 */
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot PREPARE a transaction that has switched a breaker of notif"),
					 errdetail("A breaker changes when the session that switched it commits."),
					 errhint("Switch it in a transaction of its own.")));
			break;
		case XACT_EVENT_COMMIT:
			due = true;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			pending = NIL;
			break;
		default:
			break;
	}
}

/* Called for each owner of the transaction; the first one finds all done. */
static void
switch_at_release(ResourceReleasePhase phase, bool is_commit, bool is_top, void *arg)
{
	ListCell   *cell;

	if (!due || phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top)
		return;
	due = false;
	if (is_commit)
	{
		foreach(cell, pending)
		{
			const LaneSwitch *wish = lfirst(cell);

			notif_breaker_apply(wish->ref, wish->open, wish->epoch, wish->why, wish->by);
		}
	}
	pending = NIL;
}

static void
switch_at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	ListCell   *cell;

	foreach(cell, pending)
	{
		LaneSwitch *wish = lfirst(cell);

		if (wish->subid != subid)
			continue;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			pending = foreach_delete_current(pending, cell);
		else if (event == SUBXACT_EVENT_COMMIT_SUB)
			wish->subid = parent;
	}
}

/* The latest wish of this transaction for a breaker, NULL: none. */
static LaneSwitch *
switch_pending(NotifBreakerRef ref)
{
	LaneSwitch *found = NULL;
	ListCell   *cell;

	foreach(cell, pending)
	{
		LaneSwitch *wish = lfirst(cell);

		if (wish->ref.slot == ref.slot && wish->ref.provider == ref.provider && wish->ref.route == ref.route)
			found = wish;
	}
	return found;
}

/* A text argument, cut to fit; empty for null. */
static void
switch_text(FunctionCallInfo fcinfo, int arg, char *to, size_t size)
{
	to[0] = '\0';
	if (!PG_ARGISNULL(arg))
		text_to_cstring_buffer(PG_GETARG_TEXT_PP(arg), to, size);
}

/* ---- status ----------------------------------------------------------------------- */

static Datum
status_time(TimestampTz at, bool *isnull)
{
	*isnull = at == 0;
	return TimestampTzGetDatum(at);
}

static Datum
status_text(const char *text, bool *isnull)
{
	*isnull = text[0] == '\0';
	return *isnull ? (Datum) 0 : CStringGetTextDatum(text);
}

/* Copied under the lock, formed after it. */
Datum
notif_breaker_status_sql(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			extension = get_extension_oid(NOTIF_EXTENSION, true);
	NotifBreakerSlot *slots;
	int64		now_us = notif_lane_now_us();
	TimestampTz now = notif_now();
	int			n = 0;

	notif_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	slots = palloc(sizeof(NotifBreakerSlot) * NOTIF_MAX_BREAKERS);
	LWLockAcquire(notif_shared->lane_lock, LW_SHARED);
	for (int i = 0; i < NOTIF_MAX_BREAKERS; i++)
	{
		const NotifBreakerSlot *slot = &notif_shared->lanes.breakers[i];

		if (slot->key.dboid == MyDatabaseId && slot->key.extension == extension && slot->known)
			memcpy(&slots[n++], slot, sizeof(*slot));
	}
	LWLockRelease(notif_shared->lane_lock);

	for (int i = 0; i < n; i++)
	{
		const NotifBreakerSlot *slot = &slots[i];
		const NotifBreaker *b = &slot->core;
		NotifBreakerCounts counts;
		int64		wait = notif_breaker_wait_us(b, now_us, 0);
		TimestampTz probe_at = 0;
		Datum		values[BREAKER_COLUMNS];
		bool		nulls[BREAKER_COLUMNS] = {false};

		notif_breaker_counts(b, now_us, &counts);
		if (b->state == NOTIF_BREAKER_HALF_OPEN)
		{
			counts.results = (uint32) (b->good + b->failed + b->suspects);
			counts.failed = (uint32) b->failed;
			counts.suspects = (uint32) b->suspects;
		}
		if (b->state == NOTIF_BREAKER_OPEN)
			probe_at = wait == INT64_MAX ? DT_NOEND : now + wait;
		values[0] = Int32GetDatum(slot->key.provider);
		values[1] = Int32GetDatum(slot->key.route);
		values[2] = CStringGetTextDatum(notif_breaker_state_text(b->state));
		values[3] = CStringGetTextDatum(notif_breaker_cause_text(b->cause));
		values[4] = status_time(slot->since_at, &nulls[4]);
		values[5] = status_time(probe_at, &nulls[5]);
		values[6] = Int64GetDatum(counts.results);
		values[7] = Int64GetDatum(counts.failed);
		values[8] = Int64GetDatum(counts.suspects);
		values[9] = Int32GetDatum(notif_breaker_share(b, now_us) / 10);
		values[10] = status_text(slot->why, &nulls[10]);
		values[11] = status_text(slot->by, &nulls[11]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

Datum
notif_pacer_status_sql(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			extension = get_extension_oid(NOTIF_EXTENSION, true);
	NotifPacerSlot *slots;
	int64		now_us = notif_lane_now_us();
	TimestampTz now = notif_now();
	int			n = 0;

	notif_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	slots = palloc(sizeof(NotifPacerSlot) * NOTIF_MAX_PACERS);
	LWLockAcquire(notif_shared->lane_lock, LW_SHARED);
	for (int i = 0; i < NOTIF_MAX_PACERS; i++)
	{
		const NotifPacerSlot *slot = &notif_shared->lanes.pacers[i];

		if (slot->key.dboid == MyDatabaseId && slot->key.extension == extension)
			memcpy(&slots[n++], slot, sizeof(*slot));
	}
	LWLockRelease(notif_shared->lane_lock);

	for (int i = 0; i < n; i++)
	{
		NotifPacerSlot *slot = &slots[i];
		double		rate = notif_pacer_rate(&slot->core, now_us);
		int64		resume_us = notif_pacer_resume_us(&slot->core, now_us);
		Datum		values[PACER_COLUMNS];
		bool		nulls[PACER_COLUMNS] = {false};
		uint32		in_flight = 0;

		for (int tier = 0; tier < NOTIF_TIERS; tier++)
			in_flight += pg_atomic_read_u32(&slot->in_flight[tier]);
		values[0] = Int32GetDatum(slot->key.provider);
		values[1] = Float8GetDatum(rate);
		nulls[1] = rate <= 0;
		values[2] = Float8GetDatum(notif_pacer_tokens(&slot->core, now_us));
		nulls[2] = rate <= 0;
		values[3] = Int32GetDatum((int32) in_flight);
		values[4] = BoolGetDatum(slot->core.slow_rate > 0);
		values[5] = status_time(resume_us == INT64_MIN ? 0 : now + (resume_us - now_us), &nulls[5]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
