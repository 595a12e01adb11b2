"""What a peer may send: everything else is refused before Raft sees it, or ends the process."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from raft_world import (
    APPEND,
    APPEND_RESPONSE,
    FOLLOWER,
    HEARTBEAT,
    PRE_VOTE,
    SHARD,
    SNAPSHOT,
    TIMEOUT_NOW,
    VOTE,
    World,
    wire_entry,
    wire_message,
    wire_snapshot,
)

BEYOND = 1 << 53
LOCAL_OR_FORWARDED = {
    "MsgHup": 0,
    "MsgBeat": 1,
    "MsgPropose": 2,
    "MsgUnreachable": 10,
    "MsgSnapStatus": 11,
    "MsgCheckQuorum": 12,
    "MsgTransferLeader": 13,
    "MsgReadIndex": 15,
    "MsgReadIndexResp": 16,
}


def test_peek_tells_the_fields_that_the_host_checks_before_it_steps():
    message = wire_message(APPEND, sender=4, to=2, term=7, log_term=6, index=20, commit=19)
    assert World()[1].raft.peek(message) == (APPEND, 4, 2, 7, 20, 6, 19)


@pytest.mark.parametrize("garbage", [b"\xff", b"\x08\x63", b"\x0a\x05abc"])
def test_peek_refuses_what_is_no_message(garbage):
    with pytest.raises(ValueError, match=r"MultiRaft\.peek"):
        World()[1].raft.peek(garbage)


@pytest.mark.parametrize("kind", LOCAL_OR_FORWARDED.values(), ids=LOCAL_OR_FORWARDED.keys())
@pytest.mark.parametrize("leading", [False, True])
def test_local_and_forwarded_kinds_from_the_wire_are_dropped(kind, leading):
    world = World()
    leader = world.run_until_leader()
    node = leader if leading else world[1]
    sender = 5
    before = node.raft.status(SHARD)
    message = wire_message(
        kind, sender=sender, to=node.id, term=before.term, entries=[wire_entry(0, 0, b"x")]
    )
    assert node.raft.step_frame(sender, [(SHARD, message)]) == []
    after = node.raft.status(SHARD)
    assert node.raft.has_ready() == []
    assert (after.role, after.term, after.last_index) == (
        before.role,
        before.term,
        before.last_index,
    )
    assert after.progress == before.progress
    assert after.transferring_to == 0


GOOD_SNAPSHOT = wire_snapshot(5, 1, [1, 2, 3])
REFUSED = {
    "garbage": (b"\xff\xff", "undecodable"),
    "an unknown kind": (wire_message(19), "unknown message type 19"),
    "another sender": (wire_message(HEARTBEAT, sender=3), "from 3 to 1"),
    "another receiver": (wire_message(HEARTBEAT, to=4), "from 2 to 4"),
    "no sender": (wire_message(HEARTBEAT, sender=0), "from 0 to 1"),
    "no term": (wire_message(VOTE, term=0), "without a term"),
    "a huge term": (wire_message(VOTE, term=BEYOND), "above"),
    "a huge index": (wire_message(APPEND_RESPONSE, index=(1 << 64) - 1), "above"),
    "a huge commit": (wire_message(HEARTBEAT, commit=BEYOND), "above"),
    "a huge hint": (wire_message(APPEND_RESPONSE, reject_hint=(1 << 64) - 1), "above"),
    "a request for a snapshot": (wire_message(APPEND_RESPONSE, request_snapshot=1), "snapshot"),
    "entries with a gap": (wire_message(APPEND, entries=[wire_entry(2, 1)]), "does not follow"),
    "entries twice": (
        wire_message(APPEND, entries=[wire_entry(1, 1), wire_entry(1, 1)]),
        "does not follow",
    ),
    "entries whose terms fall": (
        wire_message(APPEND, term=3, entries=[wire_entry(1, 2), wire_entry(2, 1)]),
        "does not follow",
    ),
    "entries behind an index of no term": (wire_message(APPEND, index=1, commit=1), "of no term"),
    "an entry of a later term": (wire_message(APPEND, entries=[wire_entry(1, 2)]), "of term 2"),
    "an entry of unknown kind": (
        wire_message(APPEND, entries=[wire_entry(1, 1, kind=3)]),
        "unknown kind",
    ),
    "an empty snapshot": (wire_message(SNAPSHOT), "at index 0"),
    "a snapshot of no term": (
        wire_message(SNAPSHOT, snapshot=wire_snapshot(5, 0, [1])),
        "of term 0",
    ),
    "a snapshot of a later term": (
        wire_message(SNAPSHOT, snapshot=wire_snapshot(5, 2, [1])),
        "of term 2",
    ),
    "a snapshot without voters": (
        wire_message(SNAPSHOT, snapshot=wire_snapshot(5, 1, [])),
        "without voters",
    ),
    "a snapshot with a voter twice": (
        wire_message(SNAPSHOT, snapshot=wire_snapshot(5, 1, [1, 1])),
        "repeat",
    ),
}


@pytest.mark.parametrize(("message", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_no_honest_peer_sends_cuts_the_link(message, why):
    raft = World()[1].raft
    with pytest.raises(ValueError, match=f"cut the link to node 2.*{why}"):
        raft.step_frame(2, [(SHARD, message)])
    status = raft.status(SHARD)
    assert (status.term, status.role, status.last_index) == (0, FOLLOWER, 0)
    assert raft.has_ready() == []


def test_an_unknown_shard_cuts_the_link_and_what_came_before_is_stepped():
    raft = World()[1].raft
    good = wire_message(HEARTBEAT, term=4)
    with pytest.raises(ValueError, match="cut the link to node 2: unknown shard 99"):
        raft.step_frame(2, [(SHARD, good), (99, good), (SHARD, wire_message(HEARTBEAT, term=9))])
    assert raft.status(SHARD).term == 4
    assert raft.status(SHARD).leader == 2


def test_a_snapshot_is_handed_to_the_stager_and_not_stepped():
    raft = World()[1].raft
    message = wire_message(SNAPSHOT, snapshot=GOOD_SNAPSHOT)
    assert raft.step_frame(2, [(SHARD, message)]) == [(SHARD, b"manifest", message)]
    assert raft.status(SHARD).term == 0
    assert raft.has_ready() == []


def test_a_staged_snapshot_comes_out_of_ready_with_the_log_behind_it():
    raft = World()[1].raft
    message = wire_message(SNAPSHOT, snapshot=GOOD_SNAPSHOT)
    assert raft.step_snapshot(SHARD, message) is True
    # The leader's next entry may arrive before the host takes the Ready.
    raft.step_frame(
        2, [(SHARD, wire_message(APPEND, index=5, log_term=1, entries=[wire_entry(6, 1, b"e")]))]
    )
    ready = raft.ready(SHARD)
    assert ready.snapshot == b"manifest"
    assert ready.entries == [(6, 1, 0, b"e")]
    assert ready.hard_state == (1, 0, 5)
    assert ready.must_sync
    assert ready.committed == []
    assert ready.messages == []
    assert [raft.peek(message)[4] for _, message in ready.persisted_messages] == [5, 6]
    raft.advance_append_async(SHARD)
    with pytest.raises(RuntimeError, match="on_persist_ready first"):
        raft.advance_apply_to(SHARD, 5)
    raft.on_persist_ready(SHARD, ready.number)
    raft.advance_apply_to(SHARD, 5)
    status = raft.status(SHARD)
    assert (status.first_index, status.last_index, status.applied) == (6, 6, 5)
    assert status.voters == [1, 2, 3]


def test_the_same_snapshot_twice_and_one_for_other_nodes_are_declined():
    raft = World()[1].raft
    message = wire_message(SNAPSHOT, snapshot=GOOD_SNAPSHOT)
    assert raft.step_snapshot(SHARD, message) is True
    assert raft.step_snapshot(SHARD, message) is False
    elsewhere = wire_message(SNAPSHOT, snapshot=wire_snapshot(9, 1, [2, 3, 4]))
    assert raft.step_snapshot(SHARD, elsewhere) is False


def test_step_snapshot_takes_nothing_but_a_snapshot_for_this_node():
    raft = World()[1].raft
    for message in (
        wire_message(HEARTBEAT),
        wire_message(SNAPSHOT, to=2, snapshot=GOOD_SNAPSHOT),
    ):
        with pytest.raises(ValueError, match="not a snapshot for node 1"):
            raft.step_snapshot(SHARD, message)
    with pytest.raises(ValueError, match="index 0"):
        raft.step_snapshot(SHARD, wire_message(SNAPSHOT))


def test_an_answer_of_a_node_outside_the_configuration_is_ignored():
    world = World()
    leader = world.run_until_leader()
    answer = wire_message(APPEND_RESPONSE, sender=77, to=leader.id, index=1)
    assert leader.raft.step_frame(77, [(SHARD, answer)]) == []
    assert leader.raft.has_ready() == []


def test_a_pre_vote_for_a_later_term_is_answered_without_taking_the_term():
    raft = World()[1].raft
    raft.step_frame(2, [(SHARD, wire_message(PRE_VOTE, term=9))])
    ready = raft.ready(SHARD)
    assert ready.hard_state is None
    assert [to for to, _ in ready.persisted_messages] == [2]
    assert raft.status(SHARD).term == 0


def test_a_conflict_below_the_commit_index_changes_nothing():
    world = World()
    leader = world.run_until_leader()
    world.propose(b"committed")
    world.run(4)
    follower = next(node for node in world.nodes.values() if node is not leader)
    term = leader.raft.status(SHARD).term
    rewrite = [wire_entry(1, term + 1, b"other"), wire_entry(2, term + 1, b"other")]
    message = wire_message(APPEND, sender=leader.id, to=follower.id, term=term + 1, entries=rewrite)
    follower.raft.step_frame(leader.id, [(SHARD, message)])
    follower.turn()
    assert world.state(follower.id) == [b"committed"]
    assert follower.raft.term_at(SHARD, 2) == term


# ---------------------------------------------------------------- what ends the process

SETUP = """
    import sys
    sys.path.insert(0, {here!r})
    from raft_world import *
    import threading
    world = World()
    leader = world.run_until_leader()
    follower = next(node for node in world.nodes.values() if node is not leader)
    term = leader.raft.status(SHARD).term
