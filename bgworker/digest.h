/*
 * digest.h
 *		The part of a tier's router that tells what has been gathered.
 */
#ifndef NOTIF_DIGEST_H
#define NOTIF_DIGEST_H

#include "postgres.h"

#include "worker.h"

typedef struct Digests Digests;

/* Lives as long as the worker. */
extern Digests *digests_new(NotifWorker *worker);

/*
 * Whether one is to be looked at now; takes in what SQL has asked for since
 * (notif_private.digest_due).  woken: the worker was called, so that a switch may have
 * been turned.
 */
extern bool digests_due(Digests *digests, bool woken);

/*
 * One transaction: closes some that are due.  closed: how many, each of them an
 * event that the router has not read.  False when the extension is gone.  Raises.
 */
extern bool digests_step(NotifWorker *worker, Digests *digests, int *closed);

/* Milliseconds until the next is to be looked at; NOTIF_IDLE: none is open. */
extern long digests_wait(const Digests *digests);

/* After an ERROR, in whatever step. */
extern void digests_recover(Digests *digests);

#endif							/* NOTIF_DIGEST_H */
