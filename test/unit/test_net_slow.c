/*
 * test_net_slow.c
 *		Peers that are slow, silent or without end: nobody answers the connect,
 *		bytes that drip, headers and bodies for ever, answers that come too late;
 *		and what the rest of the loop feels of it.
 *
 * No test waits for a clock but for the time-outs that it is about.
 *
 * Covers F-N-1, F-N-2, F-N-10, F-N-11, F-N-12, F-N-17.
 */
#include "test_net_server.h"

#define STEP_MAX_US		50000

static int64_t longest_us;		/* longest step of the loop */

/* As PUMP_UNTIL, measuring the engine's own steps. */
#define PUMP_TIMED(cond) \
	do { \
		int64_t pump_end = notif_loop_now_us() + 3 * TEST_DEADLINE_US; \
		while (!(cond) && notif_loop_now_us() < pump_end) \
			pump_timed(); \
		CHECK(cond); \
	} while (0)

static void
pump_timed(void)
{
	int64_t		start_us = notif_loop_now_us();
	int64_t		took_us;

	(void) notif_loop_step(loop, 1000);
	took_us = notif_loop_now_us() - start_us;
	if (took_us > longest_us)
		longest_us = took_us;
	(void) pump_once(20);
}

static ServerConn *
conn_of(int number)
{
	return &server.conns[number - 1];
}

static void
hold(ServerConn *conn, int32_t id, int nth)
{
	(void) conn;
	(void) id;
	(void) nth;
}

/* ---- a port where a connect is never answered ---- */

typedef struct BlackHole
{
	int			listen_fd;
	int			fds[8];			/* fill the queue of connections */
	uint16_t	port;
} BlackHole;

static void
hole_open(BlackHole *hole)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t	len = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	hole->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(bind(hole->listen_fd, (struct sockaddr *) &address, sizeof(address)) == 0);
	CHECK(getsockname(hole->listen_fd, (struct sockaddr *) &address, &len) == 0);
	CHECK(listen(hole->listen_fd, 0) == 0);
	hole->port = ntohs(address.sin_port);
	/* Once the queue is full, further SYNs are dropped without a word. */
	for (int i = 0; i < 8; i++)
	{
		hole->fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void) connect(hole->fds[i], (struct sockaddr *) &address, sizeof(address));
	}
}

static void
hole_close(BlackHole *hole)
{
	for (int i = 0; i < 8; i++)
		close(hole->fds[i]);
	close(hole->listen_fd);
}

static int	other_answered;
static NotifResult other_result;
static char other_detail[160];

static void
other_done(void *pool_ud, void *request_ud, const NotifResult *result)
{
	(void) pool_ud;
	(void) request_ud;
	other_answered++;
	other_result = *result;
	snprintf(other_detail, sizeof(other_detail), "%s", result->detail);
}

/*
 * F-N-1: nobody answers a connect: given up after 5 s, NOT_SENT; another host's
 * requests of the same loop are answered all the while.
 */
static void
test_black_hole(void)
{
	BlackHole	hole;
	NotifH2PoolConfig config;
	NotifH2PoolConfig dead;
	NotifH2Pool *dead_pool;
	NotifH2Request request = {
		.method = "POST", .path = "/3/device/1", .body = "x", .body_len = 1,
		.timeout_ms = 30000, .queue_timeout_ms = 20000
	};
	char		error[256];
	int64_t		start_us;
	int			turns = 0;

	hole_open(&hole);
	server_start(&good_cert, true);
	config = client_config();
	client_start(&config);
	dead = config;
	dead.port = hole.port;
	dead.done = other_done;
	dead_pool = notif_h2_pool_new(loop, resolver, &dead, error, sizeof(error));
	CHECK(dead_pool != NULL);
	start_us = notif_loop_now_us();
	CHECK_INT(notif_h2_pool_submit(dead_pool, &request), NOTIF_OK);
	while (other_answered == 0 && turns < 100000 && notif_loop_now_us() < start_us + 30000000)
	{
		got[0].times = 0;
		client_submit(0);
		PUMP_TIMED(got[0].times == 1);
		CHECK_INT(got[0].status, 200);
		turns++;
	}
	CHECK_INT(other_answered, 1);
	CHECK(notif_loop_now_us() - start_us >= 4900000);
	CHECK_INT(other_result.known, NOTIF_NOT_SENT);
	CHECK_INT(other_result.error, NOTIF_NET_CONNECT);
	CHECK_STR(other_detail, "cannot connect: timed out");
	CHECK(notif_h2_pool_backoff_ms(dead_pool) > 0);
	CHECK_INT(notif_h2_pool_capacity(dead_pool), 0);
	/* A dead host that delayed the living one by its time-outs would allow a handful. */
	CHECK(turns > 50);
	CHECK(longest_us < STEP_MAX_US);
	notif_h2_pool_free(dead_pool);
	client_stop(1);
	hole_close(&hole);
}

