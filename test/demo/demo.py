"""The demonstration: a shop, its customers' devices, and what notif does.

Six steps, each of which waits until what it claims has happened, and fails if
it does not.  The last one compares three independent accounts: what the shop
published, what notif says of it, and what the provider's stand-in received.
"""
import os
import subprocess
import sys
import time

import broadcast
from pq import PgError
from stage import KEEP, ROOT, TMP, Failed, LedgerLine, Stage, heading, on_sigterm, say, table

PEOPLE, CODE_PEOPLE = 100000, 2500
DEVICES = PEOPLE + PEOPLE // 5
PHONE, TABLET = "a1" * 32, "b2" * 32
WORKERS = 7


def order(shop, total):
    """What the shop does, and all it does: an INSERT and a COMMIT."""
    return int(shop.one("INSERT INTO shop.orders (customer, total) VALUES ('ada', %s) RETURNING id" % total))


def order_event(pg, number):
    """The event of an order, found by the correlation id that its trigger gave."""
    return pg.one("SELECT event FROM notif.trace_correlation('order-%d') LIMIT 1" % number)


def show_pushes(lines, started):
    for line in lines:
        device = {PHONE: "phone ", TABLET: "tablet"}[line.token]
        say("%s  after %.1f ms  apns-id %s" % (device, (line.at - started) * 1000, line.apns_id))
        say("        %s" % line.body)


