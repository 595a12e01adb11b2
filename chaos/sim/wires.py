"""Faults of the wires: who is cut off from whom now, and for what reason.

A pair of nodes may be cut by a one-way cut, by a partition and by a flap at the same time; it hears
again when no reason is left. A newly cut pair may stall first: nothing passes for up to `STALL_S`
while the connections stand, and then what TCP kept arrives in order, or the links are lost.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from chaos.sim.units import MS, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chaos.sim.node import SimNode
    from chaos.sim.world import World
    from cluster.types import NodeId

STALL_S: Final = 2.5
"""How long a link survives without an answer."""
Pair = tuple[int, int]


class Wires:
    """All cuts of one world; `later` does a thing after so many ns, unless all is healed."""

    def __init__(self, world: World, later: Callable[[int, Callable[[], object]], None]) -> None:
        self._world = world
        self._later = later
        self._cut: set[Pair] = set()
        self._parted: set[Pair] = set()
        self._flapped: set[Pair] = set()

    def cut(self, sender: NodeId, receiver: NodeId, *, stalled: bool) -> None:
        """Nothing passes this way."""
        pair = (sender, receiver)
        self._cut.add(pair)
        self._rewire({pair} if stalled else set())

    def partition(self, groups: Iterable[set[NodeId]], *, stalled: bool) -> None:
        """Only nodes of one group hear each other; one group of all ends every cut."""
        sides = list(groups)
        before = self._parted | self._cut
        nodes = self._world.nodes
        self._parted = {
            (a, b)
            for a in nodes
            for b in nodes
            if a != b and not any(a in side and b in side for side in sides)
        }
        if not self._parted:
            self._cut = set()
        self._rewire(self._parted - before if stalled else set())

    def frozen(self, node: SimNode) -> None:
        """A process stands still: nobody hears it after a while, its links are lost."""
        self._later(int(STALL_S * SECOND), partial(self._silent, node, node.life))

    def _silent(self, node: SimNode, life: int) -> None:
        if node.backlog is not None and node.life == life:
            self._flapped |= self._pairs(node)
            self._rewire(set())

    def thawed(self, node: SimNode) -> None:
        """The process goes on."""
        self._flapped -= self._pairs(node)
        self._rewire(set())

    def flap(self, node: SimNode, every_ms: int) -> None:
        """Cut all of a node's links; half the time later they are back."""
        pairs = self._pairs(node)
        self._flapped |= pairs
        self._rewire(set())

        def back() -> None:
            self._flapped -= pairs
            self._rewire(set())

        self._later(every_ms * MS // 2, back)

    def heal(self) -> None:
        """Everybody hears everybody."""
        self._cut, self._parted, self._flapped = set(), set(), set()
        self._rewire(set())

    def _pairs(self, node: SimNode) -> set[Pair]:
        others = [other for other in self._world.nodes if other != node.id]
        return {pair for other in others for pair in ((node.id, other), (other, node.id))}

    def _rewire(self, stalled: set[Pair]) -> None:
        """Make the wires as the cuts have them; newly cut ones may stall first."""
        world = self._world
        cut = self._cut | self._parted | self._flapped
        world.stalled |= stalled
        world.flow(world.stalled - cut)
        world.cut_pairs = cut - world.stalled
        world.links_changed()
        if stalled:
            self._later(int(STALL_S * SECOND), partial(self._stalled_out, stalled))

    def _stalled_out(self, pairs: set[Pair]) -> None:
        for pair in pairs & self._world.stalled:
            self._world.stalled.discard(pair)
            self._world.held.pop(pair, None)
        self._rewire(set())
