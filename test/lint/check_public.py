"""Nothing is granted to PUBLIC, and nothing in the install script replaces what somebody else made."""
import re
from common import functions, install_script, report, strip_sql

script, text = install_script()
clean = strip_sql(text)         # same lines, comments blanked
problems = []
for m in re.finditer(r"\bGRANT\b[^;']*?\bTO\s+(?:[\w\"]+\s*,\s*)*PUBLIC\b", clean, re.I):
    problems.append(f"{script}:{clean.count(chr(10), 0, m.start()) + 1}: grants to PUBLIC")
for m in re.finditer(r"\bCREATE\s+OR\s+REPLACE\b", clean, re.I):
    problems.append(f"{script}:{clean.count(chr(10), 0, m.start()) + 1}: CREATE OR REPLACE")
for m in re.finditer(r"\bCREATE\s+(?:UNLOGGED\s+)?(?:TABLE|SCHEMA|SEQUENCE|TYPE)\s+IF\s+NOT\s+EXISTS\b", clean, re.I):
    # in a function body it runs later, under other rules
    before = clean[:m.start()]
    if before.count("$$") % 2 == 0 and len(re.findall(r"\$[a-z_]\w*\$", before)) % 2 == 0:
        problems.append(f"{script}:{before.count(chr(10)) + 1}: IF NOT EXISTS adopts an object that is there")

# What is created with EXECUTE for PUBLIC by default has to be taken back,
# after the last function was made.
found = functions()
if found:
    last = sum(len(s) + 1 for s in clean.split("\n")[:found[-1][1] - 1])
    revoked = set()
    for m in re.finditer(r"\bREVOKE\s+(?:ALL(?:\s+PRIVILEGES)?|EXECUTE)\s+ON\s+ALL\s+(?:FUNCTIONS|ROUTINES)\s+IN\s+SCHEMA\s+"
                         r"([\w\s,]+?)\s+FROM\s+PUBLIC\b", clean, re.I):
        if m.start() > last:
            revoked |= {s.strip() for s in m.group(1).split(",")}
    for schema in sorted({name.split(".")[0] for _, _, name, _, _ in found} - revoked):
        problems.append(f"{script}: functions of schema {schema} keep EXECUTE for PUBLIC")
report(problems, f"{len(found)} functions", "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ... FROM PUBLIC in the last module, then grant to the roles by name")
