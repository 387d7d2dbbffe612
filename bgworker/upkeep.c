/*
 * upkeep.c
 *		One per database: asks the SQL of 92-upkeep.sql for its next step and does
 *		what SQL cannot.
 *
 * It is the first worker of a database and decides whether the others may run,
 * which the launcher reads from shared memory: the library must be of the same
 * release as the objects, and worker_instance_check() must know the instance.
 * Of another release it calls nothing at all.  Partitions are made and emptied
 * also while the instance waits for confirmation: publishing never depends on
 * who may send.
 *
 * A step is one transaction.  It may name an empty partition to be detached,
 * which must not lock the parent and so runs concurrently at the top level; a
 * detach that a crash or a long reader has left half done is finished first, at
 * the start and before each further one.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "../src/fault.h"
#include "../src/settings.h"
#include "../src/version.h"
#include "worker.h"

/* With nothing woken, the identity is looked at this often. */
#define CHECK_MS	30000

/* While waiting, every publish wakes us: look no more often than this. */
#define RECHECK_MS	1000
#define MIN_STEP_MS 1
#define FINALIZE_LOCK_MS 200

/*
 * A wall clock that jumps by so much is in doubt for so long: by a wrong one
 * everything would be past its retention at once.
 */
#define CLOCK_JUMP_MS	3600000
#define CLOCK_DOUBT_MS	86400000

typedef struct Upkeep
{
	bool		shells_seen;	/* leftovers of earlier lives are done with */
	bool		waiting;		/* for confirm_instance, and the log knows */
	bool		other_version;	/* of the objects, and the log knows */
	int64		checked_ms;
	int64		check_due_ms;
} Upkeep;

static NotifStmt stmt_check = {
	.sql = "SELECT notif_private.worker_instance_check($1)",
	.nargs = 1,.argtypes = {TEXTOID}
};

/* sql/92-upkeep.sql counts them */
#define UPKEEP_STEPS 16
#define UPKEEP_STEP_KEYS 9		/* expired idempotency keys */
#define UPKEEP_STEP_RETENTION 11

static NotifStmt stmt_step = {
	.sql = "SELECT u.did, u.next_due_ms, u.detach_parent, u.detach_child"
	" FROM notif_private.worker_upkeep(pg_catalog.make_interval(days => $1), $2) u",
	.nargs = 2,.argtypes = {INT4OID, INT4OID}
};

static NotifStmt stmt_shells = {
	.sql = "SELECT s.parent, s.child, s.pending FROM notif_private.worker_shells() s",
	.nargs = 0
};

static NotifStmt stmt_drop = {
	.sql = "SELECT notif_private.worker_drop_shell($1)",
	.nargs = 1,.argtypes = {TEXTOID}
};

static long upkeep_work(NotifWorker *worker, void *arg);
static void upkeep_recover(NotifWorker *worker, void *arg);
static bool upkeep_check_version(NotifWorker *worker, Upkeep *upkeep);
static bool upkeep_check_instance(NotifWorker *worker, Upkeep *upkeep);
static bool upkeep_finish_shells(NotifWorker *worker);
static bool upkeep_detach(NotifWorker *worker, const char *parent, const char *child);
static bool upkeep_drop(NotifWorker *worker, const char *child);
static void upkeep_alter(NotifWorker *worker, const char *parent, const char *child,
						 bool finalize);
static bool upkeep_trusts_clock(void);

void
notif_upkeep_run(NotifWorker *worker)
{
	static const NotifWorkerOps ops = {
		.work = upkeep_work,
		.recover = upkeep_recover
	};
	Upkeep		upkeep = {0};

	if (!notif_worker_own(worker, NOTIF_WORKER_UPKEEP, 0))
		return;
	notif_worker_loop(worker, &ops, &upkeep);
}

/*
 * Returns without a transaction wherever notif_worker_begin has found the
 * extension gone: the loop then ends.
 */
