/*
 * h2_pool.h
 *		A pool of HTTP/2 connections to one origin with one set of credentials.
 *
 * The caller submits requests and gets each back exactly once, through its
 * callback, with what is known of it (result.h).  Requests that the peer
 * demonstrably did not process (stream above GOAWAY's last-stream-id,
 * REFUSED_STREAM, connection never opened) are sent again by the pool itself,
 * up to NOTIF_H2_RESENDS times, before they are reported NOT_SENT.
 */
#ifndef NOTIF_NET_H2_POOL_H
#define NOTIF_NET_H2_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"
#include "resolver.h"
#include "result.h"

#define NOTIF_H2_RESENDS	5

typedef struct NotifH2Pool NotifH2Pool;

/* How a header enters HPACK's dynamic table (PROVIDERS section 1.6). */
typedef enum NotifHeaderIndex
{
	NOTIF_INDEX_VALUE,			/* name and value are worth an entry */
	NOTIF_INDEX_NAME,			/* only the name: first use on a connection
								 * enters it, later values are literals */
	NOTIF_INDEX_NEVER			/* secret or unique: never indexed */
} NotifHeaderIndex;

typedef struct NotifHeader
{
	const char *name;			/* lower case */
	const char *value;
	size_t		value_len;
	NotifHeaderIndex index;
} NotifHeader;

#define NOTIF_H2_MAX_HEADERS 16

typedef struct NotifH2Request
{
	const char *method;			/* "POST" */
	const char *path;
	NotifHeader headers[NOTIF_H2_MAX_HEADERS];
	int			n_headers;
	const void *body;
	size_t		body_len;
	int			timeout_ms;		/* starts when a stream is granted */
	int			queue_timeout_ms;	/* longest wait for a stream, then NOT_SENT */
	void	   *ud;
} NotifH2Request;

typedef void (*NotifH2DoneFn) (void *pool_ud, void *request_ud, const NotifResult *result);

typedef struct NotifH2PoolConfig
{
	const char *host;			/* name for DNS, SNI, verification, :authority */
	uint16_t	port;
	const char *address;		/* NULL, or connect here instead of resolving host */
	const char *ca_file;		/* NULL: the system's trust store */
	const char *cert_pem;		/* client certificate chain (PEM text) or NULL */
	const char *key_pem;		/* its private key (PEM text) or NULL */
	int			max_connections;	/* 1 … 32 */
	bool		one_stream_first;	/* token auth: one request at a time on a new
									 * connection until one was answered 200 */
	int			connect_timeout_ms; /* 0: 5,000; covers DNS, TCP and TLS */
	int			ping_idle_ms;	/* PING when nothing was read this long; 0: 60,000 */
	int			ping_timeout_ms;	/* close when a PING stays unanswered; 0: 10,000 */
	int			idle_close_ms;	/* close when unused this long; 0: never */
	int64_t		max_lifetime_ms;	/* drain and replace after this; 0: never */
	NotifH2DoneFn done;			/* never called from inside submit() */
	void	   *ud;
} NotifH2PoolConfig;

typedef struct NotifH2PoolStats
{
	int			connections;	/* open (settled) */
	int			connecting;
	int			draining;		/* after GOAWAY or retire, streams still open */
	int			in_flight;		/* streams open */
	int			queued;			/* submitted, no stream yet */
	size_t		unsent;			/* bytes of open streams that the kernel has not
								 * taken */
	uint64_t	opened;			/* connections ever opened */
	uint64_t	failed;			/* connection attempts that failed */
	uint64_t	goaways;
	uint64_t	resent;			/* requests sent again by the pool */
	uint64_t	bytes_out;
	uint64_t	bytes_in;
	char		last_error[160];	/* latest connection failure or GOAWAY reason */
} NotifH2PoolStats;

/* Copies config's strings.  NULL: out of memory or bad certificate; error gets
 * a line without key material. */
NotifH2Pool *notif_h2_pool_new(NotifLoop *loop, NotifResolver *resolver,
							   const NotifH2PoolConfig *config, char *error, size_t error_size);

/* Every request still held is reported (NOT_SENT or UNKNOWN, SHUTDOWN) first. */
void		notif_h2_pool_free(NotifH2Pool *pool);

/*
 * How many requests can be taken to the wire at once: free streams on open
 * connections that accept new ones, less what is queued.  While nothing is
 * open, 1 if a connection may be tried now, 0 during reconnect backoff.
 */
int			notif_h2_pool_capacity(const NotifH2Pool *pool);

/* Milliseconds until a failed origin is tried again; 0 when it may be used. */
int			notif_h2_pool_backoff_ms(const NotifH2Pool *pool);

/* Copies request, headers and body.  On an error nothing was taken and the
 * callback will not come. */
NotifStatus notif_h2_pool_submit(NotifH2Pool *pool, const NotifH2Request *request);

/* Opens no more streams on this connection; lets its open ones finish. */
void		notif_h2_pool_retire(NotifH2Pool *pool, uint64_t connection);

/* The same for all connections: credentials changed. */
void		notif_h2_pool_retire_all(NotifH2Pool *pool);

/* Gives back, NOT_SENT, every request that has no stream yet. */
void		notif_h2_pool_flush_queue(NotifH2Pool *pool);

/* Gives back, NOT_SENT, those requests without a stream whose ud it wants. */
void		notif_h2_pool_withdraw(NotifH2Pool *pool, bool (*wants) (const void *request_ud, void *arg), void *arg);

/* Caps streams per connection below what the peer allows; 0: no cap. */
void		notif_h2_pool_set_stream_cap(NotifH2Pool *pool, int streams);

void		notif_h2_pool_stats(const NotifH2Pool *pool, NotifH2PoolStats *stats);

#endif							/* NOTIF_NET_H2_POOL_H */
