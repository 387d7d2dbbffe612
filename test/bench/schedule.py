"""What a million that wait for their time cost what is due.

Two things are measured, by the CPU of who does them: the claim of attempts that have
come due in the schedule, called from a session as a dispatcher calls it, 1,000 at a
time, while the provider is paused; and what the router uses to release and expand
events whose time has come.  Each with nothing else waiting, then with a million events
for a year ahead, then with a million attempts for the next days in the queue that the
claims read, besides.  Every attempt must come through.  The hours until something is
due pass on the shifted clock.
WAITING, RECIPIENTS, EVENTS, ROUNDS.
"""
import time

from benchlib import Cluster, Failed, Sandbox, cpu_s, figure, main, median, say, setting

BATCH = 1000


def pass_an_hour(cluster):
    cluster.pg.rows("SELECT notif_private.shift_clock(3660 * 1000000::bigint)")


def drain(cluster, lane, flight, due):
    """Claims until there is nothing; how many have passed, and the CPU seconds."""
    pg, taken = cluster.pg, 0
    pid = int(pg.one("SELECT pg_backend_pid()"))
    before = cpu_s(pid)
    while True:
        batch, n = pg.rows("SELECT coalesce(max(c.batch), 0), count(c.delivery) FROM notif_private.worker_claim_bulk"
                           "(%d, %d, 999, %d, %s) c" % (lane, BATCH, flight[0], due))[0]
        flight[0] += 1
        if int(batch) == 0:
            return taken, cpu_s(pid) - before
        taken += int(n)


def claims(cluster, lane, devices, flight):
    """CPU us per attempt of claiming what has come due in the schedule."""
    open_before = cluster.counts("bulk")["open"]
    cluster.pg.rows("SELECT notif.publish('spread', topic => 'everybody', data => '{\"edition\": 1, \"points\": 1}', spread => '1 hour')")
    cluster.wait_counts("bulk", lambda c: c["open"] == open_before + devices, 300, "all waiting")
    # what cannot go yet is put off
    early, _ = drain(cluster, lane, flight, "false")
    pass_an_hour(cluster)
    cluster.pg.rows("CHECKPOINT")
    taken, used = drain(cluster, lane, flight, "true")
    if early + taken != devices or taken < devices // 2:
        raise Failed("%d and %d of %d came through" % (early, taken, devices))
    return used * 1e6 / taken


def releases(cluster, router, events):
    """CPU us of the router per event that has come due, expanded to one attempt."""
    pg, before = cluster.pg, cluster.counts("bulk")
    pg.rows("SELECT count(notif.publish('late', 'r' || (1 + i * 7919 %% 5000), '{\"edition\": 1, \"points\": 1}', "
            "deliver_at => x.at)) FROM generate_series(1, %d) i, (SELECT notif.now() + interval '1 hour' AS at) x" % events)
    cluster.wait_counts("bulk", lambda c: c["scheduled"] == before["scheduled"] + events, 300, "all filed")
    cpu = cpu_s(router)
    pass_an_hour(cluster)
    cluster.wait_counts("bulk", lambda c: c["scheduled"] == before["scheduled"] and c["expanded"] == before["expanded"] + events,
                        300, "all released")
    used = cpu_s(router) - cpu
    return used * 1e6 / events


def wait_a_year(cluster, router, waiting):
    """That many events for a year ahead, by the way that all take."""
    started, cpu = time.monotonic(), cpu_s(router)
    for first in range(0, waiting, 100000):
        cluster.pg.rows("SELECT count(notif.publish('late', 'r' || (1 + i %% 5000), '{\"edition\": 1, \"points\": 1}', "
                        "deliver_at => notif.now() + interval '300 days' + i * interval '3 s')) FROM generate_series(%d, %d) i" %
                        (first + 1, min(first + 100000, waiting)), timeout_s=1200)
    cluster.wait_counts("bulk", lambda c: c["scheduled"] == waiting, 1200, "all filed")
    say("%d events for later published and filed in %.0f s; router %.1f us each" %
        (waiting, time.monotonic() - started, (cpu_s(router) - cpu) * 1e6 / waiting))


