#!/usr/bin/env bash
# Both compilers accept every C file without a warning, with and without fault
# points.
set -uo pipefail

pg_config=${PG_CONFIG:-}
for c in pg_config /usr/lib/postgresql/15/bin/pg_config; do
    [ -n "$pg_config" ] || ! "$c" --pgxs >/dev/null 2>&1 || pg_config=$c
done
if [ -z "$pg_config" ]; then
    echo "no pg_config: the server's headers are needed"
    echo "-> test/run/install-deps.sh"
    exit 1
fi
clang=$(command -v clang || command -v clang-14)

flags=(-std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wvla -Wmissing-prototypes -fsyntax-only -Isrc -DNOTIF_RELEASE=lint)
server=(-isystem "$("$pg_config" --includedir-server)" -Wno-unused-parameter)

shopt -s nullglob
portable=(src/*/*.c)
tests=(test/unit/*.c)
others=(test/fuzz/*.c test/t/lib/*.c test/sandbox/*.c test/bench/*.c test/bench/*/*.c test/sandbox/*/*.c)
servers=(src/*.c bgworker/*.c)

# one line per compilation, run a few at a time
commands() {
    local cc f
    for cc in gcc "$clang"; do
        for f in "${portable[@]}"; do
            printf '%q ' "$cc" "${flags[@]}" "$f"; echo
        done
        for f in "${tests[@]}"; do
            printf '%q ' "$cc" "${flags[@]}" -Wno-missing-prototypes -Itest/unit "$f"; echo
        done
        for f in "${others[@]}"; do
            printf '%q ' "$cc" "${flags[@]}" -Wno-missing-prototypes "-I${f%/*}" "-I$(dirname "${f%/*}")" "$f"; echo
        done
        for f in "${servers[@]}"; do
            printf '%q ' "$cc" "${flags[@]}" "${server[@]}" "$f"; echo
            if grep -q NOTIF_FAULT "$f"; then
                printf '%q ' "$cc" "${flags[@]}" "${server[@]}" -DNOTIF_FAULTS "$f"; echo
            fi
        done
    done
}
out=$(commands | xargs -P "$(nproc)" -d '\n' -n 1 bash -c 'eval "$1"' _ 2>&1) && rc=0 || rc=$?
if [ "$rc" -ne 0 ]; then
    printf '%s\n' "$out" | grep -E ': (fatal )?error: ' | sort -u | head -n 40
    echo "-> mend the code; a warning is silenced only where a foreign header causes it"
    exit 1
fi
echo "$((${#portable[@]} + ${#tests[@]} + ${#others[@]} + ${#servers[@]})) files, 2 compilers"
