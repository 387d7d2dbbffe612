/*
 * key_internal.h
 *		What is inside a NotifKey, for the signers in this folder.
 */
#ifndef NOTIF_CRYPTO_KEY_INTERNAL_H
#define NOTIF_CRYPTO_KEY_INTERNAL_H

#include <openssl/evp.h>

#include "key.h"

struct NotifKey
{
	EVP_PKEY   *pkey;			/* owned */
};

#endif							/* NOTIF_CRYPTO_KEY_INTERNAL_H */
