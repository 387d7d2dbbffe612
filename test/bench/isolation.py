"""Latency in the critical tier beside a million bulk deliveries.

The open loop of openloop.py, twice, in one server.  1,000,000 bulk deliveries are
queued for a provider of their own, another sandbox, which is paused until the
last of them is routed.  Then they run, and the loop is measured beside them; then
that provider takes requests and answers none, and the loop is measured again.  Both
times the queue is looked at all the while: it must be long, and running or hanging
as it should.  SECONDS_P0, RATE, RECIPIENTS.
"""
import random

from benchlib import Cluster, Failed, Sandbox, figure, main, median, percentile, say, setting
from openloop import CONNECTIONS, PEOPLE, Publisher, Watch, measure, open_loop

WARM_UP = 50

BULK = """
    SELECT coalesce(sum(n) FILTER (WHERE state = 'open'), 0), coalesce(sum(n) FILTER (WHERE state = 'in_flight'), 0),
           coalesce(sum(n) FILTER (WHERE state NOT IN ('expanded', 'open', 'in_flight')), 0)
    FROM notif.state WHERE tier = 'bulk'
"""


def beside(cluster, sandbox, publishers, rate, count):
    """One loop; its latencies, and what was (waiting, in flight, ended) meanwhile."""
    watch = Watch(cluster.connect(), BULK, 0.5)
    sent, took = measure(cluster, sandbox, publishers, rate, count, watch)
    seen = [tuple(int(n) for n in row) for row in watch.samples]
    if len(seen) < count / rate:
        raise Failed("only %d looks at the queue" % len(seen))
    say("beside it %d to %d waited, %d to %d were in flight, %d ended" %
        (min(s[0] for s in seen), max(s[0] for s in seen), min(s[1] for s in seen), max(s[1] for s in seen),
         seen[-1][2] - seen[0][2]))
    if min(s[0] for s in seen) == 0:
        raise Failed("nothing was queued any more; more RECIPIENTS are needed")
    return sent, list(took.values()), seen


def bench():
    rate, seconds = setting("RATE", 50, 50), setting("SECONDS_P0", 20, 3)
    random.seed(7)
    cluster, sandbox, bulk_sandbox = Cluster("isolation"), Sandbox("isolation"), Sandbox("isolation-bulk")
    cluster.define(sandbox)
    cluster.define_provider("apns_bulk", bulk_sandbox, "bulk", app="news")
    cluster.limit()
    cluster.load(PEOPLE, 0)
    devices = cluster.load(setting("RECIPIENTS", 1000000, 120000), 0, topic="everybody", app="news")
    workers = cluster.workers()
    publishers = [Publisher(cluster.connect()) for _ in range(CONNECTIONS)]
    open_loop(publishers, rate, WARM_UP)
    cluster.wait_ended("critical", WARM_UP, 60)
    sandbox.get("/reset")

    cluster.pg.rows("SELECT notif.pause('provider', 'apns_bulk', why => 'bench')")
    event = cluster.publish_topic("everybody", 1)
    cluster.wait_counts("bulk", lambda c: c["open"] >= devices, 600, "%d queued" % devices)
    cluster.pg.rows("CHECKPOINT")
    cluster.pg.rows("SELECT notif.resume('provider', 'apns_bulk')")
    cluster.wait_counts("bulk", lambda c: c["ended"] > devices // 100, 60, "running")
    sent, running, seen = beside(cluster, sandbox, publishers, rate, rate * seconds)
    if any(b[2] == a[2] for a, b in zip(seen, seen[4:])):
        raise Failed("the bulk tier did not run all the time: %s" % seen)

    bulk_sandbox.get("/fault?hang=on")
    # hangs once nothing has ended between two looks
    before = [-1]

    def stuck(counts):
        before.append(counts["ended"])
        return counts["in_flight"] > 0 and before[-1] == before[-2]

    cluster.wait_counts("bulk", stuck, 60, "hanging")
    more, hanging, seen = beside(cluster, sandbox, publishers, rate, rate * seconds)
    if seen[-1][2] != seen[0][2] or min(s[1] for s in seen) == 0:
        raise Failed("the bulk provider did not hang all the time: %s" % seen)

    bulk_sandbox.get("/fault?clear")
    cluster.wait_ended("bulk", devices, 900)
    if cluster.workers() != workers:
        raise Failed("a worker was started anew")
    cluster.check_ledger([sandbox, bulk_sandbox], [event, *sent, *more])
    cluster.check_log()
    figure("p0_backlog_p50_ms", median(running), "ms")
    figure("p0_backlog_p99_ms", percentile(running, 0.99), "ms")
    figure("p0_hang_p50_ms", median(hanging), "ms")
    figure("p0_hang_p99_ms", percentile(hanging, 0.99), "ms")


main(bench)
