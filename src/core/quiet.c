/*
 * quiet.c
 *		When quiet hours are over, and other times on the clock on the wall.
 *
 * Windows are what a person reads off the clock on the wall.  Each is turned into
 * an interval of real time for the days around the moment in question, by walking
 * the zone's spans of constant offset: a local time is read in every span; the
 * readings that fall into their own span are real.  None is real in a gap, two are
 * where the clock is set back.
 */
#include "quiet.h"

#include <stddef.h>

#define DAY_S	86400
/* No zone is further from Greenwich, and no two clocks are further apart. */
#define REACH_S	(2 * DAY_S)

static int64_t
floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

int64_t
notif_local_instant(NotifZoneFn zone, void *zone_arg, int64_t local_s, bool last)
{
	int64_t		from = local_s - REACH_S;
	int64_t		after_gap = local_s;
	int64_t		found = 0;
	bool		any = false;
	bool		ahead = false;	/* the clock had not come to local_s before from */

	while (from <= local_s + REACH_S)
	{
		NotifZoneSpan span;
		int64_t		at;

		zone(zone_arg, from, &span);
		at = local_s - span.offset_s;
		if (at >= from && at < span.until_s)
		{
			if (!any || last)
				found = at;
			any = true;
		}
		/* it was behind before, and is beyond as this span begins */
		if (!any && ahead && at < from)
		{
			after_gap = from;
			ahead = false;
		}
		else
			ahead = at >= span.until_s;
		if (span.until_s == INT64_MAX)
			break;
		from = span.until_s;
	}
	return any ? found : after_gap;
}

static bool
quiet_on(const NotifQuietWeek *week, int64_t day)
{
	int			low = 0;
	int			high = week->n_dates;

	if (week->dates == NULL)
		return true;
	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (week->dates[middle] < day)
			low = middle + 1;
		else
			high = middle;
	}
	return low < week->n_dates && week->dates[low] == day;
}

int64_t
notif_quiet_until(const NotifQuietWeek *week, NotifZoneFn zone, void *zone_arg, int64_t at_s)
{
	NotifZoneSpan span;
	int64_t		until = at_s;
	int64_t		today;

	zone(zone_arg, at_s, &span);
	today = floor_div(at_s + span.offset_s, DAY_S);
	/* in the order of their beginnings: each may go on where the one before ends */
	for (int64_t day = today - 2; day <= today + NOTIF_QUIET_LIMIT; day++)
	{
		/* 1970-01-01 was a Thursday */
		int			weekday = (int) (((day + 3) % 7 + 7) % 7);
		int64_t		start;
		int64_t		end;

		if (week->start[weekday] == NOTIF_QUIET_NONE || !quiet_on(week, day))
			continue;
		/* far from its beginning in any zone */
		if (day * DAY_S + week->start[weekday] * 60 - REACH_S > until)
			break;
		start = day * DAY_S + week->start[weekday] * 60;
		end = day * DAY_S + week->end[weekday] * 60 + (week->end[weekday] <= week->start[weekday] ? DAY_S : 0);
		start = notif_local_instant(zone, zone_arg, start, false);
		end = notif_local_instant(zone, zone_arg, end, true);
		if (start <= until + NOTIF_QUIET_AHEAD_S && end > until)
			until = end;
	}
	return until;
}

static int64_t
next_full_hour(NotifZoneFn zone, void *zone_arg, int64_t at_s)
{
	int64_t		from = at_s + 1;

	for (;;)
	{
		NotifZoneSpan span;
		int64_t		next;

		zone(zone_arg, from, &span);
		next = -floor_div(-(from + span.offset_s), 3600) * 3600 - span.offset_s;
		/* else the clock is changed before: read on by what it shows then */
		if (next < span.until_s)
			return next;
		from = span.until_s;
	}
}

int64_t
notif_next_local(NotifZoneFn zone, void *zone_arg, int minute, int weekday, int64_t at_s)
{
	NotifZoneSpan span;
	int64_t		today;

	if (minute == NOTIF_FULL_HOUR)
		return next_full_hour(zone, zone_arg, at_s);
	zone(zone_arg, at_s, &span);
	today = floor_div(at_s + span.offset_s, DAY_S);
	/* a week, and the days that a zone may leave out or have twice */
	for (int64_t day = today - 1; day <= today + 9; day++)
	{
		/* 1970-01-01 was a Thursday */
		int			its = (int) (((day + 3) % 7 + 7) % 7) + 1;
		int64_t		at;

		if (weekday != 0 && its != weekday)
			continue;
		at = notif_local_instant(zone, zone_arg, day * DAY_S + minute * 60, true);
		if (at > at_s)
			return at;
	}
	return at_s + 7 * DAY_S;
}
