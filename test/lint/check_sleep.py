"""Tests wait on conditions, never on a clock."""
import re
from common import files, read, report, strip_c

C = re.compile(r"(?<![\w.>])(sleep|usleep|nanosleep|pg_usleep|clock_nanosleep)\s*\(|pg_sleep")
SCRIPT = re.compile(r"pg_sleep|\b(?:u|nano)sleep\b|(?<![\w$.-])sleep\s*[(\d$\"']|(?<![\w$])time\.sleep\b|\bselect\s*\(\s*undef|from time import .*\bsleep\b")

problems, seen = [], 0
for f in files():
    if not f.startswith("test/") or f.startswith("test/lint/") or f.endswith(".md"):
        continue
    seen += 1
    text = read(f)
    if f.endswith((".c", ".h")):
        pattern, text = C, strip_c(text, strings=False)
    else:
        pattern, text = SCRIPT, re.sub(r"^\s*(#|--).*$", "", text, flags=re.M)
    for n, line in enumerate(text.split("\n"), 1):
        if pattern.search(line):
            problems.append(f"{f}:{n}: {line.strip()[:100]}")
report(problems, f"{seen} files", "poll a condition with a deadline (poll_query_until, wait_for_log, waiting on an fd)")
