/*
 * tls.c
 *		OpenSSL behind tls.h.
 *
 * The socket is driven through a BIO of our own instead of BIO_s_socket, for
 * three reasons: send() can say MSG_NOSIGNAL, so nobody has to touch SIGPIPE;
 * bytes on the wire are counted; and a failed send does not put the SSL
 * object into its error state, so answers that the peer sent before it closed
 * can still be read.  Those answers decide between UNKNOWN and ANSWERED.
 *
 * Read-ahead with a large buffer lets one recv() fetch several records;
 * OpenSSL would otherwise do two per record.
 *
 * OpenSSL's own atexit handler is switched off before anything else: it would
 * free state under threads that other libraries in the process may still run.
 */
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "../core/mem.h"

#define TLS_READ_BUFFER (4 * (NOTIF_TLS_RECORD + 256))

struct NotifTls
{
	SSL_CTX    *ctx;
	char	   *host;
	bool		numeric;		/* host is an address: no SNI, IP verified */
};

struct NotifTlsLink
{
	SSL		   *ssl;
	int			fd;
	bool		eof;
	bool		deaf;			/* the peer takes no more data */
	bool		tls_error;
	bool		broken;			/* the SSL object must not be used any more */
	int			socket_errno;
	uint64_t	bytes_out;
	uint64_t	bytes_in;
	char		error[160];
};

/* One for the process, kept: OpenSSL has only 127 type numbers to give. */
static BIO_METHOD *tls_method;

static bool tls_init(void);
static bool tls_trust(NotifTls *tls, const char *ca_file, char *error, size_t error_size);
static bool tls_identify(NotifTls *tls, const char *cert_pem, const char *key_pem,
						 char *error, size_t error_size);
static void tls_reason(char *error, size_t error_size, const char *what);
static NotifTlsStep link_result(NotifTlsLink *link, int rc, const char *what);
static int	link_bio_read(BIO *bio, char *data, int len);
static int	link_bio_write(BIO *bio, const char *data, int len);
static long link_bio_ctrl(BIO *bio, int cmd, long num, void *ptr);

NotifTls *
notif_tls_new(const char *host, const char *ca_file, const char *cert_pem, const char *key_pem,
			  char *error, size_t error_size)
{
	NotifTls   *tls;
	struct in6_addr address;
	static const unsigned char alpn[] = {2, 'h', '2'};

	if (!tls_init())
	{
		snprintf(error, error_size, "TLS library cannot be initialised");
		return NULL;
	}
	ERR_clear_error();
	tls = notif_calloc(1, sizeof(*tls));
	if (tls == NULL)
	{
		snprintf(error, error_size, "out of memory");
		return NULL;
	}
	tls->host = notif_strdup(host);
	tls->numeric = inet_pton(AF_INET, host, &address) == 1 ||
		inet_pton(AF_INET6, host, &address) == 1;
	tls->ctx = SSL_CTX_new(TLS_client_method());
	if (tls->host == NULL || tls->ctx == NULL ||
		SSL_CTX_set_min_proto_version(tls->ctx, TLS1_2_VERSION) != 1 ||
		SSL_CTX_set_alpn_protos(tls->ctx, alpn, sizeof(alpn)) != 0)
	{
		tls_reason(error, error_size, "TLS context");
		notif_tls_free(tls);
		return NULL;
	}
	SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_options(tls->ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(tls->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(tls->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(tls->ctx, 1);
	SSL_CTX_set_default_read_buffer_len(tls->ctx, TLS_READ_BUFFER);
	if (!tls_trust(tls, ca_file, error, error_size) ||
		!tls_identify(tls, cert_pem, key_pem, error, error_size))
	{
		notif_tls_free(tls);
		return NULL;
	}
	return tls;
}

void
notif_tls_free(NotifTls *tls)
{
	if (tls == NULL)
		return;
	SSL_CTX_free(tls->ctx);
	notif_free(tls->host);
	notif_free(tls);
}

static bool
tls_init(void)
{
	if (OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL) != 1 ||
		OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, NULL) != 1)
		return false;
	if (tls_method == NULL)
	{
		BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK,
										  "notif socket");

		if (method == NULL || BIO_meth_set_read(method, link_bio_read) != 1 ||
			BIO_meth_set_write(method, link_bio_write) != 1 ||
			BIO_meth_set_ctrl(method, link_bio_ctrl) != 1)
		{
			BIO_meth_free(method);
			return false;
		}
		tls_method = method;
	}
	return true;
}

static bool
tls_trust(NotifTls *tls, const char *ca_file, char *error, size_t error_size)
{
	int			rc;

	if (ca_file != NULL)
		rc = SSL_CTX_load_verify_file(tls->ctx, ca_file);
	else
		rc = SSL_CTX_set_default_verify_paths(tls->ctx);
	if (rc == 1)
		return true;
	tls_reason(error, error_size, "CA file cannot be used");
	return false;
}

