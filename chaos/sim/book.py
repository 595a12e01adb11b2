"""Who the members of a simulated cluster are: what cluster.json says, revision by revision."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from chaos.sim.units import CLUSTER
from cluster.api import Shape
from cluster.types import NodeId, Seat


class Book(Struct, frozen=True):
    """One revision."""

    seats: dict[NodeId, Seat]
    founders: tuple[NodeId, ...]
    retired: dict[NodeId, NodeId]
    shards: int
    limit: int
    grace_s: float
    revision: int = 0

    @classmethod
    def founded(cls, nodes: int, shards: int, limit: int, grace_s: float) -> Book:
        """Nodes 1…n in seats 1…n."""
        founders = tuple(NodeId(node) for node in range(1, nodes + 1))
        seats = {node: Seat(node) for node in founders}
        return cls(seats, founders, {}, shards, limit, grace_s)

    def replaced(self, old: NodeId) -> tuple[Book, NodeId]:
        """The next revision, and the new node that has the seat of `old` in it."""
        new = NodeId(max(*self.seats, *self.retired, old) + 1)
        seats = {node: seat for node, seat in self.seats.items() if node != old}
        seats[new] = self.seats[old]
        after = msgspec.structs.replace(
            self, seats=seats, retired=self.retired | {old: new}, revision=self.revision + 1
        )
        return after, new

    def shape(self, node_id: NodeId) -> Shape:
        """The book as node `node_id` reads it."""
        return Shape(
            cluster_id=CLUSTER,
            node_id=node_id,
            seats=self.seats,
            shards=self.shards,
            limit=self.limit,
            grace_s=self.grace_s,
            threshold=len(self.seats) // 2 + 1,
            founders=self.founders,
            retired=self.retired,
            revision=self.revision,
        )
