/*
 * optout.h
 *		Who must not be sent to unseen.
 *
 * A claimed attempt has passed the gates; whoever opts out afterwards is told to
 * the dispatchers through a ring in shared memory, so that what has not reached
 * the wire goes back and passes the gates again.  Entries are written when the
 * transaction has committed and its rows are visible, before its client hears of
 * it: a claim whose snapshot is taken after the count was read has seen the rows
 * of all entries counted.
 */
#ifndef NOTIF_OPTOUT_H
#define NOTIF_OPTOUT_H

#include "postgres.h"

/*
 * Notes a recipient when the current transaction commits; PREPARE TRANSACTION
 * forgets it, and COMMIT PREPARED calls notif_optout_everybody().  Raises when
 * out of memory.  No-op when not preloaded.
 */
extern void notif_optout_at_commit(int64 recipient);

/* At once: everything unsent of this database goes back. */
extern void notif_optout_everybody(Oid dboid);

/* How many were ever noted in NotifWorker.database; takes no lock. */
extern uint64 notif_optout_count(int database);

/*
 * The recipients noted since *seen, into recipients (NOTIF_OPTOUTS), their number
 * into *n, and moves *seen.  False: more than are remembered, so everybody.
 */
extern bool notif_optout_read(int database, uint64 *seen, int64 *recipients, int *n);

#endif							/* NOTIF_OPTOUT_H */
