#!/bin/sh
# `make stop`: drain and stop all five nodes; keys, records and deploy/run stay for `make up`. Says
# which node did not end by itself in time: it lost nothing, but its clients paid an election.
set -eu
# shellcheck source=deploy/compose.sh
. "$(dirname "$0")/compose.sh"

need_docker
own_clone
alone
[ -e "$run" ] && [ -n "$(ours)" ] || {
    say "nothing is up: 'make up' brings it up"
    exit 0
}
export COMPOSE_PROFILES=grafana
compose stop >"$run/stop.log" 2>&1 || {
    tail -n 15 "$run/stop.log" >&2
    fail "not everything could be stopped: read the lines above"
}
for seat in $seats; do
    code=$(docker inspect --format '{{.State.ExitCode}}' "$project-node-$seat" 2>/dev/null || echo 0)
    [ "$code" = 0 ] ||
        say "$project-node-$seat ended with $code: 'docker logs $project-node-$seat', and the table in docs/node.md#exit-codes"
done
say "Stopped. Keys, records and $shown are still there: 'make up' brings all back."
