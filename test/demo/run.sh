#!/usr/bin/env bash
# make demo [KEEP=1]: the demonstration, in a stage of as-user.sh.  What it
# shows is in demo.py; the shop it plays is shop.sql.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ -z "${NOTIF_STAGE:-}" ]; then
    echo "demo: needs a stage; use make demo, or test/run/as-user.sh test/demo/run.sh" >&2
    exit 2
fi
# pq.py of the benches is all of libpq that is needed.
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=test/bench
exec python3 test/demo/demo.py
