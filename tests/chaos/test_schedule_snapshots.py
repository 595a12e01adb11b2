"""Snapshots at the wrong moment: crashes on either side, two at once, stale ones (I1, I8).

Whoever was away until the log was cut comes back by snapshot; its ledger moves by the rule and is
never replaced, and what a snapshot covers is neither applied twice nor lost.
"""

import pytest
from curtain import judge
from raft_world import SNAPSHOT
from stage import LOST, THERE, Stage

from cluster import limits
from cluster.ports import Batch
from cluster.tables import decode_group, group_key

pytestmark = pytest.mark.usefixtures("short_logs")


@pytest.fixture
def short_logs(monkeypatch):
    monkeypatch.setattr("cluster.compaction.LOG_CUT_ENTRIES", 20)
    monkeypatch.setattr("cluster.compaction.LOG_KEEP_ENTRIES", 5)


class Absence:
    """A stage where one follower has been away until the log was cut behind it."""

    def __init__(self, seed=1, **world):
        stage = self.stage = Stage(seed, limit=90, **world)
        self.account = stage.user("a user")
        stage.answered(stage.guess(1, self.account, 0))
        stage.run(0.5)
        self.leader, self.away = stage.leader(), stage.followers[0]
        self.number = 0
        self.leave()
        self.life_goes_on()

    def leave(self):
        self.stage.kill(self.away)

    def life_goes_on(self, count=40):
        stage = self.stage
        for _ in range(count):
            self.number += 1
            call = stage.guess(stage.leader(), self.account, self.number)
            stage.answered(call)
        stage.run(2.5)
        assert stage.group(stage.leader()).first_index > 10

    @property
    def machine(self):
        return self.stage.nodes[self.away]

    def counters(self):
        return self.machine.running.status().counters

    def installed(self, times=1):
        self.stage.until(
            lambda: self.machine.up and self.counters().snapshots_installed >= times,
            90,
            "a snapshot installed",
        )

    def verdict(self):
        truth = judge(self.stage)
        assert truth.count(self.account) == self.number + 1
        row = self.machine.running.ledger_row(self.account.record_id)
        assert len(row.ids) == self.number + 1
        return truth


def alarms(play):
    return play.machine.running.status().alarms


def flips(what):
    """For `when`: the batch in which the staged snapshot becomes the shard."""
    return isinstance(what, Batch) and any(
        op[:3] == ("put", "group", group_key(0)) and decode_group(op[3]).slot == 1
        for op in what.ops
    )


@pytest.mark.parametrize("batch", [LOST, THERE])
@pytest.mark.parametrize("moment", ["batch", "submitted", "fsynced", "durable"])
def test_a_receiver_that_dies_as_the_snapshot_becomes_its_state_comes_back_whole(moment, batch):
    play = Absence()
    stage = play.stage
    stage.bring_back(play.away)
    stage.when(play.away, moment, flips, then=stage.die_here(play.away, batch))
    stage.until(lambda: not play.machine.up, 30, "a death")
    stage.bring_back(play.away)  # boot recomputes counts and hashes: half a flip would be refused
    play.verdict()


@pytest.mark.parametrize("batch", [LOST, THERE])
def test_a_receiver_that_installed_and_dies_before_it_applies_what_follows_applies_it_once(batch):
    play = Absence()
    stage = play.stage
    stage.bring_back(play.away)
    play.installed()
    call = stage.guess(stage.leader(), play.account, 500)
    play.number += 1
    applied = stage.group(play.away).applied
    stage.until(lambda: stage.group(play.away).last_index > applied, 5)
    stage.kill(play.away, batch)
    stage.answered(call)
    stage.bring_back(play.away)
    play.verdict()


