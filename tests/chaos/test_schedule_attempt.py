"""One guess, and a crash between every two of its steps: one charge, no free guess, none lost.

The steps are those of one attempt from its proposal to its answer, each as the moment of the node
that takes it. At that moment one node dies, with the batch that its disk was writing lost or there,
or all five lose power. Then the client, who was told nothing, sends the same attempt everywhere.
"""

import pytest
from curtain import judge
from stage import LOST, THERE, Stage, mentions

from cluster.api import Applied

STEPS = {
    # name: (whose, moment, about what)
    "it is proposed": ("proposer", "now", ()),
    "it is on its way to the leader": ("proposer", "sent", ()),
    "it is with the leader": ("leader", "received", ()),
    "it is appended and not yet with the disk": ("leader", "batch", ("log",)),
    "it is with the disk and with nobody else": ("leader", "submitted", ("log",)),
    "it was sent to one follower": ("leader", "sent", ()),
    "a follower has received it": ("giver", "received", ()),
    "the follower's disk is writing it": ("giver", "submitted", ("log",)),
    "it is on the follower's disk, which the follower does not know": (
        "giver",
        "fsynced",
        ("log",),
    ),
    "the follower knows that it is on disk": ("giver", "durable", ("log",)),
    "it is on the leader's disk, which the leader does not know": ("leader", "fsynced", ("log",)),
    "the leader knows that it is on disk": ("leader", "durable", ("log",)),
    "it is committed and applied by the leader": ("leader", "submitted", ("ledger",)),
    "the proposer has applied it": ("proposer", "applied", ()),
    "the giver has applied it and its ledger is not durable": ("giver", "submitted", ("ledger",)),
    "the giver's ledger is durable": ("giver", "fsynced", ("ledger",)),
    "the giver has given its share": ("giver", "share", ()),
    "three shares are given": ("anybody", "evaluated", ()),
}


class Guess:
    """One attempt under way through a follower, and whoever takes part in it."""

    def __init__(self, stage, number=2):
        self.stage, self.number = stage, number
        self.account = stage.user("a user")
        stage.answered(stage.guess(stage.leader(), self.account, 1))
        stage.until(stage.settled)
        stage.run(0.5)
        self.leader = stage.leader()
        self.proposer, self.giver = stage.followers[:2]
        self.attempt = self.account.attempt(number)
        self.call = None

    def who(self, role):
        return {"leader": self.leader, "proposer": self.proposer, "giver": self.giver}[role]

    def run_to(self, step, then):
        """Make the guess, and call `then(node)` at the step; node: who is in the middle of it."""
        stage = self.stage
        role, moment, tables = STEPS[step]
        reached = []

        def here():
            reached.append(step)
            then(self.who(role))

        if moment in ("now", "applied", "share", "evaluated"):
            self.call = stage.guess(self.proposer, self.account, self.number)
            done = {
                "now": lambda: True,
                "applied": lambda: isinstance(self.call.result, Applied),
                "share": lambda: self.giver in stage.gave(self.account, self.number),
                "evaluated": lambda: len(stage.gave(self.account, self.number)) >= 3,
            }[moment]
            stage.until(done, 5, step)
            reached.append(step)
            then(None)
            return
        stage.when(self.who(role), moment, mentions(self.attempt, *tables), then=here)
        self.call = stage.guess(self.proposer, self.account, self.number)
        stage.until(lambda: reached, 5, step)


def charged_once_wherever_it_is_asked(stage, guess):
    """The client asks again, at every node; then everything is demanded."""
    stage.run(1)
    stage.bring_back()
    stage.until(stage.led, 10, "a leader")
    statuses = stage.guess_everywhere(guess.account, guess.number)
    assert sorted(set(statuses)) in (["done", "replayed"], ["replayed"])
    assert statuses.count("done") <= 1
    stage.until(lambda: len(stage.gave(guess.account, guess.number)) >= 3, 5, "three shares")
    truth = judge(stage)
    assert truth.count(guess.account) == 2


DEATHS = [
    (step, victim, batch)
    for step, (_, moment, _) in STEPS.items()
    for victim in ("leader", "proposer", "giver")
    for batch in ((LOST, THERE) if moment in ("submitted", "sent") else (LOST,))
]
"""Elsewhere the batch of a node that dies is either not made, or there already."""


