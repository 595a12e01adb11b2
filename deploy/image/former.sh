#!/bin/sh
# Build the image of another commit beside the one of this tree, to run both mixed:
#   deploy/image/former.sh COMMIT NAME      then: make roll IMAGE=NAME SEATS="1 2"
# With that commit's own recipe, in a work tree of its own that goes when this ends. Wheels that
# both have in common, and what cargo compiled, are used again.
set -eu

[ $# -eq 2 ] || {
    echo "usage: deploy/image/former.sh COMMIT NAME" >&2
    exit 2
}
root=$(cd "$(dirname "$0")/../.." && pwd)
commit=$(git -C "$root" rev-parse --verify --quiet "$1^{commit}") || {
    echo "there is no commit $1 in this clone: 'git fetch' (in a shallow clone, 'git fetch --unshallow') brings it" >&2
    exit 1
}
made=$(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' "$2" 2>/dev/null || true)
[ "$made" != "$commit" ] || exit 0
tree=$root/dist/former
trap 'git -C "$root" worktree remove --force "$tree" 2>/dev/null || true' EXIT INT TERM
git -C "$root" worktree remove --force "$tree" 2>/dev/null || true
git -C "$root" worktree add --quiet --force --detach "$tree" "$commit"
mkdir -p "$tree/dist/image" "$root/target"
if [ -e "$root/dist/image/requirements.sha256" ]; then
    cp -a "$root/dist/image/requirements" "$root/dist/image/requirements.sha256" "$tree/dist/image/"
fi
CARGO_TARGET_DIR=$root/target "$tree/deploy/image/build.sh" "$2"
