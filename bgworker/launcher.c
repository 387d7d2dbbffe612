/*
 * launcher.c
 *		Keeps one set of workers per database of notif.databases.
 *
 * One per cluster, static, without a connection to any database: it never runs
 * SQL, so nothing of a database can stop it.  What it knows of one is what a
 * probe or upkeep has written into shared memory:
 *
 *	 UNKNOWN, MISSING, NO_EXTENSION --probe--> MISSING | NO_EXTENSION | FOUND
 *	 FOUND --upkeep--> NO_EXTENSION | OTHER_VERSION | WAITING | READY
 *	 READY: routers and dispatchers run, if notif.dispatch is on
 *
 * A slot goes STOPPED -> STARTING (here) -> RUNNING (worker_attach) -> STOPPED
 * (worker_detach), with STOPPING in between when it was told to end.  Workers
 * outlive a launcher that dies: its successor finds them in their slots.  All
 * dynamic workers are registered as never to be restarted; restarting, with a
 * pause that doubles from 1 to 60 s, is done here.  So is holding back a worker whose
 * starts crash the server (starts.c).
 *
 * While a DDL command holds a database (utility_hook.c), nothing is started in
 * it.
 *
 * The launcher sleeps until a worker ends, a backend wakes it, SIGHUP comes or
 * something is due; on a standby until recovery has ended.
 */
#include "postgres.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/procsignal.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "../src/settings.h"
#include "../src/wake.h"
#include "worker.h"

#define SLEEP_MS			60000
#define PROBE_MS			30000	/* a database that waits is looked at again */
#define RESTART_FIRST_MS	1000
#define RESTART_MAX_MS		60000
#define EXHAUSTED_MS		5000	/* no worker slot: pause before the next try */
#define LOST_MS				10000	/* registered by a launcher that is no more */
#define TRIAL_MS			1000	/* somebody else is tried after his crashes */
#define INSIST_MS			1000	/* beyond the grace: SIGTERM once more */

/* What only this process needs of a slot.  Times: notif_monotonic_ms. */
typedef struct LauncherSlot
{
	BackgroundWorkerHandle *handle; /* while STARTING, if we registered it */
	int64		since_ms;		/* registered, told to end, or seen first */
	int64		not_before_ms;	/* earliest next start */
	int64		crashed_ms;		/* not before, because of crashes */
	bool		seen_running;	/* its end has not been noted yet */
	bool		insisted;		/* second SIGTERM is sent */
	bool		exhausted;		/* the postmaster had no place for it */
} LauncherSlot;

/*----	Local variables ----*/

static LauncherSlot slots[NOTIF_MAX_DATABASES][NOTIF_WORKERS_PER_DB];
static int	exhausted_slots = 0;	/* how many find no place: the first is logged */

static void launcher_watch_recovery(void);
static void launcher_detach(int code, Datum arg);
static void launcher_take_databases(void);
static void launcher_note_crashes(void);
static int64 launcher_visit(int database, int64 now_ms);
static int64 launcher_visit_slot(int database, int index, bool wanted, int64 now_ms);
static int64 launcher_slot_stopped(int database, int index, bool wanted, int64 now_ms);
static void launcher_note_exhausted(int database, int index);
static int64 launcher_slot_starting(int database, int index, bool wanted, int64 now_ms);
static int64 launcher_slot_stopping(int database, int index, int64 now_ms);
static bool launcher_wants(const NotifDatabaseSlot *database, int index);
static int64 launcher_pause(const NotifWorkerSlot *slot, const NotifDatabaseSlot *database,
							int index);
static bool launcher_register(int database, int index, BackgroundWorkerHandle **handle);
static void launcher_wait(int64 until_ms);

