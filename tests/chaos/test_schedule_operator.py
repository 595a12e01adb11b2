"""What an operator may ask of leadership: hand a shard over, drain a node that stays, spread again.

None of it is safety's business: whoever is asked is elected like anybody, every attempt is still
one charge, and a shard that nobody else would lead is not left without a leader.
"""

import pytest
from curtain import judge
from stage import Stage

from cluster.api import Applied
from cluster.handover import HandedOver, NotInTime, NotLeader, NoVoter, Unwilling
from cluster.room import Room


def ask(stage, node, to, shard=0):
    results = []
    stage.host(node).transfer(shard, to, results.append)
    assert results == [], "never from inside the call"
    return results


def outcome(stage, node, to, shard=0, seconds=5.2):
    results = ask(stage, node, to, shard)
    stage.until(lambda: results, seconds, "an answer")
    return results[0]


def spread(stage):
    """The preferred seats lead."""
    return all(stage.leader(shard) == stage.node_ids[shard] for shard in range(stage.shards))


@pytest.fixture
def stage():
    stage = Stage()
    stage.run(1)
    return stage


def test_the_node_that_was_named_leads_and_an_attempt_under_way_is_one_charge(stage):
    account = stage.user("a user")
    leader = stage.leader()
    for number, heir in enumerate(stage.followers):
        call = stage.guess(heir, account, number % 2)
        begun = stage.now
        assert outcome(stage, stage.leader(), heir) == HandedOver(heir)
        assert stage.leader() == heir
        assert stage.now - begun < 2_000_000_000
        stage.answered(call)
        assert isinstance(call.result, Applied)
    assert stage.leader() != leader
    assert judge(stage).count(account) == 2


def test_a_leader_that_is_to_lead_leads(stage):
    leader, term = stage.leader(), stage.terms()
    assert outcome(stage, leader, leader, seconds=0.2) == HandedOver(leader)
    assert stage.terms() == term


def test_who_does_not_lead_says_who_does(stage):
    leader, (first, second, *_) = stage.leader(), stage.followers
    assert outcome(stage, first, second, seconds=0.2) == NotLeader(leader)
    assert stage.leader() == leader


@pytest.mark.parametrize(("shard", "to"), [(1, 1), (-1, 1), (2**63, 1), (0, 6), (0, 0), (0, -1)])
def test_no_such_shard_or_voter_is_told_and_nothing_happens(stage, shard, to):
    leader, term = stage.leader(), stage.terms()
    result = outcome(stage, leader, to, shard, seconds=0.2)
    assert isinstance(result, NoVoter)
    assert str(shard or to) in result.reason
    assert (stage.leader(), stage.terms()) == (leader, term)


REASONS = {
    "drained": (lambda stage, node: stage.host(node).set_drained(drained=True), "drained"),
    "short of disk": (lambda stage, node: stage.host(node).set_room(Room.SHORT), "short"),
    "without an HSM": (lambda stage, node: stage.host(node).set_hsm(working=False), "no working"),
    "dead": (lambda stage, node: stage.kill(node), "not connected"),
    "silent": (lambda stage, node: stage.mute(node), "not heard"),
}


@pytest.mark.parametrize("why", REASONS)
def test_a_node_that_would_not_lead_is_not_asked(stage, why):
    leader, heir = stage.leader(), stage.followers[0]
    happen, words = REASONS[why]
    happen(stage, heir)
    stage.run(2.5)
    term = stage.group(leader).term
    result = outcome(stage, leader, heir, seconds=0.2)
    assert isinstance(result, Unwilling)
    assert words in result.reason
    assert (stage.leader(), stage.group(leader).term) == (leader, term)


def test_two_who_want_different_nodes_do_not_pull_at_one_shard(stage):
    leader, (first, second, *_) = stage.leader(), stage.followers
    one, other, again = (ask(stage, leader, to) for to in (first, second, first))
    stage.until(lambda: one and other and again, 5.2, "answers")
    assert one == again == [HandedOver(first)]
    assert isinstance(other[0], Unwilling)
    assert f"node {first}" in other[0].reason


def test_an_heir_that_falls_silent_is_told_within_the_time_and_the_shard_is_led(stage):
    account = stage.user("a user")
    leader, heir = stage.leader(), stage.followers[0]
    stage.deaf(heir)
    result = outcome(stage, leader, heir)
    assert isinstance(result, NotInTime | Unwilling)
    assert stage.leader() == leader
    assert stage.answered(stage.guess(leader, account, 1)) == ["done"]
    judge(stage)


def test_a_leader_cut_off_in_the_middle_says_in_time_that_it_came_to_nothing(stage):
    leader, heir = stage.leader(), stage.followers[0]
    results = ask(stage, leader, heir)
    stage.isolate(leader)
    stage.until(lambda: results, 5.2, "an answer")
    assert isinstance(results[0], NotInTime | Unwilling)
    judge(stage)


