"""A node is replaced while guesses are under way, and somebody falls at each step of it (I1, I4).

The seat's count goes to its new node, the old one's word is worth nothing any more, and neither a
partition nor a death between two changes of members may cost a charge, a share too many or the
leader for good.
"""

import pytest
from curtain import judge
from replace_kit import finish
from stage import LOST, THERE, Stage

from cluster.api import Applied

OLD = 4
STEPS = {
    "the old node is removed": lambda group, new: OLD not in group.voters,
    "the new node learns": lambda group, new: new in group.learners,
    "the new node is promoted": lambda group, new: new in group.voters,
}


class Replacement:
    """One account with a guess, and a node that is lost and replaced."""

    def __init__(self, seed=1, **world):
        stage = self.stage = Stage(seed, **world)
        self.account = stage.user("a user")
        assert stage.answered(stage.guess(1, self.account, 1)) == ["done"]
        stage.run(0.5)
        stage.kill(OLD)
        stage.until(stage.led, 10, "a leader")
        self.leader = stage.leader()

    def begin(self):
        self.new = self.stage.replace(OLD)
        self.stage.nodes[self.new].start()

    def until_the_leader_sees(self, step):
        stage = self.stage
        stage.until(
            lambda: (leader := stage.leader()) and STEPS[step](stage.group(leader), self.new),
            60,
            step,
        )

    def verdict(self, *, count):
        stage = self.stage
        stage.calm()
        stage.bring_back()
        finish(stage)
        truth = judge(stage)
        assert truth.count(self.account) == count
        row = stage.host(self.new).ledger_row(self.account.record_id)
        assert len(row.ids) == count
        assert stage.group(self.new).voters == stage.node_ids


@pytest.mark.parametrize("batch", [LOST, THERE])
@pytest.mark.parametrize("victim", ["the leader", "the new node", "everybody"])
@pytest.mark.parametrize("step", STEPS)
def test_a_guess_under_way_is_one_charge_although_somebody_dies_as(step, victim, batch):
    play = Replacement()
    stage = play.stage
    play.begin()
    play.until_the_leader_sees(step)
    client = next(node for node in stage.followers if node != play.new)
    call = stage.guess(client, play.account, 2)
    if victim == "everybody":
        stage.run(0.01)
        stage.power_cut(batch)
        stage.run(0.1)
        stage.bring_back()
    else:
        dead = stage.leader() if victim == "the leader" else play.new
        stage.kill(dead, batch)
        stage.run(3)
        assert call.result is None or isinstance(call.result, Applied)
        stage.bring_back(dead)
    finish(stage)
    assert set(stage.guess_everywhere(play.account, 2)) <= {"done", "replayed"}
    play.verdict(count=2)


@pytest.mark.parametrize("step", STEPS)
def test_a_partition_in_the_middle_of_it_stops_the_smaller_side_and_not_the_vault(step):
    play = Replacement()
    stage = play.stage
    play.begin()
    play.until_the_leader_sees(step)
    aside = stage.leader()
    stage.isolate(aside)
    lost = stage.guess(aside, play.account, 7, timeout_s=4)
    others = [node for node in stage.others(aside) if node != play.new]
    stage.until(lambda: stage.leader() not in (aside, None), 20, "the next leader")
    assert stage.answered(stage.guess(others[0], play.account, 2), seconds=20) == ["done"]
    stage.answered(lost)
    assert not isinstance(lost.result, Applied)
    assert not stage.gave(play.account, 7)
    play.verdict(count=2)


@pytest.mark.parametrize("seed", range(3))
def test_a_full_list_stays_full_through_a_replacement_and_the_new_seat_gives_no_eleventh(seed):
    play = Replacement(seed, grace_s=600.0)
    stage, account = play.stage, play.account
    for number in (2, 3):
        assert stage.answered(stage.guess(stage.leader(), account, number)) == ["done"]
    play.begin()
    for number in range(4, 10):
        stage.guess(stage.alive[number % 4].id, account, number)
        stage.run(0.4)
    finish(stage)
    assert set(stage.guess_everywhere(account, 10)) == {"exhausted"}
    stage.until(lambda: all(play.new in stage.gave(account, n) for n in (1, 2, 3)), 5, "its shares")
    assert not any(stage.gave(account, number) for number in range(4, 11))
    play.verdict(count=3)


def test_the_old_node_that_returns_with_its_old_book_and_a_client_answers_nobody():
    play = Replacement()
    stage = play.stage
    play.new = stage.replace(OLD, tell=[node for node in stage.node_ids if node != OLD])
    stage.nodes[play.new].start()
    finish(stage)
    ghost = stage.machines[OLD]
    ghost.start()
    terms = stage.terms()
    call = stage.guess(OLD, play.account, 2, timeout_s=4)
    stage.run(20)
    assert not isinstance(call.result, Applied)
    assert OLD not in stage.gave(play.account, 2)
    assert stage.terms() == terms
    assert stage.answered(stage.guess(play.new, play.account, 3)) == ["done"]
    assert OLD not in stage.gave(play.account, 3)
    ghost.crash()
    play.verdict(count=2)


def test_a_lost_node_may_be_replaced_while_another_is_away_and_that_one_comes_back():
    play = Replacement()
    stage = play.stage
    away = next(node for node in stage.followers if node != stage.leader())
    stage.kill(away)
    stage.until(stage.led, 10, "a leader of three")
    play.begin()
    stage.run(5)
    assert stage.answered(stage.guess(stage.leader(), play.account, 2)) == ["done"]
    stage.bring_back(away)
    play.verdict(count=2)
