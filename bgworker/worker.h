/*
 * worker.h
 *		The frame in which router, dispatcher and upkeep live.
 *
 * worker.c connects, pins settings, attaches to the slot in shared memory and
 * runs the loop: reset latch, interrupts, reload, one turn of work, statistics,
 * reset of the turn's memory, wait.  A kind brings the callbacks below and
 * nothing else.
 *
 * Ending: notif_worker_loop returns when the worker shall end; the run function
 * cleans up and returns; worker.c leaves with proc_exit(0), or 1 after what it
 * cannot go on from.  Nothing else may end the process.
 */
#ifndef NOTIF_WORKER_H
#define NOTIF_WORKER_H

#include "postgres.h"

#include "../src/ids.h"
#include "../src/notif.h"
#include "../src/shmem.h"
#include "../src/spi.h"

/* A work callback returns this when nothing is due: sleep until woken, 30 s at most. */
#define NOTIF_IDLE (-1L)

/* Nobody sleeps longer than this: what a lost wake-up could cost. */
#define NOTIF_MAX_SLEEP_MS 30000L

typedef struct NotifWorker
{
	/* who; constant */
	int			database;		/* index in NotifShared.databases */
	int			index;			/* index of the worker slot in there */
	NotifWorkerKind kind;
	int			tier;			/* NotifTier, or NOTIF_TIER_NONE */
	int64		incarnation;	/* of this process's life */
	Oid			dboid;
	char		dbname[NAMEDATALEN];
	NotifWorkerSlot *slot;

	/* memory */
	MemoryContext life;			/* until the process ends */
	MemoryContext turn;			/* reset after each turn of the loop; current
								 * context inside callbacks */

	/* what the kind may set at any time */
	int			wait_fd;		/* also wait until this fd is readable; -1: none */
	int			transaction_timeout_ms; /* for notif_worker_begin; default 30 s,
										 * upkeep 5 min */

	/* what the kind may read */
	bool		stopping;		/* SIGTERM came: finish what is begun, begin
								 * nothing new */
	bool		reloaded;		/* SIGHUP was processed before this turn */
	bool		woken;			/* somebody called for this worker before this
								 * turn (first turn: true) */

	/* private to worker.c */
	Oid			extension;
	Oid			schema;			/* its NOTIF_PRIVATE_SCHEMA */
	bool		extension_gone;
	int64		stop_deadline_ms;
	int64		pause_until_ms;
	int			errors_in_a_row;
	int			commits;		/* since it called upkeep */
	int64		look_due_ms;	/* when it may call again */
	bool		settled;
	bool		priority_set;	/* as notif.bulk_nice has it */
} NotifWorker;

/*
 * Callbacks of a kind.  ERROR may be raised in each: the frame aborts the
 * transaction, logs, calls recover, and leaves `work` alone for a pause that
 * doubles from 1 to 60 s; the process keeps its pid.
 */
typedef struct NotifWorkerOps
{
	/*
	 * One bounded turn of work, with no transaction open before and after.
	 * Returns the ms until it wants the next turn: 0 at once, NOTIF_IDLE when
	 * only a wake-up, the fd or a signal can bring work.
	 */
	long		(*work) (NotifWorker *worker, void *arg);

	/*
	 * Serves the network only, during a pause after an ERROR; returns ms as
	 * work does.  Must not touch SQL.  NULL: nothing to serve.
	 */
	long		(*service) (NotifWorker *worker, void *arg);

	/* After an ERROR, transaction already aborted.  NULL: nothing to mend. */
	void		(*recover) (NotifWorker *worker, void *arg);

	/*
	 * While stopping: true once nothing begun is left.  Work is called until
	 * then or until notif.shutdown_grace is over.  NULL: end at once; then a
	 * transaction that is running at SIGTERM is interrupted instead of awaited.
	 */
	bool		(*drained) (NotifWorker *worker, void *arg);
} NotifWorkerOps;

/* Runs until the worker shall end, see above. */
extern void notif_worker_loop(NotifWorker *worker, const NotifWorkerOps *ops, void *arg);

