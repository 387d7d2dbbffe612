/*
 * priority.h
 *		The scheduling priority of the bulk tier's workers.
 */
#ifndef NOTIF_PRIORITY_H
#define NOTIF_PRIORITY_H

#include "worker.h"

/*
 * Brings the process to notif.bulk_nice if its worker is a router or dispatcher
 * of the bulk tier; otherwise, and if nothing has changed, does nothing.  For
 * worker.c, before each turn of its loop.  False: the system refuses for now,
 * call again in NOTIF_PRIORITY_RETRY_MS.  Never throws.
 */
extern bool notif_priority_mind(const NotifWorker *worker);

#define NOTIF_PRIORITY_RETRY_MS 150

#endif							/* NOTIF_PRIORITY_H */
