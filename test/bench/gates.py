"""What the gates cost a claim.

The claim of the bulk tier is called as a dispatcher calls it, 1,000 attempts at a
time, for everybody of a broadcast, while the provider is paused so that nobody else
claims: several broadcasts for people for whom nothing is configured, then as many with
every gate configured for each of them.  None of the gates stops anybody; every attempt
must come through.  The figure is the difference of the session's CPU per delivery.
RECIPIENTS, ROUNDS.
"""
from benchlib import Cluster, Failed, Sandbox, cpu_s, figure, main, median, say, setting

BATCH = 1000


def claims(cluster, lane, devices, flight):
    """CPU us per delivery of claiming all that waits."""
    pg, taken = cluster.pg, 0
    pid = int(pg.one("SELECT pg_backend_pid()"))
    before = cpu_s(pid)
    while True:
        n = int(pg.one("SELECT count(c.delivery) FROM notif_private.worker_claim_bulk(%d, %d, 999, %d, false) c" %
                       (lane, BATCH, flight[0])))
        flight[0] += 1
        if n == 0:
            break
        taken += n
    used = cpu_s(pid) - before
    if taken != devices:
        raise Failed("%d of %d came through the gates" % (taken, devices))
    return used * 1e6 / devices


def bench():
    recipients, rounds = setting("RECIPIENTS", 100000, 5000), setting("ROUNDS", 5, 1)
    cluster, sandbox = Cluster("gates"), Sandbox("gates")
    cluster.define(sandbox)
    devices = cluster.load(recipients, 0, topic="everybody")
    cluster.workers()
    pg, flight = cluster.pg, [1]
    lane = int(pg.one("SELECT id FROM notif_private.route"))
    pg.rows("SELECT notif.pause('provider', 'apns_main', why => 'bench')")

    def measure(what):
        done = []
        for number in range(rounds):
            cluster.publish_topic("everybody", number)
            cluster.wait_counts("bulk", lambda c: c["open"] == devices, 300, "all waiting")
            pg.rows("CHECKPOINT")
            done.append(claims(cluster, lane, devices, flight))
        say("%s: %s us" % (what, ", ".join("%.1f" % us for us in done)))
        return median(done)

    bare = measure("no gate configured")
    cluster.limit()
    cluster.choose()
    every = measure("every gate for everybody")
    charged = int(pg.one("SELECT count(*) FROM notif_private.rate WHERE NOT critical"))
    if charged < recipients:
        raise Failed("rate limits applied to %d of %d people" % (charged, recipients))
    cluster.check_log()
    figure("gates_cpu_us", every - bare, "us")
    figure("claim_cpu_us_bare", bare, "us")
    figure("claim_cpu_us", every, "us")


main(bench)
