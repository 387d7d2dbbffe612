/*
 * optout.h
 *		Who must not be sent to unseen, and what must not be sent.
 *
 * A claimed attempt has passed the gates; whoever opts out afterwards, and what is
 * paused or cancelled, is told to the dispatchers through a ring in shared memory,
 * so that what has not reached the wire goes back and passes the gates again.  Entries are written when the
 * transaction has committed and its rows are visible, before its client hears of
 * it: a claim whose snapshot is taken after the count was read has seen the rows
 * of all entries counted.
 */
#ifndef NOTIF_OPTOUT_H
#define NOTIF_OPTOUT_H

#include "postgres.h"

#include "utils/uuid.h"

/*
 * What an entry of the ring is about.  A recipient stands there as his id, which is
 * more than 0; everything else as a negative number made of its kind and id.
 */
typedef enum NotifHoldKind
{
	NOTIF_HOLD_EVERYTHING,		/* id: 0 */
	NOTIF_HOLD_TYPE,
	NOTIF_HOLD_CAMPAIGN,
	NOTIF_HOLD_PROVIDER,
	NOTIF_HOLD_TIER,
	NOTIF_HOLD_EVENT			/* id: a hash, notif_hold_event() */
} NotifHoldKind;

static inline int64
notif_hold_key(NotifHoldKind kind, int64 id)
{
	return PG_INT64_MIN | (int64) kind << 60 | (id & ((INT64CONST(1) << 60) - 1));
}

extern int64 notif_hold_event(const pg_uuid_t *event);

/*
 * Notes a recipient, or notif_hold_key(), when the current transaction commits;
 * PREPARE TRANSACTION forgets it, and COMMIT PREPARED calls notif_optout_everybody().
 * Raises when out of memory.  No-op when not preloaded.
 */
extern void notif_optout_at_commit(int64 key);

/* At once: everything unsent of this database goes back. */
extern void notif_optout_everybody(Oid dboid);

/* How many were ever noted in NotifWorker.database; takes no lock. */
extern uint64 notif_optout_count(int database);

/*
 * What was noted since *seen, into keys (NOTIF_OPTOUTS), their number
 * into *n, and moves *seen.  False: more than are remembered, so everything.
 */
extern bool notif_optout_read(int database, uint64 *seen, int64 *keys, int *n);

#endif							/* NOTIF_OPTOUT_H */
