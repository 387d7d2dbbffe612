/*
 * test_net_dns.c
 *		The resolver against a DNS server of the test's own: what does not exist,
 *		what fails, hangs, answers too much or differently each time.
 *
 * The server runs in the test's thread and answers over UDP and TCP.  What it
 * does with a question is in the first label of the name.
 *
 * Covers F-N-16.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* accept4 */
#endif

#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../src/net/loop.h"
#include "../../src/net/resolver.h"
#include "unit.h"

#define DNS_MANY	1000
#define DNS_A		1
#define DNS_CNAME	5
#define DNS_AAAA	28
#define STEP_MAX_US	50000

static NotifLoop *loop;
static NotifResolver *resolver;
static int64_t longest_us;		/* longest step of the loop so far */

/* ---- the server ---- */

static int	dns_udp;
static int	dns_tcp;
static int	dns_client = -1;	/* a TCP client */
static char dns_address[32];
static int	dns_questions;
static int	dns_by_tcp;
static int	dns_flips;			/* A questions for flip.* so far */

typedef struct Reply
{
	uint8_t		data[65536];
	size_t		len;
	int			answers;
} Reply;

static void
reply_put(Reply *reply, const void *data, size_t len)
{
	if (CHECK(reply->len + len <= sizeof(reply->data)))
	{
		memcpy(reply->data + reply->len, data, len);
		reply->len += len;
	}
}

/* A record of the name at offset name (a compression pointer). */
static void
reply_record(Reply *reply, unsigned name, unsigned type, const void *data, size_t len)
{
	uint8_t		head[12] = {
		(uint8_t) (0xC0 | name >> 8), (uint8_t) name, 0, (uint8_t) type, 0, 1,
		0, 0, 0, 60, (uint8_t) (len >> 8), (uint8_t) len
	};

	reply_put(reply, head, sizeof(head));
	reply_put(reply, data, len);
	reply->answers++;
}

/*
 * Answers a question; false: it stays unanswered.  Truncated over UDP if it is
 * long, as the protocol wants.
 */
static bool
dns_answer(const uint8_t *question, size_t len, bool tcp, Reply *reply)
{
	char		what[64];
	size_t		end = 12;
	unsigned	type;
	unsigned	rcode = 0;
	uint8_t		v4[4] = {127, 0, 0, 1};

	if (len < 17)
		return false;
	dns_questions++;
	snprintf(what, sizeof(what), "%.*s", question[12], question + 13);
	while (end < len && question[end] != 0)
		end += 1u + question[end];
	type = (unsigned) question[end + 1] << 8 | question[end + 2];
	end += 5;
	memset(reply, 0, sizeof(*reply));
	reply_put(reply, question, end);
	if (strcmp(what, "mute") == 0 || (strcmp(what, "half") == 0 && type == DNS_AAAA))
		return false;
	if (strcmp(what, "nx") == 0)
		rcode = 3;
	else if (strcmp(what, "fail") == 0)
		rcode = 2;
	else if (strcmp(what, "loop") == 0)
	{
		/* it is another name, which is the first again */
		static const uint8_t other[] = {5, 'o', 't', 'h', 'e', 'r', 0xC0, 12};
		static const uint8_t first[] = {0xC0, 12};
		size_t		at = reply->len + 12;

		reply_record(reply, 12, DNS_CNAME, other, sizeof(other));
		reply_record(reply, (unsigned) at, DNS_CNAME, first, sizeof(first));
	}
	else if (type == DNS_A && strcmp(what, "many") == 0)
	{
		for (int i = 0; i < DNS_MANY; i++)
		{
			v4[1] = (uint8_t) (i >> 8);
			v4[2] = (uint8_t) i;
			reply_record(reply, 12, DNS_A, v4, sizeof(v4));
		}
	}
	else if (type == DNS_A && strcmp(what, "flip") == 0)
	{
		v4[3] = (uint8_t) (1 + dns_flips++ % 2);
		reply_record(reply, 12, DNS_A, v4, sizeof(v4));
	}
	else if (type == DNS_A)
		reply_record(reply, 12, DNS_A, v4, sizeof(v4));
	reply->data[2] = 0x80;
	reply->data[3] = (uint8_t) (0x80 | rcode);
	if (!tcp && reply->len > 512)
	{
		reply->data[2] |= 0x02;
		reply->len = end;
		reply->answers = 0;
	}
	reply->data[6] = (uint8_t) (reply->answers >> 8);
	reply->data[7] = (uint8_t) reply->answers;
	memset(reply->data + 8, 0, 4);
	return true;
}

static void
dns_start(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t	len = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	dns_udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* A port that is free for both. */
	for (int tries = 0; tries < 100; tries++)
	{
		dns_tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		address.sin_port = 0;
		if (bind(dns_tcp, (struct sockaddr *) &address, sizeof(address)) == 0 &&
			getsockname(dns_tcp, (struct sockaddr *) &address, &len) == 0 &&
			bind(dns_udp, (struct sockaddr *) &address, sizeof(address)) == 0)
			break;
		close(dns_tcp);
	}
	CHECK(listen(dns_tcp, 8) == 0);
	snprintf(dns_address, sizeof(dns_address), "127.0.0.1:%d", ntohs(address.sin_port));
}