/*
 * F-N-2: a server that takes requests and is silent: UNKNOWN when their time is
 * up, the loop goes on stepping, and what others write wakes it at once.
 */
static void
test_silent(void)
{
	NotifH2PoolConfig config;
	int			wakes = 0;
	int			fds[2];
	int64_t		slowest_us = 0;
	int64_t		end_us;

	server_start(&good_cert, true);
	server.on_request = hold;
	config = client_config();
	client_start(&config);
	for (int i = 0; i < 100; i++)
		CHECK_INT(client_submit_timed(i, 200, 1500, 8000), NOTIF_OK);
	PUMP_UNTIL(server.requests == 100);
	CHECK(pipe(fds) == 0);
	end_us = notif_loop_now_us() + TEST_DEADLINE_US;
	/* As a worker waits: on a latch and the loop's one descriptor. */
	while (answered < 100 && notif_loop_now_us() < end_us)
	{
		struct pollfd both[2] = {
			{.fd = notif_loop_fd(loop), .events = POLLIN}, {.fd = fds[0], .events = POLLIN}
		};
		int			timeout = notif_loop_timeout_ms(loop);
		int64_t		start_us = notif_loop_now_us();
		char		byte;

		CHECK_INT(write(fds[1], "w", 1), 1);
		poll(both, 2, timeout < 0 || timeout > 1000 ? 1000 : timeout);
		if (both[1].revents & POLLIN)
		{
			wakes += read(fds[0], &byte, 1) == 1;
			if (notif_loop_now_us() - start_us > slowest_us)
				slowest_us = notif_loop_now_us() - start_us;
		}
		start_us = notif_loop_now_us();
		(void) notif_loop_step(loop, 1000);
		if (notif_loop_now_us() - start_us > longest_us)
			longest_us = notif_loop_now_us() - start_us;
		(void) server_step();
	}
	CHECK_INT(answered, 100);
	for (int i = 0; i < 100; i++)
	{
		CHECK_INT(got[i].known, NOTIF_UNKNOWN);
		CHECK_INT(got[i].error, NOTIF_NET_TIMEOUT);
	}
	CHECK(wakes > 10);
	CHECK(slowest_us < STEP_MAX_US);
	CHECK(longest_us < STEP_MAX_US);
	close(fds[0]);
	close(fds[1]);
	client_stop(100);
}

/* ---- a byte at a time ---- */

/* A frame's head, as it is on the wire. */
static void
frame_head(uint8_t *at, size_t len, uint8_t type, uint8_t flags, int32_t stream)
{
	at[0] = (uint8_t) (len >> 16);
	at[1] = (uint8_t) (len >> 8);
	at[2] = (uint8_t) len;
	at[3] = type;
	at[4] = flags;
	at[5] = (uint8_t) (stream >> 24);
	at[6] = (uint8_t) (stream >> 16);
	at[7] = (uint8_t) (stream >> 8);
	at[8] = (uint8_t) stream;
}

/*
 * F-N-11: from the middle of a frame on the server sends a byte now and then, of
 * headers or of a body.  That is enough to look alive and never enough for an
 * answer: once a request's time is up the connection must prove itself, and is
 * replaced.
 */
