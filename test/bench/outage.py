"""A provider that fails for a day while messages for it go on being published.

The day passes on the shifted clock: hour by hour the messages of that hour are
published (5,000 a minute, by one event a minute to as many people), the clock
moves on, and the breaker probes when its time comes.  Every second hour's
messages expire after an hour.  Then the provider works again and the backlog is
drained.  HOURS, PER_MINUTE.
"""
import json
import time

from benchlib import Cluster, Failed, Sandbox, figure, main, say, setting

PEOPLE = 5000


def bench():
    hours, per_minute = setting("HOURS", 24, 4), setting("PER_MINUTE", 5000, 200)
    per_hour = 60 * per_minute
    cluster, sandbox = Cluster("outage"), Sandbox("outage")
    cluster.define(sandbox)
    pg = cluster.pg
    pg.rows("""
        SELECT notif.define_type('long', 'bench', title => 'News', body => 'of {notif.event}', channels => '{push}', ttl => '7 days');
        SELECT notif.define_type('brief', 'bench', title => 'News', body => 'of {notif.event}', channels => '{push}', ttl => '1 hour')
        """)
    cluster.load(max(PEOPLE, per_minute), 0)
    cluster.workers()

    def shift(seconds):
        pg.rows("SELECT notif_private.shift_clock(%d)" % (seconds * 1000000))

    def state(name):
        return cluster.counts("standard")[name]

    def until(sql, seconds, what):
        deadline = time.monotonic() + seconds
        while pg.one(sql) != "t":
            if time.monotonic() > deadline:
                raise Failed("%s: not within %d s" % (what, seconds))
            cluster.rest(0.1)

    quiet = "SELECT coalesce(sum(n), 0) = 0 FROM notif.state WHERE state = 'in_flight'"

    def publish(kind, events, people):
        pg.rows("""SELECT count(notif.publish('%s', recipients =>
                    (SELECT array_agg('r' || n) FROM generate_series(1, %d) n), data => '{}'))
                   FROM generate_series(1, %d)""" % (kind, people, events), 600)

    def probes():
        return int(pg.one("""SELECT count(*) FROM notif.breaker_log WHERE "to" = 'half_open'"""))

    # ---- it fails --------------------------------------------------------------

    publish("long", 1, 20)
    cluster.wait_ended("standard", 20, 60)
    sandbox.get("/fault?status=503,reason=ServiceUnavailable,count=all")
    publish("long", 1, 100)
    until("SELECT bool_or(state = 'open') FROM notif.breakers", 60, "the breaker opens")
    until(quiet, 60, "answers")
    rows, received = int(pg.one("SELECT count(*) FROM notif_private.outcome")), stats(sandbox)["received"]
    before, wal = probes(), cluster.lsn("pg_current_wal_insert_lsn")
    started = time.monotonic()
    for hour in range(hours):
        publish("brief" if hour % 2 else "long", 60, per_minute)
        # an hour that passes while a probe is in the air would make it a lost one
        until(quiet, 60, "answers")
        shift(3600)
    shift(3601)
    wanted = 120 + per_hour * hours
    until("SELECT n >= %d FROM notif.state WHERE tier = 'standard' AND state = 'expanded'" % wanted, 1800, "the router")
    until(quiet, 60, "answers")
    took = time.monotonic() - started
    say("%d deliveries published and routed in %.0f s, %.0f a second" % (wanted, took, wanted / took))

    # the requests before the probes: there may be another one between the two
    received = stats(sandbox)["received"] - received
    n = probes() - before
    rows = int(pg.one("SELECT count(*) FROM notif_private.outcome WHERE state <> 'expired'")) - rows
    say("%d probes, %d requests, %d rows of outcomes, %.1f GB of log" %
        (n, received, rows, (cluster.lsn("pg_current_wal_insert_lsn") - wal) / 2**30))
    # By the hour the clock jumps over some that would come in between.
    if n < hours * 0.5 or n > hours * 1.2 + 6:
        raise Failed("%d probes in %d hours" % (n, hours))
    if received > 10 * n:
        raise Failed("more than ten requests a probe")

    # ---- it works again --------------------------------------------------------

    sandbox.get("/fault?clear")
    shift(3961)
    until("SELECT bool_or(state IN ('recovering', 'closed')) FROM notif.breakers", 60, "recovery")
    sent = stats(sandbox)["accepted"]
    started = time.monotonic()
    shift(61)
    cluster.wait_ended("standard", wanted, 3600)
    took = time.monotonic() - started
    sent = stats(sandbox)["accepted"] - sent
    if stats(sandbox)["duplicates"]:
        raise Failed("something arrived twice")
    long = 120 + per_hour * ((hours + 1) // 2)
    if stats(sandbox)["accepted"] != long or state("accepted") != long or state("expired") != wanted - long:
        raise Failed("%d arrived, %d were wanted: %s" % (stats(sandbox)["accepted"], long, cluster.counts("standard")))
    if int(pg.one("SELECT count(*) FROM notif.audit() WHERE NOT agrees", 1800)):
        raise Failed("a recount does not agree")
    say("%d sent and %d expired in %.0f s" % (sent, wanted - long, took))
    cluster.check_log()
    figure("outage_rows_per_probe", rows / n, "rows")
    figure("outage_requests", received, "requests")
    figure("outage_drain_dps", sent / took, "1/s")


def stats(sandbox):
    return json.loads(sandbox.get("/stats"))


main(bench)
