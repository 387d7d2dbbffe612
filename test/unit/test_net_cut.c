/*
 * test_net_cut.c
 *		What is known of a request when its connection is cut: a relay between
 *		the engine and the scripted server lets exactly n bytes through in one
 *		direction and then cuts it, for every n there is.
 *
 * The right class follows from TLS records, which the relay can tell apart: a
 * request is ANSWERED if the record that ends its stream reached the client
 * whole; else it is UNKNOWN if a byte of a record later than those of
 * handshake, preface and SETTINGS ever reached the relay; else NOT_SENT.  Which
 * records these are is found out by letting them through one by one; their
 * sizes are read anew in every turn, for signatures vary in length.
 *
 * A cut is a reset at once, or a close without TLS's goodbye after both sides
 * had their say: the first catches the engine at work, the second waiting.
 *
 * Covers F-N-3 (bounded duplication, R3, stands on this table) and of F-N-14
 * the truncated close.
 */
#include "test_net_server.h"

#define RELAY_RECORDS	64
#define RELAY_ALL		(-1)

/* One direction of the relayed connection. */
typedef struct Way
{
	int			from;
	int			to;
	long		limit;			/* bytes to let through; RELAY_ALL: no end */
	int			record_limit;	/* records to let through; RELAY_ALL: no end */
	long		passed;
	int			whole;			/* records that passed whole */
	int			begun;			/* records of which a byte arrived here */
	int			arrived;		/* records that arrived whole */
	uint8_t		head[5];		/* of the record under way */
	long		head_got;
	long		body_left;
} Way;

typedef struct Relay
{
	int			listen_fd;
	uint16_t	port;
	bool		open;
	bool		full;			/* a limit was reached */
	bool		reset;			/* cut at once by RST, else later by FIN */
	int			connections;
	Way			up;				/* client to server */
	Way			down;
} Relay;

static Relay relay;

static void
relay_start(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t	len = sizeof(address);

	relay.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(bind(relay.listen_fd, (struct sockaddr *) &address, sizeof(address)) == 0);
	CHECK(listen(relay.listen_fd, 8) == 0);
	CHECK(getsockname(relay.listen_fd, (struct sockaddr *) &address, &len) == 0);
	relay.port = ntohs(address.sin_port);
}