"""
ENDS = {
    "a second thread": (
        "t = threading.Thread(target=leader.raft.tick_all); t.start(); t.join()",
        "MultiRaft.tick_all: called from a second thread",
    ),
    "a heartbeat's commit above this follower's log": (
        (
            "follower.raft.step_frame(leader.id, [(SHARD, wire_message(HEARTBEAT, "
            "sender=leader.id, to=follower.id, term=term, commit=50))])"
        ),
        "to_commit 50 is out of range [last_index 1]",
    ),
    "an accepted index above this leader's log": (
        (
            "leader.raft.step_frame(follower.id, [(SHARD, wire_message(APPEND_RESPONSE, "
            "sender=follower.id, to=leader.id, term=term, index=50))])"
        ),
        "this node's log was rolled back",
    ),
}


@pytest.mark.parametrize(("deed", "reason"), ENDS.values(), ids=ENDS.keys())
def test_a_core_that_cannot_be_trusted_ends_the_process_with_a_reason(deed, reason):
    script = textwrap.dedent(SETUP.format(here=str(Path(__file__).parent))) + deed
    script += "\nprint('still alive')\n"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGABRT
    assert reason in done.stderr
    assert "restart the node" in done.stderr
    assert "still alive" not in done.stdout


def test_a_timeout_now_makes_a_voter_campaign_at_once():
    world = World()
    leader = world.run_until_leader()
    follower = next(node for node in world.nodes.values() if node is not leader)
    term = leader.raft.status(SHARD).term
    message = wire_message(TIMEOUT_NOW, sender=leader.id, to=follower.id, term=term)
    follower.raft.step_frame(leader.id, [(SHARD, message)])
    world.settle()
    assert follower.raft.status(SHARD).term == term + 1
    assert world.leader() is follower
