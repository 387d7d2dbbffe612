/*
 * test_net_h2.c
 *		The pool against a scripted HTTP/2 server: streams, limits, GOAWAY,
 *		resets, deadlines, retirement.  What goes wrong before HTTP/2 is in
 *		test_net_faults.c.
 *
 * Covers F-N-2, F-N-3, F-N-4, F-N-5, F-N-6, F-N-11, F-N-12, F-N-17.
 */
#include "test_net_server.h"

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

static void
answer_all(ServerConn *conn)
{
	for (int i = 0; i < conn->requests; i++)
		if (nghttp2_session_get_stream_user_data(conn->session, conn->ids[i]) != (void *) -1)
			server_respond(conn, conn->ids[i], 200, NULL);
}

static void
test_happy(void)
{
	NotifH2PoolConfig config;
	NotifH2PoolStats stats;
	char		authority[64];

	server_start(&good_cert, true);
	config = client_config();
	client_start(&config);
	CHECK_INT(notif_h2_pool_capacity(pool), 1);
	for (int i = 0; i < 50; i++)
		client_submit(i);
	CHECK_INT(answered, 0);
	PUMP_UNTIL(answered == 50);
	for (int i = 0; i < 50; i++)
	{
		CHECK_INT(got[i].known, NOTIF_ANSWERED);
		CHECK_INT(got[i].status, 200);
		CHECK_INT(server.seen[i], 1);
	}
	CHECK_STR(got[0].message_id, "id-1-1");
	CHECK_STR(got[0].retry_after, "");
	CHECK_INT(got[0].connection, 1);
	snprintf(authority, sizeof(authority), "localhost:%d", server.port);
	CHECK_STR(server.last_authority, authority);
	CHECK_STR(server.last_path, "/3/device/49");
	CHECK_INT(server.body_bytes, 50 * 200);
	/* The name enters the table once, its values never again. */
	CHECK_INT(server.indexed, 1);
	CHECK_INT(server.never_indexed, 49);
	stats = client_stats();
	CHECK_INT(stats.connections, 1);
	CHECK_INT(stats.opened, 1);
	CHECK_INT(stats.in_flight, 0);
	CHECK_INT(notif_h2_pool_capacity(pool), 100);
	notif_h2_pool_set_stream_cap(pool, 7);
	CHECK_INT(notif_h2_pool_capacity(pool), 7);
	CHECK(stats.bytes_out > 50 * 200 && stats.bytes_in > 0);
	client_stop(50);
}

static void
on_ramp(ServerConn *conn, int32_t id, int nth)
{
	CHECK(nth > 3 || conn->open == 1);
	server_respond(conn, id, nth < 3 ? 403 : 200, nth < 3 ? "{\"reason\":\"Forbidden\"}" : NULL);
	if (nth == 3)
		server.on_request = hold;
}

/* F-N-6.  Token authentication: one at a time until a 200, whatever SETTINGS say. */
static void
test_ramp(int announced)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.max_streams = announced;
	server.on_request = on_ramp;
	config = client_config();
	config.one_stream_first = true;
	config.max_connections = 4;
	client_start(&config);
	for (int i = 0; i < 20; i++)
		client_submit(i);
	PUMP_UNTIL(answered == 3);
	CHECK_INT(server.n_conns, 1);
	CHECK_INT(got[0].status, 403);
	CHECK_STR(got[0].body, "{\"reason\":\"Forbidden\"}");
	CHECK_INT(got[2].status, 200);
	if (announced == 1)
	{
		pump_idle();
		CHECK_INT(conn_of(1)->open, 1);
		server_settings(conn_of(1), 10);
		PUMP_UNTIL(conn_of(1)->open == 10);
	}
	else
		PUMP_UNTIL(conn_of(1)->open == 17);
	client_stop(20);
}

