#!/usr/bin/env python3
"""Proves that notif-sandbox keeps Apple's contract and that its switches work.

Starts the program in a directory of its own, talks to it with h2client.py
and prints "N passed, M failed".  Needs the openssl command for signing.
"""
import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import h2client                                             # noqa: E402
from h2client import Client, MAX_CONCURRENT_STREAMS         # noqa: E402

TOKEN = "ab" * 32
TOPIC = "com.example.shop"
BODY = b'{"aps":{"alert":"hello"}}'


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class Sandbox:
    def __init__(self, binary, *options):
        self.dir = tempfile.mkdtemp(prefix="notif-sandbox-")
        self.process = subprocess.Popen([binary, "--dir", self.dir, *options])
        end = time.monotonic() + 20
        while not os.path.exists(self.path("ports")):
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError("the sandbox did not start")
            os.sched_yield()
        self.ports = dict(line.strip().split("=") for line in open(self.path("ports")))
        self.connections = []

    def path(self, name):
        return os.path.join(self.dir, name)

    def get(self, path):
        try:
            with urllib.request.urlopen("http://127.0.0.1:%s%s" % (self.ports["control"], path),
                                        timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def fault(self, query):
        status, text = self.get("/fault?" + query)
        if status != 200:
            raise RuntimeError("fault %s: %s" % (query, text))

    def stats(self):
        return json.loads(self.get("/stats")[1])

    def connect(self, **kwargs):
        client = Client(int(self.ports["apns"]), self.path("ca.pem"), **kwargs)
        self.connections.append(client)
        return client

    def ledger(self, name="ledger.tsv"):
        return [line.rstrip("\n").split("\t") for line in open(self.path(name))]

    def sign(self, key=None, header=None, claims=None, iat=None):
        header = header or {"alg": "ES256", "kid": "KEY1234567"}
        claims = claims or {"iss": "TEAM123456", "iat": int(iat or time.time())}
        text = b64(json.dumps(header).encode()) + b"." + b64(json.dumps(claims).encode())
        der = subprocess.run(["openssl", "dgst", "-sha256", "-sign",
                              key or self.path("apns_key.p8")],
                             input=text, stdout=subprocess.PIPE, check=True).stdout
        size = der[3]
        r, s = der[4:4 + size], der[6 + size:]
        raw = b"".join(int.from_bytes(n, "big").to_bytes(32, "big") for n in (r, s))
        return (text + b"." + b64(raw)).decode()

    def fresh(self):
        """Everything back to the start, connections closed."""
        for client in self.connections:
            client.close()
        self.connections = []
        self.get("/reset")

    def stop(self):
        self.process.terminate()
        code = self.process.wait(10)
        shutil.rmtree(self.dir)
        return code


def headers(jwt, token=TOKEN, **changes):
    fields = {":method": "POST", ":scheme": "https", ":authority": "localhost",
              ":path": "/3/device/" + token,
              "authorization": "bearer " + jwt if jwt else None,
              "apns-id": str(uuid.uuid4()), "apns-topic": TOPIC, "apns-push-type": "alert",
              "apns-priority": "10"}
    for name, value in changes.items():
        name = ":" + name[1:] if name.startswith("_") else name.replace("_", "-")
        fields[name] = value
    return [(name, value) for name, value in fields.items() if value is not None]


class Tests:
    def __init__(self, sandbox):
        self.box = sandbox
        self.passed = self.failed = 0
        self.jwt = sandbox.sign()

    def check(self, name, got, want):
        if got == want:
            self.passed += 1
        else:
            self.failed += 1
            print("not ok: %s: got %r, want %r" % (name, got, want))

    def push(self, client, body=BODY, jwt=None, **changes):
        return client.wait(client.request(headers(jwt or self.jwt, **changes), body))

    def open(self, **kwargs):
        """A connection past its ramp."""
        client = self.box.connect(**kwargs)
        self.push(client)
        client.until(lambda: client.settings.get(MAX_CONCURRENT_STREAMS) == 1000)
        return client

    def refused(self, name, client, status, reason, body=BODY, raw=None, **changes):
        fields = raw or headers(changes.pop("jwt", self.jwt), **changes)
        stream = client.wait(client.request(fields, body))
        got = json.loads(stream.body or b"{}").get("reason")
        self.check(name, (stream.status, got), (str(status), reason))
        return stream

    # ---- the contract ----

    def test_accepts(self):
        client = self.box.connect()
        ident = str(uuid.uuid4())
        stream = self.push(client, apns_id=ident)
        self.check("200", (stream.status, stream.body), ("200", b""))
        self.check("apns-id echoed", stream.headers.get("apns-id"), ident)
        stream = self.push(client, apns_id=None)
        self.check("apns-id made up", bool(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
                                                        stream.headers["apns-id"])), True)
        line = self.box.ledger()[0]
        self.check("ledger line", line[3:10], [ident, TOKEN, TOPIC, "alert", "-", "200",
                                               str(len(BODY))])
        self.check("ledger count", self.box.get("/ledger/count")[1], "2\n")
        found = self.box.get("/ledger/find?apns_id=" + ident)[1]
        self.check("ledger find", found.rstrip("\n").split("\t"), line)
        self.check("find of an unknown id",
                   self.box.get("/ledger/find?apns_id=%s" % uuid.uuid4()), (200, ""))

    def test_order(self):
        """Faults are added from the last check to the first: the first wins."""
        client = self.open()
        dead = "cd" * 32
        self.box.get("/token?hex=%s&state=unregistered_at:1700000000123" % dead)
        steps = [
            (413, "PayloadTooLarge", {"body": b"x" * 4097}),
            (403, "MissingProviderToken", {"authorization": None}),
            (410, "Unregistered", {"_path": "/3/device/" + dead}),
            (400, "BadDeviceToken", {"_path": "/3/device/" + "g" * 64}),
            (400, "MissingDeviceToken", {"_path": "/3/device/"}),
            (400, "InvalidPushType", {"apns_push_type": "loud"}),
            (400, "BadPriority", {"apns_priority": "7"}),
            (400, "BadCollapseId", {"apns_collapse_id": "c" * 65}),
            (400, "MissingTopic", {"apns_topic": None}),
            (405, "MethodNotAllowed", {"_method": "PUT"}),
            (400, "BadMessageId", {"apns_id": "not-a-uuid"}),
        ]
        changes = {}
        for status, reason, change in steps:
            changes.update(change)
            stream = self.refused("order: " + reason, client, status, reason, **changes)
            if reason == "Unregistered":
                self.check("410 timestamp", json.loads(stream.body)["timestamp"], 1700000000123)
        self.check("each refusal in the file", [line[10] for line in self.box.ledger("refused.tsv")],
                   [reason for _, reason, _ in steps])

    def test_single_checks(self):
        client = self.open()
        self.refused("path", client, 404, "BadPath", _path="/4/device/" + TOKEN)
        self.refused("odd token", client, 400, "BadDeviceToken", token="a" * 63)
        self.refused("long token", client, 400, "BadDeviceToken", token="a" * 300)
        self.refused("empty body", client, 400, "PayloadEmpty", body=b"")
        self.refused("expiration", client, 400, "BadExpirationDate", apns_expiration="soon")
        self.refused("background 10", client, 400, "BadPriority", apns_push_type="background")
        self.refused("topic of another type", client, 400, "BadTopic", apns_push_type="voip")
        raw = headers(self.jwt) + [("apns-priority", "10")]
        self.refused("duplicate header", client, 400, "DuplicateHeaders", raw=raw)
        self.check("4096 bytes", self.push(client, body=b"x" * 4096).status, "200")
        voip = {"apns_push_type": "voip", "apns_topic": TOPIC + ".voip"}
        self.check("voip 5120", self.push(client, body=b"x" * 5120, **voip).status, "200")
        self.refused("voip 5121", client, 413, "PayloadTooLarge", body=b"x" * 5121, **voip)
        live = {"apns_push_type": "liveactivity", "apns_topic": TOPIC + ".push-type.liveactivity"}
        self.check("liveactivity", self.push(client, **live).status, "200")
        self.check("background 5", self.push(client, apns_push_type="background",
                                             apns_priority="5").status, "200")
        self.check("collapse id of 64", self.push(client, apns_collapse_id="c" * 64).status, "200")
        self.check("no push type", self.push(client, apns_push_type=None).status, "200")

    def test_device_tokens(self):
        client = self.open()
        for state, status, reason in (("dead", 410, "Unregistered"), ("expired", 410, "ExpiredToken"),
                                      ("wrong", 400, "BadDeviceToken"),
                                      ("mismatch&topic=com.example.other", 400,
                                       "DeviceTokenNotForTopic"),
                                      ("throttled", 429, "TooManyRequests")):
            self.box.get("/token?hex=%s&state=%s" % ("ef" * 32, state))
            stream = self.refused("token " + state, client, status, reason, token="EF" * 32)
            if status == 410:
                stamp = json.loads(stream.body)["timestamp"]
                self.check("timestamp is now", abs(stamp / 1000 - time.time()) < 60, True)
        self.box.get("/token?hex=%s&state=ok" % ("ef" * 32))
        self.check("token ok again", self.push(client, token="ef" * 32).status, "200")
        self.check("bad state", self.box.get("/token?hex=ab&state=zombie")[0], 400)

    def test_provider_tokens(self):
        other = self.box.path("other.p8")
        subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-out", other], check=True,
                       stderr=subprocess.DEVNULL)
        now = int(time.time())
        client = self.box.connect()
        for name, jwt in (
                ("rubbish", "abc"),
                ("foreign signature", self.box.sign(key=other)),
                ("unknown kid", self.box.sign(header={"alg": "ES256", "kid": "OTHER00000"})),
                ("alg none", self.box.sign(header={"alg": "none", "kid": "KEY1234567"})),
                ("other team", self.box.sign(claims={"iss": "OTHER00000", "iat": now})),
                ("no iat", self.box.sign(claims={"iss": "TEAM123456"})),
                ("iat in the future", self.box.sign(iat=now + 600)),
                ("changed bit", self.jwt[:-2] + ("A" if self.jwt[-2] != "A" else "B") + self.jwt[-1])):
            self.refused(name, client, 403, "InvalidProviderToken", jwt=jwt)
        self.refused("basic auth", client, 403, "MissingProviderToken", authorization="basic abc")
        self.refused("topic of nobody", client, 403, "InvalidProviderToken",
                     apns_topic="com.example.other")
        self.check("still good after all", self.push(client).status, "200")
        verified = self.box.stats()["jwt_verified"]
        self.push(client)
        self.push(self.box.connect())
        self.check("known text not verified again", self.box.stats()["jwt_verified"], verified)

        self.refused("second token", client, 429, "TooManyProviderTokenUpdates",
                     jwt=self.box.sign(iat=now - 60))
        self.check("first token still good", self.push(client).status, "200")
        expired = self.box.connect()
        self.refused("expired", expired, 403, "ExpiredProviderToken",
                     jwt=self.box.sign(iat=now - 3700))
        self.refused("connection stays refused", expired, 403, "ExpiredProviderToken")

    def test_certificate(self):
        client = self.box.connect(cert=self.box.path("client.pem"), key=self.box.path("client.key"))
        self.check("certificate: N at once", client.settings[MAX_CONCURRENT_STREAMS], 1000)
        self.check("no token needed", self.push(client, authorization=None).status, "200")
        self.check("topic by certificate", self.push(client, authorization=None,
                                                     apns_topic=None).status, "200")
        self.refused("topic not certified", client, 400, "TopicDisallowed", authorization=None,
                     apns_topic="com.example.other")
        bad = self.box.connect(cert=self.box.path("server_selfsigned.pem"),
                               key=self.box.path("server_selfsigned.key"))
        self.refused("foreign certificate", bad, 403, "BadCertificate", authorization=None)

    # ---- HTTP/2 ----

    def test_ramp(self):
        client = self.box.connect()
        self.check("SETTINGS", [client.settings.get(key) for key in (1, 3, 4, 5, 6)],
                   [4096, 1, 65535, 16384, 8000])
        self.refused("a refusal does not raise", client, 403, "MissingProviderToken",
                     authorization=None)
        self.check("still 1", client.settings[MAX_CONCURRENT_STREAMS], 1)
        self.push(client)
        client.until(lambda: client.settings_seen == 2)
        self.check("then N", client.settings[MAX_CONCURRENT_STREAMS], 1000)

    def test_violation(self):
        client = self.box.connect()
        client.ping()
        first = client.request(headers(self.jwt), end=False)
        client.request(headers(self.jwt), BODY)
        client.until(lambda: client.closed)
        self.check("violation", client.goaway,
                   (0, 7, "Maximum active streams violated for this endpoint."))
        self.check("nothing answered", first.done, False)
        self.check("nothing in the ledger", self.box.ledger(), [])
        early = self.box.connect(ack=False)
        early.request(headers(self.jwt), end=False)
        second = early.wait(early.request(headers(self.jwt), BODY))
        self.check("before the ACK: REFUSED_STREAM", (second.rst, early.goaway), (7, None))

    def test_alpn(self):
        try:
            self.box.connect(alpn=("http/1.1",))
            self.check("http/1.1 refused", "connected", "refused")
        except OSError:
            self.check("http/1.1 refused", True, True)

    # ---- faults ----

    def goaway(self, query, requests):
        client = self.open()
        self.box.fault(query)
        streams = [client.request(headers(self.jwt), BODY) for _ in range(requests)]
        client.until(lambda: client.closed)
        answered = [stream.id for stream in streams if stream.status == "200"]
        ledger = [int(line[2]) for line in self.box.ledger()][1:]
        self.check(query + ": ledger is what was answered", sorted(ledger), answered)
        return client.goaway, answered

    def test_goaway(self):
        self.check("current", self.goaway("goaway=last_stream:current,reason:Shutdown", 3),
                   ((3, 0, '{"reason":"Shutdown"}'), [3]))
        self.box.fresh()
        self.check("minus:2", self.goaway("goaway=last_stream:minus:2", 2),
                   ((1, 0, '{"reason":"Shutdown"}'), []))
        self.box.fresh()
        self.check("number", self.goaway("goaway=last_stream:5,reason:InternalServerError,code:2", 4),
                   ((5, 2, '{"reason":"InternalServerError"}'), [3, 5]))
        self.box.fresh()
        client = self.open()
        self.box.fault("hang=on")
        hung = client.request(headers(self.jwt), BODY)
        client.ping()
        self.box.fault("goaway=now,reason:IdleTimeout")
        client.until(lambda: client.goaway)
        self.check("now", client.goaway, (3, 0, '{"reason":"IdleTimeout"}'))
        self.box.fault("hang=off")
        client.until(lambda: client.closed)
        self.check("stream below is still answered", hung.status, "200")

    def test_minus_patience(self):
        goaway, answered = self.goaway("goaway=last_stream:minus:50", 2)
        self.check("minus:50 fires with fewer", (goaway[0], answered), (1, []))

    def test_resets(self):
        client = self.open()
        self.box.fault("refused_stream=2")
        got = [self.push(client) for _ in range(3)]
        self.check("refused_stream", [(s.rst, s.status) for s in got],
                   [(7, None), (7, None), (None, "200")])
        self.check("refused ones not in the ledger", len(self.box.ledger()), 2)
        self.box.fault("rst=INTERNAL_ERROR,1")
        self.check("rst", self.push(client).rst, 2)
        self.check("rst is in doubt", self.box.ledger()[-1][8], "0")
        self.box.fault("rst=7,1")
        self.check("rst 7", self.push(client).rst, 7)
        self.check("rst 7 is not", len(self.box.ledger()), 3)
        self.check("then good", self.push(client).status, "200")

    def test_limits(self):
        client = self.open()
        for limit in (0, 1, 500):
            self.box.fault("max_streams=%d" % limit)
            client.until(lambda: client.settings[MAX_CONCURRENT_STREAMS] == limit)
            self.check("max_streams", client.settings[MAX_CONCURRENT_STREAMS], limit)
        fresh = self.box.connect()
        self.check("a new connection still starts at 1", fresh.settings[MAX_CONCURRENT_STREAMS], 1)
        self.box.fault("window=0")
        client.until(lambda: client.settings[h2client.INITIAL_WINDOW_SIZE] == 0)
        self.check("window", client.settings[h2client.INITIAL_WINDOW_SIZE], 0)
        self.box.fault("clear")
        client.until(lambda: client.settings[h2client.INITIAL_WINDOW_SIZE] == 65535)
        self.check("clear restores", (client.settings[h2client.INITIAL_WINDOW_SIZE],
                                      client.settings[MAX_CONCURRENT_STREAMS]), (65535, 1000))
        self.box.fault("throttle_on_error=on")
        self.refused("an error", client, 400, "BadPriority", apns_priority="3")
        self.check("throttled", client.settings[MAX_CONCURRENT_STREAMS], 1)
        self.push(client)
        client.until(lambda: client.settings[MAX_CONCURRENT_STREAMS] == 1000)
        self.check("raised again", client.settings[MAX_CONCURRENT_STREAMS], 1000)

    def test_status(self):
        client = self.open()
        self.box.fault("status=429&reason=TooManyRequests&count=1&retry_after=17")
        stream = self.refused("429", client, 429, "TooManyRequests")
        self.check("retry-after", stream.headers.get("retry-after"), "17")
        self.check("count over", self.push(client).status, "200")
        self.box.fault("status=503,reason=Shutdown,count=2")
        self.refused("503", client, 503, "Shutdown")
        self.refused("503", client, 503, "Shutdown")
        self.check("count over", self.push(client).status, "200")
        self.box.fault("status=410&timestamp=1700000000000")
        stream = self.refused("410", client, 410, "Unregistered")
        self.check("timestamp", json.loads(stream.body)["timestamp"], 1700000000000)
        self.box.fault("status=500&count=all&fraction=50")
        tokens = ["%064x" % n for n in range(200)]
        got = [self.push(client, token=token).status for token in tokens]
        again = [self.push(client, token=token).status for token in tokens]
        self.check("fraction is a share", 60 < got.count("500") < 140, True)
        self.check("always the same share", got, again)
        self.box.fault("fraction=100&status=400&body=%7Bnot%20json")
        self.check("raw body", self.push(client).body, b"{not json")
        self.box.fault("status=400")
        self.refused("raw body forgotten", client, 400, "BadDeviceToken")
        self.check("bad fault", self.box.get("/fault?status=200")[0], 400)
        self.check("unknown fault", self.box.get("/fault?earthquake=on")[0], 400)

    def test_hang(self):
        client = self.open()
        self.box.fault("hang=on")
        ident = str(uuid.uuid4())
        stream = client.request(headers(self.jwt, apns_id=ident), BODY)
        client.ping()
        self.check("hangs", (stream.done, self.box.stats()["hung"]), (False, 1))
        self.check("ledger says 0", self.box.ledger()[-1][3:9:5], [ident, "0"])
        self.box.fault("hang=off")
        self.check("released", client.wait(stream).status, "200")
        self.check("one line only", len(self.box.ledger()), 2)
        self.box.fault("hang=on")
        stream = client.request(headers(self.jwt, apns_id=ident), BODY)
        client.ping()
        self.box.fault("hang=drop")
        self.check("dropped", client.wait(stream).rst, 8)
        stats = self.box.stats()
        self.check("duplicate counted", (stats["duplicates"], stats["withheld"]), (1, 2))
        self.check("both lines found",
                   self.box.get("/ledger/find?apns_id=" + ident)[1].count("\n"), 2)

    def test_slow(self):
        client = self.open()
        self.box.fault("delay_ms=80")
        start = time.monotonic()
        stream = self.push(client)
        self.check("delay", (stream.status, time.monotonic() - start >= 0.08), ("200", True))
        self.check("delayed one is in the ledger as answered", self.box.ledger()[-1][8], "200")
        self.box.fault("delay_ms=0&slow_body=3&status=400&reason=BadTopic")
        start = time.monotonic()
        stream = self.refused("slow body", client, 400, "BadTopic")
        self.check("byte by byte", time.monotonic() - start >= 0.003 * len(stream.body), True)

    def test_cut(self):
        client = self.open()
        self.box.fault("cut_after_data=1")
        stream = client.request(headers(self.jwt), BODY)
        client.until(lambda: client.closed)
        self.check("cut", (client.closed, stream.done, client.goaway), (True, False, None))
        self.check("cut is in doubt", self.box.ledger()[-1][8], "0")
        client = self.open()
        lines = len(self.box.ledger())
        self.box.fault("cut_after_headers=1")
        stream = client.request(headers(self.jwt), end=False)
        client.until(lambda: client.closed)
        self.check("cut at headers", (client.closed, stream.done, len(self.box.ledger())),
                   (True, False, lines))
        self.check("next connection is good", self.push(self.box.connect()).status, "200")

    def test_expired_switch(self):
        client = self.open()
        self.box.fault("jwt_expired=on")
        self.refused("old token", client, 403, "ExpiredProviderToken")
        fresh = self.box.sign()
        self.refused("connection stays refused", client, 403, "ExpiredProviderToken", jwt=fresh)
        other = self.box.connect()
        self.check("new token, new connection", self.push(other, jwt=fresh).status, "200")

    def test_ping(self):
        client = self.open()
        client.ping()
        self.check("ping answered", client.pongs, 2)
        self.box.fault("no_ping_reply=on")
        client.send(client.frame(h2client.PING, 0, 0, b"87654321"))
        self.push(client)
        self.check("no answer", (client.pongs, self.box.stats()["pings"]), (2, 3))

    def test_accept(self):
        client = self.open()
        self.box.fault("accept=refuse")
        try:
            self.box.connect()
            self.check("refused", "connected", "refused")
        except ConnectionRefusedError:
            self.check("refused", True, True)
        self.check("open ones live on", self.push(client).status, "200")
        self.box.fault("accept=off")
        before = self.box.stats()["connections"]
        held = h2client.socket.create_connection(("127.0.0.1", int(self.box.ports["apns"])))
        self.check("not accepted", self.box.stats()["connections"], before)
        self.box.fault("accept=on")
        self.check("on again", self.push(self.box.connect()).status, "200")
        held.close()

    def test_tls(self):
        for kind, text in (("expired", "expired"), ("wronghost", "mismatch"),
                           ("selfsigned", "self"), ("unknownca", "issuer")):
            self.box.fault("tls=" + kind)
            try:
                self.box.connect()
                self.check("tls " + kind, "connected", text)
            except h2client.ssl.SSLCertVerificationError as error:
                self.check("tls " + kind, text in str(error), True)
        self.box.fault("tls=tls10")
        try:
            self.box.connect()
            self.check("tls tls10", "connected", "refused")
        except (h2client.ssl.SSLError, ConnectionError) as error:
            self.check("tls tls10", isinstance(error, h2client.ssl.SSLCertVerificationError), False)
        self.box.fault("tls=noalpn")
        self.check("tls noalpn", self.box.connect().alpn, None)
        self.box.fault("tls=good")
        self.check("tls good", self.push(self.box.connect()).status, "200")

    def test_idle(self):
        client = self.open()
        self.box.fault("idle_timeout_ms=60")
        client.until(lambda: client.closed)
        self.check("idle", client.goaway, (1, 0, '{"reason":"IdleTimeout"}'))

    def test_many(self):
        """Ids beyond the first growth of the table, duplicates exact."""
        client = self.open()
        ids = [str(uuid.uuid4()) for _ in range(3000)]
        for chunk in range(0, 3000, 500):
            streams = [client.request(headers(self.jwt, apns_id=i), BODY)
                       for i in ids[chunk:chunk + 500]]
            client.until(lambda: all(s.done for s in streams))
        streams = [client.request(headers(self.jwt, apns_id=i.upper()), BODY) for i in ids[:100]]
        client.until(lambda: all(s.done for s in streams))
        stats = self.box.stats()
        self.check("many", [stats[key] for key in ("accepted", "duplicates", "distinct_ids",
                                                   "open_streams")], [3101, 100, 3001, 0])
        self.check("ledger complete", len(self.box.ledger()), 3101)

    def run(self):
        for name in [n for n in dir(self) if n.startswith("test_")]:
            self.box.fresh()
            try:
                getattr(self, name)()
            except Exception:
                self.failed += 1
                print("not ok: %s\n%s" % (name, traceback.format_exc()))


