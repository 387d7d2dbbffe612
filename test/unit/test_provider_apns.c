/*
 * test_provider_apns.c
 *		APNs accounts and requests.
 */
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "../../src/core/mem.h"
#include "../../src/crypto/base64url.h"
#include "../../src/message/data.h"
#include "../../src/provider/apns.h"
#include "fail_alloc.h"
#include "unit.h"

static const NotifProviderOps *ops;
static char key_pem[2048];
static char cert_pem[4096];

#define TOKEN "{\"team_id\":\"ABCDE12345\",\"key_id\":\"KEY1234567\",\"topic\":\"com.example.app\"}"
#define ID "01900000-0000-7000-8000-00000000000a"
#define DEVICE "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"

static void
take(BIO *bio, char *out, size_t size)
{
	char	   *text;
	long		len = BIO_get_mem_data(bio, &text);

	snprintf(out, size, "%.*s", (int) len, text);
	BIO_free(bio);
}

static void
make_keys(void)
{
	EVP_PKEY   *pkey = EVP_EC_gen("P-256");
	X509	   *cert = X509_new();
	BIO		   *bio = BIO_new(BIO_s_mem());

	PEM_write_bio_PKCS8PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL);
	take(bio, key_pem, sizeof(key_pem));
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, pkey);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
							   (const unsigned char *) "unit", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	X509_sign(cert, pkey, EVP_sha256());
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_X509(bio, cert);
	take(bio, cert_pem, sizeof(cert_pem));
	X509_free(cert);
	EVP_PKEY_free(pkey);
}

static void
test_accounts(void)
{
	static const struct
	{
		const char *settings;
		const char *host;
		int			port;
		const char *address;
		const char *ca_file;
		int			max_connections;
	}			good[] = {
		{TOKEN, "api.push.apple.com", 443, NULL, NULL, 2},
		{"{\"team_id\":\"ABCDE12345\",\"key_id\":\"KEY1234567\",\"topic\":\"a\",\"environment\":\"sandbox\",\"max_connections\":32}",
		"api.sandbox.push.apple.com", 443, NULL, NULL, 32},
		{"{\"team_id\":\"ABCDE12345\",\"key_id\":\"KEY1234567\",\"topic\":\"a\",\"environment\":\"production\",\"host\":\"localhost\","
			"\"port\":2197,\"address\":\"127.0.0.1\",\"ca_file\":\"ca.pem\"}", "localhost", 2197, "127.0.0.1", "ca.pem", 2},
	};
	NotifAccount *account;
	NotifAccountOrigin origin;
	char		error[256];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		error[0] = '\0';
		CHECK_INT(ops->account_new(good[i].settings, key_pem, NULL, &account, error, sizeof(error)), NOTIF_OK);
		CHECK_STR(error, "");
		ops->account_origin(account, &origin);
		CHECK_STR(origin.host, good[i].host);
		CHECK_INT(origin.port, good[i].port);
		CHECK_STR(origin.address, good[i].address);
		CHECK_STR(origin.ca_file, good[i].ca_file);
		CHECK_INT(origin.max_connections, good[i].max_connections);
		CHECK(origin.token_auth && origin.cert_pem == NULL && origin.key_pem == NULL);
		ops->account_free(account);
	}
	CHECK_INT(ops->account_new("{}", key_pem, cert_pem, &account, error, sizeof(error)), NOTIF_OK);
	ops->account_origin(account, &origin);
	CHECK(!origin.token_auth);
	CHECK_STR(origin.cert_pem, cert_pem);
	CHECK_STR(origin.key_pem, key_pem);
	{
		NotifBuf	token;

		notif_buf_init(&token, 100);
		CHECK_INT(ops->mint(account, 1, &token), NOTIF_ESTATE);
	}
	ops->account_free(account);
	ops->account_free(NULL);
}

#define IDS "\"team_id\":\"ABCDE12345\",\"key_id\":\"KEY1234567\""

