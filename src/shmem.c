/*
 * shmem.c
 *		The shared memory of notif and the SQL functions that show it.
 *
 * SQL-callable here (C symbol, result; the names of the OUT columns choose
 * what is shown, so the SQL declaration may list any of them in any order):
 *
 *	notif_worker_status()	SETOF record: database, kind, tier, pid, state,
 *							incarnation, started_at, restarts, crashes, last_error,
 *							last_error_at, heartbeat, turns, wakeups,
 *							transactions, errors, claimed, routed, sent,
 *							recorded, in_flight, backlog, failing
 *	notif_lane_status()		SETOF record: database, tier, lane, name,
 *							parked_until, in_flight, connections, backlog,
 *							last_error, last_error_at
 *	notif_boot_id_sql()		bigint, 0 when not preloaded
 *	notif_preloaded_sql()	boolean
 *
 * Lock notes stand beside the fields in shmem.h.
 */
#include "postgres.h"

#include <signal.h>

#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "notif.h"
#include "shmem.h"
#include "wake.h"

NotifShared *notif_shared = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

PG_FUNCTION_INFO_V1(notif_worker_status);
PG_FUNCTION_INFO_V1(notif_lane_status);
PG_FUNCTION_INFO_V1(notif_boot_id_sql);
PG_FUNCTION_INFO_V1(notif_preloaded_sql);

static void shmem_request(void);
static void shmem_startup(void);
static void shmem_init_database(NotifDatabaseSlot *database);
static void shmem_put_row(ReturnSetInfo *rsinfo, const void *row,
						  bool (*column) (const void *row, const char *name, Datum *value));
static bool shmem_worker_column(const void *row, const char *name, Datum *value);
static bool shmem_lane_column(const void *row, const char *name, Datum *value);
static const char *shmem_state_text(const NotifDatabaseSlot *database, int index);

void
notif_shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(MAXALIGN(sizeof(NotifShared)));
	RequestNamedLWLockTranche("notif", 2);
}

/* Runs at server start and again after each crash cycle, with fresh memory. */
static void
shmem_startup(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	notif_shared = ShmemInitStruct("notif", sizeof(NotifShared), &found);
	if (!found)
	{
		memset(notif_shared, 0, sizeof(NotifShared));
		notif_shared->lock = &GetNamedLWLockTranche("notif")[0].lock;
		notif_shared->lane_lock = &GetNamedLWLockTranche("notif")[1].lock;
		do
		{
			if (!pg_strong_random(&notif_shared->boot_id, sizeof(notif_shared->boot_id)))
				ereport(FATAL,
						(errcode(ERRCODE_INTERNAL_ERROR),
						 errmsg("notif could not get random bytes for its boot id")));
		} while (notif_shared->boot_id == 0);
		pg_atomic_init_u32(&notif_shared->launcher_procno, UINT32_MAX);
		pg_atomic_init_u32(&notif_shared->launcher_wake, 0);
		pg_atomic_init_u64(&notif_shared->clock_offset_us, 0);
		pg_atomic_init_u64(&notif_shared->clock_base_ms, 0);
		pg_atomic_init_u64(&notif_shared->clock_doubt_ms, 0);
		pg_atomic_init_u64(&notif_shared->last_incarnation, 0);
		ConditionVariableInit(&notif_shared->slot_freed);
		for (int i = 0; i < NOTIF_MAX_DATABASES; i++)
			shmem_init_database(&notif_shared->databases[i]);
		notif_lane_shmem_init(&notif_shared->lanes);
	}
	LWLockRelease(AddinShmemInitLock);
}

