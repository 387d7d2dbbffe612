/*
 * claim.c
 *		Takes attempts of a lane into a flight and sends them.
 *
 * Claim (commit) -> send (no transaction).  The claim's commit is durable and
 * comes before the first byte.  Between the two only code runs that cannot
 * raise, or whose ERROR finds the attempts in d->claimed: those go back as not
 * sent.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "../src/fault.h"
#include "../src/ids.h"
#include "dispatcher.h"

#define SEND_TIMEOUT_MS		30000
#define QUEUE_TIMEOUT_MS	1000	/* max_claim_age: then it goes back */

/* Copies one row of the claim; fills text with what lives as long as the turn. */
static Attempt *
claim_row(Dispatcher *d, Lane *lane, Flight *flight, const NotifRows *rows, uint64 row, ClaimedText *text)
{
	MemoryContext turn = d->worker->turn;
	Attempt    *a = attempt_new(d);
	bool		none;

	a->lane = lane;
	a->provider = lane->session->provider;
	a->flight = flight;
	flight->attempts++;
	notif_spi_uuid(rows, row, 2, &a->delivery);
	a->attempt = notif_spi_int16(rows, row, 3, NULL);
	a->tries = notif_spi_int16(rows, row, 4, NULL);
	a->ord = notif_spi_int64(rows, row, 5, NULL);
	notif_spi_uuid(rows, row, 6, &a->event);
	a->type_id = notif_spi_int32(rows, row, 7, NULL);
	a->recipient = notif_spi_int64(rows, row, 8, NULL);
	a->endpoint = notif_spi_int64(rows, row, 9, NULL);
	a->expires_at = notif_spi_timestamptz(rows, row, 10, NULL);
	a->charged_at = notif_spi_timestamptz(rows, row, 11, NULL);
	a->collapse = notif_spi_int64(rows, row, 12, &none);
	a->collapses = !none;
	a->subject = notif_spi_int64(rows, row, 13, &none);
	a->has_subject = !none;
	a->campaign = notif_spi_int32(rows, row, 14, &none);
	a->conditional = notif_spi_bool(rows, row, 15, NULL);
	text->address = notif_spi_text(rows, row, 16, turn);
	text->ref = notif_spi_text(rows, row, 17, turn);
	text->locale = notif_spi_text(rows, row, 18, turn);
	text->attributes = notif_spi_text(rows, row, 19, turn);
	return a;
}

void
dispatcher_send(Dispatcher *d, Attempt *a, const ClaimedText *text)
{
	Session    *session = a->lane->session;
	EventContent *event = content_event(d->content, &a->event);
	TypeContent *type = content_type(d->content, a->type_id);
	NotifH2Request request = {0};
	NotifMessage message = {0};
	NotifVars	vars = {0};
	NotifData  *attributes = NULL;
	NotifStatus status;
	char		id[NOTIF_UUID_TEXT];
	char		error[128] = "";

	withdraw_look(d, a);
	if (a->withdrawn != NULL)
	{
		attempt_done(d, a, "not_sent", a->withdrawn);
		return;
	}
	if (event == NULL || type == NULL || type->tmpl == NULL || (event->digest && type->digest_tmpl == NULL))
	{
		attempt_done(d, a, "message_bad", event == NULL ? "event_unknown" : type == NULL ? "type_unknown" :
					 type->tmpl == NULL ? type->error : "digest_undefined");
		return;
	}
	if (!lane_gate_admit(d, a, session))
	{
		attempt_done(d, a, "not_sent", a->permit ? "breaker" : "pacing");
		return;
	}
	if (text->attributes != NULL && strcmp(text->attributes, "{}") != 0)
		(void) notif_data_parse(text->attributes, strlen(text->attributes), &attributes);
	vars.data = event->data;
	vars.attributes = attributes;
	vars.recipient_ref = text->ref;
	vars.recipient_locale = text->locale != NULL ? text->locale : "";
	vars.event_id = event->text;
	vars.type_name = type->name;
	vars.event_time_s = event->time_s;
	notif_uuid_text(&a->delivery, id);
	message.delivery_id = id;
	message.address = text->address;
	message.collapse_key = event->collapse_key;
	message.expires_at_s = notif_timestamp_to_unix_ms(a->expires_at - notif_clock_offset_us()) / 1000;
	message.vars = &vars;
	notif_buf_reset(&d->scratch);
	status = session->ops->build(session->account, event->digest ? type->digest_tmpl : type->tmpl, &message, session->bearer,
								 &d->scratch, &request, error, sizeof(error));
	notif_data_free(attributes);
	if (status == NOTIF_OK)
	{
		request.timeout_ms = SEND_TIMEOUT_MS;
		request.queue_timeout_ms = QUEUE_TIMEOUT_MS;
		request.ud = a;
		a->session = session;
		a->provider = session->provider;
		a->bearer_number = session->bearer_number;
		notif_worker_mind_postmaster();
		status = notif_h2_pool_submit(session->pool, &request);
		if (status == NOTIF_OK)
		{
			d->in_flight++;
			session->in_flight++;
			a->lane->in_flight++;
			lane_gate_sent(a);
			return;
		}
		attempt_done(d, a, "not_sent", "local_limit");
		return;
	}
	if (status == NOTIF_ENOMEM)
	{
		attempt_done(d, a, "not_sent", "out_of_memory");
		return;
	}
	{
		char		reason[NOTIF_REASON_MAX];

		/* names of placeholders are cut between characters */
		snprintf(reason, sizeof(reason), "%s: %.*s",
				 status == NOTIF_EMISSING ? "placeholder_missing" :
				 status == NOTIF_ETOOBIG ? "payload_too_large" : "message_invalid",
				 pg_mbcliplen(error, (int) strlen(error), 40), error);
		attempt_done(d, a, "message_bad", reason);
	}
}