/* F-N-6: one stream, then none, then a thousand, as the connection begins. */
static void
test_settings_first(int first, int second)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.max_streams = first;
	server.on_request = hold;
	config = client_config();
	/* Being allowed nothing is no reason to come with more connections. */
	config.max_connections = first == 0 ? 4 : 1;
	client_start(&config);
	for (int i = 0; i < 100; i++)
		client_submit(i);
	PUMP_UNTIL(client_stats().opened == 1 && server.requests == first);
	pump_idle();
	CHECK_INT(server.requests, first);
	CHECK_INT(server.n_conns, 1);
	server_settings(conn_of(1), (uint32_t) second);
	pump_idle();
	CHECK_INT(conn_of(1)->most_open, first);
	for (int i = 0; i < first; i++)
		server_respond(conn_of(1), conn_of(1)->ids[i], 200, NULL);
	pump_idle();
	CHECK_INT(answered, first);
	server.on_request = NULL;
	server_settings(conn_of(1), 1000);
	PUMP_UNTIL(answered == 100);
	for (int i = 0; i < 100; i++)
	{
		CHECK_INT(got[i].status, 200);
		CHECK_INT(server.seen[i], 1);
	}
	CHECK(conn_of(1)->most_open > 1);
	client_stop(100);
}

/* F-N-6: a window of nothing that opens later; nobody is locked up. */
static void
test_window_opens(void)
{
	NotifH2PoolConfig config;
	nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 65535};

	server_start(&good_cert, true);
	server.window = 0;
	config = client_config();
	client_start(&config);
	for (int i = 0; i < 20; i++)
		client_submit(i);
	PUMP_UNTIL(client_stats().in_flight == 1);
	pump_idle();
	/* The others keep their chance to go elsewhere. */
	CHECK_INT(client_stats().in_flight, 1);
	CHECK_INT(server.body_bytes, 0);
	nghttp2_submit_settings(conn_of(1)->session, NGHTTP2_FLAG_NONE, &entry, 1);
	PUMP_UNTIL(answered == 20);
	for (int i = 0; i < 20; i++)
		CHECK_INT(got[i].status, 200);
	CHECK_INT(server.body_bytes, 20 * 200);
	client_stop(20);
}

/* F-N-6: down and up again while streams are open. */
static void
test_settings(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.max_streams = 10;
	server.on_request = hold;
	config = client_config();
	client_start(&config);
	for (int i = 0; i < 15; i++)
		client_submit(i);
	PUMP_UNTIL(server.requests == 10);
	pump_idle();
	CHECK_INT(conn_of(1)->most_open, 10);
	CHECK_INT(client_stats().queued, 5);
	CHECK_INT(notif_h2_pool_capacity(pool), 0);
	server_settings(conn_of(1), 0);
	pump_idle();
	for (int i = 0; i < 10; i++)
		server_respond(conn_of(1), conn_of(1)->ids[i], 200, NULL);
	PUMP_UNTIL(answered == 10);
	pump_idle();
	CHECK_INT(server.requests, 10);
	CHECK_INT(notif_h2_pool_capacity(pool), 0);
	server_settings(conn_of(1), 1);
	PUMP_UNTIL(server.requests == 11);
	pump_idle();
	CHECK_INT(server.requests, 11);
	server_settings(conn_of(1), 1000);
	PUMP_UNTIL(server.requests == 15);
	for (int i = 10; i < 15; i++)
		server_respond(conn_of(1), conn_of(1)->ids[i], 200, NULL);
	PUMP_UNTIL(answered == 15);
	CHECK_INT(server.n_conns, 1);
	client_stop(15);
}

/* F-N-4 */
static void
test_goaway(const char *debug, const char *shown)
{
	NotifH2PoolConfig config;
	NotifH2PoolStats stats;

	server_start(&good_cert, true);
	server.on_request = hold;
	config = client_config();
	client_start(&config);
	for (int i = 0; i < 50; i++)
		client_submit(i);
	PUMP_UNTIL(server.requests == 50);
	server.on_request = NULL;
	server_goaway(conn_of(1), conn_of(1)->ids[19], NGHTTP2_NO_ERROR, debug);
	PUMP_UNTIL(answered == 30);
	pump_idle();
	for (int i = 0; i < 50; i++)
	{
		CHECK_INT(server.seen[i], i < 20 ? 1 : 2);
		CHECK_INT(got[i].times, i < 20 ? 0 : 1);
	}
	stats = client_stats();
	CHECK_INT(stats.draining, 1);
	CHECK_INT(stats.connections, 1);
	CHECK_INT(stats.goaways, 1);
	CHECK_INT(stats.resent, 30);
	CHECK_STR(stats.last_error, shown);
	for (int i = 0; i < 20; i++)
		server_respond(conn_of(1), conn_of(1)->ids[i], 200, NULL);
	PUMP_UNTIL(answered == 50);
	for (int i = 0; i < 50; i++)
	{
		CHECK_INT(got[i].known, NOTIF_ANSWERED);
		CHECK_INT(got[i].connection, i < 20 ? 1 : 2);
	}
	PUMP_UNTIL(client_stats().draining == 0);
	CHECK_INT(server.n_conns, 2);
	client_stop(50);
}

