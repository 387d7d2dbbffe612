/*
 * h2_dispatch.c
 *		The pool's work, all of it inside loop steps.
 *
 * One turn of work: look at the connections, give results back, hand queued
 * requests to connections with room, open a connection if the others are
 * full, flush.  Results come before requests, so that what the callbacks
 * submit leaves in the same records.
 *
 * When a connection fails to open and no other is usable, the queue is given
 * back at once with that error: the caller then knows why and can back off
 * its lane.  Requests submitted during the backoff wait for the next attempt,
 * at most their queue time-out.
 *
 * A connection that the peer takes down before it answered anything counts as
 * a failure for the backoff: a server that accepts everybody and throws them
 * out again must not see us come back at full speed.  One that answered but was
 * taken down young may be replaced at once a few times in a row; if that goes
 * on, there is a pause of up to 1.6 s, until a connection has lived for a while.
 */
#include "h2_pool_private.h"

#include <stdio.h>
#include <string.h>

#include "../core/mem.h"

#define POOL_BACKOFF_FIRST_MS	200 /* halved to doubled by jitter: 100 ms … 60 s */
#define POOL_BACKOFF_MAX_MS		60000
#define POOL_HEALTHY_US			(10 * INT64_C(1000000)) /* lived this long: no failure */
#define POOL_BRIEF_FREE			4	/* short-lived connections in a row without a pause */
#define POOL_BRIEF_MAX			4	/* after these the pause no longer grows: 1.6 s */
#define POOL_DELIVERIES			256 /* per turn */
#define POOL_SLICES				16	/* rounds of granting and flushing per turn */

static void pool_survey(NotifH2Pool *pool, int64_t now_us);
static void pool_bury(NotifH2Pool *pool, int index, const NotifH2ConnView *view, int64_t now_us);
static void pool_failure(NotifH2Pool *pool, NotifNetError error, const char *detail,
						 int64_t now_us);
static void pool_brief(NotifH2Pool *pool, const NotifH2ConnView *view, int64_t now_us);
static int64_t pool_pause_us(NotifH2Pool *pool, int step);
static bool pool_assign(NotifH2Pool *pool, int64_t now_us);
static void pool_grow(NotifH2Pool *pool, int64_t now_us);
static void pool_flush(NotifH2Pool *pool);
static void pool_rearm(NotifH2Pool *pool, int64_t now_us);
static void pool_finish(NotifH2Pool *pool, NotifH2Item *item);

void
notif_h2_pool_wake(NotifH2Pool *pool)
{
	if (pool->work_armed || pool->closing)
		return;
	pool->work_armed = true;
	notif_loop_timer_set(pool->loop, pool->work, 0);
}

void
notif_h2_pool_on_changed(void *ud)
{
	notif_h2_pool_wake(ud);
}

void
notif_h2_pool_on_work(void *ud)
{
	NotifH2Pool *pool = ud;
	int64_t		now_us = notif_loop_now_us();
	int			slices = 0;

	pool->work_armed = false;
	pool_survey(pool, now_us);
	if (!notif_h2_pool_deliver(pool, POOL_DELIVERIES))
		return;
	while (pool_assign(pool, now_us) && slices < POOL_SLICES)
	{
		pool_flush(pool);
		slices++;
	}
	pool_grow(pool, now_us);
	pool_flush(pool);
	if (pool->finished.count > 0 || slices == POOL_SLICES)
		notif_h2_pool_wake(pool);
	pool_rearm(pool, now_us);
}

/* Takes note of what became of the connections. */
static void
pool_survey(NotifH2Pool *pool, int64_t now_us)
{
	for (int i = pool->n_slots - 1; i >= 0; i--)
	{
		NotifH2Slot *slot = &pool->slots[i];
		NotifH2ConnView view;

		notif_h2_conn_view(slot->conn, &view);
		if (view.settled && !slot->settled)
		{
			slot->settled = true;
			pool->opened++;
			pool->connect_error = NOTIF_NET_NONE;
		}
		if (view.answered > 0 && view.state == NOTIF_H2_OPENED && !view.draining)
		{
			pool->failures = 0;
			pool->retry_us = 0;
		}
		if (view.goaway && !slot->goaway)
		{
			slot->goaway = true;
			pool->goaways++;
			memcpy(pool->last_error, view.detail, sizeof(pool->last_error));
			pool_brief(pool, &view, now_us);
		}
		if (view.state == NOTIF_H2_CLOSED)
		{
			pool_bury(pool, i, &view, now_us);
			continue;
		}
		if (view.state != NOTIF_H2_OPENED || view.draining)
			continue;
		if ((pool->max_lifetime_ms > 0 &&
			 now_us - view.opened_us >= pool->max_lifetime_ms * 1000) ||
			(pool->idle_close_ms > 0 && view.open == 0 && pool->waiting.count == 0 &&
			 now_us - view.idle_since_us >= (int64_t) pool->idle_close_ms * 1000))
			notif_h2_conn_drain(slot->conn);
	}
}

