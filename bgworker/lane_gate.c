/*
 * lane_gate.c
 *		Between a lane and its provider: the breaker and the pacer.
 *
 * A lane asks for permits before each claim (lane_gate_take), claims no more than
 * it was given, and hands one to each attempt that passed the gates; the others go
 * back.  An attempt keeps its permit while it waits for its turn, and returns it if
 * it never gets to the wire.  Every request that does ends in lane_gate_result,
 * which tells the breaker what the answer says of the provider and the dispatcher
 * whether the attempt counts.
 *
 * A breaker that opens is noticed by all dispatchers in their next turn
 * (lane_gate_turn): what they have claimed and not yet sent goes back without an
 * attempt.  The same turn writes down what the breakers have done.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "../src/core/retry_after.h"
#include "../src/core/text.h"
#include "../src/ids.h"
#include "../src/lane_shmem.h"
#include "../src/settings.h"
#include "dispatcher.h"

#define CHANGES_AT_ONCE 32

/* ---- setting up ------------------------------------------------------------------- */

/* The breaker of a lane and the provider that carries it now. */
static void
gate_attach(Lane *lane)
{
	static NotifStmt restore = {
		.sql = "SELECT notif_private.worker_breaker($1, $2)",
		.nargs = 2,.argtypes = {INT4OID, INT4OID}
	};
	Session    *session = lane->session;
	bool		same = lane->breaker.slot != NULL && lane->breaker.provider == session->provider;
	bool		known;

	lane->breaker = notif_breaker_find(session->provider, lane->id, &known);
	if (!known)
	{
		Datum		args[2];

		args[0] = Int32GetDatum(session->provider);
		args[1] = Int32GetDatum(lane->id);
		notif_spi_run(&restore, args, NULL, 1);
	}
	/* a key file that was mended: there is nobody to say so */
	if (same && lane->fingerprint != session->fingerprint)
		notif_breaker_new_credentials(lane->breaker);
	lane->fingerprint = session->fingerprint;
}

void
lane_gates_attach(Dispatcher *d)
{
	dlist_iter	it;

	d->n_sessions = 0;
	dlist_foreach(it, &d->sessions)
	{
		Session    *session = dlist_container(Session, node, it.cur);

		if (session->used == 0)
			continue;
		d->n_sessions++;
		session->pacer = notif_pacer_find(session->provider, &session->limits);
	}
	dlist_foreach(it, &d->lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, it.cur);

		if (lane->present && lane->session != NULL)
			gate_attach(lane);
	}
}

/* ---- asking ------------------------------------------------------------------------- */

/*
 * What the dispatcher may still have in flight, less what is kept free for the
 * other providers: one that does not answer must not fill the wire for all.
 */
static int
gate_unreserved(const Dispatcher *d, const Session *session)
{
	int			reserve = guc_max_in_flight / (2 * Max(d->n_sessions, 1));
	int			room = guc_max_in_flight - d->in_flight - d->n_waiting - d->n_done;
	dlist_iter	it;

	dlist_foreach(it, &unconstify(Dispatcher *, d)->sessions)
	{
		const Session *other = dlist_container(Session, node, it.cur);

		if (other != session && other->used > 0)
			room -= Max(reserve - other->in_flight, 0);
	}
	return room;
}

int
lane_gate_room(const Dispatcher *d, const Lane *lane)
{
	int			room = Min(session_capacity(lane->session), gate_unreserved(d, lane->session));

	if (room <= 0)
		return 0;
	return notif_breaker_free(lane->breaker, lane->in_flight, lane->in_flight + room);
}

long
lane_gate_wait_ms(const Dispatcher *d, const Lane *lane, int wanted)
{
	int64		us = notif_breaker_delay_us(lane->breaker, lane->session->limits.rate);

	if (us == 0)
		us = notif_pacer_delay_us(lane->session->pacer, d->worker->tier, wanted);
	return us >= NOTIF_MAX_SLEEP_MS * 1000 ? NOTIF_MAX_SLEEP_MS : (long) ((us + 999) / 1000);
}

bool
lane_gate_closed(const Lane *lane)
{
	uint64		epoch;

	return notif_breaker_mode(lane->breaker, &epoch) == NOTIF_BREAKER_CLOSED;
}

/* Up to wanted from both, of one epoch. */
static int
gate_ask(Dispatcher *d, Lane *lane, int wanted, uint64 *epoch)
{
	Session    *session = lane->session;
	int			n = notif_breaker_take(lane->breaker, wanted, session->limits.rate, session->limits.burst, epoch);
	int			paced = n > 0 ? notif_pacer_take(session->pacer, d->worker->tier, n) : 0;

	if (paced < n)
		notif_breaker_give_back(lane->breaker, *epoch, n - paced);
	return paced;
}

