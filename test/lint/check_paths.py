"""Nothing depends on where somebody's machine keeps things."""
import re
from common import files, is_text, read, report

PLACE = re.compile(r"(?<![\w.$}{)*-])/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "ho" + "me", "Us" + "ers", "mnt")) + r")(?:/|\b)")

problems, seen = [], 0
for f in files():
    if not is_text(f):
        continue
    seen += 1
    for n, line in enumerate(read(f).split("\n"), 1):
        if PLACE.search(line):
            problems.append(f"{f}:{n}: {line.strip()[:100]}")
report(problems, f"{seen} files", "derive the path from the script's own place, from pg_config or from TMPDIR")
