"""Chaos on five real nodes: the faults really happen, the rules hold, and the judge can say no."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from chaos import faults as f
from chaos.checkers import judge
from chaos.driver import possible
from chaos.driver_process import ProcessDriver
from chaos.faults import Planned, kind
from chaos.plan import random_schedule
from chaos.process_disk import why_no_mount
from chaos.report import Report, as_json, as_text
from chaos.run import Plan, Run
from chaos.scenarios import EVERYBODY
from cluster.types import NodeId

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.checkers import Final
    from chaos.history import Event
    from chaos.witness import Testimony

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]

LIMIT = 10
SEED = 58
"""It draws a node killed, one stopped, a one-way cut, a clock that drifts, and transfers."""


@dataclass
class Told:
    """A run's report and all that it was judged by."""

    report: Report
    history: list[Event]
    testimony: Testimony
    world: Final


async def chaos(
    root: Path, name: str, schedule: f.Schedule, *, wan: str = "europe", careful: bool = False
) -> Told:
    kinds = frozenset(kind(planned.fault) for planned in schedule)
    driver = ProcessDriver(root, wan=wan, shards=3, limit=LIMIT, grace_s=3, kinds=kinds)
    seconds = schedule[-1].at_ms / 1000
    plan = Plan(
        name, SEED, schedule, seconds, wan, clients=5, shards=3, limit=LIMIT, careful=careful
    )
    try:
        run = await Run.on(driver, plan)
        report = await run.go()
    finally:
        await driver.stop()
    print(as_text(report))  # noqa: T201 - shown when a test fails
    return Told(report, run.crowd.history.events, run.testimony, run.world)


def done(report: Report) -> Counter[str]:
    assert not [each for each in report.done if each.seen.startswith("NOT DONE")]
    return Counter(kind(each.fault) for each in report.done)


def seen(report: Report, *kinds: type) -> list[str]:
    return [each.seen for each in report.done if isinstance(each.fault, kinds)]


# ---------------------------------------------------------------- a random run, and a judge


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """One random run of 25 s, by its seed."""
    root = tmp_path_factory.mktemp("random-chaos")
    ground = possible(ProcessDriver(root)) - {"replace"}
    schedule = random_schedule(SEED, 25_000, ground)
    return asyncio.run(chaos(root / "vault", "random", schedule, careful=True))


def test_a_random_run_keeps_every_rule_and_every_planned_fault_was_done(told: Told):
    report = told.report
    assert report.violations == ()
    assert done(report) == Counter(kind(planned.fault) for planned in report.schedule)
    assert len(report.faults) > 4
    assert report.evaluated > 50
    assert report.operations.keys() == {
        "activate", "attempt", "delete", "observe", "prove", "register",
    }  # fmt: skip
    assert {"exhausted", "locked"} <= report.codes.keys()  # guesses were spent to the end
    assert all(each.outage_ms < 60_000 for each in report.done)


def test_the_report_is_one_page_and_as_json_comes_back_whole(told: Told):
    page = as_text(told.report)
    assert f"seed {SEED}: no rule was broken" in page
    assert all(name in page for name in told.report.faults)
    assert len(page.splitlines()) < 100
    assert msgspec.json.decode(as_json(told.report), type=Report) == told.report


def changed(told: Told, which: Any, **facts: Any) -> list[Event]:
    """The history with one event replaced: the last one that `which` accepts."""
    place = max(place for place, event in enumerate(told.history) if which(event))
    history = list(told.history)
    history[place] = msgspec.structs.replace(history[place], **facts)
    return history


def answered(op: str):
    return lambda event: (event.op, event.phase) == (op, "ok")


