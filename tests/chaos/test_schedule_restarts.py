"""Nodes that restart again and again, and processes that stand still for a long time.

Neither may cost an acknowledgement or a vote's honesty, and whoever hears a majority goes on within
bounded time: a node that keeps dying must not keep the others from having a leader.
"""

import pytest
from curtain import judge
from stage import LOST, THERE, Stage

FAILOVER_S = 8.0


@pytest.mark.parametrize("every_ms", [130, 300, 900, 2500])
def test_a_node_in_a_restart_loop_does_not_keep_the_others_from_electing_and_serving(every_ms):
    stage = Stage()
    account = stage.user("a user")
    looping = stage.followers[0]
    stage.kill(stage.leader())
    begun, found = stage.now, None
    terms = max(stage.terms())
    calls = []
    for turn in range(12_000 // every_ms):
        if stage.nodes[looping].up:
            stage.kill(looping, (LOST, THERE)[turn % 2])
        else:
            stage.bring_back(looping)
        stage.run(every_ms / 1000)
        if stage.leader() is not None:
            found = found or stage.now
            steady = next(node.id for node in stage.alive if node.id != looping)
            calls.append(stage.guess(steady, account, turn % 3))
    assert found is not None
    assert found - begun < FAILOVER_S * 1_000_000_000
    assert max(stage.terms()) <= terms + 6
    stage.answered(*calls)
    assert "done" in {call.status for call in calls}
    judge(stage)


@pytest.mark.parametrize("seed", range(3))
def test_two_nodes_that_restart_again_and_again_while_two_are_away_lose_nothing(seed):
    """A majority stands only while both are up; every acknowledgement rests on one of them."""
    stage = Stage(seed, limit=50)
    account = stage.user("a user")
    stage.run(0.5)
    away = stage.followers[:2]
    for node in away:
        stage.kill(node)
    one, two, _ = (node.id for node in stage.alive)
    for round_number in range(5):
        for number in range(3):
            stage.guess(stage.alive[0].id, account, 3 * round_number + number)
        stage.run(0.02 + 0.013 * round_number)
        for node in (one, two):
            stage.kill(node, (LOST, THERE)[round_number % 2])
        stage.run(0.1)
        stage.bring_back(one, two)
        stage.until(stage.led, FAILOVER_S, "a leader of three")
    told = [call for call in stage.calls if call.status == "done"]
    assert len(told) > 2
    truth = judge(stage)
    assert truth.count(account) >= 1


def test_all_five_restart_in_turn_for_a_minute_and_the_vault_serves_all_along():
    """A rolling restart, faster than any operator would dare."""
    stage = Stage(limit=90)
    account = stage.user("a user")
    for number in range(20):
        node = stage.node_ids[number % 5]
        stage.kill(node, (LOST, THERE)[number % 2])
        client = stage.node_ids[(number + 2) % 5]
        call = stage.guess(client, account, number)
        assert stage.answered(call)[0] in ("done", "replayed")
        stage.bring_back(node)
        stage.until(lambda node=node: stage.host(node).status().stepping, 10)
        stage.run(1)
    assert judge(stage).count(account) == 20


@pytest.mark.parametrize("gap_ms", [10, 60, 150, 400])
def test_power_failures_that_hit_the_cluster_while_it_starts_keep_what_was_told(gap_ms):
    stage = Stage(limit=50)
    account = stage.user("a user")
    stage.answered(stage.guess(1, account, 1))
    for turn in range(6):
        stage.power_cut((LOST, THERE)[turn % 2])
        stage.bring_back()
        stage.run(gap_ms / 1000)
    truth = judge(stage)
    assert truth.count(account) == 1


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_a_node_that_stood_still_for_thirty_seconds_and_gets_everything_at_once_does_no_harm(who):
    """Ticks and frames of half a minute arrive in one burst; the world has moved on meanwhile."""
    stage = Stage(limit=20)
    account = stage.user("a user")
    asleep = stage.leader() if who == "leader" else stage.followers[0]
    before = stage.guess(asleep, account, 1)
    stage.run(0.001)
    stage.nodes[asleep].pause()
    awake = stage.others(asleep)
    stage.until(
        lambda: any(stage.group(n).leader in awake for n in awake if stage.group(n).leader),
        FAILOVER_S,
        "a leader who is awake",
    )
    stage.run(1)
    for number in range(2, 8):
        client = awake[number % 4]
        assert stage.answered(stage.guess(client, account, number)) == ["done"]
    stage.run(40)  # leadership has also been handed to the seat that is meant to have it
    new = next(stage.group(n).leader for n in awake)
    term = max(stage.group(n).term for n in awake)
    node = stage.nodes[asleep]
    node.resume()
    for _ in range(600):
        if node.up:
            node.call(node.running.on_tick)
    stage.run(3)
    assert all(stage.group(n).leader == new for n in stage.node_ids)
    assert max(stage.terms()) == term
    stage.answered(before)
    truth = judge(stage)
    assert truth.count(account) in (6, 7)
    if before.status == "not appended":
        assert truth.count(account) == 6


def test_a_leader_that_stands_still_again_and_again_gives_no_answer_of_its_past():
    """It wakes for a moment every two seconds, clients waiting, and takes itself for the leader."""
    stage = Stage(limit=30)
    account = stage.user("a user")
    old = stage.leader()
    calls = []
    for number in range(6):
        node = stage.nodes[old]
        calls.append(stage.guess(old, account, number, timeout_s=4))
        node.pause()
        stage.run(2)
        awake = [n for n in stage.others(old) if stage.group(n).leader != old]
        if awake:
            calls.append(stage.guess(awake[0], account, 10 + number))
        stage.run(0.5)
        node.resume()
        stage.run(0.03)
    stage.answered(*calls)
    judge(stage)


@pytest.mark.parametrize("ms", [300, 700])
def test_two_disks_that_are_almost_too_slow_delay_and_never_lose(ms):
    stage = Stage(limit=20)
    account = stage.user("a user")
    slow = stage.followers[:2]
    for node in slow:
        stage.nodes[node].disk_ms = ms
    for number in range(4):
        assert stage.answered(stage.guess(slow[0], account, number))[0] in ("done", "replayed")
    stage.kill(stage.leader())
    stage.until(stage.led, 20, "a leader with two slow disks of four")
    assert set(stage.guess_everywhere(account, 0)) == {"replayed"}
    judge(stage)