static void
test_accounts_refused(void)
{
	static const struct
	{
		const char *settings;
		const char *error;
	}			bad[] = {
		{"", "the settings are not a JSON object"},
		{"[]", "the settings are not a JSON object"},
		{"{\"team\":1}", "unknown setting \"team\""},
		{"{\"team_id\":1}", "setting \"team_id\" must be a string"},
		{"{\"team_id\":\"\"}", "setting \"team_id\" is empty"},
		{"{\"team_id\":\"abcde12345\",\"key_id\":\"KEY1234567\",\"topic\":\"a\"}", "setting \"team_id\" must be 10 upper-case letters or digits"},
		{"{\"team_id\":\"ABCDE123456\",\"key_id\":\"KEY1234567\",\"topic\":\"a\"}", "setting \"team_id\" must be 10 upper-case letters or digits"},
		{"{\"key_id\":\"KEY1234567\",\"topic\":\"a\"}", "setting \"team_id\" must be 10 upper-case letters or digits"},
		{"{\"team_id\":\"ABCDE12345\",\"topic\":\"a\"}", "setting \"key_id\" must be 10 upper-case letters or digits"},
		{"{" IDS "}", "setting \"topic\" (the bundle id) is missing"},
		{"{" IDS ",\"topic\":\"a b\"}", "setting \"topic\" is not a bundle id"},
		{"{" IDS ",\"topic\":\"a\",\"environment\":\"test\"}", "setting \"environment\" must be \"production\" or \"sandbox\""},
		{"{" IDS ",\"topic\":\"a\",\"port\":0}", "setting \"port\" must be a number from 1 to 65535"},
		{"{" IDS ",\"topic\":\"a\",\"port\":65536}", "setting \"port\" must be a number from 1 to 65535"},
		{"{" IDS ",\"topic\":\"a\",\"port\":\"443\"}", "setting \"port\" must be a number from 1 to 65535"},
		{"{" IDS ",\"topic\":\"a\",\"max_connections\":33}", "setting \"max_connections\" must be a number from 1 to 32"},
		{"{" IDS ",\"topic\":\"a\",\"max_connections\":1.5}", "setting \"max_connections\" must be a number from 1 to 32"},
		{"{" IDS ",\"topic\":\"a\",\"host\":\"a/b\"}", "setting \"host\" is not a host name"},
	};
	NotifAccount *account;
	char		error[256];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		error[0] = '\0';
		CHECK_INT(ops->account_new(bad[i].settings, key_pem, NULL, &account, error, sizeof(error)), NOTIF_EINVAL);
		CHECK_STR(error, bad[i].error);
		CHECK(account == NULL);
		CHECK_INT(ops->account_new(bad[i].settings, key_pem, NULL, &account, NULL, 100), NOTIF_EINVAL);
	}
	CHECK_INT(ops->account_new(TOKEN, NULL, NULL, &account, error, sizeof(error)), NOTIF_EINVAL);
	CHECK_STR(error, "the signing key is missing");
	CHECK_INT(ops->account_new(TOKEN, "secret", NULL, &account, error, sizeof(error)), NOTIF_EINVAL);
	CHECK_STR(error, "the key is not an unencrypted private key in PEM form");
	CHECK_INT(ops->account_new(TOKEN, key_pem, cert_pem, &account, error, sizeof(error)), NOTIF_EINVAL);
	CHECK_STR(error, "setting \"team_id\" belongs to authentication by token, but a certificate is given");
	CHECK_INT(ops->account_new("{}", "", cert_pem, &account, error, sizeof(error)), NOTIF_EINVAL);
	CHECK_STR(error, "the certificate's private key is missing");
	CHECK_INT(ops->account_new("{}", key_pem, "x", &account, error, sizeof(error)), NOTIF_EINVAL);
	CHECK_STR(error, "the certificate is not in PEM form");
}

static void
test_tokens_valid(void)
{
	char		token[300];

	CHECK(notif_apns_token_valid(DEVICE));
	CHECK(notif_apns_token_valid("ABCDEF01"));
	CHECK(!notif_apns_token_valid(""));
	CHECK(!notif_apns_token_valid("abcdef"));
	CHECK(!notif_apns_token_valid("abcdef012"));
	CHECK(!notif_apns_token_valid("abcdef0g"));
	CHECK(!notif_apns_token_valid("abcdef0 "));
	CHECK(!notif_apns_token_valid("../../abcdef"));
	memset(token, 'a', sizeof(token));
	token[200] = '\0';
	CHECK(notif_apns_token_valid(token));
	token[200] = 'a';
	token[202] = '\0';
	CHECK(!notif_apns_token_valid(token));
}