@pytest.mark.parametrize(
    ("lie", "rule"),
    [
        pytest.param(
            lambda told: changed(told, answered("prove"), wrapped="another key"),
            "I4",
            id="another key is released than the one that was put",
        ),
        pytest.param(
            lambda told: changed(
                told,
                lambda e: answered("attempt")(e) and (e.guesses_remaining or 0) < LIMIT - 1,
                guesses_remaining=LIMIT - 1,
            ),
            "I",
            id="a counted guess is forgotten",
        ),
        pytest.param(
            lambda told: changed(
                told, lambda e: answered("attempt")(e) and e.replayed is True, replayed=False
            ),
            "I5",
            id="one attempt is charged twice",
        ),
        pytest.param(
            lambda told: changed(
                told,
                lambda e: e.op == "attempt" and e.phase == "fail" and e.code == "locked",
                phase="ok", code="", charged="", replayed=False, guesses_remaining=3,
            ),
            "I3",
            id="an attempt is answered after the lock",
        ),
    ],
)  # fmt: skip
def test_a_history_with_one_lie_in_it_is_judged_broken(told: Told, lie: Any, rule: str):
    assert judge(told.history, told.testimony, told.world, LIMIT) == []
    found = judge(lie(told), told.testimony, told.world, LIMIT)
    assert [each for each in found if each.rule.startswith(rule)], found


def test_a_final_read_that_differs_at_one_node_is_judged_broken(told: Told):
    first, *rest = told.world.reads
    lying = msgspec.structs.replace(first, era=(first.era or 0) + 1)
    world = msgspec.structs.replace(told.world, reads=(lying, *rest))
    assert judge(told.history, told.testimony, world, LIMIT)


def test_a_state_hash_that_differs_at_one_node_is_judged_broken(told: Told):
    first, *rest = told.world.states
    lying = msgspec.structs.replace(first, hash="00" * 32)
    world = msgspec.structs.replace(told.world, states=(lying, *rest))
    assert {each.rule for each in judge(told.history, told.testimony, world, LIMIT)} == {"I8"}


# ---------------------------------------------------------------- what matters most


def steps(*planned: tuple[float, f.Fault]) -> f.Schedule:
    in_order = sorted(planned, key=lambda each: each[0])
    return tuple(Planned(int(at * 1000), fault) for at, fault in in_order)


async def test_each_node_has_a_trouble_of_its_own_and_then_all_lose_power_twice(tmp_path):
    """An old disk, a full one, a failing one, a wrong clock, a lost HSM: two nodes away at most."""
    one, two, three, four, five = (NodeId(number) for number in EVERYBODY)
    can_fill = why_no_mount() is None
    told = await chaos(
        tmp_path / "vault",
        "troubles",
        steps(
            (1, f.DiskCopied(one)),
            (1.5, f.Kill(one)),
            (2, f.Start(one)),
            (3, f.ClockJump(two, 3_600_000)),
            (9, f.DiskRestored(one)),
            *([(10, f.DiskFull(three)), (15, f.DiskFreed(three))] if can_fill else []),
            (14, f.Start(one)),
            (16, f.ClockJump(two, -7_200_000)),
            (17, f.HsmGone(four)),
            (18, f.DiskFails(five)),
            (21, f.HsmBack(four)),
            (22, f.Start(five)),
            *((at, f.Kill(node)) for at in (24, 33.3) for node in EVERYBODY),
            *((at, f.Start(node)) for at in (24.5, 33.8) for node in EVERYBODY),
            (35, f.Heal()),
        ),
    )
    report = told.report
    assert report.violations == ()
    assert done(report)["kill"] == 11
    assert seen(report, f.DiskRestored) == ["refused with exit code 8"]
    assert seen(report, f.DiskFreed) == ["ballast removed, the process never ended"] * can_fill
    assert seen(report, f.ClockJump)[0].startswith("the node's own Date is +3")
    assert seen(report, f.ClockJump)[1].startswith("the node's own Date is -3")
    assert seen(report, f.DiskFails) == ["the process ended with 70"]
    ended = {(death.node, death.exit_code, death.excused_by) for death in report.deaths}
    assert ended == {(1, 8, "disk-restored"), (5, 70, "disk-fails")}
    lines = {death.node: death.line for death in report.deaths}
    assert "older than the HSM's stamp" in lines[1]
    cut = [each.outage_ms for each in report.done if each.fault == f.Kill(five)]
    assert min(cut) > 1_000  # all were really away, both times
    assert report.proofs > 5
