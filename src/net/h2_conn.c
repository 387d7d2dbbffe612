/*
 * h2_conn.c
 *		A connection's life and its bytes; see h2_conn.h.
 *
 * One timer per connection serves connect time-out, the next address and
 * keep-alive; request deadlines are the pool's.  Keep-alive asks with a PING
 * when nothing was read for long, and when a request's time was up: a peer that
 * sends a byte now and then, never a frame, is not alive.
 *
 * A write that the peer no longer takes does not close the connection: what
 * it said before it went (answers, GOAWAY) is still in the socket, and the
 * read side finds the end (tls.h).
 *
 * Reading is bounded per event.  What is left inside the TLS library is
 * invisible to epoll, so `unread` asks the pool's work to come back.
 */
#include "h2_conn_private.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../core/mem.h"

#define CONN_READS_PER_EVENT 8
#define CONN_ADDRESS_MIN_US (250 * 1000)	/* least time for one of several addresses */

static void conn_on_lookup(void *ud, NotifStatus status, const NotifAddress *addresses,
						   int n, const char *error);
static void conn_next_address(NotifH2Conn *conn, const char *why);
static bool conn_try_address(NotifH2Conn *conn, const NotifAddress *address);
static void conn_on_socket(void *ud, int fd, int events);
static void conn_on_timer(void *ud);
static void conn_arm(NotifH2Conn *conn);
static void conn_connected(NotifH2Conn *conn);
static void conn_handshake(NotifH2Conn *conn);
static void conn_read(NotifH2Conn *conn);
static void conn_fail_tls(NotifH2Conn *conn, NotifTlsStep step);
static void conn_drop_socket(NotifH2Conn *conn);
static void conn_maybe_part(NotifH2Conn *conn);
static void conn_want(NotifH2Conn *conn, int events);

NotifH2Conn *
notif_h2_conn_new(const NotifH2ConnConfig *config, uint64_t number)
{
	NotifH2Conn *conn = notif_calloc(1, sizeof(*conn));

	if (conn == NULL)
		return NULL;
	conn->config = config;
	conn->number = number;
	conn->fd = -1;
	conn->ramping = config->one_stream_first;
	conn->now_us = notif_loop_now_us();
	conn->connect_us = conn->now_us + (int64_t) config->connect_timeout_ms * 1000;
	conn->timer = notif_loop_timer(config->loop, conn_on_timer, conn);
	if (conn->timer != NULL)
		conn->lookup = notif_resolver_lookup(config->resolver, config->host, config->port,
											 config->connect_timeout_ms, conn_on_lookup, conn);
	if (conn->lookup == NULL)
	{
		notif_loop_timer_free(config->loop, conn->timer);
		notif_free(conn);
		return NULL;
	}
	conn_arm(conn);
	return conn;
}

void
notif_h2_conn_free(NotifH2Conn *conn)
{
	if (conn == NULL)
		return;
	notif_resolver_cancel(conn->lookup);
	conn_drop_socket(conn);
	notif_loop_timer_free(conn->config->loop, conn->timer);
	notif_free(conn);
}

void
notif_h2_conn_view(const NotifH2Conn *conn, NotifH2ConnView *view)
{
	view->state = conn->state;
	view->settled = conn->settled;
	view->draining = conn->draining;
	view->ramping = conn->ramping;
	view->goaway = conn->goaway;
	view->open = conn->open.count;
	view->limit = conn->limit;
	view->number = conn->number;
	view->answered = conn->answered;
	view->opened_us = conn->opened_us;
	view->idle_since_us = conn->idle_since_us;
	view->bytes_in = conn->link != NULL ? notif_tls_bytes_in(conn->link) : conn->bytes_in;
	view->bytes_out = conn->link != NULL ? notif_tls_bytes_out(conn->link) : conn->bytes_out;
	view->unsent = conn->out_tail - conn->out_head + (size_t) (conn->owed > 0 ? conn->owed : 0);
	view->error = conn->error;
	view->detail = conn->detail;
}

