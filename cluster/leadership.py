"""Handing leadership over: all at once when stepping aside, one by one to spread it.

Spreading is slow on purpose: only to the shard's preferred seat, only when that peer has been
healthy for half a minute and is nearly matched, one transfer at a time. A peer that this leader
hears well may still be heard by too few others to win: each try then costs an election and gains
nothing, so a peer that was asked in vain is left alone for long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.core import LEADER
from cluster.elections import best_heir, preferred_node
from cluster.limits import DRAIN_NS, SPREAD_AGAIN_NS, SPREAD_HEALTHY_NS, SPREAD_PERIOD_NS
from cluster.transfers import unwilling

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.core import Core, Group
    from cluster.types import NodeId, ShardId


class Leadership:
    """Transfers of one host."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._drained: Callable[[], None] | None = None
        self._drain_until: int | None = None
        self._next_spread = 0
        self._asked: dict[ShardId, int] = {}
        """When a shard's preferred seat was asked to lead it and has not led it since."""

    def drain(self, done: Callable[[], None]) -> None:
        """Begin to hand everything over; `done` when nothing is led, or after 5 s."""
        self._drained = done
        self._drain_until = self._core.now() + DRAIN_NS

    def on_time(self, now: int) -> None:
        """Once a tick."""
        if self._drain_until is not None:
            self._drain(now)
        elif self._core.aside:
            self._hand_over(self._led())
        else:
            self._hand_over([group for group in self._led() if self._core.outdated(group)])
            if now >= self._next_spread:
                self._next_spread = now + SPREAD_PERIOD_NS
                self._spread(now)

    def _drain(self, now: int) -> None:
        led = self._led()
        if not led or (self._drain_until is not None and now >= self._drain_until):
            if self._drained is not None:
                self._core.later(self._drained)
                self._drained = None
            return
        self._hand_over(led)

    def _led(self) -> list[Group]:
        return [group for group in self._core.groups if group.role == LEADER]

    def _hand_over(self, led: list[Group]) -> None:
        """Ask the best willing voter of each group to lead it; nothing where there is none."""
        for group in led:
            status = self._core.raft.status(group.shard)
            if not status.transferring_to:
                heir = best_heir(status, self._core.shape.node_id, self._willing(group))
                if heir is not None:
                    self._core.raft.transfer_leader(group.shard, heir)

    def _willing(self, group: Group) -> set[NodeId]:
        """Who would lead the shard, by a book as new as the one that its members came by.

        Where that is newer than this node's own, it may be a lie: then nobody has it, and the
        shard stays, unless this node must be rid of it.
        """
        needed = group.revision
        if self._core.aside:
            needed = min(needed, self._core.shape.revision)
        return {
            peer.node_id
            for peer in self._core.peers.values()
            if peer.connected and peer.hsm and not peer.leads_nothing and peer.revision >= needed
        }

    def balance(self) -> list[ShardId]:
        """Ask every preferred seat at once that is fit, however short a time; the shards asked.

        Also one that was asked in vain: an operator who asks knows that something has changed.
        """
        now = self._core.now()
        groups = self._core.groups
        return [group.shard for group in groups if self._ask_preferred(group, now, patience_ns=0)]

    def _spread(self, now: int) -> None:
        for group in self._core.groups:
            if self._ask_preferred(group, now, patience_ns=SPREAD_HEALTHY_NS):
                return

    def _ask_preferred(self, group: Group, now: int, *, patience_ns: int) -> bool:
        core = self._core
        wanted = preferred_node(group.shard, core.shape.seats)
        if group.leader == wanted:
            self._asked.pop(group.shard, None)
        if group.role != LEADER or wanted == core.shape.node_id:
            return False
        if patience_ns and now - self._asked.get(group.shard, -SPREAD_AGAIN_NS) < SPREAD_AGAIN_NS:
            return False
        if now - core.peers[wanted].connected_since < patience_ns or unwilling(core, group, wanted):
            return False
        if core.raft.status(group.shard).transferring_to:
            return False
        self._asked[group.shard] = now
        core.raft.transfer_leader(group.shard, wanted)
        return True
