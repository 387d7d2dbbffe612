/*
 * rate.c
 *		SQL-callable faces of the rate windows (core/ratelimit.h).
 *
 * What a row stores is an answer and a state.  The answer is what the last
 * charge was asked and what it said, since RETURNING can hand on nothing but
 * what is stored, and EXCLUDED nothing but what was to be inserted: a claim's
 * INSERT charges an empty state, and where there is a row already, the same
 * question is put again to the state that it holds.  The answer is short, runs
 * of sends that were asked and answered alike; a number of runs and then, for
 * each, how many, their mask, the place of the limit that stopped them plus
 * one (0: they passed), and when they may try again in Unix milliseconds.  All
 * numbers are base-128 varints.
 *
 * Limits come as an array of five numbers each: place, id, n, window in
 * milliseconds, action.  The place is the bit of the limit in a mask.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/ratelimit.h"
#include "core/varint.h"
#include "ids.h"

PG_FUNCTION_INFO_V1(notif_rate_charge);
PG_FUNCTION_INFO_V1(notif_rate_recharge);
PG_FUNCTION_INFO_V1(notif_rate_verdicts);
PG_FUNCTION_INFO_V1(notif_rate_look);
PG_FUNCTION_INFO_V1(notif_rate_take);
PG_FUNCTION_INFO_V1(notif_rate_give);
PG_FUNCTION_INFO_V1(notif_rate_until);

/* far enough for a limit that never opens, and still a timestamp */
#define RATE_NEVER_MS		(INT64CONST(1) << 45)

/* A verdict as one number: the place plus one above, the time below. */
#define RATE_VERDICT_SHIFT	48

/* the longest varint of 64 bits */
#define RATE_VARINT_MAX		10

typedef struct RateLimits
{
	int			n;
	NotifRateLayer layers[NOTIF_RATE_LAYERS_MAX];
	NotifRateAction actions[NOTIF_RATE_LAYERS_MAX];
	uint8		places[NOTIF_RATE_LAYERS_MAX];
	bool		in_place;		/* each limit's place is its index */
} RateLimits;

static void
rate_refuse_limits(const char *detail)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("rate limits are not usable"),
			errdetail("%s", detail));
}

static void
rate_limits(ArrayType *array, RateLimits *limits)
{
	int			n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	const int64 *at = (const int64 *) ARR_DATA_PTR(array);

	if (ARR_HASNULL(array) || ARR_ELEMTYPE(array) != INT8OID || n % 5 != 0 || n / 5 > NOTIF_RATE_LAYERS_MAX)
		rate_refuse_limits("Five numbers are needed of each, and there may be 64 of them.");
	limits->n = n / 5;
	limits->in_place = true;
	for (int i = 0; i < limits->n; i++, at += 5)
	{
		if (at[0] < 0 || at[0] >= 64 || at[1] < 0 || at[1] > PG_INT32_MAX || at[2] < 0 || at[2] > PG_INT32_MAX ||
			at[4] < NOTIF_RATE_DEFER || at[4] > NOTIF_RATE_DROP)
			rate_refuse_limits("A number is out of range.");
		limits->places[i] = (uint8) at[0];
		limits->layers[i].id = (uint32) at[1];
		limits->layers[i].limit = (uint32) at[2];
		limits->layers[i].window_ms = at[3];
		limits->actions[i] = (NotifRateAction) at[4];
		limits->in_place &= at[0] == i;
	}
}

/* From places to indexes. */
static uint64
rate_mask(const RateLimits *limits, uint64 mask)
{
	uint64		result = 0;

	if (limits->in_place)
		return limits->n < 64 ? mask & ((UINT64CONST(1) << limits->n) - 1) : mask;
	for (int i = 0; i < limits->n; i++)
		result |= (mask >> limits->places[i] & 1) << i;
	return result;
}

static int64
rate_time(TimestampTz at)
{
	return notif_timestamp_to_unix_ms(at);
}

