/*
 * h2_pool.c
 *		The pool's face: making, submitting, asking, retiring; see h2_pool.h.
 *
 * submit() only queues and arms deferred work.  Whatever is submitted between
 * two loop steps therefore shares TLS records, and a callback that submits
 * again never finds itself inside another callback.
 *
 * Every operation per request is O(1): place and deadline are links in the
 * request (h2_request.h), and the deadline lists are kept in order by
 * insertion from the end.
 */
#include "h2_pool_private.h"

#include <stdio.h>
#include <string.h>

#include "../core/mem.h"

#define POOL_CONNECT_MS		5000
#define POOL_PING_IDLE_MS	60000
#define POOL_PING_MS		10000

static int	pool_or(int value, int fallback);

NotifH2Pool *
notif_h2_pool_new(NotifLoop *loop, NotifResolver *resolver, const NotifH2PoolConfig *config,
				  char *error, size_t error_size)
{
	NotifH2Pool *pool = notif_calloc(1, sizeof(*pool));
	const char *connect_to = config->address != NULL ? config->address : config->host;

	snprintf(error, error_size, "out of memory");
	if (pool == NULL)
		return NULL;
	pool->loop = loop;
	pool->max_connections = config->max_connections < 1 ? 1 :
		config->max_connections > POOL_CONNECTIONS_MAX ? POOL_CONNECTIONS_MAX :
		config->max_connections;
	pool->idle_close_ms = config->idle_close_ms;
	pool->max_lifetime_ms = config->max_lifetime_ms;
	pool->done = config->done;
	pool->ud = config->ud;
	pool->alarm_us = INT64_MAX;
	pool->random = (uint32_t) notif_loop_now_us() ^ (uint32_t) (uintptr_t) pool;
	pool->host = notif_strdup(connect_to);
	pool->work = notif_loop_timer(loop, notif_h2_pool_on_work, pool);
	pool->alarm = notif_loop_timer(loop, notif_h2_pool_on_alarm, pool);
	if (pool->host == NULL || pool->work == NULL || pool->alarm == NULL ||
		notif_h2_store_init(&pool->store, config->host, config->port) != NOTIF_OK)
	{
		notif_h2_pool_free(pool);
		return NULL;
	}
	pool->tls = notif_tls_new(config->host, config->ca_file, config->cert_pem, config->key_pem,
							  error, error_size);
	if (pool->tls == NULL)
	{
		notif_h2_pool_free(pool);
		return NULL;
	}
	pool->conn_config = (NotifH2ConnConfig)
	{
		.loop = loop,
		.resolver = resolver,
		.tls = pool->tls,
		.host = pool->host,
		.port = config->port,
		.one_stream_first = config->one_stream_first,
		.connect_timeout_ms = pool_or(config->connect_timeout_ms, POOL_CONNECT_MS),
		.ping_idle_ms = pool_or(config->ping_idle_ms, POOL_PING_IDLE_MS),
		.ping_timeout_ms = pool_or(config->ping_timeout_ms, POOL_PING_MS),
		.hooks = {notif_h2_pool_on_finished, notif_h2_pool_on_changed, pool}
	};
	if (error_size > 0)
		error[0] = '\0';
	return pool;
}

static int
pool_or(int value, int fallback)
{
	return value > 0 ? value : fallback;
}

void
notif_h2_pool_free(NotifH2Pool *pool)
{
	/* A callback below may try to free the pool that is being freed. */
	if (pool == NULL || pool->closing)
		return;
	pool->closing = true;
	notif_h2_pool_fail_queue(pool, NOTIF_NET_SHUTDOWN, "the pool was closed");
	for (int i = 0; i < pool->n_slots; i++)
		notif_h2_conn_close(pool->slots[i].conn, NOTIF_NET_SHUTDOWN, "the pool was closed");
	while (pool->finished.count > 0)
		(void) notif_h2_pool_deliver(pool, pool->finished.count);
	for (int i = 0; i < pool->n_slots; i++)
		notif_h2_conn_free(pool->slots[i].conn);
	notif_loop_timer_free(pool->loop, pool->work);
	notif_loop_timer_free(pool->loop, pool->alarm);
	notif_tls_free(pool->tls);
	notif_h2_store_free(&pool->store);
	if (pool->gone != NULL)
		*pool->gone = true;
	notif_free(pool->host);
	notif_free(pool);
}

NotifStatus
notif_h2_pool_submit(NotifH2Pool *pool, const NotifH2Request *request)
{
	NotifH2Item *item;
	NotifStatus status;

	if (pool->closing)
		return NOTIF_ESTATE;
	status = notif_h2_item_new(&pool->store, request, &item);
	if (status != NOTIF_OK)
		return status;
	item->state = NOTIF_H2_QUEUED;
	notif_h2_list_append(&pool->queue, item);
	notif_h2_deadline_insert(&pool->waiting, item, notif_loop_now_us() +
							 (int64_t) request->queue_timeout_ms * 1000);
	notif_h2_pool_wake(pool);
	return NOTIF_OK;
}

