"""What a delivery costs with five million waiting, against a hundred thousand.

The provider is paused while the queue grows.  The same steps are taken twice: ten
events for a topic of 10,000 are routed, then the provider is resumed and the
first 100,000 deliveries are sent.  The first time they are all there is; the
second time ten events for a topic of 500,000 are queued before them.  Compared is
the CPU of router and dispatcher per delivery; the rest of the backlog is not
sent.  Limits in four layers apply to everybody.  QUEUED (50 times as many in all),
EVENTS.
"""
import time

from benchlib import Cluster, Failed, Sandbox, cpu_s, figure, main, say, setting

TIMES = 50


class Backlog:
    def __init__(self, measured, events):
        self.measured, self.events = measured, events
        self.cluster, self.sandbox = Cluster("backlog"), Sandbox("backlog")
        self.cluster.define(self.sandbox)
        self.cluster.limit()
        self.cluster.load(measured // events * TIMES, 0, topic="large")
        self.cluster.subscribe("small", "SELECT id FROM notif_private.recipient ORDER BY random() LIMIT %d" %
                               (measured // events))
        workers = self.cluster.workers()
        self.router, self.dispatcher = workers["router", "bulk"], workers["dispatcher", "bulk"]
        self.published = 0

    def counts(self):
        return self.cluster.counts("bulk")

    def queue(self, topic, deliveries):
        """Publishes to a topic and waits until all is queued; router us per attempt."""
        before, used, started = self.counts(), cpu_s(self.router), time.monotonic()
        for _ in range(self.events):
            self.published += 1
            self.cluster.publish_topic(topic, self.published)
        after = self.cluster.wait_counts("bulk", lambda c: c["expanded"] - before["expanded"] >= deliveries,
                                         120 + deliveries / 2000, "%d queued" % deliveries)
        us = (cpu_s(self.router) - used) * 1e6 / deliveries
        say("%d queued in %.1f s, router %.1f us each; %d wait" % (deliveries, time.monotonic() - started, us, after["open"]))
        if after["open"] - before["open"] != deliveries or after["ended"] != before["ended"]:
            raise Failed("something was sent in spite of the pause, or %d were not queued: %s" % (deliveries, after))
        return us

    def send(self):
        """Resumes until as many as are measured have ended; dispatcher us each."""
        before, used, started = self.counts(), cpu_s(self.dispatcher), time.monotonic()
        self.cluster.pg.rows("SELECT notif.resume('provider', 'apns_main')")
        self.cluster.wait_counts("bulk", lambda c: c["ended"] - before["ended"] >= self.measured, 120 + self.measured / 500,
                                 "%d ended" % self.measured)
        after, used = self.counts(), cpu_s(self.dispatcher) - used
        took = time.monotonic() - started
        self.cluster.pg.rows("SELECT notif.pause('provider', 'apns_main', why => 'bench')")
        ended = after["ended"] - before["ended"]
        us = used * 1e6 / ended
        say("%d ended in %.1f s = %.0f/s, dispatcher %.1f us each; %d wait" % (ended, took, ended / took, us, after["open"]))
        self.cluster.wait_counts("bulk", lambda c: c["in_flight"] == 0, 60, "the wire is empty")
        return us

    def check(self, ended):
        """Everything that ended is in the ledger once, and a recount agrees."""
        lines = {line.split("\t", 4)[3] for line in self.ledger()}
        accepted = self.counts()["accepted"]
        say("%d accepted, %d of them different in the ledger" % (accepted, len(lines)))
        if accepted < ended or accepted != len(lines) or accepted != len(self.ledger()):
            raise Failed("%d accepted, %d lines" % (accepted, len(self.ledger())))
        self.cluster.check_audit()

    def ledger(self):
        self.sandbox.get("/ledger/count")
        with open(self.sandbox.ledger) as ledger:
            return ledger.readlines()


def bench():
    measured, events = setting("QUEUED", 100000, 10000), setting("EVENTS", 10, 10)
    backlog = Backlog(measured, events)
    pg = backlog.cluster.pg
    pg.rows("SELECT notif.pause('provider', 'apns_main', why => 'bench')")
    routed, sent = {}, {}
    routed["small"] = backlog.queue("small", measured)
    sent["small"] = backlog.send()
    backlog.cluster.wait_counts("bulk", lambda c: c["ended"] + c["open"] == measured, 60, "settled")
    if backlog.counts()["open"]:
        raise Failed("%d of the first were left: %s" % (measured, backlog.counts()))

    backlog.queue("large", measured * TIMES)
    routed["large"] = backlog.queue("small", measured)
    waiting = int(pg.one("SELECT count(*) FROM notif_private.outbox_bulk WHERE event IN "
                         "(SELECT id FROM notif_private.event ORDER BY id DESC LIMIT %d)" % (2 * events), timeout_s=1200))
    if waiting != measured * (TIMES + 1):
        raise Failed("%d attempts are in the queue" % waiting)
    pg.rows("CHECKPOINT")
    sent["large"] = backlog.send()
    if backlog.counts()["open"] < measured * (TIMES - 1):
        raise Failed("the backlog was gone before the measurement ended: %s" % backlog.counts())
    backlog.check(2 * measured)
    backlog.cluster.check_log()
    figure("backlog_cost_ratio", (routed["large"] + sent["large"]) / (routed["small"] + sent["small"]), "ratio")
    for size in ("small", "large"):
        figure("backlog_router_us_" + size, routed[size], "us")
        figure("backlog_dispatcher_us_" + size, sent[size], "us")


main(bench)
