#!/bin/sh
# Install what the vault needs beside Python and cargo: SoftHSM's PKCS#11 module. With --test also
# libsodium, on which the tests' independent client is built, and promtool, which tests the alerts.
# Quiet when all is there; says what to install where it may not do so itself.
set -eu

say() { printf '%s\n' "$*" >&2; }

command -v cargo >/dev/null 2>&1 || {
    say "cargo is missing: install Rust 1.85 or newer (https://rustup.rs), then run this again"
    exit 1
}
"${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    say "Python 3.11 or newer is needed: install it, or name it with PYTHON=/path/to/python3.11"
    exit 1
}
command -v cc >/dev/null 2>&1 || missing="gcc libc6-dev"
for module in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so \
    /opt/homebrew/lib/softhsm/libsofthsm2.so; do
    [ -e "$module" ] && found=yes
done
[ "${found:-no}" = yes ] || missing="${missing:-} softhsm2"
if [ "${1:-}" = --test ] && ! ls /usr/lib/libsodium.so.23 /usr/lib/*/libsodium.so.23 >/dev/null 2>&1; then
    missing="${missing:-} libsodium23"
fi
if [ "${1:-}" = --test ] && ! command -v promtool >/dev/null 2>&1; then
    missing="${missing:-} prometheus"
fi
[ -n "${missing:-}" ] || exit 0

if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    run=""
elif command -v apt-get >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    run="sudo"
else
    say "please install:${missing:+ }$missing (on Debian or Ubuntu: sudo apt-get install $missing), then run this again"
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
    # Only promtool is wanted: the package's own service must not run.
    if command -v systemctl >/dev/null 2>&1; then
        $run systemctl disable --now prometheus >/dev/null 2>&1 || true
    fi ;;
esac
