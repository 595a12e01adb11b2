"""How much room a node has left, and what it may still do with it (ADR 0011; keeps I4, I9).

A node that runs into a full disk ends: a batch that cannot be written must not be survived. So it
steps aside before, in two steps. SHORT: it leads nothing if it can help it, does not stand for
election, and takes nothing new from clients; it still follows, so that no write loses a copy. FULL:
it also takes no log entry and no snapshot, so that nothing which makes the store grow comes in; it
lags, says that it is no share-giver, and votes on. It never acknowledges what it did not fsync,
full or not. Coming back asks for more room than leaving did.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from msgspec import Struct

from cluster.types import check

SHORT_SHARE: Final = 0.10
SHORT_BYTES: Final = 1 << 30
"""On a large disk a tenth is more than we need: a gibibyte free is never short."""
FULL_SHARE: Final = 0.04
FULL_BYTES: Final = 256 << 20
"""Room for what is under way when the door closes: a batch in flight, one being made, and what
copying pages on write adds to them."""
BACK: Final = 1.25
"""A mark is left behind only when a quarter more is free than it asks for: no flapping."""

check(FULL_SHARE * BACK < SHORT_SHARE, "room: FULL must end before SHORT does")
check(FULL_BYTES * BACK < SHORT_BYTES, "room: FULL must end before SHORT does")


class Space(Struct, frozen=True):
    """Bytes. `map_used` counts pages that hold something; freed pages are used again."""

    map_used: int
    map_total: int
    disk_free: int
    disk_total: int


class Room(Enum):
    """What is left, from the best to the worst."""

    ENOUGH = "enough"
    SHORT = "short"
    FULL = "full"


def judge(before: Room, space: Space) -> Room:
    """The room there is now, when it was `before` a moment ago."""
    if _below(space, FULL_BYTES, FULL_SHARE, leaving=before is Room.FULL):
        return Room.FULL
    if _below(space, SHORT_BYTES, SHORT_SHARE, leaving=before is not Room.ENOUGH):
        return Room.SHORT
    return Room.ENOUGH


def start_bytes(space: Space) -> int:
    """Free bytes of disk with which a node starts that did not fit before."""
    return int(BACK * _mark(space, FULL_BYTES, FULL_SHARE)) + 1


def _mark(space: Space, most: int, share: float) -> float:
    return min(most, space.disk_total * share)


def _below(space: Space, most: int, share: float, *, leaving: bool) -> bool:
    factor = BACK if leaving else 1.0
    map_free = space.map_total - space.map_used
    return (
        space.disk_free < factor * _mark(space, most, share)
        or map_free < factor * space.map_total * share
    )
