/*
 * h2_request.h
 *		A request as the pool and its connections hold it; inside src/net only.
 *
 * A request is one block of memory: the struct, its nghttp2 headers, their
 * values, the body.  Blocks are kept for reuse by size.  Header names are
 * interned in the pool, so a connection knows by a bit which names it has
 * used.
 *
 * A request is always in exactly one place:
 *
 *	NOTIF_H2_QUEUED		pool's queue or its resend queue, in pool->waiting
 *	NOTIF_H2_OPEN		a connection's open list, in pool->flying
 *	NOTIF_H2_DONE		pool's done list, in no deadline list
 */
#ifndef NOTIF_NET_H2_REQUEST_H
#define NOTIF_NET_H2_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <nghttp2/nghttp2.h>

#include "../core/buf.h"
#include "../core/status.h"
#include "h2_pool.h"
#include "result.h"

#define NOTIF_H2_PSEUDO_HEADERS 4
#define NOTIF_H2_NAMES		64	/* distinct header names a pool remembers */

typedef struct NotifH2Item NotifH2Item;
struct NotifH2Conn;

/* A doubly linked list; an item has one link for its place, one for its deadline. */
typedef struct NotifH2List
{
	NotifH2Item *head;
	NotifH2Item *tail;
	int			count;
} NotifH2List;

typedef enum NotifH2State
{
	NOTIF_H2_QUEUED,
	NOTIF_H2_OPEN,
	NOTIF_H2_DONE
} NotifH2State;

struct NotifH2Item
{
	NotifH2Item *prev;
	NotifH2Item *next;
	NotifH2Item *dl_prev;
	NotifH2Item *dl_next;
	NotifH2State state;
	int			size_class;
	void	   *ud;

	/* the request */
	nghttp2_nv *nv;
	size_t		n_nv;
	uint64_t	name_once;		/* names (bits) to be indexed at first use only */
	uint64_t	name_bit[NOTIF_H2_MAX_HEADERS]; /* the same, header by header */
	const uint8_t *body;
	size_t		body_len;
	int			timeout_ms;
	int			queue_timeout_ms;
	int			resends;
	bool		resending;		/* queued in the resend queue, not the ordinary one */

	/* while it has a stream */
	struct NotifH2Conn *conn;
	int32_t		stream_id;
	size_t		body_off;
	bool		body_done;		/* END_STREAM was serialised */
	bool		ended;			/* END_STREAM was received */
	bool		peer_reset;		/* the peer sent RST_STREAM */
	int64_t		opened_us;
	int64_t		deadline_us;
	uint64_t	start_off;		/* where its first byte is in the connection's
								 * output; UINT64_MAX: not serialised */

	/* the answer */
	NotifKnown	known;
	NotifNetError error;
	int			status;
	uint32_t	latency_us;
	uint64_t	connection;
	size_t		header_bytes;
	size_t		body_read;
	NotifBuf	answer;			/* the body's beginning */
	char		message_id[64];
	char		retry_after[48];
	char		detail[160];
};

/* What a pool shares among its requests. */
typedef struct NotifH2Store
{
	char	   *authority;
	size_t		authority_len;
	NotifH2Item *spare[9];		/* by size class, linked by next */
	size_t		spare_bytes;
	struct
	{
		char	   *text;
		size_t		len;
	}			names[NOTIF_H2_NAMES];
	int			n_names;
	int			hint[NOTIF_H2_MAX_HEADERS]; /* where the last request's names were */
} NotifH2Store;

NotifStatus notif_h2_store_init(NotifH2Store *store, const char *host, uint16_t port);
void		notif_h2_store_free(NotifH2Store *store);

/* A copy of request, in no list.  NOTIF_EINVAL: a header, method or path that
 * must not go on the wire; NOTIF_ETOOBIG: headers beyond one HTTP/2 frame;
 * NOTIF_ENOMEM. */
NotifStatus notif_h2_item_new(NotifH2Store *store, const NotifH2Request *request,
							  NotifH2Item **item);

/* The item must be in no list. */
void		notif_h2_item_free(NotifH2Store *store, NotifH2Item *item);

/* Forgets a stream's state so that the request can be sent once more. */
void		notif_h2_item_rewind(NotifH2Item *item);

/* By place. */
void		notif_h2_list_append(NotifH2List *list, NotifH2Item *item);
void		notif_h2_list_remove(NotifH2List *list, NotifH2Item *item);

/*
 * By deadline, walking back from the end: deadlines of one kind arrive nearly
 * in order, so this is one step per request.
 */
void		notif_h2_deadline_insert(NotifH2List *list, NotifH2Item *item, int64_t deadline_us);
void		notif_h2_deadline_remove(NotifH2List *list, NotifH2Item *item);

/*
 * "not followed: redirect to HOST": a Location as a line for humans.  User, path
 * and query are left out, for they may repeat what was secret in the
 * request, a device's address for one.
 */
void		notif_h2_redirect(char *to, size_t size, const char *location, size_t len);

/* Copies at most size - 1 bytes, printable ASCII as it is and '?' for the rest. */
void		notif_h2_printable(char *to, size_t size, const void *from, size_t len);

#endif							/* NOTIF_NET_H2_REQUEST_H */
