/*
 * test_net_faults.c
 *		What goes wrong before or below HTTP/2: refused and silent servers,
 *		certificates, ALPN, names, reconnect backoff; and memory that runs out
 *		at every single allocation.
 *
 * Covers F-N-1, F-N-2, F-N-4, F-N-14, F-N-16, F-P-17.
 */
#include "test_net_server.h"

#include "../../src/core/mem.h"

static TestCert other_ca;

/* ---- before HTTP/2 ---- */

static void
expect_not_sent(const NotifH2PoolConfig *config, NotifNetError error, const char *word)
{
	NotifH2PoolStats stats;

	client_start(config);
	client_submit(0);
	client_submit(1);
	PUMP_UNTIL(answered == 2);
	for (int i = 0; i < 2; i++)
	{
		CHECK_INT(got[i].known, NOTIF_NOT_SENT);
		CHECK_INT(got[i].error, error);
		if (!CHECK(strstr(got[i].detail, word) != NULL))
			fprintf(stderr, "  got \"%s\", want \"%s\"\n", got[i].detail, word);
		CHECK(strchr(got[i].detail, '\n') == NULL && strstr(got[i].detail, "KEY") == NULL);
	}
	stats = client_stats();
	CHECK_INT(stats.failed, 1);
	CHECK_INT(stats.opened, 0);
	CHECK_INT(stats.connecting, 0);
	CHECK_STR(stats.last_error, got[0].detail);
	CHECK(got[0].backoff_ms > 0 && got[0].backoff_ms <= 200);
	CHECK_INT(got[0].capacity, 0);
	CHECK_INT(server.requests, 0);
	client_stop(2);
}

