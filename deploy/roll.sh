#!/bin/sh
# `make roll`: restart the five nodes one after the other, each on the image built from this tree:
# a rolling restart when nothing changed, an upgrade (or the way back) when something did. Each node
# drains first, and the next waits until all five are ready, so that clients notice only latency.
#   IMAGE=NAME   not to build, but to use an image that is there
#   SEATS="1 2"  only these, to look before the others follow
set -eu
# shellcheck source=deploy/compose.sh
. "$(dirname "$0")/compose.sh"

need_docker
own_clone
alone
[ -e "$run/connection.json" ] || fail "no vault was brought up here: 'make up'"
chosen=${SEATS:-$seats}
for seat in $chosen; do
    case " $seats " in
    *" $seat "*) ;;
    *) fail "SEATS names '$seat': use some of $seats, with spaces between" ;;
    esac
done
for seat in $seats; do
    running "$project-node-$seat" ||
        fail "$project-node-$seat is not up: nothing was restarted; 'make up' starts what is stopped"
done
wait_ready # whoever lost a leader a moment ago is ready in the next
if [ -n "${IMAGE:-}" ]; then
    docker image inspect "$IMAGE" >/dev/null 2>&1 || fail "there is no image $IMAGE: 'docker images' lists those that are there"
    export QUORUMVAULT_IMAGE="$IMAGE"
else
    "$here/image/build.sh" "$image"
fi
for seat in $chosen; do
    say "  node $seat"
    compose up --detach --no-deps --force-recreate "node-$seat" >"$run/roll.log" 2>&1 || {
        tail -n 15 "$run/roll.log" >&2
        fail "node $seat could not be started anew: read the lines above; the nodes after it still run as before"
    }
    wait_ready
done
drop_old_images
say "Restarted, and all five nodes are ready: $(echo $chosen | sed 's/ /, /g')."
