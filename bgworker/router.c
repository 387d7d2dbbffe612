/*
 * router.c
 *		Expands events of one tier into inbox rows and attempts.
 *
 * All state is in the ledger (sql/52-route.tier.sql); what is kept here is the
 * list of expansions that are not finished, and when the next event that was
 * published for later is due (sql/51-appointments.tier.sql).  Expansions, the window
 * of events, what is due of these and of digests (digest.c) are served round robin, one
 * bounded transaction each, so that no event delays another of its tier by more than one
 * chunk.  Commits are asynchronous: what a crash takes, rows and cursor together, is done
 * again with the same ids.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "../src/fault.h"
#include "../src/ids.h"
#include "../src/settings.h"
#include "digest.h"
#include "router.h"

/* So many events are released by a transaction. */
#define RELEASE_MAX		500

typedef enum RouterStep
{
	STEP_WINDOW, STEP_EXPANSION, STEP_RELEASE, STEP_DIGESTS, ROUTER_STEPS
} RouterStep;

struct Router
{
	List	   *expansions;		/* pg_uuid_t *, served in turn */
	bool		loaded;
	RouterStep	latest;			/* what was served last */
	bool		window_empty;
	bool		called;			/* woken since the last step of the window */
	TimestampTz next_due;		/* of what is published for later; DT_NOBEGIN: look,
								 * DT_NOEND: there is nothing */
	bool		paused;			/* the tier's switch: nothing expands */
	bool		filed;			/* router_has_filed */
	bool		stepping;		/* a step has begun and not committed */
	int			failures[ROUTER_STEPS]; /* ERRORs in a row */
	Digests    *digests;		/* NULL: the tier has none */
	bool		digests_due;
	NotifStmt	route;
	NotifStmt	expand;
	NotifStmt	release;
	NotifStmt	list;
};

static void
router_add(NotifWorker *worker, Router *router, const NotifRows *rows, uint64 row, int col)
{
	int			n;
	pg_uuid_t  *ids = notif_spi_uuid_array(rows, row, col, worker->turn, &n);

	for (int i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(worker->life);
		pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

		*id = ids[i];
		router->expansions = lappend(router->expansions, id);
		MemoryContextSwitchTo(old);
	}
}

static bool
router_load(NotifWorker *worker, Router *router)
{
	NotifRows	rows;

	if (!notif_worker_begin(worker, "notif: reading expansions"))
		return false;
	list_free_deep(router->expansions);
	router->expansions = NIL;
	rows = notif_spi_run(&router->list, NULL, NULL, 0);
	for (uint64 i = 0; i < rows.count; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(worker->life);
		pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

		notif_spi_uuid(&rows, i, 1, id);
		router->expansions = lappend(router->expansions, id);
		MemoryContextSwitchTo(old);
	}
	notif_worker_commit(worker, false);
	router->loaded = true;
	return true;
}

/* A column that says when the earliest thing that was filed is due. */
static void
router_note_due(Router *router, const NotifRows *rows, int col)
{
	bool		none;
	TimestampTz due = notif_spi_timestamptz(rows, 0, col, &none);

	if (!none)
		router->next_due = Min(router->next_due, due);
}

/* There may be something to claim. */
static void
router_tell_dispatcher(NotifWorker *worker, Router *router)
{
	router->filed = true;
	if (worker->kind == NOTIF_WORKER_ROUTER)
		notif_worker_wake(worker, NOTIF_WORKER_DISPATCHER, worker->tier);
}

/* One chunk of the window; false when the extension is gone. */
static bool
router_step_window(NotifWorker *worker, Router *router, const RouterDirect *direct)
{
	bool		careful = router->failures[STEP_WINDOW] >= NOTIF_CAREFUL_AFTER;
	Datum		args[3];
	NotifRows	rows;
	int64		attempts;
	bool		idle;
	bool		none;
	bool		flown = false;
	bool		durable = false;
	Datum		batch;

	if (!notif_worker_begin(worker, "notif: routing events"))
		return false;
	if (direct != NULL && direct->stale(direct->arg))
	{
		router->window_empty = false;
		notif_worker_rollback(worker);
		return true;
	}
	/* row by row nothing goes straight to the wire */
	args[0] = Int32GetDatum(careful ? Min(guc_router_chunk, NOTIF_CAREFUL_ROWS) : guc_router_chunk);
	args[1] = direct != NULL ? direct->lanes : (Datum) 0;
	args[2] = BoolGetDatum(careful);
	router->stepping = true;
	rows = notif_spi_run(&router->route, args, direct != NULL && !careful ? "   " : " n ", 1);
	idle = notif_spi_int32(&rows, 0, 1, NULL) == 0;
	attempts = notif_spi_int64(&rows, 0, 2, NULL);
	router->window_empty = !notif_spi_bool(&rows, 0, 3, NULL);
	router->paused = notif_spi_bool(&rows, 0, 5, NULL);
	pg_atomic_write_u32(&worker->slot->deaf, router->paused);
	router_add(worker, router, &rows, 0, 4);
	router_note_due(router, &rows, 8);
	batch = notif_spi_datum(&rows, 0, 6, &none);
	if (direct != NULL && !none)
	{
		durable = direct->fly(direct->arg, batch, notif_spi_datum(&rows, 0, 7, &none));
		flown = true;
	}
	if (!idle)
		NOTIF_FAULT(K1);
	if (durable)
		NOTIF_FAULT(K2);
	notif_worker_commit(worker, durable);
	router->stepping = false;
	router->failures[STEP_WINDOW] = 0;
	if (durable)
		NOTIF_FAULT(K3);
	notif_worker_count(worker, NOTIF_COUNT_ROUTED, attempts);
	if (flown)
		direct->flown(direct->arg);

	/*
	 * Woken without an event: whoever called may have turned a switch, which
	 * concerns the dispatcher as well.
	 */
	if (attempts > 0 || (idle && router->called))
		router_tell_dispatcher(worker, router);
	router->called = false;
	return true;
}

