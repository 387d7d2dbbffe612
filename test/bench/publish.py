"""What a publish costs its caller, against one plain INSERT.

pgbench, 8 clients, -M prepared, one statement a transaction, both with the same
JSON document; the plain table has a key and one more index.  Runs alternate;
each figure is the median of TPS(publish) / TPS(insert) over the pairs.
publish_vs_insert: all tiers paused.  publish_vs_insert_live: a cluster of its
own in which the workers send what is published to the sandbox meanwhile.
publish_cpu_us and insert_cpu_us are the CPU of the sessions per transaction,
which other load on the machine disturbs less than it does TPS.
PAIRS, SECONDS_PUBLISH.
"""
import os
import re
import subprocess
import time

from benchlib import DATABASE, TMP, Cluster, Failed, Sandbox, children_of, cpu_s, figure, main, median, say, setting

PEOPLE = 10000
CLIENTS = 8
DOCUMENT = '{"order": 4711, "total": "123.40", "currency": "EUR"}'
SCRIPTS = {
    "insert": "\\set r random(1, %d)\nINSERT INTO plain (customer, data) VALUES (:r, '%s');\n" % (PEOPLE, DOCUMENT),
    "publish": "\\set r random(1, %d)\nSELECT notif.publish('shipped', recipient => 'r' || :r, data => '%s');\n" %
               (PEOPLE, DOCUMENT),
}


def is_session(pid):
    """Whether a child of the postmaster is a client's session, living or ended."""
    try:
        with open("/proc/%d/cmdline" % pid) as file:
            title = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return title == "" or title.startswith("postgres: postgres %s " % DATABASE)


def pgbench(cluster, script, seconds):
    path = os.path.join(TMP, script + ".pgbench")
    with open(path, "w") as file:
        file.write(SCRIPTS[script])
    others = set(children_of(cluster.postmaster))
    before = cpu_s(cluster.postmaster, children=True)
    done = subprocess.run(["pgbench", "-n", "-h", os.path.join(cluster.dir, "s"), "-p", "5432", "-U", "postgres",
                           "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T", str(seconds), "-f", path, DATABASE],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    text = done.stdout.decode()
    tps = re.search(r"^tps = ([0-9.]+)", text, re.M)
    failed = re.search(r"^number of failed transactions: (\d+)", text, re.M)
    if done.returncode != 0 or not tps or (failed and int(failed.group(1))):
        raise Failed("pgbench: " + text[-1500:])
    count = int(re.search(r"transactions actually processed: (\d+)", text).group(1))
    # What its sessions used shows in the postmaster once it has reaped them all.
    deadline = time.monotonic() + 30
    while any(is_session(pid) for pid in children_of(cluster.postmaster) if pid not in others):
        if time.monotonic() > deadline:
            raise Failed("sessions of pgbench do not end")
        cluster.rest(0.02)
    return float(tps.group(1)), count, (cpu_s(cluster.postmaster, children=True) - before) * 1e6 / count


def prepare(name):
    cluster, sandbox = Cluster(name), Sandbox(name)
    cluster.define(sandbox)
    cluster.load(PEOPLE, 0)
    cluster.workers()
    cluster.pg.rows("""
        CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer bigint NOT NULL,
                            data jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
        CREATE INDEX ON plain (customer)""")
    return cluster, sandbox


def pairs(cluster, seconds, count, settle):
    """Number of publishes; median ratio; median TPS and CPU of either."""
    published, ratios, tps, cpu = 0, [], {"insert": [], "publish": []}, {"insert": [], "publish": []}
    for number in range(count):
        # whoever goes second finds what the first has left: take turns
        for script in sorted(SCRIPTS, reverse=number % 2 == 1):
            cluster.pg.rows("CHECKPOINT")
            rate, done, each = pgbench(cluster, script, seconds)
            tps[script].append(rate)
            cpu[script].append(each)
            if script == "publish":
                published += done
                if settle:
                    cluster.wait_ended("standard", published, 600)
        ratios.append(tps["publish"][-1] / tps["insert"][-1])
        say("pair %d: insert %.0f tps, %.1f us; publish %.0f tps, %.1f us; ratio %.3f" %
            (number + 1, tps["insert"][-1], cpu["insert"][-1], tps["publish"][-1], cpu["publish"][-1], ratios[-1]))
    return published, median(ratios), {s: median(v) for s, v in tps.items()}, {s: median(v) for s, v in cpu.items()}


def bench():
    count, seconds = setting("PAIRS", 5, 2), setting("SECONDS_PUBLISH", 10, 2)

    cluster, _ = prepare("publish")
    for tier in ("critical", "standard", "bulk"):
        cluster.pg.rows("SELECT notif.pause('tier', '%s', why => 'bench')" % tier)
    published, ratio, tps, cpu = pairs(cluster, seconds, count, settle=False)
    stored = int(cluster.pg.one("SELECT count(*) FROM notif_private.event"))
    if stored != published:
        raise Failed("%d published, %d events" % (published, stored))
    if cluster.counts("standard")["expanded"] != 0:
        raise Failed("the tiers were not paused")
    cluster.check_log()
    cluster.stop()
    figure("publish_vs_insert", ratio, "ratio")
    for script in ("publish", "insert"):
        figure(script + "_tps", tps[script], "1/s")
        figure(script + "_cpu_us", cpu[script], "us")

    cluster, sandbox = prepare("publish-live")
    _, ratio, _, _ = pairs(cluster, seconds, count, settle=True)
    say("sandbox: %s lines" % sandbox.get("/ledger/count").strip())
    cluster.check_log()
    figure("publish_vs_insert_live", ratio, "ratio")


main(bench)
