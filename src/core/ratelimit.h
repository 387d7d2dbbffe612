/*
 * ratelimit.h
 *		"n per window" limits in layers, exact, over a compact state.
 *
 * The promise: no interval [t, t + window) holds more than n sends, for every
 * layer at once.  A unit passes all layers or is charged to none.
 *
 * The state of one holder (a recipient, say) is a byte string that the caller
 * stores: per layer the times of the sends that still count.  Up to
 * NOTIF_RATE_EXACT sends per window each has its own millisecond.  Above that,
 * sends are counted in NOTIF_RATE_EXACT sub-windows, each dated at its end:
 * the promise holds all the same, and at worst a limit of n passes n sends per
 * 33/32 of a window.  (GCRA would need half as much memory and would have to
 * halve the sustained rate to keep the promise: its burst adds to its rate.)
 *
 * Layers that are not configured any more leave the state at the next charge.
 * A state that cannot be read counts as empty.  Should the clock have stepped
 * back, sends dated in the future are taken as sent now.
 */
#ifndef NOTIF_CORE_RATELIMIT_H
#define NOTIF_CORE_RATELIMIT_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#define NOTIF_RATE_LAYERS_MAX	16
#define NOTIF_RATE_EXACT		32
#define NOTIF_RATE_WINDOW_MAX_MS	INT64_C(315576000000)	/* 10 years */

/* Room for any state. */
#define NOTIF_RATE_STATE_MAX	8192

typedef struct NotifRateLayer
{
	uint32_t	id;				/* names the layer in the state; unique */
	uint32_t	limit;			/* most sends per window; 0: none at all */
	int64_t		window_ms;		/* 1 … NOTIF_RATE_WINDOW_MAX_MS */
} NotifRateLayer;

/*
 * Charges up to wanted units at now_ms.  *granted of them pass; the new state
 * goes to out (may be the buffer of state), its length to *out_len.  If fewer
 * than wanted pass, *stopping_layer is the index of the layer that stops the
 * next unit for longest, and *retry_at_ms when it would pass (INT64_MAX for a
 * limit of 0); otherwise -1 and 0.
 *
 * NOTIF_EINVAL for layers that are malformed or too many, a negative time or a
 * negative wanted; NOTIF_ETOOBIG if out_size is too small (NOTIF_RATE_STATE_MAX
 * never is).  After an error nothing was charged and out is undefined.
 */
NotifStatus notif_ratelimit_charge(const uint8_t *state, size_t len,
								   const NotifRateLayer *layers, int n_layers,
								   int64_t now_ms, int wanted,
								   uint8_t *out, size_t out_size, size_t *out_len,
								   int *granted, int *stopping_layer, int64_t *retry_at_ms);

/*
 * Gives back one unit that was charged at charged_at_ms and never sent.  If
 * that very unit is not there any more, the latest one before it goes, which
 * can only make later sends wait longer, never let one too many pass; a layer
 * that has none gives nothing.  charged_at_ms < 0: not known, the earliest unit
 * goes.  Errors as above.
 */
NotifStatus notif_ratelimit_refund(const uint8_t *state, size_t len,
								   const NotifRateLayer *layers, int n_layers,
								   int64_t charged_at_ms,
								   uint8_t *out, size_t out_size, size_t *out_len);

#endif							/* NOTIF_CORE_RATELIMIT_H */
