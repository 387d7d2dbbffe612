/*
 * loop.h
 *		The event loop: one epoll fd that a PostgreSQL worker waits on beside
 *		its latch, timers on the monotonic clock, steps bounded in time.
 *
 * Knows nothing of PostgreSQL.  One loop belongs to one thread.  Every open
 * socket is watched through this loop; callbacks may add, change and remove
 * watches and timers, their own included.
 */
#ifndef NOTIF_NET_LOOP_H
#define NOTIF_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "../core/status.h"

typedef struct NotifLoop NotifLoop;
typedef struct NotifWatch NotifWatch;
typedef struct NotifTimer NotifTimer;

#define NOTIF_LOOP_READ		1
#define NOTIF_LOOP_WRITE	2

typedef void (*NotifWatchFn) (void *ud, int fd, int events);
typedef void (*NotifTimerFn) (void *ud);

/* NULL when out of memory or fds (errno set). */
NotifLoop  *notif_loop_new(void);
void		notif_loop_free(NotifLoop *loop);

/* The fd to wait on for readability; stays the loop's. */
int			notif_loop_fd(const NotifLoop *loop);

/* Milliseconds until a timer is due or deferred work waits (0), -1 if never. */
int			notif_loop_timeout_ms(const NotifLoop *loop);

/*
 * Handles ready events, due timers and deferred work for at most about
 * budget_us microseconds.  Returns true if there is more to do at once.
 */
bool		notif_loop_step(NotifLoop *loop, int budget_us);

/* Monotonic clock in microseconds, the one that all deadlines use. */
int64_t		notif_loop_now_us(void);

NotifWatch *notif_loop_watch(NotifLoop *loop, int fd, int events, NotifWatchFn fn, void *ud);
NotifStatus notif_loop_rewatch(NotifLoop *loop, NotifWatch *watch, int events);
void		notif_loop_unwatch(NotifLoop *loop, NotifWatch *watch); /* accepts NULL */

/* One-shot timer, due_us on the monotonic clock; NULL when out of memory. */
NotifTimer *notif_loop_timer(NotifLoop *loop, NotifTimerFn fn, void *ud);
void		notif_loop_timer_set(NotifLoop *loop, NotifTimer *timer, int64_t due_us);
void		notif_loop_timer_stop(NotifLoop *loop, NotifTimer *timer);
void		notif_loop_timer_free(NotifLoop *loop, NotifTimer *timer);	/* accepts NULL */

#endif							/* NOTIF_NET_LOOP_H */
