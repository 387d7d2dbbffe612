/*
 * breaker.h
 *		A circuit breaker as a pure state machine.
 *
 *		closed ──────▶ open ──▶ half-open ──▶ recovering ──▶ closed
 *		          ▲              │                │
 *		          └──────────────┴────────────────┘
 *
 * Closed, everything passes and the results of the last 30 s are counted.  It
 * opens when more than 5% of at least `volume` of them failed through the
 * provider's fault; when a quarter of `volume` in a row did not even reach it
 * (few come back at all from a provider that accepts no connection); when more
 * than half of at least `volume` doubted the address (a wrong environment
 * doubts them all); and at once when it refuses our credentials.
 *
 * Open, nothing passes until the time of the next probe.  Half-open, ten
 * results decide: nine must be good.  Each failed half-open is followed by a
 * longer wait: 30 s, 1 min, 5 min, 25 min, then an hour each, with 10% of
 * jitter.  Recovering, a share of the capacity passes that grows from 20% to
 * all of it in 60 s, while results are judged as when closed.  Capacity is what
 * may be on the wire and, where there is one, the permitted rate.
 *
 * Each change of state begins a new epoch.  A permit is granted in an epoch and
 * its result counts in no other: what was sent before an outage, and comes back
 * after it, says nothing of the provider now.
 *
 * The struct is plain data without pointers, so that it can lie in shared
 * memory; who shares it locks it.  Time (µs, below 2^60 either way) and
 * randomness come from the caller.  Time may jump, either way: a clock that was
 * set back makes no wait longer than its nominal length and its jitter.
 */
#ifndef NOTIF_CORE_BREAKER_H
#define NOTIF_CORE_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#define NOTIF_BREAKER_WINDOW_S		30
#define NOTIF_BREAKER_VOLUME		20	/* the default of `volume` */
#define NOTIF_BREAKER_FAILED_PERCENT 5	/* more than this opens */
#define NOTIF_BREAKER_PROBES		10	/* that half-open lets through */
#define NOTIF_BREAKER_PROBES_GOOD	9	/* of them must be good */
#define NOTIF_BREAKER_PROBE_LOST_US INT64_C(60000000)	/* no result: no probe */
#define NOTIF_BREAKER_RAMP_US		INT64_C(60000000)
#define NOTIF_BREAKER_RAMP_FROM		200 /* per mille of capacity */
#define NOTIF_BREAKER_NEVER			INT64_MAX	/* probe_us: by hand only */

typedef enum NotifBreakerState
{
	NOTIF_BREAKER_CLOSED,
	NOTIF_BREAKER_OPEN,
	NOTIF_BREAKER_HALF_OPEN,
	NOTIF_BREAKER_RECOVERING
} NotifBreakerState;

/* Why it left closed. */
typedef enum NotifBreakerCause
{
	NOTIF_BREAKER_CAUSE_NONE,
	NOTIF_BREAKER_CAUSE_FAILURES,	/* too many failed */
	NOTIF_BREAKER_CAUSE_UNREACHED,	/* no connection can be made */
	NOTIF_BREAKER_CAUSE_SUSPECTS,	/* it doubts every address */
	NOTIF_BREAKER_CAUSE_CREDENTIALS,	/* it refuses our credentials */
	NOTIF_BREAKER_CAUSE_MANUAL	/* somebody said so */
} NotifBreakerCause;

/* What a result says of the provider. */
typedef enum NotifSign
{
	NOTIF_SIGN_GOOD,			/* it answered, whatever it said of the message */
	NOTIF_SIGN_FAILED,			/* it failed: 5xx, no answer */
	NOTIF_SIGN_UNREACHED,		/* failed before a request could leave */
	NOTIF_SIGN_SUSPECT,			/* it answered and doubts the address */
	NOTIF_SIGN_CREDENTIALS,		/* it refuses our credentials */
	NOTIF_SIGN_NEUTRAL			/* says nothing: the permit is given back */
} NotifSign;

/* Results of one second. */
typedef struct NotifBreakerSecond
{
	int64_t		second;			/* which */
	uint32_t	results;		/* 0: none are kept */
	uint32_t	failed;			/* of them, with those not reached */
	uint32_t	suspects;
} NotifBreakerSecond;

