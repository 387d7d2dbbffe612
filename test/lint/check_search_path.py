"""Every function that is not C pins its search_path."""
import re
from common import functions, report

problems, seen = [], 0
for script, line, name, _, head in functions():
    seen += 1
    if re.search(r"\bLANGUAGE\s+'?c\b", head, re.I) or re.search(r"\bLANGUAGE\s+internal\b", head, re.I):
        if not re.search(r"\bSECURITY\s+DEFINER\b", head, re.I):
            continue
    m = re.search(r"\bSET\s+search_path\s*(?:=|TO)\s*([^\n;]*)", head, re.I)
    if not m:
        problems.append(f"{script}:{line}: {name} has no SET search_path")
    elif not re.match(r"pg_catalog\b", m.group(1).strip(), re.I):
        problems.append(f"{script}:{line}: {name}: search_path does not begin with pg_catalog")
report(problems, f"{seen} functions", "add: SET search_path = pg_catalog, pg_temp (and write our own names with their schema)")
