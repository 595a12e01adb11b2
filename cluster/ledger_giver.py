"""Rows for a node that joins, from one whose own ledger is complete.

One file per shard, built on the worker and fetched like a snapshot, one after the other: each costs
a pass over the whole ledger. One owned node must neither fill all the others' disks nor keep them
at it: a file stays and answers whoever asks until nobody lacks it any more or its time is over; a
node has as many as an honest one asks for at once, and none of a shard that it once said to have.
A disk that is short of space builds none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.copies import Sizes
from cluster.ledger_rows import build
from cluster.limits import LEDGER_KEEP_NS, LEDGER_SHARDS_AT_ONCE
from cluster.room import Room

if TYPE_CHECKING:
    from cluster.core import Core, Peer
    from cluster.frames import LedgerOffer
    from cluster.types import NodeId, ShardId

OFFER_BYTES = 160


@dataclass(slots=True)
class _File:
    offer: LedgerOffer
    until: int
    """When it goes, fetched or not."""
    known: frozenset[NodeId]
    """Who was a member when it was begun. Others it does not answer: whom they replace may have
    given shares since, together with this node."""
    takers: set[NodeId] = field(default_factory=set)


class LedgerGiver:
    """Files of rows on their way out."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sizes = Sizes(core)
        self._files: dict[ShardId, _File] = {}
        self._waiting: dict[ShardId, set[NodeId]] = {}
        """For whom a file is to be built, in the order in which shards were asked for."""
        self._building: ShardId | None = None
        self._complete: set[tuple[NodeId, ShardId]] = set()
        """Seen in a beat while it mattered. It is so for ever: who says otherwise has lied."""

    def asked(self, peer: Peer, shard: ShardId, now: int) -> None:
        """A member that joined wants our rows; who has no complete ledger itself says nothing."""
        founder = peer.node_id in self._core.shape.founders  # its own was complete from the start
        if founder or not self._core.groups[shard].durable_ledger:
            return
        if not self._lacks(peer.node_id, shard):
            return
        if self._core.room is not Room.ENOUGH:
            self._core.alarm(
                f"node {peer.node_id} joins and waits for this node's ledger rows: make room on"
                " this disk, or bring another node back"
            )
            return
        file = self._files.get(shard)
        if file is not None and peer.node_id in file.known and now < file.until:
            self._offer(file, peer)
        else:
            self._waiting.setdefault(shard, set()).add(peer.node_id)
            self._next()

    def on_time(self, now: int) -> None:
        """Files that nobody fetches any more go, and make room for the next."""
        for shard, file in list(self._files.items()):
            if now >= file.until or not any(self._lacks(node, shard) for node in file.takers):
                self._remove(shard)
        self._next()

    def _lacks(self, node: NodeId, shard: ShardId) -> bool:
        """A member that never said that its ledger of the shard is complete."""
        peer = self._core.peers.get(node)
        if peer is not None and peer.has_ledger(shard):
            self._complete.add((node, shard))
        return peer is not None and (node, shard) not in self._complete

    def _may_have_more(self, node: NodeId) -> bool:
        has = [shard for shard, file in self._files.items() if node in file.takers]
        return sum(self._lacks(node, shard) for shard in has) < LEDGER_SHARDS_AT_ONCE

    def _offer(self, file: _File, peer: Peer) -> None:
        file.takers.add(peer.node_id)
        peer.outbox.add(file.offer, OFFER_BYTES)

    def _remove(self, shard: ShardId) -> None:
        self._core.ports.files.remove(self._files.pop(shard).offer.name)

    # ---- building

    def _next(self) -> None:
        """Begin the first build that somebody may have, if none is under way."""
        for shard, nodes in list(self._waiting.items()):
            if self._building is not None:
                return
            nodes &= {node for node in nodes if self._lacks(node, shard)}
            if nodes and not any(self._may_have_more(node) for node in nodes):
                continue
            if not nodes or not self._sizes.may_begin(shard):
                del self._waiting[shard]  # it asks again, or others
                continue
            self._make_way(shard)
            self._build(shard)

    def _make_way(self, shard: ShardId) -> None:
        """The shard's old file goes, and every one that is not lacked any more."""
        for other, file in list(self._files.items()):
            if other == shard or not any(self._lacks(node, other) for node in file.takers):
                self._remove(other)

    def _build(self, shard: ShardId) -> None:
        core = self._core
        name = f"out-ledger-{shard}-{core.ports.random.randbytes(12).hex()}"
        store, files, shards = core.ports.store, core.ports.files, core.shape.shards
        known = frozenset(core.peers)
        self._building = shard

        def built(result: LedgerOffer | Exception) -> None:
            self._building = None
            waiting = self._waiting.pop(shard, set())
            if isinstance(result, Exception):
                files.remove(name)
                self._sizes.failed(shard, result)
                core.alarm(f"shard {shard}: no file of ledger rows could be built: {result}")
            else:
                self._sizes.made(shard, result.size)
                file = self._files[shard] = _File(result, core.now() + LEDGER_KEEP_NS, known)
                for node in sorted(waiting & known & core.peers.keys()):
                    self._offer(file, core.peers[node])
                if waiting - known:
                    self._waiting[shard] = waiting - known
            self._next()
            core.ports.wake()

        core.ports.worker.run(lambda: build(store, files, shard, shards, name), built)
