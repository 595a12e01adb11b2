"""A vote is given once in a term, wherever between asking and sending its voter dies (I8)."""

import pytest
from curtain import judge
from raft_world import VOTE, VOTE_RESPONSE, wire_message
from stage import LOST, THERE, Stage, rejects

from chaos.sim import MS, Killed
from cluster.frames import Frame, RaftMessages, decode_frame, encode_frame
from cluster.stamp import decode_stamp
from cluster.tables import decode_group, group_key


def grants(stage, payload, sender):
    """(term, candidate) of every vote that a frame gives."""
    return [
        (stage.peek(sender, message)[3], stage.peek(sender, message)[2])
        for item in decode_frame(payload).items
        if isinstance(item, RaftMessages)
        for _, message in item.messages
        if stage.peek(sender, message)[0] == VOTE_RESPONSE and not rejects(message)
    ]


def on_disk(stage, node):
    row = decode_group(stage.nodes[node].store.get("group", group_key(0)))
    return row.term, row.vote


def in_hsm(stage, node):
    stamped = decode_stamp(stage.nodes[node].stamp).shards[0]
    return stamped.term, stamped.vote


def ask_for_a_vote(stage, voter, candidate, term):
    """A request as `candidate` would send it, with a log that nobody could call too old."""
    message = wire_message(
        VOTE, sender=candidate, to=voter, term=term, index=1_000, log_term=term - 1
    )
    frame = Frame(stage.host(candidate).status().incarnation, [RaftMessages([(0, message)])])
    stage.at(
        0,
        lambda: stage.nodes[voter].guard(
            stage.host(voter).on_frame, candidate, encode_frame(frame)
        ),
    )


MOMENTS = {
    "before it reaches the disk": ("submitted", LOST, "granted"),
    "when it is on disk and nobody knows": ("submitted", THERE, "refused"),
    "after the fsync and before the stamp": ("fsynced", LOST, "refused"),
    "when the stamp is asked for": ("stamping", LOST, "refused"),
    "after the stamp and before it is sent": ("stamp written", LOST, "refused"),
    "just before it is sent": ("sending", LOST, "refused"),
    "after it was sent": ("sent", LOST, "refused"),
}


@pytest.mark.parametrize("when", MOMENTS)
def test_a_voter_that_dies_and_returns_does_not_vote_for_another_in_the_same_term(when):
    moment, batch, expected = MOMENTS[when]
    stage = Stage()
    account = stage.user("a user")
    stage.answered(stage.guess(stage.leader(), account, 1))
    voter, other = stage.followers[0], stage.followers[1]
    old_term = stage.group(voter).term
    died_in = []

    def voted(machine, seen, what):
        """The voter has just decided for somebody, and is at the moment at which it dies."""
        group = machine.running._core.groups[0]
        if died_in or machine.id != voter or seen != moment or group.term <= old_term:
            return
        if moment in ("sending", "sent") and not grants(stage, what, voter):
            return
        if group.vote not in (0, voter):
            died_in.append((group.term, group.vote))
            stage.die_here(voter, batch)()

    stage.moments.append(voted)
    stage.kill(stage.leader())
    stage.until(lambda: died_in, 20, "a vote")
    term, candidate = died_in[0]
    rival = other if candidate != other else stage.others(voter, other, candidate)[0]
    stage.bring_back()
    said = []
    stage.observe.append(
        lambda a, _b, frame: said.extend(grants(stage, frame, a)) if a == voter else None
    )
    assert (on_disk(stage, voter) == (term, candidate)) == (expected == "refused")
    # It hears of no leader, so that nothing but its own memory can make it refuse.
    stage.withhold(lambda _a, b, _message: b == voter)
    stage.until(lambda: stage.host(voter).status().stepping, 10, "the voter steps again")
    ask_for_a_vote(stage, voter, rival, term)
    stage.run(0.5)
    assert ((term, rival) in said) == (expected == "granted")
    judge(stage)


def test_no_vote_leaves_a_node_before_disk_and_hsm_both_have_it():
    stage = Stage()
    seen = []

    def on_the_wire(a, _b, frame):
        for term, candidate in grants(stage, frame, a):
            seen.append(term)
            for place in (on_disk, in_hsm):
                assert place(stage, a) >= (term, 0)
                assert place(stage, a)[0] > term or place(stage, a)[1] == candidate

    stage.observe.append(on_the_wire)
    for _ in range(4):
        fallen = stage.leader()
        stage.kill(fallen)
        stage.until(stage.led, 10, "a leader")
        stage.bring_back(fallen)
        stage.run(0.5)
    assert len(set(seen)) >= 4
    judge(stage)


@pytest.mark.parametrize("batch", [LOST, THERE])
def test_a_candidate_that_dies_with_its_own_vote_under_way_starts_no_second_election_in_that_term(
    batch,
):
    stage = Stage()
    fallen, old_term = stage.leader(), stage.group(1).term
    campaigned = []

    def campaigning(machine, moment, _what):
        group = machine.running._core.groups[0]
        if campaigned or moment != "submitted" or group.term <= old_term:
            return
        if group.vote == machine.id:
            campaigned.append(machine.id)
            stage.die_here(machine.id, batch)()

    stage.moments.append(campaigning)
    stage.kill(fallen)
    stage.until(lambda: campaigned, 10, "a candidate")
    stage.bring_back(campaigned[0])
    stage.until(stage.led, 10, "a leader")
    judge(stage)


def test_voters_that_die_as_soon_as_they_voted_are_no_reason_for_a_second_vote():
    """Everybody who gives a vote is killed by giving it, and comes back while it is counted."""
    stage = Stage()
    deaths = []

    def die_of_voting(machine, moment, what):
        if moment == "sent" and grants(stage, what, machine.id):
            deaths.append(machine.id)
            stage.at(50 * MS, lambda: stage.bring_back(machine.id))
            raise Killed

    stage.moments.append(die_of_voting)
    for _ in range(6):
        fallen = stage.leader()
        stage.kill(fallen)
        stage.at(50 * MS, lambda fallen=fallen: stage.bring_back(fallen))
        others = set(stage.node_ids) - {fallen}
        stage.until(lambda others=others: stage.leader() in others and stage.led(), 20, "a leader")
        stage.run(1)
    assert len(deaths) >= 12
    stage.moments.remove(die_of_voting)
    judge(stage)
