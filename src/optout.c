/*
 * optout.c
 *		Tells the dispatchers who has opted out, and what was paused or cancelled.
 *
 * What a transaction notes is kept by the backend and written to the ring at its
 * commit.  A subtransaction that is rolled back leaves its entries: something goes
 * back to the gates for nothing.  A transaction that notes more than fits, or one
 * that was prepared, counts for everybody.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "notif.h"
#include "optout.h"
#include "shmem.h"
#include "wake.h"

#define PENDING_FIRST	16

/* Of the current transaction. */
static int64 *pending = NULL;	/* in TopMemoryContext, kept */
static int	pending_room = 0;
static int	n_pending = 0;		/* more than NOTIF_OPTOUTS: everybody */

PG_FUNCTION_INFO_V1(notif_hold_unsent);
PG_FUNCTION_INFO_V1(notif_hold_unsent_of);
PG_FUNCTION_INFO_V1(notif_hold_unsent_event);

static void
optout_write(Oid dboid, const int64 *keys, int n)
{
	NotifDatabaseSlot *database = notif_wake_find_database(dboid);
	uint64		count;

	if (database == NULL)
		return;					/* it has no dispatcher */
	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	count = pg_atomic_read_u64(&database->optouts);
	if (n > NOTIF_OPTOUTS)
		count += NOTIF_OPTOUTS + 1;
	else
	{
		for (int i = 0; i < n; i++)
			database->optout_ring[count++ % NOTIF_OPTOUTS] = keys[i];
	}
	pg_atomic_write_u64(&database->optouts, count);
	LWLockRelease(notif_shared->lock);
}

static void
optout_at_xact_end(XactEvent event, void *arg)
{
	int			n = n_pending;

	if (n == 0)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			n_pending = 0;
			optout_write(MyDatabaseId, pending, n);
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			n_pending = 0;
			break;
		default:
			break;
	}
}

void
notif_optout_at_commit(int64 key)
{
	static bool registered = false;

	if (notif_shared == NULL || n_pending > NOTIF_OPTOUTS)
		return;
	if (!registered)
	{
		RegisterXactCallback(optout_at_xact_end, NULL);
		registered = true;
	}
	if (n_pending > 0 && pending[n_pending - 1] == key)
		return;
	if (n_pending == pending_room && n_pending < NOTIF_OPTOUTS)
	{
		int			room = Max(PENDING_FIRST, 2 * pending_room);
		int64	   *wider = MemoryContextAlloc(TopMemoryContext, sizeof(int64) * room);

		if (pending != NULL)
		{
			memcpy(wider, pending, sizeof(int64) * n_pending);
			pfree(pending);
		}
		pending = wider;
		pending_room = room;
	}
	if (n_pending < NOTIF_OPTOUTS)
		pending[n_pending] = key;
	n_pending++;
}

void
notif_optout_everybody(Oid dboid)
{
	if (notif_shared != NULL)
		optout_write(dboid, NULL, NOTIF_OPTOUTS + 1);
}

uint64
notif_optout_count(int database)
{
	return pg_atomic_read_u64(&notif_shared->databases[database].optouts);
}

bool
notif_optout_read(int database, uint64 *seen, int64 *keys, int *n)
{
	NotifDatabaseSlot *slot = &notif_shared->databases[database];
	uint64		from = *seen;
	uint64		count;

	*n = 0;
	LWLockAcquire(notif_shared->lock, LW_SHARED);
	count = pg_atomic_read_u64(&slot->optouts);
	if (count - from <= NOTIF_OPTOUTS)
	{
		for (uint64 i = from; i < count; i++)
			keys[(*n)++] = slot->optout_ring[i % NOTIF_OPTOUTS];
	}
	LWLockRelease(notif_shared->lock);
	*seen = count;
	return count - from <= NOTIF_OPTOUTS;
}

Datum
notif_hold_unsent(PG_FUNCTION_ARGS)
{
	notif_optout_at_commit(PG_GETARG_INT64(0));
	PG_RETURN_VOID();
}

/* By what it shares with the events released for it, delivery_time.c. */
int64
notif_hold_event(const pg_uuid_t *event)
{
	return notif_hold_key(NOTIF_HOLD_EVENT,
						  (int64) hash_bytes_extended(event->data + 8, UUID_LEN - 8, 0));
}

Datum
notif_hold_unsent_event(PG_FUNCTION_ARGS)
{
	notif_optout_at_commit(notif_hold_event(PG_GETARG_UUID_P(0)));
	PG_RETURN_VOID();
}

/* Of a switch: notif.pause() has checked its name. */
Datum
notif_hold_unsent_of(PG_FUNCTION_ARGS)
{
	static const struct
	{
		const char *what;
		NotifHoldKind kind;
	}			kinds[] = {
		{"everything", NOTIF_HOLD_EVERYTHING},
		{"type", NOTIF_HOLD_TYPE},
		{"campaign", NOTIF_HOLD_CAMPAIGN},
		{"provider", NOTIF_HOLD_PROVIDER},
		{"tier", NOTIF_HOLD_TIER}
	};
	char	   *what = text_to_cstring(PG_GETARG_TEXT_PP(0));

	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		if (strcmp(what, kinds[i].what) == 0)
		{
			notif_optout_at_commit(notif_hold_key(kinds[i].kind, PG_GETARG_INT32(1)));
			PG_RETURN_VOID();
		}
	}
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("there is no switch for \"%s\"", what));
}
