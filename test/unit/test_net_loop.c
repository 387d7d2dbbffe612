/*
 * test_net_loop.c
 *		The event loop alone: watches, timers, deferred work, the nested fd; and
 *		the resolver, as far as it needs no DNS server.
 *
 * Covers F-N-16 (a mute DNS server) and F-T-1 in so far as all waiting is on
 * the monotonic clock.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* pipe2 */
#endif

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../src/core/mem.h"
#include "../../src/net/loop.h"
#include "../../src/net/resolver.h"
#include "unit.h"

#define TEST_TIMERS 500

static NotifLoop *loop;

static void
wait_loop(int most_ms)
{
	struct pollfd pfd = {.fd = notif_loop_fd(loop), .events = POLLIN};
	int			timeout = notif_loop_timeout_ms(loop);

	if (timeout < 0 || timeout > most_ms)
		timeout = most_ms;
	poll(&pfd, 1, timeout);
}

#define RUN_UNTIL(cond) \
	do { \
		int64_t end = notif_loop_now_us() + 10 * INT64_C(1000000); \
		while (!(cond) && notif_loop_now_us() < end) \
			if (!notif_loop_step(loop, 1000) && !(cond)) \
				wait_loop(100); \
		CHECK(cond); \
	} while (0)

/* ---- watches ---- */

typedef struct Pipe
{
	int			fds[2];
	NotifWatch *watch;
	NotifWatch *victim;
	int			calls;
	int			events;
} Pipe;

static void
on_pipe(void *ud, int fd, int events)
{
	Pipe	   *self = ud;
	char		byte;

	self->calls++;
	self->events |= events;
	if (events & NOTIF_LOOP_READ)
		CHECK(read(fd, &byte, 1) >= 0);
	if (self->victim != NULL)
	{
		notif_loop_unwatch(loop, self->victim);
		self->victim = NULL;
	}
}

