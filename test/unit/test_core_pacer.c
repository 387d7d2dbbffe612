/*
 * test_core_pacer.c
 *		The pacer: rates hold, classes come in their order, a throttled provider is
 *		left alone for as long as it said and gets back what it had (F-N-7).
 */
#include <stdlib.h>

#include "../../src/core/pacer.h"
#include "unit.h"

#define S INT64_C(1000000)

static uint64_t rng_state = 88172645463325252u;

static uint64_t
rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

static NotifPacer p;
static int64_t now;

static void
fresh(double rate, double burst, int max_in_flight)
{
	const NotifPacerLimits limits = {rate, burst, max_in_flight};

	now = 1000 * S;
	notif_pacer_init(&p, now);
	notif_pacer_limit(&p, &limits, now);
}

static int
take(int class, int wanted)
{
	int			n = notif_pacer_grant(&p, now, class, 0, wanted);

	notif_pacer_settle(&p, now, n, n);
	return n;
}

/* What is sent in so many seconds by somebody who always wants more. */
static int
flood(double seconds)
{
	const int64_t end = now + (int64_t) (seconds * S);
	int			sum = 0;

	while (now < end)
	{
		sum += take(2, 1000);
		now += S / 100;
	}
	return sum;
}

static void
test_rate(void)
{
	fresh(0, 0, 0);
	CHECK_INT(take(0, 100000), 100000);
	CHECK_INT(notif_pacer_wait_us(&p, now, 0, 0, 10), 0);
	CHECK(notif_pacer_rate(&p, now) <= 0);

	fresh(100, 20, 0);
	CHECK_INT(take(0, 5), 5);
	CHECK_INT(take(0, 100), 15);
	CHECK_INT(take(0, 100), 0);
	CHECK_INT(notif_pacer_wait_us(&p, now, 0, 0, 1), 10001);
	now += S / 10;
	CHECK_INT(take(0, 100), 10);
	now += 100 * S;
	CHECK_INT(take(0, 100), 20);
	now += S;
	CHECK_INT(flood(10) / 10, 101);

	/* what is not used comes back */
	fresh(1, 10, 0);
	CHECK_INT(notif_pacer_grant(&p, now, 0, 0, 10), 10);
	notif_pacer_settle(&p, now, 10, 3);
	CHECK_INT(take(0, 100), 7);

	/* less than one a second */
	fresh(0.1, 1, 0);
	CHECK_INT(take(0, 5), 1);
	now += 9 * S;
	CHECK_INT(take(0, 5), 0);
	now += S + 1;
	CHECK_INT(take(0, 5), 1);

	/* a new definition: more at once, less at once, none */
	fresh(10, 10, 0);
	notif_pacer_limit(&p, &(NotifPacerLimits) {100, 5, 0}, now);
	CHECK_INT(take(0, 100), 5);
	notif_pacer_limit(&p, &(NotifPacerLimits) {0, 0, 0}, now);
	CHECK_INT(take(0, 100), 100);
	notif_pacer_limit(&p, &(NotifPacerLimits) {100, 50, 0}, now);
	CHECK_INT(take(0, 100), 50);
}

static void
test_in_flight(void)
{
	fresh(0, 0, 30);
	CHECK_INT(notif_pacer_grant(&p, now, 0, 0, 100), 30);
	CHECK_INT(notif_pacer_grant(&p, now, 0, 25, 100), 5);
	CHECK_INT(notif_pacer_grant(&p, now, 0, 30, 100), 0);
	CHECK_INT(notif_pacer_grant(&p, now, 0, 31, 100), 0);
	CHECK(notif_pacer_wait_us(&p, now, 0, 30, 1) > 0);
	CHECK_INT(notif_pacer_wait_us(&p, now, 0, 29, 1), 0);
}