/* Never asks a terminal for a pass phrase, as OpenSSL would by default. */
static int
tls_no_passphrase(char *data, int size, int writing, void *ud)
{
	(void) data;
	(void) size;
	(void) writing;
	(void) ud;
	return 0;
}

static bool
tls_identify(NotifTls *tls, const char *cert_pem, const char *key_pem,
			 char *error, size_t error_size)
{
	BIO		   *bio = NULL;
	X509	   *cert = NULL;
	EVP_PKEY   *key = NULL;
	const char *what = "client certificate cannot be read";
	bool		ok = false;

	if (cert_pem == NULL && key_pem == NULL)
		return true;
	if (cert_pem == NULL || key_pem == NULL)
	{
		snprintf(error, error_size, "client certificate and key must be given together");
		return false;
	}
	bio = BIO_new_mem_buf(cert_pem, -1);
	if (bio != NULL)
		cert = PEM_read_bio_X509(bio, NULL, tls_no_passphrase, NULL);
	if (cert == NULL || SSL_CTX_use_certificate(tls->ctx, cert) != 1)
		goto done;
	for (;;)
	{
		X509	   *next = PEM_read_bio_X509(bio, NULL, tls_no_passphrase, NULL);

		if (next == NULL)
			break;
		if (SSL_CTX_add0_chain_cert(tls->ctx, next) != 1)
		{
			X509_free(next);
			goto done;
		}
	}
	ERR_clear_error();			/* "no start line" ends the chain */
	BIO_free(bio);
	what = "client key cannot be read";
	bio = BIO_new_mem_buf(key_pem, -1);
	if (bio != NULL)
		key = PEM_read_bio_PrivateKey(bio, NULL, tls_no_passphrase, NULL);
	if (key == NULL)
		goto done;
	what = "client key does not belong to the certificate";
	ok = SSL_CTX_use_PrivateKey(tls->ctx, key) == 1 &&
		SSL_CTX_check_private_key(tls->ctx) == 1;
done:
	if (!ok)
		tls_reason(error, error_size, what);
	EVP_PKEY_free(key);
	X509_free(cert);
	BIO_free(bio);
	return ok;
}

/* Writes "what: reason of the oldest error" and empties the error queue. */
static void
tls_reason(char *error, size_t error_size, const char *what)
{
	unsigned long code = ERR_get_error();
	const char *reason = NULL;

	if (code != 0)
		reason = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) :
			ERR_reason_error_string(code);
	if (reason != NULL)
		snprintf(error, error_size, "%s: %s", what, reason);
	else
		snprintf(error, error_size, "%s", what);
	ERR_clear_error();
}

NotifTlsLink *
notif_tls_link_new(NotifTls *tls, int fd)
{
	NotifTlsLink *link = notif_calloc(1, sizeof(*link));
	BIO		   *bio;
	bool		named;

	if (link == NULL)
		return NULL;
	ERR_clear_error();
	link->fd = fd;
	link->ssl = SSL_new(tls->ctx);
	bio = BIO_new(tls_method);
	if (link->ssl == NULL || bio == NULL)
	{
		BIO_free(bio);
		notif_tls_link_free(link);
		return NULL;
	}
	BIO_set_data(bio, link);
	BIO_set_init(bio, 1);
	SSL_set_bio(link->ssl, bio, bio);
	SSL_set_connect_state(link->ssl);
	SSL_set_hostflags(link->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (tls->numeric)
		named = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(link->ssl), tls->host) == 1;
	else
		named = SSL_set1_host(link->ssl, tls->host) == 1 &&
			SSL_set_tlsext_host_name(link->ssl, tls->host) == 1;
	if (!named)
	{
		/* Without a name nothing would be verified: better no connection. */
		notif_tls_link_free(link);
		return NULL;
	}
	return link;
}

void
notif_tls_link_free(NotifTlsLink *link)
{
	if (link == NULL)
		return;
	SSL_free(link->ssl);
	notif_free(link);
}

NotifTlsStep
notif_tls_handshake(NotifTlsLink *link)
{
	const unsigned char *protocol = NULL;
	unsigned	len = 0;
	int			rc;
	long		verdict;

	ERR_clear_error();
	rc = SSL_do_handshake(link->ssl);
	if (rc != 1)
	{
		NotifTlsStep step = link_result(link, rc, "TLS handshake failed");

		verdict = SSL_get_verify_result(link->ssl);
		if (step == NOTIF_TLS_FAILED && verdict != X509_V_OK)
			snprintf(link->error, sizeof(link->error), "certificate not accepted: %s",
					 X509_verify_cert_error_string(verdict));
		return step;
	}
	verdict = SSL_get_verify_result(link->ssl);
	if (verdict != X509_V_OK)
	{
		link->tls_error = true;
		snprintf(link->error, sizeof(link->error), "certificate not accepted: %s",
				 X509_verify_cert_error_string(verdict));
		return NOTIF_TLS_FAILED;
	}
	SSL_get0_alpn_selected(link->ssl, &protocol, &len);
	if (len != 2 || memcmp(protocol, "h2", 2) != 0)
	{
		snprintf(link->error, sizeof(link->error), "the server does not offer HTTP/2 (ALPN)");
		return NOTIF_TLS_FAILED;
	}
	return NOTIF_TLS_DONE;
}