void
notif_launcher_main(Datum arg)
{
	MemoryContext context;

	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);

	/* the postmaster tells of workers by SIGUSR1, and so this sets the latch */
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);
	BackgroundWorkerUnblockSignals();

	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	notif_shared->launcher_pid = MyProcPid;
	LWLockRelease(notif_shared->lock);
	pg_atomic_write_u32(&notif_shared->launcher_procno, (uint32) notif_compat_my_procno());
	on_shmem_exit(launcher_detach, (Datum) 0);

	launcher_watch_recovery();

	context = AllocSetContextCreate(TopMemoryContext, "notif launcher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	launcher_take_databases();
	notif_starts_load();
	launcher_note_crashes();

	while (!ShutdownRequestPending)
	{
		int64		now_ms = notif_monotonic_ms();
		int64		next_ms = now_ms + SLEEP_MS;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			launcher_take_databases();
		}
		if (pg_atomic_exchange_u32(&notif_shared->launcher_wake, 0) != 0)
		{
			/* whatever waits for something may have got it */
			for (int d = 0; d < NOTIF_MAX_DATABASES; d++)
			{
				for (int i = 0; i < NOTIF_WORKERS_PER_DB; i++)
					slots[d][i].not_before_ms = 0;
			}
		}

		for (int d = 0; d < NOTIF_MAX_DATABASES; d++)
		{
			int64		due_ms = launcher_visit(d, now_ms);

			next_ms = Min(next_ms, due_ms);
		}
		notif_starts_keep();

		MemoryContextReset(context);
		launcher_wait(next_ms);
	}

	/*
	 * A launcher told to end while the server goes on is started anew and
	 * finds the workers in their slots.
	 */
	notif_starts_forget();
	proc_exit(1);
}

/* Lives for a moment when recovery ends, see _PG_init. */
void
notif_promotion_main(Datum arg)
{
	BackgroundWorkerUnblockSignals();
	notif_wake_launcher();
	proc_exit(0);
}

/*
 * On a standby, waits for promotion and notes that it has watched it.  Only
 * standby.signal makes a standby: a restore to a point in time has
 * recovery.signal and must not be taken for a promotion.
 */
static void
launcher_watch_recovery(void)
{
	while (RecoveryInProgress() && !ShutdownRequestPending)
	{
		struct stat st;

		if (stat(STANDBY_SIGNAL_FILE, &st) == 0)
		{
			LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
			notif_shared->watched_standby = true;
			LWLockRelease(notif_shared->lock);
		}
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		launcher_wait(notif_monotonic_ms() + SLEEP_MS);
	}
}

static void
launcher_detach(int code, Datum arg)
{
	LWLockReleaseAll();
	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	if (notif_shared->launcher_pid == MyProcPid)
	{
		notif_shared->launcher_pid = 0;
		pg_atomic_write_u32(&notif_shared->launcher_procno, UINT32_MAX);
	}
	LWLockRelease(notif_shared->lock);
}

/*
 * Makes the databases in shared memory those of the setting.  One that is no
 * longer listed gives its slot back when its last worker has gone (launcher_visit);
 * until then it keeps its slot and wants no worker.
 */
static void
launcher_take_databases(void)
{
	List	   *names = notif_settings_databases();
	ListCell   *cell;

	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	for (int d = 0; d < NOTIF_MAX_DATABASES; d++)
	{
		NotifDatabaseSlot *database = &notif_shared->databases[d];

		database->listed = false;
		foreach(cell, names)
		{
			if (database->in_use && strcmp(database->name, lfirst(cell)) == 0)
			{
				database->listed = true;
				names = foreach_delete_current(names, cell);
				break;
			}
		}
	}
	foreach(cell, names)
	{
		int			d = 0;

		while (d < NOTIF_MAX_DATABASES && notif_shared->databases[d].in_use)
			d++;
		if (d == NOTIF_MAX_DATABASES)
			break;				/* taken by ones that are ending: visited again
								 * when they have */
		strlcpy(notif_shared->databases[d].name, lfirst(cell), NAMEDATALEN);
		notif_shared->databases[d].state = NOTIF_DB_UNKNOWN;
		notif_shared->databases[d].hold_pid = 0;
		notif_shared->databases[d].listed = true;
		notif_shared->databases[d].in_use = true;
		for (int i = 0; i < NOTIF_WORKERS_PER_DB; i++)
			exhausted_slots -= slots[d][i].exhausted;
		memset(slots[d], 0, sizeof(slots[d]));
	}
	LWLockRelease(notif_shared->lock);
}

