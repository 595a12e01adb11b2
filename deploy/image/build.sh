#!/bin/sh
# Build the vault's image, quorumvault:local or the name given, from what stands in this tree.
# For the classic builder: no BuildKit. A second build with nothing changed takes seconds.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
name=${1:-quorumvault:local}
context=$root/dist/image

"$here/base.sh"
"$here/wheels.sh"
for file in Dockerfile create.sh provision.sh healthy.sh connection.py softhsm2.conf; do
    cp "$here/$file" "$context/$file"
done
printf '*.sha256\n' >"$context/.dockerignore"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml" | head -n 1)
commit=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git -C "$root" status --porcelain 2>/dev/null)" ] || commit=$commit-changed
echo "  image $name of $commit" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM
# The host's network: apt-get must reach Debian also where containers are not let out.
if ! DOCKER_BUILDKIT=0 docker build --network host --tag "$name" \
    --build-arg "VERSION=$version" --build-arg "COMMIT=$commit" "$context" >"$log" 2>&1; then
    tail -n 25 "$log" >&2
    echo "the image was not built: see the lines above" >&2
    exit 1
fi
