/*
 * breaker.c
 *		A circuit breaker as a pure state machine; see breaker.h.
 *
 * Every change of state goes through breaker_enter, which begins the epoch.
 */
#include "breaker.h"

#include <stddef.h>
#include <string.h>

#define SECOND_US	INT64_C(1000000)
#define JITTER_PERCENT 10

static const char *const state_words[] = {"closed", "open", "half_open", "recovering"};
static const char *const cause_words[] = {
	"none", "failures", "unreached", "suspects", "credentials", "manual"
};

static void breaker_enter(NotifBreaker *b, NotifBreakerState state, int64_t now_us);
static void breaker_trip(NotifBreaker *b, NotifBreakerCause cause, int step, int64_t now_us,
						 uint32_t random);
static void breaker_count(NotifBreaker *b, int64_t now_us, NotifSign sign);
static NotifBreakerCause breaker_verdict(const NotifBreaker *b, int64_t now_us, int volume);
static bool breaker_note_flow(NotifBreaker *b, int64_t now_us, NotifSign sign, int volume,
							  uint32_t random);
static bool breaker_note_probe(NotifBreaker *b, int64_t now_us, NotifSign sign, uint32_t random);
static void breaker_refill(NotifBreaker *b, int64_t now_us, double rate, double burst);
static int64_t breaker_longest_us(const NotifBreaker *b);

void
notif_breaker_init(NotifBreaker *b, uint64_t epoch, int64_t now_us)
{
	memset(b, 0, sizeof(*b));
	b->epoch = epoch > 0 ? epoch - 1 : 0;
	breaker_enter(b, NOTIF_BREAKER_CLOSED, now_us);
}

/* Nothing that was counted in one state says anything in the next. */
static void
breaker_enter(NotifBreaker *b, NotifBreakerState state, int64_t now_us)
{
	b->state = state;
	b->epoch++;
	b->since_us = now_us;
	b->granted = 0;
	b->good = 0;
	b->failed = 0;
	b->suspects = 0;
	b->granted_us = now_us;
	b->tokens = state == NOTIF_BREAKER_RECOVERING ? 1 : 0;
	b->tokens_us = now_us;
	b->unreached = 0;
	memset(b->seconds, 0, sizeof(b->seconds));
	if (state == NOTIF_BREAKER_CLOSED)
		b->cause = NOTIF_BREAKER_CAUSE_NONE;
	if (state == NOTIF_BREAKER_CLOSED || state == NOTIF_BREAKER_RECOVERING)
		b->step = 0;
	if (state != NOTIF_BREAKER_OPEN)
		b->probe_us = NOTIF_BREAKER_NEVER;
}

static void
breaker_trip(NotifBreaker *b, NotifBreakerCause cause, int step, int64_t now_us, uint32_t random)
{
	int64_t		wait = notif_breaker_interval_us(step);
	int64_t		jitter = wait / 100 * JITTER_PERCENT;

	breaker_enter(b, NOTIF_BREAKER_OPEN, now_us);
	b->cause = cause;
	b->step = step;
	/* evenly between 90% and 110% of it */
	b->probe_us = now_us + wait - jitter + (int64_t) ((double) random / UINT32_MAX * (double) (2 * jitter));
}

int64_t
notif_breaker_interval_us(int step)
{
	static const int seconds[] = {30, 60, 300, 1500, 3600};
	const int	last = (int) (sizeof(seconds) / sizeof(seconds[0])) - 1;

	if (step < 0)
		step = 0;
	return seconds[step < last ? step : last] * SECOND_US;
}

static int64_t
breaker_longest_us(const NotifBreaker *b)
{
	return notif_breaker_interval_us(b->step) / 100 * (100 + JITTER_PERCENT);
}

bool
notif_breaker_tick(NotifBreaker *b, int64_t now_us, bool wants_to_send)
{
	switch (b->state)
	{
		case NOTIF_BREAKER_CLOSED:
			break;
		case NOTIF_BREAKER_OPEN:
			if (b->probe_us == NOTIF_BREAKER_NEVER)
				break;
			if (b->probe_us - now_us > breaker_longest_us(b))
				b->probe_us = now_us + breaker_longest_us(b);
			if (now_us < b->probe_us || !wants_to_send)
				break;
			breaker_enter(b, NOTIF_BREAKER_HALF_OPEN, now_us);
			return true;
		case NOTIF_BREAKER_HALF_OPEN:
			if (b->granted_us > now_us)
				b->granted_us = now_us;
			/* who had them is gone: others may try */
			if (now_us - b->granted_us >= NOTIF_BREAKER_PROBE_LOST_US)
				b->granted = b->good + b->failed + b->suspects;
			break;
		case NOTIF_BREAKER_RECOVERING:
			if (b->since_us > now_us)
				b->since_us = now_us;
			if (now_us - b->since_us < NOTIF_BREAKER_RAMP_US)
				break;
			breaker_enter(b, NOTIF_BREAKER_CLOSED, now_us);
			return true;
	}
	return false;
}

