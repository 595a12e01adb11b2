"""What every node may never do, checked after every event, only where something moved (I4, I8).

Per node and shard: term, commit and applied only rise, a vote given in a term stays, also across
restarts and as the disk has them; per shard and term one leader; committed entries on every disk
are the agreed ones; nobody votes, asks for votes, acknowledges or leads on what is not on its disk
and in its HSM. A restored old disk begins anew with what it holds: noticing it is the vault's
business, and what it may cost is measured by all other checks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.core import LEADER
from cluster.frames import RaftMessages, decode_frame
from cluster.ports import Batch
from cluster.stamp import decode_stamp
from cluster.statehash import decode_hash
from cluster.tables import FIRST_INDEX, FIRST_TERM, GroupRow, decode_group, log_key
from cluster.types import ShardId

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.sim.node import Moment, SimNode
    from chaos.sim.reference import Reference
    from chaos.sim.trace import Trace
    from chaos.sim.world import World
    from cluster.core import Group

APPEND, APPEND_RESPONSE, REQUEST_VOTE, VOTE_RESPONSE, HEARTBEAT = 3, 4, 5, 6, 8
BOUND = frozenset({APPEND, APPEND_RESPONSE, REQUEST_VOTE, VOTE_RESPONSE, HEARTBEAT})
"""Raft messages that rest on the sender's term and vote being durable and stamped."""


@dataclass(slots=True)
class _Seen:
    """One shard of one node as of the last look."""

    term: int = FIRST_TERM
    vote: int = 0
    commit: int = FIRST_INDEX
    applied: int = FIRST_INDEX
    role: int = 0
    leader: int = 0


@dataclass(slots=True)
class _Disk:
    """One shard on one disk, and in its HSM."""

    term: int = FIRST_TERM
    vote: int = 0
    commit: int = FIRST_INDEX
    applied: int = FIRST_INDEX
    stamped: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class _Watched:
    ram: list[_Seen]
    disk: list[_Disk]
    votes: dict[tuple[int, int], int] = field(default_factory=dict)
    """(shard, term) → whom the disk says it voted for."""


