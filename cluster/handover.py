"""What comes of asking a leader to hand one shard to a named node: a closed union, told once.

Apart from `cluster.transfers`, which decides it, so that whoever asks need not know how.
"""

# ruff: noqa: TC001 - msgspec reads the annotations at run time

from __future__ import annotations

from msgspec import Struct

from cluster.types import NodeId


class HandedOver(Struct, frozen=True):
    """The node that was to lead the shard leads it."""

    leader: NodeId


class NotLeader(Struct, frozen=True):
    """Nothing was done: `leader` (0: none known) leads the shard, not this node; ask that one."""

    leader: NodeId


class NoVoter(Struct, frozen=True):
    """Nothing was done: there is no such shard, or that node has no vote in it."""

    reason: str


class Unwilling(Struct, frozen=True):
    """That node would not or could not lead the shard now."""

    reason: str


class NotInTime(Struct, frozen=True):
    """It was asked and does not lead; `leader` does (0: none known)."""

    leader: NodeId


TransferResult = HandedOver | NotLeader | NoVoter | Unwilling | NotInTime