/* One chunk of the next expansion in turn. */
static bool
router_step_expansion(NotifWorker *worker, Router *router)
{
	pg_uuid_t  *id = linitial(router->expansions);
	bool		careful = router->failures[STEP_EXPANSION] >= NOTIF_CAREFUL_AFTER;
	Datum		args[3];
	NotifRows	rows;
	int64		attempts;
	bool		done;
	MemoryContext old;

	if (!notif_worker_begin(worker, "notif: expanding an audience"))
		return false;
	args[0] = UUIDPGetDatum(id);
	args[1] = Int32GetDatum(careful ? Min(guc_router_chunk, NOTIF_CAREFUL_ROWS) : guc_router_chunk);
	args[2] = BoolGetDatum(careful);
	router->stepping = true;
	rows = notif_spi_run(&router->expand, args, NULL, 1);
	attempts = notif_spi_int64(&rows, 0, 1, NULL);
	done = notif_spi_bool(&rows, 0, 2, NULL);
	router->paused = notif_spi_bool(&rows, 0, 4, NULL);
	router_add(worker, router, &rows, 0, 3);
	router_note_due(router, &rows, 5);
	NOTIF_FAULT(K1);
	notif_worker_commit(worker, false);
	router->stepping = false;
	router->failures[STEP_EXPANSION] = 0;
	notif_worker_count(worker, NOTIF_COUNT_ROUTED, attempts);
	if (attempts > 0)
		router_tell_dispatcher(worker, router);

	old = MemoryContextSwitchTo(worker->life);
	router->expansions = list_delete_first(router->expansions);
	if (done)
		pfree(id);
	else
		router->expansions = lappend(router->expansions, id);
	MemoryContextSwitchTo(old);
	return true;
}

/* What was published for later and is due. */
static bool
router_step_release(NotifWorker *worker, Router *router)
{
	Datum		args[2];
	NotifRows	rows;
	int32		released;
	bool		none;

	if (!notif_worker_begin(worker, "notif: releasing what is due"))
		return false;
	args[0] = Int32GetDatum(RELEASE_MAX);
	args[1] = BoolGetDatum(router->failures[STEP_RELEASE] >= NOTIF_CAREFUL_AFTER);
	router->stepping = true;
	rows = notif_spi_run(&router->release, args, NULL, 1);
	released = notif_spi_int32(&rows, 0, 1, NULL);
	router->next_due = notif_spi_timestamptz(&rows, 0, 3, &none);
	if (none)
		router->next_due = DT_NOEND;
	router->paused = notif_spi_bool(&rows, 0, 4, NULL);
	if (router->paused)
		router->next_due = DT_NOBEGIN;
	if (released > 0)
		NOTIF_FAULT(K10a);
	notif_worker_commit(worker, false);
	router->stepping = false;
	router->failures[STEP_RELEASE] = 0;
	if (released > 0)
	{
		NOTIF_FAULT(K10b);
		router->window_empty = false;
	}
	return true;
}

/* Digests whose time has come; ERRORs are counted there. */
static bool
router_step_digests(NotifWorker *worker, Router *router)
{
	int			closed;

	if (!digests_step(worker, router->digests, &closed))
		return false;
	if (closed > 0)
		router->window_empty = false;
	return true;
}

static bool
router_is_due(const Router *router)
{
	return !router->paused && router->next_due != DT_NOEND && router->next_due <= notif_now();
}

/* The next one in turn; the window may have something at any time. */
static RouterStep
router_choose(const Router *router)
{
	for (int i = 1; i <= ROUTER_STEPS; i++)
	{
		RouterStep	step = (router->latest + i) % ROUTER_STEPS;

		if (step == STEP_WINDOW ||
			(step == STEP_EXPANSION && router->expansions != NIL && !router->paused) ||
			(step == STEP_RELEASE && router_is_due(router)) ||
			(step == STEP_DIGESTS && router->digests_due))
			return step;
	}
	return STEP_WINDOW;
}

