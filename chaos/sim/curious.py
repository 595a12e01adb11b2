"""Somebody who asks every node for a share of everything, all the time (I1-I3).

A peer that lies about what it was asked, or a proposer that asks when nothing was charged, is only
this: asks that no outcome stands behind. So all attempts that were ever made are asked for, in the
era that each node is in and the one before, after every change of the record that the node applies
or makes durable, and every now and then.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from chaos.sim.units import MS
from cluster.api import Give
from cluster.types import Era

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.sim.clients import Someone
    from chaos.sim.desk import Desk
    from chaos.sim.node import SimNode
    from chaos.sim.world import World

EVERY_NS = 400 * MS
LATEST = 6
"""So many of an account's attempts, newest first."""


class Curious:
    """Watches every life of every node."""

    def __init__(self, world: World, desk: Desk, accounts: Sequence[Someone]) -> None:
        self._world, self._desk, self._accounts = world, desk, accounts
        world.lives.append(self._life)
        self._round()

    def _life(self, node: SimNode, what: str) -> None:
        if what == "started":
            for who in self._accounts:
                node.running.watch(who.record_id, partial(self._look, node, who))

    def _round(self) -> None:
        for node in self._world.alive:
            if node.backlog is None:
                for who in self._accounts:
                    node.guard(partial(self._look, node, who))
        self._world.at(EVERY_NS, self._round)

    def _look(self, node: SimNode, who: Someone) -> None:
        record, _ = node.running.view(who.record_id)
        if record is None:
            return
        for attempt in who.attempts[-LATEST:]:
            for era in (record.era, max(0, record.era - 1)):
                verdict = self._desk.share(node, who.record_id, Era(era), attempt)
                if isinstance(verdict, Give) and not node.hsm_away:
                    self._desk.made(node, attempt, verdict)