/* The value of a header as text, NULL if it is not there; checks its policy. */
static const char *
header(const NotifH2Request *request, const char *name, NotifHeaderIndex index)
{
	static char value[8][1024];
	static int	slot;

	for (int i = 0; i < request->n_headers; i++)
	{
		const NotifHeader *h = &request->headers[i];

		if (strcmp(h->name, name) != 0)
			continue;
		CHECK_INT(h->index, index);
		slot = (slot + 1) % 8;
		snprintf(value[slot], sizeof(value[slot]), "%.*s", (int) h->value_len, h->value);
		return value[slot];
	}
	return NULL;
}

static void
test_build(void)
{
	static const struct
	{
		const char *options;
		const char *topic;
		const char *push_type;
		const char *priority;
	}			types[] = {
		{"{}", "com.example.app", "alert", "10"},
		{"{\"priority\":5}", "com.example.app", "alert", "5"},
		{"{\"priority\":1,\"topic\":\"org.other\"}", "org.other", "alert", "1"},
		{"{\"push_type\":\"background\"}", "com.example.app", "background", "5"},
		{"{\"push_type\":\"voip\"}", "com.example.app.voip", "voip", "10"},
		{"{\"push_type\":\"complication\"}", "com.example.app.complication", "complication", "10"},
		{"{\"push_type\":\"controls\"}", "com.example.app.push-type.controls", "controls", "10"},
		{"{\"push_type\":\"fileprovider\"}", "com.example.app.pushkit.fileprovider", "fileprovider", "10"},
		{"{\"push_type\":\"liveactivity\",\"event\":\"update\",\"priority\":5}",
		"com.example.app.push-type.liveactivity", "liveactivity", "5"},
		{"{\"push_type\":\"location\"}", "com.example.app.location-query", "location", "10"},
		{"{\"push_type\":\"mdm\",\"topic\":\"com.apple.mgmt.External.1\"}", "com.apple.mgmt.External.1", "mdm", "10"},
		{"{\"push_type\":\"pushtotalk\"}", "com.example.app.voip-ptt", "pushtotalk", "10"},
		{"{\"push_type\":\"widgets\"}", "com.example.app.push-type.widgets", "widgets", "10"},
		{"{\"push_type\":\"voip\",\"topic\":\"org.other\"}", "org.other.voip", "voip", "10"},
		{"{\"push_type\":\"voip\",\"topic\":\"org.other.voip\"}", "org.other.voip", "voip", "10"},
	};
	NotifAccount *account;
	NotifAccount *by_cert;
	NotifVars	vars = {.event_time_s = 1700000000};
	NotifMessage message = {.delivery_id = ID, .address = DEVICE, .vars = &vars};
	NotifBuf	scratch;
	NotifH2Request request;
	char		error[256] = "";

	CHECK_INT(ops->account_new(TOKEN, key_pem, NULL, &account, error, sizeof(error)), NOTIF_OK);
	CHECK_INT(ops->account_new("{}", key_pem, cert_pem, &by_cert, error, sizeof(error)), NOTIF_OK);
	notif_buf_init(&scratch, 8192);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
	{
		NotifMessageTemplate *tmpl;
		bool		alert = strcmp(types[i].push_type, "alert") == 0;
		bool		location = strcmp(types[i].push_type, "location") == 0;

		CHECK_INT(ops->template_new(alert ? "Hello" : NULL, NULL, types[i].options, &tmpl, error, sizeof(error)), NOTIF_OK);
		memset(&request, 0xA5, sizeof(request));
		request.timeout_ms = 77;
		notif_buf_reset(&scratch);
		CHECK_INT(ops->build(account, tmpl, &message, "tok.en", &scratch, &request, error, sizeof(error)), NOTIF_OK);
		CHECK_STR(request.method, "POST");
		CHECK_STR(request.path, "/3/device/" DEVICE);
		CHECK_STR(header(&request, "apns-topic", NOTIF_INDEX_VALUE), types[i].topic);
		CHECK_STR(header(&request, "apns-push-type", NOTIF_INDEX_VALUE), types[i].push_type);
		CHECK_STR(header(&request, "apns-priority", NOTIF_INDEX_VALUE), types[i].priority);
		CHECK_STR(header(&request, "authorization", NOTIF_INDEX_VALUE), "bearer tok.en");
		CHECK_STR(header(&request, "apns-id", NOTIF_INDEX_NAME), ID);
		CHECK(header(&request, "apns-expiration", NOTIF_INDEX_NAME) == NULL);
		CHECK(header(&request, "apns-collapse-id", NOTIF_INDEX_NAME) == NULL);
		CHECK_INT(request.timeout_ms, 77);
		CHECK_INT(request.body_len, strlen(request.body));
		if (alert)
			CHECK_STR((const char *) request.body, "{\"aps\":{\"alert\":{\"title\":\"Hello\"}}}");

		/* with a certificate: no token, and no topic unless the type has one */
		notif_buf_reset(&scratch);
		CHECK_INT(ops->build(by_cert, tmpl, &message, NULL, &scratch, &request, error, sizeof(error)),
				  location ? NOTIF_EINVAL : NOTIF_OK);
		if (!location)
		{
			CHECK(header(&request, "authorization", NOTIF_INDEX_VALUE) == NULL);
			CHECK_STR(header(&request, "apns-topic", NOTIF_INDEX_VALUE),
					  strstr(types[i].options, "topic") != NULL ? types[i].topic : NULL);
		}
		ops->template_free(tmpl);
	}
	notif_buf_free(&scratch);
	ops->account_free(account);
	ops->account_free(by_cert);
}

