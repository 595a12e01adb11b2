"""How full one machine's disk is, and what its runtime makes of that (ADR 0011).

The twin of `cluster.runtime`'s look at every tick, and of `node.waiting` before a start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster.room import FULL_BYTES, SHORT_BYTES, Room, Space, judge

if TYPE_CHECKING:
    from chaos.sim.node import SimNode

TOTAL: Final = 64 * SHORT_BYTES
BRIM: Final = 2 * SHORT_BYTES
"""Not short yet."""
LEVELS: Final = (0, 0, FULL_BYTES // 2, FULL_BYTES // 2, SHORT_BYTES // 2)
"""What a neighbour who fills the disk leaves: nothing (the next commit fails), too little to take
entries, or too little to lead."""


class SimSpace:
    """Of one machine."""

    def __init__(self) -> None:
        self.free = TOTAL
        self._room = Room.ENOUGH

    def look(self, node: SimNode) -> None:
        """A tick is due; the host is told when its room has changed."""
        if self.free == TOTAL and self._room is Room.ENOUGH:
            return
        room = judge(self._room, self._space())
        if room is not self._room:
            self._room = room
            node.running.set_room(room)

    def started(self) -> None:
        """A new process has not looked yet."""
        self._room = Room.ENOUGH

    @property
    def too_little(self) -> bool:
        """A process that starts now waits, and touches nothing."""
        return judge(Room.FULL, self._space()) is Room.FULL

    def _space(self) -> Space:
        return Space(map_used=0, map_total=1, disk_free=self.free, disk_total=TOTAL)