static void
test_drip(uint8_t type)
{
	static uint8_t frame[16384];
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.on_request = hold;
	config = client_config();
	config.ping_timeout_ms = 400;
	client_start(&config);
	CHECK_INT(client_submit_timed(0, 200, 200, 8000), NOTIF_OK);
	client_submit(1);
	PUMP_UNTIL(server.requests == 2);
	pump_idle();
	/* ":status: 200", then one header or the body without an end in sight */
	memset(frame, 'a', sizeof(frame));
	if (type == NGHTTP2_HEADERS)
	{
		static const uint8_t start[] = {0x88, 0x00, 0x01, 'x', 0x7F, 0xF3, 0x7E};

		frame_head(frame, sizeof(frame) - 9, type, 0, conn_of(1)->ids[0]);
		memcpy(frame + 9, start, sizeof(start));
	}
	else
	{
		frame_head(frame, 1, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, conn_of(1)->ids[0]);
		frame[9] = 0x88;
		frame_head(frame + 10, sizeof(frame) - 19, type, 0, conn_of(1)->ids[0]);
	}
	server_raw(frame, sizeof(frame), 1, 5000, false);
	PUMP_UNTIL(answered == 1);
	CHECK_INT(got[0].known, NOTIF_UNKNOWN);
	CHECK_INT(got[0].error, NOTIF_NET_TIMEOUT);
	PUMP_UNTIL(answered == 2);
	/* Bytes came up to the end: silence it was not. */
	CHECK(server.raw_sent > 20 && server.raw_sent < sizeof(frame));
	CHECK_INT(got[1].known, NOTIF_UNKNOWN);
	CHECK_INT(got[1].error, NOTIF_NET_RESET);
	CHECK_STR(got[1].detail, "no answer to PING");
	server.raw = NULL;
	server.on_request = NULL;
	client_submit(2);
	PUMP_UNTIL(answered == 3);
	CHECK_INT(got[2].status, 200);
	CHECK_INT(server.n_conns, 2);
	client_stop(3);
}

/* A time-out alone is no reason to leave a connection that lives. */
static void
test_late(void)
{
	NotifH2PoolConfig config;

	/* F-N-17: late, out of order and twice; each finds at most its own request. */
	server_start(&good_cert, true);
	server.on_request = hold;
	config = client_config();
	config.ping_timeout_ms = 5000;
	client_start(&config);
	CHECK_INT(client_submit_timed(0, 200, 100, 8000), NOTIF_OK);
	for (int i = 1; i < 4; i++)
		client_submit(i);
	PUMP_UNTIL(server.requests == 4);
	PUMP_UNTIL(answered == 1);
	CHECK_INT(got[0].known, NOTIF_UNKNOWN);
	CHECK_INT(got[0].error, NOTIF_NET_TIMEOUT);
	PUMP_UNTIL(conn_of(1)->pings == 1);
	for (int i = 3; i >= 1; i--)
		server_respond(conn_of(1), conn_of(1)->ids[i], 200, NULL);
	server_respond(conn_of(1), conn_of(1)->ids[0], 200, NULL);
	PUMP_UNTIL(answered == 4);
	pump_idle();
	CHECK_INT(answered, 4);
	for (int i = 1; i < 4; i++)
		CHECK_INT(got[i].status, 200);
	CHECK_STR(got[3].message_id, "id-1-7");
	CHECK_INT(server.n_conns, 1);
	client_stop(4);
}

static void
answer_twice(ServerConn *conn, int32_t id, int nth)
{
	static uint8_t frames[2 * 10];

	server_respond(conn, id, nth == 1 ? 200 : 500, NULL);
	/* ":status: 200" and ":status: 404" of HPACK's static table */
	for (int i = 0; i < 2; i++)
	{
		frame_head(frames + 10 * i, 1, NGHTTP2_HEADERS,
				   NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, id);
		frames[10 * i + 9] = i == 0 ? 0x88 : 0x8D;
	}
	if (nth == 1)
		server_raw(frames, sizeof(frames), sizeof(frames), 0, false);
}

