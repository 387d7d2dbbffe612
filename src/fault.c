/*
 * fault.c
 *		The table behind NOTIF_FAULT(); see fault.h.
 *
 * One row per point in shared memory of its own.  A row says what happens at the
 * nth passage from now, how often, and to which worker: points are passed by
 * several.  A crash cycle starts with an empty table, so that a point which kills
 * does so once; a loop of crashes is had with the setting notif.fault_at_start,
 * which fills the table anew each time.
 *
 * The functions are not part of the extension.  A test creates them:
 *
 *	notif_fault_set(name, action, nth, times, kind, tier)
 *				action wait, error or die, from the nth passage on, so many times
 *				(0: always); kind and tier NULL: any worker.  22023 for a name or
 *				word that does not exist
 *	notif_fault_reset()		nothing happens at any point; counts are zero
 *	notif_fault_passed(name)	passed, fired, waiting: passages since the row
 *				was set, how many of them did something, who waits now
 *	notif_fault_key(name)	second key of the advisory lock, in the worker's
 *				database, for whose release "wait" waits; the first is 1852206196
 *
 * Who waits goes on when the lock is free, the row is reset, or it is told to
 * end; it ends with the postmaster.
 *
 * notif.fault_while_connecting does nothing by itself: set for the worker's role,
 * its check hook is run by the server in the middle of the initialisation of a
 * connection, where no code of ours could stand otherwise.
 */
#include "postgres.h"

#include "fault.h"

#ifdef NOTIF_FAULTS

#include <signal.h>
#include <unistd.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

#include "notif.h"

#define FAULT_LOCK_CLASS	1852206196	/* "nflt" */
#define FAULT_POLL_MS		10
#define FAULT_ANY			(-2)	/* no kind or tier has this number */

typedef enum FaultAction
{
	FAULT_NONE,
	FAULT_WAIT,
	FAULT_ERROR,
	FAULT_DIE
} FaultAction;

/* All under the spinlock. */
typedef struct FaultRow
{
	slock_t		mutex;
	FaultAction action;
	int			kind;			/* NotifWorkerKind or FAULT_ANY */
	int			tier;			/* NotifTier or FAULT_ANY */
	int64		skip;			/* passages before the first that counts */
	int64		left;			/* times that it will still act; < 0: always */
	int64		passed;
	int64		fired;
	int64		waiting;
} FaultRow;

#define FAULT_NAME(name) #name,
static const char *const fault_names[] = {NOTIF_FAULT_LIST(FAULT_NAME)};

static FaultRow *fault_rows = NULL;
static int	fault_kind = FAULT_ANY; /* of this process; FAULT_ANY: no worker */
static int	fault_tier = FAULT_ANY;
static char *fault_at_start = NULL;
static bool fault_while_connecting = false;
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

PG_FUNCTION_INFO_V1(notif_fault_set);
PG_FUNCTION_INFO_V1(notif_fault_reset);
PG_FUNCTION_INFO_V1(notif_fault_passed);
PG_FUNCTION_INFO_V1(notif_fault_key);

static void fault_wait(NotifFaultPoint point);
static void fault_wait_ended(int code, Datum arg);
static bool fault_row_acts(NotifFaultPoint point);

/* ---- set-up ------------------------------------------------------------------ */

static int
fault_point_number(const char *name)
{
	for (int i = 0; i < NOTIF_FAULT_POINTS; i++)
	{
		if (strcmp(name, fault_names[i]) == 0)
			return i;
	}
	return -1;
}

/* Number of a word in a list, FAULT_ANY for NULL, -3 for one that is not in it. */
static int
fault_word_number(const char *word, const char *const *words, int n)
{
	if (word == NULL)
		return FAULT_ANY;
	for (int i = 0; i < n; i++)
	{
		if (strcmp(word, words[i]) == 0)
			return i;
	}
	return -3;
}