/* What a claim has taken, until it is sent; lives as long as the turn. */
typedef struct ClaimBatch
{
	uint64		n;
	Attempt   **attempts;		/* all of them in Dispatcher.claimed */
	ClaimedText *texts;
} ClaimBatch;

/* Reads the claim's answer and what rendering needs, in its transaction. */
static ClaimBatch
claim_take(Dispatcher *d, Lane *lane, int64 flight_id, const NotifRows *rows)
{
	ClaimBatch	taken = {0};
	Flight	   *flight;
	pg_uuid_t  *events = palloc(sizeof(pg_uuid_t) * (rows->count + 1));
	int32	   *types = palloc(sizeof(int32) * (rows->count + 1));
	bool		none = true;

	/* one row without a delivery: nothing of the batch passed the gates */
	if (rows->count > 0)
		(void) notif_spi_datum(rows, 0, 2, &none);
	if (none)
		return taken;
	taken.attempts = palloc(sizeof(Attempt *) * rows->count);
	taken.texts = palloc(sizeof(ClaimedText) * rows->count);
	flight = MemoryContextAllocZero(d->worker->life, sizeof(Flight));
	flight->id = flight_id;
	for (uint64 i = 0; i < rows->count; i++)
	{
		Attempt    *a = claim_row(d, lane, flight, rows, i, &taken.texts[i]);

		(void) lane_gate_hand(d, lane, a);
		taken.attempts[i] = a;
		dlist_push_tail(&d->claimed, &a->node);
		events[i] = a->event;
		types[i] = a->type_id;
	}
	taken.n = rows->count;
	content_load(d->content, lane->session->ops, events, (int) taken.n, types, (int) taken.n);
	for (uint64 i = 0; i < taken.n; i++)
	{
		TypeContent *type = content_type(d->content, types[i]);

		taken.attempts[i]->hold = type != NULL && type->hold;
		taken.attempts[i]->ordered = type != NULL && type->ordered;
	}
	return taken;
}

/* After the commit. */
static void
claim_send(Dispatcher *d, const ClaimBatch *taken)
{
	for (uint64 i = 0; i < taken->n; i++)
	{
		if (order_admit(d, taken->attempts[i], &taken->texts[i]))
			dispatcher_send(d, taken->attempts[i], &taken->texts[i]);
	}
	if (taken->n > 0)
		notif_worker_count(d->worker, NOTIF_COUNT_CLAIMS, 1);
	notif_worker_count(d->worker, NOTIF_COUNT_SENT, (int64) taken->n);
}

