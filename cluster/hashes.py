"""Equal index, equal state hash: compared at run time, and the odd node out stops (I8, I9).

Points are indexes divisible by 1,024, and one per shard every ten seconds, named by its leader.
Every node tells its hash at a point once it is there. A node whose hash is contradicted and lacks
enough agreeing peers, with nobody left to ask (or after ten seconds), stops; from the first
contradiction until it is settled it gives no shares.

Points that only a liar named must not stop anybody. Honest peers are silent about an index that
they passed without a look, so a peer that names another such index to each node would find nobody
to agree with it, nobody to agree with the node, and would stop them all. Hence two bounds: only
the shard's leader, as known here, can have a node look at an index that is not due anyway; and
silence counts against a node only when two peers contradict it. With one, and the others silent,
it stays up, in doubt: no shares, and an alarm, until two agree, another disagrees, or the point
has grown old. A state that did go another way is seen by more than one peer at the next point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.api import HostStopped
from cluster.frames import HashPoint
from cluster.limits import CONTRADICTORS, HASH_EVERY, HASH_PATIENCE_NS, HASHES_KEPT
from cluster.next_step import replace_node

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster.types import NodeId, ShardId

Point = tuple[int, int]
"""(shard, index)."""


class Hashes:
    """Hash points of one node and what the peers said of them."""

    def __init__(self, peers: Iterable[NodeId], shards: int) -> None:
        self._peers = tuple(peers)
        self._needed = (len(self._peers) + 1) // 2
        self._own: list[dict[int, bytes]] = [{} for _ in range(shards)]
        self._said: dict[Point, dict[NodeId, bytes]] = {}
        self._said_from: dict[NodeId, list[Point]] = {peer: [] for peer in self._peers}
        self._doubts: dict[Point, int] = {}
        self.wanted: list[set[int]] = [set() for _ in range(shards)]
        """Indexes ahead at which a peer wants to compare."""
        self.outgoing: list[HashPoint] = []

    def adopt(self, peers: Iterable[NodeId]) -> None:
        """These are the others now; what retired ones said is forgotten."""
        now = tuple(peers)
        for gone in set(self._peers) - set(now):
            for point in self._said_from[gone]:
                self._forget_word(gone, point)
        self._peers = now
        self._needed = (len(now) + 1) // 2
        self._said_from = {peer: self._said_from.get(peer, []) for peer in now}

    @property
    def doubt(self) -> bool:
        """A contradiction is not settled."""
        return bool(self._doubts)

    def last(self, shard: ShardId) -> tuple[int, bytes] | None:
        """The newest own point."""
        own = self._own[shard]
        if not own:
            return None
        index = max(own)
        return index, own[index]

    def due(self, shard: ShardId, index: int) -> bool:
        """Must the hash be kept at this index?"""
        return index % HASH_EVERY == 0 or index in self.wanted[shard]

    def reached(self, shard: ShardId, index: int, value: bytes, now: int) -> None:
        """This node's hash at a point; told to all once."""
        own = self._own[shard]
        self.wanted[shard] = {want for want in self.wanted[shard] if want > index}
        if index in own:
            return
        own[index] = value
        for old in sorted(own)[: -2 * HASHES_KEPT]:
            del own[old]
            self._said.pop((shard, old), None)
            self._doubts.pop((shard, old), None)
        self.outgoing.append(HashPoint(shard, index, value))
        self._compare((shard, index), now)

    def forget(self, shard: ShardId) -> None:
        """A snapshot replaced the state; older points say nothing any more."""
        self._own[shard].clear()
        for point in [point for point in self._said if point[0] == shard]:
            del self._said[point]
        for point in [point for point in self._doubts if point[0] == shard]:
            del self._doubts[point]

    def heard(
        self,
        peer: NodeId,
        point: HashPoint,
        applied: int,
        now: int,
        *,
        from_leader: bool = False,
    ) -> None:
        """A peer's hash at a point; an index ahead is looked at if the shard's leader names it."""
        key = (point.shard, point.index)
        own = self._own[point.shard]
        if point.index > applied:
            if from_leader:
                wanted = self.wanted[point.shard]
                wanted.add(point.index)
                if len(wanted) > 4 * HASHES_KEPT:
                    wanted.remove(max(wanted))
        elif point.index not in own:
            return  # passed without a look; nothing to compare
        self._remember(peer, key, point.hash)
        if point.index in own:
            self._compare(key, now)

    def _remember(self, peer: NodeId, key: Point, value: bytes) -> None:
        said = self._said.setdefault(key, {})
        if peer not in said:
            points = self._said_from[peer]
            points.append(key)
            if len(points) > 16 * HASHES_KEPT * len(self._own):
                old = points.pop(0)
                if old not in self._doubts:
                    self._forget_word(peer, old)
        said[peer] = value

    def _forget_word(self, peer: NodeId, key: Point) -> None:
        """Of this peer alone: what it says now must not wipe out what others said."""
        said = self._said.get(key)
        if said is not None:
            said.pop(peer, None)
            if not said:
                del self._said[key]
                self._doubts.pop(key, None)

    def on_time(self, now: int) -> list[str]:
        """Settle doubts whose patience is over; alarms for those that stay."""
        alarms: list[str] = []
        for key in list(self._doubts):
            self._compare(key, now)
            if now - self._doubts.get(key, now) >= HASH_PATIENCE_NS:
                shard, index = key
                own = self._own[shard].get(index)
                liars = [peer for peer, value in self._said.get(key, {}).items() if value != own]
                alarms.append(
                    f"shard {shard}: node {liars[0]} alone contradicts this node's state hash at"
                    f" index {index} and too few others looked: no shares are given until it is"
                    " settled; compare this index on all nodes"
                )
        return alarms

    def _compare(self, key: Point, now: int) -> None:
        shard, index = key
        own = self._own[shard].get(index)
        said = self._said.get(key, {})
        if own is None:
            return
        agreeing = sum(1 for value in said.values() if value == own)
        disagreeing = len(said) - agreeing
        if disagreeing == 0 or agreeing >= self._needed:
            self._doubts.pop(key, None)
            return
        since = self._doubts.setdefault(key, now)
        silent = len(self._peers) - len(said)
        overdue = now - since >= HASH_PATIENCE_NS and disagreeing >= CONTRADICTORS
        if agreeing + silent < self._needed or overdue:
            raise HostStopped(
                f"shard {shard}: this node's state hash at index {index} is contradicted by"
                f" {disagreeing} peers and shared by {agreeing}: keep the directory for"
                f" examination and {replace_node()}"
            )
