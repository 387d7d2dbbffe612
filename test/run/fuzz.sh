#!/usr/bin/env bash
# Runs every fuzzer of build/fuzz for FUZZ_SECONDS, starting from the seeds in
# test/fuzz/corpus/NAME if there are any.  A find is left in build/fuzz.
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/run/lib.sh

passed=0 failed=0
for source in test/fuzz/*.c; do
    [ -e "$source" ] || break
    name=$(basename "$source" .c)
    mkdir -p "build/fuzz/corpus/$name"
    seeds=()
    [ ! -d "test/fuzz/corpus/$name" ] || seeds=("test/fuzz/corpus/$name")
    if "build/fuzz/$name" -max_total_time="${FUZZ_SECONDS:-30}" -timeout=10 -rss_limit_mb=1024 \
        -artifact_prefix="build/fuzz/$name-" "build/fuzz/corpus/$name" "${seeds[@]}" \
        >"build/fuzz/$name.log" 2>&1; then
        passed=$((passed + 1))
        echo "ok $name $(grep -oE 'Done [0-9]+ runs' "build/fuzz/$name.log" || true)"
    else
        failed=$((failed + 1))
        echo "not ok $name"
        show_tail "build/fuzz/$name.log" 40
    fi
done
suite_end fuzz "$passed" "$failed"
