"""No file grows beyond what one sitting can read."""
from common import files, is_text, read, report

LIMIT = 900
problems, seen = [], 0
for f in files():
    if not is_text(f) or f.startswith("expected/"):
        continue
    seen += 1
    n = read(f).count("\n")
    if n > LIMIT:
        problems.append(f"{f}: {n} lines (limit {LIMIT})")
report(problems, f"{seen} files", "split by verb: one file per thing the module does, one header for all")
