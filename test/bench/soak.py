"""Ten minutes of load on a provider that misbehaves in every way, one by one.

Broadcasts of the bulk tier, sized so that RATE_SOAK deliveries a second are due,
and single publishes of the other tiers.  Meanwhile the sandbox's faults take
turns: each for a few seconds, and until it has struck; then as long without, and
until something has been delivered again.  Faults that change what a
device is (410, BadDeviceToken) are left out, since what must arrive is derived
from the devices; so is an expired token, of which a provider allows one
replacement in twenty minutes.

Nothing may be lost or doubled without an unknown attempt, and memory must not
grow: the largest RssAnon of each worker in each round of faults, the first round
left out, over the number of messages; the figure is the steepest worker's.
SECONDS_SOAK, RATE_SOAK.
"""
import json
import random
import time

from benchlib import SMALL, Cluster, Failed, Sandbox, figure, main, rss_anon_kb, say, setting

# Switches; what else ends them; whether they must have struck at least once.
FAULTS = (
    ("goaway=last_stream:minus:20", None, False),
    ("goaway=now,reason:Shutdown", None, False),
    ("refused_stream=300", None, True),
    ("rst=INTERNAL_ERROR,100", None, True),
    ("rst=CANCEL,100", None, True),
    ("max_streams=1", None, False),
    ("max_streams=0", None, False),
    ("window=16", None, False),
    ("status=500,reason=InternalServerError,count=300", None, True),
    ("status=503,reason=Shutdown,count=all", None, True),
    ("status=429,reason=TooManyRequests,retry_after=1,count=300", None, True),
    ("status=400,reason=PayloadEmpty,count=20", None, True),
    ("throttle_on_error=on&status=500,count=100", None, True),
    ("hang=on", None, False),
    ("hang=on", "hang=drop", False),
    ("delay_ms=700", None, False),
    ("slow_body=30", None, False),
    ("cut_after_data=30", None, True),
    ("cut_after_headers=30", None, True),
    ("accept=refuse&goaway=now", None, False),
    ("accept=off&goaway=now", None, False),
    ("tls=expired&goaway=now", None, False),
    ("idle_timeout_ms=100", None, False),
)
HOLD_S = 0.6 if SMALL else 1.8
# A fault that has nothing to strike, or no delivery after it, is left by then.
PATIENCE_S = 20
STEP_S = 0.05
TOPICS, AUDIENCE = 10, 2000
# Deliveries that wait, at most: more are not published.
BACKLOG_MAX = 20000
TIERS = ("critical", "standard", "bulk")
# FAULTS F-P-19 in MB per 100,000 messages, and what a slope needs at least.
SLOPE_MAX, ROUNDS_MIN, MESSAGES_MIN = 1.0, 3, 100000


class Faults:
    """Takes turns: a fault, then none, each for HOLD_S and until it shows."""

    def __init__(self, sandbox):
        self.sandbox, self.number, self.on = sandbox, -1, False
        self.since, self.seen = time.monotonic(), 0
        self.struck = set()

    def shows(self, ended):
        if not self.on:
            return ended > self.seen
        return not FAULTS[self.number % len(FAULTS)][2] or json.loads(self.sandbox.get("/fault"))["applied"] > 0

    def step(self, ended):
        """ended: deliveries so far.  True if a round of all faults has just ended."""
        passed = time.monotonic() - self.since
        if passed < HOLD_S or (passed < PATIENCE_S and not self.shows(ended)):
            return False
        self.since, self.seen = time.monotonic(), ended
        if not self.on:
            self.number += 1
            self.sandbox.get("/fault?" + FAULTS[self.number % len(FAULTS)][0])
        else:
            self.clear()
        self.on = not self.on
        return not self.on and self.number % len(FAULTS) == len(FAULTS) - 1

    def clear(self):
        number = self.number % len(FAULTS)
        if json.loads(self.sandbox.get("/fault"))["applied"] > 0:
            self.struck.add(number)
        if FAULTS[number][1]:
            self.sandbox.get("/fault?" + FAULTS[number][1])
        self.sandbox.get("/fault?clear")

    def check(self):
        missed = [fault[0] for number, fault in enumerate(FAULTS[:self.number + 1]) if fault[2] and number not in self.struck]
        if missed or self.number + 1 < len(FAULTS):
            raise Failed("%d of %d faults were set; these never struck: %s" % (self.number + 1, len(FAULTS), missed))


