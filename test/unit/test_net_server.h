/*
 * test_net_server.h
 *		A scripted HTTP/2 server over TLS and a driver for the pool, both in the
 *		test's own process and thread.
 *
 * The server is written against nghttp2's server side and OpenSSL alone; it
 * shares nothing with the engine.  A test sets the script (callbacks and
 * switches), submits requests and pumps: one pump runs a step of the engine's
 * loop and a round of the server, and waits in poll() only when neither had
 * anything to do.  Certificates are made at run time.
 */
#ifndef NOTIF_TEST_NET_SERVER_H
#define NOTIF_TEST_NET_SERVER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* accept4; so include this file first */
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "../../src/net/h2_pool.h"
#include "unit.h"

#define TEST_CONNS		64
#define TEST_REQUESTS	256
#define TEST_DEADLINE_US (10 * INT64_C(1000000))

/* ---- certificates ---- */

typedef struct TestCert
{
	X509	   *x509;
	EVP_PKEY   *key;
} TestCert;

static inline void
cert_extend(X509 *x509, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX	ctx;
	X509_EXTENSION *extension;

	X509V3_set_ctx(&ctx, issuer, x509, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	X509_add_ext(x509, extension, -1);
	X509_EXTENSION_free(extension);
}

/* issuer NULL: a CA of its own.  days < 0: expired since then. */
static inline TestCert
cert_make(const TestCert *issuer, const char *name, const char *san, int days)
{
	static long serial = 1;
	TestCert	cert;
	X509_NAME  *subject;

	cert.key = EVP_EC_gen("P-256");
	cert.x509 = X509_new();
	X509_set_version(cert.x509, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert.x509), serial++);
	X509_gmtime_adj(X509_getm_notBefore(cert.x509), -86400L * 10);
	X509_gmtime_adj(X509_getm_notAfter(cert.x509), 86400L * days);
	X509_set_pubkey(cert.x509, cert.key);
	subject = X509_get_subject_name(cert.x509);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *) name, -1, -1, 0);
	X509_set_issuer_name(cert.x509, issuer != NULL ? X509_get_subject_name(issuer->x509) : subject);
	cert_extend(cert.x509, issuer != NULL ? issuer->x509 : cert.x509, NID_basic_constraints,
				issuer != NULL ? "CA:FALSE" : "critical,CA:TRUE");
	if (san != NULL)
		cert_extend(cert.x509, issuer != NULL ? issuer->x509 : cert.x509, NID_subject_alt_name, san);
	X509_sign(cert.x509, issuer != NULL ? issuer->key : cert.key, EVP_sha256());
	return cert;
}

static inline void
cert_free(TestCert *cert)
{
	X509_free(cert->x509);
	EVP_PKEY_free(cert->key);
}

/* Writes the certificate to a file of its own; name must end in XXXXXX. */
static inline void
cert_save(const TestCert *cert, char *name)
{
	int			fd = mkstemp(name);
	FILE	   *file = fdopen(fd, "w");

	PEM_write_X509(file, cert->x509);
	fclose(file);
}

/* ---- the server ---- */

typedef struct Server Server;

typedef struct ServerConn
{
	Server	   *server;
	int			number;			/* 1, 2, … in order of arrival */
	int			fd;				/* -1: gone */
	SSL		   *ssl;
	nghttp2_session *session;
	bool		ready;			/* handshake done */
	bool		cut;			/* drop the socket after this round */
	int			requests;		/* complete ones */
	int			open;
	int			most_open;
	int			pings;
	bool		goaway;			/* received */
	int32_t		ids[TEST_REQUESTS]; /* in order of completion */
	uint8_t    *out;
	size_t		out_len;
} ServerConn;

struct Server
{
	int			listen_fd;
	uint16_t	port;
	SSL_CTX    *ctx;
	ServerConn	conns[TEST_CONNS];
	int			n_conns;
	int			requests;
	int			seen[TEST_REQUESTS];	/* by the number at the path's end */
	int			never_indexed;	/* apns-id headers flagged so */
	int			indexed;		/* apns-id headers that were not */
	char		last_path[128];
	char		last_authority[128];
	char		accept_encoding[64];	/* of any request */
	char		client_name[64];	/* subject of the client's certificate */
	size_t		body_bytes;

