/*
 * test_crypto_jwt.c
 *		Base64url, key loading and ES256 tokens, verified with OpenSSL.
 */
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "../../src/core/mem.h"
#include "../../src/crypto/base64url.h"
#include "../../src/crypto/jwt.h"
#include "fail_alloc.h"
#include "unit.h"

/* PKCS#8 PEM text of a key; the caller frees it. */
static char *
pem_of(EVP_PKEY *pkey, const char *passphrase)
{
	BIO		   *bio = BIO_new(BIO_s_mem());
	char	   *data;
	char	   *copy;
	long		len;

	PEM_write_bio_PKCS8PrivateKey(bio, pkey, passphrase != NULL ? EVP_aes_128_cbc() : NULL,
								  passphrase, passphrase != NULL ? (int) strlen(passphrase) : 0,
								  NULL, NULL);
	len = BIO_get_mem_data(bio, &data);
	copy = notif_strndup(data, (size_t) len);
	BIO_free(bio);
	return copy;
}

static char *
certificate_of(EVP_PKEY *pkey)
{
	X509	   *cert = X509_new();
	BIO		   *bio = BIO_new(BIO_s_mem());
	char	   *data;
	char	   *copy;
	long		len;

	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, pkey);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
							   (const unsigned char *) "unit", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	X509_sign(cert, pkey, EVP_sha256());
	PEM_write_bio_X509(bio, cert);
	len = BIO_get_mem_data(bio, &data);
	copy = notif_strndup(data, (size_t) len);
	BIO_free(bio);
	X509_free(cert);
	return copy;
}

static void
test_base64url(void)
{
	/* RFC 4648 section 10, without padding; and the two characters of its own */
	static const struct
	{
		const char *plain;
		const char *encoded;
	}			cases[] = {
		{"", ""}, {"f", "Zg"}, {"fo", "Zm8"}, {"foo", "Zm9v"}, {"foob", "Zm9vYg"},
		{"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xFB\xEF\xFF", "--__"},
	};
	static const char *const bad[] = {"A", "Zg==", "Zh", "Zm9", "Zm9v!", "Zm+v", "Zm/v", " Zm9v", "AAAAA"};
	NotifBuf	buf;

	notif_buf_init(&buf, 1024);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		notif_buf_reset(&buf);
		CHECK_INT(notif_base64url_encode(&buf, cases[i].plain, strlen(cases[i].plain)), NOTIF_OK);
		CHECK_STR(notif_buf_text(&buf), cases[i].encoded);
		notif_buf_reset(&buf);
		CHECK_INT(notif_base64url_decode(&buf, cases[i].encoded, strlen(cases[i].encoded)), NOTIF_OK);
		CHECK_STR(notif_buf_text(&buf), cases[i].plain);
	}
	notif_buf_reset(&buf);
	notif_buf_adds(&buf, "keep");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_INT(notif_base64url_decode(&buf, bad[i], strlen(bad[i])), NOTIF_EINVAL);
	CHECK_STR(notif_buf_text(&buf), "keep");
	CHECK_INT(notif_base64url_encode(&buf, bad, 2000), NOTIF_ETOOBIG);
	notif_buf_free(&buf);
}

