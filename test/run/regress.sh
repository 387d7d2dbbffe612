#!/usr/bin/env bash
# pg_regress over test/sql/*.sql, expected output in expected/.  Runs in a
# stage (as-user.sh test/run/regress.sh [NAME...]).
#
# Each test has a database of its own, so that any of them can run alone and
# in any order.  A test that says CREATE EXTENSION notif itself gets an empty
# database; any other finds the extension there.
set -euo pipefail
. test/run/lib.sh

pgxs=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
out=$TMPDIR/regress_out
mkdir -p "$out"
ln -s "$PWD/expected" "$out/expected"

if [ $# -gt 0 ]; then
    names=("$@")
else
    names=()
    for f in test/sql/*.sql; do
        [ -e "$f" ] && names+=("$(basename "$f" .sql)")
    done
fi
if [ ${#names[@]} -eq 0 ]; then
    suite_nothing regress
    exit 1
fi

start_server regress || { suite_end regress 0 1; exit 1; }
passed=0 failed=0
for name in "${names[@]}"; do
    crashes=$(server_crashes)
    load=--load-extension=notif
    if grep -qiE '^[^-]*create[[:space:]]+extension[^;]*[[:space:]]notif' "test/sql/$name.sql"; then
        load=
    fi
    if timeout 300 "$pgxs/src/test/regress/pg_regress" \
        --bindir="${PATH%%:*}" --inputdir=test --outputdir="$out" \
        --host="$PGHOST" --port="$PGPORT" --user=postgres \
        --dbname="notif_$name" $load "$name" >"$out/$name.log" 2>&1 </dev/null; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "not ok regress/$name"
        if [ -s "$out/regression.diffs" ]; then
            head -n 80 "$out/regression.diffs" | sed 's/^/    /'
        else
            show_tail "$out/$name.log" 20
        fi
        settle_server "$crashes"
    fi
    cp "$out/$name.log" "$NOTIF_LOG/regress-$name.log"
    if [ -s "$out/regression.diffs" ]; then
        cp "$out/regression.diffs" "$NOTIF_LOG/regress-$name.diffs"
    fi
    if [ -e "$out/results/$name.out" ]; then
        cp "$out/results/$name.out" "$NOTIF_LOG/regress-$name.out"
    fi
    rm -f "$out/regression.diffs"
done
stop_server
if [ "$(server_crashes)" -gt 0 ]; then
    failed=$((failed + 1))
    echo "not ok regress: a server process crashed"
    grep -nE 'terminated by signal|PANIC:|exited with exit code' "$SERVER_LOG" | head -n 10 | sed 's/^/    /'
fi
suite_end regress "$passed" "$failed"