/* ---- answers ---------------------------------------------------------------- */

typedef struct RateRun
{
	uint64		n;
	uint64		mask;
	uint64		place;			/* plus one; 0: passed */
	uint64		retry_ms;
} RateRun;

static uint8 *
rate_put(uint8 *at, uint64 value)
{
	while (value > 0x7F)
	{
		*at++ = (uint8) (value & 0x7F) | 0x80;
		value >>= 7;
	}
	*at++ = (uint8) value;
	return at;
}

static NotifVarintReader
rate_cursor(bytea *row)
{
	NotifVarintReader	cursor = {.at = (uint8 *) VARDATA_ANY(row)};

	cursor.end = cursor.at + VARSIZE_ANY_EXHDR(row);
	return cursor;
}

static RateRun
rate_get_run(NotifVarintReader *cursor)
{
	RateRun		run;

	run.n = notif_varint_read(cursor);
	run.mask = notif_varint_read(cursor);
	run.place = notif_varint_read(cursor);
	run.retry_ms = notif_varint_read(cursor);
	return run;
}

/* What is behind the answer; nothing for no row, or one that cannot be read. */
static NotifVarintReader
rate_state(bytea *row)
{
	NotifVarintReader	none = {0};
	NotifVarintReader	cursor;
	uint64		runs;

	if (row == NULL)
		return none;
	cursor = rate_cursor(row);
	runs = notif_varint_read(&cursor);
	while (runs-- > 0 && !cursor.bad)
		(void) rate_get_run(&cursor);
	return cursor.bad ? none : cursor;
}

/* An answer was written by this statement, or something is very wrong. */
static void
rate_check_answer(const NotifVarintReader *cursor)
{
	if (cursor->bad)
		ereport(ERROR,
				errcode(ERRCODE_INTERNAL_ERROR),
				errmsg("an answer of rate limits cannot be read"));
}

static bytea *
rate_row(const RateRun *runs, int n_runs, const uint8 *state, size_t state_len)
{
	bytea	   *row = palloc(VARHDRSZ + RATE_VARINT_MAX * (1 + 4 * (size_t) n_runs) + state_len);
	uint8	   *at = rate_put((uint8 *) VARDATA(row), (uint64) n_runs);

	for (int i = 0; i < n_runs; i++)
	{
		at = rate_put(at, runs[i].n);
		at = rate_put(at, runs[i].mask);
		at = rate_put(at, runs[i].place);
		at = rate_put(at, runs[i].retry_ms);
	}
	memcpy(at, state, state_len);
	SET_VARSIZE(row, (char *) at + state_len - (char *) row);
	return row;
}

static void
rate_check(NotifStatus status)
{
	if (status != NOTIF_OK)
		rate_refuse_limits(psprintf("status %d", status));
}

/* Charges sends of these masks (of places), one after the other. */
static bytea *
rate_charge(bytea *row, const RateLimits *limits, int64 now_ms, const uint64 *asked, int n)
{
	NotifVarintReader	old = rate_state(row);
	uint8		state[NOTIF_RATE_STATE_MAX];
	size_t		len = 0;
	uint64	   *masks = palloc(sizeof(uint64) * (size_t) (n + 1));
	NotifRateVerdict *verdicts = palloc(sizeof(NotifRateVerdict) * (size_t) (n + 1));
	RateRun    *runs = palloc(sizeof(RateRun) * (size_t) (n + 1));
	int			n_runs = 0;

	for (int i = 0; i < n; i++)
		masks[i] = rate_mask(limits, asked[i]);
	rate_check(notif_ratelimit_charge_each(old.at, (size_t) (old.end - old.at), limits->layers, limits->actions,
										   limits->n, now_ms, masks, n, state, sizeof(state), &len, verdicts));
	for (int i = 0; i < n; i++)
	{
		RateRun		run = {1, asked[i], 0, (uint64) Min(verdicts[i].retry_at_ms, RATE_NEVER_MS)};

		if (verdicts[i].layer >= 0)
			run.place = (uint64) limits->places[verdicts[i].layer] + 1;
		if (n_runs > 0 && runs[n_runs - 1].mask == run.mask && runs[n_runs - 1].place == run.place &&
			runs[n_runs - 1].retry_ms == run.retry_ms)
			runs[n_runs - 1].n++;
		else
			runs[n_runs++] = run;
	}
	return rate_row(runs, n_runs, state, len);
}

