/*
 * worker.c
 *		The frame of every database worker: from the postmaster's fork to
 *		proc_exit.
 *
 * Slots.  The launcher writes the incarnation it wants into a slot and passes
 * it along; a process that finds another one there was overtaken and ends.  The
 * slot is given back by an exit hook that is registered before the connection
 * is made: hooks run last in first out, so whoever waits for a free slot (DROP
 * DATABASE) finds the process gone from the list of backends, too.
 *
 * Signals only set flags and the latch.  SIGTERM while idle ends the loop;
 * while SQL runs it interrupts workers that lose nothing by it (their
 * transaction is done again) and lets a dispatcher finish what it records, no
 * longer than notif.shutdown_grace.  A commit that waits for a standby is always
 * interruptible: otherwise a shutdown would wait for the standby.  A second SIGTERM
 * ends the process where it stands, but only some time after the first: the
 * postmaster signals a worker and then its process group, so that one shutdown
 * arrives as two signals.
 *
 * Errors.  A turn of the loop runs under PG_TRY.  An ERROR aborts its
 * transaction, is logged with this worker's name and pauses the work; the
 * process stays.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/pmsignal.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "../src/fault.h"
#include "../src/settings.h"
#include "../src/wake.h"
#include "priority.h"
#include "worker.h"

/*
 * The server leaves the alarm of a disabled timeout running, and an alarm sets
 * the latch.  So the timeout is about the longest sleep: then the stray alarm
 * of an idle worker's last transaction is its next regular turn.
 */
#define TIMEOUT_MS				(NOTIF_MAX_SLEEP_MS - 100)
#define TIMEOUT_UPKEEP_MS		300000
#define OWN_RETRY_MS			5000
#define SIGTERM_ECHO_MS			500 /* within it, signals are one request */

/*
 * Each commit of a router or dispatcher lengthens the rings, and what notif.state
 * has to sum.  Upkeep sleeps 30 s if nobody calls it: so many commits do, but not
 * more often than that.
 */
#define COMMITS_PER_LOOK		1000
#define LOOK_MS					1000

#define SETTLED_MS				3000	/* a start that lives so long is finished */
#define PAUSE_FIRST_MS			1000
#define PAUSE_MAX_MS			60000

/* Second half of the advisory key holds kind, tier and share. */
#define OWN_LOCK_CLASS			0x6e6f7469	/* "noti" */

/*----	Local variables ----*/

static NotifWorker me;

/* What SIGTERM does beside setting the flag and the latch. */
typedef enum SigtermMode
{
	SIGTERM_DIE,				/* not connected yet: end where it stands */
	SIGTERM_CANCEL,				/* cancel the statement, the loop then ends */
	SIGTERM_FLAG				/* nothing: idle, or a transaction to be finished */
} SigtermMode;

static volatile sig_atomic_t sigterm_mode = SIGTERM_DIE;

/* Monotonic; of the first SIGTERM.  Only the handler looks at it. */
static int64 sigterm_first_ms = 0;

/* This kind lets a running transaction finish. */
static bool finishes_transactions = false;

/* Died while true: database or role have changed, have a look first. */
static bool connecting = false;

static WaitEventSet *wait_set = NULL;
static int	wait_set_fd = -1;

static void worker_run(void);
static bool worker_scan_catalog(Oid catalog, bool (*matches) (HeapTuple tuple));
static bool worker_is_our_database(HeapTuple tuple);
static bool worker_is_our_role(HeapTuple tuple);
static void worker_sigterm(SIGNAL_ARGS);
static bool worker_attach(Datum arg, bool probe);
static void worker_detach(int code, Datum arg);
static void worker_pin_settings(void);
static void worker_describe(void *arg);
static bool worker_may_go_on(NotifWorker *worker, const NotifWorkerOps *ops, void *arg);
static long worker_turn(NotifWorker *worker, const NotifWorkerOps *ops, void *arg);
static void worker_settle(NotifWorker *worker, const NotifWorkerOps *ops, void *arg, long wanted);
static void worker_caught(NotifWorker *worker, const NotifWorkerOps *ops, void *arg);
static void worker_note_error(NotifWorker *worker, const ErrorData *error);
static void worker_wait(NotifWorker *worker, long timeout_ms);
static void worker_build_wait_set(int fd);
static bool worker_lock_extension(NotifWorker *worker);

