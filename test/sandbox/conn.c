/*
 * conn.c
 *		TLS connections: accepting, reading, writing, closing.
 *
 * Reading feeds nghttp2 as it comes; writing happens only in sb_conn_flush,
 * at the end of a turn and after the ledger.  A connection is freed only in
 * sb_conn_sweep, so that pointers from epoll stay valid through a turn.
 *
 * A connection that the sandbox ends on purpose lingers: it is closed for
 * writing and what still arrives is read and dropped, since closing at once
 * would send a reset that destroys the GOAWAY on its way to the client.
 */
#include "sandbox.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#define CONN_READS_PER_TURN	16
#define CONN_RECORD			16384
#define CONN_OUT_LIMIT		(1 << 20)
#define CONN_READ_BUFFER	(128 * 1024)
#define CONN_LINGER_US		2000000

static SSL_CTX *conn_ctx;
static SSL_CTX *conn_ctx_good;
static SbConn *conn_dead;
static char conn_input[CONN_RECORD];

static int
conn_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in,
		  unsigned int inlen, void *arg)
{
	(void) ssl;
	(void) arg;
	for (unsigned int i = 0; i < inlen; i += 1u + in[i])
		if (in[i] == 2 && i + 2 < inlen && in[i + 1] == 'h' && in[i + 2] == '2')
		{
			*out = in + i + 1;
			*outlen = 2;
			return SSL_TLSEXT_ERR_OK;
		}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* A bad client certificate is answered over HTTP, as Apple does. */
static int
conn_verify(int ok, X509_STORE_CTX *store)
{
	(void) ok;
	(void) store;
	return 1;
}

static SSL_CTX *
conn_context(const char *base, bool alpn)
{
	SSL_CTX    *ctx = SSL_CTX_new(TLS_server_method());
	char		cert[4096];
	char		key[4096];
	char		ca[4096];

	snprintf(cert, sizeof(cert), "%s/%s.pem", sb.opt.dir, base);
	snprintf(key, sizeof(key), "%s/%s.key", sb.opt.dir, base);
	snprintf(ca, sizeof(ca), "%s/ca.pem", sb.opt.dir);
	if (ctx == NULL || SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
		SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
		SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1)
		sb_die("cannot use certificate \"%s\"", cert);
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, conn_verify);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *) "notif", 5);
	/* resumption would skip the client certificate's verification result */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, CONN_READ_BUFFER);
	if (alpn)
		SSL_CTX_set_alpn_select_cb(ctx, conn_alpn, NULL);
	return ctx;
}

void
sb_conn_init(void)
{
	conn_ctx_good = conn_context("server", true);
	conn_ctx = conn_ctx_good;
}

/* Chooses what new connections are shown; false for an unknown kind. */
bool
sb_conn_tls(const char *kind)
{
	static const char *const kinds[] = {"expired", "wronghost", "selfsigned", "unknownca"};
	SSL_CTX    *ctx = NULL;
	char		base[32];

	if (strcmp(kind, "good") == 0)
		ctx = conn_ctx_good;
	else if (strcmp(kind, "noalpn") == 0)
		ctx = conn_context("server", false);
	else if (strcmp(kind, "tls10") == 0)
	{
		ctx = conn_context("server", true);
		SSL_CTX_set_security_level(ctx, 0);
		SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
		SSL_CTX_set_max_proto_version(ctx, TLS1_VERSION);
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kind, kinds[i]) == 0)
		{
			snprintf(base, sizeof(base), "server_%s", kind);
			ctx = conn_context(base, true);
		}
	if (ctx == NULL)
		return false;
	if (conn_ctx != conn_ctx_good)
		SSL_CTX_free(conn_ctx);
	conn_ctx = ctx;
	return true;
}

/* Takes over an accepted, non-blocking socket. */
void
sb_conn_accept(int fd)
{
	SbConn	   *c = sb_alloc(sizeof(*c));
	int			on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	c->watch.kind = SB_WATCH_APNS;
	c->watch.fd = fd;
	c->number = ++sb.stats.connections;
	sb.stats.open_connections++;
	c->ssl = SSL_new(conn_ctx);
	if (c->ssl == NULL || SSL_set_fd(c->ssl, fd) != 1)
		sb_die("cannot make a TLS connection");
	SSL_set_accept_state(c->ssl);
	c->last_active_us = sb_mono_us();
	c->next = sb.conns;
	if (sb.conns != NULL)
		sb.conns->prev = c;
	sb.conns = c;
	sb_loop_watch(&c->watch, EPOLLIN, true);
}

/* Puts the connection on the list of those flushed at the end of the turn. */
void
sb_conn_mark(SbConn *c)
{
	if (c->dirty || c->dead)
		return;
	c->dirty = true;
	c->next_dirty = sb.dirty;
	sb.dirty = c;
}

/* Gives the connection up; memory goes in sb_conn_sweep. */
void
sb_conn_kill(SbConn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	if (c->prev != NULL)
		c->prev->next = c->next;
	else
		sb.conns = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	c->next = conn_dead;
	conn_dead = c;
	sb.stats.open_connections--;
}

