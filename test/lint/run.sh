#!/usr/bin/env bash
# Runs every check of this directory and prints "ok NAME (what it looked at)"
# or "not ok NAME" with what is wrong and what to do.  Names as arguments run
# those only: run.sh layers size
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

passed=0 failed=0
for check in test/lint/check_*; do
    name=${check##*/check_}
    name=${name%.*}
    if [ $# -gt 0 ]; then
        case " $* " in *" $name "*) ;; *) continue ;; esac
    fi
    case $check in
        *.py) out=$(PYTHONDONTWRITEBYTECODE=1 python3 "$check" 2>&1) && rc=0 || rc=$? ;;
        *.sh) out=$(bash "$check" 2>&1) && rc=0 || rc=$? ;;
        *) out="check_* is neither .py nor .sh" rc=1 ;;
    esac
    if [ "$rc" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok $name ($out)"
    else
        failed=$((failed + 1))
        echo "not ok $name"
        printf '%s\n' "$out" | sed 's/^/    /'
    fi
done
echo "lint: $passed passed, $failed failed"
[ "$passed" -gt 0 ] && [ "$failed" -eq 0 ]
