"""Leadership changes hands at every step of an attempt, and while a node drains under load.

A transfer is a leader change without a crash: proposals are refused for a moment, the new leader
has everything that the old one committed, and every attempt is still one charge.
"""

import pytest
from curtain import judge
from stage import Stage, mentions

from cluster.api import Applied, NotAppended, Unknown

STEPS = {
    "it is proposed": ("proposer", "now", ()),
    "it is with the leader": ("leader", "received", ()),
    "it is appended and not yet with the disk": ("leader", "batch", ("log",)),
    "it was sent to one follower": ("leader", "sent", ()),
    "it is on the heir's disk": ("heir", "durable", ("log",)),
    "it is on the leader's disk": ("leader", "durable", ("log",)),
    "it is applied by the leader": ("leader", "submitted", ("ledger",)),
    "it is applied by the heir": ("heir", "submitted", ("ledger",)),
}


@pytest.mark.parametrize("proposer_is", ["a follower", "the leader", "the heir"])
@pytest.mark.parametrize("step", STEPS)
def test_an_attempt_is_one_charge_although_leadership_is_handed_over_as(step, proposer_is):
    stage = Stage()
    account = stage.user("a user")
    stage.run(0.5)
    leader = stage.leader()
    heir, follower = stage.followers[:2]
    proposer = {"a follower": follower, "the leader": leader, "the heir": heir}[proposer_is]
    attempt = account.attempt(1)
    role, moment, tables = STEPS[step]
    if moment == "received" and proposer == leader:
        moment, tables = "batch", ("log",)  # what it proposes itself arrives nowhere

    def hand_over():
        stage.at(0, lambda: stage.host(leader)._core.raft.transfer_leader(0, heir))

    if moment == "now":
        call = stage.guess(proposer, account, 1)
        hand_over()
    else:
        node = {"leader": leader, "heir": heir}[role]
        stage.when(node, moment, mentions(attempt, *tables), then=hand_over)
        call = stage.guess(proposer, account, 1)
    begun = stage.now
    stage.answered(call)
    assert isinstance(call.result, Applied)
    assert stage.now - begun < 3_000_000_000
    stage.until(lambda: stage.leader() == heir, 5, "the heir leads")
    assert set(stage.guess_everywhere(account, 1)) == {"replayed"}
    assert judge(stage).count(account) == 1


@pytest.mark.parametrize("delay_ms", [0, 10, 25, 60])
@pytest.mark.parametrize("victim", ["the leader", "the heir"])
def test_a_transfer_in_which_one_of_the_two_dies_ends_with_a_leader_and_one_charge(
    victim, delay_ms
):
    stage = Stage()
    account = stage.user("a user")
    stage.run(0.5)
    leader, heir, client = stage.leader(), *stage.followers[:2]
    call = stage.guess(client, account, 1)
    stage.host(leader)._core.raft.transfer_leader(0, heir)
    stage.run(delay_ms / 1000)
    stage.kill(leader if victim == "the leader" else heir)
    stage.until(stage.led, 10, "a leader")
    assert stage.answered(call)[0] in ("done", "replayed")
    assert judge(stage).count(account) == 1


def test_a_transfer_to_a_node_that_just_fell_silent_is_given_up_and_proposals_go_on():
    stage = Stage()
    account = stage.user("a user")
    stage.run(0.5)
    leader, heir, client = stage.leader(), *stage.followers[:2]
    stage.deaf(heir)
    stage.host(leader)._core.raft.transfer_leader(0, heir)
    begun = stage.now
    call = stage.guess(client, account, 1)
    assert stage.answered(call) == ["done"]
    assert stage.now - begun < 3_000_000_000
    assert stage.leader() == leader
    judge(stage)


@pytest.mark.parametrize("seed", range(3))
def test_a_node_that_drains_under_load_refuses_honestly_and_loses_nothing(seed):
    stage = Stage(seed, shards=2, limit=90)
    accounts = [stage.user(f"user {shard}", shard=shard) for shard in range(2)]
    stage.run(0.5)
    leaving = stage.leader()
    calls, drained = [], []

    def load(number=0):
        for node in stage.alive:
            account = accounts[number % 2]
            calls.append(stage.guess(node.id, account, 5 * number + node.id, shard=number % 2))
        if number < 14:
            stage.at(40_000_000, lambda: load(number + 1))

    load()
    stage.run(0.2)
    stage.host(leaving).drain(lambda: drained.append(stage.now))
    stage.until(lambda: drained, 6, "drained")
    assert all(stage.leader(shard) != leaving for shard in range(2))
    stage.run(0.5)
    late = stage.guess(leaving, accounts[0], 500)
    stage.answered(*calls, late)
    assert late.result == NotAppended("draining")
    assert not any(isinstance(call.result, Unknown) for call in calls)
    for call in calls:
        assert call.node == leaving or isinstance(call.result, Applied)
    stage.kill(leaving)
    judge(stage)


def test_everybody_drains_in_turn_and_the_last_one_leads():
    stage = Stage()
    account = stage.user("a user")
    order = [stage.leader(), *stage.followers]
    for number, node in enumerate(order[:2]):
        stage.run(1)
        drained = []
        stage.host(node).drain(lambda drained=drained: drained.append(True))
        stage.until(lambda drained=drained: drained, 6, "drained")
        stage.kill(node)
        stage.until(stage.led, 10, "a leader")
        assert stage.answered(stage.guess(order[-1], account, number)) == ["done"]
    assert judge(stage).count(account) == 2