static long
upkeep_work(NotifWorker *worker, void *arg)
{
	Upkeep	   *upkeep = arg;
	Datum		args[2];
	NotifRows	rows;
	char	   *parent;
	char	   *child;
	long		next_ms;
	bool		trusted;

	if (worker->woken || worker->reloaded)
		upkeep->check_due_ms = upkeep->waiting ? upkeep->checked_ms + RECHECK_MS : 0;
	if (upkeep->waiting && worker->woken && notif_monotonic_ms() < upkeep->check_due_ms)
		return Max((long) (upkeep->check_due_ms - notif_monotonic_ms()), MIN_STEP_MS);
	if (notif_monotonic_ms() >= upkeep->check_due_ms)
	{
		if (!upkeep_check_version(worker, upkeep))
			return 0;
		if (!upkeep->other_version && !upkeep_check_instance(worker, upkeep))
			return 0;
		upkeep->checked_ms = notif_monotonic_ms();
		upkeep->check_due_ms = upkeep->checked_ms + CHECK_MS;
	}
	if (upkeep->other_version)
		return Max((long) (upkeep->check_due_ms - notif_monotonic_ms()), MIN_STEP_MS);
	if (!upkeep->shells_seen)
	{
		if (!upkeep_finish_shells(worker))
			return 0;
		upkeep->shells_seen = true;
	}

	/* Each step in a transaction of its own: a lock on a child ends with it. */
	next_ms = NOTIF_MAX_SLEEP_MS;
	trusted = upkeep_trusts_clock();
	for (int step = 1; step <= UPKEEP_STEPS && !worker->stopping; step++)
	{
		if (!trusted && (step == UPKEEP_STEP_KEYS || step == UPKEEP_STEP_RETENTION))
			continue;
		if (!notif_worker_begin(worker, "notif: upkeep step"))
			return 0;
		args[0] = Int32GetDatum(guc_retention_days);
		args[1] = Int32GetDatum(step);
		rows = notif_spi_run(&stmt_step, args, NULL, 1);
		next_ms = Min(next_ms, notif_spi_int32(&rows, 0, 2, NULL));
		parent = notif_spi_text(&rows, 0, 3, worker->turn);
		child = notif_spi_text(&rows, 0, 4, worker->turn);
		/* rings are turned and schedules emptied in steps 2 to 7 */
		if (child != NULL || (step >= 2 && step <= 7 && notif_spi_bool(&rows, 0, 1, NULL)))
			NOTIF_FAULT(K8a);
		notif_worker_commit(worker, false);
		if (child != NULL && !upkeep_detach(worker, parent, child))
			return 0;
	}
	return Max(next_ms, MIN_STEP_MS);
}

/*
 * Whether the wall clock has kept pace with the monotonic one.  What is deleted by
 * a clock that was wrong for a minute does not come back; what is kept for a day
 * longer harms nobody.  Shared memory remembers, so that a restart of this process
 * does not take the wrong time for the right one.
 */
static bool
upkeep_trusts_clock(void)
{
	int64		monotonic_ms = notif_monotonic_ms();
	int64		base_ms = GetCurrentTimestamp() / 1000 - monotonic_ms;
	int64		old_ms = (int64) pg_atomic_exchange_u64(&notif_shared->clock_base_ms, (uint64) base_ms);
	int64		jump_ms = base_ms - old_ms;

	if (old_ms != 0 && (jump_ms > CLOCK_JUMP_MS || jump_ms < -CLOCK_JUMP_MS))
	{
		pg_atomic_write_u64(&notif_shared->clock_doubt_ms, (uint64) (monotonic_ms + CLOCK_DOUBT_MS));
		ereport(LOG,
				errmsg("the clock has jumped by %lld s: notif deletes nothing by its age for a day",
					   (long long) (jump_ms / 1000)),
				errhint("If it is wrong, set it right; retention goes on by itself."));
	}
	return monotonic_ms >= (int64) pg_atomic_read_u64(&notif_shared->clock_doubt_ms);
}

/* An ERROR may have left a detach half done. */
static void
upkeep_recover(NotifWorker *worker, void *arg)
{
	((Upkeep *) arg)->shells_seen = false;
	notif_worker_lock_timeout(NOTIF_LOCK_TIMEOUT_MS);
}

/*
 * Whether library and objects are of one release.  ALTER EXTENSION … UPDATE starts
 * all workers anew, a restart of the server does so anyway, so this is asked early.
 */
static bool
upkeep_check_version(NotifWorker *worker, Upkeep *upkeep)
{
	char	   *version;
	bool		other;

	if (!notif_worker_begin(worker, "notif: version check"))
		return false;
	version = notif_extension_version();
	other = version == NULL || strcmp(version, NOTIF_VERSION) != 0;
	if (other && !upkeep->other_version)
		ereport(LOG,
				(errmsg("notif sends nothing from database \"%s\": the extension there is version %s, the server has loaded version %s",
						worker->dbname, version != NULL ? version : "unknown", NOTIF_VERSION),
				 errhint("If the extension is the older one, run: ALTER EXTENSION notif UPDATE; if the library is, restart the server.")));
	notif_worker_commit(worker, false);
	upkeep->other_version = other;
	if (other)
		notif_database_report(worker->database, NOTIF_DB_OTHER_VERSION);
	return true;
}