int
notif_h2_conn_room(const NotifH2Conn *conn, int cap)
{
	uint32_t	limit = conn->limit;

	if (conn->state != NOTIF_H2_OPENED || conn->draining)
		return 0;
	if (cap > 0 && limit > (uint32_t) cap)
		limit = (uint32_t) cap;
	if (conn->ramping && limit > 1)
		limit = 1;
	if (limit > INT32_MAX)
		limit = INT32_MAX;
	return (int) limit > conn->open.count ? (int) limit - conn->open.count : 0;
}

bool
notif_h2_conn_ready(const NotifH2Conn *conn, size_t body_len)
{
	if (conn->state != NOTIF_H2_OPENED || conn->blocked)
		return false;
	/*
	 * nghttp2 sends all HEADERS it has before any DATA.  Granting by slices
	 * lets a request leave as a whole, so that a socket which blocks leaves
	 * the rest of the queue untouched.
	 */
	if (conn->owed >= CONN_SLICE)
		return false;
	/*
	 * A request whose body cannot follow its headers would only turn from
	 * NOT_SENT into UNKNOWN if the peer hangs.  With nothing open it must go
	 * all the same: the window may be smaller than the body for ever.
	 */
	return conn->open.count == 0 ||
		(nghttp2_session_get_remote_window_size(conn->session) - conn->owed >= (int64_t) body_len &&
		 nghttp2_session_get_remote_settings(conn->session, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE) >= body_len);
}

static void
conn_on_lookup(void *ud, NotifStatus status, const NotifAddress *addresses, int n,
			   const char *error)
{
	NotifH2Conn *conn = ud;

	conn->lookup = NULL;
	if (conn->state != NOTIF_H2_RESOLVING)
		return;
	if (status != NOTIF_OK)
	{
		notif_h2_conn_close(conn, NOTIF_NET_DNS, error);
		return;
	}
	memcpy(conn->addresses, addresses, sizeof(*addresses) * (size_t) n);
	conn->n_addresses = n;
	conn->state = NOTIF_H2_CONNECTING;
	conn_next_address(conn, "no address");
}

/* Tries addresses until one begins to connect. */
static void
conn_next_address(NotifH2Conn *conn, const char *why)
{
	char		line[sizeof(conn->detail)];

	snprintf(line, sizeof(line), "cannot connect: %s", why);
	conn_drop_socket(conn);
	while (conn->next_address < conn->n_addresses)
	{
		int			left = conn->n_addresses - conn->next_address;
		int64_t		now_us = notif_loop_now_us();
		int64_t		share_us = (conn->connect_us - now_us) / left;

		if (left > 1 && share_us < CONN_ADDRESS_MIN_US)
			share_us = CONN_ADDRESS_MIN_US;
		conn->address_us = now_us + share_us;
		if (conn_try_address(conn, &conn->addresses[conn->next_address++]))
		{
			conn_arm(conn);
			return;
		}
		snprintf(line, sizeof(line), "cannot connect: %s", strerror(errno));
		conn_drop_socket(conn);
	}
	notif_h2_conn_close(conn, NOTIF_NET_CONNECT, line);
}

static bool
conn_try_address(NotifH2Conn *conn, const NotifAddress *address)
{
	int			one = 1;

	conn->fd = socket(address->sa.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (conn->fd < 0)
		return false;
	(void) setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(conn->fd, &address->sa.any, address->len) != 0 && errno != EINPROGRESS)
		return false;
	conn->watch = notif_loop_watch(conn->config->loop, conn->fd, NOTIF_LOOP_WRITE,
								   conn_on_socket, conn);
	if (conn->watch == NULL)
	{
		errno = ENOMEM;
		return false;
	}
	return true;
}

static void
conn_on_socket(void *ud, int fd, int events)
{
	NotifH2Conn *conn = ud;

	(void) fd;
	switch (conn->state)
	{
		case NOTIF_H2_CONNECTING:
			conn_connected(conn);
			break;
		case NOTIF_H2_HANDSHAKING:
			conn_handshake(conn);
			break;
		case NOTIF_H2_SETTLING:
		case NOTIF_H2_OPENED:
			if (events & NOTIF_LOOP_WRITE)
			{
				conn->blocked = false;
				conn->config->hooks.changed(conn->config->hooks.ud);
			}
			if (events & NOTIF_LOOP_READ)
				conn_read(conn);
			break;
		case NOTIF_H2_RESOLVING:
		case NOTIF_H2_CLOSED:
			break;
	}
}

