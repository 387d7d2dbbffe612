/*
 * jwt.c
 *		ES256 tokens; see jwt.h.
 *
 * OpenSSL signs in DER, where r and s are integers of varying length; a token
 * wants both as exactly 32 bytes, so short ones are padded on the left.
 */
#include "jwt.h"

#include <inttypes.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base64url.h"
#include "key_internal.h"

#define JWT_DER_MAX 80			/* of P-256: 72 bytes */

NotifStatus
notif_jwt_raw_signature(const unsigned char *der, size_t der_len,
						unsigned char signature[NOTIF_JWT_SIGNATURE_SIZE])
{
	const unsigned char *at = der;
	ECDSA_SIG  *sig;
	bool		ok;

	if (der_len > JWT_DER_MAX)
		return NOTIF_EINVAL;
	sig = d2i_ECDSA_SIG(NULL, &at, (long) der_len);
	ok = sig != NULL && at == der + der_len &&
		BN_bn2binpad(ECDSA_SIG_get0_r(sig), signature, 32) == 32 &&
		BN_bn2binpad(ECDSA_SIG_get0_s(sig), signature + 32, 32) == 32;
	ECDSA_SIG_free(sig);
	ERR_clear_error();
	return ok ? NOTIF_OK : NOTIF_EINVAL;
}

NotifStatus
notif_jwt_sign_es256(const NotifKey *key, const void *data, size_t len,
					 unsigned char signature[NOTIF_JWT_SIGNATURE_SIZE])
{
	unsigned char der[JWT_DER_MAX];
	size_t		der_len = sizeof(der);
	EVP_MD_CTX *ctx;
	bool		ok;

	ERR_clear_error();
	ctx = EVP_MD_CTX_new();
	if (ctx == NULL)
		return NOTIF_ENOMEM;
	ok = EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key->pkey) == 1 &&
		EVP_DigestSign(ctx, der, &der_len, data, len) == 1 &&
		notif_jwt_raw_signature(der, der_len, signature) == NOTIF_OK;
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return ok ? NOTIF_OK : NOTIF_ECRYPTO;
}

NotifStatus
notif_jwt_es256(const NotifKey *key, const char *header, const char *claims, NotifBuf *token)
{
	unsigned char signature[NOTIF_JWT_SIGNATURE_SIZE];
	size_t		before = token->len;
	NotifStatus status;

	status = notif_base64url_encode(token, header, strlen(header));
	if (status == NOTIF_OK)
		status = notif_buf_addc(token, '.');
	if (status == NOTIF_OK)
		status = notif_base64url_encode(token, claims, strlen(claims));
	if (status == NOTIF_OK)
		status = notif_jwt_sign_es256(key, token->data + before, token->len - before, signature);
	if (status == NOTIF_OK)
		status = notif_buf_addc(token, '.');
	if (status == NOTIF_OK)
		status = notif_base64url_encode(token, signature, sizeof(signature));
	if (status != NOTIF_OK && token->data != NULL)
	{
		token->len = before;
		token->data[before] = '\0';
	}
	return status;
}

/* True if text may stand in JSON unescaped and is of a sensible length. */
static bool
jwt_is_name(const char *text)
{
	size_t		len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
							 "0123456789._-");

	return len > 0 && len <= 64 && text[len] == '\0';
}

NotifStatus
notif_jwt_apns(const NotifKey *key, const char *kid, const char *iss, int64_t iat,
			   NotifBuf *token)
{
	char		header[128];
	char		claims[128];

	if (!jwt_is_name(kid) || !jwt_is_name(iss))
		return NOTIF_EINVAL;
	snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"kid\":\"%s\"}", kid);
	snprintf(claims, sizeof(claims), "{\"iss\":\"%s\",\"iat\":%" PRId64 "}", iss, iat);
	return notif_jwt_es256(key, header, claims, token);
}
