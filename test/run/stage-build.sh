#!/usr/bin/env bash
# Builds notif (and the sandbox) in a stage of as-user.sh and installs it into
# the stage's server.  Prints the build's output only if it fails.
#
# environment: NOTIF_STAGE, PG_CONFIG; FAULTS=1 compiles fault points in
set -euo pipefail

log=$NOTIF_STAGE/log/build${FAULTS:+-faults}.log
run() {
    if ! make --no-print-directory "$@" >"$log" 2>&1; then
        echo "build failed: make $*"
        grep -E 'error|Error|undefined' "$log" | head -n 40 || true
        echo "(whole output: build/log/${log##*/})"
        exit 1
    fi
}
run -j"$(nproc)" all ${FAULTS:+FAULTS="$FAULTS"}
# both libraries, for the test that compares them
cp notif.so "build/notif${FAULTS:+-faults}.so"
run install ${FAULTS:+FAULTS="$FAULTS"} DESTDIR="$NOTIF_STAGE/pg"
if [ -e test/sandbox/Makefile ]; then
    run -j"$(nproc)" sandbox
fi