	/* the script */
	int			max_streams;	/* first SETTINGS; < 0: not named */
	int			window;			/* INITIAL_WINDOW_SIZE; < 0: default */
	int			session_window; /* > 0: the connection's window */
	bool		mute;			/* accept, then nothing at all */
	bool		hang_up;		/* accept, then close once there is something to read */
	bool		no_ping_ack;
	bool		no_settings;	/* TLS, then silence */
	const uint8_t *raw;			/* not NULL: sent instead of what nghttp2 has */
	size_t		raw_len;
	size_t		raw_each;		/* bytes at a time */
	int64_t		raw_gap_us;		/* between them */
	bool		raw_repeat;		/* from the start again, without end */
	size_t		raw_at;
	int64_t		raw_last_us;
	size_t		raw_sent;
	void		(*on_request) (ServerConn *conn, int32_t id, int nth);
};

static Server server;

static void server_respond(ServerConn *conn, int32_t id, int status, const char *body);

static inline ssize_t
server_on_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
			   uint32_t *flags, nghttp2_data_source *source, void *ud)
{
	size_t		left = source->ptr != NULL ? strlen(source->ptr) : 0;

	(void) session;
	(void) id;
	(void) ud;
	if (left > length)
		left = length;
	memcpy(buf, source->ptr, left);
	source->ptr = (char *) source->ptr + left;
	if (*(char *) source->ptr == '\0')
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t) left;
}

/* For ever the same byte; never an end. */
static inline ssize_t
server_on_endless(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
				  uint32_t *flags, nghttp2_data_source *source, void *ud)
{
	(void) session;
	(void) id;
	(void) flags;
	(void) source;
	(void) ud;
	memset(buf, 'x', length);
	return (ssize_t) length;
}

/* A first piece, then nothing more. */
static inline ssize_t
server_on_stalled(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
				  uint32_t *flags, nghttp2_data_source *source, void *ud)
{
	(void) session;
	(void) id;
	(void) length;
	(void) flags;
	(void) ud;
	if (source->fd != 0)
		return NGHTTP2_ERR_DEFERRED;
	source->fd = 1;
	buf[0] = '{';
	return 1;
}

static inline nghttp2_nv
server_nv(const char *name, const char *value)
{
	nghttp2_nv	nv = {(uint8_t *) name, (uint8_t *) value, strlen(name), strlen(value), 0};

	return nv;
}

static inline void
server_respond_with(ServerConn *conn, int32_t id, int status, nghttp2_data_provider *provider)
{
	char		text[16];
	char		unique[48];
	nghttp2_nv	nv[3];

	snprintf(text, sizeof(text), "%d", status);
	snprintf(unique, sizeof(unique), "id-%d-%d", conn->number, (int) id);
	nv[0] = server_nv(":status", text);
	nv[1] = server_nv("apns-id", unique);
	nv[2] = server_nv("retry-after", "7");
	nghttp2_submit_response(conn->session, id, nv, status == 429 ? 3 : 2, provider);
}

/* body must live until it is sent. */
static inline void
server_respond(ServerConn *conn, int32_t id, int status, const char *body)
{
	nghttp2_data_provider provider = {{.ptr = (void *) body}, server_on_body};

	server_respond_with(conn, id, status, body != NULL ? &provider : NULL);
}

static inline void
server_settings(ServerConn *conn, uint32_t streams)
{
	nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, streams};

	nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, &entry, 1);
}

static inline void
server_goaway(ServerConn *conn, int32_t last, uint32_t code, const char *debug)
{
	nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE, last, code,
						  (const uint8_t *) debug, strlen(debug));
}

static inline int
server_on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *ud)
{
	ServerConn *conn = ud;

	(void) session;
	if (frame->hd.type == NGHTTP2_HEADERS && ++conn->open > conn->most_open)
		conn->most_open = conn->open;
	return 0;
}

