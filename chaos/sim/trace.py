"""What happened, twice: as a hash over every event, and as words for whoever reads a failure.

The hash covers every moment of every node (time, node, moment, its bytes) and every life: two runs
with the same hash did the same. The words are kept for the last lines only.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING

from chaos.sim.units import MS

if TYPE_CHECKING:
    from chaos.sim.node import Moment, SimNode
    from chaos.sim.world import World
    from cluster.ports import Batch

LINES = 400
PARTS = 1_000
"""Taken in together: a hash call for each would cost more than the hash."""


class Trace:
    """Listens to one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        """What the hash has not taken in yet."""
        self._lines: deque[tuple[int, int, str]] = deque(maxlen=LINES)
        world.moments.append(self._moment)
        world.lives.append(self._life)

    def say(self, node: int, text: str) -> None:
        """One line; node 0 is the world or a client."""
        self._lines.append((self._world.now, node, text))
        self._parts.append(f"{self._world.now} {node} {text}\n".encode())

    def digest(self) -> str:
        """Hex SHA-256 of everything until now."""
        self._take_in()
        return self._hash.hexdigest()

    def lines(self, last: int = LINES) -> list[str]:
        """The last lines, in words."""
        chosen = list(self._lines)[-last:]
        return [
            f"{now / MS:>12.3f} ms  {f'node {node}' if node else '      '}  {text}"
            for now, node, text in chosen
        ]

    def _moment(self, node: SimNode, moment: Moment, what: bytes | Batch) -> None:
        parts = self._parts
        parts.append(f"{self._world.now} {node.id} {moment} ".encode())
        if isinstance(what, bytes):
            parts.append(what)
        elif moment == "fsynced":
            for kind, table, first, second in what.ops:
                parts += (kind.encode(), table.encode(), first, second)
        if len(parts) > PARTS:
            self._take_in()

    def _take_in(self) -> None:
        self._hash.update(b"".join(self._parts))
        self._parts.clear()

    def _life(self, node: SimNode, what: str) -> None:
        why = f": {node.stopped}" if what == "ended" and node.stopped else ""
        self.say(node.id, f"process {what}{why}")
