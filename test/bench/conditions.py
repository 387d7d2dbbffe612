"""What a condition costs a delivery.

As in gates.py the claim of the bulk tier is called from a session while the provider is
paused, for everybody of a broadcast: some of a type without a condition, then as many of
one whose send_if looks for a row of a table of the application's, and finds it.  The
figure is the CPU of the session and of the conditions worker per delivery, less what the
session takes without a condition.  RECIPIENTS, ROUNDS.
"""
from benchlib import Cluster, Failed, Sandbox, cpu_s, figure, main, median, say, setting

BATCH = 1000


def claims(cluster, lane, devices, flight, asker):
    """CPU us per delivery of claiming all: of the session, of the conditions worker."""
    pg, taken, idle = cluster.pg, 0, 0
    pid = int(pg.one("SELECT pg_backend_pid()"))
    before, asked = cpu_s(pid), cpu_s(asker)
    while taken < devices:
        row = pg.rows("SELECT coalesce(max(c.batch), 0), count(c.delivery) FROM notif_private.worker_claim_bulk(%d, %d, 999, %d, false) c" %
                      (lane, BATCH, flight[0]))[0]
        flight[0] += 1
        taken += int(row[1])
        if int(row[0]) == 0:
            # the conditions worker is not as far
            idle += 1
            if idle > 20000:
                raise Failed("%d of %d came through" % (taken, devices))
            cluster.rest(0.002)
    return (cpu_s(pid) - before) * 1e6 / devices, (cpu_s(asker) - asked) * 1e6 / devices


def bench():
    recipients, rounds = setting("RECIPIENTS", 100000, 5000), setting("ROUNDS", 5, 1)
    cluster, sandbox = Cluster("conditions"), Sandbox("conditions")
    cluster.define(sandbox)
    devices = cluster.load(recipients, 0, topic="everybody")
    asker = cluster.workers()[("conditions", "")]
    pg, flight = cluster.pg, [1]
    lane = int(pg.one("SELECT id FROM notif_private.route"))
    pg.rows("""
        CREATE TABLE public.customers (ref text PRIMARY KEY, active boolean NOT NULL);
        INSERT INTO public.customers SELECT r.ref, true FROM notif_private.recipient r;
        ANALYZE public.customers;
        SELECT notif.define_type('offer', 'bench', tier => 'bulk', title => 'An offer',
            send_if => 'EXISTS (SELECT FROM public.customers c WHERE c.ref = notification.recipient AND c.active)');
        SELECT notif.define_type('plain', 'bench', tier => 'bulk', title => 'An offer');
        SELECT notif.pause('provider', 'apns_main', why => 'bench')""")

    def measure(type_):
        done = []
        for number in range(rounds):
            cluster.publish_topic("everybody", number, type_)
            cluster.wait_counts("bulk", lambda c: c["open"] == devices, 300, "all waiting")
            pg.rows("CHECKPOINT")
            done.append(claims(cluster, lane, devices, flight, asker))
        say("%s: %s us" % (type_, ", ".join("%.1f + %.1f" % us for us in done)))
        return median([us[0] for us in done]), median([us[1] for us in done])

    without, _ = measure("plain")
    session, worker = measure("offer")
    cluster.check_log()
    figure("condition_cpu_us", session + worker - without, "us")
    figure("condition_cpu_us_claim", session - without, "us")
    figure("condition_cpu_us_worker", worker, "us")


main(bench)
