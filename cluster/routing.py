"""Commands between nodes: from this proposer to whoever leads, and from all proposers to this log.

Local commands and forwarded ones take the same way through `leading`; nobody forwards twice, and
raft-rs never sees a proposal on a follower (it would forward and drop silently). Every refusal is
told to the origin, because only a refusal lets it say `no` (I12).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.core import LEADER
from cluster.frames import Accepted, Forward, Nack
from cluster.leading import Leading, Offered
from cluster.proposals import NO_NODE
from cluster.room import Room

if TYPE_CHECKING:
    from cluster.core import Core, Group, Peer
    from cluster.frames import Refusal
    from cluster.proposals import Proposals
    from cluster.types import NodeId, ShardId


class Routing:
    """Both sides of proposing, joined."""

    def __init__(self, core: Core, proposals: Proposals, incarnation: int) -> None:
        self._core = core
        self._proposals = proposals
        self._incarnation = incarnation
        self._leading = Leading(core.shape.node_id, core.shape.shards)

    # ---- the proposer's side

    def dispatch(self, now: int) -> None:
        """Send this node's commands: into the own queue, or to the leader."""
        for shard in sorted(self._proposals.ready):
            group = self._core.groups[shard]
            leader = group.leader
            peer = self._core.peers.get(leader)
            if leader == self._core.shape.node_id:
                self._dispatch_here(group, now)
            elif leader != NO_NODE and peer is not None and peer.connected:
                self._dispatch_to(peer, shard, now)
            else:
                self._proposals.ready.discard(shard)

    def _dispatch_here(self, group: Group, now: int) -> None:
        for command in self._proposals.take(group.shard, now):
            node_id = self._core.shape.node_id
            send = self._sent(command.sends)
            self._proposals.sent(command, node_id, now)
            refusal = self._offer(
                group, Offered(node_id, self._incarnation, command.seq, send, command.data)
            )
            if refusal is not None:
                self._proposals.nacked(node_id, refusal, [(command.seq, send)], now)

    def _dispatch_to(self, peer: Peer, shard: ShardId, now: int) -> None:
        forwarded: list[tuple[int, int, bytes]] = []
        for command in self._proposals.take(shard, now):
            send = self._sent(command.sends)
            self._proposals.sent(command, peer.node_id, now)
            forwarded.append((command.seq, send, command.data))
        if forwarded:
            self._core.counters.forwards_sent += len(forwarded)
            size = sum(len(data) + 24 for _, _, data in forwarded)
            peer.outbox.add(Forward(shard, forwarded), size)

    def _sent(self, sends: int) -> int:
        """The number of the next send."""
        self._core.counters.resends += sends > 0
        return sends + 1

    def on_answer(self, peer: Peer, answer: Nack | Accepted) -> None:
        """Some of our sends were refused, or are in the leader's log."""
        if isinstance(answer, Accepted):
            self._proposals.accepted(peer.node_id, answer.term, answer.seqs)
        else:
            self._core.counters.nacks_received += len(answer.sends)
            self._proposals.nacked(peer.node_id, answer.reason, answer.sends, self._core.now())

    # ---- the leader's side

    def on_forward(self, peer: Peer, forward: Forward, *, stepping: bool) -> None:
        """A peer's commands for a shard that this node should lead."""
        self._core.counters.forwards_received += len(forward.commands)
        group = self._core.groups[forward.shard]
        refused: dict[Refusal, list[tuple[int, int]]] = {}
        for seq, send, data in forward.commands:
            reason: Refusal | None = "not-leader"
            if stepping:
                offered = Offered(peer.node_id, peer.incarnation, seq, send, data)
                reason = self._offer(group, offered)
            if reason is not None:
                refused.setdefault(reason, []).append((seq, send))
        for reason, sends in refused.items():
            self._nack(peer, group, reason, sends)

    def _offer(self, group: Group, offered: Offered) -> Refusal | None:
        if group.role != LEADER:
            return "not-leader"
        if self._core.room is Room.FULL:
            return "dropped"  # asked again in a tick: by then somebody else may lead
        return self._leading.offer(group.shard, offered)

    def append(self) -> None:
        """Step 4: per led shard, everything queued becomes one entry."""
        for shard in sorted(self._leading.ready):
            made, dropped = self._leading.append(self._core.raft, shard)
            for entry in made:
                by_origin: dict[NodeId, list[int]] = {}
                for command in entry.commands:
                    by_origin.setdefault(command.origin, []).append(command.seq)
                for origin, seqs in by_origin.items():
                    self._accept(origin, Accepted(shard, entry.term, entry.at, seqs))
            self._refuse(shard, "dropped", dropped)

    def applied(self, shard: ShardId, index: int) -> None:
        """Entries up to `index` are no longer in flight."""
        self._leading.applied(shard, index)

    def not_leader(self, shard: ShardId) -> None:
        """What was queued and not appended is refused."""
        self._refuse(shard, "not-leader", self._leading.not_leader(shard))

    def _accept(self, origin: NodeId, accepted: Accepted) -> None:
        if origin == self._core.shape.node_id:
            self._proposals.accepted(origin, accepted.term, accepted.seqs)
        elif (peer := self._core.peers.get(origin)) is not None:  # else it was retired meanwhile
            peer.outbox.add(accepted, 16 + 9 * len(accepted.seqs))

    def _refuse(self, shard: ShardId, reason: Refusal, commands: list[Offered]) -> None:
        by_origin: dict[NodeId, list[tuple[int, int]]] = {}
        for command in commands:
            by_origin.setdefault(command.origin, []).append((command.seq, command.send))
        for origin, sends in by_origin.items():
            if origin == self._core.shape.node_id:
                self._proposals.nacked(origin, reason, sends, self._core.now())
            elif (peer := self._core.peers.get(origin)) is not None:  # as above
                self._nack(peer, self._core.groups[shard], reason, sends)

    def _nack(
        self, peer: Peer, group: Group, reason: Refusal, sends: list[tuple[int, int]]
    ) -> None:
        self._core.counters.nacks_sent += len(sends)
        nack = Nack(group.shard, reason, group.leader, sends)
        peer.outbox.add(nack, 32 + 16 * len(sends))
