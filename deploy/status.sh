#!/bin/sh
# `make status`: the containers, and what the vault says of itself. Ends with the exit code of
# `cluster status`: 0 healthy, 4 degraded, 5 without a quorum; 1 when nothing is up.
set -eu
# shellcheck source=deploy/compose.sh
. "$(dirname "$0")/compose.sh"

need_docker
own_clone
[ -e "$run/connection.json" ] || fail "no vault was brought up here: 'make up'"
docker ps --all --filter "label=com.docker.compose.project=$project" --filter "name=$project-node-" \
    --format '{{.Names}}  {{.Status}}  {{.Image}}' | sort
cli=$here/../.venv/bin/quorumvault
[ -x "$cli" ] || cli=$(command -v quorumvault) ||
    fail "the command quorumvault is not on this machine: 'make demo' once installs it in .venv/bin"
exec "$cli" cluster status --connection "$run/connection.json"
