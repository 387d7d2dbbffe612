#!/usr/bin/env bash
# make bench [ONLY=name]: runs the benches in a stage of as-user.sh.  Figures go
# to standard output, one "figure<TAB>value<TAB>unit" a line; all else to
# standard error.  Status 0 only if every bench ran and kept its own rules.
# docs/performance.md says what each figure means and which variables there are.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

all=(wire pipeline gates conditions p0 publish provider_hang memory held_xmin backlog schedule isolation outage soak)
names=("${all[@]}")
if [ -n "${ONLY:-}" ]; then
    read -r -a names <<<"${ONLY//,/ }"
fi

for name in "${names[@]}"; do
    if ! printf '%s\n' "${all[@]}" | grep -qxF -- "$name"; then
        echo "bench: there is no bench $name; there are: ${all[*]}" >&2
        exit 2
    fi
done
if [ -z "${NOTIF_STAGE:-}" ]; then
    echo "bench: needs a stage; use make bench, or test/run/as-user.sh test/bench/run.sh" >&2
    exit 2
fi

rc=0
for name in "${names[@]}"; do
    echo "bench $name: $(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg)" >&2
    if [ "$name" = wire ]; then
        log=$NOTIF_LOG/bench-wire-build.log
        if ! { make --no-print-directory -j"$(nproc)" plain &&
            gcc -std=gnu11 -Wall -Wextra -D_GNU_SOURCE -O2 -g -o "$TMPDIR/wire_client" test/bench/wire_client.c \
                build/plain/libportable.a -lnghttp2 -lssl -lcrypto -lcares -ljansson; } >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            rc=1
            continue
        fi
    fi
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=test/bench python3 "test/bench/$name.py" || {
        echo "bench $name: FAILED" >&2
        rc=1
    }
done
exit "$rc"