static void
test_messages(void)
{
	static const char key64[] = "0123456789012345678901234567890123456789012345678901234567890123";
	static const struct
	{
		const char *id;
		const char *address;
		const char *collapse_key;
		int64_t		expires_at_s;
		NotifStatus status;
		const char *error;
	}			cases[] = {
		{ID, "ABCDEF0123456789", key64, 1700003600, NOTIF_OK, ""},
		{ID, "abc", NULL, 0, NOTIF_EINVAL, "device token"},
		{ID, "zz34567890", NULL, 0, NOTIF_EINVAL, "device token"},
		{"01900000-0000-7000-8000-00000000000A", DEVICE, NULL, 0, NOTIF_EINVAL, "delivery id"},
		{"01900000", DEVICE, NULL, 0, NOTIF_EINVAL, "delivery id"},
		{"", DEVICE, NULL, 0, NOTIF_EINVAL, "delivery id"},
		{ID, DEVICE, "01234567890123456789012345678901234567890123456789012345678901234", 0, NOTIF_EINVAL, "collapse key"},
		{ID, DEVICE, "a\nb", 0, NOTIF_EINVAL, "collapse key"},
		{ID, DEVICE, " a", 0, NOTIF_EINVAL, "collapse key"},
		{ID, DEVICE, "", 0, NOTIF_EINVAL, "collapse key"},
		{ID, DEVICE, NULL, -1, NOTIF_EINVAL, "expiry"},
	};
	NotifAccount *account;
	NotifMessageTemplate *tmpl;
	NotifVars	vars = {.event_time_s = 1700000000};
	NotifBuf	scratch;
	NotifH2Request request;
	char		error[256];
	NotifStatus status;

	notif_buf_init(&scratch, 8192);
	CHECK_INT(ops->account_new(TOKEN, key_pem, NULL, &account, error, sizeof(error)), NOTIF_OK);
	CHECK_INT(ops->template_new("T", NULL, NULL, &tmpl, error, sizeof(error)), NOTIF_OK);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		NotifMessage message = {
			.delivery_id = cases[i].id, .address = cases[i].address,
			.collapse_key = cases[i].collapse_key, .expires_at_s = cases[i].expires_at_s, .vars = &vars
		};

		error[0] = '\0';
		notif_buf_reset(&scratch);
		CHECK_INT(ops->build(account, tmpl, &message, "t", &scratch, &request, error, sizeof(error)), cases[i].status);
		CHECK_STR(error, cases[i].error);
		CHECK_INT(ops->build(account, tmpl, &message, "t", &scratch, &request, NULL, 9), cases[i].status);
	}
	{
		NotifMessage message = {
			.delivery_id = ID, .address = "ABCDEF0123456789", .collapse_key = key64,
			.expires_at_s = 1700003600, .vars = &vars
		};

		notif_buf_reset(&scratch);
		notif_buf_adds(&scratch, "kept");	/* build appends */
		CHECK_INT(ops->build(account, tmpl, &message, "t", &scratch, &request, error, sizeof(error)), NOTIF_OK);
		CHECK_STR(request.path, "/3/device/abcdef0123456789");
		CHECK_STR(header(&request, "apns-expiration", NOTIF_INDEX_NAME), "1700003600");
		CHECK_STR(header(&request, "apns-collapse-id", NOTIF_INDEX_NAME), key64);
		CHECK(strncmp(scratch.data, "kept{", 5) == 0);
		CHECK_INT(ops->build(account, tmpl, &message, NULL, &scratch, &request, error, sizeof(error)), NOTIF_EINVAL);
		CHECK_STR(error, "no provider token");

		/* every size of scratch that is too small is refused and left as it was */
		for (size_t cap = 0;; cap++)
		{
			notif_buf_free(&scratch);
			notif_buf_init(&scratch, cap);
			status = ops->build(account, tmpl, &message, "t", &scratch, &request, error, sizeof(error));
			if (status == NOTIF_OK)
				break;
			if (status != NOTIF_ETOOBIG || scratch.len != 0)
				CHECK_INT(status, NOTIF_ETOOBIG);
		}
		CHECK(scratch.cap > 50 && scratch.cap < 200);
		for (long n = 1; notif_buf_free(&scratch), fail_alloc_begin(n),
			 status = ops->build(account, tmpl, &message, "t", &scratch, &request, error, sizeof(error)),
			 fail_alloc_end(); n++)
			CHECK_INT(status, NOTIF_ENOMEM);
		CHECK_INT(status, NOTIF_OK);
	}
	notif_buf_free(&scratch);
	ops->template_free(tmpl);
	ops->account_free(account);
}

