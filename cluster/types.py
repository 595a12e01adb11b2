"""The words of the replicated world as types, so that a shard is never taken for a seat."""

from __future__ import annotations

from typing import Final, NewType

NodeId = NewType("NodeId", int)
"""Raft id of one node, for ever; never reused, not even by the node that takes over its seat."""
Seat = NewType("Seat", int)
"""1…5: the data center's place in the threshold scheme."""
ShardId = NewType("ShardId", int)
Term = NewType("Term", int)
Index = NewType("Index", int)
Era = NewType("Era", int)
RecordId = NewType("RecordId", bytes)
RegistrationId = NewType("RegistrationId", bytes)
AttemptId = NewType("AttemptId", bytes)

MAX_COUNTER: Final = 2**53
"""Eras and versions stay below it: they are JSON numbers at the edge (design section 5)."""


class InvariantError(Exception):
    """A rule that never bends was about to be broken; the node stops."""


def check(condition: bool, message: str) -> None:  # noqa: FBT001 - reads as an assertion
    """Stop the node when an invariant does not hold; never switched off.

    Raises:
        InvariantError: with `message`, which names the thing and the place.

    """
    if not condition:
        raise InvariantError(message)