def check_options(tests, binary):
    """What only another start of the program shows."""
    box = Sandbox(binary, "--log-bodies", "--strict-json", "--no-ramp", "--mode-group",
                  "--streams", "7", "--ledger-fsync", "--token-update-min-s", "0",
                  "--topic", TOPIC, "--topic", "org.example.bank")
    other = Tests(box)
    client = box.connect()
    other.check("no ramp", client.settings[MAX_CONCURRENT_STREAMS], 7)
    other.refused("body is no JSON", client, 400, "BadRequestPayload", body=b"{")
    other.check("second topic", other.push(client, apns_topic="org.example.bank",
                                           body=b'{"aps":\n\t{}}').status, "200")
    other.check("body logged on one line", box.ledger()[-1][11], '{"aps":  {}}')
    other.check("token may change at once", other.push(client, jwt=box.sign(iat=time.time() - 9))
                .status, "200")
    cert = box.connect(cert=box.path("client.pem"), key=box.path("client.key"))
    other.refused("several topics: none is implied", cert, 400, "MissingTopic",
                  authorization=None, apns_topic=None)
    other.check("key modes", [os.stat(box.path(n)).st_mode & 0o777 for n in
                              ("apns_key.p8", "client.key", "ca.pem")], [0o640, 0o640, 0o644])
    other.check("clean exit", box.stop(), 0)
    tests.passed += other.passed
    tests.failed += other.failed