/* F-N-14: nothing leaves, and a line says why without showing a key. */
static void
test_certificates(void)
{
	TestCert	self = cert_make(NULL, "localhost", "DNS:localhost", 10);
	TestCert	wrong_name = cert_make(&ca_cert, "elsewhere", "DNS:elsewhere.example", 10);
	TestCert	expired = cert_make(&ca_cert, "localhost", "DNS:localhost", -1);
	TestCert	foreign = cert_make(&other_ca, "localhost", "DNS:localhost", 10);
	NotifH2PoolConfig config;

	server_start(&wrong_name, true);
	config = client_config();
	expect_not_sent(&config, NOTIF_NET_TLS, "hostname mismatch");
	server_start(&expired, true);
	config = client_config();
	expect_not_sent(&config, NOTIF_NET_TLS, "expired");
	server_start(&foreign, true);
	config = client_config();
	expect_not_sent(&config, NOTIF_NET_TLS, "certificate not accepted");
	server_start(&self, true);
	config = client_config();
	expect_not_sent(&config, NOTIF_NET_TLS, "self-signed certificate");
	/* The right CA but an address that the certificate does not carry. */
	server_start(&expired, true);
	config = client_config();
	config.host = "127.0.0.1";
	expect_not_sent(&config, NOTIF_NET_TLS, "certificate not accepted");
	server_start(&good_cert, false);
	config = client_config();
	expect_not_sent(&config, NOTIF_NET_PROTOCOL, "HTTP/2");
	server_start(&good_cert, true);
	SSL_CTX_set_min_proto_version(server.ctx, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(server.ctx, TLS1_VERSION);
	SSL_CTX_set_security_level(server.ctx, 0);
	config = client_config();
	expect_not_sent(&config, NOTIF_NET_TLS, "TLS handshake failed: ");
	server_start(&good_cert, true);
	SSL_CTX_set_max_proto_version(server.ctx, TLS1_1_VERSION);
	config = client_config();
	expect_not_sent(&config, NOTIF_NET_TLS, "TLS handshake failed: ");
	/* A server that hangs up where its part of the handshake is due. */
	server_start(&good_cert, true);
	server.hang_up = true;
	config = client_config();
	expect_not_sent(&config, NOTIF_NET_TLS, "connection closed by the server");
	cert_free(&self);
	cert_free(&wrong_name);
	cert_free(&expired);
	cert_free(&foreign);
}

/* An address as host: verified against the certificate's addresses. */
static void
test_numeric_host(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	config = client_config();
	config.host = "127.0.0.1";
	config.address = NULL;
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(answered == 1);
	CHECK_INT(got[0].status, 200);
	client_stop(1);

	/* A name through the hosts file. */
	server_start(&good_cert, true);
	config = client_config();
	config.address = NULL;
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(answered == 1);
	CHECK_INT(got[0].status, 200);
	client_stop(1);
}

static void
cert_pem(const TestCert *cert, char *cert_text, char *key_text, size_t size)
{
	BIO		   *bio = BIO_new(BIO_s_mem());
	int			n;

	PEM_write_bio_X509(bio, cert->x509);
	n = BIO_read(bio, cert_text, (int) size - 1);
	cert_text[n > 0 ? n : 0] = '\0';
	PEM_write_bio_PrivateKey(bio, cert->key, NULL, NULL, 0, NULL, NULL);
	n = BIO_read(bio, key_text, (int) size - 1);
	key_text[n > 0 ? n : 0] = '\0';
	BIO_free(bio);
}

/* F-N-14: our own certificate, and errors about it. */
static void
test_client_certificate(void)
{
	TestCert	client = cert_make(&ca_cert, "apns client", "DNS:client", 10);
	TestCert	stranger = cert_make(&other_ca, "stranger", "DNS:client", 10);
	char		cert_text[4096];
	char		key_text[4096];
	char		other_text[4096];
	char		other_key[4096];
	char		error[256] = "";
	X509_STORE *store;
	NotifH2PoolConfig config;

	cert_pem(&client, cert_text, key_text, sizeof(cert_text));
	cert_pem(&stranger, other_text, other_key, sizeof(other_text));
	server_start(&good_cert, true);
	SSL_CTX_set_verify(server.ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	store = SSL_CTX_get_cert_store(server.ctx);
	X509_STORE_add_cert(store, ca_cert.x509);
	config = client_config();
	config.cert_pem = cert_text;
	config.key_pem = key_text;
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(answered == 1);
	CHECK_INT(got[0].status, 200);
	CHECK_STR(server.client_name, "apns client");
	client_stop(1);

	/* Refused: with TLS 1.3 that shows only after the handshake. */
	server_start(&good_cert, true);
	SSL_CTX_set_verify(server.ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	config = client_config();
	expect_not_sent(&config, NOTIF_NET_TLS, "certificate required");

	server_start(&good_cert, true);
	config = client_config();
	config.cert_pem = cert_text;
	config.key_pem = other_key;
	CHECK(notif_h2_pool_new(loop, resolver, &config, error, sizeof(error)) == NULL);
	CHECK(strstr(error, "does not belong") != NULL && strstr(error, "BEGIN") == NULL);
	config.key_pem = "no key";
	CHECK(notif_h2_pool_new(loop, resolver, &config, error, sizeof(error)) == NULL);
	CHECK(strstr(error, "client key cannot be read") != NULL);
	config.key_pem = NULL;
	CHECK(notif_h2_pool_new(loop, resolver, &config, error, sizeof(error)) == NULL);
	config.cert_pem = NULL;
	config.ca_file = "/nonexistent/ca.pem";
	CHECK(notif_h2_pool_new(loop, resolver, &config, error, sizeof(error)) == NULL);
	CHECK(strstr(error, "CA file") != NULL);
	server_stop();
	cert_free(&client);
	cert_free(&stranger);
}

/* F-N-1: refused; F-N-16: no such name. */
static void
test_unreachable(void)
{
	NotifH2PoolConfig config;
	uint64_t	failed;

	/* A port that nobody listens on. */
	server_start(&good_cert, true);
	config = client_config();
	close(server.listen_fd);
	server.listen_fd = -1;
	expect_not_sent(&config, NOTIF_NET_CONNECT, "Connection refused");

	/* Backoff grows; what is submitted meanwhile waits for its queue time. */
	server_start(&good_cert, true);
	config = client_config();
	close(server.listen_fd);
	server.listen_fd = -1;
	client_start(&config);
	client_submit(0);
	PUMP_UNTIL(answered == 1);
	CHECK(got[0].backoff_ms > 0 && got[0].backoff_ms <= 200);
	CHECK_INT(client_submit_timed(1, 10, 1000, 1), NOTIF_OK);
	PUMP_UNTIL(answered == 2);
	CHECK_INT(got[1].known, NOTIF_NOT_SENT);
	CHECK_INT(got[1].error, NOTIF_NET_CONNECT);
	failed = client_stats().failed;
	for (int i = 2; i < 5; i++)
	{
		client_submit(i);
		PUMP_UNTIL(answered == i + 1);
		CHECK_INT(client_stats().failed, ++failed);
	}
	CHECK(got[4].backoff_ms > 400 && got[4].backoff_ms <= 3200);
	client_stop(5);

	/* A name that does not exist and never will (RFC 6761). */
	server_start(&good_cert, true);
	config = client_config();
	config.host = "host.invalid";
	config.address = NULL;
	config.connect_timeout_ms = 300;
	expect_not_sent(&config, NOTIF_NET_DNS, "name lookup");
}

/* F-N-2: silence in the handshake and after it. */
static void
test_silence(void)
{
	NotifH2PoolConfig config;

	server_start(&good_cert, true);
	server.mute = true;
	config = client_config();
	config.connect_timeout_ms = 60;
	expect_not_sent(&config, NOTIF_NET_TLS, "timed out");
	server_start(&good_cert, true);
	server.no_settings = true;
	config = client_config();
	config.connect_timeout_ms = 500;
	expect_not_sent(&config, NOTIF_NET_PROTOCOL, "no SETTINGS");
}

static void
throw_out(ServerConn *conn, int32_t id, int nth)
{
	(void) id;
	(void) nth;
	server_goaway(conn, 0, NGHTTP2_ENHANCE_YOUR_CALM, "{\"reason\":\"TooMany\"}");
}

/* F-N-4.  Accepting everybody and throwing them out: resends, but ever more slowly. */
static void
test_thrown_out(void)
{
	NotifH2PoolConfig config;
	int64_t		start_us = notif_loop_now_us();

	server_start(&good_cert, true);
	server.on_request = throw_out;
	config = client_config();
	client_start(&config);
	CHECK_INT(client_submit_timed(0, 10, 5000, 5000), NOTIF_OK);
	PUMP_UNTIL(server.n_conns == 4);
	CHECK(notif_loop_now_us() - start_us >= 700000);
	CHECK_STR(client_stats().last_error, "GOAWAY ENHANCE_YOUR_CALM: TooMany");
	server.on_request = NULL;
	PUMP_UNTIL(answered == 1);
	CHECK_INT(got[0].status, 200);
	CHECK_INT(notif_h2_pool_backoff_ms(pool), 0);
	client_stop(1);
}

/* ---- memory ---- */

static long allocations;
static long fail_from;
static long fail_to;
static long live;

static bool
mem_fails(void)
{
	allocations++;
	return allocations >= fail_from && allocations < fail_to;
}

static void *
failing_malloc(size_t size)
{
	void	   *ptr = mem_fails() ? NULL : malloc(size);

	if (ptr != NULL)
		live++;
	return ptr;
}

static void *
failing_realloc(void *old, size_t size)
{
	void	   *ptr = mem_fails() ? NULL : realloc(old, size);

	if (ptr != NULL && old == NULL)
		live++;
	return ptr;
}

static void
failing_free(void *ptr)
{
	live--;
	free(ptr);
}

/* Four requests, each with a body in the answer; everything torn down. */
static void
memory_scenario(int timeout_ms)
{
	NotifH2PoolConfig config = client_config();
	char		error[256];
	int			submitted = 0;
	int64_t		end_us;

	memset(got, 0, sizeof(got));
	answered = 0;
	loop = notif_loop_new();
	resolver = loop != NULL ? notif_resolver_new(loop) : NULL;
	pool = resolver != NULL ? notif_h2_pool_new(loop, resolver, &config, error, sizeof(error)) : NULL;
	for (int i = 0; i < 4 && pool != NULL; i++)
		if (client_submit_timed(submitted, 200, timeout_ms, timeout_ms) == NOTIF_OK)
			submitted++;
	end_us = notif_loop_now_us() + TEST_DEADLINE_US;
	while (answered < submitted && notif_loop_now_us() < end_us)
		pump_once(5);
	if (answered != submitted)
		CHECK_INT(answered, submitted);
	if (pool != NULL)
		notif_h2_pool_free(pool);
	notif_resolver_free(resolver);
	notif_loop_free(loop);
	for (int i = 0; i < submitted; i++)
		if (got[i].times != 1 || (got[i].known == NOTIF_NOT_SENT && server.seen[i] > 0))
		{
			fprintf(stderr, "  allocation %ld, request %d: seen %d\n", fail_from, i, server.seen[i]);
			CHECK_INT(got[i].times, 1);
			CHECK(got[i].known != NOTIF_NOT_SENT || server.seen[i] == 0);
		}
	pool = NULL;
	/* The server forgets the connection's client. */
	for (int i = 0; i < server.n_conns; i++)
		server_drop(&server.conns[i]);
	server.n_conns = 0;
	memset(server.seen, 0, sizeof(server.seen));
}

static void
answer_body(ServerConn *conn, int32_t id, int nth)
{
	(void) nth;
	server_respond(conn, id, 400, "{\"reason\":\"BadDeviceToken\"}");
}

/* One turn in which allocations from the nth on fail; true if nothing leaked. */
static bool
memory_turn(long from, long to, int timeout_ms)
{
	static const NotifMemHooks hooks = {failing_malloc, failing_realloc, failing_free};

	allocations = 0;
	fail_from = from;
	fail_to = to;
	live = 0;
	notif_mem_set_hooks(&hooks);
	memory_scenario(timeout_ms);
	notif_mem_set_hooks(NULL);
	if (live != 0)
		fprintf(stderr, "  %ld blocks lost after failure of allocation %ld\n", live, from);
	return live == 0;
}

/* F-P-17.  Each allocation fails once, alone or with those that follow it. */
static void
test_memory(int run)
{
	NotifLoop  *kept_loop = loop;
	NotifResolver *kept_resolver = resolver;
	long		total;
	int			leaks = 0;

	server_start(&good_cert, true);
	server.on_request = answer_body;
	CHECK(memory_turn(0, 0, 8000));
	CHECK_INT(got[3].known, NOTIF_ANSWERED);
	CHECK_STR(got[3].body, "{\"reason\":\"BadDeviceToken\"}");
	total = allocations;
	CHECK(total > 50);
	for (long n = 1; n <= total + 2; n++)
		if (!memory_turn(n, n + run, 60))
			leaks++;
	CHECK_INT(leaks, 0);
	/* Nothing of it outlives the shortage. */
	CHECK(memory_turn(0, 0, 8000));
	CHECK_INT(got[3].known, NOTIF_ANSWERED);
	server_stop();
	loop = kept_loop;
	resolver = kept_resolver;
}

int
main(void)
{
	test_begin();
	other_ca = cert_make(NULL, "another CA", NULL, 10);
	test_certificates();
	test_numeric_host();
	test_client_certificate();
	test_unreachable();
	test_silence();
	test_thrown_out();
	test_memory(1);
	test_memory(30);
	cert_free(&other_ca);
	test_teardown();
	return unit_done();
}
