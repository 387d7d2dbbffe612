/*
 * fault.h
 *		Points at which a test lets a worker wait, raise or die.
 *
 * Only a build with FAULTS=1 has them: elsewhere NOTIF_FAULT() is nothing and
 * fault.c contributes nothing to the library.  What a point does is set from SQL
 * (fault.c says how); one that is not set costs a look into shared memory.
 *
 *	K1	router: a chunk is inserted and not committed
 *	K2	dispatcher: a batch is claimed and not committed
 *	K3	the claim has committed, no byte has left
 *	K4	requests are with the kernel, no answer is read
 *	K5	answers are in memory, their record has not begun
 *	K6	outcomes are inserted and not committed
 *	K7	the record has committed
 *	K8a	upkeep: a partition is emptied and not committed
 *	K8b	upkeep: a partition is detached and not dropped
 *	K9a	any worker: inside the initialisation of its connection
 *	K9b	any worker: connected, its loop does not exist
 *	K11a	router: digests are closed, their events inserted, and not committed
 *	K11b	router: that has committed, the events are not routed
 *	K10	conditions: answers are known, nothing is written
 *	K11	conditions: verdicts are inserted and not committed
 *	K12	conditions: they have committed, the dispatcher does not know
 *	K10a	router: what was due is released and not committed
 *	K10b	the release has committed, its events are not read
 */
#ifndef NOTIF_FAULT_H
#define NOTIF_FAULT_H

#ifdef NOTIF_FAULTS

#define NOTIF_FAULT_LIST(X) \
	X(K1) X(K2) X(K3) X(K4) X(K5) X(K6) X(K7) X(K8a) X(K8b) X(K9a) X(K9b) \
	X(K10) X(K10a) X(K10b) X(K11) X(K11a) X(K11b) X(K12)

#define NOTIF_FAULT_ENUM(name) NOTIF_FAULT_##name,
typedef enum NotifFaultPoint
{
	NOTIF_FAULT_LIST(NOTIF_FAULT_ENUM) NOTIF_FAULT_POINTS
} NotifFaultPoint;

/* May wait, raise ERROR or not return at all; inside or outside a transaction. */
extern void notif_fault_pass(NotifFaultPoint point);

/* Settings and shared memory; once, from _PG_init, before the other settings. */
extern void notif_fault_init(void);

/* Tells which worker this process is; until then it passes every point unseen. */
extern void notif_fault_worker(int kind, int tier);

#define NOTIF_FAULT(point)	notif_fault_pass(NOTIF_FAULT_##point)
#define NOTIF_FAULT_INIT()	notif_fault_init()
#define NOTIF_FAULT_WORKER(kind, tier)	notif_fault_worker(kind, tier)

#else

#define NOTIF_FAULT(point)	((void) 0)
#define NOTIF_FAULT_INIT()	((void) 0)
#define NOTIF_FAULT_WORKER(kind, tier)	((void) 0)

#endif							/* NOTIF_FAULTS */

#endif							/* NOTIF_FAULT_H */
