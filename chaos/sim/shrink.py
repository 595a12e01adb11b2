"""The shortest plan that still breaks the same rule: delta debugging over faults and jobs.

Zeller's ddmin, over one list of both, after everything later than the failure was cut off. Bounded
in CPU time: what was found until then is a good plan too, only longer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from chaos import faults as f
from chaos.sim.plan import Job, Plan
from chaos.sim.run import Verdict, run_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = f.Planned | Job


def shrink(
    verdict: Verdict,
    *,
    cpu_seconds: float = 120.0,
    play: Callable[[Plan], Verdict] = run_plan,
) -> Verdict:
    """The verdict of the shortest plan found that breaks the rule that this one broke first."""
    best = verdict
    deadline = time.process_time() + cpu_seconds
    items: list[Item] = sorted((*best.plan.faults, *best.plan.jobs), key=lambda each: each.at_ms)

    def fails(chosen: Sequence[Item]) -> bool:
        nonlocal best
        seen = play(_with(verdict.plan, chosen))
        if seen.rule != verdict.rule:
            return False
        best = seen
        return True

    early = [each for each in items if each.at_ms <= verdict.at_ms + 1]
    if len(early) < len(items) and fails(early):
        items = early
    parts = 2
    while len(items) >= 2 and time.process_time() < deadline:
        kept = _without_one_part(items, parts, fails, deadline)
        if kept is not None:
            items, parts = kept, max(2, parts - 1)
        elif parts >= len(items):
            break
        else:
            parts = min(len(items), parts * 2)
    return best


def _without_one_part(
    items: list[Item], parts: int, fails: Callable[[Sequence[Item]], bool], deadline: float
) -> list[Item] | None:
    size = -(-len(items) // parts)
    for start in range(0, len(items), size):
        rest = items[:start] + items[start + size :]
        if time.process_time() >= deadline:
            return None
        if fails(rest):
            return rest
    return None


def _with(plan: Plan, items: Sequence[Item]) -> Plan:
    return msgspec.structs.replace(
        plan,
        faults=tuple(each for each in items if isinstance(each, f.Planned)),
        jobs=tuple(each for each in items if isinstance(each, Job)),
    )