static inline int
server_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
				 size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *ud)
{
	ServerConn *conn = ud;
	Server	   *self = conn->server;

	if (name_len == 5 && memcmp(name, ":path", 5) == 0)
	{
		const char *slash = strrchr((const char *) value, '/');
		long		n = slash != NULL ? strtol(slash + 1, NULL, 10) : 0;

		snprintf(self->last_path, sizeof(self->last_path), "%.*s", (int) value_len, value);
		nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, (void *) (intptr_t) n);
	}
	else if (name_len == 10 && memcmp(name, ":authority", 10) == 0)
		snprintf(self->last_authority, sizeof(self->last_authority), "%.*s", (int) value_len, value);
	else if (name_len == 15 && memcmp(name, "accept-encoding", 15) == 0)
		snprintf(self->accept_encoding, sizeof(self->accept_encoding), "%.*s", (int) value_len, value);
	else if (name_len == 7 && memcmp(name, "apns-id", 7) == 0)
	{
		if (flags & NGHTTP2_NV_FLAG_NO_INDEX)
			self->never_indexed++;
		else
			self->indexed++;
	}
	return 0;
}

static inline int
server_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
			   size_t len, void *ud)
{
	(void) session;
	(void) flags;
	(void) id;
	(void) data;
	((ServerConn *) ud)->server->body_bytes += len;
	return 0;
}

static inline int
server_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *ud)
{
	ServerConn *conn = ud;
	Server	   *self = conn->server;
	int			n;

	if (frame->hd.type == NGHTTP2_PING && !(frame->hd.flags & NGHTTP2_FLAG_ACK))
		conn->pings++;
	if (frame->hd.type == NGHTTP2_GOAWAY)
		conn->goaway = true;
	if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
		!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	n = (int) (intptr_t) nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (n >= 0 && n < TEST_REQUESTS)
		self->seen[n]++;
	conn->ids[conn->requests % TEST_REQUESTS] = frame->hd.stream_id;
	conn->requests++;
	self->requests++;
	if (self->on_request != NULL)
		self->on_request(conn, frame->hd.stream_id, conn->requests);
	else
		server_respond(conn, frame->hd.stream_id, 200, NULL);
	return 0;
}

static inline int
server_on_close(nghttp2_session *session, int32_t id, uint32_t code, void *ud)
{
	(void) session;
	(void) id;
	(void) code;
	((ServerConn *) ud)->open--;
	return 0;
}

