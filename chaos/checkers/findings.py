"""What a checker is given beside the history, and what it gives back."""

from __future__ import annotations

from msgspec import Struct

from chaos.history import Event  # noqa: TC001 - msgspec reads the annotations at run time


class Finding(Struct, frozen=True):
    """One broken rule, with what a reader needs to look it up in the history."""

    check: str
    """The checker's module."""
    rule: str
    """I1 to I12 of design section 2."""
    sentence: str

    def __str__(self) -> str:
        return f"{self.rule} ({self.check}): {self.sentence}"


class NodeState(Struct, frozen=True):
    """One node's word on one shard: the hash of its records as of an applied index."""

    node: int
    shard: int
    index: int
    hash: str


class Final(Struct, frozen=True):
    """The world after healing, when no operation is open any more."""

    reads: tuple[Event, ...] = ()
    """One answered `observe` per account and node (`phase` ok), as they were made."""
    states: tuple[NodeState, ...] = ()
    """Also hashes noted during the run: they are compared at equal indexes only."""
    nodes: frozenset[int] = frozenset()
    """Nodes that had to answer a final read for each account; empty: nobody is demanded."""


def short(name: str) -> str:
    """An id as sentences show it."""
    return name[:10] or "none"


def at(event: Event) -> str:
    """Where in a history an event is found."""
    return f"[{event.t_ns} client {event.client} node {event.node} {event.op} {event.phase}]"
