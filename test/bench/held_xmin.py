"""Throughput under a snapshot that is held from before the first delivery.

100,000 people get 20 broadcasts, with rate limits in four layers for all of them,
twice: in a server of its own each time, first undisturbed, then with a REPEATABLE
READ transaction that took its snapshot before the first publish and keeps it to
the end.  Compared is the last quarter of the deliveries.  A broadcast is
published as soon as one and a half or less are left.

Then, while the snapshot is still held, 10,000 events for one person, each
published in a transaction of its own, of a type that is not ordered, so that they
do not wait for each other: his one rate row is where dead versions pile up.
Compared is the CPU of the tier's router and dispatcher per delivery.
RECIPIENTS, ROUNDS, ONE_PERSON.
"""
import os
import subprocess
import time

from benchlib import DATABASE, SMALL, TMP, Cluster, Failed, Sandbox, cpu_s, figure, main, say, setting

# Room for ROUNDS and ONE_PERSON alike; above 32 a window is kept in 32 parts.
LIMITS = (("minute", 50000, "1 minute"), ("hour", 60000, "1 hour"), ("day", 80000, "1 day"), ("week", 100000, "7 days"))
SAMPLE_S = 0.02 if SMALL else 0.1
SESSIONS = 4


class Holder:
    """The application's transaction that never ends."""

    def __init__(self, cluster):
        self.cluster, self.pg = cluster, cluster.connect()
        self.pg.rows("BEGIN ISOLATION LEVEL REPEATABLE READ")
        self.pg.rows("SELECT count(*) FROM pg_class")
        self.xmin = self.look()[0]

    def look(self):
        """Its xmin, and by how many transactions that is behind."""
        return self.cluster.pg.rows("SELECT backend_xmin::text, age(backend_xmin) FROM pg_stat_activity WHERE pid = %d" %
                                    self.pg.pid)[0]

    def check(self):
        xmin, age = self.look()
        if not xmin or xmin != self.xmin:
            raise Failed("the snapshot was not held: xmin was %s, is %s" % (self.xmin, xmin))
        return int(age)


