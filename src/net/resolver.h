/*
 * resolver.h
 *		Names to addresses without threads and without blocking.
 *
 * c-ares does the work, its sockets and time-outs ride on the loop.  A hung
 * DNS server therefore costs a lookup its time-out and nobody else anything.
 */
#ifndef NOTIF_NET_RESOLVER_H
#define NOTIF_NET_RESOLVER_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#include "../core/status.h"
#include "loop.h"

#define NOTIF_RESOLVER_ADDRESSES 16 /* most that one lookup hands out */

typedef struct NotifResolver NotifResolver;
typedef struct NotifLookup NotifLookup;

/* Ready for connect(), the port included. */
typedef struct NotifAddress
{
	union
	{
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	}			sa;
	socklen_t	len;
} NotifAddress;

/*
 * status NOTIF_OK: n ≥ 1 addresses, valid during the call.  Otherwise n is 0
 * and error a line for humans; NOTIF_EMISSING: the name does not exist,
 * NOTIF_EIO: no answer.
 */
typedef void (*NotifLookupFn) (void *ud, NotifStatus status, const NotifAddress *addresses,
							   int n, const char *error);

/* NULL when out of memory or when the system's configuration is unreadable. */
NotifResolver *notif_resolver_new(NotifLoop *loop);

/* Forgets lookups that are under way; their callbacks do not come.  Users
 * cancel theirs first, for a NotifLookup dies with the resolver. */
void		notif_resolver_free(NotifResolver *resolver);

/*
 * Asks DNS servers of the test's choice ("127.0.0.1:5300,...") instead of the
 * system's.  NOTIF_EINVAL if the list cannot be read.
 */
NotifStatus notif_resolver_set_servers(NotifResolver *resolver, const char *servers);

/*
 * A name that does not exist is not asked for again for 5 s, one whose server
 * failed not for 1 s.
 *
 * Looks host up: a numeric address, a name of the hosts file or of DNS.  The
 * callback comes exactly once, from a loop step, never from inside this call.
 * Addresses come in the system's order of preference (RFC 6724), each family
 * rotated by one more with every lookup so that connections spread.
 * NULL: out of memory, no callback.  The handle is valid until the callback.
 */
NotifLookup *notif_resolver_lookup(NotifResolver *resolver, const char *host, uint16_t port,
								   int timeout_ms, NotifLookupFn callback, void *ud);

/* The callback will not come; accepts NULL. */
void		notif_resolver_cancel(NotifLookup *lookup);

#endif							/* NOTIF_NET_RESOLVER_H */