static void
test_mint(void)
{
	NotifAccount *account;
	NotifBuf	token;
	NotifBuf	part;
	char	   *dot;

	notif_buf_init(&token, 1024);
	notif_buf_init(&part, 1024);
	CHECK_INT(ops->account_new(TOKEN, key_pem, NULL, &account, NULL, 0), NOTIF_OK);
	CHECK_INT(ops->mint(account, 1700000000, &token), NOTIF_OK);
	dot = strchr(token.data, '.');
	CHECK_INT(notif_base64url_decode(&part, token.data, (size_t) (dot - token.data)), NOTIF_OK);
	CHECK_STR(part.data, "{\"alg\":\"ES256\",\"kid\":\"KEY1234567\"}");
	notif_buf_reset(&part);
	CHECK_INT(notif_base64url_decode(&part, dot + 1, (size_t) (strrchr(token.data, '.') - dot - 1)), NOTIF_OK);
	CHECK_STR(part.data, "{\"iss\":\"ABCDE12345\",\"iat\":1700000000}");
	notif_buf_free(&token);
	notif_buf_free(&part);
	ops->account_free(account);
}

static void
test_failing_memory(void)
{
	static const char settings[] =
		"{" IDS ",\"topic\":\"a\",\"host\":\"localhost\",\"address\":\"127.0.0.1\",\"ca_file\":\"ca.pem\",\"port\":1}";
	NotifAccount *account;
	NotifStatus status;
	long		failures = 0;

	for (int by_cert = 0; by_cert <= 1; by_cert++)
	{
		for (long n = 1; fail_alloc_begin(n),
			 status = ops->account_new(by_cert ? "{\"environment\":\"sandbox\"}" : settings, key_pem,
									   by_cert ? cert_pem : NULL, &account, NULL, 0),
			 fail_alloc_end(); n++)
		{
			failures++;
			CHECK_INT(status, NOTIF_ENOMEM);
			CHECK(account == NULL);
		}
		CHECK_INT(status, NOTIF_OK);
		ops->account_free(account);
	}
	CHECK(failures > 10);
}

int
main(void)
{
	ops = notif_provider_find("apns");
	make_keys();
	test_accounts();
	test_accounts_refused();
	test_tokens_valid();
	test_build();
	test_messages();
	test_mint();
	test_failing_memory();
	return unit_done();
}
