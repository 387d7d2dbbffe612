"""What the benches share: throw-away servers, sandboxes, load, process figures.

Everything started here is stopped at exit, whatever happens.  A wait is on a
condition, with a deadline, and ends early when the sandbox or the server dies.
"""
import atexit
import os
import re
import select
import signal
import statistics
import subprocess
import sys
import time
import urllib.request

from pq import Pg

SMALL = os.environ.get("SMALL") == "1"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TMP = os.environ["TMPDIR"]
LOG = os.environ["NOTIF_LOG"]
DATABASE = "bench"
TICK = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A rule of the bench was broken; its figures would mean nothing."""


def say(text):
    print("  " + text, file=sys.stderr, flush=True)


def figure(name, value, unit):
    if isinstance(value, float):
        value = "%.4g" % value if abs(value) < 1000 else "%.0f" % value
    print("%s\t%s\t%s" % (name, value, unit), flush=True)


def setting(name, normal, small):
    """A number of the bench: from the environment, else by size of the run."""
    return int(os.environ.get(name) or (small if SMALL else normal))


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


# ---- processes --------------------------------------------------------------

def stat_fields(pid):
    """Of /proc/PID/stat from the state on (field 3); None if it is gone."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def cpu_s(pid, children=False):
    """CPU seconds of a process, or of its ended children; 0 if it is gone."""
    fields = stat_fields(pid)
    if fields is None:
        return 0.0
    first = 13 if children else 11
    return (int(fields[first]) + int(fields[first + 1])) / TICK


def children_of(parent):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat_fields(int(name))
            if fields and int(fields[1]) == parent:
                found.append(int(name))
    return found


def rss_anon_kb(pid):
    with open("/proc/%d/status" % pid) as file:
        return int(re.search(r"RssAnon:\s+(\d+)", file.read()).group(1))


def stop_process(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# ---- the provider's stand-in ------------------------------------------------

class Sandbox:
    def __init__(self, name, *options):
        self.dir = os.path.join(TMP, "sandbox-" + name)
        os.makedirs(self.dir)
        with open(os.path.join(LOG, "bench-%s-sandbox.log" % name), "w") as log:
            self.process = subprocess.Popen(
                [os.path.join(ROOT, "test/sandbox/notif-sandbox"), "--dir", self.dir, *options],
                stdout=log, stderr=log)
        atexit.register(stop_process, self.process)
        self.pid = self.process.pid
        self.pidfd = os.pidfd_open(self.pid)
        ports = os.path.join(self.dir, "ports")
        deadline = time.monotonic() + 20
        while not os.path.exists(ports):
            if time.monotonic() > deadline or self.rest(0.02):
                raise Failed("the sandbox does not start: build/log/bench-%s-sandbox.log" % name)
        with open(ports) as file:
            found = dict(line.strip().split("=") for line in file)
        self.port, self.control = int(found["apns"]), int(found["control"])
        self.ledger = os.path.join(self.dir, "ledger.tsv")

    def rest(self, seconds):
        """Passes the time to the next sample; True at once if the sandbox has ended."""
        return bool(select.select([self.pidfd], [], [], max(0, seconds))[0])

    def get(self, path):
        with urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.control, path), timeout=30) as answer:
            return answer.read().decode()

    def bearer(self):
        """A provider token, signed with the sandbox's key by openssl."""
        import base64

        def b64(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=")

        signed = b64(b'{"alg":"ES256","kid":"KEY1234567"}') + b"." + \
            b64(b'{"iss":"TEAM123456","iat":%d}' % int(time.time()))
        der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", os.path.join(self.dir, "apns_key.p8")],
                             input=signed, stdout=subprocess.PIPE, check=True).stdout
        # SEQUENCE of two INTEGERs, to r and s of 32 bytes each
        raw, at = b"", 2
        for _ in range(2):
            size = der[at + 1]
            raw += der[at + 2:at + 2 + size].lstrip(b"\0").rjust(32, b"\0")
            at += 2 + size
        return (signed + b"." + b64(raw)).decode()


