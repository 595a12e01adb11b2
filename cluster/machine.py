"""Apply committed entries: records by the state machine, this node's ledger by its own rules.

One entry is decoded once. What this very node proposed (its id and incarnation stand in the entry)
is collected with its outcome; the host delivers it in step 6, when the entry is durable on a quorum
and here (I2, I4). An unknown version or command stops the node (design section 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cluster import ledger, record
from cluster.api import HostStopped
from cluster.commands import (
    Activate,
    Barrier,
    BarrierOutcome,
    Delete,
    Expire,
    Outcome,
    RecordCommand,
    RecordOutcome,
    decode_command,
)
from cluster.entries import decode_entry
from cluster.record import RecordState
from cluster.types import NodeId, RecordId, ShardId
from engines.identifiers import shard_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.overlay import Overlay
    from cluster.record import Record, Rules

_BARRIER_OUTCOME = BarrierOutcome()


class Machine:
    """The replicated state machine of one node, over its overlay."""

    def __init__(
        self,
        rules: Rules,
        overlay: Overlay,
        node_id: NodeId,
        refused: Callable[[ShardId, str], None],
    ) -> None:
        """`refused(shard, why)` hears when the ledger does not follow the log."""
        self._rules = rules
        self._overlay = overlay
        self._node_id = node_id
        self._refused = refused
        self._shards = len(overlay.shards)
        self.incarnation = 0
        self.full: list[dict[RecordId, int]] = [{} for _ in overlay.shards]
        """Per shard: records whose list is full, with their era; what grace is counted for."""
        self.states = [record.no_records() for _ in overlay.shards]
        """Per shard: how many records are in each state."""
        self.lockouts = 0
        """Records that ended as locked, since start."""
        self.touched: list[RecordId] = []
        """Records that commands named since the host looked last; for watchers."""
        self.outcomes: list[tuple[ShardId, int, int, bytes, Outcome]] = []
        """(shard, index, seq, command, outcome) of this node's own commands, for step 6."""
        self.commands_applied = 0

    def apply_entry(self, shard: ShardId, index: int, data: bytes) -> bool:
        """Apply one normal entry; True when bytes were erased that must leave the log.

        Raises:
            HostStopped: the entry or a command in it is unknown, or of another shard.

        """
        try:
            commands = decode_entry(data)
            erased = False
            for origin, incarnation, seq, encoded in commands:
                command = decode_command(encoded)
                if isinstance(command, Barrier):
                    outcome: Outcome = _BARRIER_OUTCOME
                else:
                    outcome = self._apply(shard, command)
                    erased = erased or isinstance(command, (Activate, Delete, Expire))
                if origin == self._node_id and incarnation == self.incarnation:
                    self.outcomes.append((shard, index, seq, encoded, outcome))
        except msgspec.DecodeError as error:
            raise HostStopped(
                f"shard {shard}, entry {index}: not understood by this version ({error}); start"
                " the version that the other nodes run"
            ) from error
        self.commands_applied += len(commands)
        return erased

    def _apply(self, shard: ShardId, command: RecordCommand) -> Outcome:
        record_id = RecordId(command.record_id)
        if shard_of(record_id, self._shards) != shard:
            raise HostStopped(f"shard {shard}: a command for a record of another shard was logged")
        stored = self._overlay.record(shard, record_id)
        before, old = (None, None) if stored is None else stored
        after, outcome = record.apply(self._rules, before, command)
        if after is not before and after is not None:
            self._overlay.put_record(shard, record_id, after, old)
            self.note_full(shard, record_id, after)
            self._count(shard, before, after)
        self._move_ledger(shard, record_id, command, outcome)
        self.touched.append(record_id)
        return outcome

    def _count(self, shard: ShardId, before: Record | None, after: Record) -> None:
        """Move one record from its old state to its new one."""
        states, limit = self.states[shard], self._rules.limit
        now = record.state_of(after, limit).state
        if before is not None:
            was = record.state_of(before, limit).state
            if was is now:
                return
            states[was] -= 1
        states[now] += 1
        self.lockouts += now is RecordState.LOCKED

    def _move_ledger(
        self, shard: ShardId, record_id: RecordId, command: RecordCommand, outcome: RecordOutcome
    ) -> None:
        stored = self._overlay.row(record_id)
        before, old = (None, None) if stored is None else stored
        after, alarm = ledger.after(self._rules, record_id, before, command, outcome)
        if after is not before and after is not None:
            self._overlay.put_row(record_id, after, old)
        if alarm is not None:
            self._refused(shard, alarm.text)

    def note_full(self, shard: ShardId, record_id: RecordId, after: Record) -> None:
        """Keep the index of full lists."""
        full = after.active is not None and len(after.attempts) >= self._rules.limit
        if full:
            self.full[shard][record_id] = after.era
        elif record_id in self.full[shard]:
            del self.full[shard][record_id]
