/*
 * resolver.c
 *		c-ares on the event loop; see resolver.h.
 *
 * A lookup has one timer with two meanings: while the query runs it is the
 * time-out, once the answer is here it is the deferred delivery.  c-ares asks
 * for both families and answers when it has heard of both; some servers drop
 * what they do not know, so after a second each family is asked for alone and
 * the first that has addresses will do.
 *
 * Names that failed are remembered for a few seconds: whoever tries again at
 * once, or for another tier's connection, gets the same answer without a
 * question.  Success is not remembered, for addresses are changed to move us.
 *
 * c-ares
 * cannot take back a single query, so a lookup that was cancelled or timed
 * out stays allocated as an orphan until c-ares lets go of it; the number of
 * those is bounded by c-ares's own time-out per query.
 *
 * The channel is made again when it is idle and older than a minute: it reads
 * resolv.conf only once, and a worker lives for months.
 */
#include "resolver.h"

#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "../core/mem.h"

#define RESOLVER_QUERY_MS	2000	/* one try at one server */
#define RESOLVER_TRIES		2
#define RESOLVER_CHANNEL_US (60 * INT64_C(1000000))
#define RESOLVER_SOCKETS	16		/* c-ares opens one or two per server */
#define RESOLVER_SPLIT_US	(1 * INT64_C(1000000))
#define RESOLVER_FAILURES	16		/* names remembered */
#define RESOLVER_MISSING_US (5 * INT64_C(1000000))	/* it does not exist */
#define RESOLVER_FAILED_US	(1 * INT64_C(1000000))	/* the server failed */
#define RESOLVER_HOST_MAX	256

struct NotifLookup
{
	NotifResolver *resolver;
	NotifLookup *prev;
	NotifLookup *next;
	NotifTimer *timer;			/* NULL: an orphan */
	NotifLookupFn callback;
	void	   *ud;
	uint16_t	port;
	int			queries;		/* c-ares holds so many pointers to this */
	bool		split;			/* the families are asked for one by one */
	int64_t		deadline_us;
	char		host[RESOLVER_HOST_MAX];
	NotifStatus status;
	int			n;
	NotifAddress addresses[NOTIF_RESOLVER_ADDRESSES];
	char		error[128];
};

struct NotifResolver
{
	NotifLoop  *loop;
	ares_channel channel;
	bool		open;			/* channel is initialised */
	int64_t		opened_us;
	NotifTimer *tick;			/* c-ares's next time-out */
	NotifLookup *lookups;		/* live ones and orphans */
	unsigned	rotation;
	char	   *servers;		/* test override or NULL */
	struct
	{
		char		host[RESOLVER_HOST_MAX];
		NotifStatus status;
		char		error[128];
		int64_t		until_us;
	}			failures[RESOLVER_FAILURES];
	int			next_failure;
	struct
	{
		int			fd;			/* -1: unused */
		NotifWatch *watch;
	}			sockets[RESOLVER_SOCKETS];
};

static NotifStatus resolver_open(NotifResolver *resolver);
static void resolver_close(NotifResolver *resolver);
static void resolver_arm(NotifResolver *resolver);
static void resolver_on_tick(void *ud);
static void resolver_on_socket(void *ud, int fd, int events);
static void resolver_on_state(void *ud, ares_socket_t fd, int readable, int writable);
static bool lookup_numeric(NotifLookup *lookup, const char *host);
static bool lookup_failed_before(NotifLookup *lookup, int64_t now_us);
static void lookup_remember(const NotifLookup *lookup, int status);
static void lookup_query(NotifLookup *lookup, int family);
static void lookup_on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info);
static void lookup_take(NotifLookup *lookup, const struct ares_addrinfo *info);
static void lookup_rotate(NotifLookup *lookup, unsigned by);
static void lookup_on_timer(void *ud);
static void lookup_release(NotifLookup *lookup);