@pytest.mark.parametrize(("step", "victim", "batch"), DEATHS)
def test_an_attempt_is_one_charge_also_when_a_node_is_killed_as(step, victim, batch):
    stage = Stage()
    guess = Guess(stage)
    dead = guess.who(victim)

    def kill(busy):
        if busy == dead:
            stage.die_here(dead, batch)()
        stage.at(0, lambda: stage.kill(dead, batch))

    guess.run_to(step, kill)
    stage.until(lambda: not stage.nodes[dead].up, 1, "a death")
    charged_once_wherever_it_is_asked(stage, guess)


@pytest.mark.parametrize("batch", [LOST, THERE])
@pytest.mark.parametrize("step", STEPS)
def test_an_attempt_is_one_charge_also_when_the_power_fails_everywhere_as(step, batch):
    stage = Stage()
    guess = Guess(stage)

    def power_cut(_busy):
        stage.at(0, lambda: stage.power_cut(batch))

    guess.run_to(step, power_cut)
    stage.until(lambda: not stage.alive, 1, "darkness")
    told = guess.call.status
    given = stage.gave(guess.account, guess.number)
    stage.bring_back()
    stage.until(stage.led, 10, "a leader")
    if told == "done" or given:
        leader = stage.leader()
        stage.until(lambda: stage.record(leader, guess.account) is not None)
        stage.until(
            lambda: guess.attempt in stage.record(leader, guess.account).attempts,
            5,
            "what was acknowledged or evaluated, without being asked again",
        )
    charged_once_wherever_it_is_asked(stage, guess)


@pytest.mark.parametrize("ms", [30, 120])
def test_an_acknowledgement_rests_on_three_disks_and_not_on_the_promise_of_slow_ones(ms):
    """As soon as the client is told all lose power, and the two fast disks are gone for good."""
    stage = Stage()
    guess = Guess(stage)
    slow = stage.others(guess.leader, guess.proposer)
    for node in slow:
        stage.nodes[node].disk_ms = ms
    stage.run(0.5)
    call = stage.guess(guess.proposer, guess.account, 3)
    stage.until(lambda: isinstance(call.result, Applied), 5, "an acknowledgement")
    stage.power_cut(LOST)
    stage.bring_back(*slow)
    stage.until(stage.led, 20, "a leader")
    assert set(stage.guess_everywhere(guess.account, 3)) == {"replayed"}
    assert judge(stage).count(guess.account) == 2


@pytest.mark.parametrize("sends", range(1, 5))
def test_a_leader_that_dies_after_telling_some_followers_leaves_one_charge_or_none(sends):
    """It made the guess itself, so that nobody else can send it on."""
    stage = Stage(seed=sends)
    account = stage.user("a user")
    stage.run(0.5)
    leader, told = stage.leader(), []
    attempt = account.attempt(1)

    def telling(machine, moment, what):
        if machine.id == leader and moment == "sent" and mentions(attempt)(what):
            told.append(machine.id)
            if len(told) == sends:
                stage.die_here(leader)()

    stage.moments.append(telling)
    call = stage.guess(leader, account, 1)
    stage.until(lambda: not stage.nodes[leader].up, 5, "a death")
    stage.moments.remove(telling)
    stage.until(stage.led, 10, "a leader")
    stage.run(1)
    listed = [attempt in stage.record(node.id, account).attempts for node in stage.alive]
    assert len(set(listed)) == 1
    assert listed[0] == bool(stage.gave(account, 1))
    assert call.status is None
    statuses = stage.guess_everywhere(account, 1)
    assert statuses.count("done") == (0 if listed[0] else 1)
    assert judge(stage).count(account) == 1


@pytest.mark.parametrize("step", [step for step in STEPS if STEPS[step][0] != "anybody"])
def test_the_last_guess_of_the_list_is_the_last_although_its_leader_dies_as(step):
    stage = Stage(limit=2, grace_s=60.0)
    guess = Guess(stage)
    guess.run_to(step, lambda busy: _end(stage, busy, guess.leader))
    stage.until(lambda: not stage.nodes[guess.leader].up, 1, "a death")
    stage.until(stage.led, 10, "a leader")
    assert set(stage.guess_everywhere(guess.account, 2)) <= {"done", "replayed"}
    assert set(stage.guess_everywhere(guess.account, 3)) == {"exhausted"}
    truth = judge(stage)
    assert truth.count(guess.account) == 2
    assert not stage.gave(guess.account, 3)


def _end(stage, busy, node):
    if busy == node:
        stage.die_here(node)()
    stage.at(0, lambda: stage.kill(node))