int
notif_breaker_share(const NotifBreaker *b, int64_t now_us)
{
	int64_t		gone;

	switch (b->state)
	{
		case NOTIF_BREAKER_CLOSED:
			return 1000;
		case NOTIF_BREAKER_OPEN:
		case NOTIF_BREAKER_HALF_OPEN:
			return 0;
		case NOTIF_BREAKER_RECOVERING:
			break;
	}
	gone = now_us - b->since_us;
	if (gone < 0)
		gone = 0;
	if (gone >= NOTIF_BREAKER_RAMP_US)
		return 1000;
	return NOTIF_BREAKER_RAMP_FROM +
		(int) ((1000 - NOTIF_BREAKER_RAMP_FROM) * gone / NOTIF_BREAKER_RAMP_US);
}

int
notif_breaker_room(const NotifBreaker *b, int64_t now_us, int in_flight, int capacity)
{
	int64_t		allowed = capacity;

	if (b->state == NOTIF_BREAKER_OPEN && (b->probe_us == NOTIF_BREAKER_NEVER || now_us < b->probe_us))
		return 0;
	if (b->state == NOTIF_BREAKER_RECOVERING)
	{
		allowed = allowed * notif_breaker_share(b, now_us) / 1000;
		if (allowed == 0 && capacity > 0)
			allowed = 1;
	}
	return allowed > in_flight ? (int) (allowed - in_flight) : 0;
}

static void
breaker_refill(NotifBreaker *b, int64_t now_us, double rate, double burst)
{
	double		share = notif_breaker_share(b, now_us) / 1000.0;
	double		most = burst * share;

	if (most < 1)
		most = 1;
	if (now_us > b->tokens_us)
		b->tokens += (double) (now_us - b->tokens_us) / SECOND_US * rate * share;
	if (b->tokens > most)
		b->tokens = most;
	b->tokens_us = now_us;
}

int
notif_breaker_grant(NotifBreaker *b, int64_t now_us, int wanted, double rate, double burst)
{
	int			n = wanted;

	if (wanted <= 0)
		return 0;
	switch (b->state)
	{
		case NOTIF_BREAKER_CLOSED:
			break;
		case NOTIF_BREAKER_OPEN:
			n = 0;
			break;
		case NOTIF_BREAKER_HALF_OPEN:
			if (n > NOTIF_BREAKER_PROBES - b->granted)
				n = NOTIF_BREAKER_PROBES - b->granted;
			if (n > 0)
			{
				b->granted += n;
				b->granted_us = now_us;
			}
			break;
		case NOTIF_BREAKER_RECOVERING:
			if (rate <= 0)
				break;
			breaker_refill(b, now_us, rate, burst);
			if (n > b->tokens)
				n = (int) b->tokens;
			b->tokens -= n;
			break;
	}
	return n;
}

void
notif_breaker_return(NotifBreaker *b, uint64_t epoch, int n)
{
	int			decided = b->good + b->failed + b->suspects;

	if (epoch != b->epoch || n <= 0)
		return;
	if (b->state == NOTIF_BREAKER_HALF_OPEN)
		b->granted = b->granted - n > decided ? b->granted - n : decided;
	else if (b->state == NOTIF_BREAKER_RECOVERING)
		b->tokens += n;			/* the next refill caps it */
}

int64_t
notif_breaker_wait_us(const NotifBreaker *b, int64_t now_us, double rate)
{
	int64_t		wait = 0;

	switch (b->state)
	{
		case NOTIF_BREAKER_CLOSED:
			return 0;
		case NOTIF_BREAKER_OPEN:
			if (b->probe_us == NOTIF_BREAKER_NEVER)
				return INT64_MAX;
			wait = b->probe_us - now_us;
			if (wait > breaker_longest_us(b))
				wait = breaker_longest_us(b);
			break;
		case NOTIF_BREAKER_HALF_OPEN:
			if (b->granted < NOTIF_BREAKER_PROBES)
				return 0;
			wait = b->granted_us + NOTIF_BREAKER_PROBE_LOST_US - now_us;
			if (wait > NOTIF_BREAKER_PROBE_LOST_US)
				wait = NOTIF_BREAKER_PROBE_LOST_US;
			break;
		case NOTIF_BREAKER_RECOVERING:
			if (rate > 0 && b->tokens < 1)
			{
				double		share = notif_breaker_share(b, now_us) / 1000.0;
				double		seconds = (1 - b->tokens) / (rate * share);

				wait = b->tokens_us + (int64_t) (seconds * SECOND_US) + 1 - now_us;
				if (wait > (int64_t) (seconds * SECOND_US) + 1)
					wait = (int64_t) (seconds * SECOND_US) + 1;
			}
			break;
	}
	return wait > 0 ? wait : 0;
}