/* ---- life ------------------------------------------------------------------ */

void
notif_worker_main(Datum arg)
{
	ErrorContextCallback context;

	pqsignal(SIGTERM, worker_sigterm);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);

	if (!worker_attach(arg, false))
		proc_exit(0);
	NOTIF_FAULT_WORKER(me.kind, me.tier);
	on_shmem_exit(worker_detach, (Datum) 0);

	context.callback = worker_describe;
	context.arg = &me;
	context.previous = error_context_stack;
	error_context_stack = &context;

	BackgroundWorkerUnblockSignals();
	connecting = true;
	BackgroundWorkerInitializeConnection(me.dbname, NOTIF_WORKER_ROLE, 0);
	connecting = false;
	sigterm_mode = SIGTERM_FLAG;

	worker_pin_settings();
	me.dboid = MyDatabaseId;
	pg_atomic_write_u32(&notif_shared->databases[me.database].dboid, me.dboid);
	me.life = AllocSetContextCreate(TopMemoryContext, "notif worker", ALLOCSET_DEFAULT_SIZES);
	me.turn = AllocSetContextCreate(me.life, "notif worker turn", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(me.turn);
	pgstat_report_activity(STATE_IDLE, NULL);

	PG_TRY();
	{
		NOTIF_FAULT(K9b);
		worker_run();
	}
	PG_CATCH();
	{
		/* told to end while it was only preparing its work: no error */
		if (ShutdownRequestPending && geterrcode() == ERRCODE_QUERY_CANCELED)
			proc_exit(0);
		PG_RE_THROW();
	}
	PG_END_TRY();
	proc_exit(0);
}

static void
worker_run(void)
{
	switch (me.kind)
	{
		case NOTIF_WORKER_UPKEEP:
			notif_upkeep_run(&me);
			break;
		case NOTIF_WORKER_ROUTER:
			notif_router_run(&me);
			break;
		case NOTIF_WORKER_DISPATCHER:
			notif_dispatcher_run(&me);
			break;
		case NOTIF_WORKER_CONDITIONS:
			notif_conditions_run(&me);
			break;
	}
}

/*
 * Looks, without a connection to any database, whether there is something to
 * connect to: a worker for a database or role that does not exist would leave
 * a FATAL in the log at every try.  Runs in upkeep's slot, for an instant.
 */
void
notif_probe_main(Datum arg)
{
	NotifDatabaseState state = NOTIF_DB_MISSING;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);

	if (!worker_attach(arg, true))
		proc_exit(0);
	on_shmem_exit(worker_detach, (Datum) 0);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	if (worker_scan_catalog(DatabaseRelationId, worker_is_our_database))
		state = worker_scan_catalog(AuthIdRelationId, worker_is_our_role) ?
			NOTIF_DB_FOUND : NOTIF_DB_NO_EXTENSION;
	CommitTransactionCommand();

	notif_database_report(me.database, state);
	proc_exit(0);
}

/*
 * Whether a shared catalog has a matching row.  By a plain scan: without a
 * database there are no indexes of catalogs to use.
 */