static void
relay_close(void)
{
	struct linger linger = {1, 0};

	if (!relay.open)
		return;
	if (relay.reset)
	{
		(void) setsockopt(relay.up.from, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		(void) setsockopt(relay.up.to, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	}
	close(relay.up.from);
	close(relay.up.to);
	relay.open = false;
}

static bool
relay_accept(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(server.port)};
	int			one = 1;
	int			client = accept4(relay.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int			onward;

	if (client < 0)
		return false;
	relay.connections++;
	if (relay.connections > 1)
	{
		/* A cut must not be mended behind the test's back. */
		close(client);
		return true;
	}
	onward = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(connect(onward, (struct sockaddr *) &address, sizeof(address)) == 0);
	(void) fcntl(onward, F_SETFL, O_NONBLOCK);
	(void) setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void) setsockopt(onward, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	relay.up.from = relay.down.to = client;
	relay.up.to = relay.down.from = onward;
	relay.open = true;
	return true;
}

/* One byte of the stream: where are we among the records? */
static void
way_count(Way *way, uint8_t byte)
{
	if (way->head_got < 5)
	{
		way->begun += way->head_got == 0;
		way->head[way->head_got++] = byte;
		if (way->head_got == 5)
			way->body_left = way->head[3] << 8 | way->head[4];
		return;
	}
	if (--way->body_left == 0)
	{
		way->arrived++;
		way->head_got = 0;
	}
}

static bool
relay_move(Way *way)
{
	uint8_t		data[4096];
	ssize_t		n = relay.open ? recv(way->from, data, sizeof(data), MSG_PEEK) : -1;
	ssize_t		take;
	ssize_t		pass = 0;

	if (n < 0)
		return false;
	if (n == 0)
	{
		relay_close();
		return true;
	}
	for (take = 0; take < n; take++)
	{
		/* A record limit leaves the rest in the socket, for later. */
		if (way->record_limit != RELAY_ALL && way->arrived >= way->record_limit)
			break;
		way_count(way, data[take]);
		if (way->limit != RELAY_ALL && way->passed >= way->limit)
			relay.full = true;
		else
		{
			pass++;
			way->passed++;
			way->whole = way->arrived;
		}
	}
	/* What is not passed on is read all the same: else a FIN would be an RST. */
	if (take > 0)
		CHECK_INT(recv(way->from, data, (size_t) take, 0), take);
	if (pass > 0)
		CHECK_INT(send(way->to, data, (size_t) pass, MSG_NOSIGNAL), pass);
	if (relay.full && relay.reset)
		relay_close();
	return take > 0;
}

/* One step of all three; true if anything moved. */
static bool
cut_step(void)
{
	bool		moved = notif_loop_step(loop, 5000);

	moved |= relay_accept();
	moved |= relay_move(&relay.up);
	moved |= server_step();
	moved |= relay_move(&relay.down);
	return moved;
}

static void
cut_settle(void)
{
	for (int quiet = 0; quiet < 3;)
		quiet = cut_step() || notif_loop_timeout_ms(loop) == 0 ? 0 : quiet + 1;
}

static void
answer_body(ServerConn *conn, int32_t id, int nth)
{
	(void) nth;
	server_respond(conn, id, 400, "{\"reason\":\"BadDeviceToken\"}");
}

static void
cut_begin(long up, long down, bool reset)
{
	NotifH2PoolConfig config = client_config();

	for (int i = 0; i < server.n_conns; i++)
		server_drop(&server.conns[i]);
	server.n_conns = 0;
	memset(server.seen, 0, sizeof(server.seen));
	server.requests = 0;
	server.body_bytes = 0;
	relay_close();
	relay.full = false;
	relay.reset = reset;
	relay.connections = 0;
	relay.up = (Way) {.limit = up, .record_limit = RELAY_ALL};
	relay.down = (Way) {.limit = down, .record_limit = RELAY_ALL};
	config.port = relay.port;
	client_start(&config);
	client_submit(0);
}

static void
cut_end(void)
{
	notif_h2_pool_free(pool);
	pool = NULL;
}

/* Which records matter, and how many bytes there are. */
typedef struct Shape
{
	int			up_before;		/* records that leave before the request */
	int			down_settings;	/* whole records until the request leaves */
	int			down_answer;	/* whole records until it is answered */
	long		up_request;		/* bytes before it */
	long		up_bytes;
	long		down_bytes;
} Shape;

static Shape
cut_shape(void)
{
	Shape		shape = {0};

	cut_begin(RELAY_ALL, RELAY_ALL, false);
	relay.down.record_limit = 0;
	for (int records = 0; answered == 0 && records < RELAY_RECORDS; records++)
	{
		relay.down.record_limit = records;
		if (client_stats().in_flight == 0)
		{
			shape.up_before = relay.up.arrived;
			shape.up_request = relay.up.passed;
		}
		cut_settle();
		if (client_stats().in_flight > 0 && shape.down_settings == 0)
			shape.down_settings = records;
		shape.down_answer = records;
	}
	CHECK_INT(answered, 1);
	CHECK_INT(got[0].known, NOTIF_ANSWERED);
	shape.up_bytes = relay.up.passed;
	shape.down_bytes = relay.down.passed;
	cut_end();
	CHECK(shape.up_before >= 2 && shape.down_settings > 2 && shape.down_answer > shape.down_settings);
	return shape;
}

/* One turn: true while the limit was reached. */
static bool
cut_turn(const Shape *shape, bool up, long n, bool reset)
{
	NotifKnown	want;
	int64_t		end_us = notif_loop_now_us() + TEST_DEADLINE_US;
	bool		ok;

	cut_begin(up ? n : RELAY_ALL, up ? RELAY_ALL : n, reset);
	while (answered == 0 && notif_loop_now_us() < end_us)
		if (!cut_step() && relay.full)
			relay_close();
	want = relay.down.whole >= shape->down_answer ? NOTIF_ANSWERED :
		relay.up.begun > shape->up_before ? NOTIF_UNKNOWN : NOTIF_NOT_SENT;
	ok = CHECK_INT(answered, 1) && CHECK_INT(got[0].known, want);
	ok = ok && CHECK_INT(got[0].status, want == NOTIF_ANSWERED ? 400 : 0);
	ok = ok && CHECK((want == NOTIF_ANSWERED) == (got[0].error == NOTIF_NET_NONE));
	/* Of what is said to be unsent not even the body's first byte is there. */
	if (want == NOTIF_NOT_SENT)
		ok = ok && CHECK_INT(server.body_bytes + (size_t) server.seen[0], 0);
	if (up)
		ok = ok && CHECK_INT(server.seen[0], !relay.full);
	if (!ok)
		fprintf(stderr, "  cut after %ld bytes %s by %s: %s\n", n, up ? "up" : "down",
				reset ? "RST" : "FIN", got[0].detail);
	ok = relay.full;
	cut_end();
	return ok;
}

/* Every byte from first on, and every eighth of the handshake before. */
static long
cut_all(const Shape *shape, bool up, long first, bool reset, long *turns)
{
	long		n = 0;

	while (cut_turn(shape, up, n, reset) && n < 8000)
	{
		turns[got[0].known]++;
		n += n < first - 8 ? 8 : 1;
	}
	turns[got[0].known]++;
	CHECK_INT(got[0].known, NOTIF_ANSWERED);
	return n;
}

static void
test_every_byte(void)
{
	Shape		shape;
	long		turns[3] = {0};

	server_start(&good_cert, true);
	server.on_request = answer_body;
	shape = cut_shape();
	for (int reset = 0; reset < 2; reset++)
	{
		long		n = cut_all(&shape, true, shape.up_request - 100, reset == 1, turns);

		CHECK_INT(n, shape.up_bytes);
		/* Signatures differ by a few bytes from turn to turn. */
		n = cut_all(&shape, false, shape.down_bytes - 400, reset == 1, turns);
		CHECK(n >= shape.down_bytes - 16 && n <= shape.down_bytes + 16);
	}
	/* Every class was met, and often. */
	CHECK(turns[NOTIF_NOT_SENT] > 500 && turns[NOTIF_UNKNOWN] > 800 && turns[NOTIF_ANSWERED] >= 4);
	server_stop();
	relay_close();
	close(relay.listen_fd);
}

int
main(void)
{
	test_begin();
	relay_start();
	test_every_byte();
	test_teardown();
	return unit_done();
}
