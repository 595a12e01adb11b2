"""An operator has a named node lead a shard: asked at its leader, answered when it did or did not.

A transfer is a wish: raft-rs gives it up when the heir does not catch up within an election
timeout, and the heir may lose its election. Given up, it is asked again, which costs nothing; lost,
it is not, because each try is an election. Nothing here decides safety: the heir is elected.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cluster.core import LEADER
from cluster.elections import nearly_matched
from cluster.giving import heard_giver
from cluster.handover import (
    HandedOver,
    NotInTime,
    NotLeader,
    NoVoter,
    TransferResult,
    Unwilling,
)
from cluster.limits import TRANSFER_NS
from cluster.types import NodeId

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.core import Core, Group


def unwilling(core: Core, group: Group, node: NodeId) -> str:
    """Why the peer would not or could not lead the shard now, in words; empty: it would."""
    peer = core.peers.get(node)
    if peer is None or not peer.connected:
        return "is not connected"
    if not peer.hsm:
        return "has no working HSM"
    if peer.leads_nothing:
        return "is drained, short of disk space, or has a slow disk"
    if peer.revision < group.revision:
        return "follows an older cluster file than the shard"
    if not heard_giver(core, peer, group.shard, core.now()):
        return "gives no shares of the shard, or was not heard for 2 s"
    if not nearly_matched(core.raft.status(group.shard), node):
        return "is too many entries behind"
    return ""


@dataclass(frozen=True, slots=True)
class _Open:
    """One that was asked for and has no answer yet."""

    group: Group
    to: NodeId
    term: int
    until: int
    done: Callable[[TransferResult], None]


class Transfers:
    """Those of one host that somebody waits for."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._open: list[_Open] = []

    def ask(self, shard: int, to: int, done: Callable[[TransferResult], None]) -> None:
        """Begin one; `done` is called after the present call, within TRANSFER_NS."""
        result = self._begin(shard, to, done)
        if result is not None:
            self._core.later(partial(done, result))

    def _begin(
        self, shard: int, to: int, done: Callable[[TransferResult], None]
    ) -> TransferResult | None:
        core = self._core
        if not 0 <= shard < len(core.groups):
            return NoVoter(f"there is no shard {shard}; they are 0 to {len(core.groups) - 1}")
        group, heir = core.groups[shard], NodeId(to)
        if heir not in group.voters:
            voters = ", ".join(map(str, group.voters))
            return NoVoter(f"node {to} is no voter of shard {shard}; they are {voters}")
        if group.role != LEADER:
            return NotLeader(group.leader)
        if heir == core.shape.node_id:
            return HandedOver(heir)
        why_not = unwilling(core, group, heir)
        if why_not:
            return Unwilling(f"node {to} {why_not}")
        heading = core.raft.status(group.shard).transferring_to
        if heading not in (0, heir):
            return Unwilling(f"shard {shard} is being handed to node {heading}; ask again")
        core.raft.transfer_leader(group.shard, heir)
        self._open.append(_Open(group, heir, group.term, core.now() + TRANSFER_NS, done))
        return None

    def on_time(self, now: int) -> None:
        """Once a tick."""
        waiting, self._open = self._open, []
        for each in waiting:
            result = self._look(each, now)
            if result is None:
                self._open.append(each)
            else:
                self._core.later(partial(each.done, result))

    def _look(self, each: _Open, now: int) -> TransferResult | None:
        group = each.group
        if group.leader == each.to:
            return HandedOver(each.to)
        leads = group.role == LEADER
        if now >= each.until or (leads and group.term != each.term):
            return NotInTime(group.leader)
        if leads and not self._core.raft.status(group.shard).transferring_to:
            why_not = unwilling(self._core, group, each.to)
            if why_not:
                return Unwilling(f"node {each.to} {why_not}")
            self._core.raft.transfer_leader(group.shard, each.to)
        return None
