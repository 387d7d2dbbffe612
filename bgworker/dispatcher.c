/*
 * dispatcher.c
 *		The loop of a dispatcher: serve the network, record what came back, claim
 *		what there is room for.
 *
 * Batches adapt to the load.  When little is in flight a claim takes what there
 * is at once; under load it waits until a quarter of the streams is free, so
 * that one commit carries many attempts.  Outcomes are recorded when there are
 * many, when the oldest has waited RECORD_DELAY_MS, or when nothing else is
 * going on.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "catalog/namespace.h"
#include "utils/timestamp.h"

#include <openssl/crypto.h>

#include "../src/fault.h"
#include "../src/ids.h"
#include "../src/settings.h"
#include "dispatcher.h"

#define STEP_US				2000
#define RECORD_DELAY_MS		5
#define RECORD_BATCH		500
#define CONFIG_MAX_AGE_MS	30000
#define FREE_ATTEMPTS_MAX	16384

static bool config_invalid = true;
static Oid	config_relid = InvalidOid;

/* ---- attempts in memory ------------------------------------------------------ */

Attempt *
attempt_new(Dispatcher *d)
{
	Attempt    *attempt;

	if (dlist_is_empty(&d->free_attempts))
		attempt = MemoryContextAlloc(d->worker->life, sizeof(Attempt));
	else
		attempt = dlist_container(Attempt, node, dlist_pop_head_node(&d->free_attempts));
	memset(attempt, 0, sizeof(Attempt));
	return attempt;
}

void
attempt_free(Dispatcher *d, Attempt *attempt)
{
	lane_gate_unsent(d, attempt);
	if (attempt->queue != NULL)
		order_recorded(d, attempt);
	if (--attempt->flight->attempts == 0)
		pfree(attempt->flight);
	dlist_push_head(&d->free_attempts, &attempt->node);
}

void
attempt_done(Dispatcher *d, Attempt *attempt, const char *verdict, const char *reason)
{
	Lane	   *lane = attempt->lane;

	attempt->verdict = verdict;
	lane_gate_unsent(d, attempt);
	if (attempt->queue != NULL)
		order_ended(d, attempt);
	if (reason != NULL)
		strlcpy(attempt->reason, reason, sizeof(attempt->reason));
	if (lane->n_done == 0)
		lane->done_since_ms = notif_monotonic_ms();
	dlist_push_tail(&lane->done, &attempt->node);
	lane->n_done++;
	d->n_done++;
}

/* ---- results ------------------------------------------------------------------ */

/* The provider is at fault, not the message: send again. */
static void
result_not_sent(Dispatcher *d, Attempt *a, const NotifVerdict *verdict, const char *detail)
{
	Session    *session = a->session;
	int			backoff = notif_h2_pool_backoff_ms(session->pool);

	if (detail[0] != '\0')
		strlcpy(session->error, detail, sizeof(session->error));
	if (backoff > 0)
		a->retry_after_s = Max(a->retry_after_s, (backoff + 999) / 1000);
	attempt_done(d, a, "not_sent", verdict->reason);
}

