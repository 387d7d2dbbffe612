/*
 * fuzz_breaker.c
 *		libFuzzer target: a breaker and a pacer through any history.
 *
 * Input: a byte of volume, then events of four bytes each: what, and three bytes
 * of argument.  Traps when something passes that must not, when a change of
 * state goes without an epoch, or when a wait is longer than any may be.
 */
#include <stdint.h>
#include <string.h>

#include "../../src/core/breaker.h"
#include "../../src/core/pacer.h"

int			LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

#define SECOND_US INT64_C(1000000)
#define LONGEST_US (INT64_C(3960) * SECOND_US)

static void
require(int ok)
{
	if (!ok)
		__builtin_trap();
}

static void
drive_breaker(NotifBreaker *b, int64_t now, int volume, uint8_t what, uint32_t arg)
{
	const NotifBreakerState from = b->state;
	const uint64_t epoch = b->epoch;
	bool		blameless;
	int			n;

	switch (what % 8)
	{
		case 0:
			require(notif_breaker_tick(b, now, arg & 1) == (b->epoch != epoch));
			break;
		case 1:
			n = notif_breaker_grant(b, now, (int) (arg % 5000), arg & 1 ? arg % 977 : 0, 1 + arg % 13);
			require(n >= 0 && n <= (int) (arg % 5000));
			require(b->state != NOTIF_BREAKER_OPEN || n == 0);
			require(b->state != NOTIF_BREAKER_HALF_OPEN || n <= NOTIF_BREAKER_PROBES);
			break;
		case 2:
			notif_breaker_return(b, arg & 1 ? epoch : epoch - 1, (int) (arg >> 4));
			break;
		case 3:
			if (arg % 31 == 0)
				notif_breaker_open(b, now);
			else if (arg % 29 == 0)
				notif_breaker_close(b, now);
			else
				notif_breaker_hurry(b, now);
			break;
		case 4:
			notif_breaker_restore(b, epoch + 1, (NotifBreakerState) (arg % 4), (NotifBreakerCause) (arg / 4 % 6),
								  (int) (arg % 300) - 20, (int64_t) arg * SECOND_US - 1000 * SECOND_US, now);
			require(b->epoch == epoch + 1);
			break;
		default:
			require(notif_breaker_note(b, now, arg & 1 ? epoch : epoch - 1, (NotifSign) (arg / 2 % 6), volume,
									   arg * 251, &blameless) == (b->epoch != epoch));
			break;
	}
	require(b->epoch >= epoch && (b->state == from || b->epoch != epoch));
	(void) notif_breaker_tick(b, now, false);
	{
		int64_t		wait = notif_breaker_wait_us(b, now, 1 + arg % 100);
		int			share = notif_breaker_share(b, now);
		NotifBreakerCounts counts;

		require(wait >= 0 && (wait <= LONGEST_US ||
							  (wait == INT64_MAX && b->state == NOTIF_BREAKER_OPEN)));
		require(share >= 0 && share <= 1000);
		require(notif_breaker_room(b, now, (int) (arg % 100), 50) <= 50);
		notif_breaker_counts(b, now, &counts);
		require(counts.failed <= counts.results && counts.suspects <= counts.results);
	}
}

static void
drive_pacer(NotifPacer *p, int64_t now, uint8_t what, uint32_t arg)
{
	const int	wanted = (int) (arg % 3000);
	int			n;

	switch (what % 5)
	{
		case 0:
			notif_pacer_limit(p, &(NotifPacerLimits) {arg & 1 ? (arg % 50000) / 10.0 : 0, 1 + arg % 100,
													   arg & 2 ? (int) (arg % 500) : 0}, now);
			break;
		case 1:
			(void) notif_pacer_throttle(p, now, now - (int64_t) (arg % 1000) * 1000, (int) arg - 5000000);
			break;
		default:
			n = notif_pacer_grant(p, now, (int) (arg % NOTIF_PACER_CLASSES), (int) (arg / 7 % 600), wanted);
			require(n >= 0 && n <= wanted);
			notif_pacer_settle(p, now, n, n > 0 ? (int) (arg % (uint32_t) (n + 1)) : 0);
			break;
	}
	require(p->tokens >= 0 && p->slow_rate >= 0);
	require(notif_pacer_rate(p, now) >= 0);
	require(notif_pacer_wait_us(p, now, (int) (arg % NOTIF_PACER_CLASSES), 0, wanted) >= 0);
	require(notif_pacer_resume_us(p, now) == INT64_MIN ||
			notif_pacer_resume_us(p, now) - now <= NOTIF_PACER_PAUSE_MAX_S * SECOND_US);
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	NotifBreaker breaker;
	NotifPacer	pacer;
	int64_t		now = 0;
	int			volume;

	if (size < 1)
		return 0;
	volume = 4 + input[0];
	notif_breaker_init(&breaker, 1, now);
	notif_pacer_init(&pacer, now);
	for (size_t i = 1; i + 4 <= size; i += 4)
	{
		const uint8_t what = input[i];
		const uint32_t arg = (uint32_t) input[i + 1] << 16 | (uint32_t) input[i + 2] << 8 | input[i + 3];

		if (what >= 240)
			now += ((int64_t) arg - (1 << 23)) * (what & 1 ? 1000 : SECOND_US);
		else if (what & 1)
			drive_breaker(&breaker, now, volume, what >> 1, arg);
		else
			drive_pacer(&pacer, now, what >> 1, arg);
	}
	return 0;
}
