/*
 * test_core_quiet.c
 *		Quiet hours in zones made for the purpose; those of the world are
 *		test/t/058_quiet_zones.pl.
 */
#include "../../src/core/quiet.h"
#include "unit.h"

#define DAY		86400
#define MONDAY	(4 * DAY)		/* 1970-01-05 00:00 */

/* Offset 0, then before_s, from changed_s on after_s. */
typedef struct FakeZone
{
	int64_t		changed_s;
	int32_t		before_s;
	int32_t		after_s;
} FakeZone;

static void
fake_zone(void *zone, int64_t at_s, NotifZoneSpan *span)
{
	const FakeZone *fake = zone;

	span->offset_s = at_s < fake->changed_s ? fake->before_s : fake->after_s;
	span->until_s = at_s < fake->changed_s ? fake->changed_s : INT64_MAX;
}

static NotifQuietWeek
every_day(int start, int end)
{
	NotifQuietWeek week = {.dates = NULL};

	for (int i = 0; i < NOTIF_QUIET_DAYS; i++)
	{
		week.start[i] = (int16_t) start;
		week.end[i] = (int16_t) end;
	}
	return week;
}

static int64_t
until(const NotifQuietWeek *week, FakeZone zone, int64_t at_s)
{
	return notif_quiet_until(week, fake_zone, &zone, at_s);
}

static void
test_plain(void)
{
	FakeZone	utc = {0};
	FakeZone	east = {.before_s = 14 * 3600,.after_s = 14 * 3600};
	NotifQuietWeek night = every_day(22 * 60, 8 * 60);
	NotifQuietWeek none = every_day(NOTIF_QUIET_NONE, NOTIF_QUIET_NONE);
	NotifQuietWeek all = every_day(0, 1440);
	NotifQuietWeek weekend = none;

	CHECK_INT(until(&none, utc, MONDAY), MONDAY);
	CHECK_INT(until(&night, utc, MONDAY), MONDAY + 8 * 3600);
	CHECK_INT(until(&night, utc, MONDAY + 8 * 3600 - 1), MONDAY + 8 * 3600);
	CHECK_INT(until(&night, utc, MONDAY + 8 * 3600), MONDAY + 8 * 3600);
	/* what could arrive in it counts as in it */
	CHECK_INT(until(&night, utc, MONDAY + 22 * 3600 - 3), MONDAY + 22 * 3600 - 3);
	CHECK_INT(until(&night, utc, MONDAY + 22 * 3600 - 2), MONDAY + 32 * 3600);
	CHECK_INT(until(&night, east, MONDAY - 14 * 3600), MONDAY - 6 * 3600);
	/* before 1970 */
	CHECK_INT(until(&night, utc, -DAY), -DAY + 8 * 3600);
	/* windows that meet are one */
	weekend.start[5] = weekend.start[6] = 0;
	weekend.end[5] = weekend.end[6] = 1440;
	CHECK_INT(until(&weekend, utc, MONDAY + 5 * DAY + 3600), MONDAY + 7 * DAY);
	CHECK_INT(until(&weekend, utc, MONDAY + 7 * DAY), MONDAY + 7 * DAY);
	/* no end in sight: bounded */
	CHECK(until(&all, utc, MONDAY) >= MONDAY + NOTIF_QUIET_LIMIT * DAY);
	CHECK(until(&all, utc, MONDAY) <= MONDAY + (NOTIF_QUIET_LIMIT + 1) * DAY);
}

static void
test_dates(void)
{
	static const int32_t dates[] = {4, 5, 9};
	FakeZone	utc = {0};
	NotifQuietWeek week = every_day(0, 1440);

	week.dates = dates;
	week.n_dates = 3;
	CHECK_INT(until(&week, utc, MONDAY - 3), MONDAY - 3);
	CHECK_INT(until(&week, utc, MONDAY), MONDAY + 2 * DAY);
	CHECK_INT(until(&week, utc, MONDAY + 2 * DAY), MONDAY + 2 * DAY);
	CHECK_INT(until(&week, utc, 9 * DAY + 1), 10 * DAY);
	week.n_dates = 0;
	CHECK_INT(until(&week, utc, MONDAY), MONDAY);
}

/* The clock goes from 02:00 to 03:00, and back from 03:00 to 02:00. */
static void
test_changes(void)
{
	int64_t		at = MONDAY + 2 * 3600;
	FakeZone	forward = {.changed_s = at,.before_s = 0,.after_s = 3600};
	FakeZone	back = {.changed_s = at,.before_s = 3600,.after_s = 0};
	/* a day that is not at all, as where a date line moved */
	FakeZone	skip = {.changed_s = MONDAY + 10 * 3600,.before_s = -10 * 3600,.after_s = 14 * 3600};
	NotifQuietWeek week;

	week = every_day(60, 150);
	CHECK_INT(until(&week, forward, at - 1800), at);
	CHECK_INT(until(&week, forward, at), at);
	CHECK_INT(until(&week, back, at - 7200), at + 1800);
	week = every_day(150, 240);
	CHECK_INT(until(&week, forward, at - 3), at - 3);
	CHECK_INT(until(&week, forward, at), at + 3600);
	CHECK_INT(until(&week, back, at - 1800), at + 7200);
	/* all of it in the gap: nothing */
	week = every_day(130, 170);
	CHECK_INT(until(&week, forward, at), at);
	week = every_day(12 * 60, 13 * 60);
	CHECK_INT(until(&week, skip, MONDAY + 10 * 3600), MONDAY + 10 * 3600);
}