def broadcasts(cluster, recipients, rounds):
    """Delivers them all; returns (events, {figure: value})."""
    workers = cluster.workers()
    router, dispatcher = workers["router", "bulk"], workers["dispatcher", "bulk"]
    wanted = recipients * rounds
    deadline = time.monotonic() + 60 + wanted / 1000
    # time, ended, expanded, CPU of both once q quarters had ended, or were expanded
    events, marks, steps = [], {}, {}
    while True:
        counts = cluster.counts("bulk")
        now = (time.monotonic(), counts["ended"], counts["expanded"], cpu_s(router), cpu_s(dispatcher))
        marks.setdefault(now[1] * 4 // wanted, now)
        steps.setdefault(now[2] * 4 // wanted, now)
        if now[1] >= wanted:
            break
        if now[0] > deadline:
            raise Failed("not done in time: %s" % counts)
        if len(events) < rounds and len(events) * recipients - now[1] <= recipients * 3 // 2:
            events.append(cluster.publish_topic("everybody", len(events)))
            if now[1] == 0:
                # counts from when something is done
                marks.pop(0, None)
        cluster.rest(SAMPLE_S)
    if any(q not in marks for q in (0, 1, 3, 4)) or any(q not in steps for q in (0, 1, 3, 4)):
        raise Failed("too few samples: more people or rounds are needed")
    if cluster.workers() != workers:
        raise Failed("a worker was started anew")

    def rate(first, last):
        return (marks[last][1] - marks[first][1]) / (marks[last][0] - marks[first][0])

    def router_us(first, last):
        return (steps[last][3] - steps[first][3]) * 1e6 / (steps[last][2] - steps[first][2])

    def dispatcher_us(first, last):
        return (marks[last][4] - marks[first][4]) * 1e6 / (marks[last][1] - marks[first][1])

    say("first quarter %.0f/s, last %.0f/s; router %.1f, %.1f us; dispatcher %.1f, %.1f us" %
        (rate(0, 1), rate(3, 4), router_us(0, 1), router_us(3, 4), dispatcher_us(0, 1), dispatcher_us(3, 4)))
    return events, {"dps": rate(3, 4), "router_us_first": router_us(0, 1), "router_us_last": router_us(3, 4),
                    "dispatcher_us_first": dispatcher_us(0, 1), "dispatcher_us_last": dispatcher_us(3, 4),
                    "cpu_us": router_us(3, 4) + dispatcher_us(3, 4)}


def one_person(cluster, count):
    """That many events of one person, one transaction each, in two halves;
    us of router and dispatcher per delivery."""
    path = os.path.join(TMP, "one-person.pgbench")
    with open(path, "w") as file:
        file.write("SELECT notif.publish('tick', recipient => 'r1', data => '{\"n\": 4711}');\n")
    cluster.pg.rows("SELECT notif.define_type('tick', 'bench', title => 'Tick {n} of {recipient.name}', ordered => false)")
    workers = cluster.workers()
    pids = workers["router", "standard"], workers["dispatcher", "standard"]
    claims = "SELECT claimed FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'"
    us, each = [], count // SESSIONS // 2
    for half in (1, 2):
        before, claimed, started = sum(map(cpu_s, pids)), int(cluster.pg.one(claims)), time.monotonic()
        done = subprocess.run(["pgbench", "-n", "-h", os.path.join(cluster.dir, "s"), "-p", "5432", "-U", "postgres",
                               "-M", "prepared", "-c", str(SESSIONS), "-t", str(each), "-f", path, DATABASE],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            raise Failed("pgbench: " + done.stdout.decode()[-1500:])
        cluster.wait_ended("standard", each * SESSIONS * half, 600)
        us.append((sum(map(cpu_s, pids)) - before) * 1e6 / (each * SESSIONS))
        say("one person: %d delivered in %.1f s by %d claims, router and dispatcher %.1f us each" %
            (each * SESSIONS, time.monotonic() - started, int(cluster.pg.one(claims)) - claimed, us[-1]))
    return sum(us) / 2


def run(name, held, recipients, rounds, count):
    cluster, sandbox = Cluster(name), Sandbox(name)
    cluster.define(sandbox)
    cluster.limit(LIMITS)
    cluster.load(recipients, 0, topic="everybody")
    cluster.workers()
    holder = Holder(cluster) if held else None
    events, done = broadcasts(cluster, recipients, rounds)
    dead = cluster.dead_rates()
    done["one_person_us"] = one_person(cluster, count)
    if holder:
        say("snapshot held over %d transactions; %d dead rows of rate after the broadcasts" % (holder.check(), dead))
        # A claim may take two broadcasts of a person at once, not more.
        if dead < recipients * (rounds - 2) // 2:
            raise Failed("only %d dead rows of rate: limits or the snapshot did not hold" % dead)
        holder.pg.rows("COMMIT")
    events += [row[0] for row in cluster.pg.rows("SELECT id FROM notif_private.event WHERE tier = 1")]
    cluster.check_ledger(sandbox, events)
    cluster.check_log()
    cluster.stop()
    return done


def bench():
    sizes = setting("RECIPIENTS", 100000, 4000), setting("ROUNDS", 20, 8), setting("ONE_PERSON", 10000, 1000)
    free = run("xmin-free", False, *sizes)
    held = run("xmin-held", True, *sizes)
    figure("held_xmin_ratio", held["dps"] / free["dps"], "ratio")
    figure("held_xmin_cpu_ratio", free["cpu_us"] / held["cpu_us"], "ratio")
    for name in ("dps", "router_us_first", "router_us_last", "dispatcher_us_first", "dispatcher_us_last"):
        figure("held_xmin_" + name, held[name], "1/s" if name == "dps" else "us")
    figure("held_xmin_one_person_ratio", free["one_person_us"] / held["one_person_us"], "ratio")
    figure("held_xmin_one_person_us", held["one_person_us"], "us")


main(bench)