void
session_result(void *pool_ud, void *request_ud, const NotifResult *result)
{
	Session    *session = pool_ud;
	Dispatcher *d = session->dispatcher;
	Attempt    *a = request_ud;
	NotifVerdict verdict = {0};
	bool		blameless;

	d->in_flight--;
	session->in_flight--;
	a->lane->in_flight--;
	session->ops->classify(result, &verdict);
	a->status = result->status;
	a->latency_us = (int) Min(result->latency_us, (uint32) INT_MAX);
	blameless = lane_gate_result(d, a, result, &verdict);
	if (a->withdrawn != NULL && result->known == NOTIF_NOT_SENT)
	{
		attempt_done(d, a, "not_sent", a->withdrawn);
		return;
	}
	a->gone_at_ms = verdict.gone_at_ms;
	if (strlen(result->message_id) < sizeof(a->ref))
		strlcpy(a->ref, result->message_id, sizeof(a->ref));
	if (verdict.retire_connection && result->connection != 0)
		notif_h2_pool_retire(session->pool, result->connection);

	switch (verdict.kind)
	{
		case NOTIF_VERDICT_ACCEPTED:
			session->park_ms = 0;
			session->error[0] = '\0';
			attempt_done(d, a, "accepted", NULL);
			break;
		case NOTIF_VERDICT_RETRY:
			attempt_done(d, a, blameless ? "retry_free" : "retry", verdict.reason);
			break;
		case NOTIF_VERDICT_THROTTLED:
			attempt_done(d, a, blameless ? "retry_free" : "throttled", verdict.reason);
			break;
		case NOTIF_VERDICT_SLOW_DOWN:
			attempt_done(d, a, "retry_free", verdict.reason);
			break;
		case NOTIF_VERDICT_ENDPOINT_GONE:
			attempt_done(d, a, "endpoint_gone", verdict.reason);
			break;
		case NOTIF_VERDICT_ENDPOINT_SUSPECT:
			attempt_done(d, a, blameless ? "retry_free" : "endpoint_suspect", verdict.reason);
			break;
		case NOTIF_VERDICT_MESSAGE_BAD:
			attempt_done(d, a, "message_bad", verdict.reason);
			break;
		case NOTIF_VERDICT_UNKNOWN:
			attempt_done(d, a, blameless ? "unknown_free" : "unknown", verdict.reason);
			break;
		case NOTIF_VERDICT_CREDENTIALS_STALE:

			/*
			 * All streams that fail together ask for one refresh; it is done
			 * before the next claim.  Late answers say nothing of the token
			 * that has replaced theirs.
			 */
			if (a->bearer_number == session->bearer_number)
				session->bearer_refused = true;
			attempt_done(d, a, "not_sent", verdict.reason);
			break;
		case NOTIF_VERDICT_CREDENTIALS_BAD:
			/* its breaker is open now */
			session_explain(session, verdict.reason, result->detail);
			attempt_done(d, a, "not_sent", verdict.reason);
			break;
		case NOTIF_VERDICT_PROVIDER_DOWN:
			result_not_sent(d, a, &verdict, result->detail);
			break;
	}
}

/* ---- configuration -------------------------------------------------------------- */

static void
config_invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == config_relid)
		config_invalid = true;
}

bool
dispatcher_config_invalid(void)
{
	return config_invalid;
}

/*
 * Invalidations are taken in when a transaction begins.  A claim looks by
 * itself; without a lane to claim from, a wake-up is the only sign that there
 * may be one now.
 */
static bool
config_wants_look(Dispatcher *d)
{
	dlist_iter	it;

	if (config_invalid || d->worker->reloaded || notif_monotonic_ms() - d->config_read_ms >= CONFIG_MAX_AGE_MS)
		return true;
	if (!d->worker->woken)
		return false;
	if (dlist_is_empty(&d->lanes))
		return true;
	dlist_foreach(it, &d->lanes)
	{
		const Lane *lane = dlist_container(Lane, node, it.cur);

		if (!lane->present || lane->session == NULL || lane->session->account == NULL ||
			lane->session->parked_until_ms > notif_monotonic_ms())
			return true;
	}
	return false;
}

/* Reads lanes and providers again when a definition or switch has changed. */
static bool
config_refresh(Dispatcher *d)
{
	int64		now = notif_monotonic_ms();

	if (!notif_worker_begin(d->worker, "notif: reading configuration"))
		return false;
	/* beginning has taken in what others invalidated */
	if (config_invalid || d->worker->reloaded || now - d->config_read_ms >= CONFIG_MAX_AGE_MS)
	{
		config_relid = get_relname_relid("type", get_namespace_oid(NOTIF_PRIVATE_SCHEMA, false));
		config_invalid = false;
		PG_TRY();
		{
			sessions_reload(d);
		}
		PG_CATCH();
		{
			config_invalid = true;
			PG_RE_THROW();
		}
		PG_END_TRY();
		d->config_read_ms = now;
	}
	notif_worker_commit(d->worker, false);
	return true;
}

/* ---- one turn --------------------------------------------------------------------- */

static bool
lane_wants_record(const Dispatcher *d, const Lane *lane)
{
	return lane->n_done > 0 &&
		(lane->n_done >= RECORD_BATCH || d->in_flight == 0 ||
		 notif_monotonic_ms() - lane->done_since_ms >= RECORD_DELAY_MS);
}