NotifResolver *
notif_resolver_new(NotifLoop *loop)
{
	NotifResolver *resolver;

	if (ares_library_init_mem(ARES_LIB_INIT_ALL, notif_malloc, notif_free,
							  notif_realloc) != ARES_SUCCESS)
		return NULL;
	resolver = notif_calloc(1, sizeof(*resolver));
	if (resolver == NULL)
	{
		ares_library_cleanup();
		return NULL;
	}
	resolver->loop = loop;
	for (int i = 0; i < RESOLVER_SOCKETS; i++)
		resolver->sockets[i].fd = -1;
	resolver->tick = notif_loop_timer(loop, resolver_on_tick, resolver);
	/* Connections opened by several workers should not start alike. */
	resolver->rotation = (unsigned) notif_loop_now_us();
	if (resolver->tick == NULL || resolver_open(resolver) != NOTIF_OK)
	{
		notif_resolver_free(resolver);
		return NULL;
	}
	return resolver;
}

void
notif_resolver_free(NotifResolver *resolver)
{
	if (resolver == NULL)
		return;
	for (NotifLookup *lookup = resolver->lookups; lookup != NULL; lookup = lookup->next)
	{
		notif_loop_timer_free(resolver->loop, lookup->timer);
		lookup->timer = NULL;
	}
	resolver_close(resolver);
	while (resolver->lookups != NULL)
		lookup_release(resolver->lookups);
	notif_loop_timer_free(resolver->loop, resolver->tick);
	notif_free(resolver->servers);
	notif_free(resolver);
	ares_library_cleanup();
}

NotifStatus
notif_resolver_set_servers(NotifResolver *resolver, const char *servers)
{
	char	   *copy = notif_strdup(servers);
	int			rc;

	if (copy == NULL)
		return NOTIF_ENOMEM;
	rc = ares_set_servers_ports_csv(resolver->channel, servers);
	if (rc != ARES_SUCCESS)
	{
		notif_free(copy);
		return rc == ARES_ENOMEM ? NOTIF_ENOMEM : NOTIF_EINVAL;
	}
	notif_free(resolver->servers);
	resolver->servers = copy;
	memset(resolver->failures, 0, sizeof(resolver->failures));
	return NOTIF_OK;
}

NotifLookup *
notif_resolver_lookup(NotifResolver *resolver, const char *host, uint16_t port, int timeout_ms,
					  NotifLookupFn callback, void *ud)
{
	NotifLookup *lookup = notif_calloc(1, sizeof(*lookup));
	int64_t		now_us = notif_loop_now_us();

	if (lookup == NULL)
		return NULL;
	lookup->timer = notif_loop_timer(resolver->loop, lookup_on_timer, lookup);
	if (lookup->timer == NULL)
	{
		notif_free(lookup);
		return NULL;
	}
	lookup->resolver = resolver;
	lookup->callback = callback;
	lookup->ud = ud;
	lookup->port = port;
	lookup->next = resolver->lookups;
	if (lookup->next != NULL)
		lookup->next->prev = lookup;
	resolver->lookups = lookup;
	lookup->deadline_us = now_us + (int64_t) timeout_ms * 1000;
	if (strlen(host) >= sizeof(lookup->host))
	{
		lookup->status = NOTIF_EMISSING;
		snprintf(lookup->error, sizeof(lookup->error), "name lookup failed: name too long");
	}
	else
		snprintf(lookup->host, sizeof(lookup->host), "%s", host);
	if (lookup->host[0] == '\0' || lookup_numeric(lookup, host) ||
		lookup_failed_before(lookup, now_us))
		notif_loop_timer_set(resolver->loop, lookup->timer, now_us);
	else
	{
		notif_loop_timer_set(resolver->loop, lookup->timer,
							 lookup->deadline_us - now_us > RESOLVER_SPLIT_US ?
							 now_us + RESOLVER_SPLIT_US : lookup->deadline_us);
		lookup_query(lookup, AF_UNSPEC);
	}
	return lookup;
}