static void
pool_bury(NotifH2Pool *pool, int index, const NotifH2ConnView *view, int64_t now_us)
{
	bool		failed = !view->settled;
	bool		thrown_out = view->settled && view->answered == 0 &&
		(view->error != NOTIF_NET_NONE || view->goaway) &&
		now_us - view->opened_us < POOL_HEALTHY_US;
	NotifNetError error = view->error;
	char		detail[sizeof(pool->last_error)];

	memcpy(detail, view->detail, sizeof(detail));
	pool->bytes_in += view->bytes_in;
	pool->bytes_out += view->bytes_out;
	notif_h2_conn_free(pool->slots[index].conn);
	pool->slots[index] = pool->slots[--pool->n_slots];
	if (error != NOTIF_NET_NONE)
		memcpy(pool->last_error, detail, sizeof(pool->last_error));
	if (failed && error != NOTIF_NET_NONE)
	{
		pool->failed++;
		pool_failure(pool, error, detail, now_us);
	}
	else if (thrown_out)
		pool_failure(pool, NOTIF_NET_NONE, detail, now_us);
	else if (error != NOTIF_NET_NONE && !view->goaway)
		pool_brief(pool, view, now_us);
}

/* A connection that has answered was taken down by the peer: too soon? */
static void
pool_brief(NotifH2Pool *pool, const NotifH2ConnView *view, int64_t now_us)
{
	if (view->answered == 0)
		return;					/* thrown out: counted when it is gone */
	if (now_us - view->opened_us >= POOL_HEALTHY_US || now_us - pool->brief_us >= POOL_HEALTHY_US)
		pool->brief = 0;
	if (now_us - view->opened_us >= POOL_HEALTHY_US)
		return;
	pool->brief_us = now_us;
	if (pool->brief < POOL_BRIEF_FREE + POOL_BRIEF_MAX)
		pool->brief++;
	if (pool->brief > POOL_BRIEF_FREE)
		pool->retry_us = now_us + pool_pause_us(pool, pool->brief - POOL_BRIEF_FREE);
}

/* Half to all of POOL_BACKOFF_FIRST_MS * 2^(step - 1), at most POOL_BACKOFF_MAX_MS. */
static int64_t
pool_pause_us(NotifH2Pool *pool, int step)
{
	int64_t		delay_ms = POOL_BACKOFF_MAX_MS;

	if (((int64_t) POOL_BACKOFF_FIRST_MS << (step - 1)) < delay_ms)
		delay_ms = (int64_t) POOL_BACKOFF_FIRST_MS << (step - 1);
	/* xorshift; quality does not matter, only that workers do not march in step */
	pool->random |= 1;
	pool->random ^= pool->random << 13;
	pool->random ^= pool->random >> 17;
	pool->random ^= pool->random << 5;
	return (delay_ms / 2 + (int64_t) (pool->random % (uint32_t) (delay_ms / 2 + 1))) * 1000;
}

/* error NONE: delays the next connection, tells nobody. */
static void
pool_failure(NotifH2Pool *pool, NotifNetError error, const char *detail, int64_t now_us)
{
	NotifH2PoolSum sum;

	if (pool->failures < 16)
		pool->failures++;
	pool->retry_us = now_us + pool_pause_us(pool, pool->failures);
	if (error == NOTIF_NET_NONE)
		return;
	pool->connect_error = error;
	snprintf(pool->connect_detail, sizeof(pool->connect_detail), "%s", detail);
	notif_h2_pool_sum(pool, &sum);
	if (sum.usable == 0 && sum.connecting == 0)
		notif_h2_pool_fail_queue(pool, error, pool->connect_detail);
}

