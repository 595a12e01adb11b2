"""Register, Activate, Prove, Delete and Expire, and a crash between every two of their steps.

What was acknowledged stays; what was not has happened whole or not at all; sent again it happens
once. A list is emptied by the proof alone (I6), and what is locked stays locked (I3).
"""

from dataclasses import dataclass
from typing import Any

import pytest
from curtain import judge
from stage import LOST, THERE, Stage, mentions, same

from chaos.sim import Account
from cluster.api import Applied
from cluster.commands import Expire

STEPS = {
    # name: (whose, moment, whether it is the entry or the record that is meant)
    "it is with the leader": ("leader", "received", "entry"),
    "it is appended and not yet with the disk": ("leader", "batch", "entry"),
    "it was sent to one follower": ("leader", "sent", "entry"),
    "it is on a follower's disk, which the follower does not know": (
        "follower",
        "fsynced",
        "entry",
    ),
    "the follower knows that it is on disk": ("follower", "durable", "entry"),
    "it is on the leader's disk, which the leader does not know": ("leader", "fsynced", "entry"),
    "it is applied by the leader and not yet with the disk": ("leader", "batch", "record"),
    "the leader's disk writes the record": ("leader", "submitted", "record"),
    "the record is on the leader's disk": ("leader", "fsynced", "record"),
    "it is applied by the follower": ("follower", "submitted", "record"),
    "the proposer tells its client": ("proposer", "applied", "record"),
}
OWN_STEPS = [step for step in STEPS if STEPS[step][1] not in ("received", "applied")]
"""Of a command that the leader makes itself."""


@dataclass(frozen=True)
class Deed:
    """A command of a user: what must be before, what it is, and the record after it."""

    before: Any
    """stage, account: bring the account there."""
    command: Any
    """account -> command."""
    again: set
    """What it is called, sent again after it was done."""
    after: Any
    """record -> it has been done."""
    untouched: Any
    """record -> it has not been done."""


def _two_guesses(stage, account):
    leader = stage.leader()
    calls = [stage.send(leader, account.register()), stage.send(leader, account.activate())]
    stage.answered(*calls)
    stage.answered(*[stage.guess(leader, account, number) for number in (1, 2)])


def _registered(stage, account):
    stage.answered(stage.send(stage.leader(), account.register()))


DEEDS = {
    "a registration": Deed(
        lambda _stage, _account: None,
        lambda account: account.register(),
        {"same"},
        lambda record: record is not None and record.pending is not None,
        lambda record: record is None,
    ),
    "an activation": Deed(
        _registered,
        lambda account: account.activate(),
        {"same"},
        lambda record: record.active is not None and record.era == 1,
        lambda record: record.active is None and record.pending is not None,
    ),
    "a proof": Deed(
        _two_guesses,
        lambda account: account.prove(2),
        {"same"},
        lambda record: record.attempts == () and record.era == 2,
        lambda record: len(record.attempts) == 2 and record.era == 1,
    ),
    "a deletion": Deed(
        _two_guesses,
        lambda account: account.delete(1),
        {"same"},
        lambda record: record.active is None and record.era == 2,
        lambda record: len(record.attempts) == 2 and record.era == 1,
    ),
}


class Cast:
    """A stage with one account, and who takes part in what happens to it."""

    def __init__(self, **world):
        stage = self.stage = Stage(**world)
        self.account = _account(stage)
        stage.run(0.5)
        self.leader = stage.leader()
        self.proposer, self.follower = stage.followers[:2]

    def at(self, step, command, then):
        role, moment, what = STEPS[step]
        node = getattr(self, role)
        if what == "entry":
            about = mentions(same(command), "log")
        else:
            about = mentions(self.account.record_id, "records")
        self.stage.when(node, moment, about, then=lambda: then(node))


def _account(stage):
    return Account("a user", 0, stage.shards)


def death_of(stage, victim, batch):
    def die(busy):
        if busy == victim:
            stage.die_here(victim, batch)()
        stage.at(0, lambda: stage.kill(victim, batch))

    return die