static bool
dns_step(void)
{
	static Reply reply;
	struct sockaddr_storage from;
	socklen_t	from_len = sizeof(from);
	uint8_t		data[2048];
	ssize_t		n = recvfrom(dns_udp, data, sizeof(data), 0, (struct sockaddr *) &from, &from_len);
	int			fd;

	if (n > 0 && dns_answer(data, (size_t) n, false, &reply))
		CHECK(sendto(dns_udp, reply.data, reply.len, 0, (struct sockaddr *) &from, from_len) > 0);
	fd = accept4(dns_tcp, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0)
	{
		if (dns_client >= 0)
			close(dns_client);
		dns_client = fd;
	}
	if (dns_client >= 0)
	{
		ssize_t		got = recv(dns_client, data, sizeof(data), 0);

		/* Questions of this test are short and come whole, perhaps two at once. */
		for (ssize_t at = 0; at + 2 < got; at += 2 + (data[at] << 8 | data[at + 1]))
		{
			size_t		len = (size_t) (data[at] << 8 | data[at + 1]);
			uint8_t		head[2];

			if ((size_t) (got - at) < len + 2 || !dns_answer(data + at + 2, len, true, &reply))
				continue;
			dns_by_tcp++;
			head[0] = (uint8_t) (reply.len >> 8);
			head[1] = (uint8_t) reply.len;
			CHECK(send(dns_client, head, 2, MSG_NOSIGNAL | MSG_MORE) == 2);
			CHECK(send(dns_client, reply.data, reply.len, MSG_NOSIGNAL) == (ssize_t) reply.len);
		}
		if (got > 0)
			return true;
	}
	return n > 0;
}

/* ---- the client ---- */

typedef struct Answer
{
	int			calls;
	NotifStatus status;
	int			n;
	NotifAddress first;
	char		error[128];
} Answer;

static void
on_answer(void *ud, NotifStatus status, const NotifAddress *addresses, int n, const char *error)
{
	Answer	   *answer = ud;

	answer->calls++;
	answer->status = status;
	answer->n = n;
	if (n > 0)
		answer->first = addresses[0];
	snprintf(answer->error, sizeof(answer->error), "%s", error);
}

static bool
run_once(void)
{
	int64_t		start_us = notif_loop_now_us();
	bool		more = notif_loop_step(loop, 1000);
	int64_t		took_us = notif_loop_now_us() - start_us;
	struct pollfd fds[4] = {
		{.fd = notif_loop_fd(loop), .events = POLLIN}, {.fd = dns_udp, .events = POLLIN},
		{.fd = dns_tcp, .events = POLLIN}, {.fd = dns_client, .events = POLLIN}
	};
	int			timeout = notif_loop_timeout_ms(loop);

	if (took_us > longest_us)
		longest_us = took_us;
	if (dns_step() || more)
		return true;
	poll(fds, 4, timeout < 0 || timeout > 100 ? 100 : timeout);
	return false;
}

#define RUN_UNTIL(cond) \
	do { \
		int64_t end = notif_loop_now_us() + 20 * INT64_C(1000000); \
		while (!(cond) && notif_loop_now_us() < end) \
			run_once(); \
		CHECK(cond); \
	} while (0)

/* Looks host up and waits; the questions that it took. */
static int
ask(const char *host, int timeout_ms, Answer *answer)
{
	int			before = dns_questions;

	memset(answer, 0, sizeof(*answer));
	CHECK(notif_resolver_lookup(resolver, host, 443, timeout_ms, on_answer, answer) != NULL);
	RUN_UNTIL(answer->calls == 1);
	return dns_questions - before;
}

static int
threads(void)
{
	DIR		   *dir = opendir("/proc/self/task");
	int			n = 0;

	for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
		n += entry->d_name[0] != '.';
	if (dir != NULL)
		closedir(dir);
	return n;
}

static int
last_byte(const Answer *answer)
{
	return (int) (ntohl(answer->first.sa.v4.sin_addr.s_addr) & 0xFF);
}

/* F-N-16: a name that exists, and answers that change from one time to the next. */
static void
test_changing(void)
{
	Answer		answer;
	int			first;

	CHECK(ask("push.example.test", 5000, &answer) >= 1);
	CHECK_INT(answer.status, NOTIF_OK);
	CHECK_INT(answer.n, 1);
	ask("flip.example.test", 5000, &answer);
	first = last_byte(&answer);
	ask("flip.example.test", 5000, &answer);
	CHECK_INT(answer.status, NOTIF_OK);
	CHECK_INT(last_byte(&answer), 3 - first);
}

