#!/bin/sh
# One-shot service: create the cluster and the tenant's key pair in the ceremony's volume, once.
# It runs at every `up` and leaves a cluster that is there as it is. The file `complete` is written
# last; until then no token is provisioned, so that half a creation may be thrown away.
set -eu
umask 077
cd /var/lib/quorumvault-ceremony

if [ ! -e complete ]; then
    rm -rf cluster words tenant
    # shellcheck disable=SC2086 # lists of options
    quorumvault cluster create cluster --name "$CLUSTER_NAME" --shares-dir words $CLUSTER_NODES ${CLUSTER_OPTIONS:-}
    mkdir tenant
    openssl genpkey -algorithm ed25519 -out tenant/private.pem
    openssl pkey -in tenant/private.pem -pubout -out tenant/public.pem
    sync
    touch complete
fi
python3 /usr/local/lib/quorumvault/connection.py \
    cluster/operator/connection.json "$HOST_FOLDER" "$HOST_PORTS" "$PROJECT" >connection.json
