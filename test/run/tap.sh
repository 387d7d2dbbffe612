#!/usr/bin/env bash
# TAP tests (test/t/*.pl) with PostgreSQL::Test::Cluster.  Runs in a stage
# (as-user.sh test/run/tap.sh [FILE...]), against a build with fault points.
set -euo pipefail
. test/run/lib.sh

files=("$@")
if [ ${#files[@]} -eq 0 ]; then
    files=(test/t/*.pl)
fi
if [ ! -e "${files[0]}" ]; then
    suite_nothing tap
    exit 1
fi

FAULTS=1 test/run/stage-build.sh || { suite_end tap 0 1; exit 1; }

pgxs=$(cd "$(dirname "$("$PG_CONFIG" --pgxs)")/../.." && pwd)
export PG_REGRESS=$pgxs/src/test/regress/pg_regress
export TESTDIR=$NOTIF_STAGE/tap
export PGPORT=65432
mkdir -p "$TESTDIR"

rc=0
perl test/run/tap.pl "$pgxs/src/test/perl" "${JOBS:-2}" "${files[@]}" || rc=$?

# Server and test logs, without the data directories beside them.
if [ -d "$TESTDIR/tmp_check/log" ]; then
    mkdir -p "$NOTIF_LOG/tap"
    cp -r "$TESTDIR/tmp_check/log/." "$NOTIF_LOG/tap/"
fi
exit "$rc"