static void
answer_and_leave(ServerConn *conn, int32_t id, int nth)
{
	(void) nth;
	server_respond(conn, id, 200, NULL);
	server_goaway(conn, id, NGHTTP2_NO_ERROR, "{\"reason\":\"Shutdown\"}");
}

/*
 * F-N-4: a server that answers one request per connection and sends us away is
 * served, but not by a storm of connections.
 */
static void
test_goaway_storm(void)
{
	NotifH2PoolConfig config;
	int64_t		start_us = notif_loop_now_us();

	server_start(&good_cert, true);
	server.max_streams = 1;
	server.on_request = answer_and_leave;
	config = client_config();
	client_start(&config);
	for (int i = 0; i < 8; i++)
		client_submit(i);
	PUMP_UNTIL(answered == 8);
	for (int i = 0; i < 8; i++)
	{
		CHECK_INT(got[i].status, 200);
		CHECK_INT(server.seen[i], 1);
	}
	CHECK_INT(server.n_conns, 8);
	/* Pauses of at least 100, 200 and 400 ms before the last three. */
	CHECK(notif_loop_now_us() - start_us >= 690000);
	client_stop(8);
}

static uint32_t reset_code;
static int	reset_answer;		/* what comes before: 0 nothing, 1 headers, 2 all */

static void
reset_with(ServerConn *conn, int32_t id, int nth)
{
	nghttp2_data_provider provider = {{.fd = 0}, server_on_stalled};

	if (nth % 2 == 0)
	{
		server_respond(conn, id, 200, NULL);
		return;
	}
	if (reset_answer == 1)
		server_respond_with(conn, id, 200, &provider);
	if (reset_answer == 2)
		server_respond(conn, id, 200, NULL);
	/* The answer has to be out first. */
	if (reset_answer > 0)
		server_flush(conn);
	nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, id, reset_code);
}

/*
 * F-N-5: every code, before any answer, in the middle of one and after it.
 * Only REFUSED_STREAM says that nothing was processed, and only without answer.
 */
static void
test_reset_codes(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.on_request = reset_with;
	config = client_config();
	client_start(&config);
	for (int i = 0; i <= 14 * 3; i++)
	{
		bool		whole = i % 3 == 2;
		bool		refused = i / 3 == NGHTTP2_REFUSED_STREAM && i % 3 == 0;

		reset_code = i / 3 == 14 ? 0xBAD : (uint32_t) i / 3;
		reset_answer = i % 3;
		client_submit(i);
		PUMP_UNTIL(got[i].times == 1);
		/* A refused one was sent again, with success. */
		CHECK_INT(got[i].known, whole || refused ? NOTIF_ANSWERED : NOTIF_UNKNOWN);
		CHECK_INT(got[i].status, whole || refused ? 200 : 0);
		CHECK_INT(got[i].error, whole || refused ? NOTIF_NET_NONE : NOTIF_NET_RESET);
		CHECK_INT(server.seen[i], refused ? 2 : 1);
		/* One more, so that the next one is reset again. */
		if (!refused)
		{
			client_submit(200);
			PUMP_UNTIL(got[200].times == 1);
			CHECK_INT(got[200].status, 200);
			got[200].times = 0;
		}
	}
	CHECK_INT(server.n_conns, 1);
	client_stop(43);
}

static void
refuse(ServerConn *conn, int32_t id, int nth)
{
	(void) nth;
	nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
}

static void
refuse_first(ServerConn *conn, int32_t id, int nth)
{
	if (nth <= 3)
		refuse(conn, id, nth);
	else
		server_respond(conn, id, 200, NULL);
}

