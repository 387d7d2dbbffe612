/*
 * base64url.h
 *		Base64 with the URL-safe alphabet, without padding (RFC 4648 section 5).
 */
#ifndef NOTIF_CRYPTO_BASE64URL_H
#define NOTIF_CRYPTO_BASE64URL_H

#include <stddef.h>

#include "../core/buf.h"
#include "../core/status.h"

/* Appends the encoding of data. */
NotifStatus notif_base64url_encode(NotifBuf *buf, const void *data, size_t len);

/*
 * Appends the bytes that text encodes.  NOTIF_EINVAL on any other character,
 * padding included, an impossible length, or bits that no byte owns.
 */
NotifStatus notif_base64url_decode(NotifBuf *buf, const char *text, size_t len);

#endif							/* NOTIF_CRYPTO_BASE64URL_H */
