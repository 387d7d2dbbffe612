#!/usr/bin/env bash
# ITER deaths at random moments (test/chaos/chaos.pl), in a stage with a build
# that has fault points.  Prints what failed, the draw's seed and the checker's
# line; status 0 only if all held.
set -euo pipefail
. test/run/lib.sh

FAULTS=1 test/run/stage-build.sh
pgxs=$(cd "$(dirname "$("$PG_CONFIG" --pgxs)")/../.." && pwd)
export PG_REGRESS=$pgxs/src/test/regress/pg_regress
export TESTDIR=$NOTIF_STAGE/tap
export PGPORT=65432
mkdir -p "$TESTDIR" "$NOTIF_LOG/chaos"

rc=0
perl -I "$pgxs/src/test/perl" -I test/t test/chaos/chaos.pl >"$NOTIF_LOG/chaos/out" 2>"$NOTIF_LOG/chaos/err" || rc=$?
grep '^not ok' "$NOTIF_LOG/chaos/out" || true
[ "$rc" -eq 0 ] || show_tail "$NOTIF_LOG/chaos/err" 40
grep -E '^# (ITER=|attempted )' "$NOTIF_LOG/chaos/out" | sed 's/^# //' || true
if [ -d "$TESTDIR/tmp_check/log" ]; then
    cp -r "$TESTDIR/tmp_check/log/." "$NOTIF_LOG/chaos/"
fi
suite_end chaos "$(grep -c '^ok' "$NOTIF_LOG/chaos/out" || true)" "$(($(grep -c '^not ok' "$NOTIF_LOG/chaos/out" || true) + (rc != 0)))"