/* How many attempts a lane should claim now; 0: wait. */
static int
lane_claim_size(const Dispatcher *d, const Lane *lane)
{
	int			room = lane_gate_room(d, lane);

	/*
	 * A whole batch is worth a claim however much is in flight: a pool opens
	 * its next connection only when the others are full.
	 */
	if (room <= 0 || (lane->in_flight > 0 && room < Min(lane->in_flight / 3, guc_claim_batch)))
		return 0;
	return Min(room, guc_claim_batch);
}

static bool
lane_is_due(const Lane *lane)
{
	return lane->hungry || lane->next_due <= notif_now();
}

static void
lane_read_next_due(Dispatcher *d, Lane *lane)
{
	static NotifStmt read;
	Datum		arg = Int32GetDatum(lane->id);
	NotifRows	rows;
	bool		isnull;

	if (read.sql == NULL)
	{
		read.sql = MemoryContextStrdup(d->worker->life,
									   psprintf("SELECT notif_private.worker_next_due_%s($1)",
												notif_tier_name(d->worker->tier)));
		read.nargs = 1;
		read.argtypes[0] = INT4OID;
	}
	if (!notif_worker_begin(d->worker, "notif: reading the schedule"))
		return;
	rows = notif_spi_run(&read, &arg, NULL, 1);
	lane->next_due = notif_spi_timestamptz(&rows, 0, 1, &isnull);
	if (isnull)
		lane->next_due = DT_NOEND;
	lane->due_unknown = false;
	notif_worker_commit(d->worker, false);
}

static void
lane_publish(Dispatcher *d, Lane *lane)
{
	Session    *session = lane->session;
	NotifH2PoolStats stats = {0};
	TimestampTz parked = 0;
	const char *error = "";

	if (session != NULL)
	{
		int64		left = session->parked_until_ms - notif_monotonic_ms();

		if (session->pool != NULL)
			notif_h2_pool_stats(session->pool, &stats);
		if (session->account == NULL)
			parked = DT_NOEND;
		else if (left > 0)
			parked = GetCurrentTimestamp() + left * 1000;
		error = session->error[0] != '\0' ? session->error : stats.last_error;
		parked = Max(parked, lane_gate_parked(lane));
	}
	else
		parked = DT_NOEND;
	notif_lane_publish(d->worker->database, d->worker->tier, lane->id, session != NULL ? session->name : "",
					   parked, lane->in_flight, stats.connections, lane->n_done, error);
}

static long
dispatcher_wait_ms(Dispatcher *d)
{
	long		wait = notif_loop_timeout_ms(d->loop);
	dlist_iter	it;

	if (wait < 0)
		wait = NOTIF_MAX_SLEEP_MS;
	if (!dlist_is_empty(&d->ready))
		wait = 0;
	else if (d->n_waiting > 0)
		wait = Min(wait, ORDER_WAIT_MS);
	if (d->gate_due_us < NOTIF_MAX_SLEEP_MS * 1000)
		wait = Min(wait, (long) ((d->gate_due_us + 999) / 1000));
	dlist_foreach(it, &d->lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, it.cur);

		if (lane->n_done > 0)
			wait = Min(wait, RECORD_DELAY_MS);
		/* while stopping nothing is claimed, whatever is due */
		if (d->worker->stopping || !lane->present || lane->session == NULL || lane->session->account == NULL)
			continue;
		if (lane->hungry || lane->next_due != DT_NOEND)
		{
			int64		parked = lane->session->parked_until_ms - notif_monotonic_ms();
			int64		due = lane->hungry ? 0 : (lane->next_due - notif_now()) / 1000 + 1;
			int64		backoff = notif_h2_pool_backoff_ms(lane->session->pool);

			due = Max(Max(due, parked), Max(backoff, 0));
			if (due <= 0)
			{
				int			size = lane_claim_size(d, lane);

				due = lane_gate_wait_ms(d, lane, Max(size, 1));
				/* full: an answer will wake us through the loop's fd */
				if (due <= 0 && size == 0)
					continue;
			}
			wait = Min(wait, (long) Max(due, 0));
		}
	}
	return d->in_flight == 0 && wait >= NOTIF_MAX_SLEEP_MS ? NOTIF_IDLE : wait;
}

