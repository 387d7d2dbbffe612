"""Memory of a dispatcher with ten thousand requests in flight.

notif.max_in_flight is 10240 and the provider account has 16 connections of 1000
streams; the sandbox answers late, so that requests pile up on the wire.  (A
connection has one stream until its first answer and the next one is opened when
the others are full, so this takes as many delays as connections.)  Every body has
at least 1 kB and is different for every person.  The figure is the largest
RssAnon of the bulk tier's dispatcher, which has sent one small broadcast before;
it counts only if 10,000 were in flight for a while.  RECIPIENTS, IN_FLIGHT.
"""
from benchlib import Cluster, Failed, Sandbox, figure, main, rss_anon_kb, say, setting

FEW = 2000
DELAY_MS = 2000
SAMPLE_S = 0.05
DEADLINE_S = 600
# Samples that must show as many in flight as wanted: a second.
FULL_MIN = 20


def bench():
    recipients = setting("RECIPIENTS", 150000, 30000)
    wanted = setting("IN_FLIGHT", 10000, 4500)
    cluster = Cluster("memory", ["notif.max_in_flight = 10240"])
    sandbox = Sandbox("memory")
    cluster.define(sandbox, connections=16)
    cluster.limit()
    cluster.load(FEW, 0, topic="few")
    devices = cluster.load(recipients, 0, topic="everybody")
    cluster.pg.rows("""
        SELECT notif.define_type('letter', 'bench', tier => 'bulk', title => 'Letter to {recipient.name}',
            body => 'Dear {recipient.name} of {recipient.city}, number {recipient.ref}: {recipient.note} ' || repeat('%s', 18))
        """ % "Every word of this letter was weighed before it was sent. ")
    workers = cluster.workers()
    dispatcher = workers["dispatcher", "bulk"]
    few = cluster.publish_topic("few", 0)
    cluster.wait_ended("bulk", FEW, 120)
    before = rss_anon_kb(dispatcher)

    sandbox.get("/fault?delay_ms=%d" % DELAY_MS)
    letter = cluster.publish_topic("everybody", 1, "letter")
    samples, rss, most = 0, 0, 0
    full = 0                # samples with as many in flight as wanted
    while True:
        samples += 1
        if samples * SAMPLE_S > DEADLINE_S:
            raise Failed("not done within %d s" % DEADLINE_S)
        in_flight = int(cluster.pg.one("SELECT in_flight FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'bulk'"))
        most, full = max(most, in_flight), full + (in_flight >= wanted)
        rss = max(rss, rss_anon_kb(dispatcher))
        if samples % 10 == 0 and cluster.counts("bulk")["ended"] >= devices + FEW:
            break
        if sandbox.rest(SAMPLE_S):
            raise Failed("the sandbox has ended")
    cluster.wait_ended("bulk", devices + FEW, 120)
    if cluster.workers() != workers:
        raise Failed("a worker was started anew")
    cluster.check_ledger(sandbox, [few, letter])
    with open(sandbox.ledger) as ledger:
        rows = [line.rstrip("\n").split("\t") for line in ledger]
    sizes = sorted(int(row[9]) for row in rows)[FEW:]
    say("in flight %d at most, %d samples of %d with %d or more; bodies %d to %d bytes; RssAnon %.1f MB before, %.1f MB at most" %
        (most, full, samples, wanted, sizes[0], sizes[-1], before / 1024, rss / 1024))
    if full < FULL_MIN:
        raise Failed("%d were not in flight for a second" % wanted)
    if sizes[0] < 1024 or len({row[10] for row in rows}) < devices:
        raise Failed("bodies are below 1 kB or not different for every person")
    cluster.check_log()
    figure("rss_mb_dispatcher_10k", rss / 1024, "MB")


main(bench)