static void
test_load(void)
{
	EVP_PKEY   *p256 = EVP_EC_gen("P-256");
	EVP_PKEY   *p384 = EVP_EC_gen("P-384");
	EVP_PKEY   *rsa = EVP_RSA_gen(2048);
	char	   *good = pem_of(p256, NULL);
	char	   *encrypted = pem_of(p256, "secret");
	char	   *other_curve = pem_of(p384, NULL);
	char	   *other_kind = pem_of(rsa, NULL);
	char	   *broken = notif_strdup(good);
	char	   *cert = certificate_of(p256);
	char	   *cert_rsa = certificate_of(rsa);
	char		error[256];
	NotifKey   *key;

	CHECK_INT(notif_key_load_p256(good, &key, error, sizeof(error)), NOTIF_OK);
	notif_key_free(key);
	notif_key_free(NULL);
	error[0] = '\0';
	CHECK_INT(notif_key_load_p256(encrypted, &key, error, sizeof(error)), NOTIF_EINVAL);
	CHECK_STR(error, "the key is not an unencrypted private key in PEM form");
	CHECK(key == NULL);
	CHECK_INT(notif_key_load_p256(other_curve, &key, error, sizeof(error)), NOTIF_EINVAL);
	CHECK_STR(error, "the key is not an EC key on curve P-256");
	CHECK_INT(notif_key_load_p256(other_kind, &key, error, sizeof(error)), NOTIF_EINVAL);
	CHECK_STR(error, "the key is not an EC key on curve P-256");
	memcpy(broken + 60, "!!!!", 4);
	CHECK_INT(notif_key_load_p256(broken, &key, error, sizeof(error)), NOTIF_EINVAL);
	CHECK(strstr(error, "!!!!") == NULL);
	CHECK_INT(notif_key_load_p256("", &key, NULL, 0), NOTIF_EINVAL);
	CHECK_INT(notif_key_load_p256(cert, &key, NULL, 0), NOTIF_EINVAL);

	CHECK_INT(notif_key_check_pair(cert, good, error, sizeof(error)), NOTIF_OK);
	CHECK_INT(notif_key_check_pair(cert_rsa, other_kind, error, sizeof(error)), NOTIF_OK);
	CHECK_INT(notif_key_check_pair(cert_rsa, good, error, sizeof(error)), NOTIF_EINVAL);
	CHECK_STR(error, "the key does not belong to the certificate");
	CHECK_INT(notif_key_check_pair("x", good, error, sizeof(error)), NOTIF_EINVAL);
	CHECK_STR(error, "the certificate is not in PEM form");
	CHECK_INT(notif_key_check_pair(cert, "x", error, sizeof(error)), NOTIF_EINVAL);

	for (long n = 1; fail_alloc_begin(n), notif_key_load_p256(good, &key, error, sizeof(error)),
		 fail_alloc_end(); n++)
		CHECK(key == NULL);
	notif_key_free(key);

	notif_free(good);
	notif_free(encrypted);
	notif_free(other_curve);
	notif_free(other_kind);
	notif_free(broken);
	notif_free(cert);
	notif_free(cert_rsa);
	EVP_PKEY_free(p256);
	EVP_PKEY_free(p384);
	EVP_PKEY_free(rsa);
}

/* Verifies r || s against data with the public half of pkey. */
static bool
verifies(EVP_PKEY *pkey, const void *data, size_t len, const unsigned char raw[64])
{
	ECDSA_SIG  *sig = ECDSA_SIG_new();
	unsigned char *der = NULL;
	int			der_len;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool		ok;

	ECDSA_SIG_set0(sig, BN_bin2bn(raw, 32, NULL), BN_bin2bn(raw + 32, 32, NULL));
	der_len = i2d_ECDSA_SIG(sig, &der);
	ok = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, pkey) == 1 &&
		EVP_DigestVerify(ctx, der, (size_t) der_len, data, len) == 1;
	EVP_MD_CTX_free(ctx);
	OPENSSL_free(der);
	ECDSA_SIG_free(sig);
	return ok;
}