void
notif_resolver_cancel(NotifLookup *lookup)
{
	if (lookup == NULL)
		return;
	notif_loop_timer_free(lookup->resolver->loop, lookup->timer);
	lookup->timer = NULL;
	if (lookup->queries == 0)
		lookup_release(lookup);
}

static NotifStatus
resolver_open(NotifResolver *resolver)
{
	struct ares_options options = {0};
	int			rc;

	options.timeout = RESOLVER_QUERY_MS;
	options.tries = RESOLVER_TRIES;
	options.sock_state_cb = resolver_on_state;
	options.sock_state_cb_data = resolver;
	rc = ares_init_options(&resolver->channel, &options,
						   ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
	if (rc != ARES_SUCCESS)
		return NOTIF_EIO;
	resolver->open = true;
	resolver->opened_us = notif_loop_now_us();
	if (resolver->servers != NULL &&
		ares_set_servers_ports_csv(resolver->channel, resolver->servers) != ARES_SUCCESS)
	{
		resolver_close(resolver);
		return NOTIF_ENOMEM;
	}
	return NOTIF_OK;
}

static void
resolver_close(NotifResolver *resolver)
{
	if (resolver->open)
		ares_destroy(resolver->channel);	/* answers every query */
	resolver->open = false;
	for (int i = 0; i < RESOLVER_SOCKETS; i++)
	{
		notif_loop_unwatch(resolver->loop, resolver->sockets[i].watch);
		resolver->sockets[i].watch = NULL;
		resolver->sockets[i].fd = -1;
	}
}

static void
resolver_arm(NotifResolver *resolver)
{
	struct timeval tv;

	if (resolver->open && ares_timeout(resolver->channel, NULL, &tv) != NULL)
		notif_loop_timer_set(resolver->loop, resolver->tick,
							 notif_loop_now_us() + (int64_t) tv.tv_sec * 1000000 + tv.tv_usec);
	else
		notif_loop_timer_stop(resolver->loop, resolver->tick);
}

static void
resolver_on_tick(void *ud)
{
	NotifResolver *resolver = ud;

	if (resolver->open)
		ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	resolver_arm(resolver);
}

static void
resolver_on_socket(void *ud, int fd, int events)
{
	NotifResolver *resolver = ud;

	ares_process_fd(resolver->channel,
					(events & NOTIF_LOOP_READ) ? fd : ARES_SOCKET_BAD,
					(events & NOTIF_LOOP_WRITE) ? fd : ARES_SOCKET_BAD);
	resolver_arm(resolver);
}

/*
 * c-ares tells what it wants of a socket; neither means that it is about to
 * close it.  Without room for a watch the query runs into its time-out.
 */
static void
resolver_on_state(void *ud, ares_socket_t fd, int readable, int writable)
{
	NotifResolver *resolver = ud;
	int			events = (readable ? NOTIF_LOOP_READ : 0) | (writable ? NOTIF_LOOP_WRITE : 0);
	int			spare = -1;
	int			slot = -1;

	for (int i = 0; i < RESOLVER_SOCKETS; i++)
	{
		if (resolver->sockets[i].fd == fd)
			slot = i;
		else if (resolver->sockets[i].fd < 0)
			spare = i;
	}
	if (events == 0)
	{
		if (slot >= 0)
		{
			notif_loop_unwatch(resolver->loop, resolver->sockets[slot].watch);
			resolver->sockets[slot].watch = NULL;
			resolver->sockets[slot].fd = -1;
		}
		return;
	}
	if (slot >= 0)
	{
		(void) notif_loop_rewatch(resolver->loop, resolver->sockets[slot].watch, events);
		return;
	}
	if (spare < 0)
		return;
	resolver->sockets[spare].watch = notif_loop_watch(resolver->loop, fd, events,
													  resolver_on_socket, resolver);
	if (resolver->sockets[spare].watch != NULL)
		resolver->sockets[spare].fd = fd;
}

static bool
lookup_numeric(NotifLookup *lookup, const char *host)
{
	NotifAddress *address = &lookup->addresses[0];

	if (inet_pton(AF_INET, host, &address->sa.v4.sin_addr) == 1)
	{
		address->sa.v4.sin_family = AF_INET;
		address->sa.v4.sin_port = htons(lookup->port);
		address->len = sizeof(address->sa.v4);
	}
	else if (inet_pton(AF_INET6, host, &address->sa.v6.sin6_addr) == 1)
	{
		address->sa.v6.sin6_family = AF_INET6;
		address->sa.v6.sin6_port = htons(lookup->port);
		address->len = sizeof(address->sa.v6);
	}
	else
	{
		memset(address, 0, sizeof(*address));
		return false;
	}
	lookup->n = 1;
	return true;
}

/* Takes over what was found out about the host a moment ago. */
static bool
lookup_failed_before(NotifLookup *lookup, int64_t now_us)
{
	NotifResolver *resolver = lookup->resolver;

	for (int i = 0; i < RESOLVER_FAILURES; i++)
	{
		if (resolver->failures[i].until_us <= now_us ||
			strcmp(resolver->failures[i].host, lookup->host) != 0)
			continue;
		lookup->status = resolver->failures[i].status;
		memcpy(lookup->error, resolver->failures[i].error, sizeof(lookup->error));
		return true;
	}
	return false;
}

/*
 * Only what a server said: silence and want of memory say nothing of a name.
 * ECONNREFUSED is also how c-ares sums up that every server failed.
 */
static void
lookup_remember(const NotifLookup *lookup, int status)
{
	NotifResolver *resolver = lookup->resolver;
	int			i = resolver->next_failure;

	if (lookup->status != NOTIF_EMISSING && status != ARES_ECONNREFUSED && status != ARES_ESERVFAIL &&
		status != ARES_EREFUSED && status != ARES_EFORMERR && status != ARES_ENOTIMP && status != ARES_EBADRESP)
		return;
	resolver->next_failure = (i + 1) % RESOLVER_FAILURES;
	memcpy(resolver->failures[i].host, lookup->host, sizeof(lookup->host));
	memcpy(resolver->failures[i].error, lookup->error, sizeof(lookup->error));
	resolver->failures[i].status = lookup->status;
	resolver->failures[i].until_us = notif_loop_now_us() +
		(lookup->status == NOTIF_EMISSING ? RESOLVER_MISSING_US : RESOLVER_FAILED_US);
}

static void
lookup_query(NotifLookup *lookup, int family)
{
	NotifResolver *resolver = lookup->resolver;
	struct ares_addrinfo_hints hints = {0};
	bool		idle = true;

	for (NotifLookup *other = resolver->lookups; other != NULL; other = other->next)
		if (other->queries > 0)
			idle = false;
	if (idle && notif_loop_now_us() - resolver->opened_us > RESOLVER_CHANNEL_US)
		resolver_close(resolver);
	if (!resolver->open && resolver_open(resolver) != NOTIF_OK)
	{
		lookup->status = NOTIF_EIO;
		snprintf(lookup->error, sizeof(lookup->error), "resolver configuration is unreadable");
		notif_loop_timer_set(resolver->loop, lookup->timer, 0);
		return;
	}
	hints.ai_family = family;
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = ARES_AI_ADDRCONFIG;
	lookup->queries++;
	/* Answers from the hosts file come before this returns. */
	ares_getaddrinfo(resolver->channel, lookup->host, NULL, &hints, lookup_on_answer, lookup);
	resolver_arm(resolver);
}

static void
lookup_on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	NotifLookup *lookup = arg;

	(void) timeouts;
	lookup->queries--;
	if (lookup->timer == NULL)
	{
		if (info != NULL)
			ares_freeaddrinfo(info);
		if (status != ARES_EDESTRUCTION && lookup->queries == 0)
			lookup_release(lookup);
		return;
	}
	if (status == ARES_SUCCESS && lookup->n == 0)
		lookup_take(lookup, info);
	if (info != NULL)
		ares_freeaddrinfo(info);
	if (lookup->n > 0)
		lookup_rotate(lookup, lookup->resolver->rotation++);
	else if (lookup->queries > 0)
		return;					/* the other family may know more */
	else
	{
		lookup->status = status == ARES_ENOTFOUND || status == ARES_ENODATA ||
			status == ARES_SUCCESS ? NOTIF_EMISSING : NOTIF_EIO;
		snprintf(lookup->error, sizeof(lookup->error), "name lookup failed: %s",
				 status == ARES_SUCCESS ? "no address" : ares_strerror(status));
		lookup_remember(lookup, status);
	}
	notif_loop_timer_set(lookup->resolver->loop, lookup->timer, 0);
}

