#!/usr/bin/env bash
# pg_isolation_regress over test/specs/*.spec, expected output in expected/.
# Runs in a stage (as-user.sh test/run/isolation.sh [NAME...]).  The extension
# is there; each spec has a database of its own.
set -euo pipefail
. test/run/lib.sh

pgxs=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
out=$TMPDIR/isolation_out
mkdir -p "$out"
ln -s "$PWD/expected" "$out/expected"

if [ $# -gt 0 ]; then
    names=("$@")
else
    names=()
    for f in test/specs/*.spec; do
        [ -e "$f" ] && names+=("$(basename "$f" .spec)")
    done
fi
if [ ${#names[@]} -eq 0 ]; then
    suite_end isolation 0 0
    exit
fi

start_server isolation || { suite_end isolation 0 1; exit 1; }
passed=0 failed=0
for name in "${names[@]}"; do
    crashes=$(server_crashes)
    if timeout 300 "$pgxs/src/test/isolation/pg_isolation_regress" \
        --bindir="${PATH%%:*}" --inputdir=test --outputdir="$out" \
        --host="$PGHOST" --port="$PGPORT" --user=postgres \
        --dbname="iso_$name" --load-extension=notif "$name" >"$out/$name.log" 2>&1 </dev/null; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "not ok isolation/$name"
        if [ -s "$out/regression.diffs" ]; then
            head -n 80 "$out/regression.diffs" | sed 's/^/    /'
        else
            show_tail "$out/$name.log" 20
        fi
        settle_server "$crashes"
    fi
    cp "$out/$name.log" "$NOTIF_LOG/isolation-$name.log"
    if [ -e "$out/results/$name.out" ]; then
        cp "$out/results/$name.out" "$NOTIF_LOG/isolation-$name.out"
    fi
    rm -f "$out/regression.diffs"
done
stop_server
if [ "$(server_crashes)" -gt 0 ]; then
    failed=$((failed + 1))
    echo "not ok isolation: a server process crashed"
fi
suite_end isolation "$passed" "$failed"
