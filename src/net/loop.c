/*
 * loop.c
 *		The event loop; see loop.h.
 *
 * Watches are level-triggered, so an event that a step had no time for is
 * reported again by the next one, and epoll's ready list rotates: nobody
 * starves.  An epoll fd is itself pollable, which is why one fd is all that a
 * worker has to wait on.  It does not become readable for timers:
 * notif_loop_timeout_ms() bounds the wait.
 *
 * Timers live in a binary heap ordered by (due, order of arming).  Deferred
 * work is a timer that is due at once.  One pass runs only timers armed
 * before it began, so that work which arms itself again cannot keep a step
 * from looking at the sockets.
 *
 * Ownership: the loop frees a watch no earlier than the end of the dispatch
 * in which it was removed, because epoll may already have handed out a
 * pointer to it.  The heap array always has room for every existing timer, so
 * arming cannot fail.
 */
#include "loop.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "../core/mem.h"

#define LOOP_EVENTS 64			/* taken from the kernel at once */

struct NotifWatch
{
	int			fd;
	int			events;
	bool		dead;
	NotifWatchFn fn;
	void	   *ud;
	NotifWatch *next_dead;
};

struct NotifTimer
{
	NotifTimerFn fn;
	void	   *ud;
	int64_t		due_us;
	uint64_t	order;			/* of arming; breaks ties, bounds a pass */
	int			index;			/* in the heap, -1 when not armed */
};

struct NotifLoop
{
	int			epoll_fd;
	bool		stepping;
	NotifWatch *dead;
	NotifTimer **heap;
	int			n_armed;
	int			n_timers;		/* existing, armed or not */
	int			heap_size;
	uint64_t	order;
};

static void loop_bury(NotifLoop *loop);
static bool loop_run_events(NotifLoop *loop, int64_t deadline_us);
static bool loop_run_timers(NotifLoop *loop, int64_t deadline_us);
static void heap_place(NotifLoop *loop, NotifTimer *timer, int index);
static void heap_sift(NotifLoop *loop, NotifTimer *timer, int index);

int64_t
notif_loop_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

NotifLoop *
notif_loop_new(void)
{
	NotifLoop  *loop = notif_calloc(1, sizeof(*loop));

	if (loop == NULL)
	{
		errno = ENOMEM;
		return NULL;
	}
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
	{
		int			saved = errno;

		notif_free(loop);
		errno = saved;
		return NULL;
	}
	return loop;
}

void
notif_loop_free(NotifLoop *loop)
{
	if (loop == NULL)
		return;
	loop_bury(loop);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	notif_free(loop->heap);
	notif_free(loop);
}

int
notif_loop_fd(const NotifLoop *loop)
{
	return loop->epoll_fd;
}

int
notif_loop_timeout_ms(const NotifLoop *loop)
{
	int64_t		wait_us;

	if (loop->n_armed == 0)
		return -1;
	wait_us = loop->heap[0]->due_us - notif_loop_now_us();
	if (wait_us <= 0)
		return 0;
	/* Rounded up: waking a fraction too early would spin until the due time. */
	wait_us = (wait_us + 999) / 1000;
	return wait_us > INT_MAX ? INT_MAX : (int) wait_us;
}

bool
notif_loop_step(NotifLoop *loop, int budget_us)
{
	int64_t		deadline_us;
	bool		more = true;

	if (loop->stepping)
		return false;
	loop->stepping = true;
	deadline_us = notif_loop_now_us() + budget_us;
	for (;;)
	{
		bool		worked = loop_run_events(loop, deadline_us);

		if (loop_run_timers(loop, deadline_us))
			worked = true;
		loop_bury(loop);
		if (!worked)
		{
			more = false;
			break;
		}
		if (notif_loop_now_us() >= deadline_us)
			break;
	}
	loop->stepping = false;
	return more;
}

static bool
loop_run_events(NotifLoop *loop, int64_t deadline_us)
{
	struct epoll_event ready[LOOP_EVENTS];
	int			n = epoll_wait(loop->epoll_fd, ready, LOOP_EVENTS, 0);

	for (int i = 0; i < n; i++)
	{
		NotifWatch *watch = ready[i].data.ptr;
		int			events = 0;

		if (watch->dead)
			continue;
		if (ready[i].events & EPOLLIN)
			events |= NOTIF_LOOP_READ;
		if (ready[i].events & EPOLLOUT)
			events |= NOTIF_LOOP_WRITE;
		/* An error shows itself to whoever reads or writes. */
		if (ready[i].events & (EPOLLERR | EPOLLHUP))
			events |= watch->events != 0 ? watch->events : NOTIF_LOOP_READ;
		watch->fn(watch->ud, watch->fd, events);
		if (notif_loop_now_us() >= deadline_us)
			break;
	}
	return n > 0;
}