static void
shmem_init_database(NotifDatabaseSlot *database)
{
	pg_atomic_init_u32(&database->dboid, InvalidOid);
	pg_atomic_init_u64(&database->optouts, 0);
	pg_atomic_init_u32(&database->asking, 0);
	for (int t = 0; t < NOTIF_TIERS; t++)
		pg_atomic_init_u32(&database->checked[t], 0);
	for (int i = 0; i < NOTIF_WORKERS_PER_DB; i++)
	{
		NotifWorkerSlot *slot = &database->workers[i];

		slot->restarts = -1;
		pg_atomic_init_u32(&slot->procno, UINT32_MAX);
		pg_atomic_init_u32(&slot->asleep, 0);
		pg_atomic_init_u32(&slot->deaf, 0);
		pg_atomic_init_u32(&slot->wake, 0);
		pg_atomic_init_u64(&slot->heartbeat, 0);
		for (int c = 0; c < NOTIF_COUNTERS; c++)
			pg_atomic_init_u64(&slot->counters[c], 0);
	}
}

int
notif_worker_slot_index(NotifWorkerKind kind, int tier)
{
	switch (kind)
	{
		case NOTIF_WORKER_UPKEEP:
			return 0;
		case NOTIF_WORKER_ROUTER:
			Assert(tier >= 0 && tier < NOTIF_TIERS);
			if (!NOTIF_TIER_IS_FUSED(tier))
				return tier;
			/* FALLTHROUGH */
		case NOTIF_WORKER_DISPATCHER:
			Assert(tier >= 0 && tier < NOTIF_TIERS);
			return NOTIF_TIERS + tier;
		case NOTIF_WORKER_CONDITIONS:
			return 2 * NOTIF_TIERS;
	}
	elog(ERROR, "unknown kind of notif worker: %d", (int) kind);
	return -1;
}

NotifWorkerKind
notif_worker_slot_kind(int index)
{
	if (index == 0)
		return NOTIF_WORKER_UPKEEP;
	if (index == 2 * NOTIF_TIERS)
		return NOTIF_WORKER_CONDITIONS;
	return index < NOTIF_TIERS ? NOTIF_WORKER_ROUTER : NOTIF_WORKER_DISPATCHER;
}

int
notif_worker_slot_tier(int index)
{
	return index == 0 || index == 2 * NOTIF_TIERS ? NOTIF_TIER_NONE : index % NOTIF_TIERS;
}

int64
notif_next_incarnation(void)
{
	uint64		last = pg_atomic_read_u64(&notif_shared->last_incarnation);
	uint64		next;

	do
	{
		next = Max(last + 1, (uint64) GetCurrentTimestamp());
	} while (!pg_atomic_compare_exchange_u64(&notif_shared->last_incarnation, &last, next));
	return (int64) next;
}

int64
notif_clock_offset_us(void)
{
	if (notif_shared == NULL)
		return 0;
	return (int64) pg_atomic_read_u64(&notif_shared->clock_offset_us);
}

void
notif_clock_shift(int64 us)
{
	int64		next;

	notif_require_preload();
	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	if (pg_add_s64_overflow(notif_clock_offset_us(), us, &next))
	{
		LWLockRelease(notif_shared->lock);
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("clock shift out of range")));
	}
	pg_atomic_write_u64(&notif_shared->clock_offset_us, (uint64) next);

	/* what is due may have changed for everybody */
	for (int d = 0; d < NOTIF_MAX_DATABASES; d++)
	{
		if (notif_shared->databases[d].in_use)
		{
			for (int i = 0; i < NOTIF_WORKERS_PER_DB; i++)
				notif_wake_slot(&notif_shared->databases[d].workers[i]);
		}
	}
	LWLockRelease(notif_shared->lock);
}

uint64
notif_boot(void)
{
	return notif_shared ? notif_shared->boot_id : 0;
}

void
notif_worker_tell_to_end(NotifWorkerSlot *slot)
{
	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	if (slot->pid != 0)
	{
		slot->state = NOTIF_STATE_STOPPING;
		kill(slot->pid, SIGTERM);
	}
	LWLockRelease(notif_shared->lock);
}

