/*
 * fuzz_ratelimit.c
 *		libFuzzer target: rate limit states from anywhere.
 *
 * Input: layer count, 10 bytes per layer, 6 bytes of time, wanted, then the
 * state.  Traps if more is granted than wanted or allowed, if a charge's own
 * output cannot be charged again within the promise, or if outputs overflow.
 */
#include <stdint.h>
#include <string.h>

#include "../../src/core/ratelimit.h"

int			LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static uint64_t
take(const uint8_t **at, const uint8_t *end, int bytes)
{
	uint64_t	value = 0;

	while (bytes-- > 0 && *at < end)
		value = value << 8 | *(*at)++;
	return value;
}

/* Sends one by one: what passes a layer is no more than it allows, and what is
 * refused names one of its own. */
static void
each(const uint8_t *state, size_t len, const NotifRateLayer *layers, int n, int64_t now, int seed)
{
	uint8_t		out[NOTIF_RATE_STATE_MAX];
	size_t		out_len;
	NotifRateAction actions[NOTIF_RATE_LAYERS_MAX];
	NotifRateVerdict verdicts[16];
	uint64_t	masks[16];
	uint32_t	passed[NOTIF_RATE_LAYERS_MAX] = {0};

	for (int i = 0; i < n; i++)
		actions[i] = (NotifRateAction) ((seed + i) % 3);
	for (int k = 0; k < 16; k++)
		masks[k] = (uint64_t) (seed + 1) * UINT64_C(0x9E3779B97F4A7C15) >> k;
	if (notif_ratelimit_charge_each(state, len, layers, actions, n, now, masks, 16, out, sizeof(out),
									&out_len, verdicts) != NOTIF_OK)
		return;
	for (int k = 0; k < 16; k++)
	{
		if (verdicts[k].layer >= n ||
			(verdicts[k].layer >= 0 && (masks[k] >> verdicts[k].layer & 1) == 0) ||
			(verdicts[k].layer >= 0 && actions[verdicts[k].layer] == NOTIF_RATE_DEFER) != (verdicts[k].retry_at_ms != 0))
			__builtin_trap();
		for (int i = 0; i < n && verdicts[k].layer < 0; i++)
		{
			if ((masks[k] >> i & 1) != 0 && ++passed[i] > layers[i].limit)
				__builtin_trap();
		}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	const uint8_t *at = input;
	const uint8_t *end = input + size;
	NotifRateLayer layers[NOTIF_RATE_LAYERS_MAX];
	int			n = (int) take(&at, end, 1) % (NOTIF_RATE_LAYERS_MAX + 1);
	uint8_t		out[NOTIF_RATE_STATE_MAX];
	size_t		out_len;
	int64_t		now;
	int			wanted;
	int			granted;
	int			again;
	int			layer;
	int64_t		retry_at;
	uint32_t	lowest = UINT32_MAX;

	for (int i = 0; i < n; i++)
	{
		layers[i].id = (uint32_t) take(&at, end, 2);
		layers[i].limit = (uint32_t) take(&at, end, 3);
		layers[i].window_ms = (int64_t) take(&at, end, 5);
		lowest = layers[i].limit < lowest ? layers[i].limit : lowest;
	}
	now = (int64_t) take(&at, end, 6);
	wanted = (int) take(&at, end, 2);
	each(at, (size_t) (end - at), layers, n, now, wanted);
	if (notif_ratelimit_charge(at, (size_t) (end - at), layers, n, now, wanted, out, sizeof(out),
							   &out_len, &granted, &layer, &retry_at) != NOTIF_OK)
		return 0;
	if (granted < 0 || granted > wanted || (n > 0 && (uint32_t) granted > lowest) ||
		(granted == wanted) != (layer < 0) || (layer >= 0 && (layer >= n || retry_at <= now)))
		__builtin_trap();
	if (notif_ratelimit_charge(out, out_len, layers, n, now, wanted, out, sizeof(out),
							   &out_len, &again, &layer, &retry_at) != NOTIF_OK ||
		(n > 0 && (uint32_t) (granted + again) > lowest))
		__builtin_trap();
	if (layer >= 0 && retry_at < INT64_MAX && retry_at < (INT64_C(1) << 50))
	{
		/* what is promised for later holds, and not a millisecond before */
		uint8_t		later[NOTIF_RATE_STATE_MAX];
		size_t		later_len;
		int			more;
		int64_t		ignored;

		if (notif_ratelimit_charge(out, out_len, layers, n, retry_at - 1, 1, later, sizeof(later),
								   &later_len, &more, &layer, &ignored) != NOTIF_OK || more != 0)
			__builtin_trap();
		if (notif_ratelimit_charge(out, out_len, layers, n, retry_at, 1, later, sizeof(later),
								   &later_len, &more, &layer, &ignored) != NOTIF_OK || more != 1)
			__builtin_trap();
	}
	if (granted > 0 && n > 0)
	{
		size_t		refunded_len;

		if (notif_ratelimit_refund(out, out_len, layers, n, UINT64_MAX, now, 1, out, sizeof(out),
								   &refunded_len) != NOTIF_OK || refunded_len > out_len + 64)
			__builtin_trap();
	}
	return 0;
}
