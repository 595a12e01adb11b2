"""The leader's side of proposals: check, queue, append, and say so.

Every command, local or forwarded, is decoded and validated before it may enter the log (a bad one
in the log would stop every node). All of a turn go into one entry. What is refused here was not
appended and never will be; that is what makes a Nack honest (I12).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from cluster.commands import Barrier, Expire, decode_command
from cluster.entries import Sent, encode_entry
from cluster.limits import MAX_ENTRY_BYTES, MAX_ENTRY_COMMANDS, MAX_OPEN_COMMANDS
from engines._engines import ProposalDropped
from engines.identifiers import shard_of

if TYPE_CHECKING:
    from cluster.frames import Refusal
    from cluster.types import NodeId, ShardId
    from engines._engines import MultiRaft

COMMAND_OVERHEAD_BYTES = 32
"""Origin, incarnation, sequence number and frame of one command in an entry, at most."""


class Offered(NamedTuple):
    """One command in the leader's queue."""

    origin: NodeId
    incarnation: int
    seq: int
    send: int
    data: bytes


class Appended(NamedTuple):
    """One entry and whose commands it holds."""

    term: int
    at: int
    """Its index."""
    commands: list[Offered]


class Leading:
    """Queues of all shards; those of shards not led are empty."""

    def __init__(self, node_id: NodeId, shards: int) -> None:
        self._node_id = node_id
        self._shards = shards
        self._queues: list[deque[Offered]] = [deque() for _ in range(shards)]
        self._in_log: list[deque[tuple[int, int]]] = [deque() for _ in range(shards)]
        """(index, commands) of appended, not yet applied entries."""
        self._open = [0] * shards
        self.ready: set[ShardId] = set()

    def offer(self, shard: ShardId, command: Offered) -> Refusal | None:
        """Queue a command, or say why not: `busy` or `malformed`."""
        if self._open[shard] >= MAX_OPEN_COMMANDS:
            return "busy"
        if not self._valid(shard, command):
            return "malformed"
        self._queues[shard].append(command)
        self._open[shard] += 1
        self.ready.add(shard)
        return None

    def _valid(self, shard: ShardId, offered: Offered) -> bool:
        try:
            command = decode_command(offered.data)
        except msgspec.DecodeError:
            return False
        if isinstance(command, Barrier):
            return True
        if isinstance(command, Expire) and offered.origin != self._node_id:
            return False  # grace is counted by the leader alone
        return shard_of(command.record_id, self._shards) == shard

    def append(self, raft: MultiRaft, shard: ShardId) -> tuple[list[Appended], list[Offered]]:
        """Append what is queued: (entries made, commands dropped by raft)."""
        queue = self._queues[shard]
        made: list[Appended] = []
        self.ready.discard(shard)
        while queue:
            taken = _take(queue)
            sent: list[Sent] = [(c.origin, c.incarnation, c.seq, c.data) for c in taken]
            try:
                term, index = raft.propose(shard, encode_entry(sent))
            except ProposalDropped:
                dropped = [*taken, *queue]
                queue.clear()
                self._open[shard] -= len(dropped)
                return made, dropped
            self._in_log[shard].append((index, len(taken)))
            made.append(Appended(term, index, taken))
        return made, []

    def applied(self, shard: ShardId, index: int) -> None:
        """Entries up to `index` are no longer in flight."""
        in_log = self._in_log[shard]
        while in_log and in_log[0][0] <= index:
            self._open[shard] -= in_log.popleft()[1]

    def not_leader(self, shard: ShardId) -> list[Offered]:
        """Leadership is gone: the queued commands, which were never appended."""
        refused = list(self._queues[shard])
        self._queues[shard].clear()
        self._in_log[shard].clear()
        self._open[shard] = 0
        self.ready.discard(shard)
        return refused


def _take(queue: deque[Offered]) -> list[Offered]:
    taken: list[Offered] = []
    size = 0
    while queue and len(taken) < MAX_ENTRY_COMMANDS:
        size += len(queue[0].data) + COMMAND_OVERHEAD_BYTES
        if taken and size > MAX_ENTRY_BYTES:
            break
        taken.append(queue.popleft())
    return taken
