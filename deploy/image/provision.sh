#!/bin/sh
# One-shot service of one data center: give its node what the creation made for it, and provision
# its token with three custodians' words, once. It runs at every `up`; `complete` in the token's
# volume is written last, and no node starts before: a token without it was cut short and is made
# again from the same words. If there is data nevertheless, nothing is touched: a person decides.
set -eu
umask 077
ceremony=/var/lib/quorumvault-ceremony
home=/var/lib/quorumvault
token=/var/lib/quorumvault-token
node=$QUORUMVAULT_NODE_ID

if [ -e "$token/complete" ]; then
    cmp -s "$token/complete" "$ceremony/cluster/ca.pem" && exit 0
    echo "node $node: its token belongs to another cluster than the ceremony's volume: 'make down' removes both" >&2
    exit 8
fi
if [ -e "$home/data" ]; then
    echo "node $node has data, but its token is not the one it had: nothing was touched; see 'Replacing a node' in docs/node.md" >&2
    exit 8
fi
rm -rf "$token/tokens"
mkdir -p "$home/etc" "$token/tokens"
for file in cluster.json ca.pem "nodes/$node/cert.pem" "nodes/$node/key.pem"; do
    cp "$ceremony/cluster/$file" "$home/etc/"
done
cp "$ceremony/tenant/public.pem" "$home/etc/tenant.pem"
quorumvault hsm provision --cluster-file "$home/etc/cluster.json" --node "$node" \
    --package "$ceremony/cluster/seats/seat-$node.package" \
    --module /usr/lib/softhsm/libsofthsm2.so --token-label "seat-$node" --pin-file /run/secrets/pin \
    --init-token --so-pin-file /run/secrets/so-pin \
    --words-file "$ceremony/words/seat-$node-custodian-1.words" \
    --words-file "$ceremony/words/seat-$node-custodian-2.words" \
    --words-file "$ceremony/words/seat-$node-custodian-3.words"
sync
cp "$ceremony/cluster/ca.pem" "$token/complete"
