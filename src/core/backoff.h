/*
 * backoff.h
 *		Exponential backoff with full jitter.
 */
#ifndef NOTIF_CORE_BACKOFF_H
#define NOTIF_CORE_BACKOFF_H

#include <stdint.h>

/*
 * The upper end of the delay after the given attempt (1 is the first):
 * base_ms doubled per further attempt, at most cap_ms.  Attempts below 1 count
 * as 1; base_ms below 1 counts as 1.
 */
int64_t		notif_backoff_ceiling_ms(int attempt, int64_t base_ms, int64_t cap_ms);

/*
 * A delay spread evenly over 1 … ceiling by random, any 64 random bits.  All
 * of the range, not a share of it: deliveries that failed together must not
 * come back together.
 */
int64_t		notif_backoff_ms(int attempt, int64_t base_ms, int64_t cap_ms, uint64_t random);

#endif							/* NOTIF_CORE_BACKOFF_H */