/* F-N-17: an answer that comes twice counts once. */
static void
test_twice(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.on_request = answer_twice;
	config = client_config();
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(answered == 1);
	pump_idle();
	CHECK_INT(server.raw_sent, 20);
	CHECK_INT(got[0].times, 1);
	CHECK_INT(got[0].status, 200);
	server.raw = NULL;
	server.on_request = NULL;
	client_submit(1);
	PUMP_UNTIL(answered == 2);
	CHECK_INT(got[1].status, 200);
	client_stop(2);
}

/* ---- without end ---- */

/*
 * F-N-12: a body of ten gigabytes from a server that ignores resets: 4 kB are
 * kept, 256 kB read, and when still more comes the connection is closed.
 */
static void
test_flood(void)
{
	static uint8_t frame[16384 + 9];
	static uint8_t head[10];
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.on_request = hold;
	config = client_config();
	client_start(&config);
	client_submit(0);
	client_submit(1);
	PUMP_UNTIL(server.requests == 2);
	pump_idle();
	frame_head(head, 1, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, conn_of(1)->ids[0]);
	head[9] = 0x8C;				/* ":status: 400" */
	server_raw(head, sizeof(head), sizeof(head), 0, false);
	PUMP_UNTIL(server.raw_sent == sizeof(head));
	frame_head(frame, 16384, NGHTTP2_DATA, 0, conn_of(1)->ids[0]);
	server_raw(frame, sizeof(frame), sizeof(frame), 0, true);
	PUMP_TIMED(answered >= 1);
	CHECK_INT(got[0].known, NOTIF_ANSWERED);
	CHECK_INT(got[0].status, 400);
	CHECK_INT(got[0].body_len, NOTIF_RESULT_BODY_MAX);
	PUMP_TIMED(answered == 2);
	CHECK_INT(got[1].known, NOTIF_UNKNOWN);
	CHECK_INT(got[1].error, NOTIF_NET_PROTOCOL);
	CHECK_STR(got[1].detail, "the server goes on sending after a reset");
	CHECK(server.raw_sent < 8 * 1024 * 1024);
	CHECK(longest_us < STEP_MAX_US);
	server.raw = NULL;
	server.on_request = NULL;
	client_submit(2);
	PUMP_UNTIL(answered == 3);
	CHECK_INT(got[2].status, 200);
	client_stop(3);
}

static void
wrong_length(ServerConn *conn, int32_t id, int nth)
{
	static const char *const lengths[] = {"0", "1", "9", "11", "99999999999"};
	nghttp2_data_provider provider = {{.ptr = (void *) "0123456789"}, server_on_body};
	nghttp2_nv	nv[2] = {
		server_nv(":status", "400"), server_nv("content-length", lengths[(nth - 1) % 5])
	};

	nghttp2_submit_response(conn->session, id, nv, 2, &provider);
}

/* F-N-12: a body that is not as long as announced is no complete answer. */
static void
test_wrong_length(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.on_request = wrong_length;
	config = client_config();
	client_start(&config);
	for (int i = 0; i < 5; i++)
	{
		client_submit(i);
		PUMP_UNTIL(answered == i + 1);
		CHECK_INT(got[i].known, NOTIF_UNKNOWN);
		CHECK_INT(got[i].error, NOTIF_NET_PROTOCOL);
	}
	server.on_request = NULL;
	client_submit(5);
	PUMP_UNTIL(answered == 6);
	CHECK_INT(got[5].status, 200);
	CHECK_INT(server.n_conns, 1);
	CHECK_STR(server.accept_encoding, "");
	client_stop(6);
}

static int	hints_left;

static void
hint_again(ServerConn *conn, int32_t id, int nth)
{
	nghttp2_nv	nv = server_nv(":status", "103");

	(void) nth;
	for (int i = 0; i < 5000; i++, hints_left--)
		nghttp2_submit_headers(conn->session, NGHTTP2_FLAG_NONE, id, NULL, &nv, 1, NULL);
}

