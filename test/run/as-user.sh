#!/usr/bin/env bash
# Runs a command that starts PostgreSQL servers: as an unprivileged user (a
# server refuses to run as root), in a private copy of the checkout (that user
# may not be able to read it), with a private copy of the server's programs in
# which notif is installed (so nothing of the machine's own is touched and any
# number of runs can go on at once).
#
# usage: as-user.sh COMMAND [ARGUMENT...]      COMMAND relative to the checkout
#
# The copy, the "stage", is a temporary directory:
#   src/   the checkout with what is built in it; the command's directory
#   pg/    the server under its own absolute paths, first in PATH.
#          PostgreSQL finds its libraries and share files relative to the
#          program started, so the copy uses its own; only the programs are
#          copied, the rest is links.
#   tmp/   TMPDIR
#   log/   what is worth keeping; ends up in build/log of the checkout
#
# The command sees: NOTIF_STAGE, NOTIF_LOG, PG_CONFIG (the original one, for
# builds), PATH, TMPDIR, and the caller's environment without PG* variables.
#
# KEEP=1          the stage stays (and what runs in it); its path is printed
# NOTIF_TEST_USER the user to become when root (postgres, else nobody)
# FAULTS=1        build with fault points
#
# Messages of this script and of the build go to standard error: standard
# output belongs to the command.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
[ $# -gt 0 ] || { echo "usage: as-user.sh COMMAND [ARGUMENT...]" >&2; exit 2; }

say() { echo "as-user: $*" >&2; }

if [ ! -e "$root/$1" ]; then
    say "$1 does not exist"
    exit 1
fi

if [ -z "${PG_CONFIG:-}" ]; then
    for c in pg_config /usr/lib/postgresql/15/bin/pg_config; do
        if [ -e "$("$c" --pgxs 2>/dev/null)" ]; then
            PG_CONFIG=$(command -v "$c")
            break
        fi
    done
fi
[ -n "${PG_CONFIG:-}" ] || { say "no usable pg_config; test/run/install-deps.sh installs it"; exit 1; }

# ---- who ----------------------------------------------------------------
user=$(id -un)
become=()
if [ "$(id -u)" -eq 0 ]; then
    user=${NOTIF_TEST_USER:-}
    if [ -z "$user" ]; then
        user=nobody
        if id -u postgres >/dev/null 2>&1; then
            user=postgres
        fi
    fi
    become=(runuser -u "$user" --)
    base=/tmp
else
    base=${TMPDIR:-/tmp}
fi

# ---- stage --------------------------------------------------------------
# Short, because a socket's path may have 107 bytes only.
stage=$(mktemp -d "$base/notif.XXXXXX")
child=

clean_up() {
    trap - EXIT INT TERM
    if [ -d "$stage/log" ] && [ -n "$(ls -A "$stage/log")" ]; then
        mkdir -p "$root/build/log" && cp -r "$stage/log/." "$root/build/log/" ||
            say "no log of this run: build/log cannot be written"
    fi
    if [ "${KEEP:-}" = 1 ]; then
        say "kept: $stage"
        return
    fi
    # Servers that a test left behind would go on in deleted directories.
    local pidfile pid
    while IFS= read -r pidfile; do
        pid=$(head -n 1 "$pidfile")
        case $(readlink "/proc/$pid/exe" 2>/dev/null) in
            "$stage"/*)
                say "stopping a server left in ${pidfile%/*}"
                kill -QUIT "$pid" 2>/dev/null || true
                timeout 10 tail --pid="$pid" -f /dev/null || true
                ;;
        esac
    done < <(find "$stage" -name postmaster.pid 2>/dev/null)
    rm -rf "$stage" || say "could not remove all of $stage"
}
interrupted() {
    [ -z "$child" ] || kill -TERM -- "-$child" 2>/dev/null || kill -TERM "$child" 2>/dev/null || true
    [ -z "$child" ] || wait "$child" || true
    clean_up
    exit 130
}
trap clean_up EXIT
trap interrupted INT TERM

mkdir "$stage/src" "$stage/pg" "$stage/tmp" "$stage/log"
chmod 755 "$stage"

# tar says 1 when a file changed under it; the copy is complete all the same.
tar -C "$root" --exclude=./.git --exclude=./build/log --exclude=./build/fuzz -cf - . |
    tar -C "$stage/src" --no-same-owner -xf - || [ $? -eq 1 ]

bindir=$("$PG_CONFIG" --bindir)
sharedir=$("$PG_CONFIG" --sharedir)
pkglibdir=$("$PG_CONFIG" --pkglibdir)
for d in "$bindir" "$sharedir" "$pkglibdir"; do
    mkdir -p "$stage/pg$d"
done
cp -L "$bindir"/* "$stage/pg$bindir/"
cp -rs "$(readlink -f "$sharedir")/." "$stage/pg$sharedir/"
cp -rs "$(readlink -f "$pkglibdir")/." "$stage/pg$pkglibdir/"
rm -rf "$stage/pg$pkglibdir"/notif.so "$stage/pg$sharedir"/extension/notif*

if [ ${#become[@]} -gt 0 ]; then
    chown -hR "$user:" "$stage"
fi

while IFS= read -r v; do
    case $v in
        PG_CONFIG) ;;
        *) unset "$v" ;;
    esac
done < <(compgen -e | grep '^PG' || true)
# What an outer make passes down is meant for the checkout, not for the copy.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

export PG_CONFIG NOTIF_STAGE=$stage NOTIF_LOG=$stage/log TMPDIR=$stage/tmp
export HOME=$stage/tmp USER=$user LOGNAME=$user LC_ALL=C.UTF-8
export PATH="$stage/pg$bindir:$PATH"
umask 022
cd "$stage/src"

"${become[@]}" test/run/stage-build.sh >&2

# A process group of its own, so that an interrupt reaches all of it.
if [ -t 0 ]; then
    "${become[@]}" "$@" && rc=0 || rc=$?
else
    set -m
    "${become[@]}" "$@" &
    child=$!
    wait "$child" && rc=0 || rc=$?
    child=
fi
exit "$rc"
