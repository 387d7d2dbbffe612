/*
 * router.h
 *		The router's steps, for its own worker and for the one that also dispatches.
 */
#ifndef NOTIF_ROUTER_H
#define NOTIF_ROUTER_H

#include "postgres.h"

#include "worker.h"

typedef struct Router Router;

/*
 * How a worker that dispatches, too, takes what has just been expanded to the
 * wire in the same transaction.  arg is passed on.
 */
typedef struct RouterDirect
{
	Datum		lanes;			/* int4[] of those that can send now */
	void	   *arg;

	/* In the transaction, before anything is read: true gives the step up. */
	bool		(*stale) (void *arg);

	/*
	 * In the transaction: attempts (notif_private.attempt[]) with their lanes
	 * (int4[]), not empty.  True: commit durably.  May raise.
	 */
	bool		(*fly) (void *arg, Datum attempts, Datum lanes);

	/* After that commit. */
	void		(*flown) (void *arg);
} RouterDirect;

/* Lives as long as the worker. */
extern Router *router_new(NotifWorker *worker);

/*
 * One step: a chunk of the window of events, of the next expansion in turn, or of
 * what was published for later and is due.
 * Returns what NotifWorkerOps.work does.  direct NULL: everything is filed in the
 * outbox.  Raises.
 */
extern long router_turn(NotifWorker *worker, Router *router, const RouterDirect *direct);

/*
 * In how many ms it wants its next step, as NotifWorkerOps.work returns it, if it is
 * not woken before.
 */
extern long router_due_ms(Router *router);

/* Whether a step has filed attempts since the last call, or was woken for nothing. */
extern bool router_has_filed(Router *router);

/* After an ERROR. */
extern void router_recover(NotifWorker *worker, void *router);

#endif							/* NOTIF_ROUTER_H */
