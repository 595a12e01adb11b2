"""The leader's half of a snapshot: build the file, offer it, and say when it failed.

raft-rs waits for ever for word of a snapshot that it sent, so failure is reported on error, link
loss or a minute without progress. While a snapshot is on its way the log behind it is kept, up to
a bound in bytes and minutes; otherwise the follower would need the next one at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.copies import Sizes
from cluster.core import LEADER
from cluster.limits import SNAPSHOT_HOLD_BYTES, SNAPSHOT_REUSE_NS, SNAPSHOT_STALL_NS
from cluster.manifest import Manifest, build, encode_manifest
from cluster.types import NodeId, ShardId

if TYPE_CHECKING:
    from cluster.core import Core, Group
    from cluster.frames import SnapshotProgress
    from cluster.tables import GroupRow

MSG_SNAPSHOT = 7
FOR_EVER = 2**63


@dataclass(slots=True)
class _Offer:
    manifest: Manifest
    made_at: int


@dataclass(slots=True)
class _Going:
    """A snapshot on its way to one receiver."""

    name: str
    """Its file: another one may be offered by now."""
    heard_at: int


class SnapshotSender:
    """Snapshots of the shards led here."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._offers: dict[ShardId, _Offer] = {}
        self._sizes = Sizes(core)
        self._building = False
        """One at a time: each is begun with a look at what the one before has left."""
        self._going: dict[tuple[ShardId, NodeId], _Going] = {}
        """By (shard, receiver)."""

    def wanted(self) -> None:
        """Build what raft-rs asked for."""
        for shard, _ in self._core.raft.snapshots_wanted():
            self._build(ShardId(shard))

    def _build(self, shard: ShardId) -> None:
        core = self._core
        group = core.groups[shard]
        if self._building or group.role != LEADER or not self._sizes.may_begin(shard):
            return  # raft asks again
        offer = self._offers.get(shard)
        if offer is not None and offer.manifest.index >= group.truncated_index:
            return  # asked while this one was built; a new one would take its file away
        self._building = True
        name = f"out-{shard}-{core.ports.random.randbytes(12).hex()}"
        store, files = core.ports.store, core.ports.files

        def built(result: tuple[Manifest, GroupRow] | Exception) -> None:
            self._building = False
            if isinstance(result, Exception):
                self._sizes.failed(shard, result)
                core.counters.snapshots_failed += 1
                core.alarm(f"shard {shard}: no snapshot could be built: {result}")
                files.remove(name)
                return
            self._sizes.made(shard, result[0].size)
            self._offer(shard, *result)

        core.ports.worker.run(lambda: build(store, files, shard, name), built)

    def _offer(self, shard: ShardId, manifest: Manifest, row: GroupRow) -> None:
        core = self._core
        group = core.groups[shard]
        outdated = (row.voters, row.learners) != (group.voters, group.learners)
        if group.role != LEADER or manifest.index < group.truncated_index or outdated:
            core.ports.files.remove(manifest.name)  # raft asks again if it still needs one
            return
        self._withdraw(shard)
        self._offers[shard] = _Offer(manifest, core.now())
        core.counters.snapshots_built += 1
        core.raft.set_snapshot(
            shard,
            encode_manifest(manifest),
            manifest.index,
            manifest.term,
            row.voters,
            row.learners,
        )
        core.ports.wake()

    def members_changed(self, shard: ShardId) -> None:
        """A snapshot from before is no use: raft-rs declines one that does not have the receiver.

        Whoever was on its way to one is told to fail, and is offered the next.
        """
        self._withdraw(shard)
        for key in [key for key in self._going if key[0] == shard]:
            del self._going[key]
            self._fail(*key)

    def _withdraw(self, shard: ShardId) -> None:
        offer = self._offers.pop(shard, None)
        if offer is not None:
            self._core.raft.clear_snapshot(shard)
            self._core.ports.files.remove(offer.manifest.name)

    def watch_messages(self, group: Group, messages: list[tuple[int, bytes]]) -> None:
        """Notice the snapshots among messages about to be sent."""
        if group.shard not in self._offers:
            return
        for to, message in messages:
            if self._core.raft.peek(message)[0] == MSG_SNAPSHOT:
                name = self._offers[group.shard].manifest.name
                self._going[group.shard, NodeId(to)] = _Going(name, self._core.now())

    def progress(self, node: NodeId, said: SnapshotProgress, now: int) -> None:
        """The receiver's word."""
        shard = ShardId(said.shard)
        going = self._going.get((shard, node))
        if going is None or going.name != said.name:
            return
        if said.state == "going":
            going.heard_at = now
            return
        del self._going[shard, node]
        if said.state == "done":
            self._core.raft.report_snapshot(shard, node, True)
        else:
            self._fail(shard, node)

    def lost(self, node: NodeId) -> None:
        """The link to the receiver is gone, or it restarted."""
        for shard, to in [key for key in self._going if key[1] == node]:
            del self._going[shard, to]
            self._fail(shard, to)

    def on_time(self, now: int) -> None:
        """Stalls, and offers that nobody needs any more."""
        stalled = [
            key for key, going in self._going.items() if now - going.heard_at >= SNAPSHOT_STALL_NS
        ]
        for key in stalled:
            del self._going[key]
            self._fail(*key)
        for shard, offer in list(self._offers.items()):
            if now - offer.made_at >= SNAPSHOT_REUSE_NS:
                self._withdraw(shard)

    def _fail(self, shard: ShardId, node: NodeId) -> None:
        self._core.counters.snapshots_failed += 1
        self._core.raft.report_snapshot(shard, node, False)

    def not_leader(self, shard: ShardId) -> None:
        """Whoever leads next builds its own."""
        self._withdraw(shard)
        for key in [key for key in self._going if key[0] == shard]:
            del self._going[key]

    def holds(self, group: Group, now: int) -> int:
        """The log must not be cut beyond this index."""
        offer = self._offers.get(group.shard)
        if offer is None or group.log_bytes > SNAPSHOT_HOLD_BYTES:
            return FOR_EVER
        waited_for = any(shard == group.shard for shard, _ in self._going)
        recent = now - offer.made_at < SNAPSHOT_STALL_NS
        return offer.manifest.index if waited_for or recent else FOR_EVER
