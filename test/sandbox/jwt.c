/*
 * jwt.c
 *		Provider tokens: ES256 verification and the cache of verified texts.
 *
 * A token text is verified cryptographically once; later requests carrying
 * the same bytes are recognised by comparison, which proves as much, because
 * the signature covers every byte.  Age is not part of that proof and is
 * judged per request by the caller from iat.  Failures are not cached: an
 * attacker's rubbish must not push the good token out.
 */
#include "sandbox.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>
#include <openssl/ecdsa.h>

#define JWT_BUCKETS		1024
#define JWT_MAX_CACHED	8192	/* then the cache starts anew */
#define JWT_FUTURE_S	60		/* clock skew forgiven to iat */

typedef struct JwtEntry
{
	struct JwtEntry *next;
	uint64_t	hash;
	size_t		len;
	SbJwtInfo	info;
	char		text[];
} JwtEntry;

static EVP_PKEY *jwt_key;
static JwtEntry *jwt_buckets[JWT_BUCKETS];
static unsigned jwt_cached;
static uint64_t jwt_nverified;
static uint64_t jwt_ndistinct;

void
sb_jwt_init(EVP_PKEY *key)
{
	jwt_key = key;
}

uint64_t
sb_jwt_verified(void)
{
	return jwt_nverified;
}

uint64_t
sb_jwt_distinct(void)
{
	return jwt_ndistinct;
}

static int
jwt_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '-')
		return 62;
	if (c == '_')
		return 63;
	return -1;
}

/* Unpadded base64url; returns the length or -1. */
static int
jwt_decode(const char *in, size_t len, uint8_t *out, size_t size)
{
	uint32_t	bits = 0;
	int			nbits = 0;
	size_t		n = 0;

	if (len % 4 == 1)
		return -1;
	for (size_t i = 0; i < len; i++)
	{
		int			digit = jwt_digit(in[i]);

		if (digit < 0)
			return -1;
		bits = bits << 6 | (uint32_t) digit;
		nbits += 6;
		if (nbits >= 8)
		{
			if (n == size)
				return -1;
			nbits -= 8;
			out[n++] = (uint8_t) (bits >> nbits);
		}
	}
	/* left-over bits other than zero would give one token many spellings */
	if ((bits & ((1u << nbits) - 1)) != 0)
		return -1;
	return (int) n;
}

static json_t *
jwt_json(const char *part, size_t len)
{
	uint8_t		text[SB_MAX_JWT];
	int			n = jwt_decode(part, len, text, sizeof(text));

	if (n < 0)
		return NULL;
	return json_loadb((const char *) text, (size_t) n, JSON_REJECT_DUPLICATES, NULL);
}

static bool
jwt_string_is(const json_t *object, const char *key, const char *expected)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value != NULL && strcmp(value, expected) == 0;
}

/* JOSE carries r||s; OpenSSL wants the DER form of the same two numbers. */
static bool
jwt_signature_ok(const char *signed_text, size_t signed_len, const uint8_t raw[64])
{
	ECDSA_SIG  *sig = ECDSA_SIG_new();
	BIGNUM	   *r = BN_bin2bn(raw, 32, NULL);
	BIGNUM	   *s = BN_bin2bn(raw + 32, 32, NULL);
	uint8_t	   *der = NULL;
	int			der_len;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool		ok = false;

	if (sig == NULL || r == NULL || s == NULL || ctx == NULL || !ECDSA_SIG_set0(sig, r, s))
		sb_die("out of memory");
	der_len = i2d_ECDSA_SIG(sig, &der);
	if (der_len > 0)
		ok = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, jwt_key) == 1 &&
			EVP_DigestVerify(ctx, der, (size_t) der_len, (const uint8_t *) signed_text,
							 signed_len) == 1;
	OPENSSL_free(der);
	ECDSA_SIG_free(sig);
	EVP_MD_CTX_free(ctx);
	return ok;
}

static bool
jwt_verify(const char *text, size_t len, int64_t *iat)
{
	const char *dot1 = memchr(text, '.', len);
	const char *dot2;
	const char *end = text + len;
	uint8_t		raw[64];
	json_t	   *header;
	json_t	   *claims;
	json_t	   *when;
	bool		ok;

	if (dot1 == NULL)
		return false;
	dot2 = memchr(dot1 + 1, '.', (size_t) (end - dot1 - 1));
	if (dot2 == NULL ||
		jwt_decode(dot2 + 1, (size_t) (end - dot2 - 1), raw, sizeof(raw)) != 64)
		return false;
	header = jwt_json(text, (size_t) (dot1 - text));
	claims = jwt_json(dot1 + 1, (size_t) (dot2 - dot1 - 1));
	when = json_object_get(claims, "iat");
	ok = jwt_string_is(header, "alg", "ES256") &&
		jwt_string_is(header, "kid", sb.opt.key_id) &&
		jwt_string_is(claims, "iss", sb.opt.team) &&
		json_is_integer(when);
	if (ok)
	{
		*iat = json_integer_value(when);
		jwt_nverified++;
		ok = *iat > 0 && *iat <= sb_now_us() / 1000000 + JWT_FUTURE_S &&
			jwt_signature_ok(text, (size_t) (dot2 - text), raw);
	}
	json_decref(header);
	json_decref(claims);
	return ok;
}

static void
jwt_cache_clear(void)
{
	for (int i = 0; i < JWT_BUCKETS; i++)
		while (jwt_buckets[i] != NULL)
		{
			JwtEntry   *e = jwt_buckets[i];

			jwt_buckets[i] = e->next;
			free(e);
		}
	jwt_cached = 0;
}

/*
 * Judges the value of an authorization header; on SB_JWT_OK fills *info.
 * Says nothing about age.
 */
SbJwtVerdict
sb_jwt_check(const char *value, size_t len, SbJwtInfo *info)
{
	uint64_t	hash;
	JwtEntry   *e;
	int64_t		iat;

	if (len < 7 || strncasecmp(value, "bearer ", 7) != 0)
		return SB_JWT_MISSING;
	value += 7;
	len -= 7;
	if (len > SB_MAX_JWT)
		return SB_JWT_INVALID;
	hash = sb_hash(value, len);
	for (e = jwt_buckets[hash % JWT_BUCKETS]; e != NULL; e = e->next)
		if (e->hash == hash && e->len == len && memcmp(e->text, value, len) == 0)
		{
			*info = e->info;
			return SB_JWT_OK;
		}
	if (!jwt_verify(value, len, &iat))
		return SB_JWT_INVALID;
	if (jwt_cached == JWT_MAX_CACHED)
		jwt_cache_clear();
	e = sb_alloc(sizeof(*e) + len);
	e->hash = hash;
	e->len = len;
	e->info.iat = iat;
	e->info.seen_us = sb_now_us();
	memcpy(e->text, value, len);
	e->next = jwt_buckets[hash % JWT_BUCKETS];
	jwt_buckets[hash % JWT_BUCKETS] = e;
	jwt_cached++;
	jwt_ndistinct++;
	*info = e->info;
	return SB_JWT_OK;
}