bool
notif_h2_pool_deliver(NotifH2Pool *pool, int n)
{
	bool		gone = false;
	bool	   *outer = pool->gone;

	pool->gone = &gone;
	while (n-- > 0 && pool->finished.head != NULL)
	{
		NotifH2Item *item = pool->finished.head;
		NotifResult result = {
			.known = item->known,
			.error = item->error,
			.status = item->known == NOTIF_ANSWERED ? item->status : 0,
			.body = notif_buf_text(&item->answer),
			.body_len = item->answer.len,
			.message_id = item->message_id,
			.retry_after = item->retry_after,
			.detail = item->detail,
			.latency_us = item->latency_us,
			.connection = item->connection
		};

		notif_h2_list_remove(&pool->finished, item);
		pool->done(pool->ud, item->ud, &result);
		if (gone)
		{
			/* The store went with the pool. */
			notif_buf_free(&item->answer);
			notif_free(item);
			if (outer != NULL)
				*outer = true;
			return false;
		}
		notif_h2_item_free(&pool->store, item);
	}
	pool->gone = outer;
	return true;
}

/*
 * Deals the queue out, one request per connection in turn.  True if more
 * could follow once this is flushed.
 */
static bool
pool_assign(NotifH2Pool *pool, int64_t now_us)
{
	NotifH2Conn *conns[POOL_CONNECTIONS_MAX];
	int			room[POOL_CONNECTIONS_MAX];
	int			n = 0;
	int			at;
	bool		granted = false;

	if (pool->waiting.count == 0)
		return false;
	for (int i = 0; i < pool->n_slots; i++)
	{
		room[n] = notif_h2_conn_room(pool->slots[i].conn, pool->stream_cap);
		if (room[n] > 0)
			conns[n++] = pool->slots[i].conn;
	}
	if (n == 0)
		return false;
	at = pool->turn++ % n;
	while (n > 0 && pool->waiting.count > 0)
	{
		NotifH2List *from = pool->resend.head != NULL ? &pool->resend : &pool->queue;
		NotifH2Item *item = from->head;
		NotifStatus status;

		if (at >= n)
			at = 0;
		if (room[at] == 0 || !notif_h2_conn_ready(conns[at], item->body_len))
		{
			n--;
			conns[at] = conns[n];
			room[at] = room[n];
			continue;
		}
		notif_h2_list_remove(from, item);
		status = notif_h2_conn_grant(conns[at], item, now_us);
		if (status == NOTIF_ESTATE)
		{
			/* This connection is used up; the request keeps its deadline. */
			item->resending = true;
			notif_h2_list_append(&pool->resend, item);
			room[at] = 0;
			continue;
		}
		notif_h2_deadline_remove(&pool->waiting, item);
		if (status != NOTIF_OK)
		{
			item->error = NOTIF_NET_SHUTDOWN;
			snprintf(item->detail, sizeof(item->detail), "out of memory");
			pool_finish(pool, item);
			continue;
		}
		notif_h2_deadline_insert(&pool->flying, item,
								 now_us + (int64_t) item->timeout_ms * 1000);
		room[at]--;
		at++;
		granted = true;
	}
	return granted && pool->waiting.count > 0;
}

/* Opens a connection if one is wanted and may be had. */
static void
pool_grow(NotifH2Pool *pool, int64_t now_us)
{
	NotifH2PoolSum sum;
	NotifH2Conn *conn;

	/* Cheap answer first: this runs with every turn. */
	if (pool->n_slots > 0 && pool->max_connections == 1 && pool->waiting.count == 0)
		return;
	notif_h2_pool_sum(pool, &sum);
	if (sum.connecting > 0 || sum.usable >= pool->max_connections ||
		pool->n_slots == POOL_CONNECTIONS_MAX || now_us < pool->retry_us)
		return;
	if (sum.usable == 0)
	{
		if (pool->waiting.count == 0)
			return;
	}
	else if (sum.room > 0 || sum.ramping || sum.choked)
		return;					/* not full, or full by the peer's wish */
	conn = notif_h2_conn_new(&pool->conn_config, ++pool->numbered);
	if (conn == NULL)
	{
		pool->failed++;
		pool_failure(pool, NOTIF_NET_CONNECT, "cannot connect: out of memory or descriptors",
					 now_us);
		memcpy(pool->last_error, pool->connect_detail, sizeof(pool->last_error));
		return;
	}
	pool->slots[pool->n_slots++] = (NotifH2Slot) {.conn = conn};
}

static void
pool_flush(NotifH2Pool *pool)
{
	for (int i = 0; i < pool->n_slots; i++)
	{
		notif_h2_conn_resume(pool->slots[i].conn);
		notif_h2_conn_flush(pool->slots[i].conn);
	}
}