# ---- the server -------------------------------------------------------------

# As PostgreSQL ships it but for these.  fsync, full_page_writes,
# synchronous_commit, wal_level, checkpoint and autovacuum settings are not
# touched: start() makes sure of the first three.
SETTINGS = {
    "shared_preload_libraries": "notif",
    "notif.databases": DATABASE,
    "max_worker_processes": "24",       # notif's nine, and parallel query's
    "shared_buffers": os.environ.get("SHARED_BUFFERS") or "256MB",
    "listen_addresses": "",
    "port": "5432",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %b %q%d/%a ",
    "log_checkpoints": "on",
}


# Limits of every delivery in several layers, all of which must pass; high
# enough that none stops a bench.  Up to 32 a window each send is kept by itself.
LIMITS = (("minute", 30, "1 minute"), ("hour", 100, "1 hour"), ("day", 200, "1 day"), ("week", 500, "7 days"))

# Everything that is written once per delivery or batch and must never be
# updated or deleted: name of the group, and its tables.
HOT = {
    "event": "event_[0-9]+", "outbox": "outbox_.+_[0-9]", "schedule": "schedule_.+_[0-9]+",
    "outcome": "outcome_.+_[0-9]+", "inbox": "inbox_[0-9]+", "cursors": "cursor_.+_[0-9]",
    "marks": "inbox_mark|inbox_read_up_to", "flights": "flight_.+_[0-9]", "tally": "tally_.+_[0-9]",
}