static void
lookup_take(NotifLookup *lookup, const struct ares_addrinfo *info)
{
	for (const struct ares_addrinfo_node *node = info->nodes;
		 node != NULL && lookup->n < NOTIF_RESOLVER_ADDRESSES; node = node->ai_next)
	{
		NotifAddress *address = &lookup->addresses[lookup->n];

		if (node->ai_family == AF_INET && node->ai_addrlen == sizeof(address->sa.v4))
		{
			memcpy(&address->sa.v4, node->ai_addr, sizeof(address->sa.v4));
			address->sa.v4.sin_port = htons(lookup->port);
		}
		else if (node->ai_family == AF_INET6 && node->ai_addrlen == sizeof(address->sa.v6))
		{
			memcpy(&address->sa.v6, node->ai_addr, sizeof(address->sa.v6));
			address->sa.v6.sin6_port = htons(lookup->port);
		}
		else
			continue;
		address->len = (socklen_t) node->ai_addrlen;
		lookup->n++;
	}
}

/*
 * Rotates each run of one family in place.  Not the whole list: a family
 * that the host cannot reach is sorted last and must stay there.
 */
static void
lookup_rotate(NotifLookup *lookup, unsigned by)
{
	NotifAddress copy[NOTIF_RESOLVER_ADDRESSES];
	int			start = 0;

	memcpy(copy, lookup->addresses, sizeof(copy));
	while (start < lookup->n)
	{
		int			end = start + 1;
		int			len;

		while (end < lookup->n &&
			   copy[end].sa.any.sa_family == copy[start].sa.any.sa_family)
			end++;
		len = end - start;
		for (int i = 0; i < len; i++)
			lookup->addresses[start + i] = copy[start + (int) ((by + (unsigned) i) % (unsigned) len)];
		start = end;
	}
}

