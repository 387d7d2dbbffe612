/*
 * test_core_uuid.c
 *		UUIDv7: layout, order, clock steps, text form.
 */
#include "../../src/core/uuid.h"
#include "unit.h"

static uint64_t rng_state = 0x1234567;

static uint64_t
rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

static void
fill(uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t) (rng() >> 24);
}

static void
test_layout(void)
{
	/* RFC 9562 appendix A.6 */
	static const uint8_t random[10] = {0x0C, 0xC3, 0x18, 0xC4, 0xDC, 0x0C, 0x0C, 0x07, 0x39, 0x8F};
	NotifUuidState state = {0};
	uint8_t		uuid[16];
	char		text[NOTIF_UUID_TEXT_LEN + 1];

	notif_uuid_make(&state, INT64_C(0x017F22E279B0), random, uuid);
	notif_uuid_format(uuid, text);
	CHECK_STR(text, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
	CHECK_INT(notif_uuid_time_ms(uuid), INT64_C(0x017F22E279B0));
}

static void
test_order(void)
{
	NotifUuidState state = {0};
	uint8_t		last[16] = {0};
	uint8_t		uuid[16];
	uint8_t		random[10];
	int64_t		now = 1700000000000;
	int			unordered = 0;
	int			malformed = 0;

	for (int i = 0; i < 200000; i++)
	{
		uint64_t	r = rng();

		if (r % 50 == 0)
			now += (int64_t) (r >> 8) % 3;
		if (r % 9973 == 0)
			now -= 100000;		/* the clock steps back */
		fill(random, sizeof(random));
		if (r % 7 == 0)
			memset(random, 0xFF, sizeof(random));
		notif_uuid_make(&state, now, random, uuid);
		unordered += memcmp(last, uuid, 16) >= 0;
		malformed += (uuid[6] & 0xF0) != 0x70 || (uuid[8] & 0xC0) != 0x80;
		memcpy(last, uuid, 16);
	}
	CHECK_INT(unordered, 0);
	CHECK_INT(malformed, 0);

	/* all random bits set: the counter runs into the next millisecond */
	state = (NotifUuidState) {0};
	memset(random, 0xFF, sizeof(random));
	notif_uuid_make(&state, 5000, random, last);
	notif_uuid_make(&state, 5000, random, uuid);
	CHECK(memcmp(last, uuid, 16) < 0);
	CHECK_INT(notif_uuid_time_ms(uuid), 5001);
	notif_uuid_make(&state, 4000, random, last);
	CHECK(memcmp(uuid, last, 16) < 0);
	notif_uuid_make(&state, -1, random, uuid);
	CHECK(memcmp(last, uuid, 16) < 0);
}

static void
test_text(void)
{
	static const char *const bad[] = {
		"", "017f22e2-79b0-7cc3-98c4-dc0c0c07398", "017f22e2-79b0-7cc3-98c4-dc0c0c07398ff",
		"017f22e279b0-7cc3-98c4-dc0c0c07398fa-", "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
		"{17f22e2-79b0-7cc3-98c4-dc0c0c07398}", "017f22e2 79b0-7cc3-98c4-dc0c0c07398f",
	};
	uint8_t		uuid[16];
	char		text[NOTIF_UUID_TEXT_LEN + 1];

	CHECK(notif_uuid_parse("017F22E2-79B0-7CC3-98C4-dc0c0c07398f", 36, uuid));
	notif_uuid_format(uuid, text);
	CHECK_STR(text, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!notif_uuid_parse(bad[i], strlen(bad[i]), uuid));
}

int
main(void)
{
	test_layout();
	test_order();
	test_text();
	return unit_done();
}
