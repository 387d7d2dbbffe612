"""A publish to a topic, until the last outcome is on disk.

Rules: 200,000 recipients with random ids, one in five with two devices; every
body at least 300 bytes and different for every person; a CHECKPOINT once half
is done; the server's own durability; the sandbox over TLS verifies tokens and
writes its ledger.  The clock runs from before the publish's COMMIT until
the log is flushed behind the last outcome; then the checker runs.

RUNS, RECIPIENTS, PERF=1 (perf of router and dispatcher, in build/log).
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


def run(cluster, sandbox, number, recipients, devices):
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
    event = pg.one("SELECT notif.publish('news', topic => 'everybody', "
                   "data => '{\"edition\": %d, \"points\": %d}')" % (number, 1000 + number))
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
    delta = {pid: s - cpu.get(pid, 0) for pid, s in used.items()}
    each = {"router": delta[router], "dispatcher": delta[dispatcher], "sandbox": delta["sandbox"],
            "others": sum(s for pid, s in delta.items()
                          if pid not in (router, dispatcher, "sandbox", pg.pid, helper.pid))}
    each = {name: s * 1e6 / devices for name, s in each.items()}
    if counts["accepted"] - before["accepted"] != devices:
        raise Failed("not all were accepted: %s" % counts)
    if cluster.workers() != workers:
        raise Failed("a worker was started anew")
    say("run %d: %d in %.2f s = %.0f/s; checkpoint %.1f s; cpu us per delivery: %s, this bench's own sessions %.1f" %
        (number, devices, took, devices / took, checkpoint_s,
         ", ".join("%s %.1f" % item for item in each.items()), (delta[pg.pid] + delta.get(helper.pid, 0)) * 1e6 / devices))
    helper.close()
    cluster.check_ledger(sandbox, [event],
                         "SELECT '%s'::uuid AS event, e.id AS endpoint FROM notif_private.endpoint e "
                         "JOIN notif_private.subscription s USING (recipient_id)" % event)
    check_bodies(sandbox, recipients, devices)
    return devices / took, rss / 1024, each, (written - wal) / devices


def bench():
    recipients, runs = setting("RECIPIENTS", 200000, 5000), setting("RUNS", 3, 1)
    cluster, sandbox = Cluster("pipeline"), Sandbox("pipeline")
    cluster.define(sandbox)
    devices = cluster.load(recipients, 20, topic="everybody")
    if devices != recipients + recipients // 5:
        raise Failed("%d devices for %d recipients" % (devices, recipients))
    done = [run(cluster, sandbox, number, recipients, devices) for number in range(1, runs + 1)]
    cluster.check_log()
    figure("pipeline_dps", median([d[0] for d in done]), "1/s")
    figure("pipeline_dps_worst", min(d[0] for d in done), "1/s")
    figure("rss_mb_dispatcher", max(d[1] for d in done), "MB")
    for name in ("router", "dispatcher", "sandbox", "others"):
        figure("cpu_us_" + name, median([d[2][name] for d in done]), "us")
    figure("wal_bytes_per_delivery", median([d[3] for d in done]), "B")


main(bench)
