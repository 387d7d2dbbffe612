/*
 * jwt.h
 *		Signed JSON web tokens (RFC 7515, 7518, 7519) in compact form.
 */
#ifndef NOTIF_CRYPTO_JWT_H
#define NOTIF_CRYPTO_JWT_H

#include <stdint.h>

#include "../core/buf.h"
#include "../core/status.h"
#include "key.h"

#define NOTIF_JWT_SIGNATURE_SIZE	64

/*
 * ECDSA P-256 with SHA-256 over data: r and s as 32 bytes each, big endian
 * (RFC 7518 section 3.4).  NOTIF_ECRYPTO if the library refuses.
 */
NotifStatus notif_jwt_sign_es256(const NotifKey *key, const void *data, size_t len,
								 unsigned char signature[NOTIF_JWT_SIGNATURE_SIZE]);

/* DER ECDSA signature to r || s; NOTIF_EINVAL if it is none of P-256's size. */
NotifStatus notif_jwt_raw_signature(const unsigned char *der, size_t der_len,
									unsigned char signature[NOTIF_JWT_SIGNATURE_SIZE]);

/* Appends header.claims.signature for the two JSON texts. */
NotifStatus notif_jwt_es256(const NotifKey *key, const char *header, const char *claims,
							NotifBuf *token);

/*
 * Appends Apple's provider token (PROVIDERS section 1.4): {"alg":"ES256",
 * "kid"} and {"iss","iat"}, iat in UNIX seconds.  kid and iss must be letters,
 * digits, '.', '-' or '_' (NOTIF_EINVAL), so nothing needs escaping.
 */
NotifStatus notif_jwt_apns(const NotifKey *key, const char *kid, const char *iss, int64_t iat,
						   NotifBuf *token);

#endif							/* NOTIF_CRYPTO_JWT_H */
