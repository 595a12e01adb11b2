#!/bin/sh
# `make down`: containers, networks, volumes and deploy/run go, and with them every key. It asks
# first; CONFIRM=yes answers for scripts. The images stay: they hold nothing of a vault.
set -eu
# shellcheck source=deploy/compose.sh
. "$(dirname "$0")/compose.sh"

need_docker
own_clone
alone
if [ -z "$(ours)$(
    docker volume ls --quiet --filter "label=com.docker.compose.project=$project")" ] && [ ! -e "$run" ]; then
    say "nothing is there"
    exit 0
fi
case $run in
"$here"/*) ;;
*) [ ! -e "$run" ] || [ -d "$run/secrets" ] ||
    fail "QUORUMVAULT_RUN is '$run', and that is no folder of 'make up' (it has no secrets/): nothing was removed" ;;
esac
if [ "${CONFIRM:-}" != yes ]; then
    say "This DESTROYS the vault of this compose project: five HSM tokens, all records and the custodians' words."
    say "Nothing brings its backup keys back. 'make stop' stops it and keeps everything."
    [ -t 0 ] || fail "nothing was done: say 'make down CONFIRM=yes'"
    printf 'Type "yes" to destroy it: ' >&2
    read -r answer
    [ "$answer" = yes ] || fail "nothing was done"
fi
mkdir -p "$run/secrets"
for seat in $seats; do # compose wants the files of its secrets also to remove what used them
    touch "$run/secrets/pin-$seat" "$run/secrets/so-pin-$seat"
done
# What an earlier `make up` may have added has volumes too.
case $(cat "$run/overrides" 2>/dev/null || true) in
*docker-compose.monitoring.yml*) ;;
*) printf '%s' ":$here/docker-compose.monitoring.yml" >>"$run/overrides" ;;
esac
export COMPOSE_PROFILES=grafana
compose down --volumes --remove-orphans --timeout 15 >"$run/down.log" 2>&1 || {
    tail -n 15 "$run/down.log" >&2
    fail "not everything could be removed: read the lines above, then 'make down' again"
}
rm -rf "$run"
say "Gone: containers, networks, volumes, $shown. The images stay (docker rmi $image)."