/* A campaign that always wants more takes nothing from a code that waits. */
static void
test_classes(void)
{
	fresh(10, 10, 0);
	CHECK_INT(take(2, 1000), 10);
	CHECK_INT(take(0, 1), 0);
	now += S / 10 + 1;
	CHECK_INT(take(2, 1000), 0);
	CHECK_INT(take(1, 1000), 0);
	CHECK(notif_pacer_wait_us(&p, now, 2, 0, 1000) > 0);
	CHECK_INT(take(0, 1), 1);
	now += S / 10 + 1;
	/* in want since before, and next in rank */
	CHECK_INT(take(2, 1000), 0);
	CHECK_INT(take(1, 1), 1);
	now += S / 10 + 1;
	CHECK_INT(take(2, 1000), 1);
	/* somebody who does not come back holds nobody off for long */
	CHECK_INT(take(0, 1), 0);
	now += S / 2;
	CHECK_INT(take(2, 1000), 0);
	now += S / 2 + 1;
	CHECK(take(2, 1000) > 0);
}

/* Retry-After told: left alone for so long, half of before, all of it before
 * twice the time has passed. */
static void
test_told(double limit, int retry_after_s, int pause_s)
{
	int			before;
	int			after;
	int64_t		told;

	fresh(limit, limit, 0);
	if (limit > 0)
	{
		(void) flood(3);
		before = flood(10) / 10;
	}
	else
	{
		/* nothing limits but the provider: 500 a second */
		for (int i = 0; i < 1000; i++, now += S / 100)
			take(2, 5);
		before = 500;
	}
	told = now;
	CHECK(notif_pacer_throttle(&p, now, now - S / 10, retry_after_s));
	CHECK_INT(notif_pacer_resume_us(&p, now) - now, pause_s * S);
	/* the others that were on the wire: the same pause */
	for (int i = 0; i < 50; i++)
		CHECK(!notif_pacer_throttle(&p, now, told - i, retry_after_s));
	CHECK_INT(take(0, 1), 0);
	CHECK_INT(notif_pacer_wait_us(&p, now, 0, 0, 1), pause_s * S);
	now = told + pause_s * S - 1;
	CHECK_INT(take(0, 1), 0);
	now = told + pause_s * S;
	CHECK(notif_pacer_resume_us(&p, now) == INT64_MIN);
	CHECK(notif_pacer_rate(&p, now) < before * 0.51 && notif_pacer_rate(&p, now) > before * 0.45);
	/* a late answer to what was sent before changes nothing */
	CHECK(!notif_pacer_throttle(&p, now, told - 1, retry_after_s));
	after = flood(pause_s * 0.25 < 1 ? 1 : pause_s * 0.25);
	CHECK(after > 0);
	now = told + 2 * pause_s * S;
	CHECK(notif_pacer_rate(&p, now) <= 0 || notif_pacer_rate(&p, now) >= before * 0.99);
	/* and in the end nothing is slowed */
	now = told + 20 * pause_s * S;
	(void) take(2, 1);
	CHECK(p.slow_rate <= 0);
	CHECK(limit > 0 ? notif_pacer_rate(&p, now) >= limit : notif_pacer_rate(&p, now) <= 0);
}

static void
test_untold(void)
{
	static const int pauses[] = {1, 2, 4, 8, 16, 32, 60, 60};

	fresh(0, 0, 0);
	for (size_t i = 0; i < sizeof(pauses) / sizeof(pauses[0]); i++)
	{
		CHECK(notif_pacer_throttle(&p, now, now, 0));
		CHECK_INT(notif_pacer_resume_us(&p, now) - now, pauses[i] * S);
		now += pauses[i] * S + S / 100;
	}
	/* after it has gone well for a while it begins anew */
	now += 1000 * S;
	(void) take(0, 1);
	CHECK(notif_pacer_throttle(&p, now, now, 0));
	CHECK_INT(notif_pacer_resume_us(&p, now) - now, S);
}

