/*
 * result.h
 *		What is known about a request after the network is done with it.
 *
 * All of bounded duplication (R3) rests on NotifKnown: a request may be sent
 * again freely only if it is NOT_SENT.
 */
#ifndef NOTIF_NET_RESULT_H
#define NOTIF_NET_RESULT_H

#include <stddef.h>
#include <stdint.h>

typedef enum NotifKnown
{
	NOTIF_NOT_SENT,				/* the peer did not process it: safe to resend */
	NOTIF_ANSWERED,				/* a complete response; status is set */
	NOTIF_UNKNOWN				/* bytes left, no complete answer came */
} NotifKnown;

/* Why there is no answer (NOT_SENT, UNKNOWN); names what an operator looks at. */
typedef enum NotifNetError
{
	NOTIF_NET_NONE,
	NOTIF_NET_DNS,				/* the name did not resolve */
	NOTIF_NET_CONNECT,			/* refused, unreachable, timed out connecting */
	NOTIF_NET_TLS,				/* handshake or certificate verification failed */
	NOTIF_NET_PROTOCOL,			/* the peer broke HTTP/2 or offered no h2 */
	NOTIF_NET_REFUSED,			/* REFUSED_STREAM or above GOAWAY's last stream */
	NOTIF_NET_RESET,			/* stream or connection reset */
	NOTIF_NET_TIMEOUT,			/* the request's own deadline passed */
	NOTIF_NET_SHUTDOWN			/* we gave up: the pool was closed */
} NotifNetError;

#define NOTIF_RESULT_BODY_MAX	4096	/* bytes of a body that are kept */

typedef struct NotifResult
{
	NotifKnown	known;
	NotifNetError error;		/* NOTIF_NET_NONE when ANSWERED */
	int			status;			/* HTTP status; 0 unless ANSWERED */
	const char *body;			/* at most NOTIF_RESULT_BODY_MAX bytes, not
								 * NUL-safe: use body_len; never NULL */
	size_t		body_len;
	const char *message_id;		/* apns-id response header or "" */
	const char *retry_after;	/* Retry-After response header or "" */
	const char *detail;			/* one line for humans, no secrets, or "" */
	uint32_t	latency_us;		/* stream opened to answer complete */
	uint64_t	connection;		/* number of the connection, 0 if none */
} NotifResult;

#endif							/* NOTIF_NET_RESULT_H */
