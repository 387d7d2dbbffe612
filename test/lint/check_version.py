"""One version: notif.control says it, CHANGELOG.md has its heading, upgrade steps lead to it."""
import re
from common import files, read, report

version = re.search(r"default_version *= *'([^']+)'", read("notif.control")).group(1)
problems = []
headings = re.findall(r"^## \[([^\]]+)\]", read("CHANGELOG.md"), re.M)
if not headings or headings[0] != version:
    problems.append(f"CHANGELOG.md: newest heading is {headings[:1]}, notif.control says {version}")
steps = [m.groups() for f in files() if (m := re.fullmatch(r"sql/upgrade/notif--([^-]+)--([^-]+)\.sql", f))]
for old, new in steps:
    if new != version and not any(o == new for o, _ in steps):
        problems.append(f"sql/upgrade/notif--{old}--{new}.sql: leads to a version from which no step leads on")
for f in files():
    if f.startswith("sql/upgrade/") and not re.fullmatch(r"sql/upgrade/notif--[^-]+--[^-]+\.sql", f) and not f.endswith(".md"):
        problems.append(f"{f}: not named notif--OLD--NEW.sql")
    if f.startswith("sql/") and f.count("/") == 1 and not re.fullmatch(r"sql/\d\d-[a-z0-9-]+(\.tier)?\.sql", f) and not f.endswith(".md"):
        problems.append(f"{f}: a module is named NN-name.sql or NN-name.tier.sql")
report(problems, f"version {version}, {len(steps)} upgrade steps", "see CONTRIBUTING.md, releases")
