"""The SECURITY DEFINER functions are those SECURITY.md lists, no more and no fewer."""
import re
import sys
from common import functions, read, report

BEGIN, END = "<!-- security definer: begin -->", "<!-- security definer: end -->"

actual = {name.replace('"', "") for _, _, name, _, head in functions() if re.search(r"\bSECURITY\s+DEFINER\b", head, re.I)}
if "--list" in sys.argv:
    print("\n".join(sorted(actual)))
    sys.exit(0)

doc = read("SECURITY.md")
if doc.count(BEGIN) != 1 or doc.count(END) != 1:
    report([f"SECURITY.md: needs one '{BEGIN}' and one '{END}'"], "", "put the table back between them")
table = doc[doc.index(BEGIN) + len(BEGIN):doc.index(END)]
listed = set()
for cell in re.findall(r"^\|([^|]*)\|", table, re.M):
    for n in re.findall(r"`([\w.<>]+)`", cell):
        listed |= {n.replace("<tier>", t) for t in ("critical", "standard", "bulk")}
problems = [f"SECURITY.md: {n} is SECURITY DEFINER and not listed" for n in sorted(actual - listed)]
problems += [f"SECURITY.md: {n} is listed and not SECURITY DEFINER" for n in sorted(listed - actual)]
report(problems, f"{len(actual)} functions",
       "review it, then write it into a row: | `schema.function` | why it needs the rights, what it checks | "
       "(several names may share a row; <tier> in a name stands for critical, standard and bulk)")
