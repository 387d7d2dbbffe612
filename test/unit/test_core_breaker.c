/*
 * test_core_breaker.c
 *		The breaker: when it opens, when it probes, what it lets through, and that
 *		no sequence of events breaks its promises.
 */
#include <stdlib.h>

#include "../../src/core/breaker.h"
#include "unit.h"

#define S INT64_C(1000000)
#define VOLUME NOTIF_BREAKER_VOLUME

static uint64_t rng_state = 88172645463325252u;

static uint64_t
rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

static NotifBreaker b;
static int64_t now;
static bool blameless;

static void
fresh(void)
{
	now = 1000 * S;
	notif_breaker_init(&b, 1, now);
}

static bool
note(NotifSign sign)
{
	return notif_breaker_note(&b, now, b.epoch, sign, VOLUME, UINT32_MAX / 2, &blameless);
}

static void
notes(NotifSign sign, int n)
{
	for (int i = 0; i < n; i++)
		note(sign);
}

/* Of 100 results, failed fail, in a mixed order, and never too early. */
static NotifBreakerState
after_hundred(int failed)
{
	fresh();
	notes(NOTIF_SIGN_GOOD, 100 - failed);
	notes(NOTIF_SIGN_FAILED, failed);
	return b.state;
}

static void
test_opens(void)
{
	CHECK_INT(after_hundred(0), NOTIF_BREAKER_CLOSED);
	CHECK_INT(after_hundred(5), NOTIF_BREAKER_CLOSED);
	CHECK_INT(after_hundred(6), NOTIF_BREAKER_OPEN);
	CHECK_INT(b.cause, NOTIF_BREAKER_CAUSE_FAILURES);
	CHECK_INT(b.epoch, 2);
	CHECK(blameless);

	/* not before there are enough of them, then at once, even by a good one */
	fresh();
	notes(NOTIF_SIGN_FAILED, VOLUME - 1);
	CHECK_INT(b.state, NOTIF_BREAKER_CLOSED);
	CHECK(!blameless);
	CHECK(note(NOTIF_SIGN_GOOD));
	CHECK_INT(b.state, NOTIF_BREAKER_OPEN);

	/* those of more than 30 s ago are forgotten */
	fresh();
	notes(NOTIF_SIGN_FAILED, VOLUME - 1);
	now += 30 * S;
	notes(NOTIF_SIGN_GOOD, VOLUME);
	CHECK_INT(b.state, NOTIF_BREAKER_CLOSED);
	fresh();
	notes(NOTIF_SIGN_FAILED, VOLUME - 1);
	now += 29 * S;
	note(NOTIF_SIGN_GOOD);
	CHECK_INT(b.state, NOTIF_BREAKER_OPEN);

	/* a provider that is not there answers rarely */
	fresh();
	notes(NOTIF_SIGN_UNREACHED, VOLUME / 4 - 1);
	note(NOTIF_SIGN_GOOD);
	notes(NOTIF_SIGN_UNREACHED, VOLUME / 4 - 1);
	CHECK_INT(b.state, NOTIF_BREAKER_CLOSED);
	note(NOTIF_SIGN_UNREACHED);
	CHECK_INT(b.state, NOTIF_BREAKER_OPEN);
	CHECK_INT(b.cause, NOTIF_BREAKER_CAUSE_UNREACHED);

	/* more than half of the addresses doubted */
	fresh();
	for (int i = 0; i < 50; i++)
	{
		note(NOTIF_SIGN_GOOD);
		note(NOTIF_SIGN_SUSPECT);
	}
	CHECK_INT(b.state, NOTIF_BREAKER_CLOSED);
	CHECK(!blameless);
	note(NOTIF_SIGN_SUSPECT);
	CHECK_INT(b.state, NOTIF_BREAKER_OPEN);
	CHECK_INT(b.cause, NOTIF_BREAKER_CAUSE_SUSPECTS);
	CHECK(blameless);

	/* refused credentials, at once; what says nothing, never */
	fresh();
	notes(NOTIF_SIGN_NEUTRAL, 1000);
	CHECK_INT(b.state, NOTIF_BREAKER_CLOSED);
	CHECK(note(NOTIF_SIGN_CREDENTIALS));
	CHECK_INT(b.cause, NOTIF_BREAKER_CAUSE_CREDENTIALS);
}

