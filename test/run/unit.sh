#!/usr/bin/env bash
# Runs every unit test program of build/unit; adds up what they count.
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/run/lib.sh

limit=${UNIT_TIMEOUT:-120}
log=${NOTIF_LOG:-build/log}
mkdir -p "$log"
passed=0 failed=0
for source in test/unit/test_*.c; do
    [ -e "$source" ] || { suite_nothing unit; exit 1; }
    name=$(basename "$source" .c)
    out=$log/$name.log
    rc=0
    timeout "$limit" "build/unit/$name" >"$out" 2>&1 </dev/null || rc=$?
    line=$(tail -n 1 "$out")
    p=0 f=0
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        p=${BASH_REMATCH[1]} f=${BASH_REMATCH[2]}
    fi
    # Crashed, hung, reported by a sanitizer, or checked nothing.
    if [ "$f" -eq 0 ] && { [ "$rc" -ne 0 ] || [ "$p" -eq 0 ]; }; then
        f=1
    fi
    if [ "$f" -gt 0 ]; then
        echo "not ok $name (status $rc)"
        show_tail "$out" 30
    fi
    passed=$((passed + p)) failed=$((failed + f))
done
# A module that no test links would pass unseen.
if [ "$passed" -gt 0 ]; then
    linked=$(for b in build/unit/test_*; do [ ! -x "$b" ] || nm --defined-only "$b"; done | awk '{ print $3 }' | sort -u)
    for object in $(find build/unit/obj -path '*/obj/src/*' -name '*.o' | sort); do
        [ -e "$(sed 's|^build/unit/obj/||; s|o$|c|' <<<"$object")" ] || continue
        # only functions others can call say whether the module was pulled in
        own=$(nm --defined-only --extern-only "$object" | awk '$2 == "T" && $3 !~ /^_/ { print $3 }' | sort -u)
        if [ -n "$own" ] && [ -z "$(comm -12 <(printf '%s\n' "$own") <(printf '%s\n' "$linked"))" ]; then
            echo "not ok ${object#build/unit/obj/}: no unit test uses it"
            failed=$((failed + 1))
        fi
    done
fi
suite_end unit "$passed" "$failed"
