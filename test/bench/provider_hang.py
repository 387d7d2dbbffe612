"""A provider that takes requests and never answers, for a minute.

A topic is published and the sandbox withholds every answer; the whole time the
sessions of the workers are looked at: none may keep a transaction, an xid or a
snapshot.  A short transaction of its own (upkeep, a claim, a record) that a
sample happens to hit is not held: it is counted apart and must be gone soon.
Then the sandbox answers again and everything has to end well.
SECONDS_HANG, RECIPIENTS.
"""
import time

from benchlib import Cluster, Failed, Sandbox, figure, main, median, say, setting

SAMPLE_S = 0.05
HELD_MS = 500

SESSIONS = """
    SELECT pid, backend_type, coalesce(state, ''), coalesce(left(query, 60), ''), coalesce(xact_start::text, ''),
           coalesce(backend_xid::text, ''), coalesce(backend_xmin::text, ''),
           coalesce(extract(epoch FROM clock_timestamp() - xact_start) * 1000, 0)::integer
    FROM pg_stat_activity
    WHERE backend_type LIKE 'notif%' AND (xact_start IS NOT NULL OR backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)
"""


def bench():
    recipients, seconds = setting("RECIPIENTS", 20000, 2000), setting("SECONDS_HANG", 60, 10)
    cluster, sandbox = Cluster("provider_hang"), Sandbox("provider_hang")
    cluster.define(sandbox)
    devices = cluster.load(recipients, 20, topic="everybody")
    workers = cluster.workers()
    sessions = int(cluster.pg.one("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'notif%'"))
    if sessions < len(workers):
        raise Failed("only %d of the workers' sessions can be seen" % sessions)

    # A new connection has one stream until its first answer: have that before,
    # so that the hang meets a full wire.
    warm_up = cluster.pg.one("SELECT notif.publish('news', recipient => 'r1', data => '{\"edition\": 0, \"points\": 0}')")
    warm_ups = int(cluster.pg.one("SELECT count(*) FROM notif.endpoints WHERE recipient = 'r1'"))
    cluster.wait_ended("bulk", warm_ups, 60)
    sandbox.get("/fault?hang=on")
    event = cluster.pg.one("SELECT notif.publish('news', topic => 'everybody', data => '{\"edition\": 1, \"points\": 2}')")
    deadline = time.monotonic() + 60
    while cluster.counts("bulk")["in_flight"] == 0:
        if time.monotonic() > deadline:
            raise Failed("nothing is in flight after 60 s")
        cluster.rest(0.05)

    held, transient, samples, in_flight = set(), {}, 0, []
    seen = {}           # (pid, xid, xmin, start) of the sample before
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        samples += 1
        now, before, seen = time.monotonic(), seen, {}
        for pid, kind, state, query, start, xid, xmin, age in cluster.pg.rows(SESSIONS):
            mark = (pid, start, xid, "" if start else xmin)
            first = before.get(mark, now)
            seen[mark] = first
            if int(age) > HELD_MS or (now - first) * 1000 > HELD_MS:
                if mark not in held:
                    say("held by %s for %s ms: %s %s" % (kind, age, state, query))
                held.add(mark)
            else:
                transient[kind] = transient.get(kind, 0) + 1
        if samples % 10 == 1:
            in_flight.append(cluster.counts("bulk")["in_flight"])
        if sandbox.rest(SAMPLE_S):
            raise Failed("the sandbox has ended")
    share = sum(n > 0 for n in in_flight) / len(in_flight)
    say("%d samples in %d s; in flight median %d, max %d, more than none in %.0f %% of them; "
        "samples inside a short transaction: %s" %
        (samples, seconds, median(in_flight), max(in_flight), share * 100, transient or "none"))
    # Requests time out after 30 s, and then the provider's breaker keeps the wire empty.
    if share < 0.3:
        raise Failed("hardly anything was in flight: the hang was not tested")

    sandbox.get("/fault?hang=off")
    started = time.monotonic()
    cluster.wait_ended("bulk", devices + warm_ups, 300)
    say("everything ended %.1f s after the provider answered again" % (time.monotonic() - started))
    if cluster.workers() != workers:
        raise Failed("a worker was started anew")
    cluster.check_ledger(sandbox, [warm_up, event])
    cluster.check_log()
    figure("hang_snapshots_held", len(held), "count")
    if held:
        raise Failed("workers held transactions while the provider hung")


main(bench)