/* What was sent in an earlier epoch changes nothing and is not to blame. */
static void
test_epochs(void)
{
	uint64_t	before;

	fresh();
	before = b.epoch;
	notes(NOTIF_SIGN_FAILED, VOLUME);
	CHECK_INT(b.state, NOTIF_BREAKER_OPEN);
	notif_breaker_close(&b, now);
	CHECK_INT(b.epoch, before + 2);
	for (int i = 0; i < 100; i++)
		CHECK(!notif_breaker_note(&b, now, before, NOTIF_SIGN_FAILED, VOLUME, 0, &blameless) && blameless);
	CHECK(!notif_breaker_note(&b, now, before, NOTIF_SIGN_CREDENTIALS, VOLUME, 0, &blameless));
	CHECK_INT(b.state, NOTIF_BREAKER_CLOSED);
	/* an address that is doubted is doubted, unless all are */
	CHECK(!notif_breaker_note(&b, now, before, NOTIF_SIGN_SUSPECT, VOLUME, 0, &blameless) && !blameless);
}

/* Half-open until the next state: results in a row. */
static NotifBreakerState
probe(int good, int failed, int suspects)
{
	fresh();
	notes(NOTIF_SIGN_FAILED, VOLUME);
	now = b.probe_us;
	notif_breaker_tick(&b, now, true);
	CHECK_INT(notif_breaker_grant(&b, now, 1000, 0, 0), NOTIF_BREAKER_PROBES);
	CHECK_INT(notif_breaker_grant(&b, now, 1000, 0, 0), 0);
	CHECK_INT(notif_breaker_share(&b, now), 0);
	notes(NOTIF_SIGN_FAILED, failed);
	notes(NOTIF_SIGN_SUSPECT, suspects);
	notes(NOTIF_SIGN_GOOD, good);
	return b.state;
}

static void
test_probes(void)
{
	CHECK_INT(probe(8, 0, 0), NOTIF_BREAKER_HALF_OPEN);
	CHECK_INT(probe(8, 1, 0), NOTIF_BREAKER_HALF_OPEN);
	CHECK_INT(probe(9, 1, 0), NOTIF_BREAKER_RECOVERING);
	CHECK_INT(probe(9, 0, 0), NOTIF_BREAKER_RECOVERING);
	CHECK_INT(probe(0, 2, 0), NOTIF_BREAKER_OPEN);
	CHECK(blameless);
	CHECK_INT(b.step, 1);
	CHECK_INT(probe(4, 0, 5), NOTIF_BREAKER_RECOVERING);
	CHECK_INT(probe(0, 0, 6), NOTIF_BREAKER_OPEN);
	CHECK_INT(b.cause, NOTIF_BREAKER_CAUSE_SUSPECTS);

	/* a failed probe counts nowhere */
	CHECK_INT(probe(3, 1, 0), NOTIF_BREAKER_HALF_OPEN);
	note(NOTIF_SIGN_FAILED);
	CHECK(blameless);

	/* what was not used or says nothing comes back */
	CHECK_INT(probe(3, 0, 0), NOTIF_BREAKER_HALF_OPEN);
	notif_breaker_return(&b, b.epoch, 2);
	note(NOTIF_SIGN_NEUTRAL);
	notif_breaker_return(&b, b.epoch - 1, 4);
	CHECK_INT(notif_breaker_grant(&b, now, 1000, 0, 0), 3);
	notif_breaker_return(&b, b.epoch, 1000);
	CHECK_INT(notif_breaker_grant(&b, now, 1000, 0, 0), 7);

	/* so do those of a sender that never comes back */
	CHECK_INT(notif_breaker_wait_us(&b, now, 0), NOTIF_BREAKER_PROBE_LOST_US);
	now += NOTIF_BREAKER_PROBE_LOST_US;
	notif_breaker_tick(&b, now, true);
	CHECK_INT(notif_breaker_grant(&b, now, 1000, 0, 0), 7);

	/* nobody probes for nothing */
	fresh();
	notes(NOTIF_SIGN_FAILED, VOLUME);
	CHECK(!notif_breaker_tick(&b, b.probe_us - 1, true));
	CHECK(!notif_breaker_tick(&b, b.probe_us, false));
	CHECK(notif_breaker_tick(&b, b.probe_us, true));
}

