"""The network engine alone against h2load, both against the same sandbox.

One connection over TLS, the same body, the same number of requests in flight,
device tokens that differ from request to request.  Repetitions alternate and
each takes turns at going first.  CPU is the client's own (user and system),
without what it needs to start, connect and end: for h2load that is the
difference to a run with few requests.  wire_rps is the median over the
repetitions in which the sandbox's core was less than 90 % busy; without any,
there is no such figure: it would be the sandbox's.  REQUESTS, REPETITIONS,
STREAMS, BODY.
"""
import os
import random
import re
import shutil
import subprocess
import tempfile
import time

from benchlib import TMP, Failed, Sandbox, cpu_s, figure, main, median, say, setting

BUSY_PERCENT = 90
FEW = 1000


def run(command, sandbox):
    """Output, CPU seconds, elapsed seconds, and the sandbox's CPU seconds."""
    with tempfile.TemporaryFile(dir=TMP) as out:
        theirs, started = cpu_s(sandbox.pid), time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        took, theirs = time.monotonic() - started, cpu_s(sandbox.pid) - theirs
        out.seek(0)
        text = out.read().decode(errors="replace")
    if process.returncode != 0:
        raise Failed("%s: %s" % (os.path.basename(command[0]), text[-1500:]))
    return text, usage.ru_utime + usage.ru_stime, took, theirs


def h2load(sandbox, bearer, requests, streams, body):
    text, cpu, took, theirs = run(
        ["h2load", "-n", str(requests), "-c", "1", "-t", "1", "-m", str(streams), "-d", body,
         "-i", os.path.join(TMP, "uris"), "-H", "authorization: bearer " + bearer,
         "-H", "apns-topic: com.example.shop", "-H", "apns-push-type: alert", "-H", "apns-priority: 10",
         "-H", "apns-expiration: 1900000000", "-H", "apns-id: 00000000-0000-4000-8000-000000000000"], sandbox)
    good = re.search(r"status codes: (\d+) 2xx", text)
    if not good or int(good.group(1)) != requests:
        raise Failed("h2load: " + text[-1500:])
    return cpu, took, theirs


def engine(sandbox, bearer, requests, streams, body_bytes):
    text, _, took, theirs = run(
        [os.path.join(TMP, "wire_client"), "localhost", str(sandbox.port), os.path.join(sandbox.dir, "ca.pem"), bearer,
         str(requests), str(streams), str(body_bytes)], sandbox)
    figures = dict(re.findall(r"^(\w+)\t([0-9.]+)\t", text, re.M))
    return float(figures["wire_cpu_us"]), float(figures["wire_rps"]), took, theirs


def bench():
    requests, repetitions = setting("REQUESTS", 200000, 20000), setting("REPETITIONS", 5, 2)
    streams, body_bytes = setting("STREAMS", 500, 500), setting("BODY", 350, 350)
    if not shutil.which("h2load"):
        raise Failed("no h2load: install nghttp2-client")
    # h2load ignores the limit of one stream that a new connection starts with
    sandbox = Sandbox("wire", "--no-ramp")
    bearer = sandbox.bearer()
    body = os.path.join(TMP, "body")
    with open(body, "w") as file:
        file.write('{"aps":{"alert":"%s"}}' % ("x" * (body_bytes - 20)))
    random.seed(3)
    with open(os.path.join(TMP, "uris"), "w") as file:
        file.writelines("https://localhost:%d/3/device/%064x\n" % (sandbox.port, random.getrandbits(256))
                        for _ in range(1000))

    rows = []
    for number in range(repetitions):
        few = h2load(sandbox, bearer, FEW, streams, body)[0]

        def theirs():
            cpu, took, busy = h2load(sandbox, bearer, requests, streams, body)
            return (cpu - few) * 1e6 / (requests - FEW), requests / took, busy / took * 100

        def ours():
            cpu, rps, took, busy = engine(sandbox, bearer, requests, streams, body_bytes)
            return cpu, rps, busy / took * 100

        if number % 2 == 0:
            other, own = theirs(), ours()
        else:
            own, other = ours(), theirs()
        rows.append((other, own))
        say("%d: h2load %.2f us, %.0f/s, sandbox %.0f %% busy; engine %.2f us, %.0f/s, sandbox %.0f %% busy; ratio %.3f" %
            (number + 1, *other, *own, other[0] / own[0]))
        sandbox.get("/reset")

    counting = [own[1] for _, own in rows if own[2] < BUSY_PERCENT]
    if counting:
        figure("wire_rps", median(counting), "1/s")
    else:
        say("wire_rps: none; the sandbox's core was %.0f %% busy, and its limit is not the engine's" %
            median([own[2] for _, own in rows]))
    figure("wire_vs_h2load", median([other[0] / own[0] for other, own in rows]), "ratio")
    figure("wire_cpu_us", median([own[0] for _, own in rows]), "us")
    figure("h2load_cpu_us", median([other[0] for other, _ in rows]), "us")


main(bench)
