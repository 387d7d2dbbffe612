/*
 * keys.c
 *		The test credentials of notif-sandbox, made once per directory.
 *
 * DIR gets a certificate authority, a server certificate for localhost, an
 * APNs signing key pair and a client certificate for certificate
 * authentication.  What exists is kept, so that a restarted sandbox is still
 * trusted by clients configured before.  Every set is generated whole or not
 * at all: a CA without the certificates it signed would only confuse.
 *
 * Three more server certificates exist to be refused: one expired, one for
 * another host, one signed by nobody.  They carry the TLS faults.
 */
#include "sandbox.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#define KEYS_DAY	86400L

static void __attribute__((noreturn))
keys_fail(const char *what)
{
	char		text[256];

	ERR_error_string_n(ERR_get_error(), text, sizeof(text));
	sb_die("%s: %s", what, text);
}

static bool
keys_exists(const SbOptions *opt, const char *name)
{
	char		path[4096];

	snprintf(path, sizeof(path), "%s/%s", opt->dir, name);
	return access(path, R_OK) == 0;
}

static FILE *
keys_create(const SbOptions *opt, const char *name, bool secret)
{
	char		path[4096];
	mode_t		mode = secret ? (opt->mode_group ? 0640 : 0600) : 0644;
	int			fd;
	FILE	   *file;

	snprintf(path, sizeof(path), "%s/%s", opt->dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd < 0)
		sb_die("cannot create \"%s\": %m", path);
	/* umask must not decide who reads a key */
	if (fchmod(fd, mode) != 0)
		sb_die("cannot set the mode of \"%s\": %m", path);
	file = fdopen(fd, "w");
	if (file == NULL)
		sb_die("cannot open \"%s\": %m", path);
	return file;
}

static void
keys_close(FILE *file)
{
	if (fclose(file) != 0)
		sb_die("cannot write a key file: %m");
}

static void
keys_write_private(const SbOptions *opt, const char *name, EVP_PKEY *key)
{
	FILE	   *file = keys_create(opt, name, true);

	if (!PEM_write_PKCS8PrivateKey(file, key, NULL, NULL, 0, NULL, NULL))
		keys_fail(name);
	keys_close(file);
}

static void
keys_write_cert(const SbOptions *opt, const char *name, X509 *cert)
{
	FILE	   *file = keys_create(opt, name, false);

	if (!PEM_write_X509(file, cert))
		keys_fail(name);
	keys_close(file);
}

static EVP_PKEY *
keys_new(void)
{
	EVP_PKEY   *key = EVP_EC_gen("P-256");

	if (key == NULL)
		keys_fail("cannot generate a P-256 key");
	return key;
}

static void
keys_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX	ctx;
	X509_EXTENSION *ext;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (ext == NULL || !X509_add_ext(cert, ext, -1))
		keys_fail(value);
	X509_EXTENSION_free(ext);
}

/*
 * A certificate for key, signed by ca_key; ca NULL makes it self-signed.
 * from and until are seconds relative to now.  The caller frees the result.
 */
static X509 *
keys_cert(EVP_PKEY *key, X509 *ca, EVP_PKEY *ca_key, const char *cn, const char *uid,
		  const char *san, const char *usage, long from, long until)
{
	X509	   *cert = X509_new();
	X509_NAME  *name;
	uint64_t	serial;

	if (cert == NULL || RAND_bytes((unsigned char *) &serial, sizeof(serial)) != 1)
		keys_fail("cannot make a certificate");
	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), from);
	X509_gmtime_adj(X509_getm_notAfter(cert), until);
	X509_set_pubkey(cert, key);
	name = X509_get_subject_name(cert);
	if (uid != NULL)
		X509_NAME_add_entry_by_NID(name, NID_userId, MBSTRING_UTF8,
								   (const unsigned char *) uid, -1, -1, 0);
	X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
							   (const unsigned char *) cn, -1, -1, 0);
	X509_set_issuer_name(cert, ca != NULL ? X509_get_subject_name(ca) : name);
	keys_extension(cert, ca != NULL ? ca : cert, NID_basic_constraints,
				   usage == NULL ? "critical,CA:TRUE" : "critical,CA:FALSE");
	keys_extension(cert, ca != NULL ? ca : cert, NID_subject_key_identifier, "hash");
	if (usage != NULL)
		keys_extension(cert, ca != NULL ? ca : cert, NID_ext_key_usage, usage);
	else
		keys_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign");
	if (san != NULL)
		keys_extension(cert, ca != NULL ? ca : cert, NID_subject_alt_name, san);
	if (!X509_sign(cert, ca_key, EVP_sha256()))
		keys_fail("cannot sign a certificate");
	return cert;
}