static void
conn_connected(NotifH2Conn *conn)
{
	int			error = 0;
	socklen_t	len = sizeof(error);

	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error != 0)
	{
		conn_next_address(conn, strerror(error));
		return;
	}
	conn->link = notif_tls_link_new(conn->config->tls, conn->fd);
	if (conn->link == NULL)
	{
		notif_h2_conn_close(conn, NOTIF_NET_TLS, "TLS: out of memory");
		return;
	}
	conn->state = NOTIF_H2_HANDSHAKING;
	conn_arm(conn);
	conn_handshake(conn);
}

static void
conn_handshake(NotifH2Conn *conn)
{
	NotifTlsStep step = notif_tls_handshake(conn->link);

	switch (step)
	{
		case NOTIF_TLS_WANT_READ:
			conn_want(conn, NOTIF_LOOP_READ);
			return;
		case NOTIF_TLS_WANT_WRITE:
			conn_want(conn, NOTIF_LOOP_WRITE);
			return;
		case NOTIF_TLS_CLOSED:
		case NOTIF_TLS_FAILED:
			/* Closing during the handshake is how many servers refuse it. */
			notif_h2_conn_close(conn, step == NOTIF_TLS_FAILED && !notif_tls_is_tls_error(conn->link) ?
								NOTIF_NET_PROTOCOL : NOTIF_NET_TLS, notif_tls_error(conn->link));
			return;
		case NOTIF_TLS_DONE:
			break;
	}
	if (notif_h2_session_open(conn) != NOTIF_OK)
	{
		notif_h2_conn_close(conn, NOTIF_NET_PROTOCOL, "HTTP/2 session: out of memory");
		return;
	}
	conn->state = NOTIF_H2_SETTLING;
	conn_want(conn, NOTIF_LOOP_READ);
	notif_h2_conn_flush(conn);
	/* SETTINGS may have come with the end of the handshake. */
	if (conn->state == NOTIF_H2_SETTLING)
		conn_read(conn);
}

void
notif_h2_conn_resume(NotifH2Conn *conn)
{
	if (conn->unread)
		conn_read(conn);
}

static void
conn_read(NotifH2Conn *conn)
{
	uint8_t		data[NOTIF_TLS_RECORD];
	NotifH2ConnState before = conn->state;
	bool		any = false;
	bool		pinged;

	conn->unread = false;
	for (int i = 0; i < CONN_READS_PER_EVENT; i++)
	{
		size_t		got = 0;
		NotifTlsStep step = notif_tls_read(conn->link, data, sizeof(data), &got);

		if (step == NOTIF_TLS_WANT_READ || step == NOTIF_TLS_WANT_WRITE)
		{
			if (any)
				conn->config->hooks.changed(conn->config->hooks.ud);
			return;
		}
		if (step != NOTIF_TLS_DONE)
		{
			conn_fail_tls(conn, step);
			return;
		}
		if (!any)
		{
			conn->now_us = notif_loop_now_us();
			conn->last_read_us = conn->now_us;
			any = true;
		}
		pinged = conn->ping_us != 0;
		if (!notif_h2_session_feed(conn, data, got))
		{
			/* Let the peer hear why, as far as the socket takes it. */
			(void) notif_h2_session_drain(conn);
			notif_h2_conn_flush(conn);
			if (conn->state != NOTIF_H2_CLOSED)
				notif_h2_conn_close(conn, conn->error, conn->detail);
			return;
		}
		if (pinged && conn->ping_us == 0)
			conn_arm(conn);
		if (conn->settled && before == NOTIF_H2_SETTLING)
		{
			before = NOTIF_H2_OPENED;
			conn->state = NOTIF_H2_OPENED;
			conn->opened_us = conn->now_us;
			conn->idle_since_us = conn->now_us;
			conn_arm(conn);
		}
	}
	conn->unread = notif_tls_pending(conn->link);
	conn->config->hooks.changed(conn->config->hooks.ud);
}

