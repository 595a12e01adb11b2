#!/bin/sh
# Build the image of Prometheus and Alertmanager, quorumvault-monitoring:local or the name given.
# Nothing of the vault is in it, so that it is made once; the configurations are mounted.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
name=${1:-quorumvault-monitoring:local}
context=$(cd "$here/../.." && pwd)/dist/monitoring

"$here/base.sh"
mkdir -p "$context"
cp "$here/Monitoring.Dockerfile" "$context/Dockerfile"
cp "$here/answers.sh" "$context/answers.sh"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM
echo "  image $name" >&2
# The host's network: apt-get must reach Debian also where containers are not let out.
if ! DOCKER_BUILDKIT=0 docker build --network host --tag "$name" "$context" >"$log" 2>&1; then
    tail -n 25 "$log" >&2
    echo "the image was not built: see the lines above; 'make up MONITORING=no' does without it" >&2
    exit 1
fi
