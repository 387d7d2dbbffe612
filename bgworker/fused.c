/*
 * fused.c
 *		A dispatcher that is its tier's router as well.
 *
 * In the critical tier what is published goes to the wire one process and one
 * transaction earlier: a step of the router hands attempts for lanes that can send
 * at once straight to the gates, and one durable commit moves the router's cursor
 * and records the flight.  What cannot go at once, or is too much for that, takes
 * the way through the outbox that the other tiers take, read by the same process.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "dispatcher.h"

/*
 * A lane with less room than this gets its attempts through the outbox; no more
 * recipients than this go straight through (worker_route_*).
 */
#define DIRECT_ROOM_MIN	50

static bool fused_may_fly(Dispatcher *d, Lane *lane);
static bool fused_stale(void *arg);
static bool fused_fly(void *arg, Datum attempts, Datum lanes);
static void fused_flown(void *arg);

void
fused_init(Dispatcher *d)
{
	d->router = router_new(d->worker);
}

/* Permits for what the step may find; a provider that fails gets no short cut. */
static bool
fused_may_fly(Dispatcher *d, Lane *lane)
{
	if (!lane_gate_closed(lane))
		return false;
	if (lane_gate_take(d, lane, DIRECT_ROOM_MIN) == DIRECT_ROOM_MIN)
		return true;
	lane_gate_settle(d, lane);
	return false;
}

long
fused_turn(Dispatcher *d)
{
	RouterDirect direct = {.arg = d,.stale = fused_stale,.fly = fused_fly,.flown = fused_flown};
	Datum	   *lanes = NULL;
	int			n = 0;
	dlist_iter	it;
	long		wait;
	int64		now = notif_monotonic_ms();

	/* an answer of the provider is no reason to look for events */
	if (d->router_idle && !d->worker->woken && now - d->routed_ms < NOTIF_MAX_SLEEP_MS &&
		(wait = router_due_ms(d->router)) != 0)
		return wait;
	dlist_foreach(it, &d->lanes)
		n++;
	lanes = palloc(sizeof(Datum) * (n + 1));
	n = 0;
	dlist_foreach(it, &d->lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, it.cur);

		if (lane->present && session_usable(lane->session) && lane_gate_room(d, lane) >= DIRECT_ROOM_MIN &&
			session_ready(d, lane->session) && fused_may_fly(d, lane))
			lanes[n++] = Int32GetDatum(lane->id);
	}
	direct.lanes = PointerGetDatum(construct_array(lanes, n, INT4OID, 4, true, TYPALIGN_INT));
	wait = router_turn(d->worker, d->router, &direct);
	dlist_foreach(it, &d->lanes)
		lane_gate_settle(d, dlist_container(Lane, node, it.cur));
	d->router_idle = wait != 0;
	d->routed_ms = now;
	return wait;
}

/* A switch that has committed holds from here: the lanes are read again first. */
static bool
fused_stale(void *arg)
{
	return dispatcher_config_invalid();
}

static bool
fused_fly(void *arg, Datum attempts, Datum lanes)
{
	Dispatcher *d = arg;
	bool		any = false;
	Datum	   *ids;
	int			n;
	dlist_iter	it;

	deconstruct_array(DatumGetArrayTypeP(lanes), INT4OID, 4, true, TYPALIGN_INT, &ids, NULL, &n);
	dlist_foreach(it, &d->lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, it.cur);
		bool		wanted = false;

		for (int i = 0; i < n && !wanted; i++)
			wanted = DatumGetInt32(ids[i]) == lane->id;
		if (wanted)
			any |= claim_fly(d, lane, attempts, lanes);
	}
	return any;
}

static void
fused_flown(void *arg)
{
	claim_flown(arg);
}
