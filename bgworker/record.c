/*
 * record.c
 *		Writes what came back, and resolves what a dead dispatcher left.
 *
 * Attempts stay in their lane's list until the record has committed: an ERROR,
 * a full disk say, leaves them there for the next try.  Commits are asynchronous
 * (the flight, durable since the claim, says after a crash what is in doubt),
 * but durable for categories that must not be sent twice.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "../src/fault.h"
#include "../src/ids.h"
#include "dispatcher.h"

/* Columns of notif_private.attempt, sql/10-types.sql. */
#define ATTEMPT_COLUMNS 15

static Oid	attempt_type = InvalidOid;
static TupleDesc attempt_desc = NULL;

Oid
notif_attempt_type(void)
{
	Oid			oid = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, PointerGetDatum("attempt"),
									  ObjectIdGetDatum(get_namespace_oid(NOTIF_PRIVATE_SCHEMA, false)));

	if (!OidIsValid(oid))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("type notif_private.attempt does not exist"));
	return oid;
}

static Datum
attempt_datum(const Attempt *a)
{
	Datum		values[ATTEMPT_COLUMNS];
	bool		nulls[ATTEMPT_COLUMNS] = {false};
	HeapTuple	tuple;

	values[0] = UUIDPGetDatum(&a->delivery);
	values[1] = Int16GetDatum(a->attempt);
	values[2] = Int16GetDatum(a->tries);
	values[3] = Int64GetDatum(a->ord);
	values[4] = UUIDPGetDatum(&a->event);
	values[5] = Int32GetDatum(a->type_id);
	values[6] = Int64GetDatum(a->recipient);
	values[7] = Int64GetDatum(a->endpoint);
	values[8] = TimestampTzGetDatum(a->expires_at);
	values[9] = TimestampTzGetDatum(a->charged_at);
	values[10] = Int64GetDatum(a->collapse);
	nulls[10] = !a->collapses;
	values[11] = Int64GetDatum(a->subject);
	nulls[11] = !a->has_subject;
	values[12] = Int32GetDatum(a->campaign);
	nulls[12] = a->campaign == 0;
	nulls[13] = true;			/* it was due */
	values[14] = BoolGetDatum(true);
	nulls[14] = !a->conditional;
	tuple = heap_form_tuple(attempt_desc, values, nulls);
	return HeapTupleGetDatum(tuple);
}