/* Sets the alarm to the next thing that time alone brings about. */
static void
pool_rearm(NotifH2Pool *pool, int64_t now_us)
{
	int64_t		due_us = INT64_MAX;
	bool		policy = pool->max_lifetime_ms > 0 || pool->idle_close_ms > 0;

	if (pool->waiting.head != NULL)
		due_us = pool->waiting.head->deadline_us;
	if (pool->flying.head != NULL && pool->flying.head->deadline_us < due_us)
		due_us = pool->flying.head->deadline_us;
	if (pool->waiting.count > 0 && pool->retry_us > now_us && pool->retry_us < due_us)
		due_us = pool->retry_us;
	for (int i = 0; policy && i < pool->n_slots; i++)
	{
		NotifH2ConnView view;

		notif_h2_conn_view(pool->slots[i].conn, &view);
		if (view.state != NOTIF_H2_OPENED || view.draining)
			continue;
		if (pool->max_lifetime_ms > 0 && view.opened_us + pool->max_lifetime_ms * 1000 < due_us)
			due_us = view.opened_us + pool->max_lifetime_ms * 1000;
		if (pool->idle_close_ms > 0 && view.open == 0 &&
			view.idle_since_us + (int64_t) pool->idle_close_ms * 1000 < due_us)
			due_us = view.idle_since_us + (int64_t) pool->idle_close_ms * 1000;
	}
	/* Later than armed is no reason to move it: it looks again when it rings. */
	if (due_us >= pool->alarm_us)
		return;
	pool->alarm_us = due_us;
	notif_loop_timer_set(pool->loop, pool->alarm, due_us);
}

void
notif_h2_pool_on_alarm(void *ud)
{
	NotifH2Pool *pool = ud;
	int64_t		now_us = notif_loop_now_us();

	pool->alarm_us = INT64_MAX;
	while (pool->waiting.head != NULL && pool->waiting.head->deadline_us <= now_us)
	{
		NotifH2Item *item = pool->waiting.head;

		notif_h2_deadline_remove(&pool->waiting, item);
		notif_h2_list_remove(item->resending ? &pool->resend : &pool->queue, item);
		if (pool->connect_error != NOTIF_NET_NONE)
		{
			item->error = pool->connect_error;
			memcpy(item->detail, pool->connect_detail, sizeof(item->detail));
		}
		else
		{
			item->error = NOTIF_NET_TIMEOUT;
			snprintf(item->detail, sizeof(item->detail), "no free stream within %d ms",
					 item->queue_timeout_ms);
		}
		item->known = NOTIF_NOT_SENT;
		pool_finish(pool, item);
	}
	while (pool->flying.head != NULL && pool->flying.head->deadline_us <= now_us)
		notif_h2_conn_expire(pool->flying.head->conn, pool->flying.head);
	notif_h2_pool_wake(pool);
}

void
notif_h2_pool_on_finished(void *ud, NotifH2Item *item)
{
	NotifH2Pool *pool = ud;

	notif_h2_deadline_remove(&pool->flying, item);
	if (item->known != NOTIF_NOT_SENT || item->error == NOTIF_NET_TIMEOUT || pool->closing ||
		item->resends >= NOTIF_H2_RESENDS)
	{
		pool_finish(pool, item);
		notif_h2_pool_wake(pool);
		return;
	}
	notif_h2_item_rewind(item);
	item->state = NOTIF_H2_QUEUED;
	item->resends++;
	item->resending = true;
	pool->resent++;
	notif_h2_list_append(&pool->resend, item);
	/* Its wait for a stream begins anew: the first one it did get. */
	notif_h2_deadline_insert(&pool->waiting, item, notif_loop_now_us() +
							 (int64_t) item->queue_timeout_ms * 1000);
	notif_h2_pool_wake(pool);
}

void
notif_h2_pool_fail_queue(NotifH2Pool *pool, NotifNetError error, const char *detail)
{
	notif_h2_pool_take_back(pool, NULL, NULL, error, detail);
}

void
notif_h2_pool_take_back(NotifH2Pool *pool, bool (*wants) (const void *request_ud, void *arg), void *arg,
						NotifNetError error, const char *detail)
{
	NotifH2Item *next;

	for (NotifH2Item *item = pool->waiting.head; item != NULL; item = next)
	{
		next = item->dl_next;
		if (wants != NULL && !wants(item->ud, arg))
			continue;
		notif_h2_deadline_remove(&pool->waiting, item);
		notif_h2_list_remove(item->resending ? &pool->resend : &pool->queue, item);
		item->known = NOTIF_NOT_SENT;
		item->error = error;
		snprintf(item->detail, sizeof(item->detail), "%s", detail);
		pool_finish(pool, item);
	}
}

static void
pool_finish(NotifH2Pool *pool, NotifH2Item *item)
{
	item->state = NOTIF_H2_DONE;
	notif_h2_list_append(&pool->finished, item);
}
