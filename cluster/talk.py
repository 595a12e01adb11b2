"""Frames in and out: who the peers are, what they say, and one frame per peer and turn.

A peer is believed only after its Hello was accepted in this life of ours, and only frames of that
incarnation are; everything else is dropped, so that nothing of an earlier life is mistaken for the
present one. A frame that this version does not know cuts the link (I9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import msgspec

from cluster.api import HostStopped
from cluster.core import LEADER
from cluster.entries import NORMAL_ENTRY, check_entry
from cluster.frames import (
    Accepted,
    Beat,
    Forward,
    FrameError,
    Hashes,
    Hello,
    LedgerAsk,
    LedgerOffer,
    Marks,
    Nack,
    Pong,
    RaftMessages,
    SnapshotProgress,
    Welcome,
    decode_frame,
)
from cluster.limits import BEAT_NS, MARKS_AGAIN_NS, MAX_INBOX_BYTES, TURN_INPUT_BYTES
from cluster.membership import contradiction, decode_change
from cluster.next_step import replace_node
from cluster.room import Room
from cluster.statehash import encode_hash
from cluster.types import ShardId

if TYPE_CHECKING:
    from cluster.core import Peer
    from cluster.frames import HashPoint, Item, ShardMark
    from cluster.parts import Parts
    from cluster.types import NodeId

APPEND = 3
APPEND_RESPONSE = 4
SNAPSHOT = 7
HEARTBEAT = 8
HEARTBEAT_RESPONSE = 9
Seen = tuple[int, int, int, int, int, int, int]
"""What `MultiRaft.peek` says of one message: kind, from, to, term, index, log_term, commit."""


class Talk:
    """All conversations of one host."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._core = parts.core
        self._incarnation = parts.durability.incarnation
        cluster_id = parts.core.shape.cluster_id.bytes
        self._hello = Hello(cluster_id, self._incarnation, parts.nonce)
        self._next_beat = 0
        self._next_marks = 0
        self._stepping = False

    # ---- links

    def up(self, peer_id: NodeId, *, speaking: bool) -> None:
        """Our link to the peer can carry frames."""
        peer = self._core.peers.get(peer_id)
        if peer is None:
            return  # retired meanwhile
        peer.connected = True
        peer.connected_since = self._core.now()
        peer.welcomed = False
        self._owe_marks(peer)
        if speaking:
            self._greet(peer)

    def down(self, peer_id: NodeId) -> None:
        """Our link to the peer is gone."""
        peer = self._core.peers.get(peer_id)
        if peer is None:
            return
        peer.connected = False
        peer.rtt_ns = None
        peer.outbox.take(self._incarnation)
        peer.untold.clear()

    def greet_all(self) -> None:
        """This boot is stamped: say Hello wherever a link is."""
        for peer in self._core.peers.values():
            if peer.connected:
                self._greet(peer)

    def _owe_marks(self, peer: Peer) -> None:
        """All of what is durable here goes to it again: what it has not heard it cannot return."""
        peer.untold.update((group.shard, group.mark) for group in self._core.groups)

    def _greet(self, peer: Peer) -> None:
        peer.outbox.greet(self._hello)

    # ---- out

    def beat(self, now: int, giver: bytes, ledger: bytes) -> None:
        """Every 500 ms: how we are; and Hello again where nobody answered it."""
        if now < self._next_beat:
            return
        self._next_beat = now + BEAT_NS
        core = self._core
        beat = Beat(now, core.hsm, core.aside, giver, ledger, core.shape.revision)
        for peer in self._core.peers.values():
            if peer.connected:
                if not peer.welcomed:
                    self._greet(peer)
                peer.outbox.add(beat)
        if now >= self._next_marks:
            self._next_marks = now + MARKS_AGAIN_NS
            for peer in self._core.peers.values():
                self._owe_marks(peer)

    def tell_hashes(self, points: list[HashPoint]) -> None:
        """Own hash points go to everyone."""
        if points:
            for peer in self._core.peers.values():
                if peer.connected:
                    peer.outbox.add(Hashes(points), 48 * len(points))

    def flush(self, *, marks: bool) -> None:
        """Send what every peer's outbox holds; every frame carries the marks that changed.

        With `marks`, once a tick, they are sent in any case; otherwise only where a frame goes
        anyway: a frame to every peer after every batch would carry nothing else. Marks of a frame
        that was not taken go with the next: until a peer has them, a disk that lost what they say
        would not be noticed there.
        """
        counters = self._core.counters
        for peer in self._core.peers.values():
            told: dict[int, ShardMark] = {}
            if peer.connected and peer.untold and (marks or peer.outbox):
                told, peer.untold = peer.untold, {}
                peer.outbox.add(Marks(list(told.values())), 24 * len(told))
            for frame in peer.outbox.take(self._incarnation):
                if not peer.connected or not self._core.ports.network.send(peer.node_id, frame):
                    counters.frames_dropped += 1
                    self._unreachable(peer)
                    peer.untold = told | peer.untold
                    continue
                counters.frames_sent += 1
                counters.bytes_sent += len(frame)

    def _unreachable(self, peer: Peer) -> None:
        for group in self._core.groups:
            if group.role == LEADER:
                self._core.raft.report_unreachable(group.shard, peer.node_id)

    # ---- in

    def receive(self, sender: NodeId, payload: bytes) -> None:
        """Keep one frame for the next turn."""
        peer = self._core.peers.get(sender)
        if peer is None or peer.inbox_bytes + len(payload) > MAX_INBOX_BYTES:
            self._core.counters.frames_dropped += 1
            return
        peer.inbox.append(payload)
        peer.inbox_bytes += len(payload)

    def step(self, now: int, *, stepping: bool) -> bool:
        """Take frames, round-robin, up to the turn's bytes; True when some are left."""
        self._stepping = stepping
        taken = 0
        waiting = [peer for peer in self._core.peers.values() if peer.inbox]
        while waiting and taken < TURN_INPUT_BYTES:
            for peer in waiting:
                payload = peer.inbox.popleft()
                peer.inbox_bytes -= len(payload)
                taken += len(payload)
                self._frame(peer, payload, now)
            waiting = [peer for peer in waiting if peer.inbox]
        return bool(waiting)

    def _frame(self, peer: Peer, payload: bytes, now: int) -> None:
        counters = self._core.counters
        counters.frames_received += 1
        counters.bytes_received += len(payload)
        try:
            frame = decode_frame(payload)
            for item in frame.items:
                if isinstance(item, Hello):
                    self._on_hello(peer, item)
                elif isinstance(item, Welcome):
                    # Heard also from a peer that has not been accepted yet: both ask first.
                    if not self._parts.gate.welcome(peer.node_id, item):
                        self._core.alarm(
                            f"node {peer.node_id} refuses this node's greeting: it has seen"
                            f" incarnation {item.incarnation} of it; one more node that says so"
                            " ends this one"
                        )
                    # One that a former life of the peer sent says nothing of what this one heard.
                    if frame.incarnation == peer.incarnation and item.nonce == self._hello.nonce:
                        peer.welcomed = True
                elif frame.incarnation == peer.incarnation:
                    self._item(peer, item, now)
        except FrameError as error:
            peer.inbox.clear()
            peer.inbox_bytes = 0
            self._core.alarm(f"node {peer.node_id} broke the protocol: {error}")
            self._core.ports.network.cut(peer.node_id, str(error))
            return
        if frame.incarnation == peer.incarnation:
            peer.last_contact = now

    def _on_hello(self, peer: Peer, hello: Hello) -> None:
        if hello.cluster_id != self._core.shape.cluster_id.bytes:
            raise FrameError("it belongs to another cluster")
        own = self._core.shape.node_id
        voter = all(own in group.voters for group in self._core.groups)
        welcome = self._parts.memory.hello(peer.node_id, hello, voter=voter)
        peer.outbox.greet(welcome, 64 + 24 * len(welcome.marks))
        if not welcome.accepted:
            self._core.alarm(
                f"node {peer.node_id} greeted as incarnation {hello.incarnation}, seen before as"
                f" {welcome.incarnation}: refused as an older copy or a second process"
            )
            return
        if peer.incarnation != hello.incarnation:
            peer.incarnation = hello.incarnation
            peer.welcomed = False  # whatever its former life heard, this one is greeted anew
        # What we have durable must be remembered by whoever came anew.
        self._owe_marks(peer)

    def _item(self, peer: Peer, item: Item, now: int) -> None:
        match item:
            case RaftMessages():
                self._raft(peer, item)
            case Forward():
                self._check_shard(item.shard)
                self._parts.routing.on_forward(peer, item, stepping=self._stepping)
            case Nack() | Accepted():
                self._parts.routing.on_answer(peer, item)
            case Marks():
                self._parts.memory.merge(peer.node_id, item.marks)
            case Hashes():
                self._on_hashes(peer, item, now)
            case Beat():
                peer.beat_at = now
                peer.hsm, peer.leads_nothing = item.hsm, item.leads_nothing
                peer.giver, peer.ledger = item.giver, item.ledger
                peer.revision = item.revision
                peer.outbox.add(Pong(item.sent_ns))
            case Pong():
                peer.rtt_ns = max(0, now - item.sent_ns)
            case SnapshotProgress() | LedgerAsk() | LedgerOffer():
                self._check_shard(item.shard)
                self._on_file(peer, item, now)
            case Hello() | Welcome():
                raise FrameError("greetings are handled before")
            case _ as never:
                assert_never(never)

    def _on_file(
        self, peer: Peer, item: SnapshotProgress | LedgerAsk | LedgerOffer, now: int
    ) -> None:
        if isinstance(item, SnapshotProgress):
            self._parts.sender.progress(peer.node_id, item, now)
        elif isinstance(item, LedgerAsk):
            self._parts.ledger_giver.asked(peer, ShardId(item.shard), now)
        else:
            self._parts.join.offered(peer, item)

    def _check_shard(self, shard: int) -> None:
        if shard >= len(self._core.groups):
            raise FrameError(f"there is no shard {shard}")

    def _on_hashes(self, peer: Peer, item: Hashes, now: int) -> None:
        for point in item.points:
            self._check_shard(point.shard)
            group = self._core.groups[point.shard]
            applied, leads = group.applied, peer.node_id == group.leader
            if leads and point.index == applied:
                state = encode_hash(self._core.overlay.shards[point.shard].hash)
                self._parts.hashes.reached(ShardId(point.shard), applied, state, now)
            self._parts.hashes.heard(peer.node_id, point, applied, now, from_leader=leads)

    def _raft(self, peer: Peer, item: RaftMessages) -> None:
        if not self._stepping:
            return
        for shard, message in item.messages:
            self._check_shard(shard)
            try:
                self._step_one(peer, ShardId(shard), message)
            except ValueError as error:
                raise FrameError(str(error)) from error

    def _step_one(self, peer: Peer, shard: ShardId, message: bytes) -> None:
        """Check one message and step it, before the next one: that one may depend on it."""
        raft = self._core.raft
        seen = raft.peek(message)
        kind = seen[0]
        self._check_rolled_back(peer, shard, seen)
        if self._core.room is Room.FULL and kind in (APPEND, SNAPSHOT):
            return
        if kind == APPEND:
            self._check_contradicted(peer, shard, seen)
            # Appended, an entry that nobody understands would end every node that applies it, at
            # each of its starts: refused here, an owned leader ends only its own link.
            for entry_kind, data in raft.entries_of(message):
                if entry_kind == NORMAL_ENTRY:
                    self._understand(shard, data)
                elif self._ruled_out(peer, shard, entry_kind, data):
                    return
        for _, manifest, snapshot in raft.step_frame(peer.node_id, [(shard, message)]):
            self._parts.stager.offered(peer.node_id, self._core.groups[shard], manifest, snapshot)

    def _understand(self, shard: ShardId, data: bytes) -> None:
        try:
            check_entry(shard, self._core.shape.shards, data)
        except msgspec.DecodeError as error:
            raise FrameError(f"an entry is not understood by this version ({error})") from error

    def _ruled_out(self, peer: Peer, shard: ShardId, kind: int, data: bytes) -> bool:
        """True, and an alarm, for a change of members that must not be in this node's log.

        A node that lacks entries is behind; one that has this one is lost.
        """
        change = decode_change(kind, data)
        if change is None:
            raise FrameError("a change of members that no leader of this version makes")
        shape = self._core.shape
        why = contradiction(shape, change)
        if why is not None:
            self._core.alarm(
                f"shard {shard}: node {peer.node_id} leads with a change of members by revision"
                f" {change.revision} of cluster.json, and this node, by its own of revision"
                f" {shape.revision}, does not take it: {why}. If that was done on purpose, hand it"
                " the newest one ('quorumvault member sync'); else a data center is owned"
            )
        return why is not None

    def _check_contradicted(self, peer: Peer, shard: ShardId, seen: Seen) -> None:
        """A leader's log that lacks what is committed here: somebody forgot what it acknowledged.

        raft-rs refuses such an append for ever and says nothing. This node may be the one that
        remembers, so it stays, says so, and gives no shares (I9) while its log does not go on. It
        may also be a lie: then the true leader's next entry is appended here, and all is well.
        """
        _, _, _, term, index, log_term, _ = seen
        group = self._core.groups[shard]
        if term < group.term or not group.truncated_index <= index <= group.commit:
            return
        known = self._core.raft.term_at(shard, index)
        if known is not None and known != log_term:
            self._core.contradicted[shard] = group.commit
            self._core.alarm(
                f"shard {shard}: node {peer.node_id} leads with a log that contradicts entry"
                f" {index}, which is committed here: an older disk is in use somewhere. This node"
                " gives no shares until the log goes on from there; find out which nodes came back"
                " with an old data directory, and replace those"
            )

    def _check_rolled_back(self, peer: Peer, shard: ShardId, seen: Seen) -> None:
        """Rule (d), before step: does somebody remember more of this log than this node has?

        That stops the node, so it must be the word of who sent it: whatever does not decode or is
        said in another's name cuts the link instead.
        """
        kind, sender, to, term, index, _, commit = seen
        if (sender, to) != (peer.node_id, self._core.shape.node_id):
            raise FrameError(f"it sent a Raft message from {sender} to {to}")
        if kind not in (APPEND_RESPONSE, HEARTBEAT, HEARTBEAT_RESPONSE):
            return
        group = self._core.groups[shard]
        if kind != HEARTBEAT:
            known = max(index, commit)
            mine = group.role == LEADER and term == group.term
        else:
            known = commit
            mine = term >= group.term
        if mine and known > group.last_index:
            raise HostStopped(
                f"shard {shard}: node {peer.node_id} has acknowledged index {known} of this log,"
                f" which ends at {group.last_index}: this node's directory was rolled back; "
                + replace_node(self._core.shape.node_id)
            )