class Load:
    """Publishes what is due, unless too much waits."""

    def __init__(self, cluster, rate):
        self.cluster, self.rate, self.started = cluster, rate, time.monotonic()
        self.events, self.bulk, self.singles = [], 0, 0

    def ended(self):
        return {tier: self.cluster.counts(tier)["ended"] for tier in TIERS}

    def published(self):
        return self.bulk + self.singles

    def step(self):
        """What has ended by now, in all tiers."""
        pg, ended = self.cluster.pg, sum(self.ended().values())
        due = self.rate * (time.monotonic() - self.started)
        if self.published() < due and self.published() - ended < BACKLOG_MAX:
            self.events.append(self.cluster.publish_topic("t%d" % random.randrange(TOPICS), len(self.events)))
            self.bulk += AUDIENCE
            person = random.randrange(TOPICS * AUDIENCE) + 1
            self.events.append(pg.one("SELECT notif.publish('code', 'r%d', '{\"code\": 1}')" % person))
            self.events.append(pg.one("SELECT notif.publish('shipped', 'r%d', '{\"order\": 1, \"total\": 2, \"currency\": \"EUR\"}')" %
                                      person))
            self.singles += 2
        return ended


def slope(points):
    """Least squares of (messages, MB), in MB per 100,000 messages."""
    xs, ys = [p[0] / 100000 for p in points], [p[1] for p in points]
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - mx) * (y - my) for x, y in zip(xs, ys)) / sum((x - mx) ** 2 for x in xs)


def judge_memory(rounds):
    """rounds: [(messages, {worker: largest MB})]; says all, returns the steepest or None."""
    for messages, mb in rounds:
        say("%9d messages: %s" % (messages, ", ".join("%s %.1f" % (" ".join(w), m) for w, m in sorted(mb.items()))))
    later = rounds[1:]
    if len(later) < ROUNDS_MIN or later[-1][0] - later[0][0] < MESSAGES_MIN:
        say("too short to judge memory by")
        return None
    slopes = {w: slope([(messages, mb[w]) for messages, mb in later]) for w in later[0][1]}
    worst = max(slopes, key=slopes.get)
    say("steepest: %s" % " ".join(worst))
    return slopes[worst]


def bench():
    seconds, rate = setting("SECONDS_SOAK", 600, 30), setting("RATE_SOAK", 3000, 2000)
    random.seed(7)
    # With its breaker the provider would be left alone most of the time.
    cluster, sandbox = Cluster("soak", ["notif.breaker_volume = 1000000"]), Sandbox("soak")
    cluster.define(sandbox)
    # retries soon, and as many as it takes
    cluster.pg.rows("SELECT notif.define_category('bench', max_attempts => 100, retry_base => '200 ms', retry_cap => '5 s')")
    for number in range(TOPICS):
        cluster.load(AUDIENCE, 0, topic="t%d" % number)
    workers = cluster.workers()
    watched = {who: pid for who, pid in workers.items() if who[0] in ("router", "dispatcher")}

    load, faults = Load(cluster, rate), Faults(sandbox)
    started, rounds, most = time.monotonic(), [], {}
    while time.monotonic() - started < seconds or (SMALL and not rounds):
        ended = load.step()
        for who, pid in watched.items():
            most[who] = max(most.get(who, 0), rss_anon_kb(pid) / 1024)
        if faults.step(ended):
            rounds.append((ended, most))
            most = {}
        if sandbox.rest(STEP_S):
            raise Failed("the sandbox has ended")
    faults.clear()
    ended = sum(load.ended().values())
    took = time.monotonic() - started
    say("%d deliveries ended in %.0f s of load, %d published" % (ended, took, load.published()))
    counts = {tier: cluster.wait_counts(tier, lambda c: c["open"] == 0 and c["in_flight"] == 0, 300, "all ended")
              for tier in TIERS}
    if sum(c["ended"] for c in counts.values()) != load.published():
        raise Failed("%d published: %s" % (load.published(), counts))
    say("of them: " + ", ".join("%s %d" % (state, sum(c[state] for c in counts.values())) for state in counts["bulk"]
                                if state not in ("expanded", "open", "in_flight", "ended")))
    if cluster.workers() != workers:
        raise Failed("a worker was started anew")
    found = cluster.check_ledger(sandbox, load.events)
    cluster.check_audit()
    cluster.check_log()
    faults.check()
    # Through the faults the load must have been one.
    if ended < rate * took / 4:
        raise Failed("only %.0f deliveries a second" % (ended / took))
    growth = judge_memory(rounds)
    figure("soak_messages", load.published(), "count")
    figure("soak_lost", found["lost"], "count")
    figure("soak_duplicated", found["duplicated"], "count")
    figure("soak_unknown", found["unknown"], "count")
    if growth is not None:
        figure("soak_rss_slope", growth, "MB")
        if growth >= SLOPE_MAX:
            raise Failed("memory grows with the messages")


main(bench)
