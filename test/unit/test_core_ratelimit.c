/*
 * test_core_ratelimit.c
 *		Rate limits against the definition: no interval of a window's length
 *		holds more than the limit, and nothing is refused that the definition
 *		allows (exact layers).
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "../../src/core/ratelimit.h"
#include "unit.h"

#define MAX_SENDS 60000

static uint64_t rng_state = 88172645463325252u;

static uint64_t
rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

static uint8_t state[NOTIF_RATE_STATE_MAX];
static size_t state_len;
static int	granted;
static int	stopping;
static int64_t retry_at;

static NotifStatus
charge(const NotifRateLayer *layers, int n, int64_t now, int wanted)
{
	return notif_ratelimit_charge(state, state_len, layers, n, now, wanted, state, sizeof(state),
								  &state_len, &granted, &stopping, &retry_at);
}

static void
test_simple(void)
{
	const NotifRateLayer two[] = {{7, 2, 1000}, {9, 3, 60000}};

	state_len = 0;
	CHECK_INT(charge(two, 2, 100000, 1), NOTIF_OK);
	CHECK_INT(granted, 1);
	CHECK_INT(stopping, -1);
	CHECK_INT(retry_at, 0);
	CHECK_INT(charge(two, 2, 100400, 2), NOTIF_OK);
	CHECK_INT(granted, 1);
	CHECK_INT(stopping, 0);
	CHECK_INT(retry_at, 101000);
	CHECK_INT(charge(two, 2, 100999, 1), NOTIF_OK);
	CHECK_INT(granted, 0);
	CHECK_INT(retry_at, 101000);
	CHECK_INT(charge(two, 2, 101000, 5), NOTIF_OK);
	CHECK_INT(granted, 1);
	/* both are full; the long layer stops for longer */
	CHECK_INT(stopping, 1);
	CHECK_INT(retry_at, 160000);
	CHECK_INT(charge(two, 2, 160000, 5), NOTIF_OK);
	CHECK_INT(granted, 1);
	CHECK_INT(retry_at, 160400);
	/* a layer that is gone no longer counts, nor does it return */
	CHECK_INT(charge(two, 1, 160001, 5), NOTIF_OK);
	CHECK_INT(granted, 1);
	CHECK_INT(charge(two, 2, 160002, 5), NOTIF_OK);
	CHECK_INT(granted, 0);
	CHECK_INT(stopping, 0);
	/* no layers: everything passes, no state */
	CHECK_INT(charge(two, 0, 160002, 1000), NOTIF_OK);
	CHECK_INT(granted, 1000);
	CHECK_INT(state_len, 0);
}

static void
test_none_and_errors(void)
{
	const NotifRateLayer none[] = {{1, 0, 1000}};
	const NotifRateLayer twice[] = {{1, 1, 1000}, {1, 2, 1000}};
	const NotifRateLayer bad_window[] = {{1, 1, 0}};
	const NotifRateLayer big[] = {{1, 1, NOTIF_RATE_WINDOW_MAX_MS}};
	NotifRateLayer many[NOTIF_RATE_LAYERS_MAX + 1];

	state_len = 0;
	CHECK_INT(charge(none, 1, 5, 1), NOTIF_OK);
	CHECK_INT(granted, 0);
	CHECK_INT(stopping, 0);
	CHECK(retry_at == INT64_MAX);
	CHECK_INT(charge(twice, 2, 5, 1), NOTIF_EINVAL);
	CHECK_INT(charge(bad_window, 1, 5, 1), NOTIF_EINVAL);
	CHECK_INT(charge(none, 1, -1, 1), NOTIF_EINVAL);
	CHECK_INT(charge(none, 1, 5, -1), NOTIF_EINVAL);
	CHECK_INT(charge(none, -1, 5, 1), NOTIF_EINVAL);
	for (int i = 0; i <= NOTIF_RATE_LAYERS_MAX; i++)
		many[i] = (NotifRateLayer) {UINT32_MAX - (uint32_t) i, 40, NOTIF_RATE_WINDOW_MAX_MS};
	CHECK_INT(charge(many, NOTIF_RATE_LAYERS_MAX + 1, 5, 1), NOTIF_EINVAL);
	CHECK_INT(charge(many, NOTIF_RATE_LAYERS_MAX, 5, 1), NOTIF_OK);
	CHECK_INT(granted, 1);
	CHECK_INT(notif_ratelimit_charge(NULL, 0, big, 1, 1700000000000, 1, state, 4, &state_len,
									 &granted, &stopping, &retry_at), NOTIF_ETOOBIG);
	CHECK_INT(state_len, 0);
	CHECK_INT(charge(big, 1, 1700000000000, 2), NOTIF_OK);
	CHECK_INT(granted, 1);
	CHECK(retry_at == 1700000000000 + NOTIF_RATE_WINDOW_MAX_MS);
	CHECK(state_len <= 12);
}