static void
conn_fail_tls(NotifH2Conn *conn, NotifTlsStep step)
{
	bool		tls = step == NOTIF_TLS_FAILED && notif_tls_is_tls_error(conn->link);
	NotifNetError error = tls ? NOTIF_NET_TLS : NOTIF_NET_RESET;

	/*
	 * With TLS 1.3 a client certificate is refused after the handshake: an
	 * alert where the SETTINGS should have been.
	 */
	if (!conn->settled && !tls)
		error = NOTIF_NET_PROTOCOL;
	/* The GOAWAY reason, if there was one, says more than "closed". */
	if (conn->goaway && conn->detail[0] != '\0')
		notif_h2_conn_close(conn, error, conn->detail);
	else
		notif_h2_conn_close(conn, error, notif_tls_error(conn->link));
}

void
notif_h2_conn_flush(NotifH2Conn *conn)
{
	if (conn->state != NOTIF_H2_SETTLING && conn->state != NOTIF_H2_OPENED)
		return;
	while (!conn->blocked)
	{
		size_t		len;
		size_t		put = 0;
		NotifTlsStep step;

		if (!notif_h2_session_drain(conn))
		{
			notif_h2_conn_close(conn, conn->error, conn->detail);
			return;
		}
		len = conn->out_tail - conn->out_head;
		if (len == 0)
			break;
		if (len > NOTIF_TLS_RECORD)
			len = NOTIF_TLS_RECORD;
		/* A record that was begun is finished as it was begun. */
		if (conn->offered > 0)
			len = conn->offered;
		conn->offered = len;
		if (conn->handed < conn->total - (conn->out_tail - conn->out_head) + len)
			conn->handed = conn->total - (conn->out_tail - conn->out_head) + len;
		step = notif_tls_write(conn->link, conn->out + conn->out_head, len, &put);
		switch (step)
		{
			case NOTIF_TLS_DONE:
				conn->offered = 0;
				conn->out_head += put;
				if (conn->out_head == conn->out_tail)
					conn->out_head = conn->out_tail = 0;
				break;
			case NOTIF_TLS_WANT_WRITE:
				conn->blocked = true;
				conn_want(conn, NOTIF_LOOP_READ | NOTIF_LOOP_WRITE);
				return;
			case NOTIF_TLS_WANT_READ:
				/* The peer takes nothing more; only reading is left to do. */
				conn->blocked = true;
				conn_want(conn, NOTIF_LOOP_READ);
				return;
			case NOTIF_TLS_CLOSED:
			case NOTIF_TLS_FAILED:
				conn_fail_tls(conn, step);
				return;
		}
	}
	if (!conn->blocked)
		conn_want(conn, NOTIF_LOOP_READ);
	conn_maybe_part(conn);
	/* nghttp2 has told the peer off and wants nothing more of it. */
	if (conn->session != NULL && conn->out_tail == conn->out_head &&
		!nghttp2_session_want_read(conn->session) && !nghttp2_session_want_write(conn->session))
		notif_h2_conn_close(conn, NOTIF_NET_PROTOCOL, "HTTP/2 protocol error by the server");
}

void
notif_h2_conn_drain(NotifH2Conn *conn)
{
	if (conn->state == NOTIF_H2_CLOSED)
		return;
	if (conn->state != NOTIF_H2_OPENED)
	{
		notif_h2_conn_close(conn, NOTIF_NET_NONE, "");
		return;
	}
	conn->draining = true;
	conn->config->hooks.changed(conn->config->hooks.ud);
}

/* Ends a draining connection in good order once it is empty. */
static void
conn_maybe_part(NotifH2Conn *conn)
{
	if (conn->state != NOTIF_H2_OPENED || !conn->draining || conn->open.count > 0)
		return;
	if (!conn->parting)
	{
		conn->parting = true;
		if (nghttp2_session_terminate_session(conn->session, NGHTTP2_NO_ERROR) == 0)
		{
			notif_h2_conn_flush(conn);
			return;
		}
	}
	notif_h2_conn_close(conn, NOTIF_NET_NONE, conn->detail);
}

