/*
 * lane_shmem.h
 *		Breakers and pacers in shared memory: one truth for the dispatchers of all
 *		tiers.
 *
 * A breaker belongs to a provider and a route, a pacer to a provider; both to a
 * database and to the extension in it, so that nothing is inherited by another
 * installation that gave the same numbers.  Slots are found by key and reached
 * through a reference that repeats it: the least lately used slot is taken over
 * when there is no free one, and a reference to it then finds a stranger's key
 * and does nothing, as if there were no breaker or pacer.
 *
 * Locks, named at each field:
 *	 [G]  NotifShared.lane_lock, exclusive to write, shared to read
 *	 [A]  atomic; any process
 *	 [O]  atomic; written by the dispatcher of the tier, read by any process
 *
 * Nobody holds the lock while waiting for anything or touching a catalog.
 *
 * The log.  A change that the machine makes is kept in the slot until a
 * dispatcher has written it down (notif_breaker_unwritten, _written); one that a
 * session makes is written down by its own transaction and holds from the
 * commit.  The number of a row is the epoch that it began; a session reserves its
 * epoch when it writes the row.
 */
#ifndef NOTIF_LANE_SHMEM_H
#define NOTIF_LANE_SHMEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"

#include "core/breaker.h"
#include "core/pacer.h"
#include "notif.h"

#define NOTIF_MAX_BREAKERS	128
#define NOTIF_MAX_PACERS	64
#define NOTIF_BREAKER_UNWRITTEN 8	/* changes kept; the oldest go */
#define NOTIF_BREAKER_WHY	160

/* One change of a breaker. */
typedef struct NotifBreakerChange
{
	int			provider;
	int			route;
	uint64		epoch;
	TimestampTz at;				/* notif.now() */
	NotifBreakerState from;
	NotifBreakerState to;
	NotifBreakerCause cause;
	int			step;
	TimestampTz probe_at;		/* 0: none */
	char		why[NOTIF_BREAKER_WHY];
	char		by[NAMEDATALEN];	/* empty: the machine */
} NotifBreakerChange;

/* Whose a slot is; the first thing in each.  All [G]. */
typedef struct NotifLaneKey
{
	Oid			dboid;			/* InvalidOid: free */
	Oid			extension;
	int			provider;
	int			route;			/* 0 for a pacer, which has all of a provider's */
	uint64		used;			/* number of the latest look-up */
} NotifLaneKey;

typedef struct NotifBreakerSlot
{
	NotifLaneKey key;

	/* [G] */
	bool		known;			/* restored from the log */
	NotifBreaker core;
	uint64		reserved;		/* epochs that sessions have taken */
	TimestampTz since_at;
	char		why[NOTIF_BREAKER_WHY];
	char		by[NAMEDATALEN];	/* empty: the machine */
	int			n_changes;
	NotifBreakerChange changes[NOTIF_BREAKER_UNWRITTEN];

	pg_atomic_uint64 mode;		/* [A] epoch * 4 + state; changed under [G] */
} NotifBreakerSlot;

typedef struct NotifPacerSlot
{
	NotifLaneKey key;
	NotifPacer	core;			/* [G] */

	pg_atomic_uint32 in_flight[NOTIF_TIERS];	/* [O]; grants add under [G] */
} NotifPacerSlot;

typedef struct NotifLaneShared
{
	uint64		lookups;		/* [G] */
	pg_atomic_uint64 changes;	/* [A] of all breakers together */
	NotifBreakerSlot breakers[NOTIF_MAX_BREAKERS];
	NotifPacerSlot pacers[NOTIF_MAX_PACERS];
} NotifLaneShared;

typedef struct NotifBreakerRef
{
	NotifBreakerSlot *slot;		/* NULL: none, everything passes */
	int			provider;
	int			route;
} NotifBreakerRef;

typedef struct NotifPacerRef
{
	NotifPacerSlot *slot;		/* NULL: none, everything passes */
	int			provider;
} NotifPacerRef;