static bool
worker_scan_catalog(Oid catalog, bool (*matches) (HeapTuple tuple))
{
	Relation	relation = table_open(catalog, AccessShareLock);
	TableScanDesc scan = table_beginscan_catalog(relation, 0, NULL);
	HeapTuple	tuple;
	bool		found = false;

	while (!found && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
		found = matches(tuple);
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	return found;
}

static bool
worker_is_our_database(HeapTuple tuple)
{
	Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

	/* a connection limit of -2 is what an interrupted DROP DATABASE leaves */
	return strcmp(NameStr(database->datname), me.dbname) == 0 &&
		database->datallowconn && database->datconnlimit != -2;
}

static bool
worker_is_our_role(HeapTuple tuple)
{
	Form_pg_authid role = (Form_pg_authid) GETSTRUCT(tuple);

	return strcmp(NameStr(role->rolname), NOTIF_WORKER_ROLE) == 0 && role->rolcanlogin;
}

/* Flags, the clock and the latch: everything else is unsafe in a handler. */
static void
worker_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;
	bool		again = ShutdownRequestPending &&
		notif_monotonic_ms() - sigterm_first_ms >= SIGTERM_ECHO_MS;

	if (!ShutdownRequestPending)
		sigterm_first_ms = notif_monotonic_ms();
	/* a second one is meant seriously */
	if (sigterm_mode == SIGTERM_DIE || again)
	{
		ProcDiePending = true;
		InterruptPending = true;
	}
	else if (sigterm_mode == SIGTERM_CANCEL)
	{
		QueryCancelPending = true;
		InterruptPending = true;
	}
	ShutdownRequestPending = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

/* Fills `me` and takes the slot; false: it is not ours (any more). */
static bool
worker_attach(Datum arg, bool probe)
{
	uint32		number = DatumGetUInt32(arg);
	NotifDatabaseSlot *database;
	bool		mine;

	me.database = number / NOTIF_WORKERS_PER_DB;
	me.index = number % NOTIF_WORKERS_PER_DB;
	me.kind = notif_worker_slot_kind(me.index);
	me.tier = notif_worker_slot_tier(me.index);
	memcpy(&me.incarnation, MyBgworkerEntry->bgw_extra, sizeof(me.incarnation));
	me.wait_fd = -1;
	me.transaction_timeout_ms = me.kind == NOTIF_WORKER_UPKEEP ? TIMEOUT_UPKEEP_MS : TIMEOUT_MS;

	database = &notif_shared->databases[me.database];
	me.slot = &database->workers[me.index];

	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	mine = database->in_use && database->hold_pid == 0 &&
		me.slot->incarnation == me.incarnation &&
		me.slot->state == NOTIF_STATE_STARTING && me.slot->pid == 0;
	if (mine)
	{
		strlcpy(me.dbname, database->name, sizeof(me.dbname));
		me.slot->state = NOTIF_STATE_RUNNING;
		me.slot->pid = MyProcPid;
		me.slot->started_at = GetCurrentTimestamp();
		if (!probe)
			me.slot->restarts++;
		me.slot->retry_ms = 0;
		pg_atomic_write_u32(&me.slot->asleep, 0);
		pg_atomic_write_u32(&me.slot->wake, 1);
		pg_atomic_write_u32(&me.slot->procno, (uint32) notif_compat_my_procno());
	}
	LWLockRelease(notif_shared->lock);
	return mine;
}

/* Exit hook: see the top.  Only what is still ours is given back. */
static void
worker_detach(int code, Datum arg)
{
	bool		asked;

	/* an ERROR during exit could have left any lock held, this one included */
	LWLockReleaseAll();
	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	if (me.slot->pid == MyProcPid)
	{
		asked = me.slot->state == NOTIF_STATE_STOPPING || ShutdownRequestPending;
		if (code != 0 && !asked)
		{
			me.slot->failures++;
			me.slot->last_error_at = GetCurrentTimestamp();
			if (connecting)
				notif_shared->databases[me.database].state = NOTIF_DB_UNKNOWN;
		}
		else
			me.slot->failures = 0;
		me.slot->crashes = 0;
		me.slot->state = NOTIF_STATE_STOPPED;
		me.slot->pid = 0;
		me.slot->stopped_at = GetCurrentTimestamp();
		pg_atomic_write_u32(&me.slot->procno, UINT32_MAX);
		pg_atomic_write_u32(&me.slot->asleep, 0);
		pg_atomic_write_u64(&me.slot->counters[NOTIF_COUNT_IN_FLIGHT], 0);
		pg_atomic_write_u64(&me.slot->counters[NOTIF_COUNT_BACKLOG], 0);
		pg_atomic_write_u64(&me.slot->counters[NOTIF_COUNT_FAILING], 0);
	}
	LWLockRelease(notif_shared->lock);

	ConditionVariableBroadcast(&notif_shared->slot_freed);
	notif_nudge_launcher();
}

/*
 * What a database or role could set behind our back.  PGC_S_OVERRIDE beats
 * ALTER ROLE, ALTER DATABASE and every later reload.
 */
static void
worker_pin_settings(void)
{
	static const struct
	{
		const char *name;
		const char *value;
	}			pins[] =
	{
		{"search_path", "pg_catalog, pg_temp"},
		{"role", "none"},
		{"session_replication_role", "origin"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"default_tablespace", ""},
		{"row_security", "on"},
		{"TimeZone", "UTC"},
		{"DateStyle", "ISO, YMD"},
		{"IntervalStyle", "postgres"},
		{"bytea_output", "hex"},
		{"extra_float_digits", "1"},
		{"jit", "off"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"idle_session_timeout", "0"}
	};

	for (size_t i = 0; i < lengthof(pins); i++)
		SetConfigOption(pins[i].name, pins[i].value, PGC_SUSET, PGC_S_OVERRIDE);
	notif_worker_lock_timeout(NOTIF_LOCK_TIMEOUT_MS);
	SetConfigOption("application_name", MyBgworkerEntry->bgw_name,
					PGC_USERSET, PGC_S_OVERRIDE);
}

static void
worker_describe(void *arg)
{
	const NotifWorker *worker = arg;

	if (worker->tier == NOTIF_TIER_NONE)
		errcontext("notif %s of database \"%s\"",
				   notif_worker_kind_name(worker->kind), worker->dbname);
	else
		errcontext("notif %s of database \"%s\", tier %s",
				   notif_worker_kind_name(worker->kind), worker->dbname,
				   notif_tier_name(worker->tier));
}

/* ---- loop ------------------------------------------------------------------ */

void
notif_worker_loop(NotifWorker *worker, const NotifWorkerOps *ops, void *arg)
{
	volatile long timeout_ms = 0;

	finishes_transactions = ops->drained != NULL;

	for (;;)
	{
		volatile bool go_on = true;

		PG_TRY();
		{
			if (timeout_ms != 0)
				worker_wait(worker, timeout_ms);
			go_on = worker_may_go_on(worker, ops, arg);
			if (go_on)
				timeout_ms = worker_turn(worker, ops, arg);
			if (!worker->priority_set && (timeout_ms < 0 || timeout_ms > NOTIF_PRIORITY_RETRY_MS))
				timeout_ms = NOTIF_PRIORITY_RETRY_MS;
		}
		PG_CATCH();
		{
			worker_caught(worker, ops, arg);
			timeout_ms = 1;
		}
		PG_END_TRY();

		if (!go_on)
			break;
		MemoryContextSwitchTo(worker->turn);
		MemoryContextReset(worker->turn);
	}
}

/* Interrupts, reload, and whether there is a next turn. */
static bool
worker_may_go_on(NotifWorker *worker, const NotifWorkerOps *ops, void *arg)
{
	CHECK_FOR_INTERRUPTS();
	notif_worker_mind_postmaster();

	worker->reloaded = false;
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		worker->reloaded = true;
	}
	worker->priority_set = notif_priority_mind(worker);

	if (worker->extension_gone)
	{
		/* recreated in one transaction: do not make it wait for us */
		LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
		worker->slot->retry_ms = 1;
		LWLockRelease(notif_shared->lock);
		notif_database_report(worker->database, NOTIF_DB_NO_EXTENSION);
		notif_wake_launcher();
		return false;
	}

	if (ShutdownRequestPending)
	{
		if (ops->drained == NULL)
			return false;
		if (!worker->stopping)
		{
			worker->stopping = true;
			worker->stop_deadline_ms = notif_monotonic_ms() + guc_shutdown_grace;
		}
		if (notif_monotonic_ms() >= worker->stop_deadline_ms || ops->drained(worker, arg))
			return false;
	}
	return true;
}

