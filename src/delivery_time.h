/*
 * delivery_time.h
 *		When a publish wants to be delivered.
 */
#ifndef NOTIF_DELIVERY_TIME_H
#define NOTIF_DELIVERY_TIME_H

#include "postgres.h"

#include "utils/timestamp.h"

typedef struct NotifDeliveryTime
{
	bool		later;			/* not now: the event is filed until then */
	bool		local;			/* at local_at of each person's own clock, else at `at` */
	TimestampTz at;				/* the earliest it can be; now if that has passed */
	Timestamp	local_at;
	Interval   *spread;			/* NULL: all at once */
} NotifDeliveryTime;

/*
 * Judges what was asked for, NULL where nothing was, as of now.  Raises 22023 for
 * what cannot be: both times, infinity, more than five years ahead, a spread that is
 * not between nothing and a day.
 */
extern NotifDeliveryTime notif_delivery_time_check(const TimestampTz *at, const Timestamp *local_at,
												   Interval *spread, TimestampTz now);

#endif							/* NOTIF_DELIVERY_TIME_H */