static void
lookup_on_timer(void *ud)
{
	NotifLookup *lookup = ud;
	bool		waiting = lookup->queries > 0 && lookup->n == 0;

	if (waiting && !lookup->split && notif_loop_now_us() < lookup->deadline_us)
	{
		lookup->split = true;
		notif_loop_timer_set(lookup->resolver->loop, lookup->timer, lookup->deadline_us);
		lookup_query(lookup, AF_INET);
		lookup_query(lookup, AF_INET6);
		return;
	}
	if (waiting)
	{
		lookup->status = NOTIF_EIO;
		snprintf(lookup->error, sizeof(lookup->error), "name lookup timed out");
	}
	notif_loop_timer_free(lookup->resolver->loop, lookup->timer);
	lookup->timer = NULL;
	/*
	 * Nothing may touch the lookup after the callback, which may free the
	 * resolver: unlink what c-ares does not hold, deliver from a local copy.
	 */
	{
		NotifLookup copy = *lookup;

		if (lookup->queries == 0)
			lookup_release(lookup);
		copy.callback(copy.ud, copy.status, copy.addresses, copy.n, copy.error);
	}
}

static void
lookup_release(NotifLookup *lookup)
{
	if (lookup->prev != NULL)
		lookup->prev->next = lookup->next;
	else
		lookup->resolver->lookups = lookup->next;
	if (lookup->next != NULL)
		lookup->next->prev = lookup->prev;
	notif_free(lookup);
}