static void
reset_other(ServerConn *conn, int32_t id, int nth)
{
	if (nth == 1)
		nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_INTERNAL_ERROR);
	else
		server_respond(conn, id, 200, NULL);
}

/* F-N-5 */
static void
test_resets(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.on_request = refuse_first;
	config = client_config();
	client_start(&config);
	for (int i = 0; i < 3; i++)
		client_submit(i);
	PUMP_UNTIL(answered == 3);
	for (int i = 0; i < 3; i++)
	{
		CHECK_INT(got[i].status, 200);
		CHECK_INT(server.seen[i], 2);
	}
	server.on_request = refuse;
	client_submit(3);
	PUMP_UNTIL(answered == 4);
	CHECK_INT(got[3].known, NOTIF_NOT_SENT);
	CHECK_INT(got[3].error, NOTIF_NET_REFUSED);
	CHECK_INT(server.seen[3], 1 + NOTIF_H2_RESENDS);
	client_stop(4);

	server_start(&good_cert, true);
	server.on_request = reset_other;
	config = client_config();
	client_start(&config);
	client_submit(0);
	client_submit(1);
	PUMP_UNTIL(answered == 2);
	CHECK_INT(got[0].known, NOTIF_UNKNOWN);
	CHECK_INT(got[0].error, NOTIF_NET_RESET);
	CHECK_STR(got[0].detail, "stream reset by the server: INTERNAL_ERROR");
	CHECK_INT(got[1].status, 200);
	CHECK_INT(server.seen[0], 1);
	client_stop(2);
}

static void
cut_second(ServerConn *conn, int32_t id, int nth)
{
	if (conn->number == 1 && nth == 2)
		conn->cut = true;
	else if (conn->number > 1)
		server_respond(conn, id, 200, NULL);
}

/* F-N-3.  Cut after DATA: what was sent is in doubt, what was queued goes elsewhere. */
static void
test_cut(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.max_streams = 2;
	server.on_request = cut_second;
	config = client_config();
	client_start(&config);
	for (int i = 0; i < 4; i++)
		client_submit(i);
	PUMP_UNTIL(answered == 4);
	for (int i = 0; i < 4; i++)
	{
		CHECK_INT(got[i].known, i < 2 ? NOTIF_UNKNOWN : NOTIF_ANSWERED);
		CHECK_INT(got[i].error, i < 2 ? NOTIF_NET_RESET : NOTIF_NET_NONE);
		CHECK_INT(server.seen[i], 1);
	}
	client_stop(4);
}

/* F-N-2, F-N-17 */
static void
test_deadlines(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.max_streams = 1;
	server.on_request = hold;
	config = client_config();
	client_start(&config);
	CHECK_INT(client_submit_timed(0, 200, 600, 5000), NOTIF_OK);
	PUMP_UNTIL(server.requests == 1);
	CHECK_INT(client_submit_timed(1, 200, 5000, 30), NOTIF_OK);
	PUMP_UNTIL(got[1].times == 1);
	CHECK_INT(got[1].known, NOTIF_NOT_SENT);
	CHECK_INT(got[1].error, NOTIF_NET_TIMEOUT);
	CHECK_STR(got[1].detail, "no free stream within 30 ms");
	PUMP_UNTIL(answered == 2);
	CHECK_INT(got[0].known, NOTIF_UNKNOWN);
	CHECK_INT(got[0].error, NOTIF_NET_TIMEOUT);
	/* The late answer finds nobody, the connection serves on. */
	server_respond(conn_of(1), conn_of(1)->ids[0], 200, NULL);
	server.on_request = NULL;
	client_submit(2);
	PUMP_UNTIL(answered == 3);
	CHECK_INT(got[2].status, 200);
	CHECK_INT(server.seen[1], 0);
	CHECK_INT(server.n_conns, 1);
	client_stop(3);

	/* A window of nothing: headers leave, the body cannot. */
	server_start(&good_cert, true);
	server.window = 0;
	config = client_config();
	client_start(&config);
	CHECK_INT(client_submit_timed(0, 200, 50, 5000), NOTIF_OK);
	PUMP_UNTIL(answered == 1);
	CHECK_INT(got[0].known, NOTIF_UNKNOWN);
	CHECK_INT(server.body_bytes, 0);
	PUMP_UNTIL(conn_of(1)->open == 0);
	client_stop(1);
}