/* Something new was submitted, and the kernel has all that is open. */
#ifdef NOTIF_FAULTS
static void
dispatcher_fault_sent(Dispatcher *d)
{
	static uint64 seen = 0;
	uint64		submitted = pg_atomic_read_u64(&d->worker->slot->counters[NOTIF_COUNT_SENT]);
	int			open = 0;
	dlist_iter	it;

	if (submitted == seen)
		return;
	dlist_foreach(it, &d->sessions)
	{
		Session    *session = dlist_container(Session, node, it.cur);
		NotifH2PoolStats stats = {0};

		if (session->pool != NULL)
			notif_h2_pool_stats(session->pool, &stats);
		if (stats.unsent > 0 || stats.queued > 0)
			return;
		open += stats.in_flight;
	}
	if (open == 0)
		return;
	seen = submitted;
	NOTIF_FAULT(K4);
}
#endif

static void
dispatcher_step(Dispatcher *d)
{
	notif_worker_mind_postmaster();
	/* what is taken back must not leave in it */
	withdraw_look(d, NULL);
	notif_loop_step(d->loop, STEP_US);
#ifdef NOTIF_FAULTS
	dispatcher_fault_sent(d);
#endif
}

/* Claims what there is room for, sends it, and only then looks further ahead. */
static void
dispatcher_claim_lanes(Dispatcher *d)
{
	bool		claimed = false;
	dlist_iter	it;

	dlist_foreach(it, &d->lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, it.cur);
		int			size;

		if (!lane->present || lane->session == NULL || !lane_is_due(lane))
			continue;
		size = lane_claim_size(d, lane);
		if (size == 0 || !session_ready(d, lane->session))
			continue;
		size = lane_gate_take(d, lane, size);
		if (size == 0)
			continue;
		lane->hungry = dispatcher_claim(d, lane, size);
		lane_gate_settle(d, lane);
		claimed = true;
	}
	if (!claimed)
		return;
	dispatcher_step(d);
	dlist_foreach(it, &d->lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, it.cur);

		if (lane->due_unknown && !lane->hungry)
			lane_read_next_due(d, lane);
	}
}

/* Conditions were asked: what waits for them can be read. */
static bool
dispatcher_has_verdicts(Dispatcher *d)
{
	uint32		checked = pg_atomic_read_u32(&notif_shared->databases[d->worker->database].checked[d->worker->tier]);
	bool		more = checked != d->checked_seen;

	d->checked_seen = checked;
	return more;
}

static long
dispatcher_work(NotifWorker *worker, void *arg)
{
	Dispatcher *d = arg;
	dlist_iter	it;
	long		routing = NOTIF_IDLE;
	long		wait;

	dispatcher_step(d);
	if (worker->stopping)
		order_give_back(d);
	else if (order_serve(d))
		dispatcher_step(d);

	dlist_foreach(it, &d->lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, it.cur);

		if (lane_wants_record(d, lane))
			dispatcher_record(d, lane);
	}
	lane_gate_turn(d);

	if (!worker->stopping)
	{
		if (config_wants_look(d) && !config_refresh(d))
			return NOTIF_IDLE;
		if (d->router != NULL)
		{
			routing = fused_turn(d);
			dispatcher_step(d);
		}
		if ((d->router != NULL ? router_has_filed(d->router) : worker->woken) || dispatcher_has_verdicts(d))
		{
			dlist_foreach(it, &d->lanes)
				dlist_container(Lane, node, it.cur)->hungry = true;
		}
		dispatcher_claim_lanes(d);
	}
	else
	{
		dlist_foreach(it, &d->sessions)
		{
			Session    *session = dlist_container(Session, node, it.cur);

			if (session->pool != NULL)
				notif_h2_pool_flush_queue(session->pool);
		}
	}

	notif_worker_gauge(worker, NOTIF_COUNT_IN_FLIGHT, d->in_flight);
	notif_worker_gauge(worker, NOTIF_COUNT_BACKLOG, d->n_done);
	dlist_foreach(it, &d->lanes)
		lane_publish(d, dlist_container(Lane, node, it.cur));
	sessions_report(d);
	wait = dispatcher_wait_ms(d);
	if (routing == NOTIF_IDLE)
		return wait;
	return wait == NOTIF_IDLE ? routing : Min(wait, routing);
}

