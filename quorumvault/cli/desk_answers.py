"""What the admin listener answers to an operator's calls, as types to decode into.

Fields that this version does not know are left out (`node.foreign`): during an upgrade an older
command line looks at newer nodes.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Level = Literal["info", "warning", "error"]


class Drained(Struct, frozen=True):
    """POST /v1/drain, POST /v1/undrain."""

    draining: bool
    leads: int = 0


class Transferred(Struct, frozen=True):
    """POST /v1/leader/transfer."""

    shard: int
    leader: int


class Balanced(Struct, frozen=True):
    """POST /v1/leader/balance: the shards that others were asked to lead."""

    asked: list[int]


class Reloaded(Struct, frozen=True):
    """POST /v1/reload."""

    changed: list[str]
    needs_restart: list[str]


class Event(Struct, frozen=True, omit_defaults=True):
    """One event of one node."""

    seq: int
    t: str
    """RFC 3339, UTC, with milliseconds."""
    level: Level
    kind: str
    text: str
    shard: int | None = None
    peer: int | None = None


class Events(Struct, frozen=True):
    """GET /v1/events: after the wanted one, oldest first, and what the ring holds; 0: nothing."""

    events: list[Event]
    oldest: int
    newest: int