/* One turn.  Returns the ms to wait before the next one, at most the maximum. */
static long
worker_turn(NotifWorker *worker, const NotifWorkerOps *ops, void *arg)
{
	long		wanted;
	int64		now_ms;

	/*
	 * Taken before the work looks at anything, so that what is committed from
	 * here on sets it again.
	 */
	worker->woken = pg_atomic_exchange_u32(&worker->slot->wake, 0) != 0;
	pg_atomic_write_u64(&worker->slot->heartbeat, (uint64) GetCurrentTimestamp());
	notif_worker_count(worker, NOTIF_COUNT_TURNS, 1);

	now_ms = notif_monotonic_ms();
	if (now_ms < worker->pause_until_ms)
	{
		wanted = ops->service ? ops->service(worker, arg) : NOTIF_IDLE;
		if (wanted == NOTIF_IDLE || wanted > worker->pause_until_ms - now_ms)
			wanted = worker->pause_until_ms - now_ms;

		/* what woke us during the pause is still to be done after it */
		if (worker->woken)
			pg_atomic_write_u32(&worker->slot->wake, 1);
		if (wanted <= 0)
			wanted = 1;
	}
	else
	{
		wanted = ops->work(worker, arg);
		if (worker->errors_in_a_row > 0)
		{
			worker->errors_in_a_row = 0;
			notif_worker_gauge(worker, NOTIF_COUNT_FAILING, 0);
		}
		if (notif_spi_active())
			elog(ERROR, "a turn of the %s left a transaction open",
				 notif_worker_kind_name(worker->kind));
		if (!worker->settled)
			worker_settle(worker, ops, arg, wanted);
	}

	if (wanted == NOTIF_IDLE || wanted > NOTIF_MAX_SLEEP_MS)
		wanted = NOTIF_MAX_SLEEP_MS;
	if (worker->stopping)
	{
		int64		left = worker->stop_deadline_ms - notif_monotonic_ms();

		wanted = Min(wanted, (long) Max(left, 0));
	}
	return wanted;
}

