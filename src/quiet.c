/*
 * quiet.c
 *		Quiet hours and local times in SQL: core/quiet.c with the server's zones.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "pgtime.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/timestamp.h"

#include "core/quiet.h"

PG_FUNCTION_INFO_V1(notif_next_local_time_sql);
PG_FUNCTION_INFO_V1(notif_next_instant_sql);
PG_FUNCTION_INFO_V1(notif_quiet_until_sql);

#define UNIX_EPOCH_S ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

static void
zone_span(void *zone, int64_t at_s, NotifZoneSpan *span)
{
	pg_time_t	at = at_s;
	pg_time_t	boundary;
	long int	before;
	long int	after;
	int			before_dst;
	int			after_dst;
	int			more = pg_next_dst_boundary(&at, &before, &before_dst, &boundary, &after, &after_dst, zone);

	/* out of the zone's range, where nobody sleeps: Greenwich */
	span->offset_s = more < 0 ? 0 : before;
	span->until_s = more > 0 ? boundary : INT64_MAX;
}

static pg_tz *
zone_of(text *name)
{
	char		buffer[TZ_STRLEN_MAX + 1];
	pg_tz	   *zone;

	text_to_cstring_buffer(name, buffer, sizeof(buffer));
	zone = pg_tzset(buffer);
	/* a zone that the server no longer has */
	return zone != NULL ? zone : pg_tzset("GMT");
}

static int64
unix_seconds(TimestampTz at)
{
	return at / USECS_PER_SEC - (at % USECS_PER_SEC < 0) + UNIX_EPOCH_S;
}

/* (minute integer, weekday integer, zone text, after timestamptz); see notif_next_local. */
Datum
notif_next_local_time_sql(PG_FUNCTION_ARGS)
{
	int			minute = PG_ARGISNULL(0) ? NOTIF_FULL_HOUR : PG_GETARG_INT32(0);
	int			weekday = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	TimestampTz after;
	int64		next_s;

	if (PG_ARGISNULL(2) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	if ((minute < 0 && !PG_ARGISNULL(0)) || minute >= 24 * 60 || weekday < 0 || weekday > 7)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("there is no such minute of a day or day of a week"));
	after = PG_GETARG_TIMESTAMPTZ(3);
	if (TIMESTAMP_NOT_FINITE(after))
		PG_RETURN_NULL();
	next_s = notif_next_local(zone_span, zone_of(PG_GETARG_TEXT_PP(2)), minute, weekday, unix_seconds(after));
	PG_RETURN_TIMESTAMPTZ((next_s - UNIX_EPOCH_S) * USECS_PER_SEC);
}

/*
 * (windows smallint[], dates date[], zone text, at timestamptz): windows holds start
 * and end in minutes for each weekday, Monday first, -1 for none; dates NULL: any;
 * ascending.  NULL unless at is in one of them, or so close that it could be.
 */
Datum
notif_quiet_until_sql(PG_FUNCTION_ARGS)
{
	NotifQuietWeek week = {.dates = NULL};
	ArrayType  *windows;
	const int16 *edges;
	pg_tz	   *zone;
	TimestampTz at;
	int64		at_s;
	int64		until_s;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	windows = PG_GETARG_ARRAYTYPE_P(0);
	if (ARR_NDIM(windows) != 1 || ARR_HASNULL(windows) || ARR_DIMS(windows)[0] != 2 * NOTIF_QUIET_DAYS)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("windows do not hold two edges for each of seven days"));
	edges = (const int16 *) ARR_DATA_PTR(windows);
	for (int i = 0; i < NOTIF_QUIET_DAYS; i++)
	{
		week.start[i] = edges[2 * i];
		week.end[i] = edges[2 * i + 1];
	}
	if (!PG_ARGISNULL(1))
	{
		ArrayType  *dates = PG_GETARG_ARRAYTYPE_P(1);
		int32	   *days;

		if (ARR_NDIM(dates) > 1 || ARR_HASNULL(dates))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("dates are not a list of days"));
		week.n_dates = ARR_NDIM(dates) == 0 ? 0 : ARR_DIMS(dates)[0];
		days = palloc(sizeof(int32) * (week.n_dates + 1));
		for (int i = 0; i < week.n_dates; i++)
			days[i] = ((const DateADT *) ARR_DATA_PTR(dates))[i] + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE);
		week.dates = days;
	}
	zone = zone_of(PG_GETARG_TEXT_PP(2));
	at = PG_GETARG_TIMESTAMPTZ(3);
	if (TIMESTAMP_NOT_FINITE(at))
		PG_RETURN_NULL();
	at_s = unix_seconds(at);
	until_s = notif_quiet_until(&week, zone_span, zone, at_s);
	if (until_s == at_s)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ((until_s - UNIX_EPOCH_S) * USECS_PER_SEC);
}

/*
 * (local timestamp, among text[], not_before timestamptz, after timestamptz): the
 * first instant after `after` at which clocks of `among` show local, and the zones
 * whose do; none before not_before.  NULL, NULL if there is none.
 */
Datum
notif_next_instant_sql(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[2] = {0};
	bool		nulls[2] = {true, true};
	Datum	   *names;
	bool	   *absent;
	Datum	   *found;
	int			n;
	int			n_found = 0;
	TimestampTz best = 0;
	Timestamp	local;
	int64		local_s;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "next_instant must return a row");
	desc = BlessTupleDesc(desc);
	if (!PG_ARGISNULL(0) && !PG_ARGISNULL(1))
	{
		local = PG_GETARG_TIMESTAMP(0);
		local_s = unix_seconds(local);
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &names, &absent, &n);
		found = palloc(sizeof(Datum) * Max(n, 1));
		for (int i = 0; i < n; i++)
		{
			TimestampTz at;

			if (absent[i])
				continue;
			at = (notif_local_instant(zone_span, zone_of(DatumGetTextPP(names[i])), local_s, true) - UNIX_EPOCH_S) * USECS_PER_SEC;
			if (!PG_ARGISNULL(2))
				at = Max(at, PG_GETARG_TIMESTAMPTZ(2));
			if (!PG_ARGISNULL(3) && at <= PG_GETARG_TIMESTAMPTZ(3))
				continue;
			if (n_found == 0 || at < best)
			{
				best = at;
				n_found = 0;
			}
			if (at == best)
				found[n_found++] = names[i];
		}
		if (n_found > 0)
		{
			values[0] = TimestampTzGetDatum(best);
			values[1] = PointerGetDatum(construct_array(found, n_found, TEXTOID, -1, false, TYPALIGN_INT));
			nulls[0] = nulls[1] = false;
		}
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