/*
 * F-N-2: a server that stops reading in the middle.  What never left our buffers is
 * NOT_SENT to the byte: cut off, it is sent elsewhere and seen once; timed
 * out, it is dropped and never arrives.
 */
static void
test_stuck(bool cut)
{
	NotifH2PoolConfig config;
	int			unknown = 0;
	int			fresh = 0;

	server_start(&good_cert, true);
	server.window = 1 << 24;
	server.session_window = 1 << 28;
	config = client_config();
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(answered == 1);
	pump_idle();
	server.mute = true;
	for (int i = 1; i <= 40; i++)
		CHECK_INT(client_submit_timed(i, 250000, cut ? 30000 : 1500, cut ? 30000 : 1500), NOTIF_OK);
	pump_idle();
	/* Streams are not even opened while the socket takes nothing. */
	CHECK(client_stats().in_flight > 0 && client_stats().in_flight < 40);
	CHECK_INT(client_stats().in_flight + client_stats().queued, 40);
	CHECK_INT(answered, 1);
	if (cut)
	{
		server_drop(conn_of(1));
		server.mute = false;
	}
	PUMP_UNTIL(answered == 41);
	server.mute = false;
	if (!cut)
	{
		/* The stream after them shows that the connection is sound. */
		client_submit(41);
		PUMP_UNTIL(answered == 42);
		CHECK_INT(got[41].status, 200);
		CHECK_INT(server.n_conns, 1);
		pump_idle();
	}
	for (int i = 1; i <= 40; i++)
	{
		if (got[i].known == NOTIF_UNKNOWN)
		{
			unknown++;
			CHECK_INT(got[i].error, cut ? NOTIF_NET_RESET : NOTIF_NET_TIMEOUT);
			continue;
		}
		fresh++;
		CHECK_INT(got[i].known, cut ? NOTIF_ANSWERED : NOTIF_NOT_SENT);
		CHECK_INT(server.seen[i], cut ? 1 : 0);
	}
	CHECK(unknown >= 1);
	CHECK(fresh >= 1);
	client_stop(41);
}

/* F-N-6: what lives answers PINGs, what does not is closed. */
static void
test_ping(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.on_request = hold;
	config = client_config();
	config.ping_idle_ms = 20;
	config.ping_timeout_ms = 2000;
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(server.n_conns == 1 && conn_of(1)->pings >= 3);
	CHECK_INT(client_stats().connections, 1);
	server_respond(conn_of(1), conn_of(1)->ids[0], 200, NULL);
	PUMP_UNTIL(answered == 1);
	client_stop(1);

	server_start(&good_cert, true);
	server.on_request = hold;
	server.no_ping_ack = true;
	config = client_config();
	config.ping_idle_ms = 20;
	config.ping_timeout_ms = 50;
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(answered == 1);
	CHECK_INT(got[0].known, NOTIF_UNKNOWN);
	CHECK_STR(got[0].detail, "no answer to PING");
	CHECK_INT(conn_of(1)->pings, 1);
	client_stop(1);
}

static void
odd_bodies(ServerConn *conn, int32_t id, int nth)
{
	nghttp2_data_provider provider = {{.fd = 0}, nth == 1 ? server_on_endless : server_on_stalled};

	if (nth <= 2)
		server_respond_with(conn, id, 400, &provider);
	else
		server_respond(conn, id, 429, "{}");
}

/* F-N-12: without end; F-N-11: without a second byte. */
static void
test_bodies(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.on_request = odd_bodies;
	config = client_config();
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(answered == 1);
	CHECK_INT(got[0].known, NOTIF_ANSWERED);
	CHECK_INT(got[0].status, 400);
	CHECK_INT(got[0].body_len, NOTIF_RESULT_BODY_MAX);
	CHECK_STR(got[0].detail, "response body cut after 262144 bytes");
	CHECK_INT(client_submit_timed(1, 200, 60, 5000), NOTIF_OK);
	PUMP_UNTIL(answered == 2);
	CHECK_INT(got[1].known, NOTIF_UNKNOWN);
	CHECK_INT(got[1].error, NOTIF_NET_TIMEOUT);
	client_submit(2);
	PUMP_UNTIL(answered == 3);
	CHECK_INT(got[2].status, 429);
	CHECK_STR(got[2].retry_after, "7");
	CHECK_INT(server.n_conns, 1);
	client_stop(3);
}

