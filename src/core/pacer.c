/*
 * pacer.c
 *		How fast a provider may be asked; see pacer.h.
 *
 * The bucket is refilled when somebody looks at it.  What reads only works on a
 * refilled copy, so that looking changes nothing.
 */
#include "pacer.h"

#include <string.h>

#define SECOND_US	INT64_C(1000000)
#define NONE		INT64_MIN
/* A class that asked in vain goes before those below it for so long. */
#define DENIED_US	(SECOND_US)
#define LOOK_AGAIN_US INT64_C(20000)
/* The way back takes this part of the pause. */
#define CLIMB		0.8
/* Without a configured rate, slowing ends at so many times what was sent. */
#define LIFT_AT		4.0

static void pacer_refill(NotifPacer *p, int64_t now_us);
static void pacer_climb(NotifPacer *p, int64_t now_us, int64_t from_us);
static double pacer_effective(const NotifPacer *p);
static double pacer_most(const NotifPacer *p);
static double pacer_observed(const NotifPacer *p, int64_t now_us);
static bool pacer_held_off(const NotifPacer *p, int64_t now_us, int class);
static int64_t pacer_second(int64_t now_us);

void
notif_pacer_init(NotifPacer *p, int64_t now_us)
{
	memset(p, 0, sizeof(*p));
	p->tokens_us = now_us;
	p->resume_us = NONE;
	p->paused_us = NONE;
	for (int i = 0; i < NOTIF_PACER_CLASSES; i++)
		p->denied_us[i] = NONE;
}

void
notif_pacer_limit(NotifPacer *p, const NotifPacerLimits *limits, int64_t now_us)
{
	bool		had_rate = pacer_effective(p) > 0;

	pacer_refill(p, now_us);
	p->limits = *limits;
	if (!had_rate)
		p->tokens = pacer_most(p);
	else if (p->tokens > pacer_most(p))
		p->tokens = pacer_most(p);
}

/* ---- the bucket --------------------------------------------------------------------- */

/* What passes per second, pauses aside; 0: any number. */
static double
pacer_effective(const NotifPacer *p)
{
	if (p->slow_rate > 0 && (p->limits.rate <= 0 || p->slow_rate < p->limits.rate))
		return p->slow_rate;
	return p->limits.rate;
}

/* Tokens that the bucket holds; a slowed provider gets no bursts. */
static double
pacer_most(const NotifPacer *p)
{
	double		most = p->limits.rate > 0 ? p->limits.burst : 0;

	if (p->slow_rate > 0)
	{
		double		slow = p->slow_rate / 4;

		if (most <= 0 || slow < most)
			most = slow;
	}
	return most < 1 ? 1 : most;
}

static void
pacer_refill(NotifPacer *p, int64_t now_us)
{
	int64_t		from_us = p->tokens_us;

	/* set back: neither credit nor debt */
	if (from_us > now_us)
		from_us = now_us;
	if (p->resume_us != NONE)
	{
		int64_t		longest = NOTIF_PACER_PAUSE_MAX_S * SECOND_US;

		if (p->resume_us - now_us > longest)
			p->resume_us = now_us + longest;
		if (now_us < p->resume_us)
		{
			p->tokens = 0;
			p->tokens_us = now_us;
			return;
		}
		if (from_us < p->resume_us)
			from_us = p->resume_us;
		p->resume_us = NONE;
	}
	pacer_climb(p, now_us, from_us);
	p->tokens += (double) (now_us - from_us) / SECOND_US * pacer_effective(p);
	if (p->tokens > pacer_most(p))
		p->tokens = pacer_most(p);
	p->tokens_us = now_us;
}

static void
pacer_climb(NotifPacer *p, int64_t now_us, int64_t from_us)
{
	if (p->slow_rate <= 0)
		return;
	p->slow_rate += p->slow_step * (double) (now_us - from_us) / SECOND_US;
	if (p->slow_rate >= p->slow_goal)
		p->untold = 0;
	if (p->slow_rate >= (p->limits.rate > 0 ? p->limits.rate : LIFT_AT * p->slow_goal))
	{
		p->slow_rate = 0;
		p->untold = 0;
	}
}

static bool
pacer_held_off(const NotifPacer *p, int64_t now_us, int class)
{
	for (int i = 0; i < class; i++)
	{
		if (p->denied_us[i] != NONE && p->denied_us[i] <= now_us && now_us - p->denied_us[i] < DENIED_US)
			return true;
	}
	return false;
}

int
notif_pacer_grant(NotifPacer *p, int64_t now_us, int class, int in_flight, int wanted)
{
	int			n = wanted;

	if (wanted <= 0)
		return 0;
	pacer_refill(p, now_us);
	if (p->resume_us != NONE)
		return 0;
	if (p->limits.max_in_flight > 0 && n > p->limits.max_in_flight - in_flight)
		n = p->limits.max_in_flight > in_flight ? p->limits.max_in_flight - in_flight : 0;
	if (pacer_effective(p) > 0 && n > p->tokens)
		n = (int) p->tokens;
	if (n > 0 && n < wanted && pacer_held_off(p, now_us, class))
		n = 0;
	/* served in part it is in want no less, but it will be back for the rest */
	p->denied_us[class] = n == 0 ? now_us : NONE;
	if (pacer_effective(p) > 0)
		p->tokens -= n;
	return n;
}

