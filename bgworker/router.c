/*
 * router.c
 *		Expands events of one tier into inbox rows and attempts.
 *
 * All state is in the ledger (sql/52-route.tier.sql); what is kept here is the
 * list of expansions that are not finished.  They and the window of events are
 * served round robin, one bounded transaction each, so that no event delays
 * another of its tier by more than one chunk.  Digests that are due (digest.c) get
 * every second step at most.  Commits are asynchronous: what a crash takes, rows and
 * cursor together, is done again with the same ids.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/pg_list.h"

#include "../src/fault.h"
#include "../src/settings.h"
#include "digest.h"
#include "router.h"

struct Router
{
	List	   *expansions;		/* pg_uuid_t *, served in turn */
	bool		loaded;
	bool		window_next;	/* whose turn it is: the window's or an expansion's */
	bool		window_empty;
	bool		paused;			/* the tier's switch: nothing expands */
	bool		filed;			/* router_has_filed */
	bool		stepping;		/* a step has begun and not committed */
	bool		expanding;		/* what the latest step was about */
	int			failures[2];	/* ERRORs in a row, of the window's and expansions' steps */
	Digests    *digests;		/* NULL: the tier has none */
	bool		told;			/* the latest step was about them */
	NotifStmt	route;
	NotifStmt	expand;
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
	bool		careful = router->failures[false] >= NOTIF_CAREFUL_AFTER;
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
	router->failures[false] = 0;
	if (durable)
		NOTIF_FAULT(K3);
	notif_worker_count(worker, NOTIF_COUNT_ROUTED, attempts);
	if (flown)
		direct->flown(direct->arg);

	/*
	 * Woken without an event: whoever called may have turned a switch, which
	 * concerns the dispatcher as well.
	 */
	if (attempts > 0 || (idle && worker->woken))
		router_tell_dispatcher(worker, router);
	return true;
}

/* One chunk of the next expansion in turn. */
static bool
router_step_expansion(NotifWorker *worker, Router *router)
{
	pg_uuid_t  *id = linitial(router->expansions);
	bool		careful = router->failures[true] >= NOTIF_CAREFUL_AFTER;
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
	NOTIF_FAULT(K1);
	notif_worker_commit(worker, false);
	router->stepping = false;
	router->failures[true] = 0;
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

long
router_turn(NotifWorker *worker, Router *router, const RouterDirect *direct)
{
	if (!router->loaded && !router_load(worker, router))
		return NOTIF_IDLE;
	if (worker->woken)
	{
		/*
		 * Hears before it looks: what commits from here on wakes it, unless
		 * it finds its tier paused after that.
		 */
		router->paused = false;
		pg_atomic_exchange_u32(&worker->slot->deaf, 0);
	}
	if (router->digests != NULL && digests_due(router->digests, worker->woken) && !router->told)
	{
		int			closed;

		router->told = true;
		if (!digests_step(worker, router->digests, &closed))
			return NOTIF_IDLE;
		if (closed > 0)
			router->window_empty = false;
		return 0;
	}
	router->told = false;
	if (router->expansions == NIL || router->window_next)
	{
		router->window_next = false;
		router->expanding = false;
		if (!router_step_window(worker, router, direct))
			return NOTIF_IDLE;
	}
	else
	{
		router->window_next = true;
		router->expanding = true;
		if (!router_step_expansion(worker, router))
			return NOTIF_IDLE;
	}
	if (worker->kind == NOTIF_WORKER_ROUTER)
		notif_worker_gauge(worker, NOTIF_COUNT_BACKLOG, list_length(router->expansions));
	/* resume wakes us */
	if (!router->window_empty || (router->expansions != NIL && !router->paused))
		return 0;
	if (router->digests == NULL)
		return NOTIF_IDLE;
	/* what this step has gathered counts as well */
	(void) digests_due(router->digests, false);
	return digests_wait(router->digests);
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
	router->window_next = true;
	if (router->stepping)
		router->failures[router->expanding]++;
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

	router->window_next = true;
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
