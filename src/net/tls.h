/*
 * tls.h
 *		TLS clients on non-blocking sockets: always verified, always ALPN h2.
 *
 * A NotifTls is what all connections to one origin share (trust, client
 * certificate, expected name); a NotifTlsLink is one connection.  There is no
 * way to switch verification off.
 */
#ifndef NOTIF_NET_TLS_H
#define NOTIF_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct NotifTls NotifTls;
typedef struct NotifTlsLink NotifTlsLink;

#define NOTIF_TLS_RECORD 16384	/* most plaintext that one write takes */

typedef enum NotifTlsStep
{
	NOTIF_TLS_DONE,				/* handshake complete; bytes read or written */
	NOTIF_TLS_WANT_READ,		/* go on when the socket is readable */
	NOTIF_TLS_WANT_WRITE,		/* go on when it is writable */
	NOTIF_TLS_CLOSED,			/* the peer is gone; nothing more will come */
	NOTIF_TLS_FAILED			/* see notif_tls_error() */
} NotifTlsStep;

/*
 * host: name (or numeric address) that the certificate must carry.  ca_file
 * NULL: the system's trust store.  cert_pem/key_pem: client certificate chain
 * and its unencrypted key, or both NULL.  On failure NULL and a line without
 * key material in error.
 */
NotifTls   *notif_tls_new(const char *host, const char *ca_file, const char *cert_pem,
						  const char *key_pem, char *error, size_t error_size);
void		notif_tls_free(NotifTls *tls);	/* accepts NULL */

/* fd: a connected non-blocking socket, stays the caller's.  NULL: no memory. */
NotifTlsLink *notif_tls_link_new(NotifTls *tls, int fd);
void		notif_tls_link_free(NotifTlsLink *link);	/* accepts NULL */

/* DONE means: certificate verified and h2 agreed on. */
NotifTlsStep notif_tls_handshake(NotifTlsLink *link);

/* DONE with *got > 0. */
NotifTlsStep notif_tls_read(NotifTlsLink *link, void *data, size_t size, size_t *got);

/*
 * Takes up to NOTIF_TLS_RECORD bytes as one record.  After WANT_* the same
 * bytes (or more, beginning with the same) must be offered again.  When the
 * peer no longer takes data this answers WANT_READ for ever: what the peer
 * had to say is still to be read, and reading finds the end.
 */
NotifTlsStep notif_tls_write(NotifTlsLink *link, const void *data, size_t len, size_t *put);

/* Input is waiting inside the library, where epoll does not see it. */
bool		notif_tls_pending(const NotifTlsLink *link);

/* Sends close_notify as far as that goes without waiting. */
void		notif_tls_bye(NotifTlsLink *link);

/* One line about the last FAILED or CLOSED; "" before. */
const char *notif_tls_error(const NotifTlsLink *link);

/* True if the last FAILED was TLS's own doing, not the socket's. */
bool		notif_tls_is_tls_error(const NotifTlsLink *link);

/* Bytes on the wire so far. */
uint64_t	notif_tls_bytes_out(const NotifTlsLink *link);
uint64_t	notif_tls_bytes_in(const NotifTlsLink *link);

#endif							/* NOTIF_NET_TLS_H */
