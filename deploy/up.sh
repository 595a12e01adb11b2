#!/bin/sh
# `make up`: five data centers in containers, ready when this ends. Safe to run again at any time:
# what runs goes on, what was stopped comes back with its keys, what was never made is made.
# With --check only what can be known at once: Docker, ports, room.
set -eu
# shellcheck source=deploy/compose.sh
. "$(dirname "$0")/compose.sh"

need_mib=2048

free_ports() {
    for seat in $seats; do
        running "$project-node-$seat" && continue
        for port in "$ports${seat}443" "$ports${seat}444" "$ports${seat}090"; do
            free_port "$port"
        done
    done
    for service in $watchers; do
        running "$project-${service%:*}" || free_port "$ports${service#*:}"
    done
}

free_port() {
    "${PYTHON:-python3}" -c "import socket; socket.create_server(('127.0.0.1', $1))" 2>/dev/null ||
        fail "port $1 on 127.0.0.1 is taken: end what listens there ('ss -ltnp sport = :$1' names it), then 'make up' again"
}

free_disk() {
    for place in "$(docker info --format '{{.DockerRootDir}}')" "$here"; do
        left=$(df -Pm "$place" 2>/dev/null | awk 'NR == 2 {print $4}')
        [ -z "$left" ] || [ "$left" -ge "$need_mib" ] ||
            fail "only $left MiB are free at $place and $need_mib are needed: make room, then 'make up' again"
    done
}

make_pins() {
    mkdir -p "$run" "$run/secrets"
    chmod 0700 "$run" "$run/secrets"
    for seat in $seats; do
        for pin in "pin-$seat" "so-pin-$seat"; do
            [ -s "$run/secrets/$pin" ] && continue
            docker volume inspect "${project}_token-$seat" >/dev/null 2>&1 &&
                fail "$shown/secrets/$pin is gone, but its token is still there and opens with nothing else: put it back, or 'make down' and lose all keys"
            od -An -N 16 -t x1 /dev/urandom | tr -d ' \n' >"$run/secrets/.new"
            chmod 0444 "$run/secrets/.new"
            mv "$run/secrets/.new" "$run/secrets/$pin"
        done
    done
}

take_files() {
    from=$project-create:/var/lib/quorumvault-ceremony
    rm -rf "$run/operator" "$run/tenant"
    for part in connection.json cluster/ca.pem cluster/operator tenant; do
        docker cp -q "$from/$part" "$run/" 2>/dev/null || docker cp "$from/$part" "$run/" >/dev/null
    done
    rm -f "$run/operator/connection.json" # it names addresses of the mesh
}

# WAN=europe: delays between the data centers (docker-compose.wan.yml).
choose_wan() {
    more=${QUORUMVAULT_OVERRIDES:-}
    case ${WAN:-none} in
    none) ;;
    lan | europe | world) more=$here/docker-compose.wan.yml${more:+:$more} ;;
    *) fail "WAN is '$WAN': use lan, europe or world, or leave it out for no delays" ;;
    esac
}

# Prometheus and Alertmanager unless MONITORING=no; GRAFANA=yes adds Grafana, which needs a registry.
choose_monitoring() {
    watchers=""
    [ "${GRAFANA:-no}" = no ] || MONITORING=yes
    case ${MONITORING:-no} in
    no) return ;;
    yes) ;;
    *) fail "MONITORING is '$MONITORING': use yes or no" ;;
    esac
    watchers="prometheus:9090 alertmanager:9093"
    more=${more:+$more:}$here/docker-compose.monitoring.yml
    case ${GRAFANA:-no} in
    no) ;;
    yes)
        watchers="$watchers grafana:3000"
        export COMPOSE_PROFILES=grafana
        ;;
    *) fail "GRAFANA is '$GRAFANA': use yes or no" ;;
    esac
}

wait_watchers() {
    deadline=$(($(date +%s) + ready_seconds))
    for service in $watchers; do
        name=$project-${service%:*}
        until running "$name" && { [ "${service%:*}" = grafana ] || docker exec "$name" answers "${service#*:}" >/dev/null 2>&1; }; do
            [ "$(date +%s)" -lt "$deadline" ] ||
                fail "$name is not ready after $ready_seconds s: 'docker logs $name' says why; 'make up MONITORING=no' does without it"
            sleep 0.2
        done
    done
}

trap 'say "Interrupted. Nothing is lost: \"make up\" goes on from here, \"make down\" removes what is there."; exit 130' INT
need_docker
own_clone
alone
choose_wan
choose_monitoring
free_ports
free_disk
[ "${1:-}" != --check ] || exit 0
make_pins
mkdir -p "$run/alerting"
"$here/image/build.sh" "$image"
[ -z "$watchers" ] || "$here/image/monitoring.sh"
printf '%s' "${more:+:$more}" >"$run/overrides"
printf '%s' "${WAN:-none}" >"$run/wan"
say "  starting five data centers"
if ! compose up --detach --remove-orphans >"$run/up.log" 2>&1; then
    tail -n 15 "$run/up.log" >&2
    compose logs --tail 3 create provision-1 provision-2 provision-3 provision-4 provision-5 >&2 || true
    ! grep -q overlaps "$run/up.log" ||
        fail "the networks $net.0.0/24 to $net.5.0/24 are in use on this machine: choose others, such as QUORUMVAULT_NET=172.31 make up"
    fail "the containers did not start: read the lines above (all of them in $shown/up.log)"
fi
take_files
wait_ready
wait_watchers
drop_old_images
cat <<END
Five nodes are ready. Clients use $shown/connection.json, for example, after '. .venv/bin/activate':
  quorumvault record register --account alice --connection $shown/connection.json
  quorumvault cluster status --connection $shown/connection.json
node  client                    admin (mTLS)              ops
END
for seat in $seats; do
    echo "   $seat  https://127.0.0.1:$ports${seat}443   https://127.0.0.1:$ports${seat}444   http://127.0.0.1:$ports${seat}090"
done
for service in $watchers; do
    echo "${service%:*}: http://127.0.0.1:$ports${service#*:}"
done
cat <<END
Next: 'make status' shows all; 'make stop' stops and keeps everything; 'make down' destroys it.
deploy/README.md: cut off a data center, kill nodes, restart one after the other.
END