/* During a pause after an ERROR: answers are taken in, nothing is written. */
static long
dispatcher_service(NotifWorker *worker, void *arg)
{
	Dispatcher *d = arg;

	dispatcher_step(d);
	return notif_loop_timeout_ms(d->loop);
}

/*
 * An ERROR in or after a claim: what was not committed never happened, what was
 * goes back as not sent.
 */
static void
dispatcher_after_error(NotifWorker *worker, void *arg)
{
	Dispatcher *d = arg;
	dlist_iter	it;

	/* raised after the commit: recorded again it would be there twice */
	if (d->recording != NULL && d->n_recording > 0 && notif_spi_committed())
		dispatcher_recorded(d);
	else if (d->recording != NULL)
		d->recording->record_failures++;
	d->recording = NULL;
	if (d->claiming != NULL)
		d->claiming->claim_failures++;
	d->claiming = NULL;
	dlist_foreach(it, &d->lanes)
		lane_gate_settle(d, dlist_container(Lane, node, it.cur));
	while (!dlist_is_empty(&d->claimed))
	{
		Attempt    *a = dlist_container(Attempt, node, dlist_pop_head_node(&d->claimed));

		if (notif_spi_committed())
			attempt_done(d, a, "not_sent", "worker_error");
		else
			attempt_free(d, a);
	}
	d->flown = NIL;
	if (d->router != NULL)
	{
		router_recover(worker, d->router);
		d->router_idle = false;
	}
	config_invalid = true;
}

static bool
dispatcher_drained(NotifWorker *worker, void *arg)
{
	Dispatcher *d = arg;

	return d->in_flight == 0 && d->n_waiting == 0 && d->n_done == 0;
}

/* What could not be drained in time is recorded as it stands. */
static void
dispatcher_last_record(Dispatcher *d)
{
	dlist_mutable_iter it;

	dlist_foreach_modify(it, &d->sessions)
		session_free(dlist_container(Session, node, it.cur));
	order_give_back(d);
	dlist_foreach_modify(it, &d->lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, it.cur);
		int			left;

		do
		{
			left = lane->n_done;
			if (left > 0)
				dispatcher_record(d, lane);
		} while (lane->n_done > 0 && lane->n_done < left);
	}
}

void
notif_dispatcher_run(NotifWorker *worker)
{
	static const NotifWorkerOps ops = {
		.work = dispatcher_work,.service = dispatcher_service,
		.recover = dispatcher_after_error,.drained = dispatcher_drained
	};
	Dispatcher *d;

	if (!notif_worker_own(worker, NOTIF_WORKER_DISPATCHER, 0) ||
		(NOTIF_TIER_IS_FUSED(worker->tier) && !notif_worker_own(worker, NOTIF_WORKER_ROUTER, 0)))
		return;
	/* OpenSSL's own exit handler would race with what the server still does */
	OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
	d = MemoryContextAllocZero(worker->life, sizeof(Dispatcher));
	d->worker = worker;
	d->next_flight = 1;
	dlist_init(&d->lanes);
	dlist_init(&d->sessions);
	dlist_init(&d->claimed);
	dlist_init(&d->free_attempts);
	notif_buf_init(&d->scratch, 1024 * 1024);
	d->content = content_new(d);
	order_init(d);
	withdraw_init(d);
	if (NOTIF_TIER_IS_FUSED(worker->tier))
		fused_init(d);
	d->loop = notif_loop_new();
	d->resolver = d->loop != NULL ? notif_resolver_new(d->loop) : NULL;
	if (d->resolver == NULL)
		ereport(FATAL,
				errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				errmsg("notif dispatcher could not set up its event loop: %m"));
	worker->wait_fd = notif_loop_fd(d->loop);
	CacheRegisterRelcacheCallback(config_invalidate, (Datum) 0);
	notif_lane_forget(worker->database, worker->tier);
	notif_pacer_forget(worker->dboid, worker->tier);
	dispatcher_recover(d);

	notif_worker_loop(worker, &ops, d);

	worker->wait_fd = -1;
	dispatcher_last_record(d);
	notif_pacer_forget(worker->dboid, worker->tier);
	notif_lane_forget(worker->database, worker->tier);
	notif_resolver_free(d->resolver);
	notif_loop_free(d->loop);
}
