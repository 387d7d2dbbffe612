"""Latency of a single publish in the critical tier on an otherwise idle machine.

Open loop: RATE publishes a second at random times (a Poisson process), whether
or not earlier ones are done.  A publish is BEGIN, notif.publish, COMMIT; the
clock starts before COMMIT is issued and stops at the time that the sandbox's
ledger has for the request.  Both are CLOCK_REALTIME of one machine.  The
disk's fdatasync time is taken on the server's own file system, before and
after.  SECONDS_P0, RATE.
"""
import gc
import os
import random
import select
import time

from benchlib import TMP, Cluster, Failed, Sandbox, figure, main, median, percentile, say, setting

CONNECTIONS = 16
PEOPLE = 1000
WARM_UP = 50
# More than this behind its time, and the loop was not open.
LATE_MS = 20


def fdatasync_ms(rounds):
    """Times of 8 kB written and synced, into a file that has its size already."""
    times = []
    path = os.path.join(TMP, "fdatasync")
    block, size = os.urandom(8192), 4 * 1024 * 1024
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, bytes(size))
    os.fsync(fd)
    for turn in range(rounds):
        os.lseek(fd, turn * len(block) % size, os.SEEK_SET)
        started = time.monotonic()
        os.write(fd, block)
        os.fdatasync(fd)
        times.append((time.monotonic() - started) * 1000)
    os.close(fd)
    os.unlink(path)
    return times


class Publisher:
    """A session: idle, or in the publish, or in its COMMIT."""

    def __init__(self, pg):
        self.pg, self.step, self.event, self.committed = pg, "idle", None, 0.0

    def publish(self, number):
        self.step = "publish"
        self.pg.send("BEGIN; SELECT notif.publish('code', recipient => 'r%d', data => '{\"code\": \"%06d\"}')" %
                     (random.randrange(PEOPLE) + 1, number))

    def go_on(self, sent, commits):
        """After an answer; sent gets {event: time before COMMIT}."""
        if not self.pg.ready():
            return
        rows = self.pg.take()
        if self.step == "publish":
            self.step, self.event = "commit", rows[0][0]
            self.committed = time.time()
            self.pg.send("COMMIT")
        else:
            commits.append((time.time() - self.committed) * 1000)
            sent[self.event] = self.committed
            self.step = "idle"


def open_loop(publishers, rate, count):
    """Publishes at random times; returns {event: time}, commit times, lateness."""
    sent, commits, late = {}, [], []
    by_fd = {p.pg.fileno(): p for p in publishers}
    poll = select.poll()
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    number, due = 0, time.monotonic() + 0.1
    last = due + count / rate + 60
    while len(sent) < count:
        now = time.monotonic()
        if now > last:
            raise Failed("%d of %d publishes came back" % (len(sent), count))
        if number < count and now >= due:
            idle = next((p for p in publishers if p.step == "idle"), None)
            if idle:
                late.append((now - due) * 1000)
                idle.publish(number)
                number += 1
                due += random.expovariate(rate)
                continue
        # ms are too coarse a time-out for poll(): the last one is spun away
        wait = (due - now) * 1000 - 1 if number < count else 1000
        for fd, _ in poll.poll(max(0, int(wait))):
            by_fd[fd].go_on(sent, commits)
    return sent, commits, late


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
    syncs = fdatasync_ms(100)
    gc.collect()
    gc.disable()
    count = rate * seconds
    sent, commits, late = open_loop(publishers, rate, count)
    gc.enable()
    syncs += fdatasync_ms(100)
    cluster.wait_ended("critical", count + WARM_UP, 60)

    events = "SELECT unnest(ARRAY['%s']::uuid[])" % "','".join(sent)
    cluster.check_ledger(sandbox, sent,
                         "SELECT v.id AS event, p.id AS endpoint FROM notif_private.event v "
                         "JOIN notif_private.endpoint p ON p.recipient_id = ANY (v.recipients) "
                         "WHERE v.id IN (%s)" % events)
    event_of = dict(cluster.pg.rows("SELECT delivery, event FROM notif.deliveries WHERE event IN (%s)" % events))
    # Where the time goes, as far as the ring of flights still knows: a claim
    # writes its row, then flushes its commit, then sends.
    claimed = dict(cluster.pg.rows("SELECT a.delivery, extract(epoch FROM f.at) FROM notif_private.flight_critical f, "
                                   "unnest(f.attempts) a WHERE NOT f.closed"))
    latencies, until_claim, until_receipt = [], [], []
    with open(sandbox.ledger) as ledger:
        for line in ledger:
            columns = line.split("\t", 4)
            delivery, receipt = columns[3].lower(), int(columns[0]) / 1000
            committed = sent[event_of[delivery]] * 1000
            latencies.append(receipt - committed)
            if delivery in claimed:
                until_claim.append(float(claimed[delivery]) * 1000 - committed)
                until_receipt.append(receipt - float(claimed[delivery]) * 1000)
    if len(latencies) != count:
        raise Failed("%d receipts for %d publishes" % (len(latencies), count))
    say("%d publishes; commit itself p50 %.2f ms, p99 %.2f ms; started late by p99 %.2f ms; receipt min %.2f, max %.2f ms" %
        (count, median(commits), percentile(commits, 0.99), percentile(late, 0.99), min(latencies), max(latencies)))
    if until_claim:
        say("of these %d: to the claim's row p50 %.2f, p99 %.2f ms; from there to the receipt p50 %.2f, p99 %.2f ms" %
            (len(until_claim), median(until_claim), percentile(until_claim, 0.99), median(until_receipt),
             percentile(until_receipt, 0.99)))
    if percentile(late, 0.99) > LATE_MS:
        raise Failed("this bench could not keep its times")
    cluster.check_log()
    figure("p0_latency_p50_ms", median(latencies), "ms")
    figure("p0_latency_p99_ms", percentile(latencies, 0.99), "ms")
    figure("fdatasync_ms", median(syncs), "ms")


main(bench)
