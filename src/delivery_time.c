/*
 * delivery_time.c
 *		Delivery later than now: what may be asked for, and the ids that belong to it.
 *
 * An event for later is filed under its id; the events that are released for it have
 * ids of the time of their release and, in their last 62 bits, those of the first.
 * So one row, notif_private.cancellation of the key that they share, cancels those
 * that are there and those to come, be one released at this moment or not.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "delivery_time.h"
#include "ids.h"
#include "shmem.h"

#define DAYS_AHEAD_MAX	1827	/* five years */

/* No clock is further from Greenwich. */
#define LOCAL_REACH		(14 * USECS_PER_HOUR)

PG_FUNCTION_INFO_V1(notif_check_delivery_time);
PG_FUNCTION_INFO_V1(notif_schedule_key);

static void
check_spread(Interval *spread, TimestampTz now)
{
	TimestampTz end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now),
															  IntervalPGetDatum(spread)));

	if (end <= now || end > now + USECS_PER_DAY)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("spread is out of range"),
				errdetail("It is %s.", DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(spread)))),
				errhint("More than 0 and at most 1 day."));
}

static void
raise_time(const char *name, const char *detail)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("%s is out of range", name),
			errdetail("%s", detail),
			errhint("At most five years ahead; what is past is now."));
}

NotifDeliveryTime
notif_delivery_time_check(const TimestampTz *at, const Timestamp *local_at, Interval *spread, TimestampTz now)
{
	NotifDeliveryTime when = {.at = now,.spread = spread};
	TimestampTz latest = now + DAYS_AHEAD_MAX * USECS_PER_DAY;

	if (at != NULL && local_at != NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("deliver_at and deliver_at_local exclude each other"),
				errdetail("One is the same moment for all, the other the same local time."),
				errhint("Give one of them."));
	if (at != NULL)
	{
		if (TIMESTAMP_NOT_FINITE(*at) || *at > latest)
			raise_time("deliver_at", DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(*at))));
		when.later = *at > now;
		when.at = Max(*at, now);
	}
	if (local_at != NULL)
	{
		if (TIMESTAMP_NOT_FINITE(*local_at) || *local_at > latest + LOCAL_REACH)
			raise_time("deliver_at_local", DatumGetCString(DirectFunctionCall1(timestamp_out, TimestampGetDatum(*local_at))));
		when.later = true;
		when.local = true;
		/* clocks that change do so on whole seconds */
		when.local_at = *local_at - ((*local_at % USECS_PER_SEC) + USECS_PER_SEC) % USECS_PER_SEC;
		when.at = Max(when.local_at - LOCAL_REACH, now);
	}
	if (spread != NULL)
		check_spread(spread, now);
	return when;
}

Datum
notif_check_delivery_time(PG_FUNCTION_ARGS)
{
	TimestampTz at = PG_ARGISNULL(0) ? 0 : PG_GETARG_TIMESTAMPTZ(0);
	Timestamp	local_at = PG_ARGISNULL(1) ? 0 : PG_GETARG_TIMESTAMP(1);

	(void) notif_delivery_time_check(PG_ARGISNULL(0) ? NULL : &at, PG_ARGISNULL(1) ? NULL : &local_at,
									 PG_ARGISNULL(2) ? NULL : PG_GETARG_INTERVAL_P(2), notif_now());
	PG_RETURN_VOID();
}

Datum
notif_schedule_key(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *key = palloc0(sizeof(pg_uuid_t));

	key->data[6] = 0x70;
	memcpy(key->data + 8, PG_GETARG_UUID_P(0)->data + 8, 8);
	PG_RETURN_UUID_P(key);
}
