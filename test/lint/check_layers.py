"""Each layer uses those below it only, and the portable ones no PostgreSQL."""
import os
import re
import subprocess
from common import PORTABLE, files, read, report, strip_c

BELOW = {
    "core": {"core"},
    "crypto": {"core", "crypto"},
    "message": {"core", "message"},
    "net": {"core", "crypto", "message", "net"},
    "provider": {"core", "crypto", "message", "net", "provider"},
    "src": {"core", "crypto", "message", "net", "provider", "src"},
    "bgworker": {"core", "crypto", "message", "net", "provider", "src", "bgworker"},
}
# _PG_init is where everything meets: it registers the launcher.
EXCEPT = {("src/notif.c", "bgworker")}
SERVER_ONLY = re.compile(r"\b(palloc\w*|pfree|repalloc|ereport|elog|PG_TRY|CHECK_FOR_INTERRUPTS|MemoryContext\w+|"
                         r"Datum|PG_FUNCTION_INFO_V1)\b")


def layer(path):
    parts = path.split("/")
    if parts[0] == "src":
        return parts[1] if len(parts) > 2 else "src"
    return parts[0]


def resolve(including, name):
    for base in (os.path.dirname(including), "src", "."):
        path = os.path.normpath(os.path.join(base, name))
        if os.path.isfile(path):
            return path
    return None


sources = [f for f in files() if f.endswith((".c", ".h")) and f.startswith(("src/", "bgworker/"))]
problems = []
for f in sources:
    here = layer(f)
    if here not in BELOW:
        problems.append(f"{f}:1: src/{here} is no layer")
        continue
    text = read(f)
    for n, line in enumerate(strip_c(text, strings=False).split("\n"), 1):
        m = re.match(r'\s*#\s*include\s*([<"])([^>"]+)', line)
        if m:
            target = resolve(f, m.group(2)) if m.group(1) == '"' else None
            if target is None:
                if m.group(1) == '"' and f.startswith(PORTABLE):
                    problems.append(f'{f}:{n}: includes "{m.group(2)}", which is not ours')
            elif layer(target) not in BELOW[here] and (f, layer(target)) not in EXCEPT:
                problems.append(f"{f}:{n}: {here} includes {target}")
    if f.startswith(PORTABLE):
        for n, line in enumerate(strip_c(text).split("\n"), 1):
            m = SERVER_ONLY.search(line)
            if m:
                problems.append(f"{f}:{n}: {m.group(1)} belongs to the server")

# The compiler has the last word: without the server's include path, each
# portable file, headers too, stands on its own.
portable = [f for f in sources if f.startswith(PORTABLE)]
for f in portable:
    cc = subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function",
                         "-fsyntax-only", "-x", "c", "-Isrc", "-include", f, "/dev/null"]
                        if f.endswith(".h") else
                        ["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wvla",
                         "-fsyntax-only", "-Isrc", f],
                        capture_output=True, text=True, check=False)
    if cc.returncode:
        problems += [s for s in cc.stderr.split("\n") if "error" in s][:5] or [f"{f}: does not compile"]

report(problems, f"{len(sources)} files, {len(portable)} of them portable",
       "order: core < crypto, message < net < provider < src < bgworker; move the code down, or pass what it needs in")
