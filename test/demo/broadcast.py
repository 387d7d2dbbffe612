"""The topic to everybody, with one-time codes going through meanwhile.

One thread and one poll: a connection that publishes a code at every tick of an
open loop, a connection that asks notif how far it is, and the ledger's tail. A
code's latency runs from before its publish is sent (or, if the one before was
not back yet, from when it was due) until the time in the sandbox's ledger.
"""
import collections
import time

from stage import Failed, LedgerTail, Progress

CODES_PER_S = 25
QUIET_S = 1.0           # codes alone, before the broadcast and after it
SAMPLE_S = 0.25
DEADLINE_S = 90


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


class Codes:
    """Publishes them, and finds them again in the ledger."""

    def __init__(self, pg, tokens):
        self.pg, self.tokens = pg, tokens
        self.events, self.sent, self.latencies = [], {}, []     # sent: token -> time
        self.busy, self.behind = False, False
        self.due = time.monotonic()
        pg.rows("PREPARE code (text, text) AS SELECT notif.publish('login.code', recipient => $1, "
                "data => jsonb_build_object('code', $2))")

    def turn(self, go_on):
        if self.busy and self.pg.ready():
            self.events.append(self.pg.take()[0][0])
            self.busy = False
        late = time.monotonic() - self.due
        if late < 0 or not go_on:
            return
        if self.busy:
            self.behind = True
            return
        number = len(self.events) + 1
        if number > len(self.tokens):
            raise Failed("there are more codes than people to send them to")
        # each goes to a person of its own, so that a token in the ledger tells which
        self.sent[self.tokens[number - 1]] = time.time() - (late if self.behind else 0)
        self.pg.send("EXECUTE code('account-%d', '%06d')" % (number, number * 7919 % 1000000))
        self.busy, self.behind = True, False
        self.due += 1 / CODES_PER_S

    def seen(self, at, token):
        published = self.sent.pop(token, None)
        if published is not None:
            self.latencies.append((at - published) * 1000)

    def text(self):
        if not self.latencies:
            return "no code yet"
        return "%d codes, last %.1f, p50 %.1f, p99 %.1f ms" % (
            len(self.latencies), self.latencies[-1], percentile(self.latencies, 0.5), percentile(self.latencies, 0.99))


class Broadcast:
    """Where the topic's deliveries stand, sampled."""

    SQL = "SELECT state, n FROM notif.state WHERE tier = 'bulk'"
    UNDECIDED = ("expanded", "open", "in_flight")

    def __init__(self, pg, wanted):
        self.pg, self.wanted = pg, wanted
        self.accepted = self.errors = self.ended = 0
        # answers are recorded in batches: the rate is that of the last second
        self.samples = collections.deque([(time.monotonic(), 0)], maxlen=round(1 / SAMPLE_S) + 1)
        self.rate, self.next, self.busy = 0.0, 0.0, False

    def turn(self):
        """True when there is a new sample."""
        now = time.monotonic()
        if not self.busy:
            if now >= self.next:
                self.pg.send(self.SQL)
                self.busy = True
            return False
        if not self.pg.ready():
            return False
        counts = {state: int(n) for state, n in self.pg.take()}
        self.busy, self.next = False, now + SAMPLE_S
        self.accepted = counts["accepted"]
        self.ended = sum(n for state, n in counts.items() if state not in self.UNDECIDED)
        self.errors = self.ended - self.accepted
        self.samples.append((now, self.accepted))
        first, was = self.samples[0]
        self.rate = (self.accepted - was) / max(now - first, 1e-6)
        return True

    def text(self):
        return "%s sent, %s/s, %d errors" % (
            format(self.accepted, ","), format(round(self.rate), ","), self.errors)


def run(stage, publisher, monitor, tokens, wanted, publish_news):
    """Sends to everybody; returns (event, seconds, Codes, their latencies during it, those around it).

    publish_news() publishes the topic and returns its event; wanted is how many
    deliveries it implies.
    """
    tail = LedgerTail(stage.sandbox.ledger)
    codes, progress = Codes(publisher, tokens), Progress()
    news = Broadcast(monitor, wanted)
    begun = time.monotonic()
    started = finished = event = None
    before = during = 0
    while True:
        now = time.monotonic()
        if started is None and now - begun >= QUIET_S:
            before, started = len(codes.latencies), now
            event = publish_news()
        codes.turn(finished is None or now - finished < QUIET_S)
        for at, token in tail.lines():
            codes.seen(at, token)
        if started and news.turn():
            if finished is None and news.ended >= wanted:
                finished, during = time.monotonic(), len(codes.latencies)
                progress.show(news.text() + " | " + codes.text(), last=True)
            elif finished is None:
                progress.show(news.text() + " | " + codes.text())
        if finished and now - finished >= QUIET_S and not codes.sent and not codes.busy and not news.busy:
            break
        if now - begun > DEADLINE_S:
            raise Failed("after %d s: %s, %s, %d codes not yet at the provider" %
                         (DEADLINE_S, news.text(), codes.text(), len(codes.sent)))
        next_code = codes.due - time.monotonic()
        stage.pause(next_code if 0 < next_code < 0.01 else 0.01,
                    publisher.fileno(), *([monitor.fileno()] if news.busy else []))
    quiet = codes.latencies[:before] + codes.latencies[during:]
    return event, finished - started, codes, codes.latencies[before:during], quiet
