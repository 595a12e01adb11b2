"""The judgement of a run against real nodes: everything that can be held against a rule.

Nothing here knows what was done to the vault, but for deaths that a fault explains. A run is good
when the list is empty; each entry is one sentence that names the rule.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from chaos import witness
from chaos.checkers import Final as World
from chaos.checkers import NodeState, judge
from chaos.expectation import verdict as contradictions
from quorumvault.cli.admin import Access

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from chaos.driver import Death, Driver
    from chaos.expectation import Expectation
    from chaos.history import Event
    from chaos.witness import Testimony

AGREE_S: Final = 60.0
"""Hashes are exchanged every 10 s: so long until all nodes name the same index in every shard."""
POLL_S: Final = 0.5
SIGNS: Final = ("Traceback (most recent call last)", "was never retrieved", "InvariantError")
"""What no log of a node may hold, whatever happened to it."""


async def states_after(driver: Driver, beyond: Mapping[int, int]) -> tuple[list[NodeState], str]:
    """Every node's state hash of every shard, once all name one index; and what is missing.

    Args:
        driver: a healed vault without load.
        beyond: shard → an index that was acknowledged; hashes are to be as new as that.

    """
    deadline = time.monotonic() + AGREE_S
    seen: dict[tuple[int, int, int], NodeState] = {}
    while True:
        access = Access.from_connection(driver.connection_file)
        answers = await asyncio.to_thread(access.statuses)
        now: dict[int, set[int]] = {}
        complete, doubts = True, []
        for node, status in answers.items():
            if not isinstance(status, dict):
                complete = False
                doubts.append(f"node {node}: {status.reason}")
                continue
            if status["hash_agreement"] != "agrees":
                doubts.append(f"node {node} says that hashes differ")
            for group in status["groups"]:
                shard, index = group["shard"], group["hash_index"]
                now.setdefault(shard, set()).add(index)
                state = NodeState(int(node), shard, index, group["hash"])
                seen[int(node), shard, index] = state
        late = [s for s, points in now.items() if len(points) > 1 or min(points) < beyond.get(s, 0)]
        if complete and not late and not doubts:
            return list(seen.values()), ""
        if time.monotonic() > deadline:
            if late:
                doubts.append(f"shards {sorted(late)}: nodes name {now}, to be beyond {beyond}")
            return list(seen.values()), "; ".join(doubts)
        await asyncio.sleep(POLL_S)


def violations(
    history: Sequence[Event],
    testimony: Testimony,
    world: World,
    expectations: Sequence[Expectation],
    limit: int,
) -> list[str]:
    """What the clients and the witnesses say against the vault."""
    found = [str(finding) for finding in judge(history, testimony, world, limit)]
    return found + contradictions(expectations, testimony, limit)


def of_nodes(deaths: Iterable[Death], logs: Mapping[int, Path]) -> list[str]:
    """What the nodes' own ends and logs say against them."""
    found = [
        f"I9: node {death.node} ended by itself with exit code {death.exit_code}: {death.line}"
        for death in deaths
        if not death.excused_by
    ]
    for node, path in sorted(logs.items()):
        text = path.read_text("utf-8", "replace")
        for sign in SIGNS:
            if sign in text:
                at = text.index(sign)
                around = " ⏎ ".join(text[at : at + 1500].splitlines()[-3:])
                found.append(
                    f"log of node {node} holds {sign!r} {text.count(sign)} times: {around}"
                )
    return found


def internal_errors(history: Iterable[Event]) -> list[str]:
    """Answers that say that a node failed within."""
    return [
        f"node {event.node} answered `internal` to {event.op} of {event.account}"
        for event in history
        if event.code == "internal"
    ]


def testimony_of(driver: Driver) -> Testimony:
    """All witnesses of the run."""
    return witness.read(driver.witnesses)
