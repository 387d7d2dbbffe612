/*
 * h2_conn.h
 *		One HTTP/2 connection; inside src/net only, its user is the pool.
 *
 * Life:
 *
 *	RESOLVING -> CONNECTING -> HANDSHAKING -> SETTLING -> OPEN -> CLOSED
 *
 * SETTLING ends with the peer's SETTINGS: no request goes out before its
 * limits are known.  Any state may go to CLOSED.  A connection in OPEN may be
 * `draining`: no new streams, open ones are waited for.
 *
 * Nothing here calls the pool's user.  A finished request goes to
 * hooks->finished, a change of state to hooks->changed; both may be called
 * from deep inside nghttp2, so they only link and arm.  The pool frees a
 * connection from its own work, never from a hook.
 */
#ifndef NOTIF_NET_H2_CONN_H
#define NOTIF_NET_H2_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "h2_request.h"
#include "loop.h"
#include "resolver.h"
#include "result.h"
#include "tls.h"

typedef struct NotifH2Conn NotifH2Conn;

typedef enum NotifH2ConnState
{
	NOTIF_H2_RESOLVING,
	NOTIF_H2_CONNECTING,
	NOTIF_H2_HANDSHAKING,
	NOTIF_H2_SETTLING,
	NOTIF_H2_OPENED,
	NOTIF_H2_CLOSED
} NotifH2ConnState;

typedef struct NotifH2ConnHooks
{
	/* item has left the connection, its known/error/answer are set; it is in
	 * no place list, still in its deadline list. */
	void		(*finished) (void *ud, NotifH2Item *item);
	/* there may be room, output to flush, or the end */
	void		(*changed) (void *ud);
	void	   *ud;
} NotifH2ConnHooks;

typedef struct NotifH2ConnConfig
{
	NotifLoop  *loop;
	NotifResolver *resolver;
	NotifTls   *tls;
	const char *host;			/* what to resolve; address override applied */
	uint16_t	port;
	bool		one_stream_first;
	int			connect_timeout_ms;
	int			ping_idle_ms;
	int			ping_timeout_ms;
	NotifH2ConnHooks hooks;
} NotifH2ConnConfig;

/* What the pool reads of a connection. */
typedef struct NotifH2ConnView
{
	NotifH2ConnState state;
	bool		settled;		/* reached OPENED at some time */
	bool		draining;
	bool		ramping;		/* one stream at a time until the first 200 */
	bool		goaway;			/* the peer sent GOAWAY */
	int			open;			/* streams */
	uint32_t	limit;			/* streams that the peer allows */
	uint64_t	number;
	uint64_t	answered;		/* responses so far */
	int64_t		opened_us;		/* when it settled */
	int64_t		idle_since_us;	/* when its last stream closed */
	uint64_t	bytes_in;
	uint64_t	bytes_out;
	size_t		unsent;			/* granted and not yet taken by the socket */
	NotifNetError error;		/* why it is CLOSED; NONE: orderly, by us */
	const char *detail;			/* the same as a line; GOAWAY's reason */
} NotifH2ConnView;

/* Begins connecting.  config outlives the connection.  NULL: out of memory. */
NotifH2Conn *notif_h2_conn_new(const NotifH2ConnConfig *config, uint64_t number);

/* Must hold no streams: notif_h2_conn_close() first. */
void		notif_h2_conn_free(NotifH2Conn *conn);

void		notif_h2_conn_view(const NotifH2Conn *conn, NotifH2ConnView *view);

/* Streams that may be opened now; cap 0: only the peer's limit counts. */
int			notif_h2_conn_room(const NotifH2Conn *conn, int cap);

/*
 * Whether opening a stream for body_len bytes now makes sense: the output is
 * not stuck and the flow-control window has room.
 */
bool		notif_h2_conn_ready(const NotifH2Conn *conn, size_t body_len);

/* Opens a stream for an item that is in no place list.  On an error the item
 * is untouched. */
NotifStatus notif_h2_conn_grant(NotifH2Conn *conn, NotifH2Item *item, int64_t now_us);

/* Writes what there is, as few full records as possible. */
void		notif_h2_conn_flush(NotifH2Conn *conn);

/* Goes on reading where a bounded read stopped. */
void		notif_h2_conn_resume(NotifH2Conn *conn);

/* The item's time is up: it finishes now, its stream is reset. */
void		notif_h2_conn_expire(NotifH2Conn *conn, NotifH2Item *item);

/* No new streams; closes once the last one has. */
void		notif_h2_conn_drain(NotifH2Conn *conn);

/* Finishes every stream (NOT_SENT or UNKNOWN, error) and closes. */
void		notif_h2_conn_close(NotifH2Conn *conn, NotifNetError error, const char *detail);

#endif							/* NOTIF_NET_H2_CONN_H */