void
notif_h2_conn_close(NotifH2Conn *conn, NotifNetError error, const char *detail)
{
	char		line[sizeof(conn->detail)];

	if (conn->state == NOTIF_H2_CLOSED)
		return;
	/* detail may be the link's or our own. */
	snprintf(line, sizeof(line), "%s", detail);
	memcpy(conn->detail, line, sizeof(line));
	conn->error = error;
	conn->state = NOTIF_H2_CLOSED;
	notif_resolver_cancel(conn->lookup);
	conn->lookup = NULL;
	notif_loop_timer_stop(conn->config->loop, conn->timer);
	if (conn->link != NULL)
		notif_tls_bye(conn->link);
	if (conn->session != NULL)
		nghttp2_session_del(conn->session);
	conn->session = NULL;
	notif_h2_session_abandon(conn, error == NOTIF_NET_NONE ? NOTIF_NET_SHUTDOWN : error, line);
	conn_drop_socket(conn);
	conn->config->hooks.changed(conn->config->hooks.ud);
}

static void
conn_drop_socket(NotifH2Conn *conn)
{
	if (conn->link != NULL)
	{
		conn->bytes_in = notif_tls_bytes_in(conn->link);
		conn->bytes_out = notif_tls_bytes_out(conn->link);
		notif_tls_link_free(conn->link);
		conn->link = NULL;
	}
	notif_loop_unwatch(conn->config->loop, conn->watch);
	conn->watch = NULL;
	if (conn->fd >= 0)
		close(conn->fd);
	conn->fd = -1;
}

static void
conn_want(NotifH2Conn *conn, int events)
{
	if (notif_loop_rewatch(conn->config->loop, conn->watch, events) != NOTIF_OK)
		notif_h2_conn_close(conn, NOTIF_NET_RESET, "event loop refused the socket");
}

static void
conn_arm(NotifH2Conn *conn)
{
	int64_t		due_us = conn->connect_us;

	if (conn->state == NOTIF_H2_CONNECTING && conn->address_us < due_us)
		due_us = conn->address_us;
	if (conn->state == NOTIF_H2_OPENED)
		due_us = conn->ping_us != 0 ? conn->ping_us :
			conn->last_read_us + (int64_t) conn->config->ping_idle_ms * 1000;
	notif_loop_timer_set(conn->config->loop, conn->timer, due_us);
}

static void
conn_on_timer(void *ud)
{
	NotifH2Conn *conn = ud;
	int64_t		now_us = notif_loop_now_us();

	switch (conn->state)
	{
		case NOTIF_H2_RESOLVING:
			/* The lookup has the same limit and reports it itself. */
			return;
		case NOTIF_H2_CONNECTING:
			if (now_us < conn->connect_us && conn->next_address < conn->n_addresses)
				conn_next_address(conn, "timed out");
			else
				notif_h2_conn_close(conn, NOTIF_NET_CONNECT, "cannot connect: timed out");
			return;
		case NOTIF_H2_HANDSHAKING:
			notif_h2_conn_close(conn, NOTIF_NET_TLS, "TLS handshake timed out");
			return;
		case NOTIF_H2_SETTLING:
			notif_h2_conn_close(conn, NOTIF_NET_PROTOCOL, "no SETTINGS from the server in time");
			return;
		case NOTIF_H2_OPENED:
			break;
		case NOTIF_H2_CLOSED:
			return;
	}
	if (conn->ping_us != 0)
	{
		if (now_us >= conn->ping_us)
		{
			notif_h2_conn_close(conn, NOTIF_NET_RESET, "no answer to PING");
			return;
		}
	}
	else if (now_us >= conn->last_read_us + (int64_t) conn->config->ping_idle_ms * 1000)
	{
		notif_h2_conn_probe(conn);
		notif_h2_conn_flush(conn);
		if (conn->state == NOTIF_H2_CLOSED)
			return;
	}
	conn_arm(conn);
}

void
notif_h2_conn_probe(NotifH2Conn *conn)
{
	if (conn->state != NOTIF_H2_OPENED || conn->ping_us != 0)
		return;
	/* Without memory for it the time-out comes as if it were not answered. */
	(void) nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL);
	conn->ping_us = notif_loop_now_us() + (int64_t) conn->config->ping_timeout_ms * 1000;
	conn_arm(conn);
}
