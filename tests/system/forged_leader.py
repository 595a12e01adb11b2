"""A leader whose whole log is a lie: what one owned data center can do to the others through Raft.

Raft is not Byzantine. Whoever holds one node's certificate can claim a longer log and a later term,
is elected, and sends the others a snapshot of records that never were, then entries. That nothing
is gained by it is the ledgers' work (crypto.md, "The ledger"); here is the lie, by the real core.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from harness import wait_until

from cluster import limits, manifest, statehash
from cluster.commands import Command, encode_command
from cluster.entries import encode_entry
from cluster.frames import RaftMessages, SnapshotProgress
from cluster.link_wire import HOST_CHANNEL
from engines._engines import MultiRaft
from engines.encoding import u32

if TYPE_CHECKING:
    from collections.abc import Mapping

    from intruder import Intruder

LEADER = 2
NAME = "out-0-forged"
TICK_S = 0.05


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def raft_message(
    kind: int, to: int, sender: int, term: int, *, index: int = 0, commit: int = 0
) -> bytes:
    """A raft-rs message in protobuf."""
    fields = {1: kind, 2: to, 3: sender, 4: term, 6: index, 8: commit}
    return b"".join(varint(field << 3) + varint(value) for field, value in fields.items())


TIMEOUT_NOW = 14


class ForgedLeader:
    """Leads shard 0 with `records` as its state, from log position (term, index) on."""

    def __init__(
        self, intruder: Intruder, term: int, index: int, records: Mapping[bytes, bytes]
    ) -> None:
        self._intruder = intruder
        self._term, self._index = term, index
        self._voters = sorted([intruder.node_id, *intruder.peers])
        self._manifest = self._write_snapshot(records)
        self._sequence = 0
        self._ended = False
        self.leads = False
        self.installed: set[int] = set()
        self.applied = index
        intruder.call(self._begin())
        wait_until(lambda: self.leads, "the lie is elected")
        wait_until(lambda: self.installed == set(intruder.peers), "the lie is installed by all")

    def _write_snapshot(self, records: Mapping[bytes, bytes]) -> manifest.Manifest:
        state, data = statehash.EMPTY_HASH, b""
        for record_id, value in sorted(records.items()):
            state = statehash.add(state, record_id, value)
            data += record_id + u32(len(value)) + value
        with self._intruder.files.create(NAME) as file:
            file.write(data)
        return manifest.Manifest(
            NAME, 0, self._index, self._term, len(data), hashlib.sha256(data).digest(),
            len(records), statehash.encode_hash(state),
        )  # fmt: skip

    async def _begin(self) -> None:
        intruder = self._intruder
        self._raft = MultiRaft(
            intruder.node_id,
            heartbeat_tick=limits.HEARTBEAT_TICKS,
            election_tick=limits.ELECTION_TICKS,
            min_election_tick=limits.MIN_ELECTION_TICKS,
            max_election_tick=limits.MAX_ELECTION_TICKS,
            max_size_per_msg=limits.MAX_MESSAGE_BYTES,
            max_inflight=limits.MAX_INFLIGHT_MESSAGES,
            max_uncommitted=limits.MAX_UNCOMMITTED_BYTES,
            max_committed_per_ready=limits.MAX_COMMITTED_BYTES,
        )
        self._raft.add_group(
            0, term=self._term, vote=0, commit=self._index, applied=self._index,
            truncated_index=self._index, truncated_term=self._term, voters=self._voters,
            learners=[], entries=[],
        )  # fmt: skip
        intruder.on_raft = self._on_raft
        # "Take over": a campaign that the others' trust in their present leader does not stop.
        accomplice = intruder.peers[0]
        now = raft_message(TIMEOUT_NOW, intruder.node_id, accomplice, self._term)
        self._raft.step_frame(accomplice, [(0, now)])
        self._pump()
        intruder._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        if self._ended:
            return
        for peer in self._intruder.peers:
            for said in self._intruder.heard(peer, SnapshotProgress):
                if said.state == "done" and peer not in self.installed:
                    self.installed.add(peer)
                    self._raft.report_snapshot(0, peer, True)
        self._raft.tick_all()
        self._pump()
        self._intruder._loop.call_later(TICK_S, self._tick)

    def _on_raft(self, peer: int, item: RaftMessages) -> None:
        if not self._ended:
            self._raft.step_frame(peer, item.messages)
            self._pump()

    def _pump(self) -> None:
        raft = self._raft
        while raft.has_ready():
            ready = raft.ready(0)
            raft.advance_append_async(0)
            raft.on_persist_ready(0, ready.number)
            if ready.committed:
                self.applied = ready.committed[-1][0]
                raft.advance_apply_to(0, self.applied)
            for to, message in [*ready.messages, *ready.persisted_messages]:
                frame = self._intruder.frame(RaftMessages([(0, message)]))
                self._intruder.links.send(to, HOST_CHANNEL, frame)
        self.leads = raft.status(0).role == LEADER
        if raft.snapshots_wanted():
            raft.set_snapshot(
                0, manifest.encode_manifest(self._manifest), self._index, self._term,
                self._voters, [],
            )  # fmt: skip

    def commit(self, *commands: Command) -> None:
        """Put commands into the log; back when a majority has them."""

        async def propose() -> int:
            sent = []
            for command in commands:
                self._sequence += 1
                sent.append((1, 1, self._sequence, encode_command(command)))
            _, index = self._raft.propose(0, encode_entry(sent))
            self._pump()
            return index

        index = self._intruder.call(propose())
        wait_until(lambda: self.applied >= index, "the forged entry is committed")

    def end(self) -> None:
        """Say nothing more."""

        async def stop() -> None:
            self._ended = True
            self._intruder.on_raft = None
            del self._raft

        self._intruder.call(stop())