/* Who is calling: a client certificate replaces the provider token. */
static void
conn_identify(SbConn *c)
{
	X509	   *cert = SSL_get0_peer_certificate(c->ssl);

	if (cert == NULL)
		return;
	c->cert_auth = true;
	c->cert_bad = SSL_get_verify_result(c->ssl) != X509_V_OK ||
		X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_userId, c->cert_topic,
								  sizeof(c->cert_topic)) <= 0;
}

static bool
conn_handshake(SbConn *c)
{
	int			ret = SSL_do_handshake(c->ssl);
	int			err;

	if (ret == 1)
	{
		c->handshaken = true;
		conn_identify(c);
		sb_h2_open(c);
		return true;
	}
	err = SSL_get_error(c->ssl, ret);
	if (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE)
		return false;
	sb.stats.tls_errors++;
	ERR_clear_error();
	sb_conn_kill(c);
	return false;
}

static void
conn_discard(SbConn *c)
{
	ssize_t		n;

	while ((n = recv(c->watch.fd, conn_input, sizeof(conn_input), 0)) > 0)
		;
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		sb_conn_kill(c);
}

/* Reads what has come, within the bounds of a turn. */
void
sb_conn_readable(SbConn *c)
{
	c->again = false;
	if (c->dead)
		return;
	if (c->lingering)
	{
		conn_discard(c);
		return;
	}
	if (!c->handshaken && !conn_handshake(c))
		return;
	/* a client that does not read its answers is not read either */
	if (c->out.len - c->out_off > CONN_OUT_LIMIT)
		return;
	sb_conn_mark(c);
	for (int i = 0; i < CONN_READS_PER_TURN && !c->cut; i++)
	{
		int			n = SSL_read(c->ssl, conn_input, sizeof(conn_input));
		ssize_t		used;

		if (n <= 0)
		{
			int			err = SSL_get_error(c->ssl, n);

			if (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE)
				return;
			ERR_clear_error();
			sb_conn_kill(c);
			return;
		}
		used = nghttp2_session_mem_recv(c->session, (const uint8_t *) conn_input, (size_t) n);
		if (used < 0)
		{
			sb_h2_failed(c);
			return;
		}
		c->last_active_us = -1;	/* set to the turn's time by the flush */
	}
	c->again = true;
	sb.again = true;
}

static void
conn_close_write(SbConn *c)
{
	/* the fault "cut" must look like a broken line, not like a farewell */
	if (c->finished)
		SSL_shutdown(c->ssl);
	shutdown(c->watch.fd, SHUT_WR);
	c->lingering = true;
	c->linger_due_us = sb_mono_us() + CONN_LINGER_US;
	/* hung streams of a closed connection must not be answered any more */
	sb_h2_close(c);
}

static void
conn_want_write(SbConn *c, bool want)
{
	if (c->want_write == want)
		return;
	c->want_write = want;
	sb_loop_watch(&c->watch, want ? EPOLLIN | EPOLLOUT : EPOLLIN, false);
}

/* Writes everything the session has; must come after the ledger's flush. */
void
sb_conn_flush(SbConn *c)
{
	if (c->dead || c->lingering)
		return;
	if (!c->handshaken)
		return;
	if (c->last_active_us < 0)
		c->last_active_us = sb_mono_us();
	for (;;)
	{
		const uint8_t *data;
		ssize_t		n = 0;
		int			written;

		while (!c->finished && c->out.len - c->out_off < CONN_RECORD &&
			   (n = nghttp2_session_mem_send(c->session, &data)) > 0)
			sb_buf_put(&c->out, data, (size_t) n);
		if (n < 0)
		{
			sb_conn_kill(c);
			return;
		}
		if (c->out.len == c->out_off)
			break;
		written = SSL_write(c->ssl, c->out.data + c->out_off, (int) (c->out.len - c->out_off));
		if (written <= 0)
		{
			int			err = SSL_get_error(c->ssl, written);

			if (err == SSL_ERROR_WANT_WRITE || err == SSL_ERROR_WANT_READ)
			{
				conn_want_write(c, true);
				return;
			}
			ERR_clear_error();
			sb_conn_kill(c);
			return;
		}
		c->out_off += (size_t) written;
		if (c->out_off == c->out.len)
			c->out.len = c->out_off = 0;
		else if (c->out_off >= CONN_RECORD)
		{
			memmove(c->out.data, c->out.data + c->out_off, c->out.len - c->out_off);
			c->out.len -= c->out_off;
			c->out_off = 0;
		}
	}
	conn_want_write(c, false);
	if (c->cut)
		conn_close_write(c);
	else if (!nghttp2_session_want_read(c->session) && !nghttp2_session_want_write(c->session))
	{
		c->finished = true;
		conn_close_write(c);
	}
}

/* Frees the connections given up in this turn. */
void
sb_conn_sweep(void)
{
	SbConn	   *c;

	while ((c = conn_dead) != NULL)
	{
		conn_dead = c->next;
		sb_h2_close(c);
		SSL_free(c->ssl);
		close(c->watch.fd);
		free(c->out.data);
		free(c);
	}
}
