"""What the demonstration runs on: a throw-away server, the sandbox, a terminal.

Both are stopped at exit unless KEEP=1.  A wait is on a condition, with a
deadline, and ends early when the server or the sandbox dies.
"""
import atexit
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request

from pq import Pg

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(ROOT, "test", "demo")
STAGE = os.environ["NOTIF_STAGE"]
TMP = os.environ["TMPDIR"]
LOG = os.environ["NOTIF_LOG"]
KEEP = os.environ.get("KEEP") == "1"
DATABASE = "shop"


class Failed(Exception):
    """Something did not happen; the text says what."""


# ---- the terminal -----------------------------------------------------------

TTY = sys.stdout.isatty()


def heading(text):
    print("\n%s%s%s" % ("\033[1m" if TTY else "", text, "\033[0m" if TTY else ""), flush=True)


def say(text=""):
    print("   " + text if text else "", flush=True)


def table(rows, right=()):
    """Rows of texts under the first as header; right: columns of numbers."""
    widths = [max(len(str(row[c])) for row in rows) for c in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [str(cell).rjust(w) if c in right else str(cell).ljust(w)
                 for c, (cell, w) in enumerate(zip(row, widths))]
        say("  ".join(cells).rstrip())
        if number == 0:
            say("  ".join("-" * w for w in widths))


class Progress:
    """One line that is rewritten on a terminal, else a line every few seconds."""

    def __init__(self, every_s=3):
        self.every, self.told = every_s, 0.0

    def show(self, text, last=False):
        if TTY:
            width = shutil.get_terminal_size().columns - 4
            sys.stdout.write("\r\033[K   " + text[:width] + ("\n" if last else ""))
            sys.stdout.flush()
        elif last or time.monotonic() - self.told >= self.every:
            self.told = time.monotonic()
            say(text)


# ---- the provider's stand-in ------------------------------------------------

class Sandbox:
    def __init__(self):
        self.dir = os.path.join(TMP, "sandbox")
        os.makedirs(self.dir)
        with open(os.path.join(LOG, "demo-sandbox.log"), "w") as log:
            self.process = subprocess.Popen(
                [os.path.join(ROOT, "test/sandbox/notif-sandbox"), "--dir", self.dir, "--log-bodies"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        if not KEEP:
            atexit.register(self.stop)
        self.pid = self.process.pid
        self.pidfd = os.pidfd_open(self.pid)
        ports = os.path.join(self.dir, "ports")
        deadline = time.monotonic() + 20
        while not os.path.exists(ports):
            if time.monotonic() > deadline or select.select([self.pidfd], [], [], 0.02)[0]:
                raise Failed("the sandbox does not start: build/log/demo-sandbox.log")
        with open(ports) as file:
            found = dict(line.strip().split("=") for line in file)
        self.port = int(found["apns"])
        self.url = "http://127.0.0.1:" + found["control"]
        self.ledger = os.path.join(self.dir, "ledger.tsv")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def get(self, path, **arguments):
        if arguments:
            path += "?" + urllib.parse.urlencode(arguments)
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read().decode()

    def stats(self):
        return json.loads(self.get("/stats"))

    def received(self, tokens):
        """The ledger's lines for these device tokens, in order of arrival."""
        self.get("/ledger/count")       # answers once the file is up to date
        with open(self.ledger) as file:
            lines = [LedgerLine(line) for line in file]
        return [line for line in lines if line.token in tokens]


class LedgerLine:
    def __init__(self, line):
        cells = line.rstrip("\n").split("\t", 11)
        self.at = int(cells[0]) / 1e6
        self.apns_id, self.token = cells[3], cells[4]
        self.status = int(cells[8])
        self.body = cells[11] if len(cells) > 11 else ""


class LedgerTail:
    """Reads what is appended to the ledger: (time, token) of each line."""

    def __init__(self, path):
        self.file, self.rest = open(path, "rb"), b""
        self.file.seek(0, os.SEEK_END)

    def lines(self):
        data = self.rest + self.file.read()
        end = data.rfind(b"\n") + 1
        self.rest = data[end:]
        for line in data[:end].splitlines():
            cells = line.split(b"\t", 5)
            yield int(cells[0]) / 1e6, cells[4].decode()


# ---- the server -------------------------------------------------------------

# Apart from these the server is as PostgreSQL ships it, fsync included.  It
# listens on a socket in its own directory only, where every port is free.
SETTINGS = {
    "shared_preload_libraries": "notif",
    "notif.databases": DATABASE,
    "max_worker_processes": "24",
    "shared_buffers": "256MB",
    "listen_addresses": "",
    "port": "5432",
    "log_line_prefix": "%m [%p] %b %q%d/%a ",
}


class Cluster:
    def __init__(self):
        self.dir = os.path.join(TMP, "pg")
        self.data = os.path.join(self.dir, "data")
        self.socket = os.path.join(self.dir, "s")
        self.log = os.path.join(LOG, "demo-server.log")
        self.pid = None
        os.makedirs(self.socket)

    def start(self):
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        with open(os.path.join(self.data, "postgresql.conf"), "a") as conf:
            for key, value in SETTINGS.items():
                conf.write("%s = '%s'\n" % (key, value))
            conf.write("unix_socket_directories = '%s'\n" % self.socket)
        if not KEEP:
            atexit.register(self.stop)
        self.run("pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", "60", "start")
        with open(os.path.join(self.data, "postmaster.pid")) as file:
            self.pid = int(file.readline())
        self.pidfd = os.pidfd_open(self.pid)
        pg = self.connect("postgres", "postgres")
        pg.rows("CREATE DATABASE " + DATABASE)
        pg.close()

    @staticmethod
    def run(*command):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False)
        if done.returncode != 0:
            raise Failed("%s failed: %s" % (command[0], done.stdout.decode(errors="replace")[-2000:]))

    def connect(self, user="postgres", database=DATABASE):
        return Pg("host=%s port=5432 user=%s dbname=%s application_name=demo" % (self.socket, user, database))

    def psql(self, script, **variables):
        command = ["psql", "-X", "-q", "-o", os.devnull, "-v", "ON_ERROR_STOP=1", "-h", self.socket, "-p", "5432",
                   "-U", "postgres", "-d", DATABASE]
        for name, value in variables.items():
            command += ["-v", "%s=%s" % (name, value)]
        self.run(*command, "-f", os.path.join(HERE, script))

    def stop(self):
        for mode in ("fast", "immediate"):
            if subprocess.run(["pg_ctl", "-D", self.data, "-w", "-t", "30", "-m", mode, "stop"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              check=False).returncode == 0:
                return

    def log_tail(self, lines=30):
        try:
            with open(self.log, errors="replace") as file:
                return file.read().splitlines()[-lines:]
        except OSError:
            return []


class Stage:
    """Server and sandbox together, and waiting for what they do."""

    def __init__(self):
        self.cluster = self.sandbox = None

    def open(self):
        self.cluster = Cluster()
        self.sandbox = Sandbox()
        self.cluster.start()

    def pause(self, seconds, *readers):
        """Until a reader is ready or the time is up; a death is an error."""
        fds = [self.cluster.pidfd, self.sandbox.pidfd, *readers]
        ready = select.select(fds, [], [], max(0, seconds))[0]
        if self.cluster.pidfd in ready:
            raise Failed("the server has ended")
        if self.sandbox.pidfd in ready:
            raise Failed("the sandbox has ended: build/log/demo-sandbox.log")

    def wait(self, what, condition, seconds=30):
        """The condition's first true result, asked for every 20 ms."""
        deadline = time.monotonic() + seconds
        while True:
            result = condition()
            if result:
                return result
            if time.monotonic() > deadline:
                raise Failed("after %d s still waiting for %s" % (seconds, what))
            self.pause(0.02)

    def write_stop(self):
        """A script that ends what KEEP=1 leaves, for the same user or root."""
        path = os.path.join(STAGE, "stop")
        with open(path, "w") as file:
            file.write("#!/bin/sh\n# stops the demonstration's server and sandbox and removes their files\n"
                       "kill -INT %d 2>/dev/null; kill -TERM %d 2>/dev/null\n"
                       "timeout 60 tail --pid=%d -f /dev/null && rm -rf '%s'\n" %
                       (self.cluster.pid, self.sandbox.pid, self.cluster.pid, STAGE))
        os.chmod(path, 0o755)
        return path

    def explain_keep(self):
        if self.sandbox is None:
            return
        if self.cluster.pid is None:
            self.sandbox.stop()
            return
        heading("It is still running")
        psql = shutil.which("psql")
        say("connect:  %s -h %s -p 5432 -U postgres %s" % (psql, self.cluster.socket, DATABASE))
        say("sandbox:  curl '%s/stats'     (switches: test/sandbox/README.md)" % self.sandbox.url)
        say("ledger:   %s" % self.sandbox.ledger)
        say("log:      %s" % self.cluster.log)
        say("stop:     %s" % self.write_stop())


def on_sigterm():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