class Guard:
    """Watches every node of a world."""

    def __init__(
        self, world: World, reference: Reference, trace: Trace, broken: Callable[[str], None]
    ) -> None:
        self._world = world
        self._reference = reference
        self._trace = trace
        self._broken = broken
        self._watched: dict[int, _Watched] = {}
        self._leaders: dict[tuple[int, int], int] = {}
        self._spoke: set[tuple[int, int]] = set()
        """(node, incarnation) of which a frame was sent."""
        self.elections = 0
        self.snapshots = 0
        world.moments.append(self._moment)
        world.lives.append(self._life)

    def restored(self, node: int) -> None:
        """Its disk is an old one: what was seen of it counts no more."""
        self._watched.pop(node, None)

    def _of(self, node: int) -> _Watched:
        watched = self._watched.get(node)
        if watched is None:
            shards = range(self._world.shards)
            watched = _Watched([_Seen() for _ in shards], [_Disk() for _ in shards])
            self._watched[node] = watched
        return watched

    # ---- moments

    def _moment(self, node: SimNode, moment: Moment, what: bytes | Batch) -> None:
        if moment == "sending" and isinstance(what, bytes):
            self._sending(node, what)
        elif moment == "fsynced" and isinstance(what, Batch):
            self._fsynced(node, what)
        elif moment == "stamp written" and isinstance(what, bytes):
            self._stamped(node, what)
        elif moment in ("turned", "durable", "stamped"):
            self.look(node)

    def _life(self, node: SimNode, what: str) -> None:
        """A new process knows what its disk knows; less than was durable must never be."""
        watched = self._of(node.id)
        if what == "ended":
            self._trace_role(node.id, watched)
            return
        self._incarnation(node)
        for group, disk in zip(node.running._core.groups, watched.disk, strict=True):  # noqa: SLF001
            self._began(node, group, watched, disk)
        self._stamped(node, node.stamp)

    def _incarnation(self, node: SimNode) -> None:
        """A life that spoke is nobody else's; one that could not be stamped left no trace."""
        incarnation = node.running.status().incarnation
        if (node.id, incarnation) in self._spoke:
            self._broken(f"incarnation-again: node {node.id} has spoken as {incarnation} before")
        self._reference.silent_until_now(node.id, incarnation)

    def _began(self, node: SimNode, group: Group, watched: _Watched, disk: _Disk) -> None:
        name = f"node {node.id}, shard {group.shard}"
        if group.term < disk.term or group.commit < disk.commit or group.applied < disk.applied:
            self._broken(f"forgot: {name}: started with less than its disk had: {disk}")
        if group.term == disk.term and disk.vote not in (0, group.vote):
            self._broken(f"forgot: {name}: started without the vote that its disk had: {disk}")
        if group.vote:
            before = watched.votes.setdefault((group.shard, group.term), group.vote)
            if before != group.vote:
                self._broken(f"second-vote: {name}, term {group.term}: {before}, then {group.vote}")
        if group.commit > disk.commit:
            # Its last batch got to the disk as it was killed: nobody saw it know of this commit.
            self._reference.commit(node.id, group.shard, group.commit, group.voters)
        disk.term, disk.vote = group.term, group.vote
        disk.commit, disk.applied = group.commit, group.applied
        watched.ram[group.shard] = _Seen(group.term, group.vote, group.commit, group.applied)

    def _trace_role(self, node: int, watched: _Watched) -> None:
        for shard, seen in enumerate(watched.ram):
            if seen.role == LEADER:
                self._trace.say(node, f"led shard {shard} in term {seen.term} when it ended")

    # ---- RAM

    def look(self, node: SimNode) -> None:
        """Whatever moved since the last look is held against the rules."""
        if node.host is None:
            return
        watched = self._of(node.id)
        for group, seen in zip(node.host._core.groups, watched.ram, strict=True):  # noqa: SLF001
            if (
                group.commit != seen.commit
                or group.applied != seen.applied
                or group.term != seen.term
                or group.vote != seen.vote
                or group.role != seen.role
            ):
                self._moved(node, group, seen)

    def _moved(self, node: SimNode, group: Group, seen: _Seen) -> None:
        shard, name = group.shard, f"node {node.id}, shard {group.shard}"
        if group.term < seen.term or group.commit < seen.commit or group.applied < seen.applied:
            self._broken(
                f"not-monotonic: {name}: term {seen.term}, commit {seen.commit}, applied"
                f" {seen.applied} became {group.term}, {group.commit}, {group.applied}"
            )
        if group.term == seen.term and seen.vote and group.vote != seen.vote:
            self._broken(f"second-vote: {name}, term {group.term}: {seen.vote}, then {group.vote}")
        if group.role == LEADER and (seen.role != LEADER or seen.term != group.term):
            self.elections += 1
            self._trace.say(node.id, f"leads shard {shard} in term {group.term}")
            other = self._leaders.setdefault((shard, group.term), node.id)
            if other != node.id:
                self._broken(f"two-leaders: shard {shard}, term {group.term}: {other}, {node.id}")
        elif seen.role == LEADER and group.role != LEADER:
            self._trace.say(node.id, f"leads shard {shard} no more")
        if group.truncated_index > seen.applied:
            self.snapshots += 1
            self._trace.say(node.id, f"has shard {shard} from a snapshot at {group.applied}")
        if group.commit > seen.commit:
            self._reference.commit(node.id, shard, group.commit, group.voters)
        if group.applied != seen.applied:
            records = node.running._core.overlay.shards[shard]  # noqa: SLF001
            self._reference.state(node.id, shard, group.applied, records.hash, "state")
        seen.term, seen.vote, seen.role = group.term, group.vote, group.role
        seen.commit, seen.applied = group.commit, group.applied

    # ---- disk and HSM

    def _fsynced(self, node: SimNode, batch: Batch) -> None:
        watched = self._of(node.id)
        for kind, table, key, value in batch.ops:
            if table == "group" and kind == "put":
                shard = ShardId(int.from_bytes(key, "big"))
                self._row(node, watched, shard, decode_group(value))
        self._tails(node, batch)

    def _tails(self, node: SimNode, batch: Batch) -> None:
        """Behind the last entry written lies nothing: what a new leader replaced is gone."""
        written = {
            key[:2]: int.from_bytes(key[2:], "big")
            for kind, table, key, _ in batch.ops
            if table == "log" and kind == "put"
        }
        for raw, index in written.items():
            shard = ShardId(int.from_bytes(raw, "big"))
            if node.store.get("log", log_key(shard, index + 1)) is not None:
                self._broken(
                    f"old-tail: the disk of node {node.id}, shard {shard}: an entry of before"
                    f" stands behind the new entry {index}"
                )

    def _row(self, node: SimNode, watched: _Watched, shard: ShardId, row: GroupRow) -> None:
        disk, name = watched.disk[shard], f"the disk of node {node.id}, shard {shard}"
        if row.term < disk.term or row.commit < disk.commit or row.applied < disk.applied:
            self._broken(f"not-monotonic: {name}: {disk} became {row}")
        if row.vote:
            before = watched.votes.setdefault((shard, row.term), row.vote)
            if before != row.vote:
                self._broken(f"second-vote: {name}, term {row.term}: {before}, then {row.vote}")
        if row.commit > disk.commit:
            # Its own process says so first, unless it died between: then this is the first word.
            self._reference.commit(node.id, shard, row.commit, row.voters)
            self._matching(node, shard, max(disk.commit, row.truncated_index), row.commit)
        if row.applied != disk.applied:
            self._reference.state(node.id, shard, row.applied, decode_hash(row.hash), "disk")
        disk.term, disk.vote = row.term, row.vote
        disk.commit, disk.applied = row.commit, row.applied

    def _matching(self, node: SimNode, shard: ShardId, after: int, upto: int) -> None:
        log, values = node.store.tables["log"], self._reference.values[shard]
        for index in range(after + 1, upto + 1):
            stored, agreed = log.get(log_key(shard, index)), values.get(index)
            if stored is not None and agreed is not None and stored != agreed:
                self._broken(
                    f"log-differs: node {node.id} has another entry {index} of shard {shard} than"
                    " the one that was committed"
                )

    def _stamped(self, node: SimNode, data: bytes) -> None:
        watched = self._of(node.id)
        for shard, stamped in enumerate(decode_stamp(data).shards):
            watched.disk[shard].stamped = (stamped.term, stamped.vote)

    # ---- wire

    def _sending(self, node: SimNode, payload: bytes) -> None:
        """Only while RAM is ahead of disk or HSM a frame can say too much."""
        host, watched = node.host, self._of(node.id)
        if host is None:
            return
        self._spoke.add((node.id, host._parts.durability.incarnation))  # noqa: SLF001
        ahead = {
            group.shard
            for group, disk in zip(host._core.groups, watched.disk, strict=True)  # noqa: SLF001
            if not (group.term, group.vote) == (disk.term, disk.vote) == disk.stamped
        }
        if not ahead:
            return
        raft = host._core.raft  # noqa: SLF001
        for item in decode_frame(payload).items:
            if not isinstance(item, RaftMessages):
                continue
            for shard, message in item.messages:
                if shard in ahead:
                    kind, _, to, term, *_ = raft.peek(message)
                    if kind in BOUND:
                        self._bound(node, host._core.groups[shard], watched, kind, to, term)  # noqa: SLF001

    def _bound(
        self, node: SimNode, group: Group, watched: _Watched, kind: int, to: int, term: int
    ) -> None:
        disk = watched.disk[group.shard]
        name = f"node {node.id}, shard {group.shard}, message kind {kind} to {to} of term {term}"
        if term > disk.term:
            self._broken(f"spoke-before-fsync: {name}; its disk has term {disk.term}")
        elif term > disk.stamped[0] and disk.stamped[0]:
            self._broken(f"spoke-before-stamp: {name}; its HSM has term {disk.stamped[0]}")
        elif kind == VOTE_RESPONSE and term == group.term and group.vote == to:
            if disk.vote != to:
                self._broken(f"voted-before-fsync: {name}; its disk has vote {disk.vote}")
            elif disk.stamped != (term, to):
                self._broken(f"voted-before-stamp: {name}; its HSM has {disk.stamped}")