def test_two_snapshots_in_quick_order_leave_the_newer_one(monkeypatch):
    """The log is cut past the first one while it is on its way; a new leader offers another."""
    play = Absence(seed=3)
    stage = play.stage
    stage.fetch_ms = 1500
    stage.bring_back(play.away)
    stage.until(lambda: stage.group(play.away).catching_up, 30, "the first offer")
    first = stage.leader()
    monkeypatch.setattr("cluster.sending.SNAPSHOT_STALL_NS", 0)  # its hold on the log ends
    heir = next(node for node in stage.followers if node != play.away)
    stage.host(first)._core.raft.transfer_leader(0, heir)
    stage.until(lambda: stage.leader() == heir, 5, "the transfer")
    play.life_goes_on()
    play.installed()
    assert any("a newer one was offered" in alarm for alarm in alarms(play))
    play.verdict()


def test_a_snapshot_that_is_outrun_while_it_is_fetched_is_followed_by_the_log_or_another(
    monkeypatch,
):
    play = Absence(seed=2)
    stage = play.stage
    stage.fetch_ms = 4000
    monkeypatch.setattr("cluster.sending.SNAPSHOT_HOLD_BYTES", 0)  # nothing holds the log back
    stage.bring_back(play.away)
    stage.until(lambda: stage.group(play.away).catching_up, 30, "the first offer")
    play.life_goes_on(30)
    stage.fetch_ms = 30
    play.installed()
    stage.until(stage.settled, 60, "equal logs")
    play.verdict()


@pytest.mark.parametrize("after_ms", [0, 20, 100, 400])
def test_a_sender_that_dies_while_its_snapshot_is_on_the_way_is_replaced_by_another_sender(
    after_ms,
):
    play = Absence()
    stage = play.stage
    stage.fetch_ms = 300
    stage.bring_back(play.away)
    stage.until(lambda: stage.group(play.away).catching_up, 30, "an offer")
    stage.run(after_ms / 1000)
    stage.kill(stage.leader())
    play.installed()
    play.verdict()


def test_a_sender_that_comes_back_at_once_does_not_wait_for_word_of_what_it_has_forgotten():
    play = Absence()
    stage = play.stage
    stage.fetch_ms = 300
    stage.bring_back(play.away)
    stage.until(lambda: stage.group(play.away).catching_up, 30, "an offer")
    for _ in range(3):
        sender = stage.leader()
        stage.kill(sender)
        stage.run(0.05)
        stage.bring_back(sender)
        stage.until(stage.led, 10, "a leader")
    play.installed()
    play.verdict()


def test_a_snapshot_replaces_the_uncommitted_tail_of_a_leader_that_was_cut_off():
    """The receiver led once; its own log reaches into the indexes that the snapshot covers."""
    stage = Stage(limit=90)
    account = stage.user("a user")
    stage.run(0.5)
    old = stage.leader()
    stage.isolate(old)
    tail = []
    for number in range(100, 130):  # one entry each, on no other disk
        tail.append(stage.guess(old, account, number, timeout_s=1))
        stage.run(0.02)
    mine = stage.group(old).last_index
    stage.until(lambda: stage.leader() not in (old, None), 8, "the next leader")
    for number in range(40):
        stage.answered(stage.guess(stage.leader(), account, number))
    stage.run(2.5)
    assert stage.group(stage.leader()).first_index > stage.group(old).commit
    assert mine > stage.group(old).commit + 20
    stage.heal()
    stage.until(
        lambda: stage.host(old).status().counters.snapshots_installed == 1, 30, "a snapshot"
    )
    truth = judge(stage)
    assert truth.count(account) == 40
    assert not any(stage.gave(account, number) for number in range(100, 130))
    assert {call.status for call in tail} <= {"unknown", "not appended"}


def test_a_stale_snapshot_is_declined_however_often_it_comes():
    play = Absence()
    stage = play.stage
    kept = []

    def keep(a, b, frame):
        if b == play.away and any(
            stage.peek(a, message)[0] == SNAPSHOT for message in messages(frame)
        ):
            kept.append((a, frame))

    stage.observe.append(keep)
    stage.bring_back(play.away)
    play.installed()
    for number in range(500, 503):
        play.number += 1
        stage.answered(stage.guess(stage.leader(), play.account, number))
    stage.until(stage.settled, 10, "equal logs")
    before = stage.group(play.away)
    for sender, frame in kept * 5:
        play.machine.guard(play.machine.running.on_frame, sender, frame)
        stage.run(0.2)
    after = stage.group(play.away)
    assert kept
    assert (after.applied, after.first_index) == (before.applied, before.first_index)
    assert not after.catching_up
    assert play.counters().snapshots_installed == 1
    play.verdict()