static inline int
server_pick_h2(SSL *ssl, const unsigned char **out, unsigned char *out_len,
			   const unsigned char *in, unsigned in_len, void *arg)
{
	(void) ssl;
	(void) arg;
	if (SSL_select_next_proto((unsigned char **) out, out_len, (const unsigned char *) "\2h2", 3,
							  in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	return SSL_TLSEXT_ERR_OK;
}

static inline void
server_start(const TestCert *cert, bool alpn)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t	len = sizeof(address);

	memset(&server, 0, sizeof(server));
	server.max_streams = 100;
	server.window = -1;
	server.ctx = SSL_CTX_new(TLS_server_method());
	SSL_CTX_use_certificate(server.ctx, cert->x509);
	SSL_CTX_use_PrivateKey(server.ctx, cert->key);
	if (alpn)
		SSL_CTX_set_alpn_select_cb(server.ctx, server_pick_h2, NULL);
	server.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* A small buffer, so that a server which stops reading is soon felt. */
	(void) setsockopt(server.listen_fd, SOL_SOCKET, SO_RCVBUF, &(int) {65536}, sizeof(int));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(server.listen_fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		listen(server.listen_fd, 64) != 0 ||
		getsockname(server.listen_fd, (struct sockaddr *) &address, &len) != 0)
		fprintf(stderr, "test server: %s\n", strerror(errno));
	server.port = ntohs(address.sin_port);
}

static inline void
server_drop(ServerConn *conn)
{
	if (conn->fd < 0)
		return;
	nghttp2_session_del(conn->session);
	conn->session = NULL;
	SSL_free(conn->ssl);
	conn->ssl = NULL;
	free(conn->out);
	conn->out = NULL;
	close(conn->fd);
	conn->fd = -1;
}

static inline void
server_stop(void)
{
	for (int i = 0; i < server.n_conns; i++)
		server_drop(&server.conns[i]);
	if (server.listen_fd >= 0)
		close(server.listen_fd);
	SSL_CTX_free(server.ctx);
}

static inline void
server_session(ServerConn *conn)
{
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;
	nghttp2_settings_entry entries[2];
	size_t		n = 0;
	X509	   *peer = SSL_get0_peer_certificate(conn->ssl);

	if (peer != NULL)
		X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName,
								  server.client_name, sizeof(server.client_name));
	nghttp2_session_callbacks_new(&callbacks);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, server_on_begin);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, server_on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, server_on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, server_on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, server_on_close);
	nghttp2_option_new(&option);
	nghttp2_option_set_no_auto_ping_ack(option, server.no_ping_ack);
	nghttp2_session_server_new2(&conn->session, callbacks, conn, option);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(callbacks);
	if (server.max_streams >= 0)
		entries[n++] = (nghttp2_settings_entry) {
			NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t) server.max_streams
		};
	if (server.window >= 0)
		entries[n++] = (nghttp2_settings_entry) {
			NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t) server.window
		};
	if (server.session_window > 0)
		nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0,
											  server.session_window);
	if (!server.no_settings)
		nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, entries, n);
}

/* Writes what nghttp2 has; true if anything went. */
static inline bool
server_flush(ServerConn *conn)
{
	bool		moved = false;

	for (;;)
	{
		const uint8_t *chunk;
		ssize_t		len = 0;
		int			n;

		if (conn->out_len == 0)
		{
			len = nghttp2_session_mem_send(conn->session, &chunk);
			if (len <= 0)
				break;
			conn->out = realloc(conn->out, (size_t) len);
			memcpy(conn->out, chunk, (size_t) len);
			conn->out_len = (size_t) len;
		}
		n = SSL_write(conn->ssl, conn->out, (int) conn->out_len);
		ERR_clear_error();
		if (n <= 0)
			break;
		conn->out_len = 0;
		moved = true;
	}
	return moved;
}

/* Sends a piece of server.raw; false: nothing was due or the peer takes nothing. */
static inline bool
server_send_raw(ServerConn *conn)
{
	size_t		len = server.raw_len - server.raw_at;
	int			n;

	if (server.raw_at == server.raw_len && server.raw_repeat)
		len = server.raw_len, server.raw_at = 0;
	if (len == 0 || notif_loop_now_us() - server.raw_last_us < server.raw_gap_us)
		return false;
	if (len > server.raw_each)
		len = server.raw_each;
	n = SSL_write(conn->ssl, server.raw + server.raw_at, (int) len);
	ERR_clear_error();
	if (n <= 0)
		return false;
	server.raw_at += (size_t) n;
	server.raw_sent += (size_t) n;
	server.raw_last_us = notif_loop_now_us();
	return server.raw_gap_us == 0;
}

/* Begins with the len bytes of data, each at a time every gap_us. */
static inline void
server_raw(const void *data, size_t len, size_t each, int64_t gap_us, bool repeat)
{
	server.raw = data;
	server.raw_len = len;
	server.raw_each = each;
	server.raw_gap_us = gap_us;
	server.raw_repeat = repeat;
	server.raw_at = 0;
	server.raw_sent = 0;
}

