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
	return notif_ratelimit_refund(state, state_len, layers, n, UINT64_MAX, charged_at, 1, state, sizeof(state),
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
	/* not to a layer that is not asked for: the other one has room now */
	CHECK_INT(notif_ratelimit_refund(state, state_len, two, 2, 2, 10300, 1, state, sizeof(state), &state_len), NOTIF_OK);
	charge(two, 2, 10500, 1);
	CHECK_INT(granted, 0);
	CHECK_INT(notif_ratelimit_refund(state, state_len, two, 2, 1, 10300, 1, state, sizeof(state), &state_len), NOTIF_OK);
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
	CHECK_INT(refund(two, 2, -1), NOTIF_EINVAL);
}

/* ---- sends one by one, each with its own layers ---------------------------- */

#define EACH_LAYERS 64
#define EACH_SENDS 64

static NotifRateVerdict verdicts[EACH_SENDS];

static NotifStatus
charge_each(const NotifRateLayer *layers, const NotifRateAction *actions, int n_layers, int64_t now,
			const uint64_t *masks, int n)
{
	return notif_ratelimit_charge_each(state, state_len, layers, actions, n_layers, now, masks, n,
									   state, sizeof(state), &state_len, verdicts);
}

static void
test_each(void)
{
	const NotifRateLayer layers[] = {{1, 2, 1000}, {2, 1, 60000}, {3, 3, 5000}};
	const NotifRateAction actions[] = {NOTIF_RATE_DEFER, NOTIF_RATE_DROP, NOTIF_RATE_DEFER};
	const uint64_t all[] = {7, 7, 1, 1, 1, 1, 0};

	state_len = 0;
	CHECK_INT(charge_each(layers, actions, 3, 10000, all, 7), NOTIF_OK);
	CHECK_INT(verdicts[0].layer, -1);
	/* the second is stopped by the layer that drops, and charged to none */
	CHECK_INT(verdicts[1].layer, 1);
	CHECK_INT(verdicts[1].retry_at_ms, 0);
	CHECK_INT(verdicts[2].layer, -1);
	/* what waits comes in turn: two a second */
	CHECK_INT(verdicts[3].layer, 0);
	CHECK_INT(verdicts[3].retry_at_ms, 11000);
	CHECK_INT(verdicts[4].retry_at_ms, 11000);
	CHECK_INT(verdicts[5].retry_at_ms, 12000);
	/* what no layer applies to passes */
	CHECK_INT(verdicts[6].layer, -1);
	/* a bit without a layer means nothing; one layer's bit leaves the others */
	{
		const uint64_t third[] = {UINT64_C(4) | UINT64_C(1) << 40, 4, 4, 4};

		CHECK_INT(charge_each(layers, actions, 3, 10500, third, 4), NOTIF_OK);
		CHECK_INT(verdicts[1].layer, -1);
		CHECK_INT(verdicts[2].layer, 2);
		/* the earliest of the three, of 10000, leaves first */
		CHECK_INT(verdicts[2].retry_at_ms, 15000);
		CHECK_INT(verdicts[3].retry_at_ms, 15500);
	}
	/* full both: the layer that drops decides, whichever opens first */
	{
		const uint64_t both[] = {3};

		CHECK_INT(charge_each(layers, actions, 3, 10600, both, 1), NOTIF_OK);
		CHECK_INT(verdicts[0].layer, 1);
	}
	/* folding is between the two */
	{
		const NotifRateAction folds[] = {NOTIF_RATE_FOLD, NOTIF_RATE_DEFER, NOTIF_RATE_DEFER};
		const uint64_t both[] = {3};

		CHECK_INT(charge_each(layers, folds, 3, 10600, both, 1), NOTIF_OK);
		CHECK_INT(verdicts[0].layer, 0);
		CHECK_INT(verdicts[0].retry_at_ms, 0);
	}
	/* no sends: only what has passed leaves the state */
	CHECK_INT(charge_each(layers, actions, 3, 900000, NULL, 0), NOTIF_OK);
	CHECK_INT(state_len, 0);
	CHECK_INT(charge_each(layers, actions, 3, 900000, NULL, -1), NOTIF_EINVAL);
}

/* Two callers in the other order: the later mark stays where it is. */
static void
test_skew(void)
{
	const NotifRateLayer layer = {1, 2, 1000};
	const NotifRateAction action = NOTIF_RATE_DEFER;
	const uint64_t one[] = {1};

	state_len = 0;
	CHECK_INT(charge_each(&layer, &action, 1, 100020, one, 1), NOTIF_OK);
	CHECK_INT(charge_each(&layer, &action, 1, 100000, one, 1), NOTIF_OK);
	CHECK_INT(verdicts[0].layer, -1);
	CHECK_INT(charge_each(&layer, &action, 1, 101000, one, 1), NOTIF_OK);
	CHECK_INT(verdicts[0].layer, 0);
	CHECK_INT(verdicts[0].retry_at_ms, 101020);
}

/*
 * Random sends with random masks over up to 64 layers, against the list of all
 * that passed: what passes breaks no limit, what is refused would break one (of
 * exact layers), and the layer named is full and of the hardest action.
 */