static void
test_tokens(void)
{
	EVP_PKEY   *pkey = EVP_EC_gen("P-256");
	char	   *pem = pem_of(pkey, NULL);
	NotifKey   *key;
	NotifBuf	token;
	NotifBuf	part;
	int			bad = 0;
	int			short_r = 0;
	int			short_s = 0;
	char	   *dot1;
	char	   *dot2;
	long		failures = 0;

	CHECK_INT(notif_key_load_p256(pem, &key, NULL, 0), NOTIF_OK);
	notif_buf_init(&token, 1024);
	notif_buf_init(&part, 1024);
	CHECK_INT(notif_jwt_apns(key, "ABC123DEFG", "DEF123GHIJ", 1437179036, &token), NOTIF_OK);
	dot1 = strchr(token.data, '.');
	dot2 = strrchr(token.data, '.');
	CHECK(dot1 != NULL && dot2 > dot1);
	CHECK_INT(notif_base64url_decode(&part, token.data, (size_t) (dot1 - token.data)), NOTIF_OK);
	CHECK_STR(part.data, "{\"alg\":\"ES256\",\"kid\":\"ABC123DEFG\"}");
	notif_buf_reset(&part);
	CHECK_INT(notif_base64url_decode(&part, dot1 + 1, (size_t) (dot2 - dot1 - 1)), NOTIF_OK);
	CHECK_STR(part.data, "{\"iss\":\"DEF123GHIJ\",\"iat\":1437179036}");
	notif_buf_reset(&part);
	CHECK_INT(notif_base64url_decode(&part, dot2 + 1, strlen(dot2 + 1)), NOTIF_OK);
	CHECK_INT(part.len, 64);
	CHECK(verifies(pkey, token.data, (size_t) (dot2 - token.data), (unsigned char *) part.data));
	part.data[40] ^= 1;
	CHECK(!verifies(pkey, token.data, (size_t) (dot2 - token.data), (unsigned char *) part.data));

	/* r or s below 2^248 comes once in 128 signatures: both must be padded */
	for (int i = 0; i < 20000 && (i < 500 || short_r < 2 || short_s < 2); i++)
	{
		unsigned char raw[64];

		memset(raw, 0xAA, sizeof(raw));
		bad += notif_jwt_sign_es256(key, &i, sizeof(i), raw) != NOTIF_OK;
		bad += !verifies(pkey, &i, sizeof(i), raw);
		short_r += raw[0] == 0;
		short_s += raw[32] == 0;
	}
	CHECK_INT(bad, 0);
	CHECK(short_r >= 2);
	CHECK(short_s >= 2);

	CHECK_INT(notif_jwt_apns(key, "A\"B", "DEF123GHIJ", 1, &token), NOTIF_EINVAL);
	CHECK_INT(notif_jwt_apns(key, "ABC123DEFG", "", 1, &token), NOTIF_EINVAL);

	for (long n = 1; notif_buf_free(&token), fail_alloc_begin(n),
		 notif_jwt_apns(key, "ABC123DEFG", "DEF123GHIJ", 1, &token), fail_alloc_end(); n++)
	{
		failures++;
		CHECK_INT(token.len, 0);
	}
	CHECK(failures > 0);
	notif_buf_free(&token);
	notif_buf_free(&part);
	notif_key_free(key);
	notif_free(pem);
	EVP_PKEY_free(pkey);
}

/* DER forms by hand: one byte integers, leading zeros, garbage. */
static void
test_raw_signature(void)
{
	static const unsigned char tiny[] = {0x30, 0x06, 0x02, 0x01, 0x05, 0x02, 0x01, 0x07};
	static const unsigned char high_bit[] = {0x30, 0x08, 0x02, 0x02, 0x00, 0x80, 0x02, 0x02, 0x00, 0xFF};
	static const unsigned char trailing[] = {0x30, 0x06, 0x02, 0x01, 0x05, 0x02, 0x01, 0x07, 0x00};
	unsigned char large[4 + 33 + 3] = {0x30, 0x26, 0x02, 0x21, 0x01};
	unsigned char raw[64];

	CHECK_INT(notif_jwt_raw_signature(tiny, sizeof(tiny), raw), NOTIF_OK);
	CHECK(raw[30] == 0 && raw[31] == 5 && raw[62] == 0 && raw[63] == 7);
	CHECK_INT(notif_jwt_raw_signature(high_bit, sizeof(high_bit), raw), NOTIF_OK);
	CHECK(raw[30] == 0 && raw[31] == 0x80 && raw[62] == 0 && raw[63] == 0xFF);
	CHECK_INT(notif_jwt_raw_signature(trailing, sizeof(trailing), raw), NOTIF_EINVAL);
	CHECK_INT(notif_jwt_raw_signature(tiny, 5, raw), NOTIF_EINVAL);
	memcpy(large + 37, "\x02\x01\x07", 3);	/* r of 33 bytes */
	CHECK_INT(notif_jwt_raw_signature(large, sizeof(large), raw), NOTIF_EINVAL);
}

int
main(void)
{
	test_base64url();
	test_load();
	test_tokens();
	test_raw_signature();
	return unit_done();
}
