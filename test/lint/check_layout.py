"""Files look as .editorconfig says, C files begin with their design, scripts parse."""
import os
import re
import subprocess
from common import files, is_text, read, report

problems, seen = [], 0
for f in files():
    if not is_text(f) or f.startswith("expected/"):
        continue
    seen += 1
    text = read(f)
    if not text:
        problems.append(f"{f}: empty")
        continue
    if "\r" in text:
        problems.append(f"{f}: carriage returns")
    if not text.endswith("\n"):
        problems.append(f"{f}: no newline at the end")
    for n, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip() and not f.endswith(".md"):
            problems.append(f"{f}:{n}: blanks at the end")
        if f.endswith((".c", ".h")) and re.match(r" {4,}[^ *]", line):
            problems.append(f"{f}:{n}: indented with blanks")
    if f.endswith((".c", ".h")) and not text.startswith("/*"):
        problems.append(f"{f}:1: does not begin with a comment saying what it is for")
    if text.startswith("#!"):
        if not os.access(f, os.X_OK):
            problems.append(f"{f}: has #! but is not executable")
        if re.match(r"#!.*\b(?:ba)?sh\b", text):
            bash = subprocess.run(["bash", "-n", f], capture_output=True, text=True, check=False)
            if bash.returncode:
                problems.append(f"{f}: {bash.stderr.strip()}")
    if f.endswith(".py"):
        try:
            compile(text, f, "exec")
        except SyntaxError as e:
            problems.append(f"{f}:{e.lineno}: {e.msg}")
report(problems, f"{seen} files", "an editor that reads .editorconfig does most of it; .clang-format helps with new C")
