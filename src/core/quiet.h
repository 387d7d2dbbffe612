/*
 * quiet.h
 *		Quiet hours: windows of local wall-clock time, and when they are over.
 */
#ifndef NOTIF_CORE_QUIET_H
#define NOTIF_CORE_QUIET_H

#include <stdbool.h>
#include <stdint.h>

#define NOTIF_QUIET_DAYS 7
#define NOTIF_QUIET_NONE (-1)

/*
 * What passes the gates now may reach the wire so much later: a second behind
 * another message of its endpoint, and one more in the queue for a stream.
 */
#define NOTIF_QUIET_AHEAD_S 2

/* A stretch of time in which a zone's offset does not change. */
typedef struct NotifZoneSpan
{
	int64_t		until_s;		/* UNIX seconds, exclusive; INT64_MAX: for good */
	int32_t		offset_s;		/* east of Greenwich */
} NotifZoneSpan;

/* The span that holds at_s; how a zone is read. */
typedef void (*NotifZoneFn) (void *zone, int64_t at_s, NotifZoneSpan *span);

/*
 * The first instant after at_s at which the zone's clock shows that minute of the
 * day (0 to 1439) on that weekday (1: Monday; 0: any), read as the end of quiet
 * hours is; minute NOTIF_FULL_HOUR: the next full hour of that clock.
 */
#define NOTIF_FULL_HOUR (-1)
extern int64_t notif_next_local(NotifZoneFn zone, void *zone_arg, int minute, int weekday, int64_t at_s);

/*
 * A window for each weekday on which it begins, Monday first; in minutes of local
 * time.  end is on the next day unless it is larger than start; at most 1440.
 */
typedef struct NotifQuietWeek
{
	int16_t		start[NOTIF_QUIET_DAYS];	/* NOTIF_QUIET_NONE: no window */
	int16_t		end[NOTIF_QUIET_DAYS];
	const int32_t *dates;		/* NULL, or only windows that begin on these
								 * days (since 1970-01-01), ascending */
	int			n_dates;
} NotifQuietWeek;

/*
 * When the quiet is over that anything let go at at_s could fall into; at_s itself
 * if there is none.  Windows that meet are one.  An edge that does not exist on its
 * day is the first instant after the gap; of one that exists twice, a window begins
 * at the first and ends at the second.  Looks ahead NOTIF_QUIET_LIMIT days: a later
 * end is given as at_s and that many days, or a little more.
 */
#define NOTIF_QUIET_LIMIT	15

/*
 * The instant at which the zone's clock shows local_s, in seconds since 1970-01-01
 * 00:00 there: of two the last one if `last`, else the first; in a gap the first
 * instant after it.
 */
extern int64_t notif_local_instant(NotifZoneFn zone, void *zone_arg, int64_t local_s, bool last);

extern int64_t notif_quiet_until(const NotifQuietWeek *week, NotifZoneFn zone, void *zone_arg, int64_t at_s);

#endif							/* NOTIF_CORE_QUIET_H */
