"""Judges of a run: pure functions over what clients were told and what the nodes witnessed.

One file per check. None of them knows how the history came about (simulator, processes,
containers), and none looks into a node. `judge` runs all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.checkers import (
    budget,
    durable,
    equal_state,
    linearizable,
    one_charge,
    sticky_lock,
)
from chaos.checkers.findings import Final, Finding, NodeState
from chaos.checkers.operations import Operation, pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.history import Event
    from chaos.witness import Testimony

__all__ = ["Final", "Finding", "NodeState", "judge"]


def judge(
    history: Sequence[Event], testimony: Testimony, final: Final, limit: int
) -> list[Finding]:
    """Hold a whole run against I1 to I8 and I12; empty when all of them held.

    Args:
        history: every event of every client, in the order in which they happened.
        testimony: the shares that the nodes gave, and the elements that were combined.
        final: reads after healing (also when they are in the history already) and state hashes.
        limit: the cluster's guesses.

    """
    operations, found = pair(history)
    known = set(map(id, history))
    late = [each for each in final.reads if id(each) not in known and each not in history]
    begin, end = len(history), len(history) + 1  # asked at once, after everything else
    operations += [Operation(each, each, begin, end, end) for each in late if each.phase == "ok"]
    return [
        *found,
        *budget.check(operations, testimony, limit),
        *one_charge.check(operations, testimony, limit),
        *sticky_lock.check(operations, testimony),
        *durable.check(operations, final, limit),
        *linearizable.check(operations, limit),
        *equal_state.check(final.states),
    ]