/* 30 s, 1 min, 5 min, 25 min, an hour, an hour …; 10% of jitter either way. */
static void
test_schedule(void)
{
	static const int seconds[] = {30, 60, 300, 1500, 3600, 3600, 3600};

	for (int random = 0; random < 3; random++)
	{
		const uint32_t r = random == 0 ? 0 : random == 1 ? UINT32_MAX / 2 : UINT32_MAX;
		const double	part = random == 0 ? 0.9 : random == 1 ? 1.0 : 1.1;

		fresh();
		for (int i = 0; i < VOLUME; i++)
			notif_breaker_note(&b, now, b.epoch, NOTIF_SIGN_FAILED, VOLUME, r, &blameless);
		for (size_t i = 0; i < sizeof(seconds) / sizeof(seconds[0]); i++)
		{
			int64_t		want = (int64_t) (seconds[i] * part * S);

			CHECK(llabs(b.probe_us - now - want) <= 2);
			CHECK_INT(notif_breaker_wait_us(&b, now, 0), b.probe_us - now);
			CHECK_INT(notif_breaker_room(&b, b.probe_us - 1, 0, 1000), 0);
			CHECK_INT(notif_breaker_room(&b, b.probe_us, 0, 1000), 1000);
			now = b.probe_us;
			CHECK(notif_breaker_tick(&b, now, true));
			CHECK_INT(notif_breaker_grant(&b, now, 3, 0, 0), 3);
			for (int k = 0; k < 2; k++)
				notif_breaker_note(&b, now, b.epoch, NOTIF_SIGN_FAILED, VOLUME, r, &blameless);
			CHECK_INT(b.state, NOTIF_BREAKER_OPEN);
		}
		/* what worked begins anew */
		now = b.probe_us;
		notif_breaker_tick(&b, now, true);
		notif_breaker_grant(&b, now, 10, 0, 0);
		notes(NOTIF_SIGN_GOOD, 9);
		CHECK_INT(b.state, NOTIF_BREAKER_RECOVERING);
		notes(NOTIF_SIGN_FAILED, VOLUME);
		CHECK_INT(b.state, NOTIF_BREAKER_OPEN);
		CHECK_INT(b.step, 0);
	}
}

static void
test_ramp(void)
{
	int			last = 0;
	int			sent = 0;

	CHECK_INT(probe(9, 0, 0), NOTIF_BREAKER_RECOVERING);
	CHECK_INT(notif_breaker_share(&b, now), 200);
	CHECK_INT(notif_breaker_share(&b, now + 30 * S), 600);
	CHECK_INT(notif_breaker_share(&b, now + 60 * S), 1000);
	CHECK_INT(notif_breaker_room(&b, now, 0, 1000), 200);
	CHECK_INT(notif_breaker_room(&b, now, 150, 1000), 50);
	CHECK_INT(notif_breaker_room(&b, now, 300, 1000), 0);
	CHECK_INT(notif_breaker_room(&b, now, 0, 1), 1);
	CHECK_INT(notif_breaker_room(&b, now, 0, 0), 0);
	CHECK_INT(notif_breaker_grant(&b, now, 777, 0, 0), 777);

	/* with a rate of 100/s: second by second, a share of it */
	for (int i = 0; i < 600; i++)
	{
		int			n = 0;

		now += S / 10;
		notif_breaker_tick(&b, now, true);
		if (b.state != NOTIF_BREAKER_RECOVERING)
			break;
		n = notif_breaker_grant(&b, now, 1000, 100, 100);
		sent += n;
		last = n;
		if (i == 99)
			/* the mean share of the first ten seconds is 26.7% */
			CHECK(sent >= 255 && sent <= 275);
	}
	CHECK(last >= 9 && last <= 10);
	CHECK(sent >= 3500 && sent <= 3650);
	CHECK_INT(b.state, NOTIF_BREAKER_CLOSED);
	CHECK_INT(b.cause, NOTIF_BREAKER_CAUSE_NONE);

	/* without tokens it says when there is one */
	CHECK_INT(probe(9, 0, 0), NOTIF_BREAKER_RECOVERING);
	CHECK_INT(notif_breaker_grant(&b, now, 10, 10, 10), 1);
	CHECK_INT(notif_breaker_grant(&b, now, 10, 10, 10), 0);
	CHECK_INT(notif_breaker_wait_us(&b, now, 10) / 1000, 500);
	notif_breaker_return(&b, b.epoch, 1);
	CHECK_INT(notif_breaker_grant(&b, now, 10, 10, 10), 1);

	/* too many failures on the way: open again */
	CHECK_INT(probe(9, 0, 0), NOTIF_BREAKER_RECOVERING);
	now += 10 * S;
	notes(NOTIF_SIGN_GOOD, 95);
	notes(NOTIF_SIGN_FAILED, 5);
	CHECK_INT(b.state, NOTIF_BREAKER_RECOVERING);
	CHECK(!blameless);
	note(NOTIF_SIGN_FAILED);
	CHECK_INT(b.state, NOTIF_BREAKER_OPEN);
	CHECK(blameless);
}