@pytest.mark.parametrize("victim", ["leader", "follower", "everybody"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("deed", DEEDS)
def test_it_happens_whole_and_once_also_when_somebody_is_killed_as(deed, step, victim):
    deed = DEEDS[deed]
    cast = Cast()
    stage, account = cast.stage, cast.account
    deed.before(stage, account)
    stage.until(stage.settled)
    stage.run(0.3)
    command = deed.command(account)
    batch = THERE if len(step) % 2 else LOST
    dead = None if victim == "everybody" else getattr(cast, victim)

    def then(busy):
        if dead is None:
            stage.at(0, lambda: stage.power_cut(batch))
        else:
            death_of(stage, dead, batch)(busy)

    call = None
    if STEPS[step][1] == "applied":
        call = stage.send(cast.proposer, command)
        stage.until(lambda: isinstance(call.result, Applied), 5, step)
        then(None)
    else:
        cast.at(step, command, then)
        call = stage.send(cast.proposer, command)
    stage.until(lambda: not stage.nodes[dead or cast.leader].up, 5, "a death")
    stage.run(0.1)
    stage.bring_back()
    stage.until(stage.led, 10, "a leader")
    stage.run(1.5)
    stage.until(stage.settled, 10, "equal logs")
    record = stage.record(stage.leader(), account)
    assert deed.after(record) or deed.untouched(record)
    assert deed.after(record) or call.status not in ("done", "same")
    statuses = stage.answered(*[stage.send(node.id, command) for node in stage.alive])
    assert set(statuses) <= {"done", *deed.again}
    assert statuses.count("done") <= (0 if deed.after(record) else 1)
    truth = judge(stage)
    assert deed.after(truth.records[account.record_id])


@pytest.mark.parametrize("batch", [LOST, THERE])
@pytest.mark.parametrize("victim", ["leader", "follower", "everybody"])
@pytest.mark.parametrize("step", OWN_STEPS)
def test_a_full_list_is_locked_once_and_for_good_although_somebody_is_killed_as(
    step, victim, batch
):
    cast = Cast(limit=2, grace_s=1.5)
    stage, account = cast.stage, cast.account
    _two_guesses(stage, account)
    dead = None if victim == "everybody" else getattr(cast, victim)
    deaths = []

    def then(busy):
        deaths.append(busy)
        if dead is None:
            stage.at(0, lambda: stage.power_cut(batch))
        else:
            death_of(stage, dead, batch)(busy)

    stage.run(0.5)  # the charges have reached every disk
    cast.at(step, Expire(account.record_id, 1), then)
    stage.until(lambda: deaths, 10, "the grace is over")
    stage.run(0.1)
    stage.bring_back()
    stage.until(
        lambda: all(
            (record := stage.record(node.id, account)) is not None and record.locked
            for node in stage.alive
        ),
        20,
        "a lock everywhere",
    )
    stage.until(stage.led, 10, "a leader")
    again = [stage.send(node.id, account.charge(1)) for node in stage.alive]
    more = [stage.guess(node.id, account, 3, era=2) for node in stage.alive]
    proof = stage.send(stage.leader(), account.prove(1))
    assert set(stage.answered(*again)) == {"stale"}
    assert set(stage.answered(*more)) == {"locked"}
    assert stage.answered(proof) == ["superseded"]
    record = judge(stage).records[account.record_id]
    assert record.locked
    assert record.era == 2


def test_a_proof_and_the_lock_race_and_exactly_one_of_them_wins():
    """The proof is sent within a few milliseconds of the end of the grace, at every node."""
    winners = set()
    for delay in range(8):
        stage = Stage(limit=2, grace_s=1.5)
        account = _account(stage)
        _two_guesses(stage, account)
        expire = same(Expire(account.record_id, 1))
        due = []
        stage.when(stage.leader(), "sent", mentions(expire), then=lambda due=due: due.append(1))
        stage.run(1.2 + delay * 0.1)
        proofs = [stage.send(node.id, account.prove(2)) for node in stage.alive]
        statuses = set(stage.answered(*proofs))
        record = judge(stage).records[account.record_id]
        proven = statuses == {"done", "same"}
        assert proven or statuses == {"superseded"}
        assert record.locked is not proven
        assert record.era == 2
        winners.add(proven)
    assert winners == {True, False}


def test_a_lock_that_only_its_leader_had_applied_is_a_lock():
    """The leader commits and applies it, and dies before it can tell anybody or write it down."""
    stage = Stage(limit=2, grace_s=1.5)
    account = _account(stage)
    _two_guesses(stage, account)
    leader = stage.leader()

    def applied(_frame):
        return stage.record(leader, account).locked

    stage.when(leader, "sending", applied, then=stage.die_here(leader))
    stage.until(lambda: not stage.nodes[leader].up, 10, "the lock")
    assert not any(stage.record(node.id, account).locked for node in stage.alive)
    stage.until(stage.led, 10, "a leader")
    calls = [stage.guess(node.id, account, 3, era=era) for node in stage.alive for era in (1, 2)]
    assert set(stage.answered(*calls)) == {"stale", "locked"}
    assert judge(stage).records[account.record_id].locked