void
notif_pacer_settle(NotifPacer *p, int64_t now_us, int granted, int sent)
{
	int64_t		now = pacer_second(now_us);
	int			place = (int) (now % NOTIF_PACER_OBSERVED_S);
	NotifPacerSecond *at = &p->seconds[place < 0 ? place + NOTIF_PACER_OBSERVED_S : place];

	if (granted > sent && pacer_effective(p) > 0)
	{
		p->tokens += granted - sent;
		if (p->tokens > pacer_most(p))
			p->tokens = pacer_most(p);
	}
	if (sent <= 0)
		return;
	if (at->sent == 0 || at->second != now)
	{
		at->second = now;
		at->sent = 0;
	}
	if (at->sent < UINT32_MAX / 2)
		at->sent += (uint32_t) sent;
}

int64_t
notif_pacer_wait_us(const NotifPacer *p, int64_t now_us, int class, int in_flight, int wanted)
{
	NotifPacer	now = *p;
	double		rate;
	double		want;

	if (wanted <= 0)
		return 0;
	pacer_refill(&now, now_us);
	if (now.resume_us != NONE)
		return now.resume_us - now_us;
	if (now.limits.max_in_flight > 0 && in_flight >= now.limits.max_in_flight)
		return LOOK_AGAIN_US;
	rate = pacer_effective(&now);
	if (rate <= 0)
		return 0;
	if (pacer_held_off(&now, now_us, class) && now.tokens < wanted)
		return LOOK_AGAIN_US;
	/* what comes in within 10 ms goes together */
	want = rate / 100;
	if (want > wanted)
		want = wanted;
	if (want > pacer_most(&now))
		want = pacer_most(&now);
	if (want < 1)
		want = 1;
	if (now.tokens >= want)
		return 0;
	return (int64_t) ((want - now.tokens) / rate * SECOND_US) + 1;
}

/* ---- throttled ------------------------------------------------------------------------ */

static int64_t
pacer_second(int64_t now_us)
{
	int64_t		second = now_us / SECOND_US;

	return now_us % SECOND_US < 0 ? second - 1 : second;
}

/*
 * Sent per second since anything was sent; the present second, which is not over,
 * counts only if there is no other.
 */
static double
pacer_observed(const NotifPacer *p, int64_t now_us)
{
	int64_t		now = pacer_second(now_us);
	int64_t		first = now;
	double		sum = 0;
	double		present = 0;

	for (int i = 0; i < NOTIF_PACER_OBSERVED_S; i++)
	{
		const NotifPacerSecond *at = &p->seconds[i];

		if (at->sent == 0 || at->second > now || now - at->second >= NOTIF_PACER_OBSERVED_S)
			continue;
		if (at->second == now)
		{
			present = at->sent;
			continue;
		}
		sum += at->sent;
		if (at->second < first)
			first = at->second;
	}
	return first < now ? sum / (double) (now - first) : present;
}

bool
notif_pacer_throttle(NotifPacer *p, int64_t now_us, int64_t sent_us, int retry_after_s)
{
	double		before;
	int64_t		pause_s = retry_after_s;

	pacer_refill(p, now_us);
	if (retry_after_s == 0)
	{
		pause_s = p->untold < 6 ? INT64_C(1) << p->untold : NOTIF_PACER_UNTOLD_MAX_S;
		if (pause_s > NOTIF_PACER_UNTOLD_MAX_S)
			pause_s = NOTIF_PACER_UNTOLD_MAX_S;
	}
	else if (pause_s < 1)
		pause_s = 1;
	else if (pause_s > NOTIF_PACER_PAUSE_MAX_S)
		pause_s = NOTIF_PACER_PAUSE_MAX_S;

	if (p->resume_us != NONE)
	{
		if (retry_after_s != 0 && now_us + pause_s * SECOND_US > p->resume_us)
			p->resume_us = now_us + pause_s * SECOND_US;
		return false;
	}
	if (p->paused_us != NONE && sent_us <= p->paused_us && p->paused_us <= now_us)
		return false;

	before = pacer_observed(p, now_us);
	if (pacer_effective(p) > 0 && before > pacer_effective(p))
		before = pacer_effective(p);
	if (before < 2)
		before = 2;
	if (retry_after_s == 0 && p->untold < 100)
		p->untold++;
	p->slow_goal = before;
	p->slow_rate = before / 2;
	p->slow_step = (before - p->slow_rate) / (CLIMB * (double) pause_s);
	p->paused_us = now_us;
	p->resume_us = now_us + pause_s * SECOND_US;
	p->tokens = 0;
	return true;
}

bool
notif_throttle_meter_note(NotifThrottleMeter *m, int64_t now_us, bool throttled)
{
	if (m->answers == 0 || now_us < m->from_us || now_us - m->from_us >= SECOND_US)
	{
		m->from_us = now_us;
		m->answers = 0;
		m->throttled = 0;
	}
	m->answers++;
	m->throttled += throttled;
	if (m->answers < NOTIF_THROTTLE_VOLUME || m->throttled * 2 <= m->answers)
		return false;
	m->answers = 0;
	return true;
}

/* ---- for people -------------------------------------------------------------------------- */

double
notif_pacer_rate(const NotifPacer *p, int64_t now_us)
{
	NotifPacer	now = *p;

	pacer_refill(&now, now_us);
	return pacer_effective(&now);
}

double
notif_pacer_tokens(const NotifPacer *p, int64_t now_us)
{
	NotifPacer	now = *p;

	pacer_refill(&now, now_us);
	return now.tokens;
}

int64_t
notif_pacer_resume_us(const NotifPacer *p, int64_t now_us)
{
	NotifPacer	now = *p;

	pacer_refill(&now, now_us);
	return now.resume_us;
}