/* Slots whose starts crashed the server more than once wait before the next one. */
static void
launcher_note_crashes(void)
{
	int64		now_ms = notif_monotonic_ms();

	for (int d = 0; d < NOTIF_MAX_DATABASES; d++)
	{
		for (int i = 0; i < NOTIF_WORKERS_PER_DB; i++)
		{
			const NotifWorkerSlot *slot = &notif_shared->databases[d].workers[i];
			int64		pause_ms = notif_starts_pause_ms(slot);

			if (!notif_shared->databases[d].in_use || pause_ms == 0 || slot->state != NOTIF_STATE_STOPPED)
				continue;
			slots[d][i].crashed_ms = now_ms + pause_ms;
			ereport(LOG,
					errmsg("notif starts the %s worker (tier %s) of database \"%s\" in %d s only",
						   notif_worker_kind_name(notif_worker_slot_kind(i)),
						   notif_tier_name(notif_worker_slot_tier(i)),
						   notif_shared->databases[d].name, (int) (pause_ms / 1000)),
					errdetail("Its last %d starts ended in a crash of the server.", slot->crashes),
					errhint("Set notif.dispatch to off and reload the server to keep routers and dispatchers from starting."));
		}
	}
}

/* One look at a database and its slots.  Returns when to look again. */
static int64
launcher_visit(int d, int64 now_ms)
{
	NotifDatabaseSlot *database = &notif_shared->databases[d];
	int64		next_ms = now_ms + SLEEP_MS;
	bool		idle = true;
	bool		freed = false;

	if (!database->in_use)
		return next_ms;

	/* a backend that died in the middle of its DDL holds nothing */
	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	if (database->hold_pid != 0 && BackendPidGetProc(database->hold_pid) == NULL)
		database->hold_pid = 0;
	LWLockRelease(notif_shared->lock);

	for (int i = 0; i < NOTIF_WORKERS_PER_DB; i++)
	{
		int64		due_ms = launcher_visit_slot(d, i, launcher_wants(database, i), now_ms);

		next_ms = Min(next_ms, due_ms);
		idle &= database->workers[i].state == NOTIF_STATE_STOPPED;
	}

	if (!database->listed && idle)
	{
		LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
		pg_atomic_write_u32(&database->dboid, InvalidOid);
		pg_atomic_write_u32(&database->asking, 0);
		database->in_use = false;
		freed = true;
		memset(database->lanes, 0, sizeof(database->lanes));
		for (int i = 0; i < NOTIF_WORKERS_PER_DB; i++)
		{
			NotifWorkerSlot *slot = &database->workers[i];

			slot->restarts = -1;
			slot->failures = slot->crashes = 0;
			slot->started_at = slot->stopped_at = slot->last_error_at = 0;
			slot->last_error[0] = '\0';
			for (int c = 0; c < NOTIF_COUNTERS; c++)
				pg_atomic_write_u64(&slot->counters[c], 0);
		}
		LWLockRelease(notif_shared->lock);
	}
	if (freed)
	{
		launcher_take_databases();
		next_ms = now_ms;
	}
	return next_ms;
}

/* Whether a slot should have a process.  Read without the lock: looked at again soon. */
static bool
launcher_wants(const NotifDatabaseSlot *database, int index)
{
	if (!database->listed || database->hold_pid != 0)
		return false;
	if (index == 0)
		return true;
	return database->state == NOTIF_DB_READY && guc_dispatch;
}

