"""A node that is drained, or on its way out, says so to clients and on its readiness page."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pytest

from chaos.sim import World as SimWorld
from cluster.handover import HandedOver, NotInTime, NotLeader, NoVoter, Unwilling
from cluster.room import Space
from node.events import Events, Query
from node.gate import Gate
from node.health import Picture, checks
from node.problems import Code, Problem
from node.steering import OnItsWayOut, Steering


@pytest.mark.parametrize(("flag", "words"), [("drained", "drained"), ("draining", "shutting down")])
def test_who_is_turned_away_is_told_why_and_charged_nothing(flag, words):
    gate = Gate()
    gate.check()
    setattr(gate, flag, True)
    with pytest.raises(Problem, match=words) as told:
        gate.check()
    assert (told.value.code, str(told.value.charged)) == (Code.DRAINING, "no")


async def test_a_drained_node_is_not_ready_and_names_what_it_leads_still(world):
    status = world.nodes[1].host.status()
    picture = Picture(
        status=status,
        space=Space(0, 64 << 30, 100 << 30, 200 << 30),
        hsm=True,
        hsm_reason="",
        draining=False,
        fewest_givers=5,
        threshold=3,
        drained=True,
    )
    (check,) = [each for each in checks(picture) if not each.ok]
    assert (check.name, check.detail) == ("serving", "drained by an operator")
    first, *rest = status.groups
    leads = msgspec.structs.replace(first, role="leader")
    status = msgspec.structs.replace(status, groups=(leads, *rest))
    (check,) = [each for each in checks(replace(picture, status=status)) if not each.ok]
    assert "leads shard 0 until another node will" in check.detail


def steering(sim, node, *, leaving):
    log = SimpleNamespace(log=lambda *_args, **_facts: None)
    return Steering(sim.nodes[node].host, Gate(), None, lambda: leaving, Events(log))


def test_drain_says_how_much_is_led_still_until_nothing_is():
    sim = SimWorld(shards=4).start()
    sim.run(1)
    leader = sim.leader(0)
    desk = steering(sim, leader, leaving=False)
    assert desk.drain("ada") == sum(sim.leader(shard) == leader for shard in range(4))
    sim.until(lambda: leader not in [sim.leader(shard) for shard in range(4)])
    assert desk.drain("ada") == 0
    assert desk._gate.drained
    desk.undrain("ada")
    assert not desk._gate.drained
    assert not sim.nodes[leader].host.status().drained


def test_a_node_on_its_way_out_is_not_called_back():
    sim = SimWorld().start()
    desk = steering(sim, 1, leaving=True)
    desk.drain("ada")
    with pytest.raises(OnItsWayOut, match="told to stop"):
        desk.undrain("ada")
    assert desk._gate.drained
    assert sim.nodes[1].host.status().drained


@pytest.mark.parametrize(
    ("result", "level", "words"),
    [
        (HandedOver(2), "info", "node 2 leads"),
        (NotLeader(2), "info", "nothing was handed over here: node 2 leads already"),
        (NotLeader(0), "info", "nothing was handed over here: nobody is known to lead"),
        (NoVoter("there is no shard 9"), "warning", "nothing was handed over: there is no shard 9"),
        (Unwilling("node 2 is not connected"), "warning", "over: node 2 is not connected"),
        (NotInTime(3), "warning", "node 2 was asked to lead and does not: node 3 leads"),
    ],
)
async def test_the_event_of_a_transfer_says_what_became_of_it(result, level, words):
    async def ask(_shard, _to):
        return result

    events = Events(SimpleNamespace(log=lambda *_args, **_facts: None))
    desk = Steering(None, Gate(), ask, lambda: False, events)
    assert await desk.transfer("ada", 9, 2) == result
    (told,) = events.page(Query()).events
    assert (told.level, told.shard) == (level, 9)
    assert told.text.startswith("for operator ada n")
    assert told.text.endswith(words)