static bool
loop_run_timers(NotifLoop *loop, int64_t deadline_us)
{
	int64_t		now_us;
	uint64_t	last = loop->order;
	bool		worked = false;

	if (loop->n_armed == 0)
		return false;
	now_us = notif_loop_now_us();
	while (loop->n_armed > 0)
	{
		NotifTimer *timer = loop->heap[0];

		if (timer->due_us > now_us || timer->order > last)
			break;
		notif_loop_timer_stop(loop, timer);
		worked = true;
		timer->fn(timer->ud);	/* may free the timer */
		if (notif_loop_now_us() >= deadline_us)
			break;
	}
	return worked;
}

static void
loop_bury(NotifLoop *loop)
{
	while (loop->dead != NULL)
	{
		NotifWatch *watch = loop->dead;

		loop->dead = watch->next_dead;
		notif_free(watch);
	}
}

static uint32_t
watch_mask(int events)
{
	return ((events & NOTIF_LOOP_READ) ? (uint32_t) EPOLLIN : 0) |
		((events & NOTIF_LOOP_WRITE) ? (uint32_t) EPOLLOUT : 0);
}

NotifWatch *
notif_loop_watch(NotifLoop *loop, int fd, int events, NotifWatchFn fn, void *ud)
{
	NotifWatch *watch = notif_calloc(1, sizeof(*watch));
	struct epoll_event event = {0};

	if (watch == NULL)
		return NULL;
	watch->fd = fd;
	watch->events = events;
	watch->fn = fn;
	watch->ud = ud;
	event.events = watch_mask(events);
	event.data.ptr = watch;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
	{
		notif_free(watch);
		return NULL;
	}
	return watch;
}

NotifStatus
notif_loop_rewatch(NotifLoop *loop, NotifWatch *watch, int events)
{
	struct epoll_event event = {0};

	if (watch->events == events)
		return NOTIF_OK;
	event.events = watch_mask(events);
	event.data.ptr = watch;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) != 0)
		return NOTIF_EIO;
	watch->events = events;
	return NOTIF_OK;
}

void
notif_loop_unwatch(NotifLoop *loop, NotifWatch *watch)
{
	if (watch == NULL || watch->dead)
		return;
	/* Fails when the fd was closed first; then the kernel forgot it already. */
	(void) epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->dead = true;
	if (loop->stepping)
	{
		watch->next_dead = loop->dead;
		loop->dead = watch;
	}
	else
		notif_free(watch);
}

NotifTimer *
notif_loop_timer(NotifLoop *loop, NotifTimerFn fn, void *ud)
{
	NotifTimer *timer;

	if (loop->n_timers == loop->heap_size)
	{
		int			size = loop->heap_size > 0 ? loop->heap_size * 2 : 16;
		NotifTimer **heap = notif_realloc(loop->heap, sizeof(*heap) * (size_t) size);

		if (heap == NULL)
			return NULL;
		loop->heap = heap;
		loop->heap_size = size;
	}
	timer = notif_calloc(1, sizeof(*timer));
	if (timer == NULL)
		return NULL;
	timer->fn = fn;
	timer->ud = ud;
	timer->index = -1;
	loop->n_timers++;
	return timer;
}

void
notif_loop_timer_set(NotifLoop *loop, NotifTimer *timer, int64_t due_us)
{
	int64_t		now_us = notif_loop_now_us();

	/*
	 * Nothing is due earlier than now: otherwise work that always asks for
	 * "at once" would sort before timers that have been due for longer.
	 */
	timer->due_us = due_us < now_us ? now_us : due_us;
	timer->order = ++loop->order;
	if (timer->index < 0)
		heap_sift(loop, timer, loop->n_armed++);
	else
		heap_sift(loop, timer, timer->index);
}

void
notif_loop_timer_stop(NotifLoop *loop, NotifTimer *timer)
{
	int			index = timer->index;
	NotifTimer *last;

	if (index < 0)
		return;
	timer->index = -1;
	last = loop->heap[--loop->n_armed];
	if (last != timer)
		heap_sift(loop, last, index);
}

void
notif_loop_timer_free(NotifLoop *loop, NotifTimer *timer)
{
	if (timer == NULL)
		return;
	notif_loop_timer_stop(loop, timer);
	loop->n_timers--;
	notif_free(timer);
}

static bool
timer_before(const NotifTimer *a, const NotifTimer *b)
{
	return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

static void
heap_place(NotifLoop *loop, NotifTimer *timer, int index)
{
	loop->heap[index] = timer;
	timer->index = index;
}

/* Puts timer, whose key may have changed either way, where it belongs. */
static void
heap_sift(NotifLoop *loop, NotifTimer *timer, int index)
{
	while (index > 0)
	{
		int			parent = (index - 1) / 2;

		if (!timer_before(timer, loop->heap[parent]))
			break;
		heap_place(loop, loop->heap[parent], index);
		index = parent;
	}
	for (;;)
	{
		int			child = 2 * index + 1;

		if (child >= loop->n_armed)
			break;
		if (child + 1 < loop->n_armed &&
			timer_before(loop->heap[child + 1], loop->heap[child]))
			child++;
		if (!timer_before(loop->heap[child], timer))
			break;
		heap_place(loop, loop->heap[child], index);
		index = child;
	}
	heap_place(loop, timer, index);
}
