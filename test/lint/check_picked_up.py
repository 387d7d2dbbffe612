"""Every test file is run by a suite and compared with something."""
import os
import re
from common import files, read, report

tree = files()
problems = []


def names(folder, ext):
    found = set()
    for f in tree:
        if not f.startswith(folder + "/") or f.endswith(".md"):
            continue
        if os.path.dirname(f) == folder and f.endswith(ext):
            found.add(os.path.basename(f)[:-len(ext)])
        elif os.path.dirname(f) == "test/sql/include" and f.endswith(".sql"):
            if not any("/sql/include/" + os.path.basename(f) in read(t) for t in tree if re.fullmatch(r"test/sql/\w+\.sql", t)):
                problems.append(f"{f}: no test includes it")
        elif folder not in ("test/fuzz", "test/t", "test/unit"):
            problems.append(f"{f}: no suite looks there")
    return found


sql, specs = names("test/sql", ".sql"), names("test/specs", ".spec")
outs = {os.path.basename(f)[:-4] for f in tree if f.startswith("expected/") and f.endswith(".out")}
for n in sorted((sql | specs) - outs):
    problems.append(f"expected/{n}.out: missing")
for n in sorted(outs - sql - specs):
    if re.sub(r"_\d$", "", n) not in sql | specs:
        problems.append(f"expected/{n}.out: belongs to no test")
for n in sorted(sql & specs):
    problems.append(f"test/sql/{n}.sql: a spec has the same name, and so the same expected output")
for n in sorted(o for o in outs if not read(f"expected/{o}.out").strip()):
    problems.append(f"expected/{n}.out: empty")

tap = [f for f in tree if f.startswith("test/t/") and f.endswith((".pl", ".t"))]
for f in tap:
    if not re.fullmatch(r"test/t/\d{3}_\w+\.pl", f):
        problems.append(f"{f}: TAP files are named NNN_what.pl, directly in test/t")
    if not re.search(r"^\s*(done_testing|plan\b)", read(f), re.M):
        problems.append(f"{f}: neither done_testing nor a plan")

unit = [f for f in tree if f.startswith("test/unit/") and f.endswith(".c")]
for f in unit:
    has_main = re.search(r"^main\s*\(|\bint\s+main\s*\(", read(f), re.M) is not None
    is_test = re.fullmatch(r"test/unit/test_\w+\.c", f) is not None
    if has_main != is_test:
        problems.append(f"{f}: " + ("has main() but is not named test_*.c" if has_main else "is named test_*.c but has no main()"))
    if is_test and "unit_done" not in read(f):
        problems.append(f"{f}: does not end with unit_done()")

fuzz = [f for f in tree if re.fullmatch(r"test/fuzz/\w+\.c", f)]
for f in fuzz:
    if "LLVMFuzzerTestOneInput" not in read(f):
        problems.append(f"{f}: no LLVMFuzzerTestOneInput")

report(problems, f"{len(sql)} regress, {len(specs)} isolation, {len(tap)} tap, {len(unit)} unit, {len(fuzz)} fuzz",
       "see test/run/ for what each suite picks up")
