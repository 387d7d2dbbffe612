/*
 * test_core_text.c
 *		UTF-8, buffers and Retry-After.
 */
#include <limits.h>
#include <stdint.h>

#include "../../src/core/buf.h"
#include "fail_alloc.h"
#include "../../src/core/retry_after.h"
#include "../../src/core/text.h"
#include "unit.h"

static void
test_sequence(void)
{
	static const struct
	{
		const char *text;
		size_t		want;
	}			cases[] = {
		{"a", 1}, {"\x7F", 1}, {"\xC2\x80", 2}, {"\xDF\xBF", 2}, {"\xC1\xBF", 0}, {"\xC0\x80", 0},
		{"\x80", 0}, {"\xBF", 0}, {"\xC2", 0}, {"\xC2\x41", 0}, {"\xE0\xA0\x80", 3},
		{"\xE0\x9F\xBF", 0}, {"\xED\x9F\xBF", 3}, {"\xED\xA0\x80", 0}, {"\xED\xBF\xBF", 0},
		{"\xEE\x80\x80", 3}, {"\xEF\xBF\xBF", 3}, {"\xE2\x82", 0}, {"\xF0\x90\x80\x80", 4},
		{"\xF0\x8F\xBF\xBF", 0}, {"\xF4\x8F\xBF\xBF", 4}, {"\xF4\x90\x80\x80", 0},
		{"\xF5\x80\x80\x80", 0}, {"\xFF", 0}, {"\xF0\x9F\x98", 0}, {"", 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK_INT(notif_text_sequence(cases[i].text, strlen(cases[i].text)), cases[i].want);
	CHECK(notif_text_valid("Gr\xC3\xBC\xC3\x9F" "e \xF0\x9F\x98\x80", 12));
	CHECK(!notif_text_valid("Gr\xC3", 3));
	CHECK(notif_text_valid("", 0));
}

static void
test_sanitise(void)
{
	char		out[64];

	notif_text_sanitise("a\0b\nc\x7F" "d\xC2\x85" "e\xC3", 11, out, sizeof(out));
	CHECK_STR(out, "a b c d e\xEF\xBF\xBD");
	CHECK_INT(notif_text_sanitise("\xC3\xBC\xC3\xBC", 4, out, 4), 2);
	CHECK_STR(out, "\xC3\xBC");
	CHECK_INT(notif_text_sanitise("abc", 3, out, 1), 0);
	CHECK_STR(out, "");
	CHECK_INT(notif_text_ascii("Bad\x01T\xC3\xBC" "x", 8, out, sizeof(out)), 8);
	CHECK_STR(out, "Bad?T??x");
	CHECK_INT(notif_text_ascii("abcdef", 6, out, 4), 3);
	CHECK_STR(out, "abc");

	CHECK_INT(notif_text_truncate("abc", 3, 5), 3);
	CHECK_INT(notif_text_truncate("a\xC3\xBC" "b", 4, 2), 1);
	CHECK_INT(notif_text_truncate("a\xC3\xBC" "b", 4, 3), 3);
	CHECK_INT(notif_text_truncate("\xF0\x9F\x98\x80", 4, 3), 0);
}

static void
test_buf(void)
{
	NotifBuf	buf;

	notif_buf_init(&buf, 10);
	CHECK_STR(notif_buf_text(&buf), "");
	CHECK_INT(notif_buf_adds(&buf, "12345"), NOTIF_OK);
	CHECK_INT(notif_buf_adds(&buf, "678901"), NOTIF_ETOOBIG);
	CHECK_STR(notif_buf_text(&buf), "12345");
	CHECK_INT(notif_buf_adds(&buf, "67890"), NOTIF_OK);
	CHECK_INT(notif_buf_addc(&buf, 'x'), NOTIF_ETOOBIG);
	CHECK_INT(buf.len, 10);
	notif_buf_reset(&buf);
	CHECK_STR(notif_buf_text(&buf), "");
	notif_buf_free(&buf);
	CHECK_INT(buf.cap, 10);
}

static void
test_retry_after(void)
{
	/* 784111777 is Sun, 06 Nov 1994 08:49:37 GMT */
	static const struct
	{
		const char *value;
		int64_t		now;
		int			want;
		int			delta;
	}			cases[] = {
		{NULL, 0, 0, 0}, {"", 0, 0, 0}, {"x", 0, 0, 0}, {"120", 0, 120, 120},
		{" 7 ", 0, 7, 7}, {"0", 0, 1, 1}, {"-5", 0, 1, 1}, {"+5", 0, 5, 5}, {"3600", 0, 3600, 3600},
		{"3601", 0, 3600, 3600}, {"99999999999999999999999", 0, 3600, 3600},
		{"-99999999999999999999999", 0, 1, 1}, {"1.5", 0, 1, 1}, {"12abc", 0, 0, 0},
		{"5 6", 0, 0, 0}, {"-", 0, 0, 0},
		{"Sun, 06 Nov 1994 08:49:37 GMT", 784111777 - 90, 90, 0},
		{"Sunday, 06-Nov-94 08:49:37 GMT", 784111777 - 90, 90, 0},
		{"Sun Nov  6 08:49:37 1994", 784111777 - 90, 90, 0},
		{"Sun Nov 16 08:49:37 1994", 784111777 + 864000 - 5, 5, 0},
		{"Sun, 06 Nov 1994 08:49:37 GMT", 784111777, 1, 0},
		{"Sun, 06 Nov 1994 08:49:37 GMT", 1700000000, 1, 0},
		{"Sun, 06 Nov 2094 08:49:37 GMT", 1700000000, 3600, 0},
		{"Tue, 14 Nov 2023 22:14:20 GMT", 1700000000, 60, 0},
		{"Tuesday, 14-Nov-23 22:14:20 GMT", 1700000000, 60, 0},
		{"Thu, 29 Feb 2024 00:00:01 GMT", 1709164800, 1, 0},
		{"Thu, 29 Feb 2024 00:00:09 GMT", 1709164800, 9, 0},
		{"Fri, 01 Mar 2024 00:00:00 GMT", 1709251200 - 30, 30, 0},
		{"Sun, 06 Foo 1994 08:49:37 GMT", 0, 0, 0},
		{"Sun, 06 Nov 1994 08:49:37", 0, 0, 0}, {"Sun, 06 Nov 1994 08:49:37 CET", 0, 0, 0},
		{"Sun, 06 Nov 1994 24:49:37 GMT", 0, 0, 0}, {"Sun, 32 Nov 1994 08:49:37 GMT", 0, 0, 0},
		{"Sun, 06 Nov", 0, 0, 0}, {"Sun,", 0, 0, 0}, {"Sun", 0, 0, 0}, {"Sun, 06", 0, 0, 0},
		{"Sun, 06 Nov 1994 08:49:37 GMTx", 0, 0, 0}, {"Sunday, 06-Nov-", 0, 0, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		if (!CHECK_INT(notif_retry_after_s(cases[i].value, cases[i].now), cases[i].want) ||
			!CHECK_INT(notif_retry_after_delta_s(cases[i].value), cases[i].delta))
			fprintf(stderr, "  case %zu: %s\n", i, cases[i].value);
	}
}

/* F-P-17: an addition that finds no memory changes nothing. */
static void
test_buf_memory(void)
{
	long		n;

	for (n = 1;; n++)
	{
		NotifBuf	buf;
		char		want[512] = "";
		bool		hit;

		notif_buf_init(&buf, 400);
		fail_alloc_begin(n);
		for (int i = 0; i < 40; i++)
		{
			NotifStatus status = notif_buf_adds(&buf, "0123456789");

			if (status == NOTIF_OK)
				memcpy(want + strlen(want), "0123456789", 11);
			else
				CHECK_INT(status, NOTIF_ENOMEM);
			CHECK_STR(notif_buf_text(&buf), want);
		}
		hit = fail_alloc_end();
		CHECK_INT(strlen(want), hit ? 390 : 400);
		notif_buf_free(&buf);
		if (!hit)
			break;
	}
	CHECK(n > 2);
}

int
main(void)
{
	test_sequence();
	test_sanitise();
	test_buf();
	test_buf_memory();
	test_retry_after();
	return unit_done();
}