/* False, and nothing done, if one of the words does not exist. */
static bool
fault_arm(const char *name, const char *action, int nth, int times, const char *kind, const char *tier)
{
	static const char *const actions[] = {"none", "wait", "error", "die"};
	static const char *const kinds[] = {"upkeep", "router", "dispatcher", "conditions"};
	static const char *const tiers[] = {"critical", "standard", "bulk"};
	int			point = fault_point_number(name);
	int			what = fault_word_number(action, actions, lengthof(actions));
	int			of_kind = fault_word_number(kind, kinds, lengthof(kinds));
	int			of_tier = fault_word_number(tier, tiers, lengthof(tiers));
	FaultRow   *row;

	if (point < 0 || what < 0 || of_kind == -3 || of_tier == -3 || nth < 1 || times < 0)
		return false;
	row = &fault_rows[point];
	SpinLockAcquire(&row->mutex);
	row->action = (FaultAction) what;
	row->kind = of_kind;
	row->tier = of_tier;
	row->skip = nth - 1;
	row->left = times == 0 ? -1 : times;
	row->passed = row->fired = 0;
	SpinLockRelease(&row->mutex);
	return true;
}

static void
fault_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(sizeof(FaultRow) * NOTIF_FAULT_POINTS);
}

/* "K9b die 1 1 router standard": all words after the action may be missing. */
static void
fault_shmem_startup(void)
{
	bool		found;
	char		name[16] = "";
	char		action[16] = "";
	char		kind[16] = "";
	char		tier[16] = "";
	int			nth = 1;
	int			times = 1;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	fault_rows = ShmemInitStruct("notif fault points", sizeof(FaultRow) * NOTIF_FAULT_POINTS, &found);
	if (!found)
	{
		memset(fault_rows, 0, sizeof(FaultRow) * NOTIF_FAULT_POINTS);
		for (int i = 0; i < NOTIF_FAULT_POINTS; i++)
			SpinLockInit(&fault_rows[i].mutex);
		if (fault_at_start != NULL &&
			sscanf(fault_at_start, "%15s %15s %d %d %15s %15s", name, action, &nth, &times, kind, tier) >= 2 &&
			!fault_arm(name, action, nth, times, kind[0] ? kind : NULL, tier[0] ? tier : NULL))
			ereport(FATAL,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("notif.fault_at_start does not name a fault point: \"%s\"", fault_at_start));
	}
	LWLockRelease(AddinShmemInitLock);
}

static bool
fault_check_connecting(bool *newval, void **extra, GucSource source)
{
	if (*newval && (source == PGC_S_USER || source == PGC_S_DATABASE_USER) && IsBackgroundWorker)
		NOTIF_FAULT(K9a);
	return true;
}

