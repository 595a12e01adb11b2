"""Chaos on containers: the faults really happen, the rules hold, and what is not so is seen.

One run of the deployment itself; the tests look at it from several sides. Docker must be there:
without it these tests fail. The stack has a name, ports and networks of its own, and is gone at
the end, whatever happened.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from chaos import faults as f
from chaos import verdict, witness
from chaos.checkers import Final, judge
from chaos.containers import PROJECT, run
from chaos.driver import FaultRefusedError, possible, refuse_unless_possible, tag
from chaos.driver_docker import NEEDS_RULES, NEVER, DockerDriver
from chaos.faults import KINDS, Planned, kind
from chaos.plan import random_schedule
from chaos.report import Report, as_text
from chaos.run import Plan, Run
from chaos.scenarios import EVERYBODY, WHOLE
from quorumvault.cli import app
from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from chaos.driver import Death
    from chaos.history import Event
    from chaos.witness import Testimony

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

LIMIT = 10
SEED = 1911
ONE, TWO, THREE, FOUR, FIVE = EVERYBODY
SCHEDULE = tuple(
    Planned(int(at * 1000), fault)
    for at, fault in (
        (0.5, f.Unplug(THREE)),
        (0.5, f.Pause(FOUR)),
        (5, f.Plug(THREE)),
        (5, f.Resume(FOUR)),
        (6, f.Stop(TWO)),
        (6, f.HsmGone(ONE)),
        (8, f.HsmBack(ONE)),
        (8, f.Start(TWO)),
        (8.5, f.Partition(((ONE, TWO, THREE), (FOUR, FIVE)))),
        (11.5, WHOLE),
        (11.5, f.Cut(FIVE, ONE)),
        (13, f.ResetLinks(FOUR)),
        (14, WHOLE),
        *((14.5, f.Kill(node)) for node in EVERYBODY),
        *((15, f.Start(node)) for node in EVERYBODY),
        (15.5, f.Heal()),
    )
)
BEHIND_OUR_BACK = 2
"""The node that a stranger kills once the run is over."""
SEEN_S = 30.0


@dataclass
class Told:
    """A run's report, all that it was judged by, and what came after it."""

    report: Report
    history: list[Event]
    testimony: Testimony
    world: Final
    times: dict[str, int]
    """Kind of fault → when the last of it it began, monotonic ns."""
    witnesses: list[Path]
    logs: dict[int, Path]
    stranger: list[Death]
    """Who ended by itself, once somebody else had killed a node."""


async def docker(*words: str) -> str:
    return await run(["docker", *words])


async def killed_by_a_stranger(driver: DockerDriver) -> list[Death]:
    """Kill a node past the driver; what the driver saw of it."""
    before = len(driver.deaths)
    await docker("kill", driver.stack.name(BEHIND_OUR_BACK))
    deadline = time.monotonic() + SEEN_S
    while True:
        seen = list(driver.deaths)[before:]
        if seen or time.monotonic() > deadline:
            return seen
        await asyncio.sleep(0.05)


async def chaos(root: Path) -> Told:
    driver = DockerDriver(root, shards=3, limit=LIMIT, grace_s=3)
    seconds = SCHEDULE[-1].at_ms / 1000
    plan = Plan("containers", SEED, SCHEDULE, seconds, "none", clients=4, shards=3, limit=LIMIT)
    try:
        this = await Run.on(driver, plan)
        report = await this.go()
        print(as_text(report))  # noqa: T201 - shown when a test fails
        stranger = await killed_by_a_stranger(driver)
    finally:
        await driver.stop()
    times = {kind(planned.fault): at for at, planned, _ in this._done}
    logs = {seat: driver.stack.log(seat) for seat in driver.nodes}
    return Told(
        report, this.crowd.history.events, this.testimony, this.world, times,
        list(driver.witnesses), logs, stranger,
    )  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return asyncio.run(chaos(tmp_path_factory.mktemp("docker-chaos")))


def seen(report: Report, *kinds: type) -> list[str]:
    return [each.seen for each in report.done if isinstance(each.fault, kinds)]


# ---------------------------------------------------------------- the run


def test_containers_keep_every_rule_and_every_planned_fault_was_done(told: Told):
    report = told.report
    assert report.violations == ()
    assert report.deaths == ()
    assert report.driver == "docker"
    assert not [each for each in report.done if each.seen.startswith("NOT DONE")]
    assert report.faults == dict(Counter(kind(each.fault) for each in SCHEDULE))
    assert report.evaluated > 10
    assert report.proofs > 3
    assert report.shares_given >= 3 * report.evaluated


def test_the_faults_are_what_they_say(told: Told):
    report = told.report
    assert seen(report, f.Kill) == ["SIGKILL"] * 5
    assert [text for text in seen(report, f.Start) if text != "started"] == []
    assert seen(report, f.Stop)[0].startswith("drained and ended after")
    cut, whole, whole_again = seen(report, f.Partition)
    # How many packets were dropped until the last of them was cut is up to the nodes.
    assert cut.split(", ")[0] == "12 directions cut"
    for healed in (whole, whole_again):
        directions, packets = healed.split(", ")
        assert directions == "0 directions cut"
        assert int(packets.split()[0]) > 0
    assert int(seen(report, f.ResetLinks)[0].split()[0]) > 0
    killed = [each.outage_ms for each in report.done if each.fault == f.Kill(FIVE)]
    assert min(killed) > 1_000  # all five were away


