"""Local times of digests by Python's zoneinfo, compared with the server's.

usage: digest_zones.py ZONE...    writes cases as tab-separated lines:
           minute or \\N (full hour), weekday or \\N, zone, time in UNIX seconds, expected

The reading is written anew here, by looking at every second of the clock's minutes: an
instant belongs to a day's minute if the clock shows it; of two the later counts, of none
the first instant at which the clock shows something later on that day or beyond it.
"""
import random
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

MINUTES = [0, 30, 59, 60, 90, 120, 150, 179, 180, 480, 1110, 1439]
EPOCH = datetime(1970, 1, 1)


def shown(zone, utc_s):
    """What the zone's clock shows, in seconds since 1970 there."""
    local = datetime.fromtimestamp(utc_s, timezone.utc).astimezone(zone).replace(tzinfo=None)
    return int((local - EPOCH).total_seconds())


def instant(zone, naive):
    """The last instant at which the clock shows it, or the first beyond it."""
    last = beyond = None
    # every offset of the world is whole seconds below a day; clocks move at whole minutes
    low, high = naive - 86400, naive + 86400
    offsets = {shown(zone, t) - t for t in range(low, high + 1, 900)}
    for offset in offsets:
        at = naive - offset
        if shown(zone, at) == naive and (last is None or at > last):
            last = at
    if last is not None:
        return last
    # in a gap: the first instant after it
    while low < high:
        middle = (low + high) // 2
        if shown(zone, middle) > naive:
            high = middle
        else:
            low = middle + 1
    return low


def next_local(zone, minute, weekday, after, cache):
    if minute is None:
        # no zone's full hours are further apart than two hours
        for at in range(after - after % 60 + 60, after + 3 * 3600, 60):
            if shown(zone, at) % 3600 == 0:
                return at
    today = shown(zone, after) // 86400
    for day in range(today - 1, today + 10):
        if weekday is not None and (day + 3) % 7 + 1 != weekday:
            continue
        key = (day, minute)
        if key not in cache:
            cache[key] = instant(zone, day * 86400 + minute * 60)
        if cache[key] > after:
            return cache[key]
    raise ValueError("none")


def changes(zone):
    at = int(datetime(2024, 1, 1, tzinfo=timezone.utc).timestamp())
    for _ in range(4 * 366):
        if shown(zone, at) - at != shown(zone, at + 86400) - at - 86400:
            yield at
        at += 86400


def main():
    dice = random.Random(17)
    for name in sys.argv[1:]:
        zone = ZoneInfo(name)
        cache = {}
        start = int(datetime(2024, 1, 1, tzinfo=timezone.utc).timestamp())
        times = [start + dice.randrange(4 * 365 * 86400) for _ in range(40)]
        for change in changes(zone):
            times += [change + dice.randrange(-86400, 3 * 86400) for _ in range(12)]
        for after in times:
            for minute, weekday in [(dice.choice(MINUTES), None), (dice.choice(MINUTES), dice.randrange(1, 8)), (None, None)]:
                at = next_local(zone, minute, weekday, after, cache)
                print(*("\\N" if x is None else x for x in (minute, weekday, name, after, at)), sep="\t")


main()