static bool
readable(void)
{
	struct pollfd pfd = {.fd = notif_loop_fd(loop), .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static void
test_watches(void)
{
	Pipe		one = {0};
	Pipe		two = {0};

	CHECK(pipe2(one.fds, O_NONBLOCK | O_CLOEXEC) == 0);
	CHECK(pipe2(two.fds, O_NONBLOCK | O_CLOEXEC) == 0);
	one.watch = notif_loop_watch(loop, one.fds[0], NOTIF_LOOP_READ, on_pipe, &one);
	two.watch = notif_loop_watch(loop, two.fds[0], NOTIF_LOOP_READ, on_pipe, &two);
	CHECK(!readable());
	CHECK(!notif_loop_step(loop, 1000));
	CHECK_INT(notif_loop_timeout_ms(loop), -1);
	CHECK_INT(write(one.fds[1], "x", 1), 1);
	CHECK(readable());
	RUN_UNTIL(one.calls == 1);
	CHECK(!readable());
	CHECK_INT(two.calls, 0);

	/* Whoever comes first takes the other's watch away: one call in all. */
	one.victim = two.watch;
	two.victim = one.watch;
	one.calls = two.calls = 0;
	CHECK_INT(write(one.fds[1], "x", 1), 1);
	CHECK_INT(write(two.fds[1], "x", 1), 1);
	while (notif_loop_step(loop, 1000))
		;
	CHECK_INT(one.calls + two.calls, 1);
	notif_loop_unwatch(loop, one.calls == 1 ? one.watch : two.watch);

	/* No interest, then interest in writing. */
	one.calls = 0;
	one.victim = NULL;
	one.events = 0;
	one.watch = notif_loop_watch(loop, one.fds[1], 0, on_pipe, &one);
	CHECK(!notif_loop_step(loop, 1000));
	CHECK_INT(one.calls, 0);
	CHECK_INT(notif_loop_rewatch(loop, one.watch, NOTIF_LOOP_WRITE), NOTIF_OK);
	notif_loop_step(loop, 0);
	CHECK_INT(one.events, NOTIF_LOOP_WRITE);
	notif_loop_unwatch(loop, one.watch);
	notif_loop_unwatch(loop, NULL);
	for (int i = 0; i < 2; i++)
	{
		close(one.fds[i]);
		close(two.fds[i]);
	}
	CHECK(notif_loop_watch(loop, -1, NOTIF_LOOP_READ, on_pipe, &one) == NULL);
}

/* ---- timers ---- */

typedef struct Tick
{
	NotifTimer *timer;
	int64_t		due_us;
	bool		fired;
} Tick;

static Tick ticks[TEST_TIMERS];
static int64_t last_due_us;
static int	fired;
static int	out_of_order;

static void
on_tick(void *ud)
{
	Tick	   *tick = ud;

	if (tick->due_us < last_due_us || notif_loop_now_us() < tick->due_us)
		out_of_order++;
	last_due_us = tick->due_us;
	tick->fired = true;
	fired++;
	/* A timer may go away in its own callback. */
	if (fired % 3 == 0)
	{
		notif_loop_timer_free(loop, tick->timer);
		tick->timer = NULL;
	}
}

static void
test_timers(void)
{
	int64_t		base_us = notif_loop_now_us() + 100000;	/* arming takes no longer */
	unsigned	random = 12345;
	int			stopped = 0;

	for (int i = 0; i < TEST_TIMERS; i++)
	{
		random = random * 1103515245 + 12345;
		ticks[i].due_us = base_us + (random >> 8) % 40000;
		ticks[i].timer = notif_loop_timer(loop, on_tick, &ticks[i]);
		notif_loop_timer_set(loop, ticks[i].timer, base_us + 60 * INT64_C(1000000));
	}
	CHECK(notif_loop_timeout_ms(loop) > 50000);
	for (int i = 0; i < TEST_TIMERS; i++)
		notif_loop_timer_set(loop, ticks[i].timer, ticks[i].due_us);
	for (int i = 0; i < TEST_TIMERS; i += 7, stopped++)
		notif_loop_timer_stop(loop, ticks[i].timer);
	CHECK(notif_loop_timeout_ms(loop) <= 150);
	RUN_UNTIL(fired == TEST_TIMERS - stopped);
	CHECK_INT(out_of_order, 0);
	CHECK_INT(notif_loop_timeout_ms(loop), -1);
	for (int i = 0; i < TEST_TIMERS; i++)
	{
		CHECK(ticks[i].fired == (i % 7 != 0));
		notif_loop_timer_free(loop, ticks[i].timer);
	}
}

typedef struct Work
{
	NotifTimer *timer;
	int			turns;
} Work;

/* Always asks for more; must not keep the step from other work. */
static void
on_work(void *ud)
{
	Work	   *work = ud;

	work->turns++;
	notif_loop_timer_set(loop, work->timer, 0);
}

static void
on_nested(void *ud)
{
	*(bool *) ud = notif_loop_step(loop, 1000);
}

static void
test_deferred(void)
{
	Work		greedy = {0};
	Pipe		pipe = {0};
	bool		nested = true;
	NotifTimer *timer;
	int64_t		start_us;

	CHECK(pipe2(pipe.fds, O_NONBLOCK | O_CLOEXEC) == 0);
	pipe.watch = notif_loop_watch(loop, pipe.fds[0], NOTIF_LOOP_READ, on_pipe, &pipe);
	greedy.timer = notif_loop_timer(loop, on_work, &greedy);
	notif_loop_timer_set(loop, greedy.timer, 0);
	CHECK_INT(greedy.turns, 0);
	CHECK_INT(notif_loop_timeout_ms(loop), 0);
	CHECK_INT(write(pipe.fds[1], "x", 1), 1);
	start_us = notif_loop_now_us();
	CHECK(notif_loop_step(loop, 3000));
	CHECK(notif_loop_now_us() - start_us < 1000000);
	CHECK(greedy.turns > 1);
	CHECK_INT(pipe.calls, 1);
	notif_loop_timer_free(loop, greedy.timer);
	CHECK(!notif_loop_step(loop, 3000));

	/* A step inside a step does nothing. */
	timer = notif_loop_timer(loop, on_nested, &nested);
	notif_loop_timer_set(loop, timer, 0);
	notif_loop_step(loop, 1000);
	CHECK(!nested);
	notif_loop_timer_free(loop, timer);
	notif_loop_timer_free(loop, NULL);
	notif_loop_unwatch(loop, pipe.watch);
	close(pipe.fds[0]);
	close(pipe.fds[1]);
}

/* ---- resolver ---- */

typedef struct Answer
{
	int			calls;
	NotifStatus status;
	int			n;
	NotifAddress first;
	char		error[128];
	NotifResolver *free_me;
} Answer;

static void
on_answer(void *ud, NotifStatus status, const NotifAddress *addresses, int n, const char *error)
{
	Answer	   *answer = ud;

	answer->calls++;
	answer->status = status;
	answer->n = n;
	if (n > 0)
		answer->first = addresses[0];
	snprintf(answer->error, sizeof(answer->error), "%s", error);
	notif_resolver_free(answer->free_me);
}

static void
test_resolver(void)
{
	NotifResolver *resolver = notif_resolver_new(loop);
	Answer		answer = {0};
	Answer		second = {0};
	char		text[INET6_ADDRSTRLEN];
	char		servers[64];
	struct sockaddr_in mute = {.sin_family = AF_INET};
	socklen_t	len = sizeof(mute);
	NotifLookup *lookup;
	int			fd;
	int64_t		longest_us = 0;
	int64_t		end_us;

	CHECK(resolver != NULL);
	CHECK(notif_resolver_lookup(resolver, "192.0.2.7", 443, 1000, on_answer, &answer) != NULL);
	CHECK_INT(answer.calls, 0);
	RUN_UNTIL(answer.calls == 1);
	CHECK_INT(answer.status, NOTIF_OK);
	CHECK_STR(inet_ntop(AF_INET, &answer.first.sa.v4.sin_addr, text, sizeof(text)), "192.0.2.7");
	CHECK_INT(ntohs(answer.first.sa.v4.sin_port), 443);

	CHECK(notif_resolver_lookup(resolver, "2001:db8::7", 2197, 1000, on_answer, &second) != NULL);
	RUN_UNTIL(second.calls == 1);
	CHECK_INT(second.first.sa.any.sa_family, AF_INET6);
	CHECK_INT(ntohs(second.first.sa.v6.sin6_port), 2197);

	memset(&answer, 0, sizeof(answer));
	CHECK(notif_resolver_lookup(resolver, "localhost", 80, 5000, on_answer, &answer) != NULL);
	RUN_UNTIL(answer.calls == 1);
	CHECK_INT(answer.status, NOTIF_OK);
	CHECK(answer.n >= 1);

	/* A server that takes questions and never answers. */
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	mute.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(bind(fd, (struct sockaddr *) &mute, sizeof(mute)) == 0);
	CHECK(getsockname(fd, (struct sockaddr *) &mute, &len) == 0);
	snprintf(servers, sizeof(servers), "127.0.0.1:%d", ntohs(mute.sin_port));
	CHECK_INT(notif_resolver_set_servers(resolver, "nonsense:xx"), NOTIF_EINVAL);
	CHECK_INT(notif_resolver_set_servers(resolver, servers), NOTIF_OK);
	memset(&answer, 0, sizeof(answer));
	memset(&second, 0, sizeof(second));
	CHECK(notif_resolver_lookup(resolver, "push.example.com", 443, 120, on_answer, &answer) != NULL);
	lookup = notif_resolver_lookup(resolver, "other.example.com", 443, 120, on_answer, &second);
	end_us = notif_loop_now_us() + 10 * INT64_C(1000000);
	while (answer.calls == 0 && notif_loop_now_us() < end_us)
	{
		int64_t		start_us = notif_loop_now_us();
		bool		more = notif_loop_step(loop, 1000);

		if (notif_loop_now_us() - start_us > longest_us)
			longest_us = notif_loop_now_us() - start_us;
		if (lookup != NULL)
			notif_resolver_cancel(lookup);
		lookup = NULL;
		if (!more && answer.calls == 0)
			wait_loop(100);
	}
	CHECK_INT(answer.calls, 1);
	CHECK_INT(answer.status, NOTIF_EIO);
	CHECK_STR(answer.error, "name lookup timed out");
	CHECK(longest_us < 50000);
	CHECK_INT(second.calls, 0);
	notif_resolver_cancel(NULL);

	/* Freed with questions open, and from inside a callback. */
	CHECK(notif_resolver_lookup(resolver, "late.example.com", 443, 5000, on_answer, &second) != NULL);
	memset(&answer, 0, sizeof(answer));
	answer.free_me = resolver;
	CHECK(notif_resolver_lookup(resolver, "127.0.0.1", 443, 100, on_answer, &answer) != NULL);
	RUN_UNTIL(answer.calls == 1);
	while (notif_loop_step(loop, 1000))
		;
	CHECK_INT(second.calls, 0);
	CHECK_INT(notif_loop_timeout_ms(loop), -1);
	close(fd);
}

int
main(void)
{
	loop = notif_loop_new();
	CHECK(loop != NULL);
	test_watches();
	test_timers();
	test_deferred();
	test_resolver();
	notif_loop_free(loop);
	return unit_done();
}