def check_checker(tests):
    """check_ledger.py must find each fault it is there for."""
    here = os.path.dirname(os.path.abspath(__file__))
    ids = [str(uuid.uuid4()) for _ in range(4)]
    good = [(ids[0], "accepted", 0, "retry"), (ids[1], "accepted", 1, "retry"),
            (ids[2], "suppressed", 0, "retry"), (ids[3], "held", 1, "hold")]
    seen = [ids[0], ids[1], ids[1], ids[3]]

    def run(name, deliveries, ledger, want, producer=None, events=None, collapse="-"):
        with tempfile.TemporaryDirectory() as tmp:
            paths = [os.path.join(tmp, n) for n in ("ledger", "deliveries", "producer", "events")]
            with open(paths[0], "w") as file:
                file.writelines("1\t1\t%d\t%s\t%s\n" % (2 * n + 1, i, "\t".join(
                    ["-", "-", "-", collapse % n if "%" in collapse else collapse, "200", "2", "-"]))
                                for n, i in enumerate(ledger))
            with open(paths[1], "w") as file:
                file.writelines("\t".join(str(c) for c in row) + "\n" for row in deliveries)
            command = [sys.executable, os.path.join(here, "check_ledger.py")] + paths[:2]
            if producer is not None:
                with open(paths[2], "w") as file:
                    file.writelines(i + "\n" for i in producer)
                command += ["--producer", paths[2]]
            if events is not None:
                with open(paths[3], "w") as file:
                    file.writelines("%s\t%d\n" % row for row in events)
                command += ["--events", paths[3]]
            done = subprocess.run(command, capture_output=True, text=True)
            tests.check("checker: " + name, (done.stdout.strip(), done.returncode), want)

    line = ("attempted %d acknowledged %d delivered %d lost %d duplicated %d unexpected %d "
            "unknown %d held %d")
    run("good", good, seen, (line % (4, 4, 3, 0, 1, 0, 2, 1), 0))
    run("lost", good, seen[1:], (line % (4, 4, 2, 1, 1, 0, 2, 1), 1))
    run("open", [(ids[0], "ready", 0, "retry")], [], (line % (1, 1, 0, 1, 0, 0, 0, 0), 1))
    run("unacknowledged", good[:1], ids[:1], (line % (1, 2, 1, 1, 0, 0, 0, 0), 1), ids[:2])
    run("unexpected id", good[:1], ids[:2], (line % (1, 1, 1, 0, 0, 1, 0, 0), 1))
    run("unexpected state", good[2:3], ids[2:3], (line % (1, 1, 1, 0, 0, 1, 0, 0), 1))
    run("excess duplicate", good, seen + [ids[0]], (line % (4, 4, 3, 0, 2, 0, 2, 1), 1))
    run("hold twice", good, [ids[0], ids[1], ids[3], ids[3]],
        (line % (4, 4, 3, 0, 1, 0, 2, 1), 1))
    run("sent again as something else", good, seen, (line % (4, 4, 3, 0, 1, 0, 2, 1), 1), collapse="c%d")

    # the same with events: two deliveries of one, a third event without an audience
    deliveries = [good[0] + ("e0",), good[1] + ("e0",), good[3] + ("e1",)]
    events = [("e0", 0), ("e1", 0), ("e2", 1)]
    run("events", deliveries, seen, (line % (3, 3, 3, 0, 1, 0, 2, 1), 0), ["e0", "e1", "e2"], events)
    run("an event without a trace", deliveries, seen, (line % (3, 3, 3, 1, 1, 0, 2, 1), 1), None,
        events[:2] + [("e2", 0)])
    run("one of two deliveries still open", [deliveries[0], (ids[1], "open", 1, "retry", "e0"), deliveries[2]],
        seen, (line % (3, 2, 3, 1, 1, 0, 2, 1), 1), ["e0", "e1"], events[:2])
    run("a delivery without its event", deliveries, seen, (line % (3, 3, 3, 0, 1, 1, 2, 1), 1), None, events[:1])
    run("acknowledged and rolled back", deliveries, seen, (line % (3, 3, 3, 1, 1, 0, 2, 1), 1),
        ["e0", "e1", "e9"], events[:2])


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--binary", default=os.path.join(here, "notif-sandbox"))
    args = parser.parse_args()
    sandbox = Sandbox(args.binary, "--log-bodies")
    tests = Tests(sandbox)
    tests.run()
    check_options(tests, args.binary)
    check_checker(tests)
    tests.check("clean exit", sandbox.stop(), 0)
    print("%d passed, %d failed" % (tests.passed, tests.failed))
    return 1 if tests.failed else 0


if __name__ == "__main__":
    sys.exit(main())
