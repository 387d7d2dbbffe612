/*
 * shmem.h
 *		What the processes of notif know of each other.
 *
 * Fixed size, allocated at server start.  Holds numbers and texts only: never
 * a pointer, file descriptor or latch of a process; a process is reached
 * through its number in ProcGlobal->allProcs, where a stale number does no
 * harm (a latch of somebody else is set once for nothing).
 *
 * Locks, named at each field:
 *	 [L]  NotifShared.lock, exclusive to write, shared to read
 *	 [A]  atomic; any process
 *	 [O]  atomic; written by the worker that owns the slot, read by any process
 *	 [C]  constant after start-up
 *
 * Nobody holds the lock while waiting for anything or touching a catalog.
 */
#ifndef NOTIF_SHMEM_H
#define NOTIF_SHMEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#include "lane_shmem.h"
#include "notif.h"

#define NOTIF_MAX_DATABASES 16
/* upkeep, in each tier a router (none in critical) and a dispatcher, conditions */
#define NOTIF_WORKERS_PER_DB (2 * NOTIF_TIERS + 1)
#define NOTIF_MAX_LANES 64		/* shown per tier; more lanes work, unshown */
#define NOTIF_LANE_NAME 64
#define NOTIF_LANE_ERROR 160
#define NOTIF_OPTOUTS 4096		/* remembered per database */

/* Life of a worker slot.  Written under [L]. */
typedef enum NotifWorkerState
{
	NOTIF_STATE_STOPPED,		/* no process; launcher decides when to start */
	NOTIF_STATE_STARTING,		/* registered with the postmaster */
	NOTIF_STATE_RUNNING,		/* process has attached to its slot */
	NOTIF_STATE_STOPPING		/* was told to end */
} NotifWorkerState;

/* How far a database is; written by upkeep and the launcher under [L]. */
typedef enum NotifDatabaseState
{
	NOTIF_DB_UNKNOWN,			/* not looked at yet */
	NOTIF_DB_MISSING,			/* no such database, or it allows no connection */
	NOTIF_DB_NO_EXTENSION,		/* role or extension is absent */
	NOTIF_DB_FOUND,				/* database and role exist: upkeep may look */
	NOTIF_DB_OTHER_VERSION,		/* upkeep runs; library and objects are of different releases */
	NOTIF_DB_WAITING,			/* upkeep runs; identity waits for confirmation */
	NOTIF_DB_READY				/* routers and dispatchers may run */
} NotifDatabaseState;

/* What a worker counts; indexes of NotifWorkerSlot.counters. */
typedef enum NotifCounter
{
	NOTIF_COUNT_TURNS,			/* turns of the loop */
	NOTIF_COUNT_WAKEUPS,		/* returns from waiting */
	NOTIF_COUNT_TRANSACTIONS,
	NOTIF_COUNT_ERRORS,			/* ERRORs caught at the frame */
	NOTIF_COUNT_CLAIMS,			/* claim transactions */
	NOTIF_COUNT_ROUTED,			/* attempts inserted by the router */
	NOTIF_COUNT_SENT,			/* attempts handed to the network */
	NOTIF_COUNT_RECORDED,		/* outcomes recorded */
	NOTIF_COUNT_IN_FLIGHT,		/* gauge */
	NOTIF_COUNT_BACKLOG,		/* gauge: attempts held in memory */
	NOTIF_COUNT_FAILING,		/* gauge: ERRORs since its work last went well */
	NOTIF_COUNTERS
} NotifCounter;

typedef struct NotifWorkerSlot
{
	/* [L] */
	NotifWorkerState state;
	int			pid;			/* 0: none */
	int64		incarnation;	/* of the running or last process, see below */
	TimestampTz started_at;
	TimestampTz stopped_at;
	TimestampTz last_error_at;
	int64		restarts;		/* starts since server start, less one */
	int			failures;		/* ends in a row that were not asked for */
	int			crashes;		/* starts in a row that were not finished, the
								 * running one included; see starts.c */
	int			retry_ms;		/* after its last end the worker wants this
								 * pause; launcher doubles it by failures */
	char		last_error[NOTIF_LANE_ERROR];

	/* waking; [A] */
	pg_atomic_uint32 procno;	/* UINT32_MAX: none */
	pg_atomic_uint32 asleep;	/* worker waits, or is about to */
	pg_atomic_uint32 wake;		/* somebody has work for it */
	pg_atomic_uint32 deaf;		/* its tier is paused: a publish need not wake
								 * it, a switch does; written by its owner */

	/* [O] */
	pg_atomic_uint64 heartbeat; /* TimestampTz of the last turn */
	pg_atomic_uint64 counters[NOTIF_COUNTERS];
} NotifWorkerSlot;

/* One lane of a dispatcher as the views show it.  All [L]. */
typedef struct NotifLaneSlot
{
	bool		in_use;
	int64		lane_id;
	char		name[NOTIF_LANE_NAME];	/* route or provider, for people */
	TimestampTz parked_until;	/* 0: open; DT_NOEND: until resumed */
	int			in_flight;
	int			connections;
	int			backlog;		/* attempts read and not yet claimed */
	TimestampTz last_error_at;	/* 0: none */
	char		last_error[NOTIF_LANE_ERROR];
} NotifLaneSlot;