class Cluster:
    """A throw-away server with notif in it; conf_lines are added to its settings."""

    def __init__(self, name, conf_lines=()):
        self.name = name
        self.dir = os.path.join(TMP, "pg-" + name)
        self.data = os.path.join(self.dir, "data")
        self.log = os.path.join(LOG, "bench-%s-server.log" % name)
        self.connections = []
        os.makedirs(os.path.join(self.dir, "s"))
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                 "--locale=C.UTF-8")
        with open(os.path.join(self.data, "postgresql.conf"), "a") as conf:
            for key, value in SETTINGS.items():
                conf.write("%s = '%s'\n" % (key, value))
            conf.write("unix_socket_directories = '%s/s'\n" % self.dir)
            for line in conf_lines:
                conf.write(line + "\n")
            for extra in filter(None, os.environ.get("PGCONF", "").split(";")):
                conf.write(extra + "\n")
        self.conninfo = "host=%s/s port=5432 user=postgres dbname=" % self.dir
        self.run("pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", "60", "start")
        atexit.register(self.stop)
        with open(os.path.join(self.data, "postmaster.pid")) as file:
            self.postmaster = int(file.readline())
        pg = Pg(self.conninfo + "postgres")
        pg.rows("CREATE DATABASE " + DATABASE)
        pg.close()
        self.pg = self.connect()
        self.pg.rows("CREATE EXTENSION notif")
        for name, default in (("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "on")):
            if self.pg.one("SHOW " + name) != default:
                raise Failed("%s is not what PostgreSQL ships" % name)
        for extra in filter(None, os.environ.get("PGCONF", "").split(";")):
            say("not for figures: " + extra)

    @staticmethod
    def run(*command):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False)
        if done.returncode != 0:
            raise Failed("%s: %s" % (command[0], done.stdout.decode()[-2000:]))

    def connect(self):
        pg = Pg(self.conninfo + DATABASE)
        self.connections.append(pg)
        return pg

    def stop(self):
        atexit.unregister(self.stop)
        for pg in self.connections:
            pg.close()
        for mode in ("fast", "immediate"):
            if subprocess.run(["pg_ctl", "-D", self.data, "-w", "-t", "60", "-m", mode, "stop"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return

    def check_log(self):
        """A bench during which a worker failed has measured something else."""
        with open(self.log, errors="replace") as file:
            bad = [line.strip() for line in file
                   if re.search(r"PANIC:|terminated by signal|notif .*(ERROR|FATAL):", line)]
        for line in bad[:5]:
            say("server log: " + line[:300])
        if bad:
            raise Failed("%d errors in the server's log" % len(bad))

    # -- notif in it --

    def workers(self):
        """{(kind, tier): pid} once all seven run."""
        deadline = time.monotonic() + 60
        while True:
            rows = self.pg.rows("SELECT kind, coalesce(tier, ''), pid FROM notif.workers WHERE state = 'running'")
            if len(rows) >= 7:
                return {(kind, tier): int(pid) for kind, tier, pid in rows}
            if time.monotonic() > deadline:
                raise Failed("only %d of 7 workers run: %s" % (len(rows), self.pg.rows("SELECT * FROM notif.workers")))
            self.rest(0.1)

    def rest(self, seconds):
        """Passes the time to the next sample; an ended server is an error."""
        fd = os.pidfd_open(self.postmaster)
        try:
            if select.select([fd], [], [], max(0, seconds))[0]:
                raise Failed("the server has ended: build/log/" + os.path.basename(self.log))
        finally:
            os.close(fd)

    def define_provider(self, name, sandbox, route, app=None, connections=2):
        """A provider account at a sandbox and the route of an app (None: of all)."""
        self.pg.rows("""
            SELECT notif.define_provider('%(name)s', 'apns',
                jsonb_build_object('host', 'localhost', 'port', %(port)d, 'ca_file', '%(dir)s/ca.pem',
                                   'team_id', 'TEAM123456', 'key_id', 'KEY1234567', 'topic', 'com.example.shop',
                                   'max_connections', %(connections)d),
                key => 'file:%(dir)s/apns_key.p8');
            SELECT notif.define_route('%(route)s', 'push', ARRAY['%(name)s'], app => %(app)s)
            """ % {"name": name, "port": sandbox.port, "dir": sandbox.dir, "connections": connections, "route": route,
                   "app": "'%s'" % app if app else "NULL"})

    def define(self, sandbox, connections=2):
        """Provider, route and the types the benches publish."""
        self.define_provider("apns_main", sandbox, "push", connections=connections)
        self.pg.rows("""
            SELECT notif.define_category('bench');
            SELECT notif.define_type('news', 'bench', tier => 'bulk', title => 'News for {recipient.name}',
                body => 'Dear {recipient.name} of {recipient.city}, your {points} points of edition {edition} and the '
                        '{recipient.points} that you had before are worth a look: {recipient.note} This offer is for '
                        'you alone, number {recipient.ref}, and it ends on the last day of the month at midnight.');
            SELECT notif.define_type('code', 'bench', tier => 'critical', title => 'Your code',
                body => '{code} is your code, {recipient.name}');
            SELECT notif.define_type('shipped', 'bench', tier => 'standard', title => 'Order {order}',
                body => 'Hello {recipient.name}, order {order} over {total} {currency} is on its way')
            """)

    def limit(self, limits=LIMITS):
        """Rate limits for every delivery of category bench, and one that all of a type share."""
        for name, most, per in limits:
            self.pg.rows("SELECT notif.define_rate_limit('%s', %d, '%s')" % (name, most, per))
        self.pg.rows("SELECT notif.define_rate_limit('total', 1000000000, '1 hour', scope => 'type', type => 'news')")
        if self.pg.one("SELECT rate_limited FROM notif.categories WHERE name = 'bench'") != "t":
            raise Failed("the category is not rate limited")

    def choose(self):
        """Everybody who has not chosen yet: a preference for the category of the bench,
        quiet hours that are far away at this hour, a source that is muted, and consent
        that follows from a purchase, in a country where that is enough.  None of them
        stops anything, all of them are looked at."""
        fresh = "NOT EXISTS (SELECT FROM notif_private.profile p WHERE p.recipient_id = r.id)"
        for statement in (
                "INSERT INTO notif_private.preference (recipient_id, channel, category, frequency, turn, changed_at) "
                "SELECT r.id, 'push', c.number, 'realtime', 1, now() FROM notif_private.recipient r, notif_private.category c "
                "WHERE c.name = 'bench' AND " + fresh,
                "INSERT INTO notif_private.quiet_hours (recipient_id, day, starts, ends, changed_at) "
                "SELECT r.id, d, at, (at + 60) % 1440, now() FROM notif_private.recipient r, generate_series(1, 7) d, "
                "(SELECT ((extract(hour FROM now() AT TIME ZONE 'UTC')::integer + 11) % 24) * 60 AS at) x WHERE " + fresh,
                "INSERT INTO notif_private.mute (recipient_id, what, name, until, muted_at) "
                "SELECT r.id, 'source', 'another', 'infinity', now() FROM notif_private.recipient r WHERE " + fresh,
                "UPDATE notif_private.recipient r SET country = 'CA' WHERE " + fresh,
                "INSERT INTO notif_private.consent (recipient_id, channel, category, category_name, granted, kind, basis, source, "
                "at, recorded_at, recorded_by) SELECT r.id, 'push', c.number, c.name, true, 'implied', 'purchase', 'bench', "
                "now(), now(), current_user FROM notif_private.recipient r, notif_private.category c WHERE c.name = 'bench' AND " + fresh,
                # the definition is another's; the rules' compiler sees the column
                "UPDATE notif_private.category SET requires_consent = '{push}' WHERE name = 'bench'",
                "SELECT notif.install_region_rules()",
                "INSERT INTO notif_private.profile SELECT p.* FROM notif_private.recipient r "
                "CROSS JOIN LATERAL notif_private.profile_of(r.id) p WHERE " + fresh,
                "VACUUM (ANALYZE) notif_private.recipient, notif_private.profile, notif_private.quiet_hours, notif_private.mute, notif_private.preference"):
            self.pg.rows(statement)

    def load(self, recipients, share_of_two, topic=None, app="default"):
        """Recipients with random ids and devices; share_of_two in 100 have two.
        They are added to those there are and subscribed to the topic.  Returns
        how many devices they have.

        Set-based, into the tables and not through notif.register_device: what
        is measured is delivery.  Ids are random, and so is the order of rows
        in each table, so that no table is laid out in the order in which the
        router or the dispatcher will want it.
        """
        started = time.monotonic()
        before = int(self.pg.one("SELECT count(*) FROM notif_private.recipient"))
        self.pg.rows("""
            SET synchronous_commit = off;
            SELECT setseed(0.42 - %(before)d / 1e9);
            CREATE TEMP TABLE person AS
                SELECT id, %(before)d + row_number() OVER () AS n
                FROM (SELECT DISTINCT (random() * (1::bigint << 40))::bigint + 1 AS id
                      FROM generate_series(1, %(n)d + 1000)) x
                WHERE NOT EXISTS (SELECT FROM notif_private.recipient r WHERE r.id = x.id)
                LIMIT %(n)d;
            INSERT INTO notif_private.recipient (id, ref, locale, tz, attributes) OVERRIDING SYSTEM VALUE
                SELECT id, 'r' || n, 'en', 'Europe/Berlin',
                       jsonb_build_object('name', 'Person ' || n, 'city', 'City ' || (id %% 1000),
                                          'points', (id %% 10000)::text,
                                          'note', md5(id::text) || ' ' || md5((id + 1)::text))
                FROM person ORDER BY random();
            SELECT setval(pg_get_serial_sequence('notif_private.recipient', 'id'), 1::bigint << 41);
            SELECT notif_private.app_id('push', 'ios', '%(app)s');
            INSERT INTO notif_private.endpoint (recipient_id, app_id, channel, device_id, address, registered_at)
                SELECT id, notif_private.app_id('push', 'ios', '%(app)s'), 'push', 'device' || d,
                       md5(random()::text || id) || md5(random()::text || d), now()
                FROM person CROSS JOIN generate_series(1, 2) d
                WHERE d = 1 OR n %% 100 < %(two)d ORDER BY random();
            """ % {"n": recipients, "two": share_of_two, "before": before, "app": app}, timeout_s=1200)
        devices = int(self.pg.one("SELECT count(*) FROM notif_private.endpoint e JOIN person p ON p.id = e.recipient_id"))
        if topic:
            self.subscribe(topic, "SELECT id FROM person")
        self.pg.rows("DROP TABLE person; RESET synchronous_commit")
        self.pg.rows("VACUUM (ANALYZE) notif_private.recipient, notif_private.endpoint, notif_private.subscription")
        say("loaded %d recipients with %d devices in %.1f s" % (recipients, devices, time.monotonic() - started))
        return devices

    def subscribe(self, topic, ids):
        """Subscribes what the query ids returns to a topic, made if it is not there."""
        self.pg.rows("""
            SELECT notif.create_topic('%s');
            INSERT INTO notif_private.subscription (topic_id, recipient_id)
                SELECT (SELECT id FROM notif_private.topic WHERE name = '%s'), x.id FROM (%s) x ORDER BY random()
            """ % (topic, topic, ids), timeout_s=1200)

    def publish_topic(self, topic, edition, type_="news"):
        return self.pg.one("SELECT notif.publish('%s', topic => '%s', data => '{\"edition\": %d, \"points\": %d}', "
                           "source => 'editors', thread => 'news')" %
                           (type_, topic, edition, 1000 + edition))

    def counts(self, tier, pg=None):
        """What became of the tier's deliveries: {state: n}, and 'ended' of them."""
        counts = {state: int(n) for state, n in
                  (pg or self.pg).rows("SELECT state, n FROM notif.state WHERE tier = '%s'" % tier)}
        counts["ended"] = sum(n for state, n in counts.items() if state not in ("scheduled", "expanded", "open", "in_flight"))
        return counts

    def wait_counts(self, tier, condition, seconds, wish):
        """Until condition(counts of the tier) holds; returns them.  wish says which."""
        deadline = time.monotonic() + seconds
        while True:
            counts = self.counts(tier)
            if condition(counts):
                return counts
            if time.monotonic() > deadline:
                raise Failed("after %d s not %s: %s" % (seconds, wish, counts))
            self.rest(0.1)

    def wait_ended(self, tier, wanted, seconds):
        """Until that many deliveries of the tier have ended and none is left."""
        return self.wait_counts(tier, lambda c: c["ended"] >= wanted and c["open"] == 0 and c["in_flight"] == 0,
                                seconds, "%d ended and none left" % wanted)

    def check_ledger(self, sandboxes, events):
        """Joins the ledgers of one or more sandboxes with the database; raises
        if they disagree, returns the checker's numbers.

        What must be there are the devices, as they are registered now, of all
        whom these events were for.  An attempt is unknown if bytes left and no
        answer came, whatever it led to.
        """
        if isinstance(sandboxes, Sandbox):
            sandboxes = [sandboxes]
        lines = sum(int(sandbox.get("/ledger/count")) for sandbox in sandboxes)
        export, producer = os.path.join(TMP, "deliveries.tsv"), os.path.join(TMP, "producer.txt")
        with open(producer, "w") as file:
            file.writelines(event + "\n" for event in events)
        self.pg.rows("""
            COPY (SELECT x.delivery, coalesce(o.state::text, 'open'), coalesce(o.unknown, 0), 'retry', x.event
                  FROM (SELECT notif_private.delivery_id(v.id, p.id) AS delivery, v.id AS event
                        FROM notif_private.event v
                        CROSS JOIN LATERAL (SELECT unnest(v.recipients) UNION ALL
                                            SELECT s.recipient_id FROM notif_private.subscription s
                                            WHERE s.topic_id = v.topic_id) r(id)
                        JOIN notif_private.endpoint p ON p.recipient_id = r.id
                        WHERE v.id = ANY ('{%s}')) x
                  LEFT JOIN (SELECT delivery, (array_agg(state ORDER BY attempt DESC))[1] AS state,
                                    count(*) FILTER (WHERE state IN ('unknown', 'held') OR reason = 'worker_lost'
                                        OR (state = 'failed' AND status IS NULL AND reason LIKE 'retries_exhausted:%%')
                                        OR (state = 'expired' AND status IS NULL AND flight IS NOT NULL)) AS unknown
                             FROM notif_private.outcome GROUP BY delivery) o USING (delivery)
            ) TO '%s'""" % (",".join(events), export), timeout_s=1200)
        done = subprocess.run([sys.executable, os.path.join(ROOT, "test/sandbox/check_ledger.py"),
                               ":".join(sandbox.ledger for sandbox in sandboxes), export, "--producer", producer],
                              stdout=subprocess.PIPE, check=False)
        text = done.stdout.decode().strip()
        say("checker: %s (%d lines in the ledger)" % (text, lines))
        os.unlink(export)
        if done.returncode != 0:
            raise Failed("the checker does not agree")
        return {name: int(n) for name, n in re.findall(r"(\w+) (\d+)", text)}

    def check_audit(self):
        """The tally against a recount from the rows."""
        wrong = self.pg.rows("SELECT * FROM notif.audit() WHERE NOT agrees", timeout_s=1200)
        if wrong:
            raise Failed("a recount does not agree: %s" % wrong)

    def dead_tuples(self):
        """{group of HOT: dead tuples}, counted in the pages.

        A group counts at least as many as rows of its tables were ever updated
        or deleted: what a TRUNCATE or a vacuum has taken away was there.
        """
        self.pg.rows("SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS pgstattuple")
        dead = {}
        for group, tables in HOT.items():
            found, counted, touched = self.pg.rows("""
                SELECT count(*),
                       sum(d.dead_tuple_count + CASE WHEN c.reltoastrelid <> 0 THEN
                           (SELECT t.dead_tuple_count FROM pgstattuple(c.reltoastrelid) t) ELSE 0 END),
                       sum(coalesce(pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid), 0))
                FROM pg_class c
                CROSS JOIN LATERAL pgstattuple(c.oid) d
                WHERE c.relnamespace = 'notif_private'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^(%s)$'
                """ % tables, timeout_s=1200)[0]
            if found == "0":
                raise Failed("no table of %s was found" % group)
            dead[group] = max(int(counted), int(touched))
        return dead

    def dead_rates(self):
        """Dead tuples of rate, the one table that is updated."""
        self.pg.rows("SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS pgstattuple")
        return int(self.pg.one("SELECT dead_tuple_count FROM pgstattuple('notif_private.rate')"))

    def lsn(self, function):
        return int(self.pg.one("SELECT %s() - '0/0'::pg_lsn" % function))

    def cpu(self, sandbox):
        """CPU seconds so far: {pid: s}; 'ended' are children that are gone."""
        used = {pid: cpu_s(pid) for pid in children_of(self.postmaster)}
        used["postmaster"] = cpu_s(self.postmaster)
        used["ended"] = cpu_s(self.postmaster, children=True)
        used["sandbox"] = cpu_s(sandbox.pid)
        return used


def main(bench):
    """Runs a bench; a broken rule becomes one line and status 1."""
    os.makedirs(LOG, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if SMALL:
        say("SMALL=1: a smoke test, not figures")
    started = time.monotonic()
    try:
        bench()
    except Failed as broken:
        say("rule broken: %s" % broken)
        sys.exit(1)
    say("done in %.0f s" % (time.monotonic() - started))


median = statistics.median
