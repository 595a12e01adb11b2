"""What nodes remember of each other, so that a rolled-back or doubled node is noticed (rule c).

Every node tells the others what it made durable (a mark per shard) and they keep the maximum. A
booting node steps nothing and sends no Raft message until enough other voters have returned its
marks, and goes on only if its disk still has all of it: a disk that lost acknowledged entries or a
vote would break I4 and I8. Hello carries (incarnation, boot nonce): a lower incarnation, or the
same with another nonce, is a second or older process under the same id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.api import HostStopped
from cluster.frames import Hello, ShardMark, Welcome
from cluster.limits import GATE_PATIENCE_NS
from cluster.next_step import replace_node
from cluster.tables import MarkRow, encode_row, marks_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cluster.ports import Batch
    from cluster.types import NodeId

_NO_NONCE = b""
REFUSALS = 2
"""Peers that must refuse a node that already runs before it ends."""


class _Remembered:
    __slots__ = ("incarnation", "marks", "nonce")

    def __init__(self, row: MarkRow | None) -> None:
        self.incarnation = 0 if row is None else row.incarnation
        self.nonce = _NO_NONCE if row is None else row.nonce
        self.marks = {} if row is None else {mark.shard: mark for mark in row.marks}


class Memory:
    """This node's memory of the others; changes go into the next batch, whenever that is."""

    def __init__(self, peers: Iterable[NodeId], rows: dict[NodeId, MarkRow], shards: int) -> None:
        self._known = {peer: _Remembered(rows.get(peer)) for peer in peers}
        self._dirty: set[NodeId] = set()
        self._shards = shards

    def adopt(self, peers: Iterable[NodeId]) -> None:
        """These are the others now; what retired ones had durable matters no more."""
        self._known = {peer: self._known.get(peer) or _Remembered(None) for peer in peers}
        self._dirty &= self._known.keys()

    def hello(self, peer: NodeId, hello: Hello, *, voter: bool = True) -> Welcome:
        """Answer a Hello with what was known before it, and remember it if it is acceptable."""
        known = self._known[peer]
        same = hello.incarnation == known.incarnation and hello.nonce == known.nonce
        accepted = same or hello.incarnation > known.incarnation
        marks = [known.marks[shard] for shard in sorted(known.marks)]
        welcome = Welcome(hello.nonce, accepted, known.incarnation, marks, voter)
        if accepted and not same:
            known.incarnation = hello.incarnation
            known.nonce = hello.nonce
            self._dirty.add(peer)
        return welcome

    def merge(self, peer: NodeId, marks: Iterable[ShardMark]) -> None:
        """Keep the maximum of what the peer says it has durable."""
        known = self._known[peer]
        for mark in marks:
            if mark.shard >= self._shards:
                continue
            old = known.marks.get(mark.shard)
            new = mark if old is None else _later(old, mark)
            if new != old:
                known.marks[mark.shard] = new
                self._dirty.add(peer)

    @property
    def dirty(self) -> bool:
        """Something is to be written."""
        return bool(self._dirty)

    def write(self, batch: Batch) -> None:
        """Put what changed since the last batch."""
        for peer in sorted(self._dirty):
            known = self._known[peer]
            marks = tuple(known.marks[shard] for shard in sorted(known.marks))
            row = MarkRow(known.incarnation, known.nonce, marks)
            batch.put("marks", marks_key(peer), encode_row(row))
        self._dirty.clear()


def _later(old: ShardMark, new: ShardMark) -> ShardMark:
    if new.term > old.term:
        term, last = new.term, new.last_index
    elif new.term == old.term:
        term, last = old.term, max(old.last_index, new.last_index)
    else:
        term, last = old.term, old.last_index
    return ShardMark(old.shard, term, last, max(old.commit, new.commit))


class Gate:
    """Closed until `needed` other voters returned this node's marks, and the others had their time.

    Two answers are enough where two data centers are gone. Where they are not, one of the others
    may be the only one that remembers: disks that were rolled back together remember nothing of
    each other either. So all members are waited for, but no longer than GATE_PATIENCE_NS.
    """

    def __init__(
        self, nonce: bytes, durable: Sequence[ShardMark], needed: int, others: Iterable[NodeId]
    ) -> None:
        self._nonce = nonce
        self._durable = {mark.shard: mark for mark in durable}
        self._needed = needed
        self._silent = set(others)
        self._returned: set[NodeId] = set()
        self._refused: set[NodeId] = set()
        self._enough_since: int | None = None
        self._open = False

    @property
    def open(self) -> bool:
        """Raft may run."""
        return self._open

    @property
    def waiting_for(self) -> str:
        """Why it is closed, in words."""
        if self._open:
            return ""
        missing = max(0, self._needed - len(self._returned))
        if missing:
            return f"marks of this node from {missing} more voters"
        return "marks of this node from whoever else can be reached, for a moment"

    def adopt(self, peers: Iterable[NodeId]) -> None:
        """Only these count now; what is open stays open."""
        if not self._open:
            self._returned &= set(peers)
            self._silent &= set(peers)

    def on_time(self, now: int) -> None:
        """Once a tick: open it when all that may be waited for is there."""
        if self._open or len(self._returned) < self._needed:
            self._enough_since = None
            return
        if self._enough_since is None:
            self._enough_since = now
        self._open = not self._silent or now - self._enough_since >= GATE_PATIENCE_NS

    def welcome(self, peer: NodeId, welcome: Welcome) -> bool:
        """Take one voter's answer; False when it refuses this node, and is the first to do so.

        At a start the word of one is enough, who may be the only one that remembers. A node that
        runs was accepted by two: a second process with its id would be refused, or refuse it, at
        more than one, so that one alone may be a lie.

        Raises:
            HostStopped: the peer saw a later life of this node, or more than the disk has.

        """
        if welcome.nonce != self._nonce:
            return True  # an answer to an earlier process
        if not welcome.accepted:
            self._refused.add(peer)
            if self._open and len(self._refused) < REFUSALS:
                return False
            raise HostStopped(
                f"node {peer} has seen incarnation {welcome.incarnation} of this node id from"
                " elsewhere: an older copy or a second process; stop the other one, or "
                + replace_node()
            )
        self._refused.discard(peer)
        if self._open:
            return True
        for mark in welcome.marks:
            self._check(peer, mark)
        self._silent.discard(peer)
        if welcome.voter:
            self._returned.add(peer)
        return True

    def _check(self, peer: NodeId, mark: ShardMark) -> None:
        own = self._durable.get(mark.shard)
        if own is None:
            return
        behind = (
            own.term < mark.term
            or (own.term == mark.term and own.last_index < mark.last_index)
            or own.commit < mark.commit
        )
        if behind:
            raise HostStopped(
                f"the data directory is older than what node {peer} saw of it (shard {mark.shard}:"
                f" term {own.term} last {own.last_index} commit {own.commit}, seen {mark.term}"
                f" {mark.last_index} {mark.commit}): it was rolled back; " + replace_node()
            )
