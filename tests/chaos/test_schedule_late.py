"""Late, doubled and overtaken commands find an era that is not theirs any more (I5, I6, I7).

A frame may reach a leader twice, or long after its account has moved on; a proposer sends again to
a new leader what the old one had taken. Eras and attempt ids fence all of that.
"""

import pytest
from curtain import judge
from raft_world import APPEND
from stage import Stage, mentions, same

from chaos.sim import Account
from cluster.api import Unknown


def again(account, era):
    """Another registration of the same account, born in `era`: another password."""
    other = Account("another password", 0, 1)
    other.record_id = account.record_id
    return other.register(era), other.activate(era)


class Post:
    """Keeps the frames that carry some bytes, to deliver them again later."""

    def __init__(self, stage, needle):
        self.stage, self.kept = stage, []
        about = mentions(needle)
        stage.observe.append(
            lambda a, b, frame: self.kept.append((a, b, frame)) if about(frame) else None
        )

    def deliver_again(self, *, times=1, backwards=False):
        stage = self.stage
        kept = list(reversed(self.kept)) if backwards else list(self.kept)
        for a, b, frame in kept * times:
            node = stage.nodes[b]
            if node.up:
                node.call(lambda node=node, a=a, frame=frame: node.running.on_frame(a, frame))
        stage.run(1)


@pytest.mark.parametrize("backwards", [False, True])
def test_every_frame_of_a_life_delivered_again_after_a_new_registration_changes_nothing(backwards):
    stage = Stage()
    account = Account("a user", 0, 1)
    post = Post(stage, account.record_id)
    node = stage.followers[0]
    for command in (account.register(), account.activate()):
        assert stage.answered(stage.send(node, command)) == ["done"]
    for number in (1, 2):
        assert stage.answered(stage.guess(node, account, number)) == ["done"]
    assert stage.answered(stage.send(node, account.prove(2))) == ["done"]
    assert stage.answered(stage.guess(node, account, 3, era=2)) == ["done"]
    for command in again(account, 2):
        assert stage.answered(stage.send(node, command)) == ["done"]
    assert stage.answered(stage.guess(node, account, 4, era=3)) == ["done"]
    before = stage.record(node, account)
    post.deliver_again(times=2, backwards=backwards)
    assert stage.record(node, account) == before
    record = judge(stage).records[account.record_id]
    assert record == before
    assert record.attempts == (account.attempt(4),)


def test_a_late_delete_does_not_delete_what_was_registered_after_it():
    stage = Stage()
    account = stage.user("a user")
    node = stage.followers[0]
    delete = account.delete(1)
    post = Post(stage, same(delete))
    assert stage.answered(stage.send(node, delete)) == ["done"]
    for command in again(account, 2):
        assert stage.answered(stage.send(node, command)) == ["done"]
    post.deliver_again(times=3)
    assert stage.answered(stage.send(node, delete)) == ["stale"]
    record = judge(stage).records[account.record_id]
    assert record.active is not None
    assert record.era == 3


def test_a_delete_held_up_at_an_old_leader_comes_too_late():
    """The old leader has it in its log alone; meanwhile the account is deleted and made anew."""
    stage = Stage()
    account = stage.user("a user")
    old = stage.leader()
    stage.isolate(old)
    held = stage.send(old, account.delete(1), timeout_s=8)
    stage.until(lambda: stage.leader() not in (old, None), 8, "the next leader")
    node = stage.leader()
    assert stage.answered(stage.send(node, account.delete(1))) == ["done"]
    for command in again(account, 2):
        assert stage.answered(stage.send(node, command)) == ["done"]
    stage.calm()
    assert stage.answered(held) == ["stale"]
    assert judge(stage).records[account.record_id].active is not None


def test_a_late_proof_does_not_empty_the_list_of_the_next_era():
    stage = Stage()
    account = stage.user("a user")
    node = stage.followers[0]
    post = Post(stage, same(account.prove(1)))
    stage.answered(stage.guess(node, account, 1))
    assert stage.answered(stage.send(node, account.prove(1))) == ["done"]
    for number in (2, 3, 4):
        assert stage.answered(stage.guess(node, account, number, era=2)) == ["done"]
    post.deliver_again(times=3)
    assert stage.answered(stage.send(node, account.prove(1))) == ["same"]
    assert stage.answered(stage.guess(node, account, 5, era=2)) == ["exhausted"]
    assert judge(stage).count(account) == 3