typedef struct NotifBreaker
{
	NotifBreakerState state;
	NotifBreakerCause cause;
	int			step;			/* half-opens that failed in a row */
	uint64_t	epoch;			/* never 0; grows with every change */
	int64_t		since_us;
	int64_t		probe_us;		/* open: when it may be probed */
	/* half-open */
	int			granted;		/* probes on their way or decided */
	int			good;
	int			failed;
	int			suspects;		/* not in good */
	int64_t		granted_us;		/* the last of them */
	/* recovering, where a rate is known */
	double		tokens;
	int64_t		tokens_us;
	/* closed and recovering */
	uint32_t	unreached;		/* in a row */
	NotifBreakerSecond seconds[NOTIF_BREAKER_WINDOW_S];
} NotifBreaker;

/* Sums of the window, for people. */
typedef struct NotifBreakerCounts
{
	uint32_t	results;
	uint32_t	failed;
	uint32_t	suspects;
} NotifBreakerCounts;

/* Closed, with an empty window; epoch is its first. */
void		notif_breaker_init(NotifBreaker *b, uint64_t epoch, int64_t now_us);

/*
 * What the passing of time changes, when somebody has something to send (open
 * becomes half-open: nobody probes for nothing) or not.  True if it has changed.
 */
bool		notif_breaker_tick(NotifBreaker *b, int64_t now_us, bool wants_to_send);

/*
 * How many of wanted may be sent, 0 … wanted, after a tick.  They are sent in the
 * epoch that b->epoch is now: each comes back through notif_breaker_note or
 * notif_breaker_return.  rate and burst are what the provider is allowed per
 * second and at once, 0 for no limit: recovering, a share of that passes.
 */
int			notif_breaker_grant(NotifBreaker *b, int64_t now_us, int wanted,
								double rate, double burst);

/* Permits that were not used. */
void		notif_breaker_return(NotifBreaker *b, uint64_t epoch, int n);

/* How many more may be on the wire: of capacity in all, in_flight are. */
int			notif_breaker_room(const NotifBreaker *b, int64_t now_us, int in_flight, int capacity);

/*
 * Takes in the result of a permit.  True if the state has changed.  random
 * decides on the jitter.  *blameless becomes true if a failure is no fault of
 * what was sent, as it was sent to a provider that is out of order: it does not
 * count as an attempt.
 */
bool		notif_breaker_note(NotifBreaker *b, int64_t now_us, uint64_t epoch,
							   NotifSign sign, int volume, uint32_t random, bool *blameless);

/* How long from now until a grant may be more than 0; 0: now, INT64_MAX: until
 * something else changes. */
int64_t		notif_breaker_wait_us(const NotifBreaker *b, int64_t now_us, double rate);

/* By hand: open until closed by hand; closed with an empty window. */
void		notif_breaker_open(NotifBreaker *b, int64_t now_us);
void		notif_breaker_close(NotifBreaker *b, int64_t now_us);

/* What was wrong may have been mended: an open one that waits for a probe may
 * be probed now. */
void		notif_breaker_hurry(NotifBreaker *b, int64_t now_us);

/*
 * After a restart: the state as it was written down, with what was left of the
 * wait.  Half-open becomes open and due; recovering begins its ramp anew.
 */
void		notif_breaker_restore(NotifBreaker *b, uint64_t epoch, NotifBreakerState state,
								  NotifBreakerCause cause, int step, int64_t left_us,
								  int64_t now_us);

/* Share of the capacity that may be used, per mille. */
int			notif_breaker_share(const NotifBreaker *b, int64_t now_us);

void		notif_breaker_counts(const NotifBreaker *b, int64_t now_us, NotifBreakerCounts *counts);

/* Nominal wait before probe number step (0, 1, …), without jitter. */
int64_t		notif_breaker_interval_us(int step);

/* Words of the views and the log; state and cause may come back from them
 * (false for an unknown word). */
const char *notif_breaker_state_text(NotifBreakerState state);
const char *notif_breaker_cause_text(NotifBreakerCause cause);
bool		notif_breaker_state_parse(const char *text, NotifBreakerState *state);
bool		notif_breaker_cause_parse(const char *text, NotifBreakerCause *cause);

#endif							/* NOTIF_CORE_BREAKER_H */