bool
dispatcher_claim(Dispatcher *d, Lane *lane, int limit)
{
	static NotifStmt claim;
	NotifWorker *worker = d->worker;
	bool		careful = lane->claim_failures >= NOTIF_CAREFUL_AFTER;
	Datum		args[6];
	bool		due = lane->due_unknown || lane->next_due <= notif_now();
	NotifRows	rows;
	ClaimBatch	taken;
	int64		flight_id;
	int			batch = 0;

	if (claim.sql == NULL)
	{
		claim.sql = MemoryContextStrdup(worker->life,
										psprintf("SELECT * FROM notif_private.worker_claim_%s($1, $2, $3, $4, $5, $6)",
												 notif_tier_name(worker->tier)));
		claim.nargs = 6;
		claim.argtypes[0] = INT4OID;
		claim.argtypes[1] = INT4OID;
		claim.argtypes[2] = INT8OID;
		claim.argtypes[3] = INT8OID;
		claim.argtypes[4] = BOOLOID;
		claim.argtypes[5] = BOOLOID;
	}
	if (!notif_worker_begin(worker, "notif: claiming"))
		return false;
	if (dispatcher_config_invalid())
	{
		/* A switch that has committed holds from here: look at it first. */
		notif_worker_rollback(worker);
		return true;
	}
	if (careful)
		limit = Min(limit, NOTIF_CAREFUL_ROWS);
	d->claiming = lane;
	flight_id = d->next_flight++;
	args[0] = Int32GetDatum(lane->id);
	args[1] = Int32GetDatum(limit);
	args[2] = Int64GetDatum(worker->incarnation);
	args[3] = Int64GetDatum(flight_id);
	args[4] = BoolGetDatum(due);
	args[5] = BoolGetDatum(careful);
	rows = notif_spi_run(&claim, args, NULL, 0);
	if (rows.count > 0)
		batch = notif_spi_int32(&rows, 0, 1, NULL);

	taken = claim_take(d, lane, flight_id, &rows);
	if (taken.n > 0)
		NOTIF_FAULT(K2);
	/* Before the first byte, and whatever the role's synchronous_commit is. */
	notif_worker_commit(worker, taken.n > 0);
	d->claiming = NULL;
	lane->claim_failures = 0;
	if (taken.n > 0)
		NOTIF_FAULT(K3);
	/* taken from the schedule, or deferred into it: look for the next anew */
	lane->due_unknown |= due || taken.n < (uint64) batch;
	claim_send(d, &taken);
	/* what was given up on is not in batch */
	return careful || batch >= limit;
}

bool
claim_fly(Dispatcher *d, Lane *lane, Datum attempts, Datum lanes)
{
	static NotifStmt fly;
	NotifWorker *worker = d->worker;
	Oid			type = notif_attempt_type();
	Datum		args[5];
	NotifRows	rows;
	ClaimBatch *taken = palloc(sizeof(ClaimBatch));
	int			batch = 0;
	int64		flight_id = d->next_flight++;

	if (fly.sql == NULL)
	{
		fly.sql = MemoryContextStrdup(worker->life,
									  psprintf("SELECT * FROM notif_private.worker_fly_%s($1, $2, $3, $4, $5)",
											   notif_tier_name(worker->tier)));
		fly.nargs = 5;
		fly.argtypes[0] = INT4OID;
		fly.argtypes[2] = INT4ARRAYOID;
		fly.argtypes[3] = INT8OID;
		fly.argtypes[4] = INT8OID;
	}
	fly.argtypes[1] = get_array_type(type);
	args[0] = Int32GetDatum(lane->id);
	args[1] = attempts;
	args[2] = lanes;
	args[3] = Int64GetDatum(worker->incarnation);
	args[4] = Int64GetDatum(flight_id);
	rows = notif_spi_run(&fly, args, NULL, 0);
	if (rows.count > 0)
		batch = notif_spi_int32(&rows, 0, 1, NULL);
	*taken = claim_take(d, lane, flight_id, &rows);
	/* a gate may have deferred some into the schedule */
	lane->due_unknown |= taken->n < (uint64) batch;
	d->flown = lappend(d->flown, taken);
	return taken->n > 0;
}

void
claim_flown(Dispatcher *d)
{
	List	   *flown = d->flown;
	ListCell   *cell;

	d->flown = NIL;
	foreach(cell, flown)
		claim_send(d, lfirst(cell));
}
