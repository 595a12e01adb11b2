"""Schedules, random and named: what they promise before anything runs."""

from __future__ import annotations

from itertools import pairwise

import pytest

from chaos import faults as f
from chaos.driver import FaultRefusedError, refuse_unless_possible, tag
from chaos.driver_process import ProcessDriver
from chaos.faults import KINDS, from_json, kind, placed, to_json
from chaos.plan import DECK, MAX_AWAY, random_schedule, taken
from chaos.scenarios import EVERYBODY, SCENARIOS, WHOLE

ALL = frozenset(map(tag, KINDS))
SEEDS = range(30)
LENGTH_MS = 300_000


def away_after(schedule) -> list[set[int]]:
    """Who is dead, frozen, cut off, full or without HSM after each fault, by its plain meaning."""
    away: set[int] = set()
    cut: set[int] = set()
    every: list[set[int]] = []
    for planned in schedule:
        match planned.fault:
            case f.Kill(n) | f.Stop(n) | f.Pause(n) | f.DiskFull(n) | f.HsmGone(n):
                away.add(n)
            case f.Drain(n) | f.Unplug(n) | f.DiskFails(n) | f.DiskRestored(n) | f.ByteFlipped(n):
                away.add(n)
            case f.Start(n) | f.Resume(n) | f.DiskFreed(n) | f.HsmBack(n) | f.Replace(n):
                away.discard(n)
            case f.Plug(n) | f.Undrain(n):
                away.discard(n)
            case f.Partition(sides):
                whole = max(sides, key=len)
                cut = {n for side in sides for n in side} - set(whole)
            case f.Cut():
                pass  # the same node is at one end of all of them: counted by the planner
            case f.Heal():
                away, cut = set(), set()
        every.append(away | cut)
    return every


def test_the_same_seed_draws_the_same_faults_and_another_seed_draws_others():
    assert random_schedule(7, LENGTH_MS, ALL) == random_schedule(7, LENGTH_MS, ALL)
    assert random_schedule(7, LENGTH_MS, ALL) != random_schedule(8, LENGTH_MS, ALL)


@pytest.mark.parametrize("seed", SEEDS)
def test_never_more_than_two_nodes_are_away_and_every_fault_has_its_end(seed: int):
    schedule = random_schedule(seed, LENGTH_MS, ALL)
    away = away_after(schedule)
    assert max(map(len, away)) == MAX_AWAY
    assert away[-2] == set()  # before Heal, which therefore has nothing to do
    assert schedule[-1] == f.Planned(LENGTH_MS, f.Heal())
    assert all(one.at_ms <= other.at_ms for one, other in pairwise(schedule))


def test_a_long_schedule_has_every_kind_that_the_ground_can_do_and_no_other():
    wanted = frozenset().union(*(episode.kinds for episode in DECK)) | {"heal"}
    assert {kind(each.fault) for each in random_schedule(1, 1_200_000, ALL)} == wanted
    few = frozenset({"kill", "start", "pause", "resume", "heal"})
    assert {kind(each.fault) for each in random_schedule(1, LENGTH_MS, few)} == few


def test_a_replaced_node_is_never_named_again():
    gone: set[int] = set()
    replaced = 0
    for planned in random_schedule(3, 1_200_000, ALL):
        node = getattr(planned.fault, "node", None)
        assert node not in gone
        if isinstance(planned.fault, f.Replace):
            gone.add(planned.fault.node)
            replaced += 1
    assert replaced > 1


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_scenario_is_in_order_survives_json_and_ends_healed(scenario):
    schedule = scenario.schedule
    assert from_json(to_json(schedule)) == schedule
    assert all(one.at_ms <= other.at_ms for one, other in pairwise(schedule))
    assert schedule[-1] == f.Planned(scenario.seconds * 1000, f.Heal())
    walls = [each.fault for each in schedule if isinstance(each.fault, f.Cut | f.Partition)]
    assert not walls or walls[-1] == WHOLE
    named = {n for each in schedule if (n := getattr(each.fault, "node", None)) is not None}
    assert named <= set(EVERYBODY)


@pytest.mark.parametrize(
    ("fault", "away"),
    [
        (f.Kill(EVERYBODY[1]), {2}),
        (f.Replace(EVERYBODY[4]), {5}),
        (f.Partition((EVERYBODY[:2], EVERYBODY[2:])), {1, 2}),
        (f.Partition((EVERYBODY[:3], EVERYBODY[2:])), {4, 5}),
        (WHOLE, None),
        (f.Cut(EVERYBODY[0], EVERYBODY[1]), set()),
        (f.Start(EVERYBODY[0]), None),
        (f.Heal(), None),
    ],
)
def test_who_a_fault_takes_away_is_told_before_it_is_done(fault, away):
    assert taken(fault, EVERYBODY) == away


def test_a_fault_that_the_ground_cannot_do_is_refused_by_name_before_anything_starts(tmp_path):
    driver = ProcessDriver(tmp_path / "never", wan="none")
    schedule = (
        f.Planned(1, f.BadWire(0.1, 0.0, 0.0)),
        f.Planned(2, f.Cut(EVERYBODY[0], EVERYBODY[1])),
        f.Planned(3, f.Kill(EVERYBODY[2])),
    )
    with pytest.raises(FaultRefusedError) as refused:
        refuse_unless_possible(driver, schedule)
    assert "cannot do bad-wire: TCP itself" in str(refused.value)
    assert "cannot do cut: there is no simulated WAN" in str(refused.value)
    assert "kill" not in str(refused.value)
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("sides", "members", "groups"),
    [
        (((1, 2, 3, 4, 5),), (1, 2, 3, 4, 6), {(1, 2, 3, 4, 5, 6)}),
        (((1, 2, 3), (4, 9)), (1, 2, 3, 4, 5), {(1, 2, 3, 5), (4, 9)}),
        (((4, 5), (1, 2, 3)), (1, 2, 3, 4, 5), {(1, 2, 3), (4, 5)}),
        (((1, 2), (2, 3), (3, 1)), (1, 2, 3), {(1, 2), (2, 3), (1, 3)}),
    ],
)
def test_a_member_that_a_partition_does_not_know_stays_with_the_largest_side(
    sides, members, groups
):
    """It was cut off for good: a replacement had come earlier or later than it was drawn."""
    assert {tuple(sorted(side)) for side in placed(sides, members)} == groups
    cut_off = set(members) - placed(sides, members)[0]
    assert taken(f.Partition(sides), members) == (frozenset(cut_off) or None)
