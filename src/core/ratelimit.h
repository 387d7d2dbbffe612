/*
 * ratelimit.h
 *		"n per window" limits in layers, exact, over a compact state.
 *
 * The promise: no interval [t, t + window) holds more than n sends, for every
 * layer at once.  A send passes all layers that apply to it or is charged to
 * none.
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
 * A state that cannot be read counts as empty.  Two callers whose times differ
 * by less than a minute may come in either order; should the clock have stepped
 * back by more, sends dated in the future are taken as sent now.
 */
#ifndef NOTIF_CORE_RATELIMIT_H
#define NOTIF_CORE_RATELIMIT_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#define NOTIF_RATE_LAYERS_MAX	64
#define NOTIF_RATE_EXACT		32
#define NOTIF_RATE_WINDOW_MAX_MS	INT64_C(315576000000)	/* 10 years */

/* Room for any state. */
#define NOTIF_RATE_STATE_MAX	32768

typedef struct NotifRateLayer
{
	uint32_t	id;				/* names the layer in the state; unique */
	uint32_t	limit;			/* most sends per window; 0: none at all */
	int64_t		window_ms;		/* 1 … NOTIF_RATE_WINDOW_MAX_MS */
} NotifRateLayer;

/* What a full layer does with a send, from the mildest to the hardest. */
typedef enum NotifRateAction
{
	NOTIF_RATE_DEFER,
	NOTIF_RATE_FOLD,
	NOTIF_RATE_DROP
} NotifRateAction;

typedef struct NotifRateVerdict
{
	int			layer;			/* index of the layer that stops it; -1: it passes */
	int64_t		retry_at_ms;	/* when to try it again; 0 unless it is deferred */
} NotifRateVerdict;

/*
 * Charges n sends at now_ms, each in its turn: bit i of masks[k] says that
 * layers[i] applies to the k-th.  It passes if all of these have room, and is
 * charged to them.  Otherwise the hardest action among those that are full
 * decides, and among equals the layer that stays full for longest.  Deferred
 * ones are given times one behind the other, as they would pass if nobody else
 * came: so a backlog does not come back as a whole.
 *
 * out (may be the buffer of state), *out_len and errors as below.
 */
NotifStatus notif_ratelimit_charge_each(const uint8_t *state, size_t len,
										const NotifRateLayer *layers,
										const NotifRateAction *actions, int n_layers,
										int64_t now_ms, const uint64_t *masks, int n,
										uint8_t *out, size_t out_size, size_t *out_len,
										NotifRateVerdict *verdicts);

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
 * Gives back units that were charged at charged_at_ms and never sent, to those
 * layers[i] of whose mask bit i is set; the others stay as they are.  If these
 * very units are not there any more, the latest ones before them go, which can
 * only make later sends wait longer, never let one too many pass; no more than
 * were charged at one time, and a layer that has none gives nothing.  Errors as
 * above, also for a negative number of units.
 */
NotifStatus notif_ratelimit_refund(const uint8_t *state, size_t len,
								   const NotifRateLayer *layers, int n_layers, uint64_t mask,
								   int64_t charged_at_ms, int units,
								   uint8_t *out, size_t out_size, size_t *out_len);

/*
 * What each layer would still let pass at now_ms, and when it would let one
 * more pass (INT64_MAX for a limit of 0).  left and next_ms have room for n_layers.  NOTIF_EINVAL as above.
 */
NotifStatus notif_ratelimit_look(const uint8_t *state, size_t len,
								 const NotifRateLayer *layers, int n_layers,
								 int64_t now_ms, uint32_t *left, int64_t *next_ms);

/*
 * Until when what is charged to a valid layer at now_ms may be sent without
 * breaking the promise: the end of the sub-window that it is dated at, now_ms
 * itself for an exact layer.
 */
int64_t		notif_ratelimit_until(const NotifRateLayer *layer, int64_t now_ms);

#endif							/* NOTIF_CORE_RATELIMIT_H */