static int64_t
next(FakeZone zone, int minute, int weekday, int64_t at_s)
{
	return notif_next_local(fake_zone, &zone, minute, weekday, at_s);
}

static void
test_next(void)
{
	FakeZone	utc = {0};
	FakeZone	nepal = {.before_s = 20700,.after_s = 20700};
	/* at 02:00 of Monday's clock an hour is left out, or is had again */
	FakeZone	spring = {.changed_s = MONDAY + 2 * 3600,.after_s = 3600};
	FakeZone	autumn = {.changed_s = MONDAY + 2 * 3600,.after_s = -3600};
	/* a day left out: from Monday's midnight on it is Tuesday */
	FakeZone	leap = {.changed_s = MONDAY,.after_s = DAY};

	CHECK_INT(next(utc, 480, 0, MONDAY), MONDAY + 8 * 3600);
	CHECK_INT(next(utc, 480, 0, MONDAY + 8 * 3600 - 1), MONDAY + 8 * 3600);
	CHECK_INT(next(utc, 480, 0, MONDAY + 8 * 3600), MONDAY + 32 * 3600);
	CHECK_INT(next(utc, 480, 1, MONDAY + 8 * 3600), MONDAY + 7 * DAY + 8 * 3600);
	CHECK_INT(next(utc, 480, 7, MONDAY), MONDAY + 6 * DAY + 8 * 3600);
	CHECK_INT(next(utc, 0, 4, -1), 0);
	CHECK_INT(next(nepal, 480, 0, MONDAY), MONDAY + 8 * 3600 - 20700);
	CHECK_INT(next(spring, 150, 0, MONDAY), MONDAY + 2 * 3600);
	CHECK_INT(next(spring, 150, 0, MONDAY + 2 * 3600), MONDAY + DAY + 150 * 60 - 3600);
	CHECK_INT(next(autumn, 90, 0, MONDAY), MONDAY + 150 * 60);
	CHECK_INT(next(autumn, 90, 0, MONDAY + 150 * 60), MONDAY + DAY + 150 * 60);
	CHECK_INT(next(leap, 600, 1, MONDAY - 1), MONDAY);
	CHECK_INT(next(leap, 600, 2, MONDAY - 1), MONDAY + 10 * 3600);

	CHECK_INT(next(utc, NOTIF_FULL_HOUR, 0, MONDAY), MONDAY + 3600);
	CHECK_INT(next(utc, NOTIF_FULL_HOUR, 0, MONDAY + 3599), MONDAY + 3600);
	CHECK_INT(next(utc, NOTIF_FULL_HOUR, 0, -1), 0);
	CHECK_INT(next(nepal, NOTIF_FULL_HOUR, 0, MONDAY), MONDAY + 900);
	/* the clock goes on by another offset before its next full hour */
	CHECK_INT(next((FakeZone){.changed_s = MONDAY + 1800,.after_s = 900}, NOTIF_FULL_HOUR, 0, MONDAY), MONDAY + 2700);
}

static void
test_instant(void)
{
	FakeZone	spring = {.changed_s = MONDAY + 2 * 3600,.before_s = 0,.after_s = 3600};
	FakeZone	autumn = {.changed_s = MONDAY + 2 * 3600,.before_s = 3600,.after_s = 0};

	CHECK_INT(notif_local_instant(fake_zone, &spring, MONDAY + 3600, true), MONDAY + 3600);
	/* 02:00 to 03:00 is not: the first instant after it */
	CHECK_INT(notif_local_instant(fake_zone, &spring, MONDAY + 2 * 3600, true), MONDAY + 2 * 3600);
	CHECK_INT(notif_local_instant(fake_zone, &spring, MONDAY + 2 * 3600 + 1800, true), MONDAY + 2 * 3600);
	CHECK_INT(notif_local_instant(fake_zone, &spring, MONDAY + 3 * 3600, true), MONDAY + 2 * 3600);
	CHECK_INT(notif_local_instant(fake_zone, &spring, MONDAY + 4 * 3600, true), MONDAY + 3 * 3600);
	/* 02:00 to 03:00 is twice */
	CHECK_INT(notif_local_instant(fake_zone, &autumn, MONDAY + 2 * 3600 + 1800, false), MONDAY + 3600 + 1800);
	CHECK_INT(notif_local_instant(fake_zone, &autumn, MONDAY + 2 * 3600 + 1800, true), MONDAY + 2 * 3600 + 1800);
	CHECK_INT(notif_local_instant(fake_zone, &autumn, MONDAY + 3 * 3600, true), MONDAY + 3 * 3600);
}

int
main(void)
{
	test_plain();
	test_dates();
	test_changes();
	test_next();
	test_instant();
	return unit_done();
}