/*
 * The start is finished (starts.c) once the worker has done what it found, or has
 * been at it for a while.
 */
static void
worker_settle(NotifWorker *worker, const NotifWorkerOps *ops, void *arg, long wanted)
{
	bool		rests = wanted != 0 && (ops->drained == NULL || ops->drained(worker, arg));

	if (!rests && !TimestampDifferenceExceeds(worker->slot->started_at, GetCurrentTimestamp(), SETTLED_MS))
		return;
	worker->settled = true;
	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	worker->slot->crashes = 0;
	LWLockRelease(notif_shared->lock);
	notif_nudge_launcher();
}

/* Second half of an ERROR: what a session does between two commands. */
static void
worker_caught(NotifWorker *worker, const NotifWorkerOps *ops, void *arg)
{
	ErrorData  *error;
	bool		cancelled;
	int			shift;

	HOLD_INTERRUPTS();
	sigterm_mode = SIGTERM_FLAG;
	disable_timeout(STATEMENT_TIMEOUT, false);
	QueryCancelPending = false;
	MemoryContextSwitchTo(worker->turn);
	error = CopyErrorData();

	/* being told to end is no error */
	cancelled = ShutdownRequestPending && error->sqlerrcode == ERRCODE_QUERY_CANCELED;
	if (!cancelled)
		EmitErrorReport();
	AbortOutOfAnyTransaction();
	MemoryContextSwitchTo(worker->turn);
	FlushErrorState();
	RESUME_INTERRUPTS();

	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	if (!cancelled)
	{
		worker_note_error(worker, error);
		shift = Min(worker->errors_in_a_row, 6);
		worker->errors_in_a_row++;
		notif_worker_gauge(worker, NOTIF_COUNT_FAILING, worker->errors_in_a_row);
		worker->pause_until_ms = notif_monotonic_ms() + Min(PAUSE_FIRST_MS << shift, PAUSE_MAX_MS);
	}
	FreeErrorData(error);

	/* what woke the turn that raised is still to be done */
	if (worker->woken)
		pg_atomic_write_u32(&worker->slot->wake, 1);

	/* recover is the kind's own code: an ERROR in it ends the process */
	if (ops->recover != NULL)
		ops->recover(worker, arg);
}

