/*
 * key.h
 *		Private keys that sign: loading and checking.
 *
 * Error lines never hold key material or bytes of the input.
 */
#ifndef NOTIF_CRYPTO_KEY_H
#define NOTIF_CRYPTO_KEY_H

#include <stddef.h>

#include "../core/status.h"

typedef struct NotifKey NotifKey;

/*
 * An EC P-256 private key from PEM text (PKCS#8 as Apple's .p8 files, or
 * SEC 1), not encrypted.  NOTIF_EINVAL, with a line in error, if it is
 * anything else.  The caller frees the key.
 */
NotifStatus notif_key_load_p256(const char *pem, NotifKey **key, char *error, size_t error_size);
void		notif_key_free(NotifKey *key);	/* accepts NULL */

/*
 * Checks that the first certificate of the PEM chain belongs to the private
 * key (any algorithm).  NOTIF_EINVAL with a line in error if either cannot be
 * read or they do not match.
 */
NotifStatus notif_key_check_pair(const char *cert_pem, const char *key_pem,
								 char *error, size_t error_size);

/* Overwrites a secret so that the compiler cannot leave it out. */
void		notif_key_cleanse(void *secret, size_t len);

#endif							/* NOTIF_CRYPTO_KEY_H */
