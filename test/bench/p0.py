"""Latency of a single publish in the critical tier: alone, and beside a broadcast.

The open loop of openloop.py, twice.  First nothing else runs.  Then a topic of
the bulk tier is published again whenever less than one and a half broadcasts are
left, so that router and dispatcher of that tier work for the whole loop: it is
sampled, and a loop during which they had nothing to do is no result.  Both tiers
use the same provider account and sandbox.  The disk's fdatasync time is taken on the server's own file system,
before and after the first loop.  SECONDS_P0, RATE, RECIPIENTS.
"""
import random

from benchlib import Cluster, Failed, Sandbox, figure, main, median, percentile, say, setting
from openloop import CONNECTIONS, PEOPLE, Publisher, Watch, fdatasync_ms, measure, open_loop

WARM_UP = 50

# What is left and what has ended; publishes again when little is left.
BULK = """
    SELECT s.open, s.ended, CASE WHEN (SELECT count(*) FROM notif_private.event WHERE topic_id IS NOT NULL) * %(n)d
                                      < s.ended + %(n)d * 1.5
        THEN notif.publish('news', topic => 'everybody', data => '{"edition": 1, "points": 1000}') END
    FROM (SELECT coalesce(sum(n) FILTER (WHERE state IN ('open', 'in_flight')), 0) AS open,
                 coalesce(sum(n) FILTER (WHERE state NOT IN ('expanded', 'open', 'in_flight')), 0) AS ended
          FROM notif.state WHERE tier = 'bulk') s
"""


def split(cluster, sandbox, sent, took):
    """Says where the time goes, as far as the ring of flights still knows: a
    claim writes its row, then flushes its commit, then sends."""
    claimed = dict(cluster.pg.rows("SELECT a.event, extract(epoch FROM f.at) FROM notif_private.flight_critical f, "
                                   "unnest(f.attempts) a WHERE NOT f.closed"))
    until_claim = [float(claimed[event]) * 1000 - at * 1000 for event, at in sent.items() if event in claimed]
    until_receipt = [took[event] - (float(claimed[event]) - at) * 1000 for event, at in sent.items() if event in claimed]
    if until_claim:
        say("of these %d: to the claim's row p50 %.2f, p99 %.2f ms; from there to the receipt p50 %.2f, p99 %.2f ms" %
            (len(until_claim), median(until_claim), percentile(until_claim, 0.99), median(until_receipt),
             percentile(until_receipt, 0.99)))


def alone(cluster, sandbox, publishers, rate, count):
    syncs = fdatasync_ms(100)
    sent, took = measure(cluster, sandbox, publishers, rate, count)
    syncs += fdatasync_ms(100)
    split(cluster, sandbox, sent, took)
    cluster.check_ledger(sandbox, sent)
    return took.values(), median(syncs)


def under_bulk(cluster, sandbox, publishers, rate, count):
    devices = cluster.load(setting("RECIPIENTS", 200000, 20000), 20, topic="everybody")
    # One broadcast before it counts, and a checkpoint, which keeps its segments of the log for what comes: a
    # server that has run for a while recycles them, a new one makes each (15 ms) while every commit waits.
    cluster.publish_topic("everybody", 0)
    cluster.wait_ended("bulk", devices, 120)
    cluster.pg.rows("CHECKPOINT")
    sandbox.get("/reset")
    events = [cluster.publish_topic("everybody", 1)]
    # under way, and not in its first steps
    cluster.wait_counts("bulk", lambda c: c["ended"] >= devices + devices // 20, 120, "under way")
    watch = Watch(cluster.connect(), BULK % {"n": devices}, 0.5)
    sent, took = measure(cluster, sandbox, publishers, rate, count, watch)
    left, ended = [int(row[0]) for row in watch.samples], [int(row[1]) for row in watch.samples]
    events += [row[2] for row in watch.samples if row[2]]
    say("beside it %d bulk deliveries ended, %d or more were waiting at any time" % (ended[-1] - ended[0], min(left)))
    if len(left) < count / rate or min(left) == 0 or any(b == a for a, b in zip(ended, ended[4:])):
        raise Failed("the broadcast did not run all the time: left %s, ended %s" % (left, ended))
    cluster.wait_ended("bulk", (1 + len(events)) * devices, 600)
    cluster.check_ledger(sandbox, events + list(sent))
    return took.values()


def bench():
    rate, seconds = setting("RATE", 50, 50), setting("SECONDS_P0", 20, 4)
    random.seed(7)
    cluster, sandbox = Cluster("p0"), Sandbox("p0")
    cluster.define(sandbox)
    cluster.load(PEOPLE, 0)
    cluster.workers()
    publishers = [Publisher(cluster.connect()) for _ in range(CONNECTIONS)]

    # Every session has loaded what it needs, and the connection is up.
    open_loop(publishers, rate, WARM_UP)
    cluster.wait_ended("critical", WARM_UP, 60)
    cluster.pg.rows("CHECKPOINT")
    sandbox.get("/reset")
    idle, sync = alone(cluster, sandbox, publishers, rate, rate * seconds)
    busy = under_bulk(cluster, sandbox, publishers, rate, rate * seconds)
    cluster.check_log()
    figure("p0_latency_p50_ms", median(idle), "ms")
    figure("p0_latency_p99_ms", percentile(idle, 0.99), "ms")
    figure("fdatasync_ms", sync, "ms")
    figure("p0_under_bulk_p50_ms", median(busy), "ms")
    figure("p0_under_bulk_p99_ms", percentile(busy, 0.99), "ms")


main(bench)
