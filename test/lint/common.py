"""What the checks share: the list of files, C and SQL without their comments,
and the one way to report.

A check is a program check_NAME.py (or .sh).  It prints what is wrong, one line
per place as FILE:LINE: WHAT, then what to do about it, and exits with 1; or
prints what it looked at and exits with 0.  run.sh does the rest.
"""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.chdir(ROOT)

PORTABLE = ("src/core/", "src/crypto/", "src/message/", "src/net/", "src/provider/")
TEXT = (".c", ".h", ".cpp", ".sql", ".spec", ".pl", ".pm", ".py", ".sh", ".md", ".out",
        ".control", ".mk", ".conf", ".json", ".txt", ".yml")


def files():
    """Every file of the tree that is, or could be, committed."""
    git = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"],
                         capture_output=True, check=False)
    if git.returncode == 0:
        found = [f for f in git.stdout.decode().split("\0") if f]
    else:
        found = []
        for top, dirs, names in os.walk("."):
            dirs[:] = [d for d in dirs if d not in (".git", "build", "tmp_check", "results", "__pycache__")]
            for n in names:
                f = os.path.normpath(os.path.join(top, n))
                if not f.endswith((".o", ".d", ".so", ".a", ".bc")) and not f.startswith("sql/notif--"):
                    found.append(f)
    return sorted(f for f in set(found) if os.path.isfile(f))


def is_text(name):
    """Whether the tree treats the file as text to be read by people."""
    base = os.path.basename(name)
    return name.endswith(TEXT) or base in ("Makefile", "LICENSE", "run", ".gitignore", ".editorconfig")


def read(name):
    with open(name, encoding="utf-8", errors="replace") as f:
        return f.read()


def strip_c(text, strings=True):
    """Blanks comments (and strings) out of C, keeping every line in place."""
    def blank(m):
        s = m.group(0)
        if s[0] in "\"'" and not strings:
            return s
        return re.sub(r"[^\n]", " ", s)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def strip_sql(text):
    """Blanks SQL comments, keeping every line in place and strings as they are."""
    out, i, n = [], 0, len(text)
    while i < n:
        if text.startswith("--", i):
            j = text.find("\n", i)
            j = n if j < 0 else j
            out.append(" " * (j - i))
        elif text.startswith("/*", i):
            depth, j = 1, i + 2
            while j < n and depth:
                if text.startswith("/*", j):
                    depth, j = depth + 1, j + 2
                elif text.startswith("*/", j):
                    depth, j = depth - 1, j + 2
                else:
                    j += 1
            out.append(re.sub(r"[^\n]", " ", text[i:j]))
        elif text[i] == "'":
            escaped = i > 0 and text[i - 1] in "eE" and (i < 2 or not text[i - 2].isalnum())
            j = i + 1
            while j < n and text[j] != "'":
                j += 2 if escaped and text[j] == "\\" else 1
            j = min(j + 1, n)
            out.append(text[i:j])
        elif text[i] == '"':
            j = text.find('"', i + 1)
            j = n if j < 0 else j + 1
            out.append(text[i:j])
        else:
            out.append(text[i])
            j = i + 1
        i = j
    return "".join(out)


def statements(text):
    """Splits a script into (line, statement, head): head is the statement with
    quoted bodies and string contents blanked, so that a pattern found in it is
    SQL of the statement itself.  Comments are gone from both."""
    result, i, n = [], 0, len(text)
    cur, head, start = [], [], None

    def take(s, in_head):
        nonlocal start
        if start is None and s.strip():
            start = i
        cur.append(s)
        head.append(s if in_head else re.sub(r"[^\n]", " ", s))

    depth_atomic = 0
    while i < n:
        m = None
        if text.startswith("--", i):
            j = text.find("\n", i)
            j = n if j < 0 else j
        elif text.startswith("/*", i):
            depth, j = 1, i + 2
            while j < n and depth:
                if text.startswith("/*", j):
                    depth, j = depth + 1, j + 2
                elif text.startswith("*/", j):
                    depth, j = depth - 1, j + 2
                else:
                    j += 1
        elif text[i] == "\\" and start is None:
            j = text.find("\n", i)          # a psql command ends with its line
            j = n if j < 0 else j
        elif text[i] == "'":
            escaped = i > 0 and text[i - 1] in "eE" and (i < 2 or not text[i - 2].isalnum())
            j = i + 1
            while j < n:
                if escaped and text[j] == "\\":
                    j += 2
                elif text[j] == "'":
                    if text.startswith("''", j):
                        j += 2
                    else:
                        break
                else:
                    j += 1
            j = min(j + 1, n)
            take(text[i:j], False)
        elif text[i] == '"':
            j = text.find('"', i + 1)
            j = n if j < 0 else j + 1
            take(text[i:j], True)
        elif text[i] == "$" and (m := re.compile(r"\$(?:[A-Za-z_][A-Za-z_0-9]*)?\$").match(text, i)):
            j = text.find(m.group(0), m.end())
            j = n if j < 0 else j + len(m.group(0))
            take(text[i:j], False)
        elif (m := re.compile(r"[A-Za-z_][A-Za-z_0-9]*").match(text, i)):
            j = m.end()
            word = m.group(0).upper()
            if word == "ATOMIC":
                depth_atomic = 1
            elif depth_atomic and word == "CASE":
                depth_atomic += 1
            elif depth_atomic and word == "END":
                depth_atomic -= 1
            take(text[i:j], True)
        elif text[i] == ";" and not depth_atomic:
            j = i + 1
            if start is not None:
                result.append((text.count("\n", 0, start) + 1, "".join(cur).strip(), "".join(head).strip()))
            cur, head, start = [], [], None
        else:
            j = i + 1
            take(text[i], True)
        i = j
    if start is not None:
        result.append((text.count("\n", 0, start) + 1, "".join(cur).strip(), "".join(head).strip()))
    return result


def install_script():
    """The assembled install script: (name, text)."""
    version = re.search(r"default_version *= *'([^']+)'", read("notif.control")).group(1)
    name = f"sql/notif--{version}.sql"
    if not os.path.exists(name):
        print(f"{name} is not there\nassemble it: make script")
        sys.exit(1)
    return name, read(name)


FUNCTION = re.compile(r"^CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\s+([\w.\"]+)\s*\(", re.I)


def functions():
    """(script, line, name, statement, head) of every function of the install
    script.  Fails if the splitter overlooked one."""
    script, text = install_script()
    found = [(script, line, m.group(1), stmt, head)
             for line, stmt, head in statements(text) if (m := FUNCTION.match(head))]
    raw = len(re.findall(r"^\s*CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\b", strip_sql(text), re.I | re.M))
    if raw != len(found):
        print(f"{script}: {raw} CREATE FUNCTION at the start of a line, {len(found)} statements recognised")
        print("the splitter in test/lint/common.py does not understand this script; mend it")
        sys.exit(1)
    return found


def report(problems, looked_at, advice):
    """Ends the check."""
    if problems:
        for p in problems[:60]:
            print(p)
        if len(problems) > 60:
            print(f"... and {len(problems) - 60} more")
        print("-> " + advice)
        sys.exit(1)
    print(looked_at)
    sys.exit(0)
