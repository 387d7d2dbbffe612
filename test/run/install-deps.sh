#!/usr/bin/env bash
# Installs what the build and the tests need and this Debian lacks; does
# nothing, and needs no rights, when all of it is there.
#
# usage: install-deps.sh [fuzz]     "fuzz" adds the fuzzers' runtime
set -euo pipefail

packages=(
    gcc make pkg-config curl python3 openssl
    postgresql-15 postgresql-server-dev-15
    libnghttp2-dev libssl-dev libjansson-dev libc-ares-dev
    nghttp2-client          # h2load, the yardstick of the wire bench
    libipc-run-perl         # PostgreSQL's own TAP modules
    clang                   # lint compiles with both compilers
)
if [ "${1:-}" = fuzz ]; then
    packages+=(libclang-rt-14-dev)
fi

# A command or file that is there counts, wherever it came from.
have() {
    case $1 in
        gcc | make | pkg-config | curl | python3 | openssl)
            command -v "$1" >/dev/null ;;
        clang)
            command -v clang >/dev/null || command -v clang-14 >/dev/null ;;
        nghttp2-client)
            command -v h2load >/dev/null ;;
        libipc-run-perl)
            perl -MIPC::Run -MTAP::Harness -e 1 2>/dev/null ;;
        postgresql-15)
            pg_config --bindir >/dev/null 2>&1 && [ -x "$(pg_config --bindir)/initdb" ] ;;
        postgresql-server-dev-15)
            # the client's package brings pgxs.mk, but not the headers
            [ -e "$(pg_config --pgxs 2>/dev/null)" ] &&
                [ -e "$(pg_config --includedir-server 2>/dev/null)/postgres.h" ] ;;
        libnghttp2-dev | libssl-dev | libjansson-dev | libc-ares-dev)
            lib=${1%-dev}
            case $lib in libjansson) lib=jansson ;; libc-ares) lib=libcares ;; esac
            pkg-config --exists "$lib" 2>/dev/null ;;
        *)
            [ "$(dpkg-query -W -f '${Status}' "$1" 2>/dev/null)" = 'install ok installed' ] ;;
    esac
}

missing=()
for p in "${packages[@]}"; do
    have "$p" || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

echo "installing: ${missing[*]}" >&2
if ! command -v apt-get >/dev/null; then
    echo "this is no Debian: install the equivalents of the packages above yourself" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "neither root nor sudo: ask somebody who may to install them" >&2
        exit 1
    fi
    as_root=(sudo)
fi

# Package lists of a fresh machine are empty or old; apt's own noise is shown
# only when it fails.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 || {
        cat "$log" >&2
        return 1
    }
}
apt update || echo "apt-get update failed; trying with the lists at hand" >&2
apt install --no-install-recommends "${missing[@]}"