/* One round for one connection; true if anything moved. */
static inline bool
server_round(ServerConn *conn)
{
	bool		moved = false;
	uint8_t		data[16384];
	int			n;

	if (server.mute)
		return false;
	if (server.hang_up && recv(conn->fd, data, sizeof(data), 0) > 0)
	{
		server_drop(conn);
		return true;
	}
	if (!conn->ready)
	{
		n = SSL_accept(conn->ssl);
		if (n != 1)
		{
			int			why = SSL_get_error(conn->ssl, n);

			if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
				server_drop(conn);
			ERR_clear_error();
			return false;
		}
		conn->ready = true;
		server_session(conn);
		moved = true;
	}
	while (conn->fd >= 0 && (n = SSL_read(conn->ssl, data, sizeof(data))) > 0)
	{
		moved = true;
		if (nghttp2_session_mem_recv(conn->session, data, (size_t) n) < 0 || conn->cut)
		{
			server_drop(conn);
			return true;
		}
	}
	ERR_clear_error();
	if (server.no_settings)
		return moved;
	if (server.raw != NULL && conn->fd >= 0)
		return server_send_raw(conn) || moved;
	moved |= server_flush(conn);
	if (conn->cut || (!nghttp2_session_want_read(conn->session) &&
					  !nghttp2_session_want_write(conn->session)))
	{
		server_drop(conn);
		moved = true;
	}
	return moved;
}

