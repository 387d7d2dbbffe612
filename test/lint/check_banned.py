"""No function that invites overflows, and below PostgreSQL none that a server must not call."""
import re
from common import PORTABLE, files, read, report, strip_c

EVERYWHERE = "sprintf vsprintf strcpy strcat strtok atoi atol atof gets strncpy strncat alloca".split()
BELOW = ("malloc calloc realloc strdup strndup asprintf vasprintf printf fprintf vprintf vfprintf puts fputs putchar "
         "perror exit _exit _Exit quick_exit abort assert signal getenv setenv time gettimeofday localtime gmtime "
         "longjmp setjmp sleep usleep nanosleep").split()
MAY_ALLOCATE = {"src/core/mem.c": {"malloc", "calloc", "realloc"}}


def calls(names):
    return re.compile(r"(?<![\w.>])(" + "|".join(names) + r")\s*\(")


every, below = calls(EVERYWHERE), calls(EVERYWHERE + BELOW)
problems, seen = [], 0
for f in files():
    if not f.endswith((".c", ".h", ".cpp")):
        continue
    seen += 1
    pattern = below if f.startswith(PORTABLE) else every
    for n, line in enumerate(strip_c(read(f)).split("\n"), 1):
        for m in pattern.finditer(line):
            if m.group(1) not in MAY_ALLOCATE.get(f, ()):
                problems.append(f"{f}:{n}: {m.group(1)}()")
report(problems, f"{seen} files",
       "use snprintf or a NotifBuf, notif_malloc and its like, an injected clock; report errors as a status")