class Demo:
    def __init__(self):
        self.stage = Stage()
        self.orders, self.code_events, self.news_event = [], [], None

    def run(self):
        self.start()
        self.two_devices()
        self.rollback()
        self.dead_token()
        self.trace()
        self.everybody()
        return self.account()

    def start(self):
        heading("A throw-away server, a shop, and a stand-in for Apple's push service")
        self.stage.open()
        cluster, sandbox = self.stage.cluster, self.stage.sandbox
        cluster.psql("shop.sql", port=sandbox.port, dir=sandbox.dir)
        self.pg, self.shop = cluster.connect(), cluster.connect("shop")
        self.stage.wait("the workers to start", lambda: int(self.pg.one(
            "SELECT count(*) FROM notif.workers WHERE state = 'running'")) == WORKERS, 60)
        say("PostgreSQL %s, %d workers of notif, fsync %s" % (
            self.pg.one("SHOW server_version").split(" ")[0], WORKERS, self.pg.one("SHOW fsync")))
        say("The shop has a table of orders whose trigger calls notif.publish: test/demo/shop.sql")

    def pushes(self, wanted, seconds=30):
        """Ada's pushes so far, once there are that many."""
        def enough():
            lines = self.stage.sandbox.received({PHONE, TABLET})
            return lines if len(lines) >= wanted else None
        return self.stage.wait("push %d to Ada" % wanted, enough, seconds)

    def two_devices(self):
        heading("1. Ada orders something: her phone and her tablet are told")
        started = time.time()
        number = order(self.shop, "49.90")
        self.orders.append(number)
        say("INSERT INTO shop.orders ...  -- order %d, committed" % number)
        lines = self.pushes(2)
        if sorted(line.token for line in lines) != [PHONE, TABLET]:
            raise Failed("the pushes went to %s" % [line.token for line in lines])
        show_pushes(lines, started)
        say("(The first after a start: connecting and planning took most of the time.)")

    def rollback(self):
        heading("2. An order is rolled back: nobody is told")
        self.shop.rows("BEGIN")
        gone = order(self.shop, "1999.00")
        self.shop.rows("ROLLBACK")
        say("BEGIN; INSERT ...; ROLLBACK   -- order %d never was" % gone)
        # What was published earlier would arrive earlier: the next order's
        # pushes prove that none of the other one is under way.
        started = time.time()
        number = order(self.shop, "12.50")
        self.orders.append(number)
        say("INSERT INTO shop.orders ...  -- order %d, committed" % number)
        lines = self.pushes(4)
        show_pushes(lines[2:], started)
        said = [line for line in lines if "order %d " % gone in line.body]
        if said or len(lines) != 4 or order_event(self.pg, gone):
            raise Failed("something of order %d was sent or stored" % gone)
        say("At the provider: two pushes for each of the orders %d and %d, none for order %d" %
            (self.orders[0], number, gone))

    def dead_token(self):
        heading("3. Ada deletes the app on her tablet: its token is pruned")
        self.stage.sandbox.get("/token", hex=TABLET, state="dead")
        number = order(self.shop, "7.00")
        self.orders.append(number)
        say("The provider now answers 410 Unregistered for the tablet; order %d follows" % number)

        def endpoints():
            rows = self.pg.rows("SELECT device_id, token || '...', state, coalesce(reason, ''), state_at::timestamptz(0)"
                                " FROM notif.endpoints WHERE recipient = 'ada' ORDER BY device_id")
            return rows if dict((row[0], row[2]) for row in rows).get("tablet") == "invalid" else None
        rows = self.stage.wait("the tablet's endpoint to become invalid", endpoints)
        self.pushes(5)
        say("SELECT ... FROM notif.endpoints WHERE recipient = 'ada'")
        table([("device", "token", "state", "reason", "since")] + rows)
        # from now on there is one attempt less, not one more failure
        number = order(self.shop, "3.00")
        self.orders.append(number)
        self.pushes(6)
        say("Order %d went to the phone alone" % number)

    def trace(self):
        heading("4. What became of order %d's event" % self.orders[2])
        event = order_event(self.pg, self.orders[2])
        # the provider has the push a moment before notif has its answer
        self.stage.wait("both outcomes", lambda: int(self.pg.one(
            "SELECT count(*) FROM notif.trace('%s') WHERE step = 'outcome'" % event)) == 2)
        rows = self.pg.rows("""
            SELECT to_char(t.at, 'HH24:MI:SS.MS'), t.step, coalesce(t.recipient, ''), coalesce(e.device_id, ''),
                   coalesce(t.attempt::text, ''), coalesce(t.state, ''), coalesce(t.reason, ''),
                   coalesce(t.detail ->> 'latency_ms' || ' ms', '')
            FROM notif.trace('%s') WITH ORDINALITY
                t(at, step, recipient, endpoint, delivery, attempt, state, reason, detail, place)
            LEFT JOIN notif.endpoints e USING (endpoint)
            ORDER BY t.place""" % event)
        say("SELECT ... FROM notif.trace('%s')" % event)
        table([("at", "step", "recipient", "device", "attempt", "state", "reason", "provider took")] + rows, right={4, 7})

    def everybody(self):
        heading("5. News for %s people, while one-time codes go through" % format(PEOPLE, ","))
        started = time.monotonic()
        cluster = self.stage.cluster
        cluster.psql("people.sql", people=PEOPLE, codes=CODE_PEOPLE)
        devices = int(self.pg.one("SELECT count(*) FROM notif.endpoints WHERE starts_with(recipient, 'customer-')"))
        if devices != DEVICES:
            raise Failed("%d devices instead of %d" % (devices, DEVICES))
        say("%s people with %s devices made in %.1f s; %d codes a second to people of their own" %
            (format(PEOPLE, ","), format(devices, ","), time.monotonic() - started, broadcast.CODES_PER_S))
        # in the order in which the codes will ask for them
        tokens = [row[0] for row in self.pg.rows(
            "SELECT md5('c' || n) || md5(n || 'c') FROM generate_series(1, %d) n" % CODE_PEOPLE)]

        def publish_news():
            say("SELECT notif.publish('shop.news', topic => 'shop-news', data => ...)")
            return self.shop.one("SELECT notif.publish('shop.news', topic => 'shop-news', "
                                 "data => '{\"headline\": \"Everything must go\"}')")
        self.news_event, took, codes, self.during, self.quiet = broadcast.run(
            self.stage, cluster.connect("shop"), self.pg, tokens, DEVICES, publish_news)
        self.code_events = codes.events
        say("%s pushes in %.1f s = %s/s, from the publish to the last recorded answer" %
            (format(DEVICES, ","), took, format(round(DEVICES / took), ",")))

    # -- the account --

    def export(self):
        """Every delivery as the checker wants it: COPY writes it, server and demo being one user."""
        path = os.path.join(TMP, "deliveries.tsv")
        # notif.deliveries has the newest outcome of each; how many attempts
        # ended unknown is told by the older ones
        self.pg.rows("""
            COPY (SELECT d.delivery, d.state, coalesce(u.n, 0), c.on_unknown, d.event, d.type
                  FROM notif.deliveries d
                  JOIN notif.types t ON t.name = d.type
                  JOIN notif.categories c ON c.name = t.category
                  LEFT JOIN (SELECT o.delivery, count(*) AS n FROM notif_private.outcome o WHERE o.state = 'unknown'
                             GROUP BY o.delivery) u USING (delivery)
                  WHERE d.endpoint IS NOT NULL) TO '%s'""" % path)
        return path

    def producer(self):
        """What the shop knows that it committed, one event a line."""
        committed = [int(row[0]) for row in self.pg.rows("SELECT id FROM shop.orders ORDER BY id")]
        if committed != self.orders:
            raise Failed("the shop has the orders %s, committed were %s" % (committed, self.orders))
        events = [order_event(self.pg, number) for number in committed] + self.code_events + [self.news_event]
        path = os.path.join(TMP, "producer.txt")
        with open(path, "w") as file:
            file.writelines("%s\n" % event for event in events)
        return path

    def settled(self):
        rows = self.pg.rows("SELECT coalesce(sum(n), 0) FROM notif.state WHERE state IN ('open', 'in_flight')")
        return rows[0][0] == "0"

    def account(self):
        heading("6. What happened")
        self.stage.wait("the last outcomes", self.settled)
        lines = int(self.stage.sandbox.get("/ledger/count"))
        stats = self.stage.sandbox.stats()
        export, producer = self.export(), self.producer()

        # what the shop did implies these, whatever notif or the sandbox say
        implied = {"order.placed": (len(self.orders), 2 * len(self.orders) - 1),
                   "login.code": (len(self.code_events), len(self.code_events)),
                   "shop.news": (1, DEVICES)}
        types = list(implied)
        type_of, tally = {}, {name: {"all": 0, "accepted": 0, "failed": 0, "other": 0} for name in types}
        with open(export) as file:
            for row in file:
                delivery, state, _, _, _, name = row.rstrip("\n").split("\t")
                type_of[delivery] = name
                tally[name]["all"] += 1
                tally[name][state if state in ("accepted", "failed") else "other"] += 1
        at_provider, twice, seen = dict.fromkeys(types, 0), dict.fromkeys(types, 0), set()
        with open(self.stage.sandbox.ledger) as file:
            for row in file:
                line = LedgerLine(row)
                name = type_of.get(line.apns_id)
                if name:        # the checker below counts what nobody knows
                    at_provider[name] += line.apns_id not in seen
                    twice[name] += line.apns_id in seen
                    seen.add(line.apns_id)
        table([("type", "published", "deliveries", "accepted", "failed", "other", "at the provider", "duplicates")] +
              [(name, implied[name][0], tally[name]["all"], tally[name]["accepted"], tally[name]["failed"],
                tally[name]["other"], at_provider[name], twice[name]) for name in types], right=set(range(1, 8)))
        say("The one that failed is the push to the tablet without the app.")
        say()
        table([("one-time codes, publish to provider", "count", "p50", "p99", "slowest")] +
              [(label, len(values)) + tuple("%.1f ms" % value for value in (
                  broadcast.percentile(values, 0.5), broadcast.percentile(values, 0.99), max(values)))
               for label, values in (("while the news went out", self.during), ("before and after", self.quiet)) if values],
              right={1, 2, 3, 4})
        say()

        problems = []
        for name in types:
            failed = 1 if name == "order.placed" else 0
            expected = {"all": implied[name][1], "accepted": implied[name][1] - failed, "failed": failed, "other": 0}
            if tally[name] != expected:
                problems.append("%s: the shop implies %s, notif says %s" % (name, expected, tally[name]))
            if at_provider[name] != tally[name]["accepted"]:
                problems.append("%s: %d at the provider, %d accepted" % (name, at_provider[name], tally[name]["accepted"]))
        if stats["accepted"] + stats["withheld"] != lines:
            problems.append("the sandbox counts %s, its ledger has %d lines" % (stats, lines))
        checker = subprocess.run([sys.executable, os.path.join(ROOT, "test/sandbox/check_ledger.py"),
                                  self.stage.sandbox.ledger, export, "--producer", producer],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        say("ledger checker: " + checker.stdout.decode().strip())
        if checker.returncode != 0:
            problems.append("the checker does not agree")
        audit = self.pg.rows("SELECT tier, state, tallied, recounted FROM notif.audit() WHERE NOT agrees")
        say("notif.audit():  " + ("running counts and rows agree" if not audit else str(audit)))
        if audit:
            problems.append("notif's running counts and its rows disagree")
        sick = self.pg.rows("SELECT check_name, value, hint FROM notif.health() WHERE NOT ok")
        say("notif.health(): " + ("all is well" if not sick else "; ".join("%s: %s" % row[:2] for row in sick)))
        for problem in problems:
            say("DISAGREEMENT: " + problem)
        if not problems:
            say("The shop, notif and the provider agree.")
        return not problems


def main():
    on_sigterm()
    started = time.monotonic()
    demo, agreed = Demo(), False
    try:
        agreed = demo.run()
        print("\ndemo: %s, %.0f s" % ("done" if agreed else "FAILED, the accounts disagree", time.monotonic() - started),
              flush=True)
    except KeyboardInterrupt:
        print("\ndemo: interrupted", flush=True)
        if KEEP:
            demo.stage.explain_keep()
        sys.exit(130)
    except (Failed, PgError, OSError) as failure:
        print("\ndemo: FAILED: %s" % str(failure).strip(), flush=True)
    if not agreed and demo.stage.cluster:
        print("--- the end of the server's log (whole: build/log/%s)" % os.path.basename(demo.stage.cluster.log))
        for line in demo.stage.cluster.log_tail():
            print("    " + line)
    if KEEP:
        demo.stage.explain_keep()
    sys.exit(0 if agreed else 1)


main()