/* F-N-11: informational answers without end, and headers beyond 64 kB. */
static void
test_endless_headers(void)
{
	static uint8_t frame[16384 + 9];
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.on_request = hint_again;
	config = client_config();
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(answered == 1);
	CHECK_INT(got[0].known, NOTIF_UNKNOWN);
	CHECK_INT(got[0].error, NOTIF_NET_PROTOCOL);
	CHECK_STR(got[0].detail, "response headers exceed 65536 bytes");
	server.on_request = hold;
	client_submit(1);
	PUMP_UNTIL(server.requests == 2);
	pump_idle();
	/* CONTINUATION frames for ever, a field in each of them. */
	memset(frame, 'a', sizeof(frame));
	frame_head(frame, 16384, NGHTTP2_HEADERS, 0, conn_of(1)->ids[1]);
	frame[9] = 0x88;
	frame[10] = 0x00;			/* a literal of a name and a value of 8,000 bytes */
	frame[11] = 0x7F;
	frame[12] = 0xC1;
	frame[13] = 0x3D;
	server_raw(frame, sizeof(frame), sizeof(frame), 0, false);
	PUMP_UNTIL(server.raw_sent == sizeof(frame));
	frame_head(frame, 16384, NGHTTP2_CONTINUATION, 0, conn_of(1)->ids[1]);
	server_raw(frame, sizeof(frame), sizeof(frame), 0, true);
	PUMP_TIMED(answered == 2);
	CHECK_INT(got[1].known, NOTIF_UNKNOWN);
	PUMP_TIMED(client_stats().connections == 0);
	CHECK(server.raw_sent < 8 * 1024 * 1024);
	server.raw = NULL;
	server.on_request = NULL;
	client_submit(2);
	PUMP_UNTIL(answered == 3);
	CHECK_INT(got[2].status, 200);
	client_stop(3);
}

/* ---- elsewhere ---- */

static const char *const locations[] = {
	"https://proxy.example/3/device/0123abcd?key=secret",
	"https://user:secret@proxy.example:8443/3/device/0123abcd",
	"//proxy.example#secret",
	"/3/device/0123abcd",
	"https://proxy.example\\@secret",
	"http://pro\xC3\xA4xy.example/",
	"",
};

static void
redirect(ServerConn *conn, int32_t id, int nth)
{
	nghttp2_nv	nv[2] = {
		server_nv(":status", nth % 2 == 0 ? "301" : "307"),
		server_nv("location", locations[nth - 1])
	};

	nghttp2_submit_response(conn->session, id, nv, 2, NULL);
}

/* F-N-10: not followed; where it would have led is told without what is secret. */
static void
test_redirects(void)
{
	static const char *const told[] = {
		"proxy.example", "proxy.example:8443", "proxy.example", "another path of the same host",
		"proxy.example", "pro??xy.example", "another path of the same host"
	};
	NotifH2PoolConfig config;
	int			n = (int) (sizeof(told) / sizeof(told[0]));
	char		want[160];

	server_start(&good_cert, true);
	server.on_request = redirect;
	config = client_config();
	client_start(&config);
	for (int i = 0; i < n; i++)
	{
		client_submit(i);
		PUMP_UNTIL(answered == i + 1);
		CHECK_INT(got[i].known, NOTIF_ANSWERED);
		CHECK_INT(got[i].status, i % 2 == 0 ? 307 : 301);
		snprintf(want, sizeof(want), "not followed: redirect to %s", told[i]);
		CHECK_STR(got[i].detail, want);
		CHECK_INT(server.seen[i], 1);
	}
	CHECK_INT(server.n_conns, 1);
	CHECK_INT(server.requests, n);
	client_stop(n);
}

int
main(void)
{
	test_begin();
	test_black_hole();
	test_silent();
	test_drip(NGHTTP2_HEADERS);
	test_drip(NGHTTP2_DATA);
	test_late();
	test_twice();
	test_flood();
	test_wrong_length();
	test_endless_headers();
	test_redirects();
	test_teardown();
	return unit_done();
}