void
notif_database_report(int database, NotifDatabaseState state)
{
	NotifDatabaseSlot *slot = &notif_shared->databases[database];
	bool		news;

	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	news = slot->state != state;
	slot->state = state;
	LWLockRelease(notif_shared->lock);

	if (news)
		notif_nudge_launcher();
}

void
notif_lane_publish(int database, int tier, int64 lane_id, const char *name,
				   TimestampTz parked_until, int in_flight, int connections,
				   int backlog, const char *last_error)
{
	NotifLaneSlot *lanes = notif_shared->databases[database].lanes[tier];
	NotifLaneSlot *lane = NULL;

	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < NOTIF_MAX_LANES; i++)
	{
		if (!lanes[i].in_use)
		{
			/* lanes are never removed singly: the first free one ends the list */
			lane = &lanes[i];
			memset(lane, 0, sizeof(*lane));
			lane->in_use = true;
			lane->lane_id = lane_id;
			break;
		}
		if (lanes[i].lane_id == lane_id)
		{
			lane = &lanes[i];
			break;
		}
	}
	if (lane != NULL)
	{
		strlcpy(lane->name, name ? name : "", sizeof(lane->name));
		lane->parked_until = parked_until;
		lane->in_flight = in_flight;
		lane->connections = connections;
		lane->backlog = backlog;
		if (last_error && last_error[0] != '\0')
		{
			lane->last_error_at = GetCurrentTimestamp();
			strlcpy(lane->last_error, last_error, sizeof(lane->last_error));
		}
	}
	LWLockRelease(notif_shared->lock);
}

void
notif_lane_forget(int database, int tier)
{
	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	memset(notif_shared->databases[database].lanes[tier], 0,
		   sizeof(notif_shared->databases[database].lanes[tier]));
	LWLockRelease(notif_shared->lock);
}

Datum
notif_boot_id_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) notif_boot());
}

Datum
notif_preloaded_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(notif_preloaded());
}

/* What the column functions of worker_status see: a copy, taken under the lock. */
typedef struct StatusWorkerRow
{
	const char *database;
	int			index;
	const char *state;
	NotifWorkerSlot slot;
} StatusWorkerRow;

typedef struct StatusLaneRow
{
	const char *database;
	int			tier;
	NotifLaneSlot lane;
} StatusLaneRow;

/*
 * Rows are copied out under the lock and formed after it: forming them
 * allocates, and an ERROR or an interrupt must not meet the lock.
 */
Datum
notif_worker_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	StatusWorkerRow *rows;
	char	   *names;
	int			n = 0;

	notif_require_preload();
	InitMaterializedSRF(fcinfo, 0);

	rows = palloc0(sizeof(StatusWorkerRow) * NOTIF_MAX_DATABASES * NOTIF_WORKERS_PER_DB);
	names = palloc0(NOTIF_MAX_DATABASES * NAMEDATALEN);

	LWLockAcquire(notif_shared->lock, LW_SHARED);
	for (int d = 0; d < NOTIF_MAX_DATABASES; d++)
	{
		const NotifDatabaseSlot *database = &notif_shared->databases[d];
		char	   *name = names + d * NAMEDATALEN;

		if (!database->in_use)
			continue;
		strlcpy(name, database->name, NAMEDATALEN);
		for (int i = 0; i < NOTIF_WORKERS_PER_DB; i++)
		{
			rows[n].database = name;
			rows[n].index = i;
			rows[n].state = shmem_state_text(database, i);
			memcpy(&rows[n].slot, &database->workers[i], sizeof(NotifWorkerSlot));
			n++;
		}
	}
	LWLockRelease(notif_shared->lock);

	for (int i = 0; i < n; i++)
		shmem_put_row(rsinfo, &rows[i], shmem_worker_column);
	return (Datum) 0;
}

