"""Shards follow the book: what is due is proposed where this node leads, and applied everywhere.

The thin side of `membership`: it gathers what the decision needs once a second, proposes, and
applies committed changes. A leader speaks only when the HSM has its term, and only after an entry
of its own term was applied here: by then it has seen every change that was ever committed before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.api import HostStopped
from cluster.core import LEADER
from cluster.limits import GIVER_NS, LEARNER_LAG_ENTRIES, LEARNER_STEADY_NS
from cluster.membership import (
    OLD_BOOK,
    Change,
    Refrain,
    View,
    decode_change,
    encode_change,
    is_step,
    next_change,
)
from cluster.types import NodeId
from engines._engines import ProposalDropped

if TYPE_CHECKING:
    from cluster.core import Core, Group
    from cluster.sending import SnapshotSender

SNAPSHOT = 2
"""Of a peer's progress; one that is only probed may have everything all the same: raft-rs leaves it
so in a quiet shard after a link was lost."""


class Reconcile:
    """Changes of members of all shards of one host."""

    def __init__(self, core: Core, sender: SnapshotSender) -> None:
        self._core = core
        self._sender = sender
        self._fit_since: dict[tuple[int, NodeId], int] = {}
        """(shard, learner) -> since when it has been fit to vote, as the leader sees it."""

        self._refrained: dict[int, str] = {}
        """Shard -> why its leader, this node, does not make a change."""

    # ---- the leader's side

    def on_time(self, now: int) -> None:
        """Once a second."""
        alive = self._alive(now)
        for group in self._core.groups:
            if group.role == LEADER and group.applied_term == group.term and group.is_stamped:
                self._lead(group, alive, now)
            else:
                self._forget(group.shard)
                self._refrain(group, None)

    def _lead(self, group: Group, alive: frozenset[NodeId], now: int) -> None:
        if self._at_goal(group):
            self._forget(group.shard)
            self._refrain(group, None)
            return
        view = View(
            shard=group.shard,
            voters=group.voters,
            learners=group.learners,
            revision=group.revision,
            alive=alive,
            ripe=self._ripe(group, alive, now),
        )
        match next_change(self._core.shape, view):
            case Change() as change:
                self._refrain(group, None)
                self._propose(group, change)
            case Refrain(why):
                self._refrain(group, why)
            case None:
                self._refrain(group, None)

    def _refrain(self, group: Group, why: str | None) -> None:
        """Why a change that is due is not made is an alarm for as long as that is so."""
        before = self._refrained.pop(group.shard, why)
        # That of an old book is every node's, not the leader's alone: `adopt` ends it.
        if before is not None and before != why and not before.startswith(OLD_BOOK):
            self._core.alarm_over(before)
        if why is not None:
            self._refrained[group.shard] = why
            self._core.alarm(why)

    def _at_goal(self, group: Group) -> bool:
        """The usual case, at the cost of one comparison."""
        return not group.learners and self._core.shape.seats.keys() == set(group.voters)

    def _propose(self, group: Group, change: Change) -> None:
        try:
            self._core.raft.propose_conf_change(group.shard, encode_change(change))
        except ProposalDropped:
            return  # another one is under way, or a transfer: looked at again in a second
        self._core.ports.wake()

    def _alive(self, now: int) -> frozenset[NodeId]:
        heard = {
            peer.node_id
            for peer in self._core.peers.values()
            if peer.connected and peer.beat_at is not None and now - peer.beat_at <= GIVER_NS
        }
        return frozenset({self._core.shape.node_id, *heard})

    def _ripe(self, group: Group, alive: frozenset[NodeId], now: int) -> frozenset[NodeId]:
        fit = self._fit(group, alive)
        since: dict[tuple[int, NodeId], int] = {
            (group.shard, node): self._fit_since.get((group.shard, node), now) for node in fit
        }
        self._forget(group.shard)
        self._fit_since.update(since)
        return frozenset(
            node for (_, node), start in since.items() if now - start >= LEARNER_STEADY_NS
        )

    def _fit(self, group: Group, alive: frozenset[NodeId]) -> set[NodeId]:
        fit: set[NodeId] = set()
        for number, matched, _, _, state in self._core.raft.status(group.shard).progress:
            node = NodeId(number)
            peer = self._core.peers.get(node)
            caught_up = state != SNAPSHOT and matched + LEARNER_LAG_ENTRIES >= group.last_index
            if node not in group.learners or node not in alive or peer is None:
                continue
            willing = not peer.leads_nothing and peer.revision >= group.revision
            able = peer.hsm and willing and peer.has_ledger(group.shard)
            if caught_up and able:
                fit.add(node)
        return fit

    def _forget(self, shard: int) -> None:
        for key in [key for key in self._fit_since if key[0] == shard]:
            del self._fit_since[key]

    # ---- every replica's side

    def apply(self, group: Group, index: int, kind: int, data: bytes) -> None:
        """Apply a committed change of members; one that no leader of ours made changes nothing.

        Raises:
            HostStopped: it removed this node.

        """
        change = decode_change(kind, data)
        seats = len(self._core.shape.seats)
        if (
            change is None
            or change.revision < group.revision
            or not is_step(change, group.voters, group.learners, seats)
        ):
            self._core.alarm(
                f"shard {group.shard}, entry {index}: a change of members that no leader of this"
                " version makes, or by a book older than the last one: nothing changed"
            )
            return
        own = self._core.shape.node_id
        was = own in group.voters or own in group.learners
        voters, learners = self._core.raft.apply_conf_change(group.shard, kind, data)
        group.voters = tuple(NodeId(node) for node in voters)
        group.learners = tuple(NodeId(node) for node in learners)
        group.revision = change.revision
        if was and own not in group.voters and own not in group.learners:
            raise HostStopped(
                self._core.shape.retirement()
                or f"node {own} was removed from shard {group.shard} by revision"
                f" {change.revision} of cluster.json, and its own, of revision"
                f" {self._core.shape.revision}, knows nothing of it: ask the operators whether it"
                " was replaced ('quorumvault cluster status'); if not, a data center is owned"
            )
        self.changed(group)

    def changed(self, group: Group) -> None:
        """The members of a shard are others now, by the log or by a snapshot."""
        # Later: while its Ready is out, nothing may be said to the group.
        self._core.later(lambda: self._sender.members_changed(group.shard))
        self.compare(group)

    def compare(self, group: Group) -> None:
        """Say so if this node's book is older than the shard's members."""
        shape = self._core.shape
        if group.revision > shape.revision:
            self._core.alarm(
                f"{OLD_BOOK} {shape.revision}, and shard"
                f" {group.shard} has members by revision {group.revision}: hand this node the"
                " newest one ('quorumvault member sync')"
            )
