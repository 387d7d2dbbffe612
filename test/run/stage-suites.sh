#!/usr/bin/env bash
# The suites that run in a stage, one after the other, each to its end
# whatever the ones before it did.
set -uo pipefail

. test/run/lib.sh

rc=0
if make --no-print-directory -j"$(nproc)" unit-build >"$NOTIF_LOG/unit-build.log" 2>&1; then
    test/run/unit.sh || rc=1
else
    show_tail "$NOTIF_LOG/unit-build.log" 30
    suite_end unit 0 1
    rc=1
fi
for suite in sandbox regress isolation tap; do
    start=$SECONDS
    "test/run/$suite.sh" || rc=1
    echo "($suite took $((SECONDS - start)) s)"
done
exit "$rc"
