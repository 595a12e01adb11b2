"""Whoever still takes itself for the leader answers nobody (I4, I7, I9, I12).

Clients reach every node, also one that its peers do not. On a minority side nothing is
acknowledged, no share is given, no read passes; what may have been appended is `unknown`, what was
not is `no`.
"""

import pytest
from curtain import judge
from stage import Stage

from cluster.api import Applied, Give, NotAppended, Unknown
from cluster.commands import Barrier

FAILOVER_S = 5.0
"""Virtual seconds to the next leader, at round trips of 10 to 30 ms."""


def cut_off(stage, *minority):
    stage.isolate(*minority)
    return stage.others(*minority)


@pytest.mark.parametrize("company", [0, 1])
def test_a_deposed_leader_that_clients_still_reach_acknowledges_nothing_and_gives_no_share(company):
    stage = Stage()
    account = stage.user("a user")
    old = stage.leader()
    minority = [old, *stage.followers[:company]]
    majority = cut_off(stage, *minority)
    calls = [stage.guess(node, account, 1, timeout_s=4) for node in minority]
    read = stage.send(old, Barrier(), timeout_s=4)
    assert stage.group(old).role == "leader"  # by its own word, still
    stage.until(lambda: stage.leader() in majority, FAILOVER_S, "the next leader")
    stage.answered(*calls, read)
    assert [type(call.result) for call in calls] == [Unknown] * len(calls)
    assert not isinstance(read.result, Applied)
    assert not stage.gave(account, 1)
    for node in minority:
        assert stage.record(node, account).attempts == ()
        assert stage.group(node).role != "leader"
    # Elsewhere life goes on, and the minority's view of it is old.
    there = stage.guess(majority[0], account, 2)
    assert stage.answered(there) == ["done"]
    assert not stage.gave(account, 2) & set(minority)
    late = [stage.guess(node, account, 3, timeout_s=2) for node in minority]
    late_read = stage.send(old, Barrier(), timeout_s=2)
    stage.answered(*late, late_read)
    assert {type(call.result) for call in [*late, late_read]} == {NotAppended}
    truth = judge(stage)
    assert truth.count(account) == 1
    assert not stage.gave(account, 3)


def test_what_a_deposed_leader_had_appended_does_not_come_back():
    stage = Stage()
    account = stage.user("a user")
    old = stage.leader()
    majority = cut_off(stage, old)
    lost = [stage.guess(old, account, number, timeout_s=3) for number in (1, 2, 3)]
    stage.answered(*lost)
    stage.until(lambda: stage.leader() in majority, FAILOVER_S, "the next leader")
    kept = [stage.guess(majority[1], account, number) for number in (4, 5, 6)]
    assert stage.answered(*kept) == ["done"] * 3
    truth = judge(stage)
    assert truth.records[account.record_id].attempts == tuple(
        account.attempt(number) for number in (4, 5, 6)
    )
    assert not any(stage.gave(account, number) for number in (1, 2, 3))


def test_the_same_attempt_at_the_old_leader_and_at_the_new_one_is_one_charge():
    stage = Stage()
    account = stage.user("a user")
    old = stage.leader()
    majority = cut_off(stage, old)
    here = stage.guess(old, account, 1)
    stage.until(lambda: stage.leader() in majority, FAILOVER_S, "the next leader")
    there = stage.guess(majority[0], account, 1)
    assert stage.answered(there) == ["done"]
    stage.heal()
    assert stage.answered(here) == ["replayed"]
    assert here.result.sends > 1  # so that its client is told `unknown`, not `no`
    assert judge(stage).count(account) == 1


