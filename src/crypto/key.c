/*
 * key.c
 *		Loading private keys through OpenSSL; see key.h.
 *
 * The OpenSSL error queue is emptied before and after every call: its texts
 * could quote the input, and a stale entry would confuse the next TLS read of
 * the same thread.
 */
#include "key_internal.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "../core/mem.h"

#define KEY_PEM_MAX (64 * 1024)

static NotifStatus
key_error(char *error, size_t error_size, const char *text)
{
	if (error_size > 0)
		snprintf(error, error_size, "%s", text);
	return NOTIF_EINVAL;
}

/* An encrypted key must be an error, never a prompt on some terminal. */
static int
key_no_passphrase(char *buf, int size, int rwflag, void *ud)
{
	(void) buf;
	(void) size;
	(void) rwflag;
	(void) ud;
	return -1;
}

/* Reads the first private key of the PEM text; NULL if there is none. */
static EVP_PKEY *
key_read(const char *pem)
{
	size_t		len = strlen(pem);
	EVP_PKEY   *pkey = NULL;
	BIO		   *bio;

	if (len > KEY_PEM_MAX)
		return NULL;
	ERR_clear_error();
	bio = BIO_new_mem_buf(pem, (int) len);
	if (bio != NULL)
	{
		pkey = PEM_read_bio_PrivateKey(bio, NULL, key_no_passphrase, NULL);
		BIO_free(bio);
	}
	ERR_clear_error();
	return pkey;
}

NotifStatus
notif_key_load_p256(const char *pem, NotifKey **key, char *error, size_t error_size)
{
	char		group[32];
	size_t		group_len = 0;
	EVP_PKEY   *pkey;

	*key = NULL;
	pkey = key_read(pem);
	if (pkey == NULL)
		return key_error(error, error_size,
						 "the key is not an unencrypted private key in PEM form");
	if (!EVP_PKEY_is_a(pkey, "EC") ||
		EVP_PKEY_get_group_name(pkey, group, sizeof(group), &group_len) != 1 ||
		strcmp(group, "prime256v1") != 0)
	{
		EVP_PKEY_free(pkey);
		ERR_clear_error();
		return key_error(error, error_size, "the key is not an EC key on curve P-256");
	}
	*key = notif_malloc(sizeof(NotifKey));
	if (*key == NULL)
	{
		EVP_PKEY_free(pkey);
		return NOTIF_ENOMEM;
	}
	(*key)->pkey = pkey;
	return NOTIF_OK;
}

void
notif_key_free(NotifKey *key)
{
	if (key == NULL)
		return;
	EVP_PKEY_free(key->pkey);	/* cleanses the private part */
	notif_free(key);
}

NotifStatus
notif_key_check_pair(const char *cert_pem, const char *key_pem, char *error, size_t error_size)
{
	size_t		len = strlen(cert_pem);
	X509	   *cert = NULL;
	EVP_PKEY   *pkey;
	BIO		   *bio;
	int			match;

	if (len > KEY_PEM_MAX)
		return key_error(error, error_size, "the certificate chain is too long");
	ERR_clear_error();
	bio = BIO_new_mem_buf(cert_pem, (int) len);
	if (bio != NULL)
	{
		cert = PEM_read_bio_X509(bio, NULL, key_no_passphrase, NULL);
		BIO_free(bio);
	}
	ERR_clear_error();
	if (cert == NULL)
		return key_error(error, error_size, "the certificate is not in PEM form");
	pkey = key_read(key_pem);
	if (pkey == NULL)
	{
		X509_free(cert);
		return key_error(error, error_size,
						 "the key is not an unencrypted private key in PEM form");
	}
	match = X509_check_private_key(cert, pkey);
	EVP_PKEY_free(pkey);
	X509_free(cert);
	ERR_clear_error();
	if (match != 1)
		return key_error(error, error_size, "the key does not belong to the certificate");
	return NOTIF_OK;
}

void
notif_key_cleanse(void *secret, size_t len)
{
	OPENSSL_cleanse(secret, len);
}
