"""Critical publishes in an open loop, and how long each took to the provider.

RATE publishes a second at random times (a Poisson process), whether or not
earlier ones are done.  A publish is BEGIN, notif.publish, COMMIT; the clock
starts before COMMIT is issued and stops at the time that the sandbox's ledger
has for the request.  Both are CLOCK_REALTIME of one machine.
"""
import gc
import os
import random
import select
import time

from benchlib import TMP, Failed, median, percentile, say

CONNECTIONS = 16
PEOPLE = 1000
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


class Watch:
    """A query repeated beside the loop; samples holds the first row of each answer."""

    def __init__(self, pg, sql, every_s):
        self.pg, self.sql, self.every_s = pg, sql, every_s
        self.due, self.asked, self.samples = 0.0, False, []

    def step(self, now):
        if self.asked and self.pg.ready():
            self.samples += self.pg.take()[:1]
            self.asked = False
        if not self.asked and now >= self.due:
            self.due = now + self.every_s
            self.pg.send(self.sql)
            self.asked = True

    def end(self):
        if self.asked:
            self.samples += self.pg.take()[:1]
            self.asked = False


def open_loop(publishers, rate, count, watch=None):
    """Publishes at random times; returns {event: time}, commit times, lateness."""
    sent, commits, late = {}, [], []
    by_fd = {p.pg.fileno(): p for p in publishers}
    poll = select.poll()
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    if watch:
        poll.register(watch.pg.fileno(), select.POLLIN)
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
        if watch:
            watch.step(now)
        # ms are too coarse a time-out for poll(): the last one is spun away
        wait = (due - now) * 1000 - 1 if number < count else 100
        for fd, _ in poll.poll(max(0, int(wait))):
            if fd in by_fd:
                by_fd[fd].go_on(sent, commits)
    if watch:
        watch.end()
    return sent, commits, late


def measure(cluster, sandbox, publishers, rate, count, watch=None):
    """One loop of count publishes, until all have reached the provider.

    Returns ({event: time before COMMIT}, {event: ms to the receipt}); raises if
    the loop was not open or a receipt is missing.
    """
    ended = cluster.counts("critical")["ended"]
    # a collection in the middle would be one of the latencies
    gc.collect()
    gc.disable()
    sent, commits, late = open_loop(publishers, rate, count, watch)
    gc.enable()
    cluster.wait_ended("critical", ended + count, 60)
    event_of = dict(cluster.pg.rows("SELECT delivery, event FROM notif.deliveries WHERE event = ANY ('{%s}')" %
                                    ",".join(sent)))
    took = {}
    # the count is answered once the ledger of that moment is in the file
    sandbox.get("/ledger/count")
    with open(sandbox.ledger) as ledger:
        for line in ledger:
            columns = line.split("\t", 4)
            # others may still be writing the last line
            event = event_of.get(columns[3].lower()) if len(columns) == 5 else None
            if event:
                took.setdefault(event, int(columns[0]) / 1000 - sent[event] * 1000)
    say("%d publishes; commit itself p50 %.2f ms, p99 %.2f ms; started late by p99 %.2f ms; receipt min %.2f, max %.2f ms" %
        (count, median(commits), percentile(commits, 0.99), percentile(late, 0.99), min(took.values()), max(took.values())))
    if len(took) != count:
        raise Failed("%d receipts for %d publishes" % (len(took), count))
    if percentile(late, 0.99) > LATE_MS:
        raise Failed("this bench could not keep its times")
    return sent, took