/* ---- results -------------------------------------------------------------------- */

bool
notif_breaker_note(NotifBreaker *b, int64_t now_us, uint64_t epoch, NotifSign sign, int volume,
				   uint32_t random, bool *blameless)
{
	bool		current = epoch == b->epoch;
	bool		probe = current && b->state == NOTIF_BREAKER_HALF_OPEN;
	bool		changed = false;

	if (probe)
		changed = breaker_note_probe(b, now_us, sign, random);
	else if (current && b->state != NOTIF_BREAKER_OPEN)
		changed = breaker_note_flow(b, now_us, sign, volume, random);

	*blameless = probe || !current || b->state == NOTIF_BREAKER_OPEN;
	/* an address is not to blame only while all of them are doubted */
	if (sign == NOTIF_SIGN_SUSPECT)
		*blameless = *blameless && b->cause == NOTIF_BREAKER_CAUSE_SUSPECTS &&
			b->state != NOTIF_BREAKER_RECOVERING;
	return changed;
}

/* Half-open: ten results decide, nine of them must be good. */
static bool
breaker_note_probe(NotifBreaker *b, int64_t now_us, NotifSign sign, uint32_t random)
{
	NotifBreakerCause cause = NOTIF_BREAKER_CAUSE_NONE;

	switch (sign)
	{
		case NOTIF_SIGN_NEUTRAL:
			notif_breaker_return(b, b->epoch, 1);
			return false;
		case NOTIF_SIGN_CREDENTIALS:
			cause = NOTIF_BREAKER_CAUSE_CREDENTIALS;
			break;
		case NOTIF_SIGN_FAILED:
		case NOTIF_SIGN_UNREACHED:
			if (++b->failed > NOTIF_BREAKER_PROBES - NOTIF_BREAKER_PROBES_GOOD)
				cause = sign == NOTIF_SIGN_FAILED ?
					NOTIF_BREAKER_CAUSE_FAILURES : NOTIF_BREAKER_CAUSE_UNREACHED;
			break;
		case NOTIF_SIGN_SUSPECT:
			if (++b->suspects * 2 > NOTIF_BREAKER_PROBES)
				cause = NOTIF_BREAKER_CAUSE_SUSPECTS;
			break;
		case NOTIF_SIGN_GOOD:
			b->good++;
			break;
	}
	if (cause != NOTIF_BREAKER_CAUSE_NONE)
	{
		breaker_trip(b, cause, b->step + 1, now_us, random);
		return true;
	}
	if (b->good + b->suspects < NOTIF_BREAKER_PROBES_GOOD)
		return false;
	breaker_enter(b, NOTIF_BREAKER_RECOVERING, now_us);
	return true;
}

/* Closed or recovering: the window decides. */
static bool
breaker_note_flow(NotifBreaker *b, int64_t now_us, NotifSign sign, int volume, uint32_t random)
{
	NotifBreakerCause cause;

	if (sign == NOTIF_SIGN_NEUTRAL)
		return false;
	if (sign == NOTIF_SIGN_CREDENTIALS)
		cause = NOTIF_BREAKER_CAUSE_CREDENTIALS;
	else
	{
		breaker_count(b, now_us, sign);
		cause = breaker_verdict(b, now_us, volume);
	}
	if (cause == NOTIF_BREAKER_CAUSE_NONE)
		return false;
	breaker_trip(b, cause, 0, now_us, random);
	return true;
}

static int64_t
breaker_second(int64_t now_us)
{
	int64_t		second = now_us / SECOND_US;

	return now_us % SECOND_US < 0 ? second - 1 : second;
}

static void
breaker_count(NotifBreaker *b, int64_t now_us, NotifSign sign)
{
	int64_t		now = breaker_second(now_us);
	int			place = (int) (now % NOTIF_BREAKER_WINDOW_S);
	NotifBreakerSecond *at;

	at = &b->seconds[place < 0 ? place + NOTIF_BREAKER_WINDOW_S : place];
	if (at->results == 0 || at->second != now)
	{
		memset(at, 0, sizeof(*at));
		at->second = now;
	}
	if (at->results < UINT32_MAX / NOTIF_BREAKER_WINDOW_S)
	{
		at->results++;
		at->failed += sign == NOTIF_SIGN_FAILED || sign == NOTIF_SIGN_UNREACHED;
		at->suspects += sign == NOTIF_SIGN_SUSPECT;
	}
	if (sign != NOTIF_SIGN_UNREACHED)
		b->unreached = 0;
	else if (b->unreached < UINT32_MAX)
		b->unreached++;
}