static int64
launcher_visit_slot(int d, int i, bool wanted, int64 now_ms)
{
	NotifWorkerSlot *slot = &notif_shared->databases[d].workers[i];
	LauncherSlot *mine = &slots[d][i];

	switch (slot->state)
	{
		case NOTIF_STATE_STOPPED:
			return launcher_slot_stopped(d, i, wanted, now_ms);
		case NOTIF_STATE_STARTING:
			return launcher_slot_starting(d, i, wanted, now_ms);
		case NOTIF_STATE_RUNNING:
			mine->seen_running = true;
			if (mine->handle != NULL)
			{
				pfree(mine->handle);
				mine->handle = NULL;
			}
			if (wanted)
				return now_ms + SLEEP_MS;
			notif_worker_tell_to_end(slot);
			mine->since_ms = now_ms;
			mine->insisted = false;
			return now_ms + guc_shutdown_grace + INSIST_MS;
		case NOTIF_STATE_STOPPING:
			return launcher_slot_stopping(d, i, now_ms);
	}
	return now_ms + SLEEP_MS;
}

static int64
launcher_slot_stopped(int d, int i, bool wanted, int64 now_ms)
{
	NotifDatabaseSlot *database = &notif_shared->databases[d];
	LauncherSlot *mine = &slots[d][i];

	if (mine->handle != NULL)
	{
		pfree(mine->handle);
		mine->handle = NULL;
		mine->seen_running = true;
	}
	if (mine->seen_running)
	{
		/* its end, noted once */
		mine->seen_running = false;
		mine->not_before_ms = now_ms + launcher_pause(&database->workers[i], database, i);
	}
	if (!wanted)
		return now_ms + SLEEP_MS;
	if (now_ms < Max(mine->not_before_ms, mine->crashed_ms))
		return Max(mine->not_before_ms, mine->crashed_ms);
	if (mine->crashed_ms > 0)
	{
		if (notif_starts_trial())
			return now_ms + TRIAL_MS;
		mine->crashed_ms = 0;
	}

	if (!launcher_register(d, i, &mine->handle))
	{
		launcher_note_exhausted(d, i);
		mine->not_before_ms = now_ms + EXHAUSTED_MS;
		return mine->not_before_ms;
	}
	if (mine->exhausted)
	{
		mine->exhausted = false;
		exhausted_slots--;
	}
	mine->since_ms = now_ms;
	return now_ms + LOST_MS;
}

/* Said once, not at every try and not for every worker. */
static void
launcher_note_exhausted(int d, int i)
{
	if (exhausted_slots == 0)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("notif is out of background worker slots, trying again until there is one"),
				 errdetail("Wanted was the %s worker (tier %s) of database \"%s\".",
						   notif_worker_kind_name(notif_worker_slot_kind(i)),
						   notif_tier_name(notif_worker_slot_tier(i)),
						   notif_shared->databases[d].name),
				 errhint("Set max_worker_processes to at least 16 for one database, and 7 more for each further one.")));
	if (!slots[d][i].exhausted)
	{
		slots[d][i].exhausted = true;
		exhausted_slots++;
	}
}

/* Registered, and no process has attached yet. */
static int64
launcher_slot_starting(int d, int i, bool wanted, int64 now_ms)
{
	NotifWorkerSlot *slot = &notif_shared->databases[d].workers[i];
	LauncherSlot *mine = &slots[d][i];
	pid_t		pid;
	bool		lost = false;

	if (mine->since_ms == 0)
		mine->since_ms = now_ms;	/* a predecessor's */

	if (mine->handle != NULL)
	{
		if (!wanted)
			TerminateBackgroundWorker(mine->handle);
		lost = GetBackgroundWorkerPid(mine->handle, &pid) == BGWH_STOPPED;
	}
	else
		lost = now_ms - mine->since_ms >= LOST_MS;
	if (!lost)
		return now_ms + (wanted ? LOST_MS : INSIST_MS);

	/* A new incarnation makes sure that a late-comer ends by itself. */
	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	if (slot->state == NOTIF_STATE_STARTING)
	{
		slot->state = NOTIF_STATE_STOPPED;
		slot->crashes = 0;
		slot->incarnation = notif_next_incarnation();
		if (wanted)
			slot->failures++;
	}
	LWLockRelease(notif_shared->lock);
	ConditionVariableBroadcast(&notif_shared->slot_freed);
	mine->since_ms = 0;
	mine->seen_running = true;
	return now_ms;
}