static Datum
text_array(Datum *values, int n)
{
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static Datum
int4_array(Datum *values, int n)
{
	return PointerGetDatum(construct_array(values, n, INT4OID, 4, true, TYPALIGN_INT));
}

static Datum
int8_array(Datum *values, int n)
{
	return PointerGetDatum(construct_array(values, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static NotifStmt *
record_statement(Dispatcher *d, bool careful)
{
	static NotifStmt stmts[2];	/* the second one row by row, after ERRORs */
	NotifStmt  *stmt = &stmts[careful];
	static const Oid types[] = {INT4OID, INT4OID, INT8OID, InvalidOid, TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID,
		TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID};

	if (stmt->sql == NULL)
		stmt->sql = MemoryContextStrdup(d->worker->life,
										psprintf("SELECT * FROM notif_private.worker_record_%s%s"
												 "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
												 careful ? "carefully_" : "", notif_tier_name(d->worker->tier)));
	stmt->nargs = lengthof(types);
	memcpy(stmt->argtypes, types, sizeof(types));
	/* cheap, and right after the extension was re-created */
	attempt_type = notif_attempt_type();
	attempt_desc = lookup_rowtype_tupdesc_copy(attempt_type, -1);
	stmt->argtypes[3] = get_array_type(attempt_type);
	return stmt;
}

/*
 * How many of those done are recorded together: those of one provider, which a
 * lane may just have changed.
 */
static int
record_size(Lane *lane, bool careful, int *provider)
{
	dlist_iter	it;
	int			n = 0;

	*provider = dlist_head_element(Attempt, node, &lane->done)->provider;
	dlist_foreach(it, &lane->done)
	{
		if (dlist_container(Attempt, node, it.cur)->provider != *provider || (careful && n == NOTIF_CAREFUL_ROWS))
			break;
		n++;
	}
	return n;
}

void
dispatcher_record(Dispatcher *d, Lane *lane)
{
	NotifWorker *worker = d->worker;
	NotifStmt  *stmt;
	int			n;
	Datum	   *columns[9];
	Datum		args[13];
	Datum	   *closed;
	int			n_closed = 0;
	int			provider = 0;
	bool		hold = false;
	bool		careful;
	NotifRows	rows;
	TimestampTz next_due;
	bool		isnull;
	dlist_iter	it;
	int			i = 0;

	if (lane->n_done == 0)
		return;
	d->recording = lane;
	d->n_recording = 0;
	NOTIF_FAULT(K5);
	if (!notif_worker_begin(worker, "notif: recording"))
	{
		d->recording = NULL;
		return;
	}
	careful = lane->record_failures >= NOTIF_CAREFUL_AFTER;
	n = record_size(lane, careful, &provider);
	stmt = record_statement(d, careful);
	for (int c = 0; c < 9; c++)
		columns[c] = palloc(sizeof(Datum) * n);
	closed = palloc(sizeof(Datum) * n);
	dlist_foreach(it, &lane->done)
		dlist_container(Attempt, node, it.cur)->flight->recording = 0;
	dlist_foreach(it, &lane->done)
	{
		Attempt    *a = dlist_container(Attempt, node, it.cur);

		if (i == n)
			break;
		columns[0][i] = attempt_datum(a);
		columns[1][i] = CStringGetTextDatum(a->verdict);
		columns[2][i] = CStringGetTextDatum(a->reason);
		columns[3][i] = Int32GetDatum(a->status);
		columns[4][i] = CStringGetTextDatum(a->ref);
		columns[5][i] = Int32GetDatum(a->latency_us);
		columns[6][i] = Int32GetDatum(a->retry_after_s * 1000 + a->retry_after_ms);
		columns[7][i] = Int64GetDatum(a->gone_at_ms);
		columns[8][i] = Int64GetDatum(a->flight->id);
		hold |= a->hold;
		if (++a->flight->recording == a->flight->attempts)
			closed[n_closed++] = Int64GetDatum(a->flight->id);
		i++;
	}
	args[0] = Int32GetDatum(lane->id);
	args[1] = Int32GetDatum(provider);
	args[2] = Int64GetDatum(worker->incarnation);
	args[3] = PointerGetDatum(construct_array(columns[0], n, attempt_type, -1, false, TYPALIGN_DOUBLE));
	args[4] = text_array(columns[1], n);
	args[5] = text_array(columns[2], n);
	args[6] = int4_array(columns[3], n);
	args[7] = text_array(columns[4], n);
	args[8] = int4_array(columns[5], n);
	args[9] = int4_array(columns[6], n);
	args[10] = int8_array(columns[7], n);
	args[11] = int8_array(columns[8], n);
	args[12] = int8_array(closed, n_closed);
	rows = notif_spi_run(stmt, args, NULL, 1);
	next_due = notif_spi_timestamptz(&rows, 0, 2, &isnull);
	if (!isnull && next_due < lane->next_due)
		lane->next_due = next_due;
	NOTIF_FAULT(K6);
	d->n_recording = n;
	notif_worker_commit(worker, hold);
	NOTIF_FAULT(K7);
	dispatcher_recorded(d);
}

void
dispatcher_recorded(Dispatcher *d)
{
	Lane	   *lane = d->recording;

	notif_worker_count(d->worker, NOTIF_COUNT_RECORDED, d->n_recording);
	for (int i = 0; i < d->n_recording; i++)
		attempt_free(d, dlist_container(Attempt, node, dlist_pop_head_node(&lane->done)));
	lane->n_done -= d->n_recording;
	d->n_done -= d->n_recording;
	lane->record_failures = 0;
	d->recording = NULL;
}

void
dispatcher_recover(Dispatcher *d)
{
	NotifStmt	recover = {.nargs = 1,.argtypes = {INT8OID}};
	int			flights;

	recover.sql = psprintf("SELECT * FROM notif_private.worker_recover_%s($1)", notif_tier_name(d->worker->tier));
	do
	{
		Datum		arg = Int64GetDatum(d->worker->incarnation);
		NotifRows	rows;
		int64		resent;
		int64		held;

		if (!notif_worker_begin(d->worker, "notif: resolving flights in doubt"))
			return;
		rows = notif_spi_run(&recover, &arg, NULL, 1);
		flights = notif_spi_int32(&rows, 0, 1, NULL);
		resent = notif_spi_int64(&rows, 0, 2, NULL);
		held = notif_spi_int64(&rows, 0, 3, NULL);
		notif_worker_commit(d->worker, true);
		if (resent + held > 0)
			ereport(LOG,
					errmsg("notif resolved %d flights of an earlier dispatcher", flights),
					errdetail("%lld deliveries in doubt are sent again, %lld are held.",
							  (long long) resent, (long long) held));
	} while (flights > 0);
}