void
notif_breaker_counts(const NotifBreaker *b, int64_t now_us, NotifBreakerCounts *counts)
{
	int64_t		now = breaker_second(now_us);

	memset(counts, 0, sizeof(*counts));
	for (int i = 0; i < NOTIF_BREAKER_WINDOW_S; i++)
	{
		const NotifBreakerSecond *at = &b->seconds[i];

		/* of the future: a clock that was set back */
		if (at->results == 0 || at->second > now || now - at->second >= NOTIF_BREAKER_WINDOW_S)
			continue;
		counts->results += at->results;
		counts->failed += at->failed;
		counts->suspects += at->suspects;
	}
}

static NotifBreakerCause
breaker_verdict(const NotifBreaker *b, int64_t now_us, int volume)
{
	NotifBreakerCounts counts;

	if (b->unreached > 0 && b->unreached >= (uint32_t) volume / 4)
		return NOTIF_BREAKER_CAUSE_UNREACHED;
	notif_breaker_counts(b, now_us, &counts);
	if (counts.results < (uint32_t) volume)
		return NOTIF_BREAKER_CAUSE_NONE;
	if ((uint64_t) counts.failed * 100 > (uint64_t) counts.results * NOTIF_BREAKER_FAILED_PERCENT)
		return NOTIF_BREAKER_CAUSE_FAILURES;
	if ((uint64_t) counts.suspects * 2 > counts.results)
		return NOTIF_BREAKER_CAUSE_SUSPECTS;
	return NOTIF_BREAKER_CAUSE_NONE;
}

/* ---- from outside ------------------------------------------------------------------ */

void
notif_breaker_open(NotifBreaker *b, int64_t now_us)
{
	breaker_trip(b, NOTIF_BREAKER_CAUSE_MANUAL, 0, now_us, 0);
	b->probe_us = NOTIF_BREAKER_NEVER;
}

void
notif_breaker_close(NotifBreaker *b, int64_t now_us)
{
	breaker_enter(b, NOTIF_BREAKER_CLOSED, now_us);
}

void
notif_breaker_hurry(NotifBreaker *b, int64_t now_us)
{
	if (b->state == NOTIF_BREAKER_OPEN && b->probe_us != NOTIF_BREAKER_NEVER && b->probe_us > now_us)
		b->probe_us = now_us;
}

void
notif_breaker_restore(NotifBreaker *b, uint64_t epoch, NotifBreakerState state,
					  NotifBreakerCause cause, int step, int64_t left_us, int64_t now_us)
{
	notif_breaker_init(b, epoch, now_us);
	switch (state)
	{
		case NOTIF_BREAKER_CLOSED:
			break;
		case NOTIF_BREAKER_RECOVERING:
			breaker_enter(b, NOTIF_BREAKER_RECOVERING, now_us);
			b->epoch = epoch > 0 ? epoch : 1;
			b->cause = cause;
			break;
		case NOTIF_BREAKER_OPEN:
		case NOTIF_BREAKER_HALF_OPEN:
			breaker_trip(b, cause, step < 0 ? 0 : step, now_us, 0);
			b->epoch = epoch > 0 ? epoch : 1;
			if (state == NOTIF_BREAKER_HALF_OPEN || left_us < 0)
				left_us = 0;
			if (left_us > breaker_longest_us(b))
				left_us = breaker_longest_us(b);
			b->probe_us = state == NOTIF_BREAKER_OPEN && cause == NOTIF_BREAKER_CAUSE_MANUAL ?
				NOTIF_BREAKER_NEVER : now_us + left_us;
			break;
	}
}

/* ---- words ------------------------------------------------------------------------- */

const char *
notif_breaker_state_text(NotifBreakerState state)
{
	return state_words[state];
}

const char *
notif_breaker_cause_text(NotifBreakerCause cause)
{
	return cause_words[cause];
}

static int
breaker_word(const char *const *words, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
	{
		if (text != NULL && strcmp(words[i], text) == 0)
			return (int) i;
	}
	return -1;
}

bool
notif_breaker_state_parse(const char *text, NotifBreakerState *state)
{
	int			place = breaker_word(state_words, sizeof(state_words) / sizeof(state_words[0]), text);

	if (place >= 0)
		*state = (NotifBreakerState) place;
	return place >= 0;
}

bool
notif_breaker_cause_parse(const char *text, NotifBreakerCause *cause)
{
	int			place = breaker_word(cause_words, sizeof(cause_words) / sizeof(cause_words[0]), text);

	if (place >= 0)
		*cause = (NotifBreakerCause) place;
	return place >= 0;
}