@pytest.mark.parametrize("delay_ms", [0, 5, 12, 20, 40])
def test_a_proof_of_the_old_registration_races_the_activation_of_a_new_one(delay_ms):
    stage = Stage()
    account = stage.user("a user")
    one, two = stage.followers[:2]
    stage.answered(stage.guess(one, account, 1), stage.guess(one, account, 2))
    register, activate = again(account, 1)
    assert stage.answered(stage.send(one, register)) == ["done"]
    activation = stage.send(one, activate)
    stage.run(delay_ms / 1000)
    proof = stage.send(two, account.prove(2))
    stage.answered(activation, proof)
    assert activation.status == "done"
    assert proof.status in ("done", "superseded")
    record = judge(stage).records[account.record_id]
    assert record.active.registration_id == activate.registration_id
    assert record.attempts == ()
    assert record.last_proof is None
    assert record.era == (3 if proof.status == "done" else 2)


def test_a_charge_of_the_old_era_is_stale_and_evaluated_nowhere():
    stage = Stage()
    account = stage.user("a user")
    leader, slow = stage.leader(), stage.followers[0]
    held = []
    stage.wires.append(
        lambda a, b, frame: (
            (a, b) == (slow, leader) and mentions(account.attempt(9))(frame) and not held
        )
    )
    late = stage.guess(slow, account, 9, era=1)
    stage.answered(stage.guess(leader, account, 1))
    assert stage.answered(stage.send(leader, account.prove(1))) == ["done"]
    held.append("enough")
    assert stage.answered(late) == ["stale"]
    assert late.result.sends > 1
    truth = judge(stage)
    assert truth.count(account) == 0
    assert not stage.gave(account, 9)


@pytest.mark.parametrize("reordered", [False, True])
def test_resends_across_three_leaders_are_one_charge(reordered):
    """Each leader takes the attempt and is cut off before it can commit it."""
    stage = Stage(limit=3)
    account = stage.user("a user")
    proposer = stage.followers[-1]
    stage.withhold(lambda _a, _b, message: message[0] == APPEND)
    call = stage.guess(proposer, account, 1, timeout_s=8)
    seen = []
    for _ in range(2):
        leader = stage.leader()
        seen.append(leader)
        before = stage.group(leader).last_index
        stage.until(lambda leader=leader, before=before: stage.group(leader).last_index > before, 4)
        stage.wires.append(lambda a, _b, _frame, leader=leader: a == leader)
        stage.until(lambda seen=seen: stage.leader() not in (*seen, None), 8, "the next leader")
    if reordered:  # the first leaders come back before the last one can commit
        stage.wires.clear()
        stage.run(0.3)
    stage.calm()
    stage.answered(call)
    if not isinstance(call.result, Unknown):
        assert call.status in ("done", "replayed")
    assert set(stage.guess_everywhere(account, 1)) <= {"done", "replayed"}
    assert judge(stage).count(account) == 1


def test_the_last_place_on_the_list_goes_to_one_of_many_who_race_for_it():
    stage = Stage(limit=3, grace_s=600.0)
    account = stage.user("a user")
    stage.answered(stage.guess(1, account, 1), stage.guess(1, account, 2))
    calls = [
        stage.guess(node, account, 10 + number) for node in stage.node_ids for number in range(4)
    ]
    stage.run(0.02)
    stage.kill(stage.leader())
    stage.until(stage.led, 10, "a leader")
    stage.bring_back()
    stage.run(9)
    statuses = [call.status for call in calls]
    # Four numbers race at five nodes; whichever was first is done once and replayed for the rest.
    assert statuses.count("done") <= 1
    truth = judge(stage)
    assert truth.count(account) == 3
    assert sum(bool(stage.gave(account, 10 + number)) for number in range(4)) == 1
    assert set(statuses) <= {"done", "replayed", "exhausted", None, "unknown"}


def test_with_frames_doubled_and_overtaking_each_other_counts_stay_right():
    stage = Stage(limit=3, grace_s=600.0)
    stage.double, stage.reorder = 0.3, 0.3
    accounts = [stage.user(f"user {n}", node=1 + n) for n in range(3)]
    for number in range(5):
        for account in accounts:
            for node in (1, 3, 5):
                stage.guess(node, account, number)
        stage.run(0.3)
    stage.run(9)
    truth = judge(stage)
    assert all(truth.count(account) == 3 for account in accounts)