def test_a_drained_node_stays_leads_nothing_and_leads_again_when_it_may():
    stage = Stage(shards=3)
    accounts = [stage.user(f"user {shard}", shard=shard) for shard in range(3)]
    stage.run(1)
    node = stage.leader()
    call = stage.guess(node, accounts[0], 1)
    for _ in range(2):  # twice is once
        stage.host(node).set_drained(drained=True)
        stage.until(lambda: all(stage.leader(s) not in (node, 0, None) for s in range(3)), 3)
    assert stage.answered(call) == ["done"], "what is under way is finished"
    status = stage.host(node).status()
    assert (status.drained, status.draining) == (True, False)
    for shard, account in enumerate(accounts):
        later = stage.guess(stage.leader(shard), account, 2, shard=shard)
        assert stage.answered(later) == ["done"]
        stage.until(lambda a=account: node in stage.gave(a, 2), 3, "it gives shares still")
    stage.run(45)
    assert all(stage.leader(shard) != node for shard in range(3)), "spreading leaves it alone"
    stage.host(node).set_drained(drained=False)
    stage.until(lambda: spread(stage), 60, "leadership is spread, the node among them")
    judge(stage)


def test_a_drained_node_votes_where_its_vote_is_needed(stage):
    drained = stage.followers[0]
    stage.host(drained).set_drained(drained=True)
    stage.run(1)
    stage.kill(stage.followers[1])
    stage.kill(stage.leader())
    stage.until(lambda: stage.led() and stage.leader() != drained, 10, "a leader by its vote")
    judge(stage)


def test_all_five_drained_one_after_another_leave_nothing_without_a_leader():
    stage = Stage(shards=2)
    account = stage.user("a user")
    for number, node in enumerate(stage.node_ids):
        stage.host(node).set_drained(drained=True)
        stage.run(3)
        assert all(stage.leader(shard) for shard in range(2))
        left = [other for other in stage.node_ids if not stage.host(other).status().drained]
        assert not left or all(stage.leader(shard) in left for shard in range(2))
        assert stage.answered(stage.guess(node, account, number % 2)) in (["done"], ["replayed"])
    stage.kill(stage.leader())
    stage.until(stage.led, 12, "even now somebody leads")
    assert judge(stage).count(account) == 2


def test_a_restart_is_undrained(stage):
    node = stage.followers[0]
    stage.host(node).set_drained(drained=True)
    stage.run(1)
    stage.kill(node)
    stage.bring_back(node)
    stage.until(lambda: stage.host(node).status().stepping, 10)
    assert not stage.host(node).status().drained


def test_balance_asks_every_fit_seat_at_once_and_does_not_wait_half_a_minute():
    stage = Stage(shards=5)
    stage.run(1)
    leader = stage.leader()
    assert all(stage.leader(shard) == leader for shard in range(5))
    dead = stage.followers[0]
    stage.kill(dead)
    drained = stage.followers[1]
    stage.host(drained).set_drained(drained=True)
    stage.run(3)
    wanted = [s for s in range(5) if stage.node_ids[s] not in (dead, drained, leader)]
    begun = stage.now
    assert stage.host(leader).balance() == wanted
    stage.until(lambda: all(stage.leader(s) == stage.node_ids[s] for s in wanted), 3)
    assert stage.now - begun < 3_000_000_000
    assert stage.host(leader).balance() == []
    stage.bring_back()
    judge(stage)


def test_balance_asks_a_seat_again_that_was_asked_in_vain_a_moment_ago():
    """Spreading leaves such a seat alone for ten minutes; an operator knows that it is back."""
    stage = Stage(shards=5)
    stage.run(1)
    leader = stage.leader()
    heir = stage.followers[0]
    shard = next(s for s in range(5) if stage.node_ids[s] == heir)
    stage.run(3)
    assert shard in stage.host(leader).balance()
    stage.kill(heir)
    stage.run(5)
    stage.bring_back(heir)
    stage.until(lambda: stage.leader(shard) is not None, 5)
    stage.run(3)
    assert stage.leader(shard) != heir

    assert stage.host(stage.leader(shard)).balance() == [shard]
    stage.until(lambda: stage.leader(shard) == heir, 3)
    judge(stage)


def test_in_a_quiet_vault_who_was_away_is_an_heir_as_soon_as_it_is_back(stage):
    """Nothing was written since: raft probes such a follower until something is, and need not."""
    leader, term = stage.leader(), stage.terms()
    for node in stage.followers:
        stage.kill(node)
        stage.run(3)
        stage.bring_back(node)
        stage.run(3)
    assert (stage.leader(), stage.terms()) == (leader, term)

    heir = stage.followers[0]
    assert outcome(stage, leader, heir, seconds=1) == HandedOver(heir)
    judge(stage)


def test_in_a_quiet_vault_who_drains_last_in_a_rolling_restart_hands_over(stage):
    leader = stage.leader()
    for node in stage.followers:
        stage.kill(node)
        stage.run(3)
        stage.bring_back(node)
        stage.run(3)
    assert stage.leader() == leader

    stage.host(leader).set_drained(drained=True)
    stage.until(lambda: stage.leader() not in (None, leader), 1)
    judge(stage)