NotifTlsStep
notif_tls_read(NotifTlsLink *link, void *data, size_t size, size_t *got)
{
	if (link->broken)
		return NOTIF_TLS_CLOSED;
	ERR_clear_error();
	if (SSL_read_ex(link->ssl, data, size, got) == 1)
		return NOTIF_TLS_DONE;
	*got = 0;
	return link_result(link, 0, "TLS read failed");
}

NotifTlsStep
notif_tls_write(NotifTlsLink *link, const void *data, size_t len, size_t *put)
{
	*put = 0;
	if (link->broken)
		return NOTIF_TLS_CLOSED;
	if (link->deaf)
		return NOTIF_TLS_WANT_READ;
	ERR_clear_error();
	if (len > NOTIF_TLS_RECORD)
		len = NOTIF_TLS_RECORD;
	if (SSL_write_ex(link->ssl, data, len, put) == 1)
		return NOTIF_TLS_DONE;
	*put = 0;
	if (link->deaf)
		return NOTIF_TLS_WANT_READ;
	return link_result(link, 0, "TLS write failed");
}

bool
notif_tls_pending(const NotifTlsLink *link)
{
	return !link->broken && SSL_has_pending(link->ssl) == 1;
}

void
notif_tls_bye(NotifTlsLink *link)
{
	if (link->broken || link->deaf || !SSL_is_init_finished(link->ssl))
		return;
	ERR_clear_error();
	(void) SSL_shutdown(link->ssl);
	ERR_clear_error();
}

const char *
notif_tls_error(const NotifTlsLink *link)
{
	return link->error;
}

bool
notif_tls_is_tls_error(const NotifTlsLink *link)
{
	return link->tls_error;
}

uint64_t
notif_tls_bytes_out(const NotifTlsLink *link)
{
	return link->bytes_out;
}

uint64_t
notif_tls_bytes_in(const NotifTlsLink *link)
{
	return link->bytes_in;
}

static NotifTlsStep
link_result(NotifTlsLink *link, int rc, const char *what)
{
	switch (SSL_get_error(link->ssl, rc))
	{
		case SSL_ERROR_WANT_READ:
			return NOTIF_TLS_WANT_READ;
		case SSL_ERROR_WANT_WRITE:
			/* Only a handshake gets here with a deaf peer. */
			if (!link->deaf)
				return NOTIF_TLS_WANT_WRITE;
			break;
		case SSL_ERROR_ZERO_RETURN:
			link->broken = true;
			snprintf(link->error, sizeof(link->error), "connection closed by the server");
			return NOTIF_TLS_CLOSED;
		default:
			break;
	}
	link->broken = true;
	if (link->socket_errno != 0)
	{
		ERR_clear_error();
		snprintf(link->error, sizeof(link->error), "connection lost: %s",
				 strerror(link->socket_errno));
		return NOTIF_TLS_CLOSED;
	}
	if (link->eof)
	{
		ERR_clear_error();
		snprintf(link->error, sizeof(link->error), "connection closed by the server");
		return NOTIF_TLS_CLOSED;
	}
	link->tls_error = true;
	tls_reason(link->error, sizeof(link->error), what);
	return NOTIF_TLS_FAILED;
}

static int
link_bio_read(BIO *bio, char *data, int len)
{
	NotifTlsLink *link = BIO_get_data(bio);
	ssize_t		n;

	BIO_clear_retry_flags(bio);
	do
		n = recv(link->fd, data, (size_t) len, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0)
	{
		link->bytes_in += (uint64_t) n;
		return (int) n;
	}
	if (n == 0)
	{
		link->eof = true;
		return 0;
	}
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		BIO_set_retry_read(bio);
	else
		link->socket_errno = errno;
	return -1;
}

static int
link_bio_write(BIO *bio, const char *data, int len)
{
	NotifTlsLink *link = BIO_get_data(bio);
	ssize_t		n;

	BIO_clear_retry_flags(bio);
	do
		n = send(link->fd, data, (size_t) len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
	{
		link->bytes_out += (uint64_t) n;
		return (int) n;
	}
	/* Pretended to be "later", so that reading goes on; see the top. */
	if (errno != EAGAIN && errno != EWOULDBLOCK)
	{
		link->deaf = true;
		link->socket_errno = errno;
	}
	BIO_set_retry_write(bio);
	return -1;
}

static long
link_bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	NotifTlsLink *link = BIO_get_data(bio);

	(void) num;
	(void) ptr;
	switch (cmd)
	{
		case BIO_CTRL_FLUSH:
		case BIO_CTRL_DUP:
			return 1;
		case BIO_CTRL_EOF:
			return link != NULL && link->eof;
		default:
			return 0;
	}
}