static void
test_by_hand(void)
{
	fresh();
	notif_breaker_open(&b, now);
	CHECK_INT(b.cause, NOTIF_BREAKER_CAUSE_MANUAL);
	CHECK(notif_breaker_wait_us(&b, now, 0) == INT64_MAX);
	CHECK(!notif_breaker_tick(&b, now + 100000 * S, true));
	notif_breaker_hurry(&b, now);
	CHECK(!notif_breaker_tick(&b, now + 100000 * S, true));
	CHECK_INT(notif_breaker_room(&b, now + 100000 * S, 0, 10), 0);
	CHECK_INT(notif_breaker_grant(&b, now, 10, 0, 0), 0);
	notif_breaker_close(&b, now);
	CHECK_INT(notif_breaker_grant(&b, now, 10, 0, 0), 10);

	fresh();
	note(NOTIF_SIGN_CREDENTIALS);
	CHECK(!notif_breaker_tick(&b, now, true));
	notif_breaker_hurry(&b, now);
	CHECK(notif_breaker_tick(&b, now, true));
	CHECK_INT(b.state, NOTIF_BREAKER_HALF_OPEN);
}

static void
test_restore(void)
{
	fresh();
	notif_breaker_restore(&b, 17, NOTIF_BREAKER_OPEN, NOTIF_BREAKER_CAUSE_FAILURES, 3, 700 * S, now);
	CHECK_INT(b.epoch, 17);
	CHECK_INT(notif_breaker_wait_us(&b, now, 0), 700 * S);
	CHECK_INT(b.step, 3);
	/* never longer than its own length, whatever the clock did */
	notif_breaker_restore(&b, 17, NOTIF_BREAKER_OPEN, NOTIF_BREAKER_CAUSE_FAILURES, 3, 999999 * S, now);
	CHECK_INT(notif_breaker_wait_us(&b, now, 0), 1650 * S);
	notif_breaker_restore(&b, 17, NOTIF_BREAKER_OPEN, NOTIF_BREAKER_CAUSE_FAILURES, -5, -3 * S, now);
	CHECK_INT(notif_breaker_wait_us(&b, now, 0), 0);
	notif_breaker_restore(&b, 17, NOTIF_BREAKER_OPEN, NOTIF_BREAKER_CAUSE_MANUAL, 0, 0, now);
	CHECK(notif_breaker_wait_us(&b, now, 0) == INT64_MAX);
	notif_breaker_restore(&b, 17, NOTIF_BREAKER_HALF_OPEN, NOTIF_BREAKER_CAUSE_FAILURES, 2, 99 * S, now);
	CHECK_INT(b.state, NOTIF_BREAKER_OPEN);
	CHECK_INT(notif_breaker_wait_us(&b, now, 0), 0);
	notif_breaker_restore(&b, 17, NOTIF_BREAKER_RECOVERING, NOTIF_BREAKER_CAUSE_FAILURES, 2, 0, now);
	CHECK_INT(b.state, NOTIF_BREAKER_RECOVERING);
	CHECK_INT(b.epoch, 17);
	CHECK_INT(notif_breaker_share(&b, now), 200);
	notif_breaker_restore(&b, 0, NOTIF_BREAKER_CLOSED, NOTIF_BREAKER_CAUSE_NONE, 0, 0, now);
	CHECK_INT(b.epoch, 1);
}

/* A clock that is set back costs no more than the nominal wait. */
static void
test_clock(void)
{
	fresh();
	notes(NOTIF_SIGN_FAILED, VOLUME);
	now -= 500 * S;
	notif_breaker_tick(&b, now, true);
	CHECK(notif_breaker_wait_us(&b, now, 0) <= 33 * S);
	now += 33 * S;
	CHECK(notif_breaker_tick(&b, now, true));
	notif_breaker_grant(&b, now, 10, 0, 0);
	now -= 500 * S;
	notif_breaker_tick(&b, now, true);
	CHECK(notif_breaker_wait_us(&b, now, 0) <= NOTIF_BREAKER_PROBE_LOST_US);
	notes(NOTIF_SIGN_GOOD, 9);
	CHECK_INT(b.state, NOTIF_BREAKER_RECOVERING);
	now -= 500 * S;
	notif_breaker_tick(&b, now, true);
	CHECK_INT(notif_breaker_share(&b, now), 200);
	now += 60 * S;
	CHECK(notif_breaker_tick(&b, now, false));

	/* before the epoch of the clock the seconds go on */
	now = -3 * S - S / 2;
	notif_breaker_init(&b, 1, now);
	notes(NOTIF_SIGN_GOOD, 5);
	now += 5 * S;
	notes(NOTIF_SIGN_GOOD, 5);
	{
		NotifBreakerCounts counts;

		notif_breaker_counts(&b, now, &counts);
		CHECK_INT(counts.results, 10);
		notif_breaker_counts(&b, now + 26 * S, &counts);
		CHECK_INT(counts.results, 5);
		notif_breaker_counts(&b, now - 4 * S, &counts);
		CHECK_INT(counts.results, 5);
	}
}

