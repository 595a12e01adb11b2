"""Step 2 of a turn: what time alone makes due, in one tick. Clocks decide no safety here (I10).

Raft's own tick and the timers of all parts; each part knows its own periods, and those that belong
to no part are here. Nothing but beats and timeouts runs before the gate is open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cluster import giving
from cluster.commands import Barrier, Command, Expire
from cluster.core import LEADER
from cluster.limits import (
    GRACE_PERIOD_NS,
    HASH_PERIOD_NS,
    PROPOSER_DEADLINE_S,
    RECONCILE_NS,
    SECOND,
    SLOW_DISK_MS,
    SLOW_DISK_NS,
)
from cluster.room import Room
from cluster.statehash import encode_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.api import ProposalResult
    from cluster.parts import Parts
    from cluster.proposals import Waiter
    from cluster.talk import Talk
    from cluster.types import ShardId


class Propose(Protocol):
    """`Host.propose`."""

    def __call__(
        self,
        command: Command,
        *,
        timeout_s: float,
        done: Callable[[ProposalResult], None],
        shard: ShardId | None = None,
    ) -> Waiter:
        """Have `command` applied."""
        ...


class Ticking:
    """The timers of one host."""

    def __init__(self, parts: Parts, talk: Talk, propose: Propose) -> None:
        self._parts = parts
        self._core = parts.core
        self._talk = talk
        self._propose = propose
        self._next_hash = self._next_grace = self._next_second = self._next_reconcile = 0
        self._last_grace = 0

    def tick(self, now: int) -> None:
        """One tick."""
        parts, core = self._parts, self._core
        core.counters.ticks += 1
        self._watch_disk(now)
        parts.gate.on_time(now)
        if parts.gate.open:
            self._tick_raft()
        parts.proposals.on_time(now)
        parts.leadership.on_time(now)
        parts.transfers.on_time(now)
        bits = giving.giver_bits(core, doubt=parts.standing.doubt), giving.ledger_bits(core)
        self._talk.beat(now, *bits)
        if parts.durability.stamp_due(now):
            parts.durability.stamp()
        if parts.gate.open:
            self._behind_the_gate(now)

    def hold(self) -> None:
        """Who cannot stamp a vote (rule b), or write what it would win, does not campaign."""
        unable = not self._core.hsm or self._core.room is Room.FULL
        for group in self._core.groups:
            silent = unable or group.stamped != group.durable
            self._parts.slots.hold(group.shard, silent=silent)

    def reconcile_soon(self) -> None:
        """There is another book: look at the members with the next tick."""
        self._next_reconcile = 0

    def _tick_raft(self) -> None:
        core = self._core
        self.hold()
        core.raft.tick_all()
        for group in core.groups:
            aside = core.aside or core.outdated(group)
            reluctant = aside or not core.hsm or group.stamped != group.durable
            self._parts.slots.apply(group.shard, group.term, reluctant=reluctant)

    def _behind_the_gate(self, now: int) -> None:
        parts = self._parts
        parts.sender.on_time(now)
        parts.stager.on_time(now)
        parts.join.on_time(now)
        if now >= self._next_reconcile:
            self._next_reconcile = now + RECONCILE_NS
            parts.reconcile.on_time(now)
            parts.ledger_giver.on_time(now)
        if now >= self._next_grace:
            self._count_grace(now)
        if now >= self._next_second:
            self._next_second = now + SECOND
            for alarm in parts.hashes.on_time(now):
                self._core.alarm(alarm)
            self._settle()
            parts.compaction.on_time(now)
        if now >= self._next_hash:
            self._next_hash = now + HASH_PERIOD_NS
            self._hash_points(now)

    def _watch_disk(self, now: int) -> None:
        """Whose disk is slow leads nothing for a while: what it leads would wait for it."""
        if self._parts.durability.age_ms(now) >= SLOW_DISK_MS:
            self._core.slow_until = now + SLOW_DISK_NS

    def _settle(self) -> None:
        """Have the log of a contradicted shard go on, also in silence."""
        for shard in self._core.unsettled:
            self._propose(
                Barrier(), timeout_s=PROPOSER_DEADLINE_S, done=lambda _result: None, shard=shard
            )

    def _count_grace(self, now: int) -> None:
        """Time passes for full lists, where this node leads and shares can be given."""
        elapsed = min(now - self._last_grace, 2 * GRACE_PERIOD_NS) if self._last_grace else 0
        self._last_grace = now
        self._next_grace = now + GRACE_PERIOD_NS
        parts, core = self._parts, self._core
        for group in core.groups:
            if group.role != LEADER or not parts.machine.full[group.shard]:
                continue
            gives = parts.standing.gives(group.shard)
            if len(giving.givers(core, group.shard, self_gives=gives)) < core.shape.threshold:
                continue
            for record_id, era in parts.grace.pass_time(group.shard, elapsed):
                self._propose(
                    Expire(record_id, era), timeout_s=PROPOSER_DEADLINE_S, done=lambda _result: None
                )

    def _hash_points(self, now: int) -> None:
        """The leader names a point per shard; the others compare when they are there."""
        core = self._core
        for group in core.groups:
            if group.role == LEADER:
                state = encode_hash(core.overlay.shards[group.shard].hash)
                self._parts.hashes.reached(group.shard, group.applied, state, now)