int
notif_h2_pool_capacity(const NotifH2Pool *pool)
{
	NotifH2PoolSum sum;
	int			room;

	notif_h2_pool_sum(pool, &sum);
	if (sum.usable > 0)
		room = sum.room;
	else
		room = sum.connecting > 0 || notif_h2_pool_backoff_ms(pool) == 0 ? 1 : 0;
	room -= pool->waiting.count;
	return room > 0 ? room : 0;
}

int
notif_h2_pool_backoff_ms(const NotifH2Pool *pool)
{
	NotifH2PoolSum sum;
	int64_t		left_us;

	if (pool->retry_us == 0)
		return 0;
	notif_h2_pool_sum(pool, &sum);
	left_us = pool->retry_us - notif_loop_now_us();
	if (sum.usable > 0 || sum.connecting > 0 || left_us <= 0)
		return 0;
	return (int) ((left_us + 999) / 1000);
}

void
notif_h2_pool_retire(NotifH2Pool *pool, uint64_t connection)
{
	for (int i = 0; i < pool->n_slots; i++)
	{
		NotifH2ConnView view;

		notif_h2_conn_view(pool->slots[i].conn, &view);
		if (view.number == connection)
			notif_h2_conn_drain(pool->slots[i].conn);
	}
}

void
notif_h2_pool_retire_all(NotifH2Pool *pool)
{
	/* One that is still connecting has not seen any credentials of requests. */
	for (int i = 0; i < pool->n_slots; i++)
	{
		NotifH2ConnView view;

		notif_h2_conn_view(pool->slots[i].conn, &view);
		if (view.state == NOTIF_H2_OPENED)
			notif_h2_conn_drain(pool->slots[i].conn);
	}
}

void
notif_h2_pool_flush_queue(NotifH2Pool *pool)
{
	notif_h2_pool_fail_queue(pool, NOTIF_NET_SHUTDOWN, "taken back before it was sent");
	notif_h2_pool_wake(pool);
}

void
notif_h2_pool_withdraw(NotifH2Pool *pool, bool (*wants) (const void *request_ud, void *arg), void *arg)
{
	notif_h2_pool_take_back(pool, wants, arg, NOTIF_NET_SHUTDOWN, "taken back before it was sent");
	notif_h2_pool_wake(pool);
}

void
notif_h2_pool_set_stream_cap(NotifH2Pool *pool, int streams)
{
	pool->stream_cap = streams > 0 ? streams : 0;
	notif_h2_pool_wake(pool);
}

void
notif_h2_pool_stats(const NotifH2Pool *pool, NotifH2PoolStats *stats)
{
	NotifH2PoolSum sum;

	notif_h2_pool_sum(pool, &sum);
	memset(stats, 0, sizeof(*stats));
	stats->connections = sum.usable;
	stats->connecting = sum.connecting;
	stats->draining = sum.draining;
	stats->in_flight = sum.in_flight;
	stats->queued = pool->waiting.count;
	stats->opened = pool->opened;
	stats->failed = pool->failed;
	stats->goaways = pool->goaways;
	stats->resent = pool->resent;
	stats->bytes_out = pool->bytes_out;
	stats->bytes_in = pool->bytes_in;
	for (int i = 0; i < pool->n_slots; i++)
	{
		NotifH2ConnView view;

		notif_h2_conn_view(pool->slots[i].conn, &view);
		stats->bytes_out += view.bytes_out;
		stats->bytes_in += view.bytes_in;
		if (view.state == NOTIF_H2_OPENED)
			stats->unsent += view.unsent;
	}
	memcpy(stats->last_error, pool->last_error, sizeof(stats->last_error));
}

void
notif_h2_pool_sum(const NotifH2Pool *pool, NotifH2PoolSum *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (int i = 0; i < pool->n_slots; i++)
	{
		NotifH2ConnView view;

		notif_h2_conn_view(pool->slots[i].conn, &view);
		sum->in_flight += view.open;
		if (view.state == NOTIF_H2_CLOSED)
			continue;
		if (view.state != NOTIF_H2_OPENED)
			sum->connecting++;
		else if (view.draining)
			sum->draining++;
		else
		{
			sum->usable++;
			sum->room += notif_h2_conn_room(pool->slots[i].conn, pool->stream_cap);
			sum->ramping = sum->ramping || view.ramping;
			/*
			 * A limit of one is how APNs begins and how it punishes: no reason
			 * to come with more connections.
			 */
			sum->choked = sum->choked || view.limit == 0 ||
				(view.limit == 1 && pool->conn_config.one_stream_first);
		}
	}
}
