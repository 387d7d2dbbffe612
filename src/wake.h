/*
 * wake.h
 *		Waking workers through shared memory.
 *
 * Everything here is a no-op when the library is not preloaded, and when the
 * database has no such worker.  A wake-up that comes while the worker is busy
 * is not lost: it takes another turn before it sleeps.
 */
#ifndef NOTIF_WAKE_H
#define NOTIF_WAKE_H

#include "postgres.h"

#include "notif.h"
#include "shmem.h"

/*
 * Wakes the router of this database and tier when the current transaction
 * commits; nothing happens if it aborts.  PREPARE TRANSACTION forgets it and
 * COMMIT PREPARED wakes all three tiers.  A few nanoseconds after the first
 * call of a backend.
 */
extern void notif_wake_at_commit(int tier);

/* Likewise, but also wakes a router whose tier is paused: something about the
 * configuration or a switch has changed. */
extern void notif_wake_for_change(int tier);

/* Likewise for the launcher and this database's upkeep worker, if it has one. */
extern void notif_wake_launcher_at_commit(void);

/* Likewise for this database's conditions worker. */
extern void notif_wake_conditions_at_commit(void);

/*
 * Wakes a worker at once; for workers that have just committed something for
 * another one.  tier is ignored for upkeep and conditions.
 */
extern void notif_wake_worker(Oid database, NotifWorkerKind kind, int tier);

/* Makes the launcher look at every database now, waiting ones too. */
extern void notif_wake_launcher(void);

/* Only sets the launcher's latch: a worker has come or gone. */
extern void notif_nudge_launcher(void);

/*
 * The slot of a database that has workers or once had some, NULL if there is
 * none.  Takes no lock.
 */
extern NotifDatabaseSlot *notif_wake_find_database(Oid dboid);

/* Wakes one slot. */
extern void notif_wake_slot(NotifWorkerSlot *slot);

#endif							/* NOTIF_WAKE_H */