/*
 * Opens a transaction (notif_spi_begin) and locks the extension against DROP.
 * False, with no transaction open, when the extension is gone or another one:
 * return from the callback, the loop ends by itself.
 */
extern bool notif_worker_begin(NotifWorker *worker, const char *label);

/* Commits it; durable as in notif_spi_commit. */
extern void notif_worker_commit(NotifWorker *worker, bool durable);

/*
 * Between on and off, outside notif_worker_begin, SIGTERM cancels what runs; for
 * statements of notif_toplevel_run.  An ERROR switches it off.
 */
extern void notif_worker_interruptible(bool on);

/*
 * How long this process waits for a lock, from now on; NOTIF_LOCK_TIMEOUT_MS
 * unless changed.  Who makes it shorter puts it back, after an ERROR too.
 */
#define NOTIF_LOCK_TIMEOUT_MS 2000
extern void notif_worker_lock_timeout(int ms);

/*
 * So many ERRORs in a row at the same work, and it is asked for row by row
 * (sql/66-isolate.tier.sql), CAREFUL_ROWS at a time: the next one is the third try
 * of what always fails.
 */
#define NOTIF_CAREFUL_AFTER 2
#define NOTIF_CAREFUL_ROWS	100

/* Rolls it back. */
extern void notif_worker_rollback(NotifWorker *worker);

/*
 * Takes the session advisory lock (database, kind, tier, share) that makes
 * this process the only one that does this kind of work; it is held until the process ends, over ERRORs
 * too.  False: another process has it; return from the run function, the
 * launcher tries again later.  Call outside a transaction.
 */
extern bool notif_worker_own(NotifWorker *worker, NotifWorkerKind kind, int share);

/*
 * Releases what foreign code has left of session advisory locks, and takes the worker's
 * own one again; in a transaction.  Raises if somebody else was faster.
 */
extern void notif_worker_drop_foreign_locks(NotifWorker *worker, NotifWorkerKind kind, int share);

/*
 * Ends the process if the postmaster is gone; costs a look at a flag.  Waiting does
 * so by itself, but a worker with enough to do never waits: call before whatever
 * must not happen without a server (F-P-8).
 */
extern void notif_worker_mind_postmaster(void);

/* Counters shown by notif_worker_status; by the owner of the slot only. */
extern void notif_worker_count(NotifWorker *worker, NotifCounter counter, int64 n);
extern void notif_worker_gauge(NotifWorker *worker, NotifCounter counter, int64 value);

/*
 * starts.c, for the launcher.  Load reads what earlier lives of the server left,
 * once per life; begin counts a start before it is made; keep writes down what has
 * changed; forget removes the file at an orderly end.  pause_ms is how long a slot
 * rests because of its crashes, trial whether one of those is being tried now.
 */
extern void notif_starts_load(void);
extern void notif_starts_begin(NotifWorkerSlot *slot);
extern void notif_starts_keep(void);
extern void notif_starts_forget(void);
extern int64 notif_starts_pause_ms(const NotifWorkerSlot *slot);
extern bool notif_starts_trial(void);

/* Wakes another worker of this database, at once. */
extern void notif_worker_wake(NotifWorker *worker, NotifWorkerKind kind, int tier);

/*
 * Runs one utility statement that refuses to run inside a function (DETACH …
 * CONCURRENTLY, VACUUM) through a top-level portal, as the owner of relation
 * `as_owner_of`, who must not be a superuser.  No transaction may be open; the
 * statement opens its own.  Raises on failure.  (toplevel.c)
 */
extern void notif_toplevel_run(const char *sql, Oid as_owner_of);

/* The kinds. */
extern void notif_upkeep_run(NotifWorker *worker);
extern void notif_router_run(NotifWorker *worker);
extern void notif_dispatcher_run(NotifWorker *worker);
extern void notif_conditions_run(NotifWorker *worker);

/* Entry points known to the postmaster. */
extern PGDLLEXPORT void notif_launcher_main(Datum arg);
extern PGDLLEXPORT void notif_promotion_main(Datum arg);
extern PGDLLEXPORT void notif_probe_main(Datum arg);
extern PGDLLEXPORT void notif_worker_main(Datum arg);

#endif							/* NOTIF_WORKER_H */