int
lane_gate_take(Dispatcher *d, Lane *lane, int wanted)
{
	lane->permits = gate_ask(d, lane, wanted, &lane->epoch);
	lane->permits_pacer = lane->session->pacer;
	return lane->permits;
}

bool
lane_gate_hand(Dispatcher *d, Lane *lane, Attempt *a)
{
	/* more than expected: a recipient with several devices */
	if (lane->permits == 0 && lane_gate_take(d, lane, 1) == 0)
		return false;
	lane->permits--;
	a->permit = true;
	a->breaker = lane->breaker;
	a->epoch = lane->epoch;
	a->pacer = lane->permits_pacer;
	return true;
}

void
lane_gate_settle(Dispatcher *d, Lane *lane)
{
	if (lane->permits == 0)
		return;
	notif_breaker_give_back(lane->breaker, lane->epoch, lane->permits);
	notif_pacer_used(lane->permits_pacer, d->worker->tier, lane->permits, 0);
	lane->permits = 0;
}

bool
lane_gate_admit(Dispatcher *d, Attempt *a, const Session *session)
{
	uint64		epoch;

	if (!a->permit || a->breaker.provider != session->provider)
		return false;
	switch (notif_breaker_mode(a->breaker, &epoch))
	{
		case NOTIF_BREAKER_OPEN:
			return false;
		case NOTIF_BREAKER_HALF_OPEN:
			/* ten probes, and this is none of them */
			return a->epoch == epoch;
		case NOTIF_BREAKER_CLOSED:
		case NOTIF_BREAKER_RECOVERING:
			break;
	}
	a->epoch = epoch;
	return true;
}

void
lane_gate_sent(Attempt *a)
{
	a->permit = false;
	a->session->unreported++;
}

void
lane_gate_unsent(Dispatcher *d, Attempt *a)
{
	if (!a->permit)
		return;
	a->permit = false;
	notif_breaker_give_back(a->breaker, a->epoch, 1);
	notif_pacer_used(a->pacer, d->worker->tier, 1, 0);
}

/* What was sent, of permits that are used up. */
static void
gate_report(Dispatcher *d, Session *session)
{
	if (session->unreported > 0)
		notif_pacer_used(session->pacer, d->worker->tier, session->unreported, session->unreported);
	session->unreported = 0;
}

/* ---- answers -------------------------------------------------------------------------- */

/*
 * The provider asks for fewer requests: of this account (429 that is not about
 * one device), or of so many devices at once that it is the account.
 */
static bool
gate_throttled(Dispatcher *d, Attempt *a, const NotifResult *result, const NotifVerdict *verdict)
{
	Session    *session = a->session;
	int64		now_us = notif_lane_now_us();
	bool		throttled = verdict->kind == NOTIF_VERDICT_THROTTLED;
	bool		many = false;

	if (result->known == NOTIF_ANSWERED)
		many = notif_throttle_meter_note(&session->meter, now_us, throttled);
	if (verdict->kind != NOTIF_VERDICT_SLOW_DOWN && !(throttled && many))
		return false;
	gate_report(d, session);
	if (notif_pacer_slow_down(session->pacer, now_us - (int64) result->latency_us, a->retry_after_s))
	{
		session->slowed = true;
		session->slowed_s = a->retry_after_s;
		strlcpy(session->slowed_why, verdict->reason, sizeof(session->slowed_why));
	}
	return true;
}

bool
lane_gate_result(Dispatcher *d, Attempt *a, const NotifResult *result, const NotifVerdict *verdict)
{
	Session    *session = a->session;
	NotifSign	sign;
	bool		blameless;
	bool		connected = true;
	char		text[NOTIF_BREAKER_WHY] = "";
	char		word[NOTIF_BREAKER_WHY];

	notif_pacer_ended(a->pacer, d->worker->tier);
	/* as a date it is measured from the real clock: the provider's */
	a->retry_after_s = verdict->retry_after_s;
	if (a->retry_after_s == 0 && result->known == NOTIF_ANSWERED && result->retry_after[0] != '\0' &&
		verdict->kind != NOTIF_VERDICT_ACCEPTED)
		a->retry_after_s = notif_retry_after_s(result->retry_after,
											   notif_timestamp_to_unix_ms(GetCurrentTimestamp()) / 1000);
	if (result->known == NOTIF_NOT_SENT && result->error == NOTIF_NET_TIMEOUT)
	{
		NotifH2PoolStats stats;

		notif_h2_pool_stats(session->pool, &stats);
		connected = stats.connections > 0;
	}
	sign = notif_provider_sign(result, verdict, connected);
	if (sign != NOTIF_SIGN_GOOD)
		snprintf(text, sizeof(text), "%s%s%s", verdict->reason, result->detail[0] != '\0' ? ": " : "", result->detail);
	/* it may have been cut within a character */
	notif_text_ascii(text, strlen(text), word, sizeof(word));
	blameless = notif_breaker_report(a->breaker, a->epoch, sign, word);
	return gate_throttled(d, a, result, verdict) || blameless;
}