static void
odd_headers(ServerConn *conn, int32_t id, int nth)
{
	static char big[12000];
	nghttp2_nv	nv[3];

	memset(big, 'h', sizeof(big) - 1);
	for (int i = 1; i < 3; i++)
		nv[i] = server_nv("x-big", big);
	nv[0] = server_nv(":status", "103");
	/* One early hint is passed over; hints without end are an attack. */
	if (nth == 1)
		nghttp2_submit_headers(conn->session, NGHTTP2_FLAG_NONE, id, NULL, nv, 2, NULL);
	for (int i = 0; nth == 2 && i < 3; i++)
		nghttp2_submit_headers(conn->session, NGHTTP2_FLAG_NONE, id, NULL, nv, 3, NULL);
	server_respond(conn, id, 200, NULL);
}

/* F-N-11 */
static void
test_headers(void)
{
	NotifH2PoolConfig config;
	NotifH2Request request = {.method = "POST", .path = "/x", .n_headers = 1};

	server_start(&good_cert, true);
	server.on_request = odd_headers;
	config = client_config();
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(answered == 1);
	CHECK_INT(got[0].status, 200);
	client_submit(1);
	PUMP_UNTIL(answered == 2);
	CHECK_INT(got[1].known, NOTIF_UNKNOWN);
	CHECK_INT(got[1].error, NOTIF_NET_PROTOCOL);
	client_submit(2);
	PUMP_UNTIL(answered == 3);
	CHECK_INT(got[2].status, 200);

	request.headers[0] = (NotifHeader) {"apns-id", "a\r\nx: y", 7, NOTIF_INDEX_NEVER};
	CHECK_INT(notif_h2_pool_submit(pool, &request), NOTIF_EINVAL);
	request.headers[0] = (NotifHeader) {"Apns-Id", "a", 1, NOTIF_INDEX_NEVER};
	CHECK_INT(notif_h2_pool_submit(pool, &request), NOTIF_EINVAL);
	request.headers[0] = (NotifHeader) {"apns-id", "a", 1, NOTIF_INDEX_NEVER};
	request.path = "/a b";
	CHECK_INT(notif_h2_pool_submit(pool, &request), NOTIF_EINVAL);
	client_stop(3);
}

/* More bytes than the connection's window holds at once. */
static void
test_flow_control(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.window = 16384;
	config = client_config();
	client_start(&config);
	for (int i = 0; i < 100; i++)
		CHECK_INT(client_submit_timed(i, 4096, 8000, 8000), NOTIF_OK);
	CHECK_INT(client_submit_timed(100, 300000, 8000, 8000), NOTIF_OK);
	PUMP_UNTIL(answered == 101);
	for (int i = 0; i < 101; i++)
		CHECK_INT(got[i].status, 200);
	CHECK_INT(server.body_bytes, 100 * 4096 + 300000);
	client_stop(101);
}

static void
test_retire(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.on_request = hold;
	config = client_config();
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(server.requests == 1);
	notif_h2_pool_retire(pool, 99);
	CHECK_INT(client_stats().connections, 1);
	notif_h2_pool_retire(pool, 1);
	CHECK_INT(client_stats().draining, 1);
	server.on_request = NULL;
	client_submit(1);
	PUMP_UNTIL(answered == 1);
	CHECK_INT(got[1].connection, 2);
	server_respond(conn_of(1), conn_of(1)->ids[0], 200, NULL);
	PUMP_UNTIL(answered == 2);
	CHECK_INT(got[0].connection, 1);
	PUMP_UNTIL(client_stats().draining == 0 && conn_of(1)->fd < 0);
	CHECK(conn_of(1)->goaway);
	notif_h2_pool_retire_all(pool);
	PUMP_UNTIL(client_stats().draining == 0 && client_stats().connections == 0);
	CHECK_INT(notif_h2_pool_capacity(pool), 1);
	client_submit(2);
	PUMP_UNTIL(answered == 3);
	CHECK_INT(got[2].connection, 3);
	client_stop(3);
}

