/*
 * backoff.c
 *		Exponential backoff with full jitter; see backoff.h.
 */
#include "backoff.h"

int64_t
notif_backoff_ceiling_ms(int attempt, int64_t base_ms, int64_t cap_ms)
{
	int64_t		ceiling = base_ms > 1 ? base_ms : 1;

	if (cap_ms < 1)
		cap_ms = 1;
	for (int i = 1; i < attempt && ceiling < cap_ms; i++)
		ceiling = ceiling > cap_ms / 2 ? cap_ms : ceiling * 2;
	return ceiling < cap_ms ? ceiling : cap_ms;
}

int64_t
notif_backoff_ms(int attempt, int64_t base_ms, int64_t cap_ms, uint64_t random)
{
	uint64_t	ceiling = (uint64_t) notif_backoff_ceiling_ms(attempt, base_ms, cap_ms);

	/* the bias of the remainder is below ceiling / 2^64 */
	return (int64_t) (random % ceiling) + 1;
}
