#!/usr/bin/env bash
# make test: installs what is missing, builds, runs every suite, and ends with
# one line, "N passed, M failed", summed over all of them.  Status 0 only if
# something passed and nothing failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

seen=$(mktemp)
trap 'rm -f "$seen"' EXIT

# A suite's line counts only if its script wrote it; each step that dies
# without one counts as a failure.
step() {    # step NAME COMMAND...
    local name=$1 from rc=0
    shift
    from=$(wc -l <"$seen")
    "$@" 2>&1 | tee -a "$seen" || rc=1
    if [ "$rc" -ne 0 ] && ! tail -n +$((from + 1)) "$seen" | grep -qE '^[a-z]+: [0-9]+ passed, [1-9][0-9]* failed$'; then
        echo "$name: 0 passed, 1 failed" | tee -a "$seen"
    fi
    return "$rc"
}

rm -rf build/log
if step install test/run/install-deps.sh &&
    step build make --no-print-directory -s -j"$(nproc)" all; then
    step stage test/run/as-user.sh test/run/stage-suites.sh
    step lint make --no-print-directory -s lint
fi

awk '/^[a-z]+: [0-9]+ passed, [0-9]+ failed$/ { p += $2; f += $4; line[++n] = $0 }
     END {
         print ""
         for (i = 1; i <= n; i++) print line[i]
         printf "%d passed, %d failed\n", p, f
         exit !(p > 0 && f == 0)
     }' "$seen"
