/*
 * pacer.h
 *		How fast a provider may be asked, as a pure state machine: a token bucket,
 *		a cap on requests in flight, and what happens when the provider says that
 *		it is asked too fast.
 *
 * Limits are configured: a rate, a burst, a cap; each may be absent.  Classes
 * share them by rank, 0 first: while a class has lately asked in vain, those
 * below it get nothing, so that a campaign never eats the token that a one-time
 * code waits for.
 *
 * A throttled provider is left alone for as long as it said (1 s … 1 h; unless it
 * said, 1 s, doubled by each pause that follows on the last, up to a minute).  Then
 * half of what was sent per second before passes, and a steady increase brings
 * it back to all of that before the pause's length is over once more.  The
 * increase goes on until the configured rate is reached, or four times what was
 * sent before where none is configured; then nothing is slowed any more.
 * Answers to what was sent before the pause change nothing but its end.
 *
 * Plain data without pointers, for shared memory; who shares it locks it.  Time
 * (µs, below 2^60 either way) comes from the caller and may jump.
 */
#ifndef NOTIF_CORE_PACER_H
#define NOTIF_CORE_PACER_H

#include <stdbool.h>
#include <stdint.h>

#define NOTIF_PACER_CLASSES		3
#define NOTIF_PACER_OBSERVED_S	10	/* over which sends per second are averaged */
#define NOTIF_PACER_PAUSE_MAX_S 3600
#define NOTIF_PACER_UNTOLD_MAX_S 60

typedef struct NotifPacerLimits
{
	double		rate;			/* per second; 0: none */
	double		burst;			/* at once, ≥ 1; means nothing without a rate */
	int			max_in_flight;	/* 0: none */
} NotifPacerLimits;

typedef struct NotifPacerSecond
{
	int64_t		second;
	uint32_t	sent;			/* 0: none are kept */
} NotifPacerSecond;

typedef struct NotifPacer
{
	NotifPacerLimits limits;
	double		tokens;
	int64_t		tokens_us;
	int64_t		denied_us[NOTIF_PACER_CLASSES]; /* INT64_MIN: not in want */
	/* slowed by the provider */
	double		slow_rate;		/* 0: it is not */
	double		slow_goal;		/* sent per second before */
	double		slow_step;		/* added to slow_rate per second */
	int64_t		paused_us;		/* when the last pause began */
	int64_t		resume_us;		/* when it ends; INT64_MIN: none */
	int			untold;			/* pauses in a row whose length was not told */
	NotifPacerSecond seconds[NOTIF_PACER_OBSERVED_S];
} NotifPacer;

/* Full bucket, nothing slowed. */
void		notif_pacer_init(NotifPacer *p, int64_t now_us);

/* Limits as configured now; the bucket keeps what fits. */
void		notif_pacer_limit(NotifPacer *p, const NotifPacerLimits *limits, int64_t now_us);

/*
 * How many of wanted a class may send now, when in_flight of all classes are on
 * the wire.  Their tokens are taken.
 */
int			notif_pacer_grant(NotifPacer *p, int64_t now_us, int class, int in_flight, int wanted);

/* What became of a grant: sent of granted were sent, the others' tokens go back. */
void		notif_pacer_settle(NotifPacer *p, int64_t now_us, int granted, int sent);

/*
 * The provider says that it is asked too fast, in answer to what was sent at
 * sent_us.  retry_after_s: as it told, any value; 0: it did not.  True if a pause
 * has begun.
 */
bool		notif_pacer_throttle(NotifPacer *p, int64_t now_us, int64_t sent_us, int retry_after_s);

/*
 * How long from now a class has to wait for a grant worth asking for; 0: none.
 * Where only the end of a request can help, a short time to look again.
 */
int64_t		notif_pacer_wait_us(const NotifPacer *p, int64_t now_us, int class, int in_flight,
								int wanted);

/* Present rate, 0 for none; tokens in the bucket; end of a pause that goes on,
 * INT64_MIN for none. */
double		notif_pacer_rate(const NotifPacer *p, int64_t now_us);
double		notif_pacer_tokens(const NotifPacer *p, int64_t now_us);
int64_t		notif_pacer_resume_us(const NotifPacer *p, int64_t now_us);

/* ---- many addresses throttled at once ------------------------------------------------ */

#define NOTIF_THROTTLE_VOLUME 20

/* Answers within a second of each other. */
typedef struct NotifThrottleMeter
{
	int64_t		from_us;
	uint32_t	answers;
	uint32_t	throttled;
} NotifThrottleMeter;

/*
 * Counts an answer.  True if of those within the last second, at least
 * NOTIF_THROTTLE_VOLUME, more than half said that one address is asked too often:
 * then it is not about the address.  Counting begins anew.
 */
bool		notif_throttle_meter_note(NotifThrottleMeter *m, int64_t now_us, bool throttled);

#endif							/* NOTIF_CORE_PACER_H */
