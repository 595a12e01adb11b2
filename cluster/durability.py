"""Steps 7-9 of a turn: one batch at a time, its completion in the one safe order, and the stamp.

The order of step 9 (persist told to raft-rs, applied advanced, HSM stamp, held messages, overlay
dropped) is what makes acknowledged mean durable (I4) and a vote be given once (I8): no message that
rests on a write leaves before the write is on disk, and none that rests on a new (term, vote)
before the HSM knows it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster import statehash
from cluster.limits import LAZY_PUTS_NS, MARKS_NS, MS, STAMP_RETRY_NS, TICK_MS
from cluster.ports import Batch
from cluster.stamp import Stamped, encode_stamp
from cluster.tables import encode_row, group_key
from cluster.types import NodeId, check

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.core import Core, Group, TermVote
    from cluster.frames import ShardMark
    from cluster.marks import Memory
    from cluster.types import RecordId

UNSTAMPED: Final = "the HSM did not take the stamp: this node votes and leads no more"
"""An alarm until it does."""


class Durability:
    """The batch being made, the batch in flight, and the stamp."""

    def __init__(
        self, core: Core, memory: Memory, on_durable: Callable[[list[RecordId]], None]
    ) -> None:
        self._core = core
        self._memory = memory
        self._on_durable = on_durable
        self.incarnation = 0
        self.log = Batch()
        """Log writes and housekeeping of the batch being made, in order."""
        self.dirty: set[int] = set()
        """Shards whose row goes into it."""
        self._unpersisted: list[tuple[int, int]] = []
        self._advance: list[tuple[int, int]] = []
        self._in_flight: list[tuple[Group, TermVote, int, ShardMark, bool]] | None = None
        self._since = 0
        self._lazy_since: int | None = None
        self._must_sync = False
        self._stamping = False
        self._stamp_again_at: int | None = None

    @property
    def busy(self) -> bool:
        """A batch is in flight: no Ready may be taken."""
        return self._in_flight is not None

    def age_ms(self, now: int) -> float:
        """How long the batch in flight has been there."""
        return (now - self._since) / MS if self.busy else 0.0

    # ---- making a batch

    def took_ready(self, group: Group, number: int, *, must_sync: bool, applied: bool) -> None:
        """A Ready of this group is part of the batch."""
        self._unpersisted.append((group.shard, number))
        if applied:
            self._advance.append((group.shard, group.applied))
        self._must_sync = self._must_sync or must_sync

    def force(self) -> None:
        """Something in the batch must not wait."""
        self._must_sync = True

    def finish(self, now: int) -> None:
        """Steps 7 and 8, when every Ready of the turn is taken."""
        something = bool(self.dirty or len(self.log) or self._core.overlay.ledger_changed)
        if self._lazy_since is None and (something or self._memory.dirty):
            self._lazy_since = now
        overdue = False
        if self._lazy_since is not None:
            # A tick is the grain of the timer: waiting one more would break the bound.
            bound = (LAZY_PUTS_NS if something else MARKS_NS) - TICK_MS * MS
            overdue = now - self._lazy_since >= bound
        if self._must_sync or overdue:
            self._submit(now)
        elif self._unpersisted:
            self._complete()

    def _submit(self, now: int) -> None:
        core = self._core
        batch, self.log = self.log, Batch()
        in_flight = []
        for shard in sorted(self.dirty):
            group = core.groups[shard]
            records = core.overlay.shards[shard]
            row = group.row(records.slot, records.count, statehash.encode_hash(records.hash))
            batch.put("group", group_key(group.shard), encode_row(row))
            term_vote = (group.term, group.vote)
            in_flight.append((group, term_vote, group.applied, group.mark_now(), group.ledger))
        core.overlay.write(batch)
        self._memory.write(batch)
        self.dirty = set()
        self._must_sync = False
        self._lazy_since = None
        self._in_flight = in_flight
        self._since = now
        core.counters.batches += 1
        core.ports.disk.submit(batch, self._durable)

    # ---- step 9

    def _durable(self) -> None:
        check(self._in_flight is not None, "disk: a batch was reported durable that was not given")
        in_flight, self._in_flight = self._in_flight or [], None
        for group, term_vote, applied, mark, ledger in in_flight:
            group.durable = term_vote
            group.durable_applied = applied
            group.durable_ledger = ledger
            group.mark = mark
        self._complete()
        self._on_durable(self._core.overlay.drop())
        self._tell_marks()
        self._core.ports.wake()

    def _complete(self) -> None:
        raft = self._core.raft
        unpersisted, self._unpersisted = self._unpersisted, []
        advance, self._advance = self._advance, []
        for shard, number in unpersisted:
            raft.on_persist_ready(shard, number)
        for shard, applied in advance:
            raft.advance_apply_to(shard, applied)
        self.stamp()
        for shard, _ in unpersisted:
            group = self._core.groups[shard]
            if group.held:
                group.waiting.extend(group.held)
                group.held = []
            self._release(group)

    def _release(self, group: Group) -> None:
        """Send what is durable, if it is stamped too."""
        if not group.waiting or group.stamped != group.durable:
            return
        core = self._core
        for to, message in group.waiting:
            peer = core.peers.get(NodeId(to))
            if peer is not None:
                peer.outbox.add_message(group.shard, message)
        group.waiting.clear()

    def _tell_marks(self) -> None:
        changed = [group.mark for group in self._core.groups if group.mark != group.told]
        if not changed:
            return
        for group in self._core.groups:
            group.told = group.mark
        for peer in self._core.peers.values():
            if peer.connected:
                for mark in changed:
                    peer.untold[mark.shard] = mark

    # ---- the stamp

    def stamp(self) -> None:
        """Write the stamp if a durable (term, vote) is not in it; one write for all shards."""
        core = self._core
        if self._stamping or all(group.stamped == group.durable for group in core.groups):
            return
        stamped = [(group, group.durable) for group in core.groups]
        self.write_stamp(lambda ok: self._stamped(ok, stamped))

    def write_stamp(self, done: Callable[[bool], None]) -> None:
        """Stamp what is durable now, under this boot's incarnation."""
        core = self._core
        shards = [Stamped(*group.durable, group.durable_applied) for group in core.groups]
        data = encode_stamp(
            core.shape.cluster_id.bytes, core.shape.node_id, self.incarnation, shards
        )
        self._stamping = True
        self._stamp_again_at = None
        core.counters.stamps += 1

        def written(ok: bool) -> None:  # noqa: FBT001 - the port's callback
            self._stamping = False
            if not ok:
                core.counters.stamp_failures += 1
                self._stamp_again_at = core.now() + STAMP_RETRY_NS
            done(ok)
            core.ports.wake()

        core.ports.stamper.write(data, written)

    def _stamped(self, ok: bool, stamped: list[tuple[Group, TermVote]]) -> None:  # noqa: FBT001
        if not ok:
            self._core.alarm(UNSTAMPED)
            return
        self._core.alarm_over(UNSTAMPED)
        for group, term_vote in stamped:
            if group.stamped != term_vote:
                group.stamped = term_vote
                self._drop_stale(group)
            self._release(group)
        self.stamp()

    def _drop_stale(self, group: Group) -> None:
        """Of what waited for the stamp only messages of the current term are sent."""
        peek = self._core.raft.peek
        kept = [(to, message) for to, message in group.waiting if peek(message)[3] >= group.term]
        group.waiting.clear()
        group.waiting.extend(kept)

    def stamp_due(self, now: int) -> bool:
        """A failed stamp is to be tried again."""
        return self._stamp_again_at is not None and now >= self._stamp_again_at