/* Called once, when shared memory is made. */
extern void notif_lane_shmem_init(NotifLaneShared *shared);

/* Time of both machines: monotonic, plus the shift of the tests' clock. */
extern int64 notif_lane_now_us(void);

/* ---- breakers --------------------------------------------------------------------- */

/*
 * The breaker of this database; made, closed and unknown, where there is none.  In
 * a transaction.  *known says whether it has been restored.
 */
extern NotifBreakerRef notif_breaker_find(int provider, int route, bool *known);

/* State and epoch as of now, without a lock; closed for none. */
extern NotifBreakerState notif_breaker_mode(NotifBreakerRef ref, uint64 *epoch);

/* Number that grows with every change of any breaker of the server. */
extern uint64 notif_breaker_changes(void);

/* As in core/breaker.h; each looks up time and randomness itself. */
extern int	notif_breaker_take(NotifBreakerRef ref, int wanted, double rate, double burst, uint64 *epoch);
extern void notif_breaker_give_back(NotifBreakerRef ref, uint64 epoch, int n);
extern int	notif_breaker_free(NotifBreakerRef ref, int in_flight, int capacity);
extern int64 notif_breaker_delay_us(NotifBreakerRef ref, double rate);

/* Makes a recovering breaker closed when its time has come; µs until then, or
 * INT64_MAX where it does not recover. */
extern int64 notif_breaker_watch(NotifBreakerRef ref);

/*
 * Takes in what a result says; word is the provider's or the network's for it.
 * True: what failed is not to blame.
 */
extern bool notif_breaker_report(NotifBreakerRef ref, uint64 epoch, NotifSign sign, const char *word);

/* Other credentials are in use: a breaker that refused ones had opened is due. */
extern void notif_breaker_new_credentials(NotifBreakerRef ref);

/* Until when an open one is not probed; 0: it may be, or is not open;
 * DT_NOEND: until somebody closes it. */
extern TimestampTz notif_breaker_until(NotifBreakerRef ref);

/*
 * Changes of this database that are not written down, into changes[max]; returns
 * how many.  Once they are: notif_breaker_written.
 */
extern int	notif_breaker_unwritten(NotifBreakerChange *changes, int max);
extern void notif_breaker_written(const NotifBreakerChange *changes, int n);

/* State as the log's last row has it: unless it is known already. */
extern void notif_breaker_recall(NotifBreakerRef ref, const NotifBreakerChange *last, const char *by);

/*
 * A session wants it open or closed: reserves the epoch of that change.  False if
 * there is nothing to change, unless again says that the session has switched it
 * before; mend leaves one open that was opened by hand.
 */
extern bool notif_breaker_reserve(NotifBreakerRef ref, bool open, bool mend, bool again, uint64 *epoch,
								  NotifBreakerState *from);

/* The change is committed, and its row is written under that epoch. */
extern void notif_breaker_apply(NotifBreakerRef ref, bool open, uint64 epoch, const char *why, const char *by);

/* ---- pacers ----------------------------------------------------------------------- */

/* The pacer of this database, with these limits.  In a transaction. */
extern NotifPacerRef notif_pacer_find(int provider, const NotifPacerLimits *limits);

/* A dispatcher of the tier has nothing in flight: at its start and end. */
extern void notif_pacer_forget(Oid dboid, int tier);

extern int	notif_pacer_take(NotifPacerRef ref, int tier, int wanted);
/* Of granted, sent are on the wire; the others come back. */
extern void notif_pacer_used(NotifPacerRef ref, int tier, int granted, int sent);
/* One has left the wire. */
extern void notif_pacer_ended(NotifPacerRef ref, int tier);
extern int64 notif_pacer_delay_us(NotifPacerRef ref, int tier, int wanted);
extern bool notif_pacer_slow_down(NotifPacerRef ref, int64 sent_us, int retry_after_s);

#endif							/* NOTIF_LANE_SHMEM_H */