/* Told to end; when the grace is over, told so again, which interrupts it. */
static int64
launcher_slot_stopping(int d, int i, int64 now_ms)
{
	LauncherSlot *mine = &slots[d][i];
	int64		insist_ms;

	mine->seen_running = true;
	if (mine->since_ms == 0)
		mine->since_ms = now_ms;
	insist_ms = mine->since_ms + guc_shutdown_grace + INSIST_MS;
	if (now_ms < insist_ms)
		return insist_ms;
	if (!mine->insisted)
	{
		notif_worker_tell_to_end(&notif_shared->databases[d].workers[i]);
		mine->insisted = true;
	}
	return now_ms + SLEEP_MS;
}

/* How long a slot rests after the end of its worker. */
static int64
launcher_pause(const NotifWorkerSlot *slot, const NotifDatabaseSlot *database, int index)
{
	if (slot->failures > 0)
		return Min((int64) RESTART_FIRST_MS << Min(slot->failures - 1, 6), RESTART_MAX_MS);
	if (slot->retry_ms > 0)
		return slot->retry_ms;
	if (index == 0)
	{
		switch (database->state)
		{
			case NOTIF_DB_MISSING:
			case NOTIF_DB_NO_EXTENSION:
				return PROBE_MS;
			case NOTIF_DB_FOUND:
				return 0;		/* that was the probe */
			default:
				break;
		}
	}
	return RESTART_FIRST_MS;
}

/* False: the postmaster has no slot. */
static bool
launcher_register(int d, int i, BackgroundWorkerHandle **handle)
{
	NotifDatabaseSlot *database = &notif_shared->databases[d];
	NotifWorkerSlot *slot = &database->workers[i];
	NotifWorkerKind kind = notif_worker_slot_kind(i);
	int			tier = notif_worker_slot_tier(i);
	BackgroundWorker worker = {0};
	int64		incarnation = notif_next_incarnation();
	bool		probe = i == 0 && database->state < NOTIF_DB_FOUND;
	MemoryContext caller;
	bool		registered;

	if (tier == NOTIF_TIER_NONE)
		snprintf(worker.bgw_name, sizeof(worker.bgw_name), "notif %s: %s",
				 probe ? "probe" : notif_worker_kind_name(kind), database->name);
	else
		snprintf(worker.bgw_name, sizeof(worker.bgw_name), "notif %s %s: %s",
				 notif_worker_kind_name(kind), notif_tier_name(tier), database->name);
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "notif %s",
			 probe ? "probe" : notif_worker_kind_name(kind));
	strlcpy(worker.bgw_library_name, NOTIF_LIBRARY, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, probe ? "notif_probe_main" : "notif_worker_main",
			sizeof(worker.bgw_function_name));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = UInt32GetDatum((uint32) (d * NOTIF_WORKERS_PER_DB + i));
	memcpy(worker.bgw_extra, &incarnation, sizeof(incarnation));
	worker.bgw_notify_pid = MyProcPid;

	if (!probe)
		notif_starts_begin(slot);

	/* the slot first: the process may attach before we return */
	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	slot->state = NOTIF_STATE_STARTING;
	slot->incarnation = incarnation;
	LWLockRelease(notif_shared->lock);

	/* the handle must outlive this turn */
	caller = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(caller);
	if (registered)
		return true;

	*handle = NULL;
	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	slot->state = NOTIF_STATE_STOPPED;
	slot->crashes = 0;
	LWLockRelease(notif_shared->lock);
	return false;
}

static void
launcher_wait(int64 until_ms)
{
	int64		left_ms = until_ms - notif_monotonic_ms();

	if (left_ms > 0)
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) left_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