typedef struct NotifDatabaseSlot
{
	/* [L] */
	bool		in_use;
	bool		listed;			/* in notif.databases; else its workers end */
	char		name[NAMEDATALEN];
	NotifDatabaseState state;
	int			hold_pid;		/* backend whose DDL keeps workers out; 0: none */

	pg_atomic_uint32 dboid;		/* [A] InvalidOid until upkeep has attached */
	NotifWorkerSlot workers[NOTIF_WORKERS_PER_DB];
	NotifLaneSlot lanes[NOTIF_TIERS][NOTIF_MAX_LANES];

	pg_atomic_uint32 asking;	/* [A] type whose condition is being asked, 0: none;
								 * left by a worker that had to be ended for it */
	pg_atomic_uint32 checked[NOTIF_TIERS];	/* [A] how often verdicts of conditions were
											 * written */

	/* Recipients of whom nothing may be sent unseen; see optout.h. */
	pg_atomic_uint64 optouts;	/* [A] how many ever; written under [L] */
	int64		optout_ring[NOTIF_OPTOUTS]; /* [L] the last of them */
} NotifDatabaseSlot;

typedef struct NotifShared
{
	LWLock	   *lock;			/* [C] guards what is marked [L] */
	LWLock	   *lane_lock;		/* [C] guards lanes, see lane_shmem.h; neither
								 * lock is taken under the other */
	uint64		boot_id;		/* [C] random, never 0, new with each start of
								 * shared memory (server start or crash cycle) */
	int			launcher_pid;	/* [L] */
	bool		watched_standby;	/* [L] launcher saw this server as a standby */
	bool		starts_loaded;	/* [L] crashes of earlier lives have been read */

	pg_atomic_uint32 launcher_procno;	/* [A] UINT32_MAX: none */
	pg_atomic_uint32 launcher_wake; /* [A] look at every database now */
	pg_atomic_uint64 clock_offset_us;	/* [A] test clock: added to the real one */
	pg_atomic_uint64 clock_base_ms; /* [A] wall clock less monotonic one, as upkeep
									 * last saw it; 0: never */
	pg_atomic_uint64 clock_doubt_ms;	/* [A] monotonic: until then nothing expires
										 * by the wall clock */
	pg_atomic_uint64 last_incarnation;	/* [A] */
	ConditionVariable slot_freed;	/* broadcast when a worker leaves its slot */

	NotifDatabaseSlot databases[NOTIF_MAX_DATABASES];
	NotifLaneShared lanes;
} NotifShared;

/* NULL when not preloaded. */
extern NotifShared *notif_shared;

/* Chains the two shared-memory hooks.  Called from _PG_init when preloaded. */
extern void notif_shmem_init(void);

/*
 * A tier whose dispatcher is its router, too: one process and one transaction
 * less between a publish and the wire.
 */
#define NOTIF_TIER_IS_FUSED(tier) ((tier) == 0)

/* Slot number within a database for (kind, tier); of a fused tier it is the same. */
extern int	notif_worker_slot_index(NotifWorkerKind kind, int tier);

/* The inverse. */
extern NotifWorkerKind notif_worker_slot_kind(int index);
extern int	notif_worker_slot_tier(int index);

/*
 * A number for the life of one worker: larger than every earlier one, also
 * over restarts of the server as long as its clock is not set back behind an
 * earlier life.  (Advisory locks and keys on (who, seq) are the real fence.)
 */
extern int64 notif_next_incarnation(void);

/* Shift of notif.now() against the real clock; 0 when not preloaded. */
extern int64 notif_clock_offset_us(void);

/* Adds to the shift.  Raises when not preloaded or when it would overflow. */
extern void notif_clock_shift(int64 us);

/* Random number of this start of shared memory; 0 when not preloaded. */
extern uint64 notif_boot(void);

/*
 * Sends SIGTERM to the worker of a slot, if it has one; its state becomes
 * STOPPING.  The process id is good as long as the lock is held, because a
 * worker takes it out of the slot before it ends.
 */
extern void notif_worker_tell_to_end(NotifWorkerSlot *slot);

/* Writes the state of a database and tells the launcher if it is news. */
extern void notif_database_report(int database, NotifDatabaseState state);

/*
 * Publishes what a dispatcher knows of a lane, for the views; a NULL or empty
 * last_error leaves the previous one.  Silently drops lanes beyond
 * NOTIF_MAX_LANES.  database is NotifWorker.database.  Cheap enough for once
 * a second and lane, too dear for each attempt.
 */
extern void notif_lane_publish(int database, int tier, int64 lane_id,
							   const char *name, TimestampTz parked_until,
							   int in_flight, int connections, int backlog,
							   const char *last_error);

/* Forgets all lanes of a tier; a dispatcher calls it at its start and end. */
extern void notif_lane_forget(int database, int tier);

#endif							/* NOTIF_SHMEM_H */
