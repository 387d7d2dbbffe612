/*
 * loop.c
 *		Listeners and the turn of the loop.
 *
 * One turn: wait, read every ready socket, run what is due, write the ledger,
 * write the answers, write the control answers, free the dead.  The order of
 * the last four is the point of the program; see sandbox.h.
 */
#include "sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOP_EVENTS		64
#define LOOP_TICK_MS	50		/* while something waits for idle or patience */

static int	loop_fd = -1;
static SbWatch loop_apns = {SB_WATCH_APNS_LISTENER, -1};
static SbWatch loop_control = {SB_WATCH_CONTROL_LISTENER, -1};
static bool loop_accepting;

/* Listens on 127.0.0.1; *actual gets the port. */
static int
loop_listen(int port, int *actual)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
	socklen_t	len = sizeof(addr);
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int			on = 1;

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
		bind(fd, (struct sockaddr *) &addr, sizeof(addr)) != 0 || listen(fd, 1024) != 0 ||
		getsockname(fd, (struct sockaddr *) &addr, &len) != 0)
		sb_die("cannot listen on port %d: %m", port);
	*actual = ntohs(addr.sin_port);
	return fd;
}

void
sb_loop_watch(SbWatch *watch, uint32_t events, bool add)
{
	struct epoll_event ev = {.events = events, .data.ptr = watch};

	if (epoll_ctl(loop_fd, add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, watch->fd, &ev) != 0)
		sb_die("epoll_ctl: %m");
}

void
sb_loop_init(void)
{
	loop_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop_fd < 0)
		sb_die("epoll_create1: %m");
	loop_apns.fd = loop_listen(sb.opt.port, &sb.apns_port);
	loop_control.fd = loop_listen(sb.opt.control_port, &sb.control_port);
	sb_loop_watch(&loop_apns, EPOLLIN, true);
	sb_loop_watch(&loop_control, EPOLLIN, true);
	loop_accepting = true;
}

/*
 * "on"; "off" leaves connections in the kernel's queue, where their TLS
 * handshake gets no answer; "refuse" closes the listener, so that connecting
 * fails at once.
 */
void
sb_loop_accept(const char *mode)
{
	bool		on = strcmp(mode, "on") == 0;
	bool		refuse = strcmp(mode, "refuse") == 0;

	if (refuse && loop_apns.fd >= 0)
	{
		close(loop_apns.fd);
		loop_apns.fd = -1;
		loop_accepting = false;
	}
	if (!refuse && loop_apns.fd < 0)
	{
		loop_apns.fd = loop_listen(sb.apns_port, &sb.apns_port);
		sb_loop_watch(&loop_apns, on ? EPOLLIN : 0, true);
		loop_accepting = on;
	}
	if (!refuse && on != loop_accepting)
	{
		sb_loop_watch(&loop_apns, on ? EPOLLIN : 0, false);
		loop_accepting = on;
	}
}

static void
loop_accept(SbWatch *listener)
{
	for (int i = 0; i < 64; i++)
	{
		int			fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		if (listener->kind == SB_WATCH_APNS_LISTENER)
			sb_conn_accept(fd);
		else
			sb_control_accept(fd);
	}
}

/* Time-outs of connections: idle ones, impatient GOAWAYs, lingering closes. */
static void
loop_check_connections(int64_t now_us)
{
	SbConn	   *next;

	for (SbConn *c = sb.conns; c != NULL; c = next)
	{
		next = c->next;
		if (c->lingering)
		{
			if (now_us >= c->linger_due_us)
				sb_conn_kill(c);
			continue;
		}
		if (c->withhold_due_us > 0 && now_us >= c->withhold_due_us)
			sb_goaway_release(c);
		if (sb.fault.idle_timeout_us > 0 && c->session != NULL && c->open_streams == 0 &&
			c->last_active_us >= 0 && now_us - c->last_active_us >= sb.fault.idle_timeout_us)
			sb_goaway_now(c, "IdleTimeout");
	}
}

static int
loop_timeout_ms(int64_t now_us)
{
	int64_t		due = sb_wait_next_due();
	int64_t		ms = -1;

	if (sb.again)
		return 0;
	if (due >= 0)
		ms = due <= now_us ? 0 : (due - now_us + 999) / 1000;
	if (ms < 0 || ms > LOOP_TICK_MS)
		for (SbConn *c = sb.conns; c != NULL; c = c->next)
			if (c->lingering || c->withhold_due_us > 0 || sb.fault.idle_timeout_us > 0)
			{
				ms = LOOP_TICK_MS;
				break;
			}
	return (int) ms;
}

static void
loop_dispatch(SbWatch *watch, uint32_t events)
{
	switch (watch->kind)
	{
		case SB_WATCH_APNS_LISTENER:
		case SB_WATCH_CONTROL_LISTENER:
			loop_accept(watch);
			break;
		case SB_WATCH_APNS:
			if (events & EPOLLOUT)
				sb_conn_mark((SbConn *) watch);
			if (events & ~(uint32_t) EPOLLOUT)
				sb_conn_readable((SbConn *) watch);
			break;
		case SB_WATCH_CONTROL:
			sb_control_ready(watch);
			break;
	}
}

static void
loop_read_again(void)
{
	SbConn	   *next;

	sb.again = false;
	for (SbConn *c = sb.conns; c != NULL; c = next)
	{
		next = c->next;
		if (c->again)
			sb_conn_readable(c);
	}
}

/* Runs until sb.stop. */
void
sb_loop_run(void)
{
	struct epoll_event events[LOOP_EVENTS];

	while (!sb.stop)
	{
		bool		again = sb.again;
		int			n = epoll_wait(loop_fd, events, LOOP_EVENTS, loop_timeout_ms(sb_mono_us()));
		int64_t		now_us;

		if (n < 0 && errno != EINTR)
			sb_die("epoll_wait: %m");
		if (again)
			loop_read_again();
		for (int i = 0; i < n; i++)
			loop_dispatch(events[i].data.ptr, events[i].events);
		now_us = sb_mono_us();
		sb_wait_run(now_us);
		loop_check_connections(now_us);

		sb_ledger_flush();
		while (sb.dirty != NULL)
		{
			SbConn	   *c = sb.dirty;

			sb.dirty = c->next_dirty;
			c->dirty = false;
			sb_conn_flush(c);
		}
		sb_control_finish();
		sb_conn_sweep();
	}
	sb_ledger_flush();
}
