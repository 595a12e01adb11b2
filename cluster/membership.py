"""The next change of one shard's members: pure, one step at a time, towards the book (I1, I4, I8).

`cluster.json` says who the members are; whoever leads a shard makes it so. There is no plan that
could be lost half-way: each step follows from the book, the configuration as applied and who is
heard now, so a new leader goes on where the last one stopped.

1. Whoever the book does not have is removed, if the voters that stay can still decide, and if no
   other seat is empty.
2. Then a member that is missing is added as a learner: it is sent the log, and does not count.
3. Then a learner that has caught up, is heard, has its HSM and a complete ledger becomes a voter,
   if nobody votes who had its seat before.

Removing comes first: a node is replaced because it is gone, so nothing is lost by it, and no two
voters ever have one seat. Two seats are never empty at once, whatever book an operator (or a thief
of his certificate) hands out: three voters acknowledge with two, and the loss of two data centers
could take that (I4). Every change carries its book's revision through the log. A leader whose
book is older than one that the shard has seen proposes nothing: it would undo what it does not
know of. Nor does one whose book has whom another book removed: no id ever comes back (I8).

A log is an owned leader's word, so a change out of it meets two judges. `is_step`, the same at
every replica, keeps what no leader of ours could do from these members from having any effect.
`contradiction` keeps out of this node's log what would end it, once committed, at each of its
starts.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from cluster.types import MAX_COUNTER, NodeId
from engines._engines import decode_conf_change, encode_conf_change
from engines.encoding import u64

if TYPE_CHECKING:
    from cluster.api import Shape

REVISION_BYTES: Final = 8


class Kind(IntEnum):
    """As the engine numbers them."""

    ADD_VOTER = 0
    REMOVE = 1
    ADD_LEARNER = 2


class Change(Struct, frozen=True):
    """One change of one node; `revision` is that of the book which demands it."""

    kind: Kind
    node: NodeId
    revision: int


OLD_BOOK: Final = "this node's cluster.json is of revision"
"""How the alarm begins that a newer file ends."""


class Refrain(Struct, frozen=True):
    """A change is due and must not be made now; the reason is for an operator."""

    why: str


class View(Struct, frozen=True):
    """What the leader of a shard knows when it decides."""

    shard: int
    voters: tuple[NodeId, ...]
    learners: tuple[NodeId, ...]
    revision: int
    """Highest one that an applied change of this shard carried."""
    alive: frozenset[NodeId]
    """This node and whoever is connected and was heard within two seconds."""
    ripe: frozenset[NodeId]
    """Learners that have been fit to vote for a while: see `cluster.reconcile`."""


def next_change(book: Shape, view: View) -> Change | Refrain | None:
    """Decide; None when the shard is as the book says, or waits for a learner."""
    if book.revision < view.revision:
        return Refrain(
            f"{OLD_BOOK} {book.revision}, and shard {view.shard} has"
            f" members by revision {view.revision}: hand this node the newest one"
            " ('quorumvault member sync')"
        )
    present = {*view.voters, *view.learners}
    parted = _removed_by_another_book(book, present)
    if parted:
        return Refrain(
            f"shard {view.shard}: node {_names(parted)} was removed from shard {view.shard} and is"
            f" a member in this node's cluster.json of revision {book.revision}: give this node the"
            " file that the other nodes follow, if that is another one; else replace the removed"
            " node"
        )
    waiting: Refrain | None = None
    for node in sorted(present - book.seats.keys()):
        if node not in view.voters or not _empties_a_second(book, view, node):
            return _remove(book, view, node)
        waiting = waiting or Refrain(
            f"shard {view.shard}: node {node} is not removed yet: another seat is empty, and with"
            " two empty ones the loss of two data centers could take what was acknowledged; see"
            " the other replacement through first"
        )
    for node in sorted(book.seats.keys() - present):
        return Change(Kind.ADD_LEARNER, node, book.revision)
    for node in sorted(view.ripe & set(view.learners)):
        free = not _before(book, node) & set(view.voters)
        if free and _decide({*view.voters, node}, view.alive):
            return Change(Kind.ADD_VOTER, node, book.revision)
    return waiting


def _removed_by_another_book(book: Shape, present: set[NodeId]) -> set[NodeId]:
    """Members of the book that are not in the shard, and were.

    Founders were there from the start; newcomers come in the order of their ids, which only rise.
    """
    newest = max(present)
    missing = book.seats.keys() - present
    return {node for node in missing if node in book.founders or node < newest}


def _empties_a_second(book: Shape, view: View, node: NodeId) -> bool:
    """One empty seat is borne: a majority of four is three, as of five; of three it is two."""
    return len(set(view.voters) - {node}) < len(book.seats) - 1


def _before(book: Shape, node: NodeId) -> set[NodeId]:
    """Everybody who had the seat of `node` before it."""
    found = {node}
    while more := {gone for gone, successor in book.retired.items() if successor in found} - found:
        found |= more
    return found - {node}


def _remove(book: Shape, view: View, node: NodeId) -> Change | Refrain:
    staying = set(view.voters) - {node}
    if node in view.voters and not _decide(staying, view.alive):
        heard = sorted(staying & view.alive)
        return Refrain(
            f"shard {view.shard}: node {node} is not removed yet: of the voters that stay"
            f" ({_names(staying)}) only {_names(heard)} are heard, which is no majority; bring"
            " another of them back"
        )
    return Change(Kind.REMOVE, node, book.revision)


def _decide(voters: set[NodeId], alive: frozenset[NodeId]) -> bool:
    return len(voters & alive) > len(voters) // 2


def _names(nodes: set[NodeId] | list[NodeId]) -> str:
    return ", ".join(str(node) for node in sorted(nodes)) or "none"


# ------------------------------------------------------------------ out of somebody's log


def is_step(
    change: Change, voters: tuple[NodeId, ...], learners: tuple[NodeId, ...], seats: int
) -> bool:
    """True for a step that `next_change` can make from these members; others change nothing.

    Nobody is demoted, only learners become voters, and no second seat is emptied (I4).
    """
    match change.kind:
        case Kind.ADD_LEARNER:
            return change.node not in voters and change.node not in learners
        case Kind.ADD_VOTER:
            return change.node in learners
        case Kind.REMOVE:
            return change.node in learners or (
                change.node in voters and len(set(voters) - {change.node}) >= seats - 1
            )


def contradiction(book: Shape, change: Change) -> str | None:
    """Why this node takes no log with this change in it; None when it may.

    That it was replaced, a node learns from an operator or from `threshold` peers, never from a
    log. Whom else a change removes it cannot judge by its own book: that may be the older one, or
    an honest leader's may be of another history, and refused entries would keep the shard from
    going on.
    """
    if change.kind is Kind.REMOVE:
        return "it removes this node" if change.node == book.node_id else None
    if change.node in book.founders:
        return f"it adds node {change.node}, which was there from the start"
    return None


def foreign_members(
    book: Shape,
    voters: tuple[NodeId, ...],
    learners: tuple[NodeId, ...],
    revision: int,
    *,
    votes: bool,
) -> str | None:
    """Why no honest leader sends this node a snapshot with these members; None when one may.

    Args:
        book: this node's own.
        voters: of the snapshot.
        learners: of the snapshot.
        revision: of the book by which they came, as the snapshot says.
        votes: this node is a voter now.

    """
    everybody = {*voters, *learners}
    own = book.node_id
    if own not in everybody or (votes and own in learners):
        return "this node is no voter there"
    if demoted := set(book.founders) & set(learners):
        return f"node {_names(demoted)} does not vote there"
    if len(voters) < len(book.seats) - 1:
        return "two seats are empty there"
    if revision > book.revision:
        return None
    if strange := everybody - book.seats.keys() - book.retired.keys():
        return f"node {_names(strange)} was never a member"
    if missing := set(book.founders) - book.retired.keys() - set(voters):
        return f"node {_names(missing)}, which nobody replaced, is missing there"
    return None


# ------------------------------------------------------------------ in the log


def encode_change(change: Change) -> bytes:
    """The data of its log entry."""
    return encode_conf_change([(change.kind, change.node)], u64(change.revision))


def decode_change(kind: int, data: bytes) -> Change | None:
    """The change of a committed entry of kind 1 or 2; None when no leader of ours made it."""
    read = decode_conf_change(kind, data)
    if read is None or len(read[2]) != REVISION_BYTES:
        return None
    revision = int.from_bytes(read[2], "big")
    if revision >= MAX_COUNTER:
        return None
    return Change(Kind(read[0]), NodeId(read[1]), revision)