/* The largest state that can arise fits into NOTIF_RATE_STATE_MAX. */
static void
test_full_state(void)
{
	NotifRateLayer layers[NOTIF_RATE_LAYERS_MAX];
	int64_t		now = 1700000000000;

	for (int i = 0; i < NOTIF_RATE_LAYERS_MAX; i++)
		layers[i] = (NotifRateLayer) {UINT32_MAX - (uint32_t) i, INT32_MAX,
		NOTIF_RATE_WINDOW_MAX_MS - i};
	state_len = 0;
	for (int i = 0; i < 200; i++)
	{
		CHECK_INT(charge(layers, NOTIF_RATE_LAYERS_MAX, now, 5000000), NOTIF_OK);
		CHECK_INT(granted, 5000000);
		now += NOTIF_RATE_WINDOW_MAX_MS / 40;
	}
	CHECK(state_len > 1000 && state_len < NOTIF_RATE_STATE_MAX);
}

/* Random traffic against all layers, checked with the plain list of sends. */
static void
property(const NotifRateLayer *layers, int n, int64_t step, int rounds, bool exact)
{
	static int64_t sends[MAX_SENDS];
	int			n_sends = 0;
	int			over = 0;
	int			refused_wrongly = 0;
	int			retry_wrong = 0;
	int64_t		now = 1700000000000;

	state_len = 0;
	for (int round = 0; round < rounds && n_sends + 64 < MAX_SENDS; round++)
	{
		int			wanted = 1 + (int) (rng() % 4);

		now += (int64_t) (rng() % (uint64_t) step);
		if (charge(layers, n, now, wanted) != NOTIF_OK)
		{
			over++;
			break;
		}
		for (int i = 0; i < granted; i++)
			sends[n_sends++] = now;
		for (int l = 0; l < n; l++)
		{
			/* the interval that ends now holds at most the limit */
			int64_t		held = 0;

			for (int i = n_sends - 1; i >= 0 && sends[i] > now - layers[l].window_ms; i--)
				held++;
			over += held > (int64_t) layers[l].limit;
		}
		if (exact && granted < wanted)
		{
			/* the definition, too, allows no further unit now … */
			bool		blocked = false;
			int64_t		at = 0;

			for (int l = 0; l < n; l++)
			{
				int			nth = n_sends - (int) layers[l].limit;

				if (nth >= 0 && sends[nth] + layers[l].window_ms > now)
				{
					blocked = true;
					if (sends[nth] + layers[l].window_ms > at)
						at = sends[nth] + layers[l].window_ms;
				}
			}
			/* … and from retry_at on it does */
			refused_wrongly += !blocked;
			retry_wrong += at != retry_at;
		}
	}
	CHECK_INT(over, 0);
	CHECK_INT(refused_wrongly, 0);
	CHECK_INT(retry_wrong, 0);
	CHECK(n_sends > 100);
}

static void
test_properties(void)
{
	const NotifRateLayer exact[] = {{1, 3, 1000}, {2, 10, 7000}, {3, 32, 60000}};
	const NotifRateLayer coarse[] = {{1, 33, 1000}, {2, 500, 60000}, {3, 5, 100}};
	const NotifRateLayer tiny[] = {{1, 100, 20}, {2, 40, 3}};

	property(exact, 3, 300, 20000, true);
	property(exact, 1, 900, 5000, true);
	property(coarse, 3, 40, 20000, false);
	property(tiny, 2, 3, 5000, false);
}

