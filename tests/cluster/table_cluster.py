"""The cluster file of a vault that is on paper only: five nodes where nobody listens."""

from __future__ import annotations

from uuid import UUID

from cluster.cluster_file import ClusterFile, NodeEntry

CLUSTER_ID = UUID("00112233-4455-6677-8899-aabbccddeeff")


def place(node: int, seat: int) -> NodeEntry:
    ports = [f"127.0.0.1:{10_000 + 10 * node + offset}" for offset in range(4)]
    return NodeEntry(node, seat, f"dc{seat}", *ports)


FOUNDING = ClusterFile(
    version=1,
    cluster_id=CLUSTER_ID,
    name="table",
    shards=2,
    limit=10,
    grace_s=120,
    threshold=3,
    nodes=tuple(place(number, number) for number in range(1, 6)),
    check_values={"identity": "00" * 8},
    opaque_public_key="A" * 43,
)
