"""No file grows beyond what one sitting can read."""
from common import files, is_text, read, report

LIMIT = 900
# made from the comments in the database: a page to look things up in, not to read
GENERATED = ("docs/sql-reference.md",)
problems, seen = [], 0
for f in files():
    if not is_text(f) or f.startswith("expected/") or f in GENERATED:
        continue
    seen += 1
    n = read(f).count("\n")
    if n > LIMIT:
        problems.append(f"{f}: {n} lines (limit {LIMIT})")
report(problems, f"{seen} files", "split by verb: one file per thing the module does, one header for all")