static void
worker_note_error(NotifWorker *worker, const ErrorData *error)
{
	notif_worker_count(worker, NOTIF_COUNT_ERRORS, 1);
	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	worker->slot->last_error_at = GetCurrentTimestamp();
	snprintf(worker->slot->last_error, sizeof(worker->slot->last_error), "%s: %s",
			 unpack_sql_state(error->sqlerrcode), error->message ? error->message : "");
	LWLockRelease(notif_shared->lock);
}

/*
 * Sleeps until woken, the fd is readable or the time is over.  Announces the
 * sleep first and then looks for work once more: see wake.c.
 */
static void
worker_wait(NotifWorker *worker, long timeout_ms)
{
	WaitEvent	event;

	if (wait_set == NULL || wait_set_fd != worker->wait_fd)
		worker_build_wait_set(worker->wait_fd);

	/* counters of the last transactions shall not stay hidden while asleep */
	if (timeout_ms >= 1000)
		pgstat_report_stat(true);

	pg_atomic_exchange_u32(&worker->slot->asleep, 1);
	if (pg_atomic_read_u32(&worker->slot->wake) == 0 || worker->pause_until_ms > notif_monotonic_ms())
		WaitEventSetWait(wait_set, timeout_ms, &event, 1, PG_WAIT_EXTENSION);
	pg_atomic_exchange_u32(&worker->slot->asleep, 0);
	ResetLatch(MyLatch);
	notif_worker_count(worker, NOTIF_COUNT_WAKEUPS, 1);
}

/* A kept set: building one for every wait costs five system calls. */
static void
worker_build_wait_set(int fd)
{
	if (wait_set != NULL)
		FreeWaitEventSet(wait_set);
	wait_set = NULL;
	wait_set = CreateWaitEventSet(TopMemoryContext, fd >= 0 ? 3 : 2);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	if (fd >= 0)
		AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, fd, NULL, NULL);
	wait_set_fd = fd;
}

/* ---- transactions ---------------------------------------------------------- */

/*
 * Whether the extension that the worker was started for is still there.  The lock
 * on it is taken inside the transaction and it is looked for under the lock: DROP
 * EXTENSION either waits for this transaction or has happened.  Extensions are in
 * no cache, so after the first time its schema is asked for, which lives as long.
 */
static bool
worker_lock_extension(NotifWorker *worker)
{
	Oid			extension = worker->extension;

	if (!OidIsValid(extension))
	{
		extension = get_extension_oid(NOTIF_EXTENSION, true);
		if (!OidIsValid(extension))
			return false;
		LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
		if (get_extension_oid(NOTIF_EXTENSION, true) != extension)
			return false;
		worker->schema = get_namespace_oid(NOTIF_PRIVATE_SCHEMA, false);
		worker->extension = extension;
		return true;
	}
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	return SearchSysCacheExists1(NAMESPACEOID, ObjectIdGetDatum(worker->schema));
}

bool
notif_worker_begin(NotifWorker *worker, const char *label)
{
	int			timeout_ms = worker->transaction_timeout_ms;

	if (worker->stopping)
	{
		int64		left = worker->stop_deadline_ms - notif_monotonic_ms();

		timeout_ms = Min(timeout_ms, (int) Max(left, 100));
	}

	sigterm_mode = finishes_transactions ? SIGTERM_FLAG : SIGTERM_CANCEL;
	CHECK_FOR_INTERRUPTS();
	notif_spi_begin(label, timeout_ms);
	notif_worker_count(worker, NOTIF_COUNT_TRANSACTIONS, 1);

	if (!worker_lock_extension(worker))
	{
		worker->extension_gone = true;
		notif_worker_rollback(worker);
		return false;
	}
	return true;
}