def messages(frame):
    from cluster.frames import RaftMessages, decode_frame

    return [
        message
        for item in decode_frame(frame).items
        if isinstance(item, RaftMessages)
        for _, message in item.messages
    ]


def test_a_follower_that_returns_while_the_leader_cuts_its_log_still_catches_up():
    """Its place in the log vanishes between the leader's question and its answer."""
    ways = set()
    for lag in range(0, 40, 8):
        stage = Stage(lag, limit=90)
        account = stage.user("a user")
        away = stage.followers[0]
        stage.isolate(away)
        for number in range(14 + lag // 2):
            stage.answered(stage.guess(stage.leader(), account, number))
        stage.heal()
        for number in range(40, 60):
            stage.guess(stage.leader(), account, number)
            stage.run(0.06)
        stage.run(3)
        truth = judge(stage)
        assert truth.count(account) == 14 + lag // 2 + 20
        ways.add(stage.host(away).status().counters.snapshots_installed)
    assert ways == {0, 1}


def test_an_era_that_ended_while_a_node_was_away_is_ended_in_its_ledger_by_the_snapshot():
    """The proof, and ten more guesses, reach it as a snapshot only; then it gives shares again."""
    stage = Stage(limit=3, grace_s=600.0)
    account, other = stage.user("a user"), stage.user("somebody else")
    stage.answered(stage.guess(1, account, 1), stage.guess(1, account, 2))
    stage.run(0.5)
    away = stage.followers[0]
    stage.kill(away)
    assert stage.answered(stage.send(stage.leader(), account.prove(2))) == ["done"]
    for number in (3, 4, 5):
        stage.answered(stage.guess(stage.leader(), account, number, era=2))
    for era in range(1, 25):
        stage.answered(stage.guess(stage.leader(), other, era, era=era))
        stage.answered(stage.send(stage.leader(), other.prove(era, era)))
    stage.run(2.5)
    stage.bring_back(away)
    stage.until(
        lambda: stage.host(away).status().counters.snapshots_installed == 1, 30, "a snapshot"
    )
    stage.until(
        lambda: all(away in stage.gave(account, number, era=2) for number in (3, 4, 5)),
        5,
        "its shares in the new era",
    )
    assert stage.answered(stage.guess(away, account, 6, era=2)) == ["exhausted"]
    judge(stage)


def test_a_lock_that_a_node_learns_from_a_snapshot_alone_is_a_lock_there():
    stage = Stage(limit=2, grace_s=1.5)
    account, other = stage.user("a user"), stage.user("somebody else")
    stage.answered(stage.guess(1, account, 1))
    stage.run(0.5)
    away = stage.followers[0]
    stage.kill(away)
    stage.answered(stage.guess(stage.leader(), account, 2))
    stage.until(lambda: stage.record(stage.leader(), account).locked, 10, "the lock")
    for era in range(1, 25):
        stage.answered(stage.guess(stage.leader(), other, era, era=era))
        stage.answered(stage.send(stage.leader(), other.prove(era, era)))
    stage.run(2.5)
    stage.bring_back(away)
    stage.until(
        lambda: stage.host(away).status().counters.snapshots_installed == 1, 30, "a snapshot"
    )
    stage.run(limits.LAZY_PUTS_NS * 3 / limits.SECOND)
    for node in stage.others(away)[:2]:
        stage.kill(node)
    stage.until(stage.led, 10, "a leader")
    assert stage.answered(stage.guess(away, account, 3, era=2)) == ["locked"]
    assert stage.host(away).ledger_row(account.record_id).current is None
    judge(stage)
