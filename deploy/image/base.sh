#!/bin/sh
# Make sure that the base image is there: pulled where a registry can be reached, else the same
# Debian made here with debootstrap, under the same name. Costs nothing when it is there already.
set -eu

name=debian:bookworm-slim
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
pull_seconds=120
here=$(cd "$(dirname "$0")" && pwd)

say() { printf '%s\n' "$*" >&2; }

docker image inspect "$name" >/dev/null 2>&1 && exit 0
say "  base image $name: asking the registry"
timeout "$pull_seconds" docker pull --quiet "$name" >/dev/null 2>&1 && exit 0

say "  no registry answers: making $name with debootstrap from $mirror (about a minute)"
[ "$(id -u)" = 0 ] || {
    say "debootstrap needs root: run 'sudo deploy/image/base.sh' once, then 'make up' again"
    exit 1
}
"$here/../system-packages.sh" --base
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
# Without Debian's keys it would take whatever the network gives, after a mere warning.
debootstrap --force-check-gpg --variant=minbase bookworm "$work/root" "$mirror" >"$work/log" 2>&1 || {
    say "debootstrap failed; its last lines:"
    tail -n 10 "$work/log" >&2
    exit 1
}
rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
tar -C "$work/root" --numeric-owner -c . | docker import --change 'CMD ["bash"]' - "$name" >/dev/null
say "  $name is there"