/* A large limit gives nearly all that it promises. */
static void
test_coarse_throughput(void)
{
	const NotifRateLayer layer = {1, 1000, 60000};
	int64_t		total = 0;

	state_len = 0;
	for (int64_t now = 1700000000000; now < 1700000000000 + 60 * 60000; now += 10)
	{
		charge(&layer, 1, now, 5);
		total += granted;
	}
	CHECK(total <= 61 * 1000);
	CHECK(total >= 60 * 1000 * 32 / 34);
}

static void
test_corrupt(void)
{
	const NotifRateLayer layer = {1, 2, 1000};
	uint8_t		good[NOTIF_RATE_STATE_MAX];
	size_t		good_len;

	state_len = 0;
	charge(&layer, 1, 5000, 1);
	charge(&layer, 1, 5100, 1);
	good_len = state_len;
	memcpy(good, state, good_len);
	for (size_t cut = 1; cut < good_len; cut++)
	{
		memcpy(state, good, good_len);
		state_len = cut;		/* truncated: empty, so both units pass */
		CHECK_INT(charge(&layer, 1, 5200, 2), NOTIF_OK);
		CHECK_INT(granted, 2);
	}
	memcpy(state, good, good_len);
	state[good_len] = 0;		/* trailing byte */
	state_len = good_len + 1;
	CHECK_INT(charge(&layer, 1, 5200, 2), NOTIF_OK);
	CHECK_INT(granted, 2);
}

static void
test_clock_back(void)
{
	const NotifRateLayer layer = {1, 1, 1000};

	state_len = 0;
	charge(&layer, 1, 1000000, 1);
	CHECK_INT(granted, 1);
	charge(&layer, 1, 500000, 1);
	CHECK_INT(granted, 0);
	CHECK_INT(retry_at, 501000);	/* not at 1001000 */
	charge(&layer, 1, 501000, 1);
	CHECK_INT(granted, 1);
}

static NotifStatus
refund(const NotifRateLayer *layers, int n, int64_t charged_at)
{
	return notif_ratelimit_refund(state, state_len, layers, n, charged_at, state, sizeof(state),
								  &state_len);
}

static void
test_refund(void)
{
	const NotifRateLayer two[] = {{1, 3, 1000}, {2, 100, 3200}};

	state_len = 0;
	charge(two, 2, 10000, 1);
	charge(two, 2, 10300, 2);
	CHECK_INT(charge(two, 2, 10400, 1), NOTIF_OK);
	CHECK_INT(granted, 0);
	CHECK_INT(refund(two, 2, 10000), NOTIF_OK);
	charge(two, 2, 10400, 2);
	CHECK_INT(granted, 1);
	CHECK_INT(retry_at, 11300); /* what is left was sent at 10300, 10300, 10400 */
	/* unknown time: the earliest goes */
	CHECK_INT(refund(two, 2, -1), NOTIF_OK);
	charge(two, 2, 10500, 2);
	CHECK_INT(granted, 1);
	CHECK_INT(retry_at, 11300);
	/* nothing at or before that time: nothing to give back */
	CHECK_INT(refund(two, 2, 9000), NOTIF_OK);
	charge(two, 2, 10600, 1);
	CHECK_INT(granted, 0);
	for (int i = 0; i < 3; i++)
		CHECK_INT(refund(two, 2, 99999), NOTIF_OK);
	CHECK_INT(state_len, 0);
	CHECK_INT(refund(two, 2, 99999), NOTIF_OK);
	CHECK_INT(state_len, 0);
}

int
main(void)
{
	test_simple();
	test_none_and_errors();
	test_full_state();
	test_properties();
	test_coarse_throughput();
	test_corrupt();
	test_clock_back();
	test_refund();
	return unit_done();
}
