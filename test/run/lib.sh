# shellcheck shell=bash
# What the suite scripts share.  Each suite ends with one line,
#     NAME: P passed, F failed
# which test.sh adds up, and with status 0 only if F = 0.

suite_end() {   # suite_end NAME PASSED FAILED
    echo "$1: $2 passed, $3 failed"
    [ "$3" -eq 0 ]
}

# A suite that finds no test at all is a broken suite, not a passed one.
suite_nothing() {   # suite_nothing NAME
    echo "not ok $1: found no test"
    suite_end "$1" 0 1
}

# The last lines of a log, indented, under a title.
show_tail() {   # show_tail FILE LINES
    [ -s "$1" ] || return 0
    echo "--- last lines of ${1##*/}"
    tail -n "$2" "$1" | sed 's/^/    /'
}

# A throw-away server for the suites that talk to one with psql.
#   start_server NAME   initdb and start; sets SERVER_DIR; PGHOST and PGPORT
#   stop_server
# It listens on a socket in its own directory only, so no port can be taken.
start_server() {
    SERVER_DIR=$TMPDIR/$1
    SERVER_LOG=$NOTIF_LOG/$1-server.log
    mkdir -p "$SERVER_DIR/s"
    initdb -D "$SERVER_DIR/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$SERVER_DIR/initdb.log" 2>&1 || {
        cat "$SERVER_DIR/initdb.log"
        return 1
    }
    cat >>"$SERVER_DIR/data/postgresql.conf" <<EOF
shared_preload_libraries = 'notif'
listen_addresses = ''
unix_socket_directories = '$SERVER_DIR/s'
port = 5432
max_worker_processes = 32
max_connections = 60
max_prepared_transactions = 10
fsync = off
timezone = 'UTC'
log_line_prefix = '%m [%p] %b %q%d/%a '
log_lock_waits = on
EOF
    pg_ctl -D "$SERVER_DIR/data" -l "$SERVER_LOG" -w -t 60 start >/dev/null || {
        show_tail "$SERVER_LOG" 40
        return 1
    }
    export PGHOST=$SERVER_DIR/s PGPORT=5432 PGUSER=postgres
    trap stop_server EXIT
}

stop_server() {
    trap - EXIT
    pg_ctl -D "$SERVER_DIR/data" -w -t 60 -m fast stop >/dev/null 2>&1 ||
        pg_ctl -D "$SERVER_DIR/data" -w -m immediate stop >/dev/null 2>&1 || true
}

# After a failed test: a crashed server may still be recovering, which the next
# test should not pay for.
settle_server() {   # settle_server CRASHES_BEFORE
    [ "$(server_crashes)" -eq "$1" ] ||
        pg_ctl -D "$SERVER_DIR/data" -l "$SERVER_LOG" -w -t 60 -m immediate restart >/dev/null 2>&1 || true
}

# How often a process of the server ended by a signal or badly: that is a
# failure even if every comparison held.
server_crashes() {
    grep -cE 'was terminated by signal|server process .* exited with exit code [^01]|PANIC:' "$SERVER_LOG" || true
}
