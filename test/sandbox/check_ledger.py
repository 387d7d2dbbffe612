#!/usr/bin/env python3
"""Joins the sandbox's ledger with what the database believes.

usage: check_ledger.py LEDGER DELIVERIES [--events FILE] [--producer FILE] [--examples N]

LEDGER      ledger.tsv of notif-sandbox; several files may be given, separated
            by ':' (a sandbox per provider, or one that was restarted)
DELIVERIES  tab-separated, no header: delivery id, state, number of attempts
            with an unknown outcome, on_unknown (retry | hold), and optionally
            the event id.  A delivery that still waits in a queue or a flight is
            listed too, with a state of its own (open): it must not be overlooked
--events    every committed event, tab-separated: id, and how many verdicts it has
            as a whole (an audience that was empty).  One with neither a delivery
            nor a verdict is lost; a delivery of another one is unexpected
--producer  one id (event or delivery) per line, written by the producer after
            its COMMIT returned

Prints one line and exits 0 only if the promises hold:
  attempted     deliveries the database knows
  acknowledged  ids of the producer (without its log: all deliveries)
  delivered     deliveries that the provider has
  lost          acknowledged or committed without a delivery, accepted but not
                at the provider, or in no terminal state             must be 0
  duplicated    appearances at the provider beyond the first; per delivery at
                most its unknown attempts, and none at all for hold; each must
                carry the same device, topic, type and collapse id
  unexpected    at the provider without a delivery, a delivery without its
                event, or at the provider in a state that says it never went
                out while no attempt was unknown                     must be 0
  unknown       attempts with an unknown outcome
  held          deliveries parked in doubt
"""
import argparse
import gc
import sys
from collections import Counter

TERMINAL = {b"accepted", b"failed", b"expired", b"suppressed", b"superseded",
            b"cancelled", b"merged", b"held"}


def ledger_lines(path):
    with open(path, "rb") as file:
        data = file.read()
    # a crash of the machine may leave half a line at the very end
    return data[:data.rfind(b"\n") + 1].splitlines()


def read_ledger(paths, report):
    """Counts appearances per apns-id, answered or not: the provider has both."""
    seen = Counter()
    for path in paths:
        seen.update([line.split(b"\t", 4)[3] for line in ledger_lines(path)])
    again = {ident for ident, times in seen.items() if times > 1}
    first = {}
    for path in paths if again else ():
        for line in ledger_lines(path):
            # device, topic, push type, collapse id
            ident, *same = line.split(b"\t", 8)[3:8]
            if ident in again and first.setdefault(ident, same) != same:
                report.add("differs", "sent again as something else", ident)
    return seen


class Report:
    """Collects faults with a few examples of each."""

    def __init__(self, examples):
        self.limit = examples
        self.counts = Counter()

    def add(self, kind, what, ident):
        self.counts[kind] += 1
        if self.counts[kind] <= self.limit:
            print("%s: %s: %s" % (kind, what, ident.decode(errors="replace")), file=sys.stderr)


def check_deliveries(path, seen, report):
    """Walks the deliveries; returns totals and the sets needed afterwards."""
    totals = Counter()
    ids = set()
    events = {}     # to a delivery of each, for messages
    once = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            columns = line.rstrip(b"\n").split(b"\t")
            if len(columns) < 4 or columns[3] not in (b"retry", b"hold"):
                sys.exit("%s:%d: expected id, state, unknown attempts, retry|hold" %
                         (path, number))
            ident, state, unknown = columns[0].lower(), columns[1], int(columns[2])
            if ident in ids:
                sys.exit("%s:%d: delivery listed twice" % (path, number))
            ids.add(ident)
            if len(columns) > 4:
                events[columns[4].lower()] = ident
            times = seen.get(ident, 0)
            if times == 1 and state == b"accepted" and unknown == 0:
                once += 1       # the case of nearly every line
                continue
            totals["unknown"] += unknown
            totals["held"] += state == b"held"
            totals["delivered"] += times > 0
            if state not in TERMINAL:
                report.add("lost", "no terminal state (%s)" % state.decode(), ident)
            elif state == b"accepted" and times == 0:
                report.add("lost", "accepted, but the provider never had it", ident)
            if times > 0 and state in TERMINAL and state != b"accepted" and unknown == 0:
                report.add("unexpected", "%s, but the provider has it" % state.decode(), ident)
            if times > 1:
                totals["duplicated"] += times - 1
                if columns[3] == b"hold":
                    report.add("excess", "%d times in spite of hold" % times, ident)
                elif times - 1 > unknown:
                    report.add("excess", "%d times with %d unknown" % (times, unknown), ident)
    totals["delivered"] += once
    return totals, ids, events


def check_events(path, events, report):
    """Every committed event has led to something, and nothing else has."""
    committed = set()
    with open(path, "rb") as file:
        for line in file:
            ident, verdicts = line.rstrip(b"\n").lower().split(b"\t")
            committed.add(ident)
            if ident not in events and int(verdicts) == 0:
                report.add("lost", "committed, but nothing has come of it", ident)
    for ident in events.keys() - committed:
        report.add("unexpected", "a delivery of an event that is not there", events[ident])
    return committed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("ledger")
    parser.add_argument("deliveries")
    parser.add_argument("--events")
    parser.add_argument("--producer")
    parser.add_argument("--examples", type=int, default=10)
    args = parser.parse_args()

    # millions of small objects, none of them in a cycle
    gc.disable()
    report = Report(args.examples)
    seen = read_ledger(args.ledger.split(":"), report)
    totals, ids, events = check_deliveries(args.deliveries, seen, report)

    committed = check_events(args.events, events, report) if args.events else set()

    acknowledged = len(ids)
    if args.producer:
        with open(args.producer, "rb") as file:
            acked = {line.strip().lower() for line in file if line.strip()}
        acknowledged = len(acked)
        for ident in acked - ids - events.keys() - committed:
            report.add("lost", "acknowledged, but there is no trace of it", ident)
    for ident in seen.keys() - ids:
        totals["duplicated"] += seen[ident] - 1
        report.add("unexpected", "the provider has it, the database does not", ident)

    print("attempted %d acknowledged %d delivered %d lost %d duplicated %d unexpected %d "
          "unknown %d held %d" %
          (len(ids), acknowledged, totals["delivered"], report.counts["lost"],
           totals["duplicated"], report.counts["unexpected"], totals["unknown"],
           totals["held"]))
    bad = (report.counts["lost"] or report.counts["unexpected"] or report.counts["excess"]
           or report.counts["differs"] or totals["duplicated"] > totals["unknown"])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