/* F-N-16: NXDOMAIN and SERVFAIL; a name that failed is not asked for again at once. */
static void
test_failures(void)
{
	Answer		answer;

	CHECK(ask("nx.example.test", 5000, &answer) >= 1);
	CHECK_INT(answer.status, NOTIF_EMISSING);
	CHECK(strstr(answer.error, "name lookup failed") != NULL);
	CHECK_INT(ask("nx.example.test", 5000, &answer), 0);
	CHECK_INT(answer.status, NOTIF_EMISSING);
	CHECK(strstr(answer.error, "name lookup failed") != NULL);
	/* other names are */
	CHECK(ask("nx.example2.test", 5000, &answer) >= 1);
	CHECK_INT(answer.status, NOTIF_EMISSING);

	CHECK(ask("fail.example.test", 5000, &answer) >= 1);
	CHECK_INT(answer.status, NOTIF_EIO);
	CHECK_INT(ask("fail.example.test", 5000, &answer), 0);
	CHECK_INT(answer.status, NOTIF_EIO);
	/* and after a while it is asked for again */
	for (int n = 0, i = 0; n == 0 && i < 2000; i++)
	{
		n = ask("fail.example.test", 5000, &answer);
		if (n > 0)
			CHECK_INT(answer.status, NOTIF_EIO);
		else if (i == 1999)
			CHECK(n > 0);
		else
			run_once();
	}
}

/* F-N-16: an alias that leads back to itself. */
static void
test_alias_loop(void)
{
	Answer		answer;
	int			asked = ask("loop.example.test", 5000, &answer);

	CHECK(answer.status == NOTIF_EMISSING || answer.status == NOTIF_EIO);
	CHECK_INT(answer.n, 0);
	CHECK(asked <= 16);
}

/* F-N-16: a thousand addresses, over TCP as they do not fit into a datagram. */
static void
test_many(void)
{
	Answer		answer;
	uint32_t	seen[8];

	for (int i = 0; i < 8; i++)
	{
		ask("many.example.test", 5000, &answer);
		CHECK_INT(answer.status, NOTIF_OK);
		CHECK_INT(answer.n, NOTIF_RESOLVER_ADDRESSES);
		seen[i] = answer.first.sa.v4.sin_addr.s_addr;
	}
	CHECK(dns_by_tcp >= 8);
	/* Not always the same one first. */
	CHECK(seen[0] != seen[1] || seen[1] != seen[2]);
}

/* F-N-16: a server that answers for one family only must not cost the other. */
static void
test_half(void)
{
	Answer		answer;
	int64_t		start_us = notif_loop_now_us();

	ask("half.example.test", 5000, &answer);
	CHECK_INT(answer.status, NOTIF_OK);
	CHECK_INT(answer.n, 1);
	CHECK(notif_loop_now_us() - start_us < 4500000);
}

/* F-N-16: six seconds of silence: others are served, and the end comes at once. */
static void
test_hang(void)
{
	Answer		mute[20] = {0};
	Answer		answer;
	char		host[64];
	int64_t		start_us = notif_loop_now_us();
	int			called = 0;

	for (int i = 0; i < 20; i++)
	{
		snprintf(host, sizeof(host), "mute.example%d.test", i);
		CHECK(notif_resolver_lookup(resolver, host, 443, 6000, on_answer, &mute[i]) != NULL);
	}
	ask("push.example.test", 5000, &answer);
	CHECK_INT(answer.status, NOTIF_OK);
	CHECK(notif_loop_now_us() - start_us < 5000000);
	RUN_UNTIL((called = mute[0].calls + mute[7].calls + mute[19].calls) == 3);
	for (int i = 0; i < 20; i++)
	{
		CHECK_INT(mute[i].calls, 1);
		CHECK_INT(mute[i].status, NOTIF_EIO);
	}
	CHECK_INT(threads(), 1);

	memset(&mute[0], 0, sizeof(mute[0]));
	CHECK(notif_resolver_lookup(resolver, "mute.last.test", 443, 6000, on_answer, &mute[0]) != NULL);
	for (int i = 0; i < 10; i++)
		run_once();
	start_us = notif_loop_now_us();
	notif_resolver_free(resolver);
	CHECK(notif_loop_now_us() - start_us < STEP_MAX_US);
	CHECK_INT(mute[0].calls, 0);
	CHECK_INT(notif_loop_timeout_ms(loop), -1);
}

int
main(void)
{
	loop = notif_loop_new();
	dns_start();
	resolver = notif_resolver_new(loop);
	CHECK(resolver != NULL);
	CHECK_INT(notif_resolver_set_servers(resolver, dns_address), NOTIF_OK);
	test_changing();
	test_failures();
	test_alias_loop();
	test_many();
	test_half();
	test_hang();
	CHECK(longest_us < STEP_MAX_US);
	notif_loop_free(loop);
	if (dns_client >= 0)
		close(dns_client);
	close(dns_udp);
	close(dns_tcp);
	return unit_done();
}
