"""How full one machine's disk is, and what its runtime makes of that (ADR 0011).

The twin of `cluster.runtime`'s look at every tick, and of `node.waiting` before a start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster.room import FULL_BYTES, SHORT_BYTES, Room, Space, judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chaos.sim.node import SimNode

TOTAL: Final = 64 * SHORT_BYTES
BRIM: Final = 2 * SHORT_BYTES
"""Not short yet."""
LEVELS: Final = (0, 0, FULL_BYTES // 2, FULL_BYTES // 2, SHORT_BYTES // 2)
"""What a neighbour who fills the disk leaves: nothing (the next commit fails), too little to take
entries, or too little to lead."""


class SimSpace:
    """Of one machine, whose copies in transit are `files`."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.free = TOTAL
        """What everybody else leaves to store and copies."""
        self._files = files
        self._room = Room.ENOUGH

    @property
    def left(self) -> int:
        """Free bytes."""
        return max(0, self.free - sum(map(len, self._files.values())))

    def look(self, node: SimNode) -> None:
        """A tick is due; the host is told when its room has changed."""
        if self.free == TOTAL and self._room is Room.ENOUGH:
            return
        room = judge(self._room, _space(self.left))
        if room is not self._room:
            self._room = room
            node.running.set_room(room)

    def started(self) -> None:
        """A new process has not looked yet."""
        self._room = Room.ENOUGH

    @property
    def too_little(self) -> bool:
        """A process that starts now waits, and touches nothing; copies it would remove."""
        return judge(Room.FULL, _space(self.free)) is Room.FULL


def _space(free: int) -> Space:
    return Space(map_used=0, map_total=1, disk_free=free, disk_total=TOTAL)