Datum
notif_lane_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	NotifLaneSlot *lanes;
	char		name[NAMEDATALEN];

	notif_require_preload();
	InitMaterializedSRF(fcinfo, 0);

	lanes = palloc(sizeof(notif_shared->databases[0].lanes));
	for (int d = 0; d < NOTIF_MAX_DATABASES; d++)
	{
		const NotifDatabaseSlot *database = &notif_shared->databases[d];
		bool		in_use;

		LWLockAcquire(notif_shared->lock, LW_SHARED);
		in_use = database->in_use;
		if (in_use)
		{
			strlcpy(name, database->name, sizeof(name));
			memcpy(lanes, database->lanes, sizeof(database->lanes));
		}
		LWLockRelease(notif_shared->lock);
		if (!in_use)
			continue;

		for (int i = 0; i < NOTIF_TIERS * NOTIF_MAX_LANES; i++)
		{
			StatusLaneRow row = {.database = name, .tier = i / NOTIF_MAX_LANES};

			if (!lanes[i].in_use)
				continue;
			row.lane = lanes[i];
			shmem_put_row(rsinfo, &row, shmem_lane_column);
		}
	}
	return (Datum) 0;
}

/* Forms one row: each column of the declared type is asked for by its name. */
static void
shmem_put_row(ReturnSetInfo *rsinfo, const void *row,
			  bool (*column) (const void *row, const char *name, Datum *value))
{
	TupleDesc	desc = rsinfo->setDesc;
	Datum	   *values = palloc0(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc0(sizeof(bool) * desc->natts);

	for (int i = 0; i < desc->natts; i++)
		nulls[i] = !column(row, NameStr(TupleDescAttr(desc, i)->attname), &values[i]);
	tuplestore_putvalues(rsinfo->setResult, desc, values, nulls);
	pfree(values);
	pfree(nulls);
}

static bool
shmem_time(TimestampTz at, Datum *value)
{
	*value = TimestampTzGetDatum(at);
	return at != 0;
}

static bool
shmem_string(const char *text, Datum *value)
{
	if (text[0] == '\0')
		return false;
	*value = CStringGetTextDatum(text);
	return true;
}

/*
 * Counters are int8 or int4 in the declaration; both read the low bits of the
 * same Datum.
 */
static bool
shmem_worker_column(const void *row, const char *name, Datum *value)
{
	static const struct
	{
		const char *name;
		NotifCounter counter;
	}			counters[] =
	{
		{"turns", NOTIF_COUNT_TURNS},
		{"wakeups", NOTIF_COUNT_WAKEUPS},
		{"transactions", NOTIF_COUNT_TRANSACTIONS},
		{"errors", NOTIF_COUNT_ERRORS},
		{"claimed", NOTIF_COUNT_CLAIMS},
		{"routed", NOTIF_COUNT_ROUTED},
		{"sent", NOTIF_COUNT_SENT},
		{"recorded", NOTIF_COUNT_RECORDED},
		{"in_flight", NOTIF_COUNT_IN_FLIGHT},
		{"backlog", NOTIF_COUNT_BACKLOG},
		{"failing", NOTIF_COUNT_FAILING}
	};
	const StatusWorkerRow *worker = row;
	NotifWorkerSlot *slot = unconstify(NotifWorkerSlot *, &worker->slot);
	int			tier = notif_worker_slot_tier(worker->index);

	for (size_t i = 0; i < lengthof(counters); i++)
	{
		if (strcmp(name, counters[i].name) == 0)
		{
			*value = Int64GetDatum((int64) pg_atomic_read_u64(&slot->counters[counters[i].counter]));
			return true;
		}
	}
	if (strcmp(name, "database") == 0)
	{
		*value = DirectFunctionCall1(namein, CStringGetDatum(worker->database));
		return true;
	}
	if (strcmp(name, "kind") == 0)
		return shmem_string(notif_worker_kind_name(notif_worker_slot_kind(worker->index)), value);
	if (strcmp(name, "tier") == 0)
		return tier != NOTIF_TIER_NONE && shmem_string(notif_tier_name(tier), value);
	if (strcmp(name, "pid") == 0)
	{
		*value = Int32GetDatum(slot->pid);
		return slot->pid != 0;
	}
	if (strcmp(name, "state") == 0)
		return shmem_string(worker->state, value);
	if (strcmp(name, "incarnation") == 0)
	{
		*value = Int64GetDatum(slot->incarnation);
		return slot->incarnation != 0;
	}
	if (strcmp(name, "started_at") == 0)
		return shmem_time(slot->started_at, value);
	if (strcmp(name, "restarts") == 0)
	{
		*value = Int64GetDatum(Max(slot->restarts, 0));
		return true;
	}
	if (strcmp(name, "crashes") == 0)
	{
		*value = Int32GetDatum(slot->crashes);
		return true;
	}
	if (strcmp(name, "last_error") == 0)
		return shmem_string(slot->last_error, value);
	if (strcmp(name, "last_error_at") == 0)
		return shmem_time(slot->last_error_at, value);
	if (strcmp(name, "heartbeat") == 0)
		return shmem_time((TimestampTz) pg_atomic_read_u64(&slot->heartbeat), value);

	elog(ERROR, "notif_worker_status knows no column \"%s\"", name);
	return false;
}

static bool
shmem_lane_column(const void *row, const char *name, Datum *value)
{
	const StatusLaneRow *status = row;
	const NotifLaneSlot *lane = &status->lane;

	if (strcmp(name, "database") == 0)
	{
		*value = DirectFunctionCall1(namein, CStringGetDatum(status->database));
		return true;
	}
	if (strcmp(name, "tier") == 0)
		return shmem_string(notif_tier_name(status->tier), value);
	if (strcmp(name, "lane") == 0)
		*value = Int64GetDatum(lane->lane_id);
	else if (strcmp(name, "name") == 0)
		return shmem_string(lane->name, value);
	else if (strcmp(name, "parked_until") == 0)
		return shmem_time(lane->parked_until, value);
	else if (strcmp(name, "in_flight") == 0)
		*value = Int32GetDatum(lane->in_flight);
	else if (strcmp(name, "connections") == 0)
		*value = Int32GetDatum(lane->connections);
	else if (strcmp(name, "backlog") == 0)
		*value = Int32GetDatum(lane->backlog);
	else if (strcmp(name, "last_error") == 0)
		return shmem_string(lane->last_error, value);
	else if (strcmp(name, "last_error_at") == 0)
		return shmem_time(lane->last_error_at, value);
	else
		elog(ERROR, "notif_lane_status knows no column \"%s\"", name);
	return true;
}

/* Why a worker does not run is the question, so a stopped one says it. */
static const char *
shmem_state_text(const NotifDatabaseSlot *database, int index)
{
	switch (database->workers[index].state)
	{
		case NOTIF_STATE_STARTING:
			return "starting";
		case NOTIF_STATE_RUNNING:
			if (index == 0 && database->state == NOTIF_DB_WAITING)
				return "waiting for confirm_instance";
			if (index == 0 && database->state == NOTIF_DB_OTHER_VERSION)
				return "waiting for one version";
			return "running";
		case NOTIF_STATE_STOPPING:
			return "stopping";
		case NOTIF_STATE_STOPPED:
			break;
	}
	if (database->hold_pid != 0)
		return "held by database command";
	switch (database->state)
	{
		case NOTIF_DB_MISSING:
			return "waiting for database";
		case NOTIF_DB_NO_EXTENSION:
			return "waiting for extension";
		case NOTIF_DB_OTHER_VERSION:
			return "waiting for one version";
		case NOTIF_DB_WAITING:
			return "waiting for confirm_instance";
		default:
			return database->workers[index].crashes > 1 ? "waiting after crashes" : "stopped";
	}
}