/* Tells the launcher whether routers and dispatchers may run here. */
static bool
upkeep_check_instance(NotifWorker *worker, Upkeep *upkeep)
{
	Datum		guard;
	NotifRows	rows;
	char	   *verdict;
	bool		ok;

	if (!notif_worker_begin(worker, "notif: instance check"))
		return false;
	guard = CStringGetTextDatum(guc_instance_guard == NOTIF_GUARD_CONFIRM ? "confirm" : "off");
	rows = notif_spi_run(&stmt_check, &guard, NULL, 1);
	verdict = notif_spi_text(&rows, 0, 1, worker->turn);
	notif_worker_commit(worker, true);

	ok = verdict != NULL && strcmp(verdict, "ok") == 0;
	if (!ok && !upkeep->waiting)
		ereport(LOG,
				(errmsg("notif sends nothing from database \"%s\" until the instance is confirmed",
						worker->dbname),
				 errdetail("It looks like a restore, a clone or a copy of the installation that sent last, or notif.instance_guard asks for confirmation."),
				 errhint("When the original is stopped for good, run: SELECT notif.confirm_instance();")));
	upkeep->waiting = !ok;
	notif_database_report(worker->database, ok ? NOTIF_DB_READY : NOTIF_DB_WAITING);
	return true;
}

/* What an earlier life has left: detaches half done, shells not dropped. */
static bool
upkeep_finish_shells(NotifWorker *worker)
{
	typedef struct Shell
	{
		char	   *parent;
		char	   *child;
		bool		pending;
	} Shell;

	NotifRows	rows;
	Shell	   *shells;
	uint64		count;

	if (!notif_worker_begin(worker, "notif: look for detached partitions"))
		return false;
	rows = notif_spi_run(&stmt_shells, NULL, NULL, 0);
	count = rows.count;
	shells = MemoryContextAllocZero(worker->turn, sizeof(Shell) * Max(count, 1));
	for (uint64 i = 0; i < count; i++)
	{
		shells[i].parent = notif_spi_text(&rows, i, 1, worker->turn);
		shells[i].child = notif_spi_text(&rows, i, 2, worker->turn);
		shells[i].pending = notif_spi_bool(&rows, i, 3, NULL);
	}
	notif_worker_commit(worker, false);

	for (uint64 i = 0; i < count; i++)
	{
		if (shells[i].pending)
			upkeep_alter(worker, shells[i].parent, shells[i].child, true);
		if (!upkeep_drop(worker, shells[i].child))
			return false;
	}
	return true;
}

/* At most one detach may be pending under a parent. */
static bool
upkeep_detach(NotifWorker *worker, const char *parent, const char *child)
{
	if (!upkeep_finish_shells(worker))
		return false;
	upkeep_alter(worker, parent, child, false);
	NOTIF_FAULT(K8b);
	return upkeep_drop(worker, child);
}

static bool
upkeep_drop(NotifWorker *worker, const char *child)
{
	Datum		name;

	if (!notif_worker_begin(worker, "notif: drop an empty partition"))
		return false;
	name = CStringGetTextDatum(child);
	(void) notif_spi_run(&stmt_drop, &name, NULL, 1);
	notif_worker_commit(worker, false);
	return true;
}

/*
 * ALTER TABLE … DETACH PARTITION … CONCURRENTLY | FINALIZE.  The first waits for
 * transactions that use the parent, with nothing locked against them, until its
 * lock_timeout; then the detach stays pending and is finished later.
 *
 * FINALIZE locks the partition and then waits for older snapshots, one of which
 * may belong to a query that wants the partition: a deadlock, and its victim may
 * be the other one.  So it gives up well before deadlock_timeout.
 */
static void
upkeep_alter(NotifWorker *worker, const char *parent, const char *child, bool finalize)
{
	StringInfoData sql;
	Oid			relation;

	if (!notif_worker_begin(worker, "notif: find a partition's parent"))
		return;
	relation = get_relname_relid(parent, get_namespace_oid(NOTIF_PRIVATE_SCHEMA, false));
	notif_worker_commit(worker, false);
	if (!OidIsValid(relation))
		return;

	initStringInfo(&sql);
	appendStringInfo(&sql, "ALTER TABLE %s.%s", NOTIF_PRIVATE_SCHEMA, quote_identifier(parent));
	appendStringInfo(&sql, " DETACH PARTITION %s.%s %s", NOTIF_PRIVATE_SCHEMA,
					 quote_identifier(child), finalize ? "FINALIZE" : "CONCURRENTLY");
	if (finalize)
		notif_worker_lock_timeout(FINALIZE_LOCK_MS);
	notif_worker_interruptible(true);
	notif_toplevel_run(sql.data, relation);
	notif_worker_interruptible(false);
	notif_worker_lock_timeout(NOTIF_LOCK_TIMEOUT_MS);
}
