# Sourced by up.sh and its siblings: what they share. Not run by itself.
# shellcheck shell=sh
here=$(cd "$(dirname "$0")" && pwd)
run=$here/run
seats="1 2 3 4 5"
ready_seconds=120

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

need_docker() {
    command -v docker >/dev/null 2>&1 ||
        fail "Docker is not installed: on Debian, apt-get install docker.io docker-compose"
    docker info >/dev/null 2>&1 ||
        fail "the Docker daemon does not answer: start it (systemctl start docker), or get the right to use it (group docker)"
    if docker compose version >/dev/null 2>&1; then
        composer="docker compose"
    elif command -v docker-compose >/dev/null 2>&1; then
        composer="docker-compose"
    else
        fail "neither 'docker compose' nor docker-compose is there: on Debian, apt-get install docker-compose"
    fi
}

compose() {
    # shellcheck disable=SC2086 # one word or two
    QUORUMVAULT_RUN=$run $composer --project-name quorumvault --file "$here/docker-compose.yml" "$@"
}

# Images of ours that lost their name to a newer one and that no container runs any more.
drop_old_images() {
    docker image prune --force --filter label=org.opencontainers.image.title=Quorumvault >/dev/null
}

running() { [ "$(docker inspect --format '{{.State.Running}}' "$1" 2>/dev/null)" = true ]; }
ready() { running "$1" && docker exec "$1" /usr/local/lib/quorumvault/healthy.sh >/dev/null 2>&1; }

wait_ready() {
    deadline=$(($(date +%s) + ready_seconds))
    for seat in $seats; do
        node=quorumvault-node-$seat
        until ready "$node"; do
            if [ "$(date +%s)" -ge "$deadline" ]; then
                docker logs --tail 5 "$node" >&2 || true
                fail "$node is not ready after $ready_seconds s: its last lines are above ('docker logs $node')"
            fi
            sleep 0.2
        done
    done
}