static bool
wanted(const void *request_ud, void *arg)
{
	return request_ud == arg;
}

static void
test_policies(void)
{
	NotifH2PoolConfig config;

	/* Connections are added while all are full, up to the limit. */
	server_start(&good_cert, true);
	server.max_streams = 2;
	server.on_request = hold;
	config = client_config();
	config.max_connections = 3;
	client_start(&config);
	for (int i = 0; i < 8; i++)
		client_submit(i);
	PUMP_UNTIL(server.requests == 6);
	pump_idle();
	CHECK_INT(server.n_conns, 3);
	CHECK_INT(client_stats().queued, 2);
	/* One that is wanted back: only it, and not before the next step. */
	notif_h2_pool_withdraw(pool, wanted, (void *) (intptr_t) 7);
	CHECK_INT(answered, 0);
	PUMP_UNTIL(answered == 1);
	CHECK_INT(got[7].known, NOTIF_NOT_SENT);
	CHECK_INT(got[7].error, NOTIF_NET_SHUTDOWN);
	/* What has a stream is not given back. */
	notif_h2_pool_withdraw(pool, wanted, (void *) (intptr_t) 5);
	pump_idle();
	CHECK_INT(answered, 1);
	CHECK_INT(client_stats().queued, 1);
	notif_h2_pool_flush_queue(pool);
	CHECK_INT(answered, 1);
	PUMP_UNTIL(answered == 2);
	CHECK_INT(got[6].known, NOTIF_NOT_SENT);
	CHECK_INT(got[6].error, NOTIF_NET_SHUTDOWN);
	for (int i = 1; i <= 3; i++)
		answer_all(conn_of(i));
	PUMP_UNTIL(answered == 8);
	client_stop(8);

	/* Unused: closed.  Old: replaced. */
	server_start(&good_cert, true);
	config = client_config();
	config.idle_close_ms = 30;
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(answered == 1);
	PUMP_UNTIL(client_stats().connections == 0);
	CHECK_INT(client_stats().failed, 0);
	client_stop(1);

	server_start(&good_cert, true);
	config = client_config();
	config.max_lifetime_ms = 30;
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(answered == 1);
	PUMP_UNTIL(client_stats().connections == 0);
	client_submit(1);
	PUMP_UNTIL(answered == 2);
	CHECK_INT(got[1].connection, 2);
	client_stop(2);
}

static void
free_and_count(void *pool_ud, void *request_ud, const NotifResult *result)
{
	client_done(pool_ud, request_ud, result);
	notif_h2_pool_free(pool);
}

static void
test_free(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.max_streams = 2;
	server.on_request = hold;
	config = client_config();
	client_start(&config);
	for (int i = 0; i < 5; i++)
		client_submit(i);
	PUMP_UNTIL(server.requests == 2);
	client_stop(5);
	for (int i = 0; i < 5; i++)
	{
		CHECK_INT(got[i].known, i < 2 ? NOTIF_UNKNOWN : NOTIF_NOT_SENT);
		CHECK_INT(got[i].error, NOTIF_NET_SHUTDOWN);
	}

	/* From inside a callback. */
	server_start(&good_cert, true);
	config = client_config();
	config.done = free_and_count;
	client_start(&config);
	for (int i = 0; i < 5; i++)
		client_submit(i);
	PUMP_UNTIL(answered == 5);
	pool = NULL;
	client_stop(5);
}

int
main(void)
{
	test_begin();
	test_happy();
	test_ramp(100);
	test_ramp(1);
	test_settings_first(1, 0);
	test_settings_first(0, 0);
	test_window_opens();
	test_settings();
	test_goaway_storm();
	test_goaway("{\"reason\":\"Shutdown\"}", "GOAWAY: Shutdown");
	test_goaway("plain \x01 text", "GOAWAY: plain ? text");
	test_resets();
	test_reset_codes();
	test_cut();
	test_deadlines();
	test_stuck(true);
	test_stuck(false);
	test_ping();
	test_bodies();
	test_headers();
	test_flow_control();
	test_retire();
	test_policies();
	test_free();
	test_teardown();
	return unit_done();
}