def test_clients_still_reach_a_node_that_is_unplugged(told: Told):
    (unplugged,) = seen(told.report, f.Unplug)
    assert unplugged.startswith("no interface on the mesh; its ops port answers ")
    began, ended = told.times["unplug"], told.times["plug"]
    codes = {
        event.code
        for event in told.history
        if event.node == THREE and event.phase != "invoke" and began < event.t_ns < ended
    }
    assert codes
    assert "unreachable" not in codes


def test_nothing_is_left_but_the_witnesses_and_the_logs(told: Told):
    label = f"label=com.docker.compose.project={PROJECT}"
    for what in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        assert asyncio.run(docker(*what, "--quiet", "--filter", label)) == "", what
    assert all(path.stat().st_size > 100 for path in told.logs.values())
    assert all(path.stat().st_size > 100 for path in told.witnesses)
    assert not (told.witnesses[0].parents[2] / "run").exists()


# ---------------------------------------------------------------- a judge that can say no


def test_a_node_that_somebody_else_kills_is_noted_and_judged(told: Told):
    assert [(each.node, each.exit_code) for each in told.stranger] == [(BEHIND_OUR_BACK, 137)]
    assert told.stranger[0].line.startswith(("{", "2"))
    (found,) = verdict.of_nodes(told.stranger, {})
    assert found.startswith(f"I9: node {BEHIND_OUR_BACK} ended by itself with exit code 137")


def broken(told: Told, history: list[Event], testimony: Testimony) -> set[str]:
    return {each.rule for each in judge(history, testimony, told.world, LIMIT)}


def evaluated_ones(testimony: Testimony) -> Iterable[witness.Attempt]:
    return (attempt for attempt, seats in testimony.given.items() if len(seats) >= 3)


def test_an_attempt_that_the_history_lacks_is_missed(told: Told):
    assert broken(told, told.history, told.testimony) == set()
    lost = next(
        event.attempt_id
        for event in told.history
        if (event.op, event.phase, event.replayed) == ("attempt", "ok", False)
    )
    history = [event for event in told.history if event.attempt_id != lost]
    assert broken(told, history, told.testimony)


def test_shares_that_the_witnesses_saw_for_one_attempt_too_many_are_seen(told: Told, tmp_path):
    """One witnessed attempt gets another id, in the files as the containers wrote them."""
    name = next(evaluated_ones(told.testimony)).attempt_id
    other = ("1" if name[0] == "0" else "0") + name[1:]
    forged = []
    for place, path in enumerate(told.witnesses):
        copy = tmp_path / f"{place}.jsonl"
        copy.write_text(path.read_text("utf-8").replace(name, other))
        forged.append(copy)
    assert broken(told, told.history, witness.read(forged))


# ---------------------------------------------------------------- before anything starts


def test_what_containers_cannot_do_is_refused_with_the_ground_that_can(tmp_path):
    driver = DockerDriver(tmp_path)
    schedule = (
        Planned(1, f.DiskFull(ONE)),
        Planned(2, f.ClockJump(TWO, 1000)),
        Planned(3, f.BadWire(0.1, 0.0, 0.0)),
        Planned(4, f.Kill(THREE)),
    )
    with pytest.raises(FaultRefusedError) as refused:
        refuse_unless_possible(driver, schedule)
    text = str(refused.value)
    assert "driver 'docker' cannot do disk-full: " in text
    assert "containers share the machine's clock; the driver 'process' does it" in text
    assert "the simulator does it" in text
    assert "kill" not in text
    assert not list(tmp_path.iterdir())


def test_a_random_schedule_has_only_what_containers_can_do(tmp_path):
    driver = DockerDriver(tmp_path)
    drawn = {kind(each.fault) for each in random_schedule(3, 1_200_000, possible(driver))}
    assert drawn == set(map(tag, KINDS)) - set(map(tag, NEVER))
    assert {"unplug", "stop", "kill", "pause", "partition"} <= drawn


def test_without_the_right_to_set_rules_cuts_are_refused_and_unplugging_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    driver = DockerDriver(tmp_path)
    assert set(map(tag, NEEDS_RULES)) <= driver.impossible.keys()
    assert "needs root" in driver.impossible["cut"]
    assert {"unplug", "kill"} <= possible(driver)


def test_distances_are_refused_for_containers():
    result = CliRunner().invoke(
        app, ["chaos", "run", "--driver", "docker", "--scenario", "two-dead", "--wan", "europe"]
    )
    assert isinstance(result.exception, Failure)
    assert result.exception.exit_code == Exit.USAGE
    assert "--driver process" in str(result.exception)
