"""Quiet hours and local times by Python's zoneinfo, compared with the server's.

usage: quiet_zones.py cases SHARE ZONES    writes cases as tab-separated lines:
           zone, windows (an array literal), time in UNIX seconds, expected end or \\N
       quiet_zones.py instants SHARE ZONES  likewise: zone, local time, UNIX seconds
       at which its clock shows it
       ZONES is a file with the server's zone names; SHARE the share of all cases
       in permille, chosen by a hash, so that it is the same at every run.

The reading of a window is written anew here, from the rule alone: an edge that does
not exist is the first instant after the gap, of one that exists twice a window begins
at the first and ends at the second; what could arrive within two seconds counts.
"""
import sys
import zlib
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

AHEAD = 2
EPOCH = datetime(1970, 1, 1)
# A night, a short window at the hours where clocks change, one over midnight, a day's
# middle, all of one day; those of all days and of some.
WINDOWS = [(22 * 60, 8 * 60), (60, 150), (150, 180), (130, 170), (23 * 60 + 30, 30), (0, 1440), (0, 60), (9 * 60, 17 * 60)]
DAYS = [range(7), (5, 6), (6,)]


def offset(zone, utc_s):
    return int(datetime.fromtimestamp(utc_s, timezone.utc).astimezone(zone).utcoffset().total_seconds())


def instant(zone, local, last):
    """UNIX seconds at which the zone's clock shows the naive local time."""
    naive = int((local - EPOCH).total_seconds())
    first, second = (naive - int(local.replace(tzinfo=zone, fold=f).utcoffset().total_seconds()) for f in (0, 1))
    if first <= second:
        return second if last else first
    # a gap: fold 0 reads by the offset before it, which is beyond it, fold 1 the other way
    low, high, before = second, first, offset(zone, second)
    while high - low > 1:
        middle = (low + high) // 2
        if offset(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


def expected(zone, window, days, at, cache):
    until = at
    today = (EPOCH + timedelta(seconds=at + offset(zone, at))).date()
    start_min, end_min = window
    for n in range(-2, 4):
        day = today + timedelta(days=n)
        if day.weekday() not in days:
            continue
        if day not in cache:
            midnight = datetime(day.year, day.month, day.day)
            end = end_min if end_min > start_min else end_min + 1440
            cache[day] = (instant(zone, midnight + timedelta(minutes=start_min), False),
                          instant(zone, midnight + timedelta(minutes=end), True))
        start, end = cache[day]
        if start <= until + AHEAD and until < end:
            until = end
    return until


def changes(zone):
    """Instants at which the offset changes, 2020 to 2037."""
    at = int(datetime(2020, 1, 1, tzinfo=timezone.utc).timestamp())
    end = int(datetime(2038, 1, 1, tzinfo=timezone.utc).timestamp())
    found, here = [], offset(zone, at)
    while at < end:
        there = offset(zone, at + 86400)
        if there != here:
            low, high = at, at + 86400
            while high - low > 1:
                middle = (low + high) // 2
                if offset(zone, middle) == here:
                    low = middle
                else:
                    high = middle
            found.append(high)
            here = there
        at += 86400
    return found


def cases(share, names):
    for name in names:
        try:
            zone = ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            print(f"no zone {name} here", file=sys.stderr)
            continue
        picked = zlib.crc32(name.encode())
        moments = changes(zone)
        # some ordinary days, too
        moments += [1577836800 + (picked * k * 7919) % 567993600 for k in range(1, 4)]
        for moment in moments:
            for w, window in enumerate(WINDOWS):
                for d, days in enumerate(DAYS):
                    if (window == (0, 1440)) and d == 0:
                        continue
                    # at least one of each zone
                    if zlib.crc32(f"{name} {moment} {w} {d}".encode()) % 1000 >= share and (moment, w, d) != (moments[0], 1, 0):
                        continue
                    cache, times = {}, set()
                    for day in (-1, 0, 1):
                        expected(zone, window, days, moment + day * 86400, cache)
                    # about the change, and about each edge
                    for edge in [moment] + [e for pair in cache.values() for e in pair if abs(e - moment) < 200000]:
                        times |= {edge - 3600, edge - 3, edge - 2, edge - 1, edge, edge + 1, edge + 1800}
                    array = [m for wd in range(7) for m in (window if wd in days else (-1, -1))]
                    for at in sorted(times):
                        until = expected(zone, window, days, at, cache)
                        print(name, "{" + ",".join(map(str, array)) + "}", at, until if until != at else "\\N", sep="\t")


def instants(share, names):
    """Local times about every change of a clock, and some others."""
    for name in names:
        try:
            zone = ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            print(f"no zone {name} here", file=sys.stderr)
            continue
        picked = zlib.crc32(name.encode())
        locals_ = {EPOCH + timedelta(seconds=1577836800 + (picked * k * 7919) % 567993600) for k in range(1, 4)}
        moments = changes(zone)
        for moment in moments:
            # always the last one: the rule that is in force
            if zlib.crc32(f"{name} {moment}".encode()) % 1000 >= share * 10 and moment != moments[-1]:
                continue
            for side in (moment - 1, moment):
                edge = EPOCH + timedelta(seconds=moment + offset(zone, side))
                locals_ |= {edge + timedelta(seconds=s) for s in (-7200, -3600, -1800, -1, 0, 1, 900, 1800, 3599, 3600, 7200)}
        for local in sorted(locals_):
            print(name, local.isoformat(), instant(zone, local, True), sep="\t")


if __name__ == "__main__":
    with open(sys.argv[3], encoding="ascii") as names:
        {"cases": cases, "instants": instants}[sys.argv[1]](int(sys.argv[2]), names.read().split())
