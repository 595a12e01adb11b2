#!/bin/sh
# Install what the vault needs beside Python and cargo: SoftHSM's PKCS#11 module. With --test also
# libsodium, on which the tests' independent client is built, Prometheus and Alertmanager, with which
# the alerts are tested, Chromium and a font, in which the console is looked at, and what `make up`
# needs beside Docker itself. With --base debootstrap and Debian's keys alone, for image/base.sh.
# Quiet when all is there; says what to install where it may not do so itself.
set -eu

what=${1:-}
missing=""
say() { printf '%s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }
need() { missing="$missing $1"; }

for_the_vault() {
    has cargo || {
        say "cargo is missing: install Rust 1.85 or newer (https://rustup.rs), then run this again"
        exit 1
    }
    "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        say "Python 3.11 or newer is needed: install it, or name it with PYTHON=/path/to/python3.11"
        exit 1
    }
    has cc || need "gcc libc6-dev"
    for module in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so \
        /opt/homebrew/lib/softhsm/libsofthsm2.so; do
        [ -e "$module" ] && return
    done
    need softhsm2
}

for_the_base() {
    has debootstrap || need debootstrap
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || need debian-archive-keyring
}

for_the_tests() {
    ls /usr/lib/libsodium.so.23 /usr/lib/*/libsodium.so.23 >/dev/null 2>&1 || need libsodium23
    has promtool || need prometheus
    has amtool || need prometheus-alertmanager
    [ -x /usr/bin/chromium ] || need "chromium fonts-inter fonts-dejavu-core"
    for_the_base
    has docker-compose || docker compose version >/dev/null 2>&1 || need docker-compose
}

case $what in
"") for_the_vault ;;
--test) for_the_vault && for_the_tests ;;
--base) for_the_base ;;
*) say "unknown option $what: use --test, --base, or none" && exit 2 ;;
esac
missing=${missing# }
[ -n "$missing" ] || exit 0

if has apt-get && [ "$(id -u)" = 0 ]; then
    run=""
elif has apt-get && sudo -n true 2>/dev/null; then
    run="sudo"
else
    say "please install: $missing (on Debian or Ubuntu: sudo apt-get install $missing), then run this again"
    exit 1
fi
say "installing $missing with apt-get"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086 # a list of package names
if ! { $run apt-get update -q && $run apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1; then
    say "apt-get could not install $missing:"
    tail -n 20 "$log" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
case $missing in *prometheus*)
    # Only the programs are wanted: the packages' own services must not run.
    if has systemctl; then
        $run systemctl disable --now prometheus prometheus-alertmanager >/dev/null 2>&1 || true
    fi ;;
esac