static inline bool
server_step(void)
{
	bool		moved = false;
	int			fd = accept4(server.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int			one = 1;

	if (fd >= 0 && server.n_conns < TEST_CONNS)
	{
		ServerConn *conn = &server.conns[server.n_conns++];

		memset(conn, 0, sizeof(*conn));
		conn->server = &server;
		conn->number = server.n_conns;
		conn->fd = fd;
		(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		conn->ssl = SSL_new(server.ctx);
		SSL_set_fd(conn->ssl, fd);
		moved = true;
	}
	else if (fd >= 0)
		close(fd);
	for (int i = 0; i < server.n_conns; i++)
		if (server.conns[i].fd >= 0 && server_round(&server.conns[i]))
			moved = true;
	return moved;
}

/* ---- the client ---- */

typedef struct Got
{
	int			times;
	NotifKnown	known;
	NotifNetError error;
	int			status;
	size_t		body_len;
	char		body[64];
	char		message_id[64];
	char		retry_after[48];
	char		detail[160];
	uint64_t	connection;
	int			backoff_ms;		/* the pool's, when the result came */
	int			capacity;
} Got;

static NotifLoop *loop;
static NotifResolver *resolver;
static NotifH2Pool *pool;
static Got	got[TEST_REQUESTS];
static int	answered;			/* results that came, of any kind */
static char ca_name[] = "/tmp/notif_test_ca_XXXXXX";
static TestCert ca_cert;
static TestCert good_cert;

static inline void
client_done(void *pool_ud, void *request_ud, const NotifResult *result)
{
	Got		   *one = &got[(intptr_t) request_ud];

	(void) pool_ud;
	one->times++;
	one->known = result->known;
	one->error = result->error;
	one->status = result->status;
	one->body_len = result->body_len;
	one->connection = result->connection;
	snprintf(one->body, sizeof(one->body), "%.*s", (int) result->body_len, result->body);
	snprintf(one->message_id, sizeof(one->message_id), "%s", result->message_id);
	snprintf(one->retry_after, sizeof(one->retry_after), "%s", result->retry_after);
	snprintf(one->detail, sizeof(one->detail), "%s", result->detail);
	one->backoff_ms = notif_h2_pool_backoff_ms(pool);
	one->capacity = notif_h2_pool_capacity(pool);
	answered++;
}

static inline NotifH2PoolConfig
client_config(void)
{
	NotifH2PoolConfig config = {
		.host = "localhost",
		.port = server.port,
		.address = "127.0.0.1",
		.ca_file = ca_name,
		.max_connections = 1,
		.done = client_done
	};

	return config;
}

static inline void
client_start(const NotifH2PoolConfig *config)
{
	char		error[256];

	memset(got, 0, sizeof(got));
	answered = 0;
	pool = notif_h2_pool_new(loop, resolver, config, error, sizeof(error));
	if (!CHECK(pool != NULL))
		fprintf(stderr, "  %s\n", error);
}

static inline NotifStatus
client_submit_timed(int n, size_t body_len, int timeout_ms, int queue_timeout_ms)
{
	static char body[300000];
	char		path[64];
	char		id[40];
	NotifH2Request request = {
		.method = "POST", .path = path, .body = body, .body_len = body_len,
		.timeout_ms = timeout_ms, .queue_timeout_ms = queue_timeout_ms,
		.ud = (void *) (intptr_t) n, .n_headers = 3
	};

	if (body[0] == '\0')
		memset(body, 'b', sizeof(body));
	snprintf(path, sizeof(path), "/3/device/%d", n);
	snprintf(id, sizeof(id), "00000000-0000-4000-8000-%012d", n);
	request.headers[0] = (NotifHeader) {"authorization", "bearer x", 8, NOTIF_INDEX_VALUE};
	request.headers[1] = (NotifHeader) {"apns-topic", "com.example.shop", 16, NOTIF_INDEX_VALUE};
	request.headers[2] = (NotifHeader) {"apns-id", id, strlen(id), NOTIF_INDEX_NAME};
	return notif_h2_pool_submit(pool, &request);
}

static inline void
client_submit(int n)
{
	CHECK_INT(client_submit_timed(n, 200, 8000, 8000), NOTIF_OK);
}

/* One step of both sides; waits up to wait_ms when nothing moved. */
static inline bool
pump_once(int wait_ms)
{
	struct pollfd fds[TEST_CONNS + 2];
	int			n = 0;
	int			timeout;
	bool		more = notif_loop_step(loop, 5000);
	bool		moved = server_step();

	if (more || moved)
		return true;
	timeout = notif_loop_timeout_ms(loop);
	if (timeout < 0 || timeout > wait_ms)
		timeout = wait_ms;
	fds[n++] = (struct pollfd) {notif_loop_fd(loop), POLLIN, 0};
	fds[n++] = (struct pollfd) {server.listen_fd, POLLIN, 0};
	for (int i = 0; i < server.n_conns && !server.mute; i++)
		if (server.conns[i].fd >= 0 && !server.no_settings)
			fds[n++] = (struct pollfd) {server.conns[i].fd, POLLIN, 0};
	return poll(fds, (nfds_t) n, timeout) > 0;
}

/* Pumps until cond holds; a failed check after the deadline. */
#define PUMP_UNTIL(cond) \
	do { \
		int64_t pump_end = notif_loop_now_us() + TEST_DEADLINE_US; \
		while (!(cond) && notif_loop_now_us() < pump_end) \
			pump_once(20); \
		CHECK(cond); \
	} while (0)

/* Pumps until neither side has anything to do but wait for time to pass. */
static inline void
pump_idle(void)
{
	int			quiet = 0;

	while (quiet < 5)
		quiet = pump_once(2) ? 0 : quiet + 1;
}

static inline NotifH2PoolStats
client_stats(void)
{
	NotifH2PoolStats stats;

	notif_h2_pool_stats(pool, &stats);
	return stats;
}

/* Frees the pool and checks that requests 0 … n - 1 came back exactly once. */
static inline void
client_stop(int n)
{
	notif_h2_pool_free(pool);
	pool = NULL;
	for (int i = 0; i < n; i++)
		CHECK_INT(got[i].times, 1);
	server_stop();
}

static inline void
test_begin(void)
{
	/* The server side writes with SSL_write; the engine needs no such help. */
	signal(SIGPIPE, SIG_IGN);
	ca_cert = cert_make(NULL, "notif test CA", NULL, 10);
	good_cert = cert_make(&ca_cert, "localhost", "DNS:localhost,IP:127.0.0.1", 10);
	cert_save(&ca_cert, ca_name);
	loop = notif_loop_new();
	resolver = notif_resolver_new(loop);
	CHECK(loop != NULL && resolver != NULL);
}

static inline void
test_teardown(void)
{
	notif_resolver_free(resolver);
	notif_loop_free(loop);
	cert_free(&good_cert);
	cert_free(&ca_cert);
	unlink(ca_name);
}

#endif							/* NOTIF_TEST_NET_SERVER_H */
