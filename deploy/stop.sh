#!/bin/sh
# `make stop`: drain and stop all five nodes; keys, records and deploy/run stay for `make up`.
set -eu
# shellcheck source=deploy/compose.sh
. "$(dirname "$0")/compose.sh"

need_docker
compose stop