static void
test_each_property(void)
{
	static int64_t sends[20000];
	static uint64_t of[20000];

	for (int round = 0; round < 30; round++)
	{
		NotifRateLayer layers[EACH_LAYERS];
		NotifRateAction actions[EACH_LAYERS];
		bool		coarse = round % 3 == 2;
		int			n_layers = 1 + (int) (rng() % (round < 10 ? 6 : EACH_LAYERS));
		int			n_sends = 0;
		int			wrong = 0;
		int64_t		now = 1700000000000;

		for (int i = 0; i < n_layers; i++)
		{
			layers[i] = (NotifRateLayer) {(uint32_t) (1000 - i), (uint32_t) (1 + rng() % (coarse ? 100 : 32)),
			(int64_t) (50 + rng() % 20000)};
			actions[i] = (NotifRateAction) (rng() % 3);
		}
		state_len = 0;
		for (int step = 0; step < 300; step++)
		{
			uint64_t	masks[EACH_SENDS];
			int			n = (int) (rng() % EACH_SENDS);

			now += (int64_t) (rng() % 700);
			for (int k = 0; k < n; k++)
				masks[k] = rng() & rng() & rng() & (n_layers == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n_layers) - 1);
			if (charge_each(layers, actions, n_layers, now, masks, n) != NOTIF_OK)
			{
				wrong++;
				break;
			}
			for (int k = 0; k < n; k++)
			{
				uint64_t	full = 0;
				int			hardest = -1;
				int			stop = verdicts[k].layer;

				for (int i = 0; i < n_layers; i++)
				{
					int			held = 0;

					if ((masks[k] >> i & 1) == 0)
						continue;
					for (int j = n_sends - 1; j >= 0 && sends[j] > now - layers[i].window_ms; j--)
						held += (int) (of[j] >> i & 1);
					wrong += held > (int) layers[i].limit;
					if (held >= (int) layers[i].limit)
					{
						full |= UINT64_C(1) << i;
						if ((int) actions[i] > hardest)
							hardest = (int) actions[i];
					}
				}
				if (stop < 0)
				{
					wrong += full != 0;
					if (n_sends < 20000)
					{
						sends[n_sends] = now;
						of[n_sends++] = masks[k];
					}
					continue;
				}
				wrong += (masks[k] >> stop & 1) == 0;
				if (!coarse)
					wrong += (full >> stop & 1) == 0 || (int) actions[stop] != hardest;
				wrong += actions[stop] == NOTIF_RATE_DEFER ? verdicts[k].retry_at_ms <= now : verdicts[k].retry_at_ms != 0;
			}
		}
		CHECK_INT(wrong, 0);
		CHECK(n_sends > 20);
	}
}

/* The times given to what is deferred are those at which it passes. */
static void
test_each_turns(void)
{
	const NotifRateLayer layers[] = {{1, 3, 1000}, {2, 5, 7000}, {3, 50, 60000}};
	const NotifRateAction actions[] = {NOTIF_RATE_DEFER, NOTIF_RATE_DEFER, NOTIF_RATE_DEFER};
	uint64_t	masks[EACH_SENDS];
	int64_t		due[EACH_SENDS];

	for (int k = 0; k < EACH_SENDS; k++)
		masks[k] = k % 3 == 0 ? 3 : 7;
	state_len = 0;
	CHECK_INT(charge_each(layers, actions, 3, 50000, masks, EACH_SENDS), NOTIF_OK);
	for (int k = 0; k < EACH_SENDS; k++)
	{
		CHECK_INT(verdicts[k].layer < 0, k < 3);
		due[k] = verdicts[k].retry_at_ms;
		CHECK(k < 4 || due[k] >= due[k - 1]);
	}
	/* the first eight: five in seven seconds */
	CHECK_INT(due[3], 51000);
	CHECK_INT(due[4], 51000);
	CHECK_INT(due[5], 57000);
	CHECK_INT(due[7], 57000);
	CHECK_INT(due[8], 58000);
	for (int k = 3; k < EACH_SENDS; k++)
	{
		CHECK_INT(charge_each(layers, actions, 3, due[k], &masks[k], 1), NOTIF_OK);
		CHECK_INT(verdicts[0].layer, -1);
	}
}

static void
test_look_and_units(void)
{
	const NotifRateLayer two[] = {{1, 3, 1000}, {2, 3200, 32000}};
	uint32_t	left[2];
	int64_t		next[2];

	state_len = 0;
	charge(two, 2, 64100, 3);
	CHECK_INT(granted, 3);
	CHECK_INT(notif_ratelimit_look(state, state_len, two, 2, 64200, left, next), NOTIF_OK);
	CHECK_INT(left[0], 0);
	CHECK_INT(next[0], 65100);
	CHECK_INT(left[1], 3197);
	CHECK_INT(next[1], 64200);
	CHECK_INT(notif_ratelimit_look(state, state_len, two, 2, -1, left, next), NOTIF_EINVAL);
	/* dated at the end of its sub-window, and given back there */
	CHECK_INT(notif_ratelimit_until(&two[0], 64100), 64100);
	CHECK_INT(notif_ratelimit_until(&two[1], 64100), 65000);
	CHECK_INT(notif_ratelimit_refund(state, state_len, &two[1], 1, 1, 65000, 2, state, sizeof(state), &state_len), NOTIF_OK);
	CHECK_INT(notif_ratelimit_look(state, state_len, &two[1], 1, 64200, left, next), NOTIF_OK);
	CHECK_INT(left[0], 3199);
	/* no more than there are */
	CHECK_INT(notif_ratelimit_refund(state, state_len, &two[1], 1, 1, 65000, 99, state, sizeof(state), &state_len), NOTIF_OK);
	CHECK_INT(notif_ratelimit_look(state, state_len, &two[1], 1, 64200, left, next), NOTIF_OK);
	CHECK_INT(left[0], 3200);
	CHECK_INT(notif_ratelimit_refund(state, state_len, &two[1], 1, 1, 65000, -1, state, sizeof(state), &state_len), NOTIF_EINVAL);
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
	test_each();
	test_skew();
	test_each_property();
	test_each_turns();
	test_look_and_units();
	return unit_done();
}
