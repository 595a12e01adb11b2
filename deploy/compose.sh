# Sourced by up.sh and its siblings: what they share. Not run by itself.
# shellcheck shell=sh
#
# A second stack beside the first one has names, ports and networks of its own:
#   QUORUMVAULT_PROJECT  its name (quorumvault), before the names of containers, volumes, networks
#   QUORUMVAULT_PORTS    the first digit of its ports on the host (1: 11443 and so on)
#   QUORUMVAULT_NET      the first half of its networks (172.30)
#   QUORUMVAULT_RUN      its folder, an absolute path (deploy/run; deploy/run-NAME of another project)
#   QUORUMVAULT_IMAGE    its image (quorumvault:local)
#   QUORUMVAULT_READY_S  how long a node may take until it is ready (120)
#   QUORUMVAULT_OVERRIDES  more compose files, absolute paths with ':' between; `make up` remembers them
here=$(cd "$(dirname "$0")" && pwd)
project=${QUORUMVAULT_PROJECT:-quorumvault}
ports=${QUORUMVAULT_PORTS:-1}
net=${QUORUMVAULT_NET:-172.30}
image=${QUORUMVAULT_IMAGE:-quorumvault:local}
if [ "$project" = quorumvault ]; then run=$here/run; else run=$here/run-$project; fi
run=${QUORUMVAULT_RUN:-$run}
shown=${run#"$(dirname "$here")"/}
seats="1 2 3 4 5"
ready_seconds=${QUORUMVAULT_READY_S:-120}

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

case $project in
"" | [!a-z0-9]* | *[!a-z0-9-]*) fail "QUORUMVAULT_PROJECT is '$project': use lower-case letters, digits and '-'" ;;
esac
case $ports in
[1-6]) ;;
*) fail "QUORUMVAULT_PORTS is '$ports': use one digit, 1 to 6; the ports are then ${ports:-N}1443 and so on" ;;
esac
case $net in
*[!0-9.]* | *.*.* | .* | *.) fail "QUORUMVAULT_NET is '$net': use the first two numbers of private networks, such as 172.31" ;;
*.*) ;;
*) fail "QUORUMVAULT_NET is '$net': use the first two numbers of private networks, such as 172.31" ;;
esac
case $run in
/*) ;;
*) fail "QUORUMVAULT_RUN is '$run': give an absolute path" ;;
esac
export QUORUMVAULT_PROJECT="$project" QUORUMVAULT_PORTS="$ports" QUORUMVAULT_NET="$net" \
    QUORUMVAULT_RUN="$run" QUORUMVAULT_IMAGE="$image"

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

# One command of this clone at a time: two at once would draw two PINs for one token.
alone() {
    exec 9<"$here/compose.sh"
    flock --nonblock 9 || {
        say "  another make up, roll, stop or down of this clone is at work: waiting for it"
        flock 9
    }
}

# A stack that another clone brought up is that clone's: its PINs are there and not here.
own_clone() {
    home=$(docker ps --all --filter "label=com.docker.compose.project=$project" \
        --format '{{.Label "com.docker.compose.project.working_dir"}}' | sort -u | head -n 1)
    [ ! -d "$home" ] || [ "$home" -ef "$here" ] ||
        fail "the vault '$project' was brought up from $home: work there, or bring up a second one beside it (deploy/README.md)"
}

# The files that make this stack: ours, and those that the last `make up` was told of.
compose() {
    # shellcheck disable=SC2086 # one word or two
    QUORUMVAULT_WAN=$(cat "$run/wan" 2>/dev/null || true) \
        COMPOSE_FILE="$here/docker-compose.yml$(cat "$run/overrides" 2>/dev/null || true)" COMPOSE_PATH_SEPARATOR=: \
        $composer --project-name "$project" "$@"
}

# The containers of this project, running or not, as ids.
ours() { docker ps --all --quiet --filter "label=com.docker.compose.project=$project"; }

# Images of ours that lost their name to a newer one and that no container runs any more.
drop_old_images() {
    docker image prune --force --filter label=org.opencontainers.image.title=Quorumvault >/dev/null
}

running() { [ "$(docker inspect --format '{{.State.Running}}' "$1" 2>/dev/null)" = true ]; }
ready() { running "$1" && docker exec "$1" /usr/local/lib/quorumvault/healthy.sh >/dev/null 2>&1; }

# Nodes know each other by address: one that was connected to the mesh without its own is not heard.
own_address() {
    is=$(docker inspect --format "{{with index .NetworkSettings.Networks \"${project}_mesh\"}}{{.IPAddress}}{{end}}" \
        "$project-node-$1" 2>/dev/null || true)
    cut="" place="not on the mesh"
    [ -z "$is" ] || cut="'docker network disconnect ${project}_mesh $project-node-$1', then " place="at $is on the mesh"
    [ "$is" = "$net.0.1$1" ] || ! running "$project-node-$1" ||
        fail "$project-node-$1 is $place and belongs at $net.0.1$1: $cut'docker network connect --ip $net.0.1$1 ${project}_mesh $project-node-$1'"
}

wait_ready() {
    deadline=$(($(date +%s) + ready_seconds))
    for seat in $seats; do
        node=$project-node-$seat
        until ready "$node"; do
            if [ "$(date +%s)" -ge "$deadline" ]; then
                docker logs --tail 5 "$node" >&2 || true
                docker exec "$node" /usr/local/lib/quorumvault/healthy.sh >&2 || true
                own_address "$seat"
                fail "$node is not ready after $ready_seconds s: above are its last lines ('docker logs $node') and the checks that fail"
            fi
            sleep 0.2
        done
    done
}