void
notif_fault_init(void)
{
	DefineCustomStringVariable("notif.fault_at_start", "Arms a fault point whenever shared memory is made.",
							   NULL, &fault_at_start, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("notif.fault_while_connecting", "Passes fault point K9a where it is set.",
							 NULL, &fault_while_connecting, false, PGC_SUSET, 0,
							 fault_check_connecting, NULL, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = fault_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = fault_shmem_startup;
}

void
notif_fault_worker(int kind, int tier)
{
	fault_kind = kind;
	fault_tier = tier;
}

/* ---- at a point -------------------------------------------------------------- */

void
notif_fault_pass(NotifFaultPoint point)
{
	FaultRow   *row;
	FaultAction action = FAULT_NONE;

	if (fault_rows == NULL || fault_kind == FAULT_ANY)
		return;
	row = &fault_rows[point];
	SpinLockAcquire(&row->mutex);
	if ((row->kind == FAULT_ANY || row->kind == fault_kind) && (row->tier == FAULT_ANY || row->tier == fault_tier))
	{
		row->passed++;
		if (row->action != FAULT_NONE && row->left != 0 && --row->skip < 0)
		{
			action = row->action;
			row->fired++;
			if (row->left > 0)
				row->left--;
		}
	}
	SpinLockRelease(&row->mutex);

	switch (action)
	{
		case FAULT_NONE:
			break;
		case FAULT_WAIT:
			fault_wait(point);
			break;
		case FAULT_ERROR:
			ereport(ERROR,
					errcode(ERRCODE_INTERNAL_ERROR),
					errmsg("fault point %s of notif", fault_names[point]));
			break;
		case FAULT_DIE:
			kill(getpid(), SIGKILL);
			break;
	}
}

/*
 * Asks for the lock over and over instead of waiting for it: outside a
 * transaction nobody would clean up after an interrupted wait.
 */
static void
fault_wait(NotifFaultPoint point)
{
	FaultRow   *row = &fault_rows[point];
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, FAULT_LOCK_CLASS, (uint32) point, 2);
	SpinLockAcquire(&row->mutex);
	row->waiting++;
	SpinLockRelease(&row->mutex);
	/* FATAL, too: a worker may be told to end while it connects */
	PG_ENSURE_ERROR_CLEANUP(fault_wait_ended, Int32GetDatum(point));
	{
		while (fault_row_acts(point) && !ShutdownRequestPending)
		{
			if (LockAcquire(&tag, ShareLock, true, true) != LOCKACQUIRE_NOT_AVAIL)
			{
				LockRelease(&tag, ShareLock, true);
				break;
			}
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 FAULT_POLL_MS, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(fault_wait_ended, Int32GetDatum(point));
	fault_wait_ended(0, Int32GetDatum(point));
}

static void
fault_wait_ended(int code, Datum arg)
{
	FaultRow   *row = &fault_rows[DatumGetInt32(arg)];

	SpinLockAcquire(&row->mutex);
	row->waiting--;
	SpinLockRelease(&row->mutex);
	/* whatever set the latch meanwhile is still to be looked at */
	SetLatch(MyLatch);
}

/* False once the row was reset. */
static bool
fault_row_acts(NotifFaultPoint point)
{
	FaultRow   *row = &fault_rows[point];
	bool		acts;

	SpinLockAcquire(&row->mutex);
	acts = row->action == FAULT_WAIT;
	SpinLockRelease(&row->mutex);
	return acts;
}

/* ---- SQL --------------------------------------------------------------------- */

static int
fault_point_argument(text *argument)
{
	char	   *name = text_to_cstring(argument);
	int			point = fault_point_number(name);

	notif_require_preload();
	if (point < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("there is no fault point \"%s\"", name));
	return point;
}

Datum
notif_fault_set(PG_FUNCTION_ARGS)
{
	char	   *words[4] = {0};
	static const int at[] = {0, 1, 4, 5};

	notif_require_preload();
	for (int i = 0; i < 4; i++)
	{
		if (!PG_ARGISNULL(at[i]))
			words[i] = text_to_cstring(PG_GETARG_TEXT_PP(at[i]));
	}
	if (words[0] == NULL || words[1] == NULL || PG_ARGISNULL(2) || PG_ARGISNULL(3) ||
		!fault_arm(words[0], words[1], PG_GETARG_INT32(2), PG_GETARG_INT32(3), words[2], words[3]))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("there is no such fault point, action or worker"),
				errdetail("Given: \"%s\", \"%s\", \"%s\", \"%s\".", words[0] ? words[0] : "",
						  words[1] ? words[1] : "", words[2] ? words[2] : "", words[3] ? words[3] : ""));
	PG_RETURN_VOID();
}

Datum
notif_fault_reset(PG_FUNCTION_ARGS)
{
	notif_require_preload();
	for (int i = 0; i < NOTIF_FAULT_POINTS; i++)
		(void) fault_arm(fault_names[i], "none", 1, 0, NULL, NULL);
	PG_RETURN_VOID();
}

Datum
notif_fault_passed(PG_FUNCTION_ARGS)
{
	FaultRow   *row = &fault_rows[fault_point_argument(PG_GETARG_TEXT_PP(0))];
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 3)
		elog(ERROR, "notif_fault_passed returns passed, fired, waiting");
	SpinLockAcquire(&row->mutex);
	values[0] = Int64GetDatum(row->passed);
	values[1] = Int64GetDatum(row->fired);
	values[2] = Int64GetDatum(row->waiting);
	SpinLockRelease(&row->mutex);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

Datum
notif_fault_key(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(fault_point_argument(PG_GETARG_TEXT_PP(0)));
}

#endif							/* NOTIF_FAULTS */