Datum
notif_rate_charge(PG_FUNCTION_ARGS)
{
	RateLimits	limits;
	ArrayType  *masks;
	int			first;
	int			n;

	for (int i = 1; i < 6; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("limits, at, masks, first and n must not be null"));
	}
	rate_limits(PG_GETARG_ARRAYTYPE_P(1), &limits);
	masks = PG_GETARG_ARRAYTYPE_P(3);
	first = PG_GETARG_INT32(4);
	n = PG_GETARG_INT32(5);
	if (ARR_HASNULL(masks) || ARR_ELEMTYPE(masks) != INT8OID || first < 1 || n < 0 ||
		(int64) first - 1 + n > ArrayGetNItems(ARR_NDIM(masks), ARR_DIMS(masks)))
		ereport(ERROR,
				errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				errmsg("there is no such part of masks"));
	PG_RETURN_BYTEA_P(rate_charge(PG_ARGISNULL(0) ? NULL : PG_GETARG_BYTEA_PP(0), &limits,
								  rate_time(PG_GETARG_TIMESTAMPTZ(2)),
								  (const uint64 *) ARR_DATA_PTR(masks) + first - 1, n));
}

Datum
notif_rate_recharge(PG_FUNCTION_ARGS)
{
	RateLimits	limits;
	NotifVarintReader	asked = rate_cursor(PG_GETARG_BYTEA_PP(3));
	uint64		runs = notif_varint_read(&asked);
	uint64	   *masks = NULL;
	int			n = 0;

	rate_check_answer(&asked);
	rate_limits(PG_GETARG_ARRAYTYPE_P(1), &limits);
	while (runs-- > 0)
	{
		RateRun		run = rate_get_run(&asked);
		size_t		size = sizeof(uint64) * ((size_t) n + run.n);

		rate_check_answer(&asked);
		masks = masks == NULL ? palloc(size) : repalloc(masks, size);
		while (run.n-- > 0)
			masks[n++] = run.mask;
	}
	PG_RETURN_BYTEA_P(rate_charge(PG_GETARG_BYTEA_PP(0), &limits, rate_time(PG_GETARG_TIMESTAMPTZ(2)), masks, n));
}

/* How many sends the answers of some rows are about; with out, their verdicts. */
static int
rate_answers(Datum *values, const bool *nulls, int n_rows, int64 *out)
{
	int			n = 0;

	for (int i = 0; i < n_rows; i++)
	{
		NotifVarintReader	cursor;
		uint64		runs;

		if (nulls[i])
			continue;
		cursor = rate_cursor(DatumGetByteaPP(values[i]));
		runs = notif_varint_read(&cursor);
		while (runs-- > 0)
		{
			RateRun		run = rate_get_run(&cursor);

			rate_check_answer(&cursor);
			for (uint64 k = 0; out != NULL && k < run.n; k++)
				out[n + (int) k] = (int64) (run.place << RATE_VERDICT_SHIFT | run.retry_ms);
			n += (int) run.n;
		}
	}
	return n;
}

Datum
notif_rate_verdicts(PG_FUNCTION_ARGS)
{
	Datum	   *values;
	bool	   *nulls;
	int			n_rows;
	int			n;
	ArrayType  *result;
	size_t		size;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), BYTEAOID, -1, false, TYPALIGN_INT, &values, &nulls, &n_rows);
	n = rate_answers(values, nulls, n_rows, NULL);
	if (n == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(INT8OID));
	size = ARR_OVERHEAD_NONULLS(1) + sizeof(int64) * (size_t) n;
	result = palloc0(size);
	SET_VARSIZE(result, size);
	result->ndim = 1;
	result->elemtype = INT8OID;
	ARR_DIMS(result)[0] = n;
	ARR_LBOUND(result)[0] = 1;
	(void) rate_answers(values, nulls, n_rows, (int64 *) ARR_DATA_PTR(result));
	PG_RETURN_ARRAYTYPE_P(result);
}

