"""One file speaks SPI; publishing may, for its own inserts."""
import fnmatch
import re
from common import files, read, report, strip_c

ALLOWED = ["src/spi.c", "src/spi.h", "src/publish*.c"]

problems, seen = [], 0
for f in files():
    if not f.endswith((".c", ".h")) or not f.startswith(("src/", "bgworker/")):
        continue
    seen += 1
    if any(fnmatch.fnmatch(f, a) for a in ALLOWED):
        continue
    for n, line in enumerate(strip_c(read(f), strings=False).split("\n"), 1):
        if re.search(r'#\s*include\s*[<"]executor/spi\.h[>"]', line) or re.search(r"\bSPI_\w+\s*\(", line):
            problems.append(f"{f}:{n}: {line.strip()}")
report(problems, f"{seen} files", "call src/spi.c, which keeps plans, snapshots and statistics right; results leave it as plain structs")
