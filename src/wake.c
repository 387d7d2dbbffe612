/*
 * wake.c
 *		Waking workers through shared memory.
 *
 * A worker that is about to sleep sets `asleep` and looks at `wake` once more;
 * who has work for it sets `wake` and looks at `asleep`.  Both are full
 * barriers, so at least one side sees the other: no wake-up is lost, and while
 * the worker is busy a commit costs two memory accesses and no system call.
 *
 * What a transaction wants woken is kept in a static bit mask and acted upon
 * at the very end of its commit.  At XACT_EVENT_COMMIT its rows are visible, but
 * its invalidations are not sent: a worker woken there could look at its
 * configuration, find nothing new and sleep on.  The last phase of the resource
 * owner's release comes after them, and after the locks.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/resowner.h"

#include "notif.h"
#include "shmem.h"
#include "wake.h"

#define PENDING_ROUTER(tier)	(1U << (tier))
#define PENDING_CHANGE(tier)	(1U << (NOTIF_TIERS + (tier)))
#define PENDING_UPKEEP			(1U << (2 * NOTIF_TIERS))
#define PENDING_CONDITIONS		(1U << (2 * NOTIF_TIERS + 1))
#define PENDING_LAUNCHER		(1U << (2 * NOTIF_TIERS + 2))

/* What the current transaction wakes, as the bits above. */
static uint32 wake_pending = 0;

/* The same of one that has committed and is about to be done. */
static uint32 wake_due = 0;

PG_FUNCTION_INFO_V1(notif_wake_upkeep_sql);
PG_FUNCTION_INFO_V1(notif_wake_conditions_sql);

static void wake_note(uint32 bits);
static void wake_at_xact_end(XactEvent event, void *arg);
static void wake_at_release(ResourceReleasePhase phase, bool is_commit, bool is_top, void *arg);
static void wake_for(uint32 due);
static void wake_waiting_upkeep(void);
static void wake_procno(uint32 procno);

void
notif_wake_at_commit(int tier)
{
	Assert(tier >= 0 && tier < NOTIF_TIERS);
	wake_note(PENDING_ROUTER(tier));
}

void
notif_wake_for_change(int tier)
{
	Assert(tier >= 0 && tier < NOTIF_TIERS);
	wake_note(PENDING_CHANGE(tier));
}

void
notif_wake_launcher_at_commit(void)
{
	wake_note(PENDING_UPKEEP | PENDING_LAUNCHER);
}

void
notif_wake_conditions_at_commit(void)
{
	wake_note(PENDING_CONDITIONS);
}

/* The callbacks are registered once per backend, never per transaction. */
static void
wake_note(uint32 bits)
{
	static bool registered = false;

	if (notif_shared == NULL)
		return;
	if (!registered)
	{
		RegisterXactCallback(wake_at_xact_end, NULL);
		RegisterResourceReleaseCallback(wake_at_release, NULL);
		registered = true;
	}
	wake_pending |= bits;
}

/* For a publish: a paused tier's router has nothing to do with it yet. */
static void
wake_router(int tier)
{
	NotifDatabaseSlot *database = notif_wake_find_database(MyDatabaseId);
	NotifWorkerSlot *slot;

	if (database == NULL)
		return;
	slot = &database->workers[notif_worker_slot_index(NOTIF_WORKER_ROUTER, tier)];
	if (pg_atomic_read_u32(&slot->deaf) == 0)
		notif_wake_slot(slot);
}

static void
wake_at_xact_end(XactEvent event, void *arg)
{
	uint32		pending = wake_pending;

	if (pending == 0)
		return;

	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			wake_due = pending;
			wake_pending = 0;
			return;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:

			/*
			 * A prepared transaction is visible at COMMIT PREPARED only, which
			 * may be run by any backend: see utility_hook.c.
			 */
			wake_pending = 0;
			return;
		default:
			return;
	}
}

