"""A publish to a topic, until the last outcome is on disk.

Rules: 200,000 recipients with random ids, one in five with two devices; every
body at least 300 bytes and different for every person; every gate configured
for everybody (rate limits in four layers, a preference, quiet hours, a muted
source), none of which stops anybody; a CHECKPOINT once half is done; the server's own durability; the sandbox
over TLS verifies tokens and writes its ledger.  The clock runs from before the
publish's COMMIT until the log is flushed behind the last outcome; then the
checker runs.  After three such runs the recipients become 1,000,000 for one
more.  At the end the dead tuples of all tables are counted.

RUNS, RECIPIENTS, MILLION, PERF=1 (perf of router and dispatcher, in build/log).
"""
import os
import shutil
import subprocess
import time

from benchlib import (LOG, Cluster, Failed, Sandbox, figure, main, median, rss_anon_kb, say, setting, stop_process)

SAMPLE_S = 0.1
DEADLINE_S = 600


class Profile:
    """perf over one process, if PERF=1 and there is a perf."""

    def __init__(self, name, pid):
        self.name, self.process = name, None
        self.data = os.path.join(LOG, "perf-%s.data" % name)
        if os.environ.get("PERF") == "1" and shutil.which("perf"):
            self.process = subprocess.Popen(
                ["perf", "record", "-q", "-F", "997", "-g", "-o", self.data, "-p", str(pid)],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end(self):
        if self.process is None:
            return
        stop_process(self.process)
        for kind, options in (("flat", ["-g", "none"]), ("calls", ["-g", "caller,0.5,callee"])):
            path = os.path.join(LOG, "perf-%s-%s.txt" % (self.name, kind))
            with open(path, "w") as out:
                subprocess.run(["perf", "report", "--stdio", "--no-children", "--percent-limit", "0.3", "-i", self.data,
                                *options], stdout=out, stderr=subprocess.DEVNULL, check=False)
            say("profile: build/log/" + os.path.basename(path))
        os.unlink(self.data)


def check_bodies(sandbox, recipients, devices):
    """The load was what the rules say: sizes and differences, from the ledger."""
    sizes, hashes = set(), set()
    with open(sandbox.ledger) as ledger:
        for line in ledger:
            columns = line.split("\t")
            sizes.add(int(columns[9]))
            hashes.add(columns[10].strip())
    say("bodies: %d to %d bytes, %d different for %d devices of %d people" %
        (min(sizes), max(sizes), len(hashes), devices, recipients))
    if min(sizes) < 300:
        raise Failed("bodies below 300 bytes")
    if len(hashes) < recipients:
        raise Failed("bodies are not different per person")


def cpu_per_delivery(cluster, workers, before, used, own, devices):
    """{who: us}: the tier's two workers, upkeep, the sandbox, and what is left
    of the server, without the bench's own sessions."""
    delta = {pid: s - before.get(pid, 0) for pid, s in used.items()}
    named = {"router": workers["router", "bulk"], "dispatcher": workers["dispatcher", "bulk"],
             "upkeep": workers["upkeep", ""], "sandbox": "sandbox"}
    each = {name: delta[pid] for name, pid in named.items()}
    each["others"] = sum(s for pid, s in delta.items() if pid not in named.values() and pid not in own)
    kinds = dict(cluster.pg.rows("SELECT pid, backend_type FROM pg_stat_activity"))
    most = sorted(((s, kinds.get(str(pid), str(pid))) for pid, s in delta.items()
                   if pid not in named.values() and pid not in own and s > 0), reverse=True)
    say("others, us per delivery: " + ", ".join("%s %.2f" % (kind, s * 1e6 / devices) for s, kind in most[:5]))
    say("the bench's own sessions, us per delivery: %.1f" % (sum(delta.get(pid, 0) for pid in own) * 1e6 / devices))
    return {name: s * 1e6 / devices for name, s in each.items()}


def run(cluster, sandbox, number, topic, recipients, devices):
    pg, helper = cluster.pg, cluster.connect()
    workers = cluster.workers()
    router, dispatcher = workers["router", "bulk"], workers["dispatcher", "bulk"]
    sandbox.get("/reset")
    pg.rows("CHECKPOINT")
    before = cluster.counts("bulk")
    if before["open"] or before["in_flight"]:
        raise Failed("deliveries are left over: %s" % before)
    wal, cpu = cluster.lsn("pg_current_wal_insert_lsn"), cluster.cpu(sandbox)
    profiles = [Profile("router", router), Profile("dispatcher", dispatcher)] if number == 1 else []

    pg.rows("BEGIN")
    event = cluster.publish_topic(topic, number)
    started = time.monotonic()
    pg.rows("COMMIT")

    rss = checkpoint_s = checkpoint_at = 0
    told = started
    while True:
        counts = cluster.counts("bulk")
        ended = counts["ended"] - before["ended"]
        now = time.monotonic()
        rss = max(rss, rss_anon_kb(dispatcher))
        if not checkpoint_at and ended * 2 >= devices:
            checkpoint_at = now
            helper.send("CHECKPOINT")
        if checkpoint_at and not checkpoint_s and helper.ready():
            helper.take()
            checkpoint_s = now - checkpoint_at
        if ended >= devices:
            break
        if now - told > 5:
            told = now
            say("%d of %d expanded, %d ended, %.0f/s" % (counts["expanded"] - before["expanded"], devices, ended,
                                                        ended / (now - started)))
        if now - started > DEADLINE_S:
            raise Failed("not done within %d s: %s" % (DEADLINE_S, counts))
        # near the end the sample decides how exact the time is
        if sandbox.rest(SAMPLE_S if ended < devices * 0.9 else SAMPLE_S / 5):
            raise Failed("the sandbox has ended")
    written = cluster.lsn("pg_current_wal_insert_lsn")
    while cluster.lsn("pg_current_wal_flush_lsn") < written:
        sandbox.rest(0.002)
        if time.monotonic() - started > DEADLINE_S:
            raise Failed("the last outcome is never flushed")
    took = time.monotonic() - started

    used = cluster.cpu(sandbox)
    for profile in profiles:
        profile.end()
    if not checkpoint_s:
        helper.take()
        say("the checkpoint ended after the run")
    each = cpu_per_delivery(cluster, workers, cpu, used, (pg.pid, helper.pid), devices)
    if counts["accepted"] - before["accepted"] != devices:
        raise Failed("not all were accepted: %s" % counts)
    if cluster.workers() != workers:
        raise Failed("a worker was started anew")
    say("run %d: %d in %.2f s = %.0f/s; checkpoint %.1f s; cpu us per delivery: %s" %
        (number, devices, took, devices / took, checkpoint_s, ", ".join("%s %.1f" % item for item in each.items())))
    helper.close()
    cluster.check_ledger(sandbox, [event])
    check_bodies(sandbox, recipients, devices)
    charged = int(pg.one("SELECT count(*) FROM notif_private.rate WHERE NOT critical"))
    if charged < recipients:
        raise Failed("rate limits applied to %d of %d people" % (charged, recipients))
    return devices / took, rss / 1024, each, (written - wal) / devices


def dead_tuples(cluster):
    dead, rate = cluster.dead_tuples(), cluster.dead_rates()
    say("dead tuples: %s; rate %d" % (", ".join("%s %d" % item for item in dead.items()), rate))
    return sum(dead.values()), rate


def bench():
    recipients, runs = setting("RECIPIENTS", 200000, 5000), setting("RUNS", 3, 1)
    million = setting("MILLION", 1000000, 10000)
    cluster, sandbox = Cluster("pipeline"), Sandbox("pipeline")
    cluster.define(sandbox)
    cluster.limit()
    devices = cluster.load(recipients, 20, topic="everybody")
    if devices != recipients + recipients // 5:
        raise Failed("%d devices for %d recipients" % (devices, recipients))
    cluster.choose()
    done = [run(cluster, sandbox, number, "everybody", recipients, devices) for number in range(1, runs + 1)]
    large = None
    if million > recipients:
        devices += cluster.load(million - recipients, 20)
        cluster.choose()
        cluster.subscribe("million", "SELECT id FROM notif_private.recipient")
        large = run(cluster, sandbox, runs + 1, "million", million, devices)
    hot, rate = dead_tuples(cluster)
    cluster.check_log()
    figure("pipeline_dps", median([d[0] for d in done]), "1/s")
    figure("pipeline_dps_worst", min(d[0] for d in done), "1/s")
    if large:
        figure("pipeline_1m_dps", large[0], "1/s")
    figure("rss_mb_dispatcher", max(d[1] for d in done + [large or done[0]]), "MB")
    each = {name: median([d[2][name] for d in done]) for name in done[0][2]}
    figure("cpu_us_per_delivery", sum(us for name, us in each.items() if name != "sandbox"), "us")
    for name, us in each.items():
        figure("cpu_us_" + name, us, "us")
    figure("wal_bytes_per_delivery", median([d[3] for d in done]), "B")
    figure("dead_tuples_hot", hot, "count")
    figure("rate_dead_tuples", rate, "count")
    if hot:
        raise Failed("rows of append-only tables were updated or deleted")


main(bench)