long
router_turn(NotifWorker *worker, Router *router, const RouterDirect *direct)
{
	bool		served;

	if (!router->loaded && !router_load(worker, router))
		return NOTIF_IDLE;
	if (worker->woken)
	{
		/*
		 * Hears before it looks: what commits from here on wakes it, unless
		 * it finds its tier paused after that.
		 */
		router->paused = false;
		router->window_empty = false;
		router->called = true;
		pg_atomic_exchange_u32(&worker->slot->deaf, 0);
	}
	router->digests_due = router->digests != NULL && digests_due(router->digests, worker->woken);
	router->latest = router_choose(router);
	switch (router->latest)
	{
		case STEP_EXPANSION:
			served = router_step_expansion(worker, router);
			break;
		case STEP_RELEASE:
			served = router_step_release(worker, router);
			break;
		case STEP_DIGESTS:
			served = router_step_digests(worker, router);
			break;
		default:
			served = router_step_window(worker, router, direct);
			break;
	}
	if (!served)
		return NOTIF_IDLE;
	if (worker->kind == NOTIF_WORKER_ROUTER)
		notif_worker_gauge(worker, NOTIF_COUNT_BACKLOG, list_length(router->expansions));
	return router_due_ms(router);
}

long
router_due_ms(Router *router)
{
	int64		left;
	long		wait = NOTIF_IDLE;

	if (!router->window_empty || (router->expansions != NIL && !router->paused))
		return 0;
	/* resume wakes us */
	if (!router->paused && router->next_due != DT_NOEND)
	{
		left = router->next_due == DT_NOBEGIN ? 0 : (router->next_due - notif_now() + 999) / 1000;
		wait = left >= NOTIF_MAX_SLEEP_MS ? NOTIF_IDLE : (long) Max(left, 0);
	}
	if (router->digests != NULL)
	{
		long		digests;

		/* what this step has gathered counts as well */
		(void) digests_due(router->digests, false);
		digests = digests_wait(router->digests);
		wait = wait == NOTIF_IDLE ? digests : digests == NOTIF_IDLE ? wait : Min(wait, digests);
	}
	return wait;
}

bool
router_has_filed(Router *router)
{
	bool		filed = router->filed;

	router->filed = false;
	return filed;
}

/* After an ERROR nothing in memory is trusted: read the list anew. */
void
router_recover(NotifWorker *worker, void *arg)
{
	Router	   *router = arg;

	router->loaded = false;
	router->window_empty = false;
	router->next_due = DT_NOBEGIN;
	if (router->stepping)
		router->failures[router->latest]++;
	router->stepping = false;
	/* the call that said otherwise may be lost */
	router->paused = false;
	pg_atomic_exchange_u32(&worker->slot->deaf, 0);
	if (router->digests != NULL)
		digests_recover(router->digests);
}

Router *
router_new(NotifWorker *worker)
{
	const char *tier = notif_tier_name(worker->tier);
	MemoryContext old = MemoryContextSwitchTo(worker->life);
	Router	   *router = palloc0(sizeof(Router));

	router->latest = STEP_DIGESTS;
	router->next_due = DT_NOBEGIN;
	router->route.sql = psprintf("SELECT * FROM notif_private.worker_route_%s($1, $2, $3)", tier);
	router->route.nargs = 3;
	router->route.argtypes[0] = INT4OID;
	router->route.argtypes[1] = INT4ARRAYOID;
	router->route.argtypes[2] = BOOLOID;
	router->expand.sql = psprintf("SELECT * FROM notif_private.worker_expand_%s($1, $2, $3)", tier);
	router->expand.nargs = 3;
	router->expand.argtypes[0] = UUIDOID;
	router->expand.argtypes[1] = INT4OID;
	router->expand.argtypes[2] = BOOLOID;
	router->release.sql = psprintf("SELECT * FROM notif_private.worker_release_%s($1, $2)", tier);
	router->release.nargs = 2;
	router->release.argtypes[0] = INT4OID;
	router->release.argtypes[1] = BOOLOID;
	router->list.sql = psprintf("SELECT * FROM notif_private.worker_expansions_%s()", tier);
	MemoryContextSwitchTo(old);
	/* what is critical does not wait */
	if (worker->tier != NOTIF_TIER_CRITICAL)
		router->digests = digests_new(worker);
	return router;
}

static long
router_work(NotifWorker *worker, void *arg)
{
	return router_turn(worker, arg, NULL);
}

void
notif_router_run(NotifWorker *worker)
{
	static const NotifWorkerOps ops = {.work = router_work,.recover = router_recover};

	if (notif_worker_own(worker, NOTIF_WORKER_ROUTER, 0))
		notif_worker_loop(worker, &ops, router_new(worker));
}