Datum
notif_rate_look(PG_FUNCTION_ARGS)
{
	RateLimits	limits;
	NotifVarintReader	state = rate_state(PG_ARGISNULL(0) ? NULL : PG_GETARG_BYTEA_PP(0));
	uint32		left[NOTIF_RATE_LAYERS_MAX];
	int64		next[NOTIF_RATE_LAYERS_MAX];
	Datum		pairs[2 * NOTIF_RATE_LAYERS_MAX];

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	rate_limits(PG_GETARG_ARRAYTYPE_P(1), &limits);
	rate_check(notif_ratelimit_look(state.at, (size_t) (state.end - state.at), limits.layers, limits.n,
									rate_time(PG_GETARG_TIMESTAMPTZ(2)), left, next));
	for (int i = 0; i < limits.n; i++)
	{
		pairs[2 * i] = Int64GetDatum(left[i]);
		pairs[2 * i + 1] = Int64GetDatum(Min(next[i], RATE_NEVER_MS));
	}
	PG_RETURN_ARRAYTYPE_P(construct_array(pairs, 2 * limits.n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* ---- one window that tiers share ------------------------------------------- */

Datum
notif_rate_take(PG_FUNCTION_ARGS)
{
	RateLimits	limits;
	NotifVarintReader	old = rate_state(PG_ARGISNULL(0) ? NULL : PG_GETARG_BYTEA_PP(0));
	uint8		state[NOTIF_RATE_STATE_MAX];
	size_t		len = 0;
	int			granted;
	int			layer;
	int64		retry;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	rate_limits(PG_GETARG_ARRAYTYPE_P(1), &limits);
	rate_check(notif_ratelimit_charge(old.at, (size_t) (old.end - old.at), limits.layers, limits.n,
									  rate_time(PG_GETARG_TIMESTAMPTZ(2)), PG_GETARG_INT32(3), state, sizeof(state), &len,
									  &granted, &layer, &retry));
	if (granted < PG_GETARG_INT32(3))
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("a rate limit has no room for %d more", PG_GETARG_INT32(3)));
	PG_RETURN_BYTEA_P(rate_row(NULL, 0, state, len));
}

Datum
notif_rate_give(PG_FUNCTION_ARGS)
{
	RateLimits	limits;
	NotifVarintReader	old = rate_state(PG_GETARG_BYTEA_PP(0));
	uint8		state[NOTIF_RATE_STATE_MAX];
	size_t		len = 0;

	rate_limits(PG_GETARG_ARRAYTYPE_P(1), &limits);
	rate_check(notif_ratelimit_refund(old.at, (size_t) (old.end - old.at), limits.layers, limits.n,
									  rate_mask(&limits, (uint64) PG_GETARG_INT64(4)), rate_time(PG_GETARG_TIMESTAMPTZ(2)),
									  PG_GETARG_INT32(3), state, sizeof(state), &len));
	PG_RETURN_BYTEA_P(rate_row(NULL, 0, state, len));
}

Datum
notif_rate_until(PG_FUNCTION_ARGS)
{
	RateLimits	limits;

	rate_limits(PG_GETARG_ARRAYTYPE_P(0), &limits);
	if (limits.n != 1)
		rate_refuse_limits("One is asked for at a time.");
	PG_RETURN_TIMESTAMPTZ(notif_unix_ms_to_timestamp(
							notif_ratelimit_until(&limits.layers[0], rate_time(PG_GETARG_TIMESTAMPTZ(1)))));
}