void
notif_worker_commit(NotifWorker *worker, bool durable)
{
	sigterm_mode = SIGTERM_CANCEL;
	notif_spi_commit(durable);
	sigterm_mode = SIGTERM_FLAG;

	if (worker->kind != NOTIF_WORKER_UPKEEP &&
		++worker->commits >= COMMITS_PER_LOOK && notif_monotonic_ms() >= worker->look_due_ms)
	{
		worker->commits = 0;
		worker->look_due_ms = notif_monotonic_ms() + LOOK_MS;
		notif_worker_wake(worker, NOTIF_WORKER_UPKEEP, NOTIF_TIER_NONE);
	}
}

void
notif_worker_interruptible(bool on)
{
	sigterm_mode = on ? SIGTERM_CANCEL : SIGTERM_FLAG;
}

void
notif_worker_lock_timeout(int ms)
{
	char		value[16];

	snprintf(value, sizeof(value), "%d", ms);
	SetConfigOption("lock_timeout", value, PGC_SUSET, PGC_S_OVERRIDE);
}

void
notif_worker_rollback(NotifWorker *worker)
{
	notif_spi_rollback();
	sigterm_mode = SIGTERM_FLAG;
}

static LOCKTAG
worker_own_tag(const NotifWorker *worker, NotifWorkerKind kind, int share)
{
	LOCKTAG		tag;
	uint32		what = ((uint32) kind << 24) |
		((uint32) (worker->tier + 1) << 16) | (uint32) share;

	Assert(share >= 0 && share <= 0xffff);
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, OWN_LOCK_CLASS, what, 2);
	return tag;
}

void
notif_worker_drop_foreign_locks(NotifWorker *worker, NotifWorkerKind kind, int share)
{
	LOCKTAG		tag = worker_own_tag(worker, kind, share);

	LockReleaseSession(USER_LOCKMETHOD);
	if (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("another process does the work of this notif worker")));
}

/*
 * A session lock with the resource owner of nobody: AbortTransaction does not
 * release it, the end of the process does.
 */
bool
notif_worker_own(NotifWorker *worker, NotifWorkerKind kind, int share)
{
	LOCKTAG		tag = worker_own_tag(worker, kind, share);
	LockAcquireResult result;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	result = LockAcquire(&tag, ExclusiveLock, true, true);
	CommitTransactionCommand();
	MemoryContextSwitchTo(worker->turn);

	if (result == LOCKACQUIRE_NOT_AVAIL)
	{
		ereport(LOG,
				(errmsg("another process does the work of this notif worker, trying again later")));
		LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
		worker->slot->retry_ms = OWN_RETRY_MS;
		LWLockRelease(notif_shared->lock);
		return false;
	}
	return true;
}

void
notif_worker_mind_postmaster(void)
{
	if (!PostmasterIsAlive())
		proc_exit(1);
}

/* ---- small things ---------------------------------------------------------- */

/* Only the owner writes, so a plain read and write lose nothing. */
void
notif_worker_count(NotifWorker *worker, NotifCounter counter, int64 n)
{
	pg_atomic_uint64 *cell = &worker->slot->counters[counter];

	pg_atomic_write_u64(cell, pg_atomic_read_u64(cell) + (uint64) n);
}

void
notif_worker_gauge(NotifWorker *worker, NotifCounter counter, int64 value)
{
	pg_atomic_write_u64(&worker->slot->counters[counter], (uint64) value);
}

void
notif_worker_wake(NotifWorker *worker, NotifWorkerKind kind, int tier)
{
	notif_wake_slot(&notif_shared->databases[worker->database].workers[notif_worker_slot_index(kind, tier)]);
}