static void
keys_pair(const SbOptions *opt, const char *base, X509 *ca, EVP_PKEY *ca_key, const char *cn,
		  const char *uid, const char *san, const char *usage, long from, long until)
{
	EVP_PKEY   *key = keys_new();
	X509	   *cert = keys_cert(key, ca, ca_key != NULL ? ca_key : key, cn, uid, san, usage,
								 from, until);
	char		name[64];

	snprintf(name, sizeof(name), "%s.key", base);
	keys_write_private(opt, name, key);
	snprintf(name, sizeof(name), "%s.pem", base);
	keys_write_cert(opt, name, cert);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void
keys_make_tls(const SbOptions *opt)
{
	const char *here = "DNS:localhost,IP:127.0.0.1,IP:::1";
	const char *server = "serverAuth";
	EVP_PKEY   *ca_key = keys_new();
	X509	   *ca = keys_cert(ca_key, NULL, ca_key, "notif sandbox CA", NULL, NULL, NULL,
							   -KEYS_DAY, 3650 * KEYS_DAY);
	EVP_PKEY   *other_key = keys_new();
	X509	   *other = keys_cert(other_key, NULL, other_key, "another CA", NULL, NULL, NULL,
								  -KEYS_DAY, 3650 * KEYS_DAY);
	char		cn[160];

	keys_write_private(opt, "ca.key", ca_key);
	keys_pair(opt, "server", ca, ca_key, "localhost", NULL, here, server,
			  -KEYS_DAY, 825 * KEYS_DAY);
	keys_pair(opt, "server_expired", ca, ca_key, "localhost", NULL, here, server,
			  -30 * KEYS_DAY, -KEYS_DAY);
	keys_pair(opt, "server_wronghost", ca, ca_key, "other.invalid", NULL,
			  "DNS:other.invalid", server, -KEYS_DAY, 825 * KEYS_DAY);
	keys_pair(opt, "server_unknownca", other, other_key, "localhost", NULL, here, server,
			  -KEYS_DAY, 825 * KEYS_DAY);
	keys_pair(opt, "server_selfsigned", NULL, NULL, "localhost", NULL, here, server,
			  -KEYS_DAY, 825 * KEYS_DAY);
	snprintf(cn, sizeof(cn), "Apple Push Services: %s", opt->topics[0]);
	/* X.520 ends a common name at 64 characters */
	cn[64] = '\0';
	keys_pair(opt, "client", ca, ca_key, cn, opt->topics[0], NULL, "clientAuth",
			  -KEYS_DAY, 825 * KEYS_DAY);
	/* last, because its presence means that the set is complete */
	keys_write_cert(opt, "ca.pem", ca);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
	X509_free(other);
	EVP_PKEY_free(other_key);
}

static void
keys_make_apns(const SbOptions *opt)
{
	EVP_PKEY   *key = keys_new();
	FILE	   *file;

	keys_write_private(opt, "apns_key.p8", key);
	file = keys_create(opt, "apns_key.pub", false);
	if (!PEM_write_PUBKEY(file, key))
		keys_fail("apns_key.pub");
	keys_close(file);
	EVP_PKEY_free(key);
}

/* Creates in opt->dir whatever credentials are absent. */
void
sb_keys_ensure(const SbOptions *opt)
{
	if (mkdir(opt->dir, 0755) != 0 && access(opt->dir, W_OK) != 0)
		sb_die("cannot create directory \"%s\": %m", opt->dir);
	if (!keys_exists(opt, "ca.pem") || !keys_exists(opt, "server.key"))
		keys_make_tls(opt);
	if (!keys_exists(opt, "apns_key.pub"))
		keys_make_apns(opt);
}

/* The key that provider tokens must be signed with; the caller owns it. */
EVP_PKEY *
sb_keys_load_public(const SbOptions *opt)
{
	char		path[4096];
	FILE	   *file;
	EVP_PKEY   *key;

	if (opt->public_key != NULL)
		snprintf(path, sizeof(path), "%s", opt->public_key);
	else
		snprintf(path, sizeof(path), "%s/apns_key.pub", opt->dir);
	file = fopen(path, "re");
	if (file == NULL)
		sb_die("cannot read \"%s\": %m", path);
	key = PEM_read_PUBKEY(file, NULL, NULL, NULL);
	if (key == NULL)
		keys_fail(path);
	fclose(file);
	if (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC || EVP_PKEY_get_bits(key) != 256)
		sb_die("\"%s\" is not a P-256 key", path);
	return key;
}