def test_a_proof_at_a_deposed_leader_resets_nothing():
    stage = Stage()
    account = stage.user("a user")
    assert stage.answered(*[stage.guess(2, account, n) for n in (1, 2)]) == ["done"] * 2
    stage.run(0.5)
    old = stage.leader()
    majority = cut_off(stage, old)
    proof = stage.send(old, account.prove(1), timeout_s=3)
    more = [stage.guess(old, account, number, era=2, timeout_s=3) for number in (7, 8, 9)]
    stage.answered(proof, *more)
    assert isinstance(proof.result, Unknown)
    assert not any(stage.gave(account, number, era=2) for number in (7, 8, 9))
    stage.until(lambda: stage.leader() in majority, FAILOVER_S, "the next leader")
    last = stage.guess(majority[0], account, 3)
    over = stage.guess(majority[0], account, 4)
    assert sorted(stage.answered(last, over)) == ["done", "exhausted"]
    judge(stage)


def test_a_leader_cut_off_with_a_share_listed_gives_it_again_and_never_a_new_one():
    """What was charged before the cut is evaluated for ever; that spends nothing."""
    stage = Stage()
    account = stage.user("a user")
    assert stage.answered(stage.guess(stage.leader(), account, 1)) == ["done"]
    stage.run(0.5)
    old = stage.leader()
    cut_off(stage, old)
    stage.guess(old, account, 2, timeout_s=3)
    stage.run(4)
    host = stage.host(old)
    assert isinstance(host.share_verdict(account.record_id, 1, account.attempt(1)), Give)
    assert not isinstance(host.share_verdict(account.record_id, 1, account.attempt(2)), Give)
    judge(stage)


@pytest.mark.parametrize("side", ["deaf", "mute"])
def test_a_leader_that_is_cut_one_way_is_replaced_and_the_rest_goes_on(side):
    stage = Stage()
    account = stage.user("a user")
    old = stage.leader()
    begun = stage.now
    getattr(stage, side)(old)
    here = stage.guess(old, account, 1, timeout_s=4)
    stage.until(lambda: stage.leader() not in (old, None), FAILOVER_S, "the next leader")
    stage.until(
        lambda: all(stage.group(n).leader == stage.leader() for n in stage.others(old)),
        FAILOVER_S,
        "a leader for all who are heard",
    )
    there = stage.guess(stage.others(old)[0], account, 2)
    assert stage.answered(there) == ["done"]
    assert stage.now - begun < 2 * FAILOVER_S * 1_000_000_000
    stage.answered(here)
    assert not isinstance(here.result, NotAppended) or not stage.gave(account, 1)
    term = max(stage.terms())
    stage.run(20)
    assert max(stage.terms()) <= term + 1  # it does not disturb those who hear each other
    assert stage.leader() not in (old, None)
    judge(stage)


@pytest.mark.parametrize("side", ["deaf", "mute"])
def test_a_follower_that_is_cut_one_way_disturbs_nobody(side):
    stage = Stage()
    account = stage.user("a user")
    leader, odd = stage.leader(), stage.followers[0]
    term = stage.group(leader).term
    getattr(stage, side)(odd)
    call = stage.guess(odd, account, 1, timeout_s=3)
    for number in (2, 3):
        other = next(node for node in stage.followers if node != odd)
        assert stage.answered(stage.guess(other, account, number)) == ["done"]
    stage.answered(call)
    stage.run(30)
    assert (stage.leader(), stage.group(leader).term) == (leader, term)
    judge(stage)


@pytest.mark.parametrize("side", ["to", "from"])
def test_a_leader_whose_link_with_one_follower_is_cut_one_way_stays_and_the_follower_returns(side):
    stage = Stage()
    account = stage.user("a user")
    leader, odd = stage.leader(), stage.followers[0]
    pair = (leader, odd) if side == "to" else (odd, leader)
    stage.wires.append(lambda a, b, _frame: (a, b) == pair)
    call = stage.guess(odd, account, 1, timeout_s=3)
    assert stage.answered(stage.guess(leader, account, 2)) == ["done"]
    stage.answered(call)
    assert not isinstance(call.result, Applied)
    stage.run(20)
    assert stage.leader() == leader
    judge(stage)