static void
test_words(void)
{
	NotifBreakerState state;
	NotifBreakerCause cause;

	for (int i = 0; i <= NOTIF_BREAKER_RECOVERING; i++)
		CHECK(notif_breaker_state_parse(notif_breaker_state_text((NotifBreakerState) i), &state) && (int) state == i);
	for (int i = 0; i <= NOTIF_BREAKER_CAUSE_MANUAL; i++)
		CHECK(notif_breaker_cause_parse(notif_breaker_cause_text((NotifBreakerCause) i), &cause) && (int) cause == i);
	CHECK(!notif_breaker_state_parse("ajar", &state));
	CHECK(!notif_breaker_cause_parse(NULL, &cause));
}

/*
 * Property: in random histories, against a model that keeps every event.  No more
 * than ten probes are out; nothing passes while open; epochs only grow; closed
 * opens exactly if the window says so; waits end.
 */
static void
test_histories(void)
{
	for (int run = 0; run < 300; run++)
	{
		int			volume = 4 + (int) (rng() % 40);
		int			bad = (int) (rng() % 101);
		int			outstanding = 0;
		int			broken = 0;

		fresh();
		for (int i = 0; i < 2000 && broken == 0; i++)
		{
			NotifBreakerState from = b.state;
			uint64_t	epoch = b.epoch;
			NotifBreakerCounts counts;
			int			what = (int) (rng() % 10);

			if (what < 3)
			{
				now += (int64_t) (rng() % (rng() % 20 == 0 ? 4000 * S : S));
				(void) notif_breaker_tick(&b, now, rng() % 2 == 0);
				/* after a minute without an answer they are written off */
				if (b.state != NOTIF_BREAKER_HALF_OPEN || b.epoch != epoch ||
					b.granted == b.good + b.failed + b.suspects)
					outstanding = 0;
				broken += from == NOTIF_BREAKER_OPEN && b.state == NOTIF_BREAKER_HALF_OPEN &&
					b.granted != 0;
			}
			else if (what < 6)
			{
				int			n = notif_breaker_grant(&b, now, 1 + (int) (rng() % 30), rng() % 2 ? 50 : 0, 10);

				broken += n < 0 || (b.state == NOTIF_BREAKER_OPEN && n > 0);
				if (b.state == NOTIF_BREAKER_HALF_OPEN)
				{
					outstanding += n;
					broken += outstanding + b.good + b.failed + b.suspects > NOTIF_BREAKER_PROBES;
				}
			}
			else
			{
				NotifSign	sign = (int) (rng() % 100) < bad ? (NotifSign) (NOTIF_SIGN_FAILED + rng() % 3) :
					rng() % 10 == 0 ? NOTIF_SIGN_NEUTRAL : NOTIF_SIGN_GOOD;
				bool		old = rng() % 5 == 0;
				bool		changed;

				if (b.state == NOTIF_BREAKER_HALF_OPEN && !old && outstanding-- <= 0)
				{
					outstanding = 0;
					continue;
				}
				changed = notif_breaker_note(&b, now, old ? epoch - 1 : epoch, sign, volume, (uint32_t) rng(), &blameless);
				broken += old && changed;
				/* whose failure it is: the provider's, while it is out of order */
				broken += (sign == NOTIF_SIGN_FAILED || sign == NOTIF_SIGN_UNREACHED) &&
					blameless != (old || from == NOTIF_BREAKER_HALF_OPEN || b.state == NOTIF_BREAKER_OPEN);
				broken += changed != (b.epoch != epoch);
				if (changed)
					outstanding = 0;
				if (b.state == NOTIF_BREAKER_CLOSED)
				{
					notif_breaker_counts(&b, now, &counts);
					broken += counts.results >= (uint32_t) volume &&
						(counts.failed * 100 > counts.results * 5 || counts.suspects * 2 > counts.results);
				}
			}
			broken += b.epoch < epoch || b.epoch > epoch + 1;
			broken += (b.state != from) != (b.epoch != epoch);
			broken += notif_breaker_wait_us(&b, now, 50) < 0 || notif_breaker_wait_us(&b, now, 50) > 3960 * S;
		}
		CHECK_INT(broken, 0);
	}
}

int
main(void)
{
	test_opens();
	test_epochs();
	test_probes();
	test_schedule();
	test_ramp();
	test_by_hand();
	test_restore();
	test_clock();
	test_words();
	test_histories();
	return unit_done();
}