/* Slowed twice: half of half. */
static void
test_again(void)
{
	double		first;

	fresh(1000, 1000, 0);
	(void) flood(12);
	CHECK(notif_pacer_throttle(&p, now, now, 10));
	now += 10 * S;
	(void) flood(2);
	first = notif_pacer_rate(&p, now);
	CHECK(notif_pacer_throttle(&p, now, now, 10));
	now += 10 * S;
	CHECK(notif_pacer_rate(&p, now) < first * 0.55);
	CHECK(notif_pacer_rate(&p, now) >= 1);
}

static void
test_clock(void)
{
	fresh(10, 10, 0);
	(void) take(0, 10);
	now -= 500 * S;
	CHECK_INT(take(0, 10), 0);
	now += S;
	CHECK_INT(take(0, 10), 10);
	CHECK(notif_pacer_throttle(&p, now, now, 3600));
	now -= 5000 * S;
	CHECK_INT(take(0, 10), 0);
	CHECK(notif_pacer_resume_us(&p, now) - now <= 3600 * S);
	now += 3600 * S;
	CHECK(notif_pacer_wait_us(&p, now, 0, 0, 1) <= 2 * S);
	now += 86400 * S;
	CHECK_INT(take(0, 100), 10);
}

static void
test_meter(void)
{
	NotifThrottleMeter m = {0};

	now = 1000 * S;
	for (int i = 0; i < 40; i++)
		CHECK(!notif_throttle_meter_note(&m, now, i % 2 == 1));
	memset(&m, 0, sizeof(m));
	for (int i = 0; i < NOTIF_THROTTLE_VOLUME - 1; i++)
		CHECK(!notif_throttle_meter_note(&m, now, true));
	CHECK(notif_throttle_meter_note(&m, now, true));
	CHECK(!notif_throttle_meter_note(&m, now, true));
	/* spread over more than a second they are about devices */
	memset(&m, 0, sizeof(m));
	for (int i = 0; i < 1000; i++, now += S / 15)
		CHECK(!notif_throttle_meter_note(&m, now, true));
}

/* Property: whatever happens, no interval gets more than rate and burst allow. */
static void
test_histories(void)
{
	for (int run = 0; run < 200; run++)
	{
		const double rate = 1 + (double) (rng() % 500);
		const double burst = 1 + (double) (rng() % 100);
		double		sum = 0;
		int64_t		start;
		int			broken = 0;

		fresh(rate, burst, 0);
		start = now;
		for (int i = 0; i < 2000; i++)
		{
			switch (rng() % 8)
			{
				case 0:
					now += (int64_t) (rng() % (3 * S));
					break;
				case 1:
					if (rng() % 30 == 0)
						(void) notif_pacer_throttle(&p, now, now, (int) (rng() % 20) - 5);
					break;
				case 2:
					broken += notif_pacer_wait_us(&p, now, (int) (rng() % 3), 0, 1 + (int) (rng() % 50)) < 0;
					break;
				default:
					{
						int			wanted = 1 + (int) (rng() % 50);
						int			n = notif_pacer_grant(&p, now, (int) (rng() % 3), 0, wanted);
						int			sent = n > 0 ? (int) (rng() % (uint64_t) (n + 1)) : 0;

						broken += n < 0 || n > wanted;
						notif_pacer_settle(&p, now, n, sent);
						sum += sent;
						now += (int64_t) (rng() % (S / 50));
					}
			}
			broken += sum > burst + 1 + (double) (now - start) / S * rate;
		}
		CHECK_INT(broken, 0);
	}
}

int
main(void)
{
	test_rate();
	test_in_flight();
	test_classes();
	test_told(1000, 2, 2);
	test_told(1000, 120, 120);
	test_told(0, 5, 5);
	/* absurd ones: ten years, negative */
	test_told(1000, 315360000, 3600);
	test_told(1000, -17, 1);
	test_untold();
	test_again();
	test_clock();
	test_meter();
	test_histories();
	return unit_done();
}
