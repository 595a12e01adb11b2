"""Rows for a node that joins, from one whose own ledger is complete.

One file per shard at a time, built on the worker and fetched like a snapshot; whoever asks soon
after gets the same one, so that asking often costs nothing. A disk that is short of space builds
none: one owned node must not fill all the others' disks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.ledger_rows import build
from cluster.limits import LEDGER_KEEP_NS, LEDGER_REUSE_NS
from cluster.room import Room

if TYPE_CHECKING:
    from cluster.core import Core, Peer
    from cluster.frames import LedgerOffer
    from cluster.types import NodeId, ShardId

OFFER_BYTES = 160


class LedgerGiver:
    """Files of rows on their way out."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._offers: dict[ShardId, tuple[LedgerOffer, int]] = {}
        """The newest of each shard, and since when it has been there."""
        self._names: list[tuple[int, str]] = []
        """(when to remove it, file), oldest first."""
        self._waiting: dict[ShardId, set[NodeId]] = {}
        """Shards being built, and for whom."""

    def asked(self, peer: Peer, shard: ShardId, now: int) -> None:
        """A member that joined wants our rows; who has no complete ledger itself says nothing."""
        founder = peer.node_id in self._core.shape.founders  # its own was complete from the start
        if founder or not self._core.groups[shard].durable_ledger:
            return
        if self._core.room is not Room.ENOUGH:
            self._core.alarm(
                f"node {peer.node_id} joins and waits for this node's ledger rows: make room on"
                " this disk, or bring another node back"
            )
            return
        offer = self._offers.get(shard)
        if offer is not None and now - offer[1] < LEDGER_REUSE_NS:
            peer.outbox.add(offer[0], OFFER_BYTES)
        elif shard in self._waiting:
            self._waiting[shard].add(peer.node_id)
        else:
            self._waiting[shard] = {peer.node_id}
            self._build(shard)

    def _build(self, shard: ShardId) -> None:
        core = self._core
        name = f"out-ledger-{shard}-{core.ports.random.randbytes(12).hex()}"
        store, files, shards = core.ports.store, core.ports.files, core.shape.shards

        def built(result: LedgerOffer | Exception) -> None:
            waiting = self._waiting.pop(shard)
            self._names.append((core.now() + LEDGER_KEEP_NS, name))
            if isinstance(result, Exception):
                core.alarm(f"shard {shard}: no file of ledger rows could be built: {result}")
                return
            self._offers[shard] = (result, core.now())
            for node in sorted(waiting):
                peer = core.peers.get(node)
                if peer is not None:
                    peer.outbox.add(result, OFFER_BYTES)
            core.ports.wake()

        core.ports.worker.run(lambda: build(store, files, shard, shards, name), built)

    def on_time(self, now: int) -> None:
        """Files that nobody fetches any more go."""
        while self._names and self._names[0][0] <= now:
            self._core.ports.files.remove(self._names.pop(0)[1])
        for shard in [s for s, (_, at) in self._offers.items() if now - at >= LEDGER_REUSE_NS]:
            del self._offers[shard]