def wait_for_days(cluster, lane, waiting):
    """That many attempts in the schedule, due in two to five days."""
    cluster.pg.rows("""
        SET synchronous_commit = off;
        INSERT INTO notif_private.schedule_bulk (part, incarnation, lane, due_at, delivery, slot, attempt, tries, type_id, ord,
                                                 recipient, endpoint, event, expires_at)
        SELECT notif_private.schedule_part('notif_private.schedule_bulk', x.at), 1, %(lane)d, x.at, gen_random_uuid(),
               hashint8(e.recipient_id) & 63, 2, 0, t.id, x.i, e.recipient_id, e.id, notif_private.uuid_at(now()), notif.now() + interval '9 days'
        FROM (SELECT i, notif.now() + interval '2 days' + i * interval '3 days' / %(n)d AS at FROM generate_series(1, %(n)d) i) x
        CROSS JOIN (SELECT id FROM notif_private.type WHERE name = 'spread') t
        JOIN (SELECT id, recipient_id, row_number() OVER () AS n FROM notif_private.endpoint) e
          ON e.n = 1 + x.i %% (SELECT count(*) FROM notif_private.endpoint);
        INSERT INTO notif_private.tally_bulk (ring, lane, state, n)
        SELECT notif_private.turn_bulk() %% 4, %(lane)d, s, %(n)d FROM unnest('{expanded,open}'::notif_private.tally_state[]) s;
        RESET synchronous_commit;
        """ % {"lane": lane, "n": waiting}, timeout_s=1200)
    cluster.pg.rows("VACUUM (ANALYZE) notif_private.schedule_bulk", timeout_s=1200)


def bench():
    waiting, recipients = setting("WAITING", 1000000, 20000), setting("RECIPIENTS", 20000, 5000)
    events, rounds = setting("EVENTS", 10000, 1000), setting("ROUNDS", 3, 1)
    cluster, sandbox = Cluster("schedule"), Sandbox("schedule")
    cluster.define(sandbox)
    pg, flight = cluster.pg, [1]
    for name in ("spread", "late"):
        pg.rows("SELECT notif.define_type('%s', 'bench', tier => 'bulk', title => 'News {edition}', body => '{points}', ordered => false)" % name)
    devices = cluster.load(recipients, 0, topic="everybody")
    router = cluster.workers()["router", "bulk"]
    lane = int(pg.one("SELECT id FROM notif_private.route"))
    pg.rows("SELECT notif.pause('provider', 'apns_main', why => 'bench')")

    def measure(what):
        claimed, released = [], []
        for _ in range(rounds):
            released.append(releases(cluster, router, events))
            # these go out of the way first
            drain(cluster, lane, flight, "true")
            claimed.append(claims(cluster, lane, devices, flight))
        say("%s: claim %s us; release %s us" % (what, ", ".join("%.1f" % us for us in claimed), ", ".join("%.1f" % us for us in released)))
        return median(claimed), median(released)

    measure("to warm up")
    none = measure("nothing waits")
    wait_a_year(cluster, router, waiting)
    year = measure("%d events wait" % waiting)
    wait_for_days(cluster, lane, waiting)
    both = measure("%d attempts wait, too" % waiting)
    if int(pg.one("SELECT count(*) FROM notif.audit() WHERE NOT agrees")) != 0:
        raise Failed("the counts do not agree")
    cluster.check_log()
    figure("scheduled_claim_cost_ratio", max(year[0], both[0]) / none[0], "ratio")
    figure("scheduled_release_cost_ratio", max(year[1], both[1]) / none[1], "ratio")
    for name, value in (("none", none), ("events", year), ("attempts", both)):
        figure("scheduled_claim_us_" + name, value[0], "us")
        figure("scheduled_release_us_" + name, value[1], "us")


main(bench)