/* ---- once a turn ------------------------------------------------------------------------ */

/*
 * Writes down what breakers have done; durably, since it is their state after a
 * crash.  Dispatchers of several tiers may do it at the same time.
 */
static void
gate_write_log(Dispatcher *d)
{
	static NotifStmt write = {
		.sql = "SELECT notif_private.worker_breaker_log($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
		.nargs = 11,
		.argtypes = {INT4OID, INT4OID, INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, INT4OID,
		TIMESTAMPTZOID, TEXTOID, TEXTOID}
	};
	NotifBreakerChange *changes = palloc(sizeof(NotifBreakerChange) * CHANGES_AT_ONCE);
	bool		fresh[CHANGES_AT_ONCE]; /* by us, not by another dispatcher */
	NotifRows	rows;
	int			n;

	while ((n = notif_breaker_unwritten(changes, CHANGES_AT_ONCE)) > 0)
	{
		if (!notif_worker_begin(d->worker, "notif: logging a breaker"))
			return;
		for (int i = 0; i < n; i++)
		{
			const NotifBreakerChange *c = &changes[i];
			Datum		args[11];
			char		nulls[] = "           ";

			args[0] = Int32GetDatum(c->provider);
			args[1] = Int32GetDatum(c->route);
			args[2] = Int64GetDatum((int64) c->epoch);
			args[3] = TimestampTzGetDatum(c->at);
			args[4] = CStringGetTextDatum(notif_breaker_state_text(c->from));
			args[5] = CStringGetTextDatum(notif_breaker_state_text(c->to));
			args[6] = CStringGetTextDatum(notif_breaker_cause_text(c->cause));
			args[7] = Int32GetDatum(c->step);
			args[8] = TimestampTzGetDatum(c->probe_at);
			nulls[8] = c->probe_at == 0 ? 'n' : ' ';
			args[9] = CStringGetTextDatum(c->why);
			args[10] = CStringGetTextDatum(c->by);
			nulls[10] = c->by[0] == '\0' ? 'n' : ' ';
			rows = notif_spi_run(&write, args, nulls, 1);
			fresh[i] = notif_spi_bool(&rows, 0, 1, NULL);
		}
		notif_worker_commit(d->worker, true);
		notif_breaker_written(changes, n);
		for (int i = 0; i < n; i++)
		{
			if (fresh[i] && changes[i].to == NOTIF_BREAKER_OPEN && changes[i].from != NOTIF_BREAKER_HALF_OPEN)
				ereport(LOG,
						errmsg("notif has opened the breaker of a provider: %s", changes[i].why),
						errhint("notif.breakers shows it; what waits is kept."));
		}
	}
}

/* What results had to say, outside the network's callbacks. */
static void
gate_tell(Session *session)
{
	if (!session->slowed)
		return;
	session->slowed = false;
	ereport(LOG,
			errmsg("provider \"%s\" asks for fewer requests: %s", session->name, session->slowed_why),
			session->slowed_s > 0 ?
			errdetail("It is left alone for %d s, as it said.", session->slowed_s) :
			errdetail("It did not say for how long; it is left alone for a moment."),
			errhint("notif.define_provider(..., rate => ...) sets what it gets per second."));
}

/* What is claimed and has no stream yet goes back. */
static void
gate_take_back(Lane *lane)
{
	if (lane->session != NULL && lane->session->pool != NULL)
		notif_h2_pool_flush_queue(lane->session->pool);
}

void
lane_gate_turn(Dispatcher *d)
{
	uint64		changes;
	dlist_iter	it;

	d->gate_due_us = INT64_MAX;
	dlist_foreach(it, &d->sessions)
	{
		gate_report(d, dlist_container(Session, node, it.cur));
		gate_tell(dlist_container(Session, node, it.cur));
	}
	dlist_foreach(it, &d->lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, it.cur);

		d->gate_due_us = Min(d->gate_due_us, notif_breaker_watch(lane->breaker));
	}
	changes = notif_breaker_changes();
	if (changes == d->gate_changes)
		return;
	dlist_foreach(it, &d->lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, it.cur);
		uint64		epoch;

		if (notif_breaker_mode(lane->breaker, &epoch) == NOTIF_BREAKER_OPEN && epoch != lane->open_epoch)
		{
			lane->open_epoch = epoch;
			gate_take_back(lane);
		}
	}
	gate_write_log(d);
	/* after an ERROR it is tried again */
	d->gate_changes = changes;
}

TimestampTz
lane_gate_parked(const Lane *lane)
{
	uint64		epoch;

	return notif_breaker_mode(lane->breaker, &epoch) == NOTIF_BREAKER_OPEN ? notif_breaker_until(lane->breaker) : 0;
}