/* Called for each owner of the transaction; the first one finds all done. */
static void
wake_at_release(ResourceReleasePhase phase, bool is_commit, bool is_top, void *arg)
{
	uint32		due = wake_due;

	if (due == 0 || phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top)
		return;
	wake_due = 0;
	if (is_commit)
		wake_for(due);
}

static void
wake_for(uint32 due)
{
	for (int tier = 0; tier < NOTIF_TIERS; tier++)
	{
		if (due & PENDING_CHANGE(tier))
			notif_wake_worker(MyDatabaseId, NOTIF_WORKER_ROUTER, tier);
		else if (due & PENDING_ROUTER(tier))
			wake_router(tier);
	}
	if (due & PENDING_CONDITIONS)
		notif_wake_worker(MyDatabaseId, NOTIF_WORKER_CONDITIONS, NOTIF_TIER_NONE);
	if (due & PENDING_UPKEEP)
		notif_wake_worker(MyDatabaseId, NOTIF_WORKER_UPKEEP, NOTIF_TIER_NONE);
	else
		wake_waiting_upkeep();
	if (due & PENDING_LAUNCHER)
		notif_wake_launcher();
}

/*
 * While the instance waits for confirmation there is no router to wake, and
 * this commit may be that of confirm_instance(): upkeep has a look.  It does
 * so once a second at most, since publishing goes on meanwhile.
 */
static void
wake_waiting_upkeep(void)
{
	NotifDatabaseSlot *database = notif_wake_find_database(MyDatabaseId);

	if (database != NULL && database->state == NOTIF_DB_WAITING)
		notif_wake_slot(&database->workers[0]);
}

void
notif_wake_worker(Oid database, NotifWorkerKind kind, int tier)
{
	NotifDatabaseSlot *slot;

	if (notif_shared == NULL)
		return;
	slot = notif_wake_find_database(database);
	if (slot != NULL)
		notif_wake_slot(&slot->workers[notif_worker_slot_index(kind, tier)]);
}

/*
 * Looks without a lock: dboid is written once the database has a worker, and
 * whoever is missed here starts with a scan of its own.
 */
NotifDatabaseSlot *
notif_wake_find_database(Oid dboid)
{
	static int	last = 0;

	if (!OidIsValid(dboid))
		return NULL;
	if (pg_atomic_read_u32(&notif_shared->databases[last].dboid) == dboid)
		return &notif_shared->databases[last];
	for (int i = 0; i < NOTIF_MAX_DATABASES; i++)
	{
		if (pg_atomic_read_u32(&notif_shared->databases[i].dboid) == dboid)
		{
			last = i;
			return &notif_shared->databases[i];
		}
	}
	return NULL;
}

void
notif_wake_slot(NotifWorkerSlot *slot)
{
	pg_atomic_exchange_u32(&slot->wake, 1);

	/* of many that wake it at once, one makes the system call */
	if (pg_atomic_read_u32(&slot->asleep) != 0 &&
		pg_atomic_exchange_u32(&slot->asleep, 0) != 0)
		wake_procno(pg_atomic_read_u32(&slot->procno));
}

void
notif_wake_launcher(void)
{
	if (notif_shared == NULL)
		return;
	pg_atomic_exchange_u32(&notif_shared->launcher_wake, 1);
	notif_nudge_launcher();
}

void
notif_nudge_launcher(void)
{
	if (notif_shared != NULL)
		wake_procno(pg_atomic_read_u32(&notif_shared->launcher_procno));
}

/*
 * The number may be stale by the time it is used: then some other process
 * takes a turn of its loop for nothing, which every latch allows.
 */
static void
wake_procno(uint32 procno)
{
	if (procno < ProcGlobal->allProcCount)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

/* Wakes this database's conditions worker, at commit. */
Datum
notif_wake_conditions_sql(PG_FUNCTION_ARGS)
{
	notif_wake_conditions_at_commit();
	PG_RETURN_VOID();
}

/* Wakes this database's upkeep, at commit. */
Datum
notif_wake_upkeep_sql(PG_FUNCTION_ARGS)
{
	wake_note(PENDING_UPKEEP);
	PG_RETURN_VOID();
}
