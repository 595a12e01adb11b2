"""Files that are only copies: whether the disk has room for one more (ADR 0011).

Snapshots and ledger rows travel as files. Each needs its own size several times over, and what is
on its way already has not taken all of its room yet; so it is counted, not only looked at. How
large an own file will be, nobody knows before it is written: it ends where it would take too much,
and is begun again only with room for more than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.limits import SNAPSHOT_SPACE
from cluster.manifest import NoRoomError
from cluster.room import Room

if TYPE_CHECKING:
    from cluster.core import Core
    from cluster.types import ShardId


def has_room_for(core: Core, size: int) -> bool:
    """A file of `size` bytes may come in beside those on their way."""
    coming = sum(core.incoming.values())
    return (coming + size) * SNAPSHOT_SPACE <= core.ports.files.free_bytes()


def forget_incoming(core: Core, file: str) -> None:
    """It is used, or not wanted any more."""
    core.incoming.pop(file, None)
    core.ports.files.remove(file)


class Sizes:
    """How large the own files of one kind were, by shard: may the next one be begun?"""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sizes: dict[ShardId, int] = {}
        """Of the last one, or where it ended."""

    def may_begin(self, shard: ShardId) -> bool:
        """There is room enough for all else, and for one like the last."""
        core = self._core
        if core.room is not Room.ENOUGH:
            return False
        size = self._sizes.get(shard, 0)
        if size * SNAPSHOT_SPACE <= core.ports.files.free_bytes():
            return True
        core.alarm(
            f"shard {shard}: no room for a copy of {size} bytes, which another node needs: make"
            f" {SNAPSHOT_SPACE} times as much free"
        )
        return False

    def made(self, shard: ShardId, size: int) -> None:
        """It has so many bytes."""
        self._sizes[shard] = size

    def failed(self, shard: ShardId, why: Exception) -> None:
        """It was not made."""
        if isinstance(why, NoRoomError):
            self._sizes[shard] = why.size
