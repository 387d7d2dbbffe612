/*
 * h2_conn_private.h
 *		What h2_conn.c (the connection's life and its bytes) and h2_stream.c
 *		(nghttp2's session and the requests on it) share; nobody else's.
 */
#ifndef NOTIF_NET_H2_CONN_PRIVATE_H
#define NOTIF_NET_H2_CONN_PRIVATE_H

#include <nghttp2/nghttp2.h>

#include "h2_conn.h"

#define CONN_OUT_SIZE	(4 * NOTIF_TLS_RECORD)
#define CONN_SLICE		(2 * NOTIF_TLS_RECORD)	/* body bytes granted before a flush */
#define STREAM_FRAME_HEAD 9
#define CONN_FRAME_MAX	(NOTIF_TLS_RECORD + 16) /* most that nghttp2 hands out at once */

struct NotifH2Conn
{
	const NotifH2ConnConfig *config;
	uint64_t	number;
	NotifH2ConnState state;
	bool		settled;
	bool		draining;
	bool		ramping;
	bool		goaway;
	bool		blocked;		/* the socket takes no more for now */
	bool		unread;			/* input waits in the TLS library */
	bool		parting;		/* our GOAWAY is queued; close when flushed */
	NotifNetError error;
	char		detail[160];

	NotifLookup *lookup;
	NotifAddress addresses[NOTIF_RESOLVER_ADDRESSES];
	int			n_addresses;
	int			next_address;
	int			fd;
	NotifWatch *watch;
	NotifTimer *timer;
	NotifTlsLink *link;
	nghttp2_session *session;

	NotifH2List open;
	uint32_t	limit;			/* peer's MAX_CONCURRENT_STREAMS */
	int64_t		owed;			/* body bytes granted but not serialised */
	int64_t		late_left;		/* bytes for nobody that may still come */
	uint8_t		frame_head[STREAM_FRAME_HEAD];	/* of the input, as far as it came */
	size_t		frame_got;
	size_t		frame_left;		/* of the frame under way */
	uint64_t	names_used;		/* names (bits) already indexed here */
	uint64_t	answered;
	uint64_t	bytes_in;		/* of the link, once it is gone */
	uint64_t	bytes_out;

	/* Times on the monotonic clock; connect_us and ping_us are due times. */
	int64_t		connect_us;
	int64_t		address_us;		/* give up on this address */
	int64_t		now_us;			/* as of the latest read */
	int64_t		opened_us;
	int64_t		idle_since_us;
	int64_t		last_read_us;
	int64_t		ping_us;		/* 0: none under way */

	/*
	 * Output: out[out_head .. out_tail) is serialised and not yet accepted by
	 * TLS; total counts every byte ever serialised, handed those that were
	 * offered to TLS.  What was offered may have left.
	 */
	size_t		out_head;
	size_t		out_tail;
	size_t		offered;		/* of a write that is not finished */
	uint64_t	total;
	uint64_t	handed;
	uint8_t		out[CONN_OUT_SIZE];
};

/* h2_conn.c: queues a PING unless one is under way; without an answer in time
 * the connection is closed.  The caller sees to the flush. */
void		notif_h2_conn_probe(NotifH2Conn *conn);

/* h2_stream.c: makes the session and queues preface and SETTINGS. */
NotifStatus notif_h2_session_open(NotifH2Conn *conn);

/* h2_stream.c: feeds input.  False: the peer broke the protocol or memory is
 * short; conn->error and detail say which. */
bool		notif_h2_session_feed(NotifH2Conn *conn, const uint8_t *data, size_t len);

/* h2_stream.c: fills out[] up to a record's worth beyond out_head. */
bool		notif_h2_session_drain(NotifH2Conn *conn);

/* h2_stream.c: takes every item off the connection, NOT_SENT or UNKNOWN. */
void		notif_h2_session_abandon(NotifH2Conn *conn, NotifNetError error, const char *detail);

#endif							/* NOTIF_NET_H2_CONN_PRIVATE_H */
