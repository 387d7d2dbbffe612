/*
 * h2_pool_private.h
 *		What h2_pool.c (the pool's face) and h2_dispatch.c (its work) share.
 */
#ifndef NOTIF_NET_H2_POOL_PRIVATE_H
#define NOTIF_NET_H2_POOL_PRIVATE_H

#include "h2_conn.h"
#include "h2_pool.h"
#include "h2_request.h"

#define POOL_CONNECTIONS_MAX 32

typedef struct NotifH2Slot
{
	NotifH2Conn *conn;
	bool		settled;		/* counted in opened */
	bool		goaway;			/* counted in goaways */
} NotifH2Slot;

struct NotifH2Pool
{
	NotifLoop  *loop;
	NotifH2ConnConfig conn_config;
	char	   *host;
	NotifTls   *tls;
	NotifH2Store store;
	int			max_connections;
	int			idle_close_ms;
	int64_t		max_lifetime_ms;
	int			stream_cap;
	NotifH2DoneFn done;
	void	   *ud;

	NotifH2Slot slots[POOL_CONNECTIONS_MAX];
	int			n_slots;
	int			turn;			/* whose turn it is to get the first request */

	/* Places (NotifH2State) and deadlines of the requests. */
	NotifH2List queue;
	NotifH2List resend;			/* served before queue */
	NotifH2List finished;
	NotifH2List waiting;
	NotifH2List flying;

	NotifTimer *work;			/* deferred work */
	bool		work_armed;
	NotifTimer *alarm;			/* deadlines, backoff, lifetime */
	int64_t		alarm_us;		/* INT64_MAX: not armed */

	int			failures;		/* connections in a row that came to nothing */
	int			brief;			/* in a row that answered and were soon taken down */
	int64_t		brief_us;		/* the last of them */
	int64_t		retry_us;		/* no new connection before this */
	NotifNetError connect_error;
	char		connect_detail[160];
	char		last_error[160];
	uint32_t	random;

	uint64_t	numbered;		/* connections ever begun */
	uint64_t	opened;
	uint64_t	failed;
	uint64_t	goaways;
	uint64_t	resent;
	uint64_t	bytes_in;		/* of connections that are gone */
	uint64_t	bytes_out;

	bool		closing;
	bool	   *gone;			/* tells a delivery that the pool was freed */
};

/* h2_dispatch.c */
void		notif_h2_pool_on_work(void *ud);
void		notif_h2_pool_on_alarm(void *ud);
void		notif_h2_pool_on_changed(void *ud);
void		notif_h2_pool_on_finished(void *ud, NotifH2Item *item);

/* Asks for work in the next loop step. */
void		notif_h2_pool_wake(NotifH2Pool *pool);

/* Gives every request without a stream back, NOT_SENT. */
void		notif_h2_pool_fail_queue(NotifH2Pool *pool, NotifNetError error, const char *detail);

/* The same for those whose ud is wanted; wants NULL: all. */
void		notif_h2_pool_take_back(NotifH2Pool *pool, bool (*wants) (const void *request_ud, void *arg), void *arg,
									NotifNetError error, const char *detail);

/* Calls back for at most n finished requests; false: the pool is gone. */
bool		notif_h2_pool_deliver(NotifH2Pool *pool, int n);

/* What the connections add up to. */
typedef struct NotifH2PoolSum
{
	int			connecting;
	int			usable;			/* open, accepting new streams */
	int			draining;
	int			in_flight;
	int			room;
	bool		ramping;		/* one of the usable is still ramping */
	bool		choked;			/* the peer keeps one of the usable down */
} NotifH2PoolSum;

void		notif_h2_pool_sum(const NotifH2Pool *pool, NotifH2PoolSum *sum);

#endif							/* NOTIF_NET_H2_POOL_PRIVATE_H */
