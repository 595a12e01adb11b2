"""The Raft boundary as the host drives it: what happens, in the order of raft-host.md."""

from __future__ import annotations

import pytest
from raft_world import (
    CONFIG,
    FOLLOWER,
    GAP_TICKS,
    LEADER,
    MAX_TICKS,
    MIN_TICKS,
    NODES,
    PRE_CANDIDATE,
    SHARD,
    SNAPSHOT,
    TIMEOUT_NOW,
    VOTE,
    VOTE_RESPONSE,
    Node,
    Packet,
    World,
)

from engines._engines import (
    MultiRaft,
    ProposalDropped,
    decode_conf_change,
    encode_conf_change,
)


def kinds(node: Node, packets: list[Packet]) -> list[int]:
    return [node.raft.peek(packet.message)[0] for packet in packets]


def elected(**config: int) -> tuple[World, Node]:
    world = World(**config)
    return world, world.run_until_leader()


def followers(world: World, leader: Node) -> list[Node]:
    return [node for node in world.nodes.values() if node.id != leader.id]


def make_lag(world: World, leader: Node, entries: int = 20) -> Node:
    """A follower so far behind that the leader has cut what it needs."""
    late = followers(world, leader)[0]
    world.isolate(late.id)
    for at in range(entries):
        world.propose(b"entry %d" % at)
    for node in world.up():
        if node is not late:
            node.compact(node.disks[SHARD].applied)
    world.heal()
    return late


# ---------------------------------------------------------------- elections


def test_five_nodes_elect_one_leader_and_all_know_it():
    world, leader = elected()
    world.run(4)
    for node in world.nodes.values():
        status = node.raft.status(SHARD)
        assert status.leader == leader.id
        assert status.role == (LEADER if node is leader else FOLLOWER)
        assert status.voters == list(NODES)
        assert status.learners == []


def test_the_node_with_the_earliest_slot_is_elected():
    _world, leader = elected()
    assert (leader.id + SHARD + 0) % 5 == 0


def test_a_new_leader_commits_an_empty_entry_of_its_own():
    world, leader = elected()
    assert world.applied[SHARD, 1] == (leader.raft.status(SHARD).term, 0, b"")


def test_a_vote_leaves_the_node_only_when_it_is_durable():
    world = World()
    world[1].raft.campaign(SHARD)
    for node in (world[1], world[2]):
        node.work_on_readies()
    world[1].finish_disk()
    (to_two,) = [packet for packet in world.network if packet.to == 2]
    world.deliver(to_two)
    world[2].turn()
    pre_vote_answer = next(packet for packet in world.network if packet.sender == 2)
    world.deliver(pre_vote_answer)
    # A third pre-vote makes the quorum, and the real election begins.
    world.deliver(next(p for p in world.network if p.to == 3 and p.sender == 1))
    world[3].turn()
    world.deliver(next(p for p in world.network if p.sender == 3))
    world.network.clear()
    world[1].turn()
    vote_request = next(packet for packet in world.network if packet.to == 2)
    assert kinds(world[1], [vote_request]) == [VOTE]
    world.network.clear()
    world.deliver(vote_request)

    world[2].work_on_readies()
    assert world[2].batch is not None
    assert world[2].work[SHARD].vote == 1
    assert world.network == []
    assert [shard for shard, _, _ in world[2].batch.held] == [SHARD]

    world[2].finish_disk()
    assert kinds(world[2], world.network) == [VOTE_RESPONSE]
    assert world[2].disks[SHARD].vote == 1


def test_a_candidate_asks_for_votes_only_when_its_own_vote_is_durable():
    world = World()
    world[1].raft.campaign(SHARD)
    world[1].work_on_readies()
    assert world.network == []
    world[1].finish_disk()
    assert len(world.network) == 4


def test_a_node_that_voted_and_restarted_does_not_vote_again_in_that_term():
    world, leader = elected()
    term = leader.raft.status(SHARD).term
    voter = next(n for n in followers(world, leader) if n.disks[SHARD].vote == leader.id)
    voter.crash()
    voter.start()
    status = voter.raft.status(SHARD)
    assert (status.term, status.vote, status.leader) == (term, leader.id, 0)


def test_pre_vote_keeps_the_term_of_an_isolated_node():
    world, leader = elected()
    alone = followers(world, leader)[0]
    term = alone.raft.status(SHARD).term
    world.isolate(alone.id)
    world.run(10 * MAX_TICKS)
    assert alone.raft.status(SHARD).role == PRE_CANDIDATE
    assert alone.raft.status(SHARD).term == term
    world.heal()
    world.run(MAX_TICKS)
    assert leader.raft.status(SHARD).role == LEADER
    assert {node.raft.status(SHARD).term for node in world.up()} == {term}


def test_a_leader_that_hears_no_quorum_steps_down():
    world, leader = elected()
    world.isolate(leader.id)
    world.run(3 * CONFIG["election_tick"])
    assert leader.raft.status(SHARD).role != LEADER
    with pytest.raises(ProposalDropped, match="not the leader"):
        leader.raft.propose(SHARD, b"late")


def test_losing_two_nodes_with_the_leader_elects_another_within_the_slots():
    world, leader = elected()
    world.propose(b"before")
    leader.crash()
    followers(world, leader)[0].crash()
    world.run_until_leader(limit=MIN_TICKS + 5 * GAP_TICKS)
    world.propose(b"after")
    new = world.leader()
    assert new is not None
    assert world.state(new.id) == [b"before", b"after"]


def test_three_lost_nodes_leave_no_leader():
    world, leader = elected()
    for node in [leader, *followers(world, leader)[:2]]:
        node.crash()
    world.run(10 * MAX_TICKS)
    assert world.leader() is None


# ---------------------------------------------------------------- proposals and commit


def test_a_proposal_reaches_every_node():
    world, _ = elected()
    for at in range(50):
        world.propose(b"command %d" % at)
    expected = [b"command %d" % at for at in range(50)]
    assert [world.state(node) for node in NODES] == [expected] * 5


def test_propose_returns_the_term_and_index_under_which_the_entry_is_applied():
    world, leader = elected()
    term, index = leader.raft.propose(SHARD, b"here")
    world.settle()
    assert world.applied[SHARD, index] == (term, 0, b"here")


@pytest.mark.parametrize("role", ["follower", "candidate"])
def test_propose_on_anyone_but_the_leader_is_refused_and_nothing_is_forwarded(role):
    world, leader = elected()
    other = followers(world, leader)[0]
    if role == "candidate":
        world.isolate(other.id)
        world.run(2 * MAX_TICKS)
        assert other.raft.status(SHARD).role == PRE_CANDIDATE
    world.network.clear()
    with pytest.raises(ProposalDropped, match="not the leader"):
        other.raft.propose(SHARD, b"no")
    with pytest.raises(ProposalDropped, match="not the leader"):
        other.raft.propose_conf_change(SHARD, encode_conf_change([(2, 6)]))
    assert other.raft.has_ready() == []


def test_an_empty_proposal_is_refused():
    _, leader = elected()
    with pytest.raises(ValueError, match="at least one byte"):
        leader.raft.propose(SHARD, b"")


def test_the_uncommitted_log_has_a_limit_and_room_comes_back():
    world, leader = elected(max_uncommitted=64 * 1024)
    world.isolate(leader.id)
    world.cut.discard((leader.id, leader.id))
    for _ in range(4):
        leader.raft.propose(SHARD, b"x" * 16 * 1024)
    with pytest.raises(ProposalDropped, match="too large"):
        leader.raft.propose(SHARD, b"x")
    world.heal()
    world.run(MAX_TICKS)
    again = world.run_until_leader()
    again.raft.propose(SHARD, b"x")


def test_a_leader_sends_entries_before_its_own_disk_is_done_but_does_not_count_itself():
    world, leader = elected()
    leader.queue.append((SHARD, b"early"))
    leader.work_on_readies()
    assert len(world.network) == 4
    index = leader.raft.status(SHARD).last_index
    # Two followers answer: with the leader's own disk unfinished that is no quorum.
    for node in followers(world, leader)[:2]:
        world.deliver(next(packet for packet in world.network if packet.to == node.id))
        node.turn()
    for packet in [packet for packet in world.network if packet.to == leader.id]:
        world.deliver(packet)
    assert leader.raft.status(SHARD).commit == index - 1
    leader.finish_disk()
    assert leader.raft.status(SHARD).commit == index


def test_a_follower_acknowledges_entries_only_when_they_are_durable():
    world, leader = elected()
    leader.queue.append((SHARD, b"entry"))
    leader.turn()
    follower = followers(world, leader)[0]
    world.deliver(next(packet for packet in world.network if packet.to == follower.id))
    world.network.clear()
    follower.work_on_readies()
    assert world.network == []
    follower.finish_disk()
    assert [packet.to for packet in world.network] == [leader.id]


def test_only_durable_entries_are_given_out_to_apply():
    world = World(nodes=(1,))
    world[1].raft.campaign(SHARD)
    world.settle()
    world[1].queue.append((SHARD, b"alone"))
    world[1].work_on_readies()
    assert world[1].work[SHARD].state == []
    world[1].finish_disk()
    world[1].turn()
    assert world.state(1) == [b"alone"]


def test_committed_entries_come_in_bounded_pieces_and_each_once():
    world, leader = elected(max_committed_per_ready=1024)
    late = followers(world, leader)[0]
    world.isolate(late.id)
    for at in range(30):
        world.propose(b"%04d" % at + b"x" * 300)
    world.heal()
    world.run(MAX_TICKS)
    assert world.state(late.id) == world.state(leader.id)
    assert len(world.state(late.id)) == 30


def test_a_conflicting_tail_is_replaced_from_the_first_different_entry():
    world, old = elected()
    world.propose(b"common")
    world.isolate(old.id)
    for data in (b"lost 1", b"lost 2", b"lost 3"):
        old.queue.append((SHARD, data))
    old.turn()
    world.settle()
    assert len(old.disks[SHARD].entries) == 5
    world.run(2 * MAX_TICKS)
    new = world.run_until_leader()
    assert new is not old
    world.propose(b"kept")
    world.heal()
    world.run(MAX_TICKS)
    assert world.state(old.id) == [b"common", b"kept"]
    assert old.disks[SHARD].entries == new.disks[SHARD].entries
    world.check_logs_match()


def test_entries_batched_behind_a_waiting_empty_append_never_leave_a_hole():
    """raft-rs 0.7 appends them to a message whose index they do not follow."""
    world, leader = elected()
    late, *others = followers(world, leader)
    world.cut.add((leader.id, late.id))
    for data in (b"one", b"two", b"three"):
        leader.queue.append((SHARD, data))
    leader.turn()
    packets, world.network = world.network, []
    for packet in packets:
        world.deliver(packet)
    for node in others:
        node.turn()
    packets, world.network = world.network, []
    for packet in packets:
        world.deliver(packet)
    # Committed: an empty append to the late node waits for the next Ready.
    assert leader.raft.status(SHARD).commit == 4
    leader.raft.report_unreachable(SHARD, late.id)
    leader.raft.propose(SHARD, b"four")
    world.heal()
    world.settle()
    world.run(MAX_TICKS)
    assert world.state(late.id) == [b"one", b"two", b"three", b"four"]
    world.check_logs_match()


def test_every_shard_has_its_own_term_leader_and_log():
    world = World(shards=(0, 1, 2, 3))
    for shard in world.shards:
        world.run_until_leader(shard)
    leaders = {shard: world.leader(shard) for shard in world.shards}
    assert len({node.id for node in leaders.values() if node is not None}) == 4
    world.propose(b"only here", shard=2)
    assert [world.state(5, shard) for shard in world.shards] == [[], [], [b"only here"], []]
    assert world[1].raft.shards() == [0, 1, 2, 3]


# ---------------------------------------------------------------- restart


def test_a_restarted_cluster_goes_on_from_what_was_stored():
    world, _ = elected()
    for at in range(5):
        world.propose(b"%d" % at)
    for node in world.nodes.values():
        node.crash()
    world.network.clear()
    for node in world.nodes.values():
        node.start()
        assert node.raft.status(SHARD).last_index == node.disks[SHARD].last()
    world.run_until_leader()
    world.propose(b"5")
    assert [world.state(node) for node in NODES] == [[b"0", b"1", b"2", b"3", b"4", b"5"]] * 5


@pytest.mark.parametrize("durable", [False, True])
def test_a_crash_with_a_batch_in_flight_loses_all_of_it_or_nothing(durable):
    world, leader = elected()
    follower = followers(world, leader)[0]
    leader.queue.append((SHARD, b"entry"))
    leader.turn()
    world.deliver(next(packet for packet in world.network if packet.to == follower.id))
    follower.work_on_readies()
    follower.crash(batch_was_durable=durable)
    follower.start()
    assert follower.raft.status(SHARD).last_index == (2 if durable else 1)
    world.settle()
    world.run(MAX_TICKS)
    assert world.state(follower.id) == [b"entry"]


def test_a_restart_applies_nothing_twice():
    world, leader = elected()
    world.propose(b"once")
    node = followers(world, leader)[0]
    node.crash()
    node.start()
    assert node.raft.status(SHARD).applied == node.disks[SHARD].applied
    world.run(MAX_TICKS)
    assert world.state(node.id) == [b"once"]


# ---------------------------------------------------------------- snapshots and compaction


def test_without_a_manifest_no_snapshot_is_sent_and_the_host_is_told_who_needs_one():
    world, leader = elected()
    late = make_lag(world, leader)
    world.trace.clear()
    world.run(10)
    assert SNAPSHOT not in kinds(leader, world.trace)
    assert leader.raft.snapshots_wanted() == [(SHARD, late.id)]
    assert leader.raft.snapshots_wanted() == []
    assert world.state(late.id) == []


def test_a_late_node_catches_up_by_the_manifest_and_then_by_entries():
    world, leader = elected()
    late = make_lag(world, leader)
    world.run(10)
    at = leader.offer_snapshot()
    world.propose(b"after the snapshot")
    world.run(20)
    assert late.snapshots_taken == [True]
    assert late.disks[SHARD].truncated_index == at
    assert world.state(late.id) == world.state(leader.id)
    assert late.raft.status(SHARD).first_index == at + 1
    leader.raft.report_snapshot(SHARD, late.id, ok=True)
    world.run(20)
    (progress,) = [p for p in leader.raft.status(SHARD).progress if p[0] == late.id]
    assert progress[1] == leader.raft.status(SHARD).last_index
    assert progress[4] == 1
    world.propose(b"and on")
    assert world.state(late.id)[-1] == b"and on"


def test_a_caught_up_node_survives_a_restart_behind_its_snapshot():
    world, leader = elected()
    late = make_lag(world, leader)
    leader.offer_snapshot()
    world.run(20)
    late.crash()
    late.start()
    world.propose(b"more")
    world.run(20)
    assert world.state(late.id) == world.state(leader.id)


def test_a_snapshot_that_is_no_longer_needed_is_declined():
    world, leader = elected()
    late = make_lag(world, leader)
    leader.offer_snapshot()
    taken = []
    for _ in range(20):
        world.run()
        taken += [p for p in world.trace if leader.raft.peek(p.message)[0] == SNAPSHOT]
        if late.snapshots_taken:
            break
    assert late.snapshots_taken == [True]
    world.propose(b"more")
    before = world.state(late.id)
    world.deliver(taken[0])
    world.settle()
    assert late.snapshots_taken == [True, False]
    assert world.state(late.id) == before
    assert world.declined == [(leader.id, SHARD, late.id)]


def test_a_lost_snapshot_is_sent_again_only_after_it_is_reported():
    world, leader = elected()
    late = make_lag(world, leader)
    leader.offer_snapshot()
    world.cut.add((leader.id, late.id))
    world.cut.add((late.id, leader.id))
    world.heal()

    def sent() -> int:
        return kinds(leader, world.trace).count(SNAPSHOT)

    while sent() == 0:
        for node in world.up():
            node.tick()
            node.turn()
        packets, world.network = world.network, []
        for packet in packets:
            if leader.raft.peek(packet.message)[0] != SNAPSHOT:
                world.deliver(packet)
    world.run(100)
    assert sent() == 1
    assert late.snapshots_taken == []
    leader.raft.report_snapshot(SHARD, late.id, ok=False)
    world.run(20)
    assert sent() == 2
    assert late.snapshots_taken == [True]
    assert world.state(late.id) == world.state(leader.id)


def test_a_manifest_below_the_cut_is_not_handed_out():
    world, leader = elected()
    world.propose(b"one")
    leader.offer_snapshot()
    late = make_lag(world, leader)
    world.trace.clear()
    world.run(10)
    assert SNAPSHOT not in kinds(leader, world.trace)
    assert leader.raft.snapshots_wanted() == [(SHARD, late.id)]


def test_a_cleared_manifest_is_not_handed_out():
    world, leader = elected()
    late = make_lag(world, leader)
    leader.offer_snapshot()
    leader.raft.clear_snapshot(SHARD)
    world.run(10)
    assert leader.raft.snapshots_wanted() == [(SHARD, late.id)]
    assert late.snapshots_taken == []


def test_ticks_and_a_timeout_now_while_a_snapshot_is_being_installed_do_no_harm():
    world, leader = elected()
    late = make_lag(world, leader)
    leader.offer_snapshot()
    while not late.snapshots_taken:
        for node in world.up():
            node.tick()
            if node is not late:
                node.turn()
        packets, world.network = world.network, []
        for packet in packets:
            world.deliver(packet)
        if not late.snapshots_taken:
            late.turn()
    late.work_on_readies()
    assert late.batch is not None
    for _ in range(2 * MAX_TICKS):
        late.tick()
    late.raft.campaign(SHARD)
    late.raft.transfer_leader(SHARD, leader.id)
    assert late.raft.status(SHARD).role == FOLLOWER
    late.finish_disk()
    assert late.raft.status(SHARD).applied == late.disks[SHARD].truncated_index
    world.settle()
    world.run(MAX_TICKS)
    assert world.state(late.id) == world.state(leader.id)


@pytest.mark.parametrize(
    ("index_off", "term_off"), [(1, 0), (0, 1), (-100, 0)], ids=["ahead", "other term", "zero"]
)
def test_a_snapshot_that_is_not_of_this_log_is_refused(index_off, term_off):
    world, leader = elected()
    world.propose(b"x")
    status = leader.raft.status(SHARD)
    index = max(status.commit + index_off, 0)
    with pytest.raises(ValueError, match="not of this log"):
        leader.raft.set_snapshot(SHARD, b"m", index, status.term + term_off, [1, 2, 3], [])


def test_compaction_never_passes_what_is_applied():
    world, leader = elected()
    world.propose(b"x")
    applied = leader.raft.status(SHARD).applied
    with pytest.raises(RuntimeError, match="above the applied index"):
        leader.raft.compact(SHARD, applied + 1)
    leader.raft.compact(SHARD, applied)
    leader.raft.compact(SHARD, applied - 1)
    status = leader.raft.status(SHARD)
    assert (status.first_index, status.last_index) == (applied + 1, applied)


def test_a_compacted_log_still_knows_the_term_of_its_cut():
    world, leader = elected()
    for at in range(5):
        world.propose(b"%d" % at)
    term = leader.raft.status(SHARD).term
    leader.compact(3)
    assert [leader.raft.term_at(SHARD, at) for at in range(8)] == [None] * 3 + [term] * 4 + [None]


# ---------------------------------------------------------------- configuration


def change_members(world: World, kind: int, node: int) -> None:
    leader = world.leader()
    assert leader is not None
    leader.raft.propose_conf_change(SHARD, encode_conf_change([(kind, node)]))
    world.settle()


def test_a_new_node_joins_as_learner_is_promoted_and_the_old_one_leaves():
    world, leader = elected()
    world.propose(b"old")
    gone = followers(world, leader)[-1]
    gone.crash()
    world.add_node(6)
    change_members(world, 2, 6)
    world.run(10)
    status = leader.raft.status(SHARD)
    assert (status.voters, status.learners) == (list(NODES), [6])
    assert world.state(6) == [b"old"]
    change_members(world, 0, 6)
    change_members(world, 1, gone.id)
    world.run(10)
    members = sorted({*NODES, 6} - {gone.id})
    for node in world.up():
        status = node.raft.status(SHARD)
        assert (status.voters, status.learners) == (members, [])
        assert node.disks[SHARD].voters == members
    world.propose(b"new")
    assert world.state(6) == [b"old", b"new"]


def test_a_learner_never_campaigns_and_does_not_count():
    world, leader = elected()
    world.add_node(6)
    change_members(world, 2, 6)
    world.isolate(6)
    world.run(5 * MAX_TICKS)
    assert world[6].raft.status(SHARD).role == FOLLOWER
    world[6].raft.campaign(SHARD)
    assert world[6].raft.status(SHARD).role == FOLLOWER
    world.propose(b"without it")
    assert world.state(leader.id) == [b"without it"]


def test_a_learner_with_an_empty_disk_is_filled_by_a_snapshot_and_becomes_a_voter():
    world, leader = elected()
    for at in range(5):
        world.propose(b"%d" % at)
    world.add_node(6)
    world.isolate(6)
    change_members(world, 2, 6)
    for node in world.up():
        if node.id != 6:
            node.compact(node.disks[SHARD].applied)
    leader.offer_snapshot()
    world.heal()
    world.run(20)
    assert world[6].snapshots_taken == [True]
    assert world.state(6) == world.state(leader.id)
    assert world[6].raft.status(SHARD).learners == [6]
    change_members(world, 0, 6)
    world.run(10)
    assert world[6].raft.status(SHARD).voters == [*NODES, 6]


def test_a_leader_that_removes_itself_steps_down_and_the_others_go_on():
    world, leader = elected()
    change_members(world, 1, leader.id)
    assert leader.raft.status(SHARD).role == FOLLOWER
    world.run(2 * MAX_TICKS)
    new = world.run_until_leader()
    assert new is not leader
    world.propose(b"without the old one")
    assert world.state(new.id) == [b"without the old one"]
    assert leader.raft.status(SHARD).role == FOLLOWER


def test_a_second_change_waits_for_the_first():
    _, leader = elected()
    leader.raft.propose_conf_change(SHARD, encode_conf_change([(2, 6)]))
    with pytest.raises(ProposalDropped, match="may not be applied yet"):
        leader.raft.propose_conf_change(SHARD, encode_conf_change([(2, 7)]))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ([], "one node at a time"),
        ([(0, 6), (1, 1)], "one node at a time"),
        ([(3, 6)], "change kind 3"),
        ([(0, 0)], "node 0"),
    ],
)
def test_a_change_of_other_than_one_real_node_cannot_be_encoded(changes, why):
    with pytest.raises(ValueError, match=why):
        encode_conf_change(changes)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_change_carries_its_context_through_the_log(kind):
    _, leader = elected()
    context = bytes(range(8))
    index = leader.raft.propose_conf_change(SHARD, encode_conf_change([(kind, 5)], context))[1]
    entry = next(entry for entry in leader.raft.ready(SHARD).entries if entry[0] == index)
    assert decode_conf_change(*entry[2:]) == (kind, 5, context)


def test_a_context_has_at_most_64_bytes():
    assert decode_conf_change(2, encode_conf_change([(2, 6)], bytes(64))) == (2, 6, bytes(64))
    with pytest.raises(ValueError, match="a context of 65 bytes"):
        encode_conf_change([(2, 6)], bytes(65))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (0, encode_conf_change([(2, 6)])),
        (7, encode_conf_change([(2, 6)])),
        (2, b""),
        (2, b"\xff"),
        (2, bytes.fromhex("12021006") + bytes.fromhex("12021007")),
    ],
    ids=["normal entry", "unknown kind", "leave joint", "garbage", "two nodes"],
)
def test_what_is_no_single_change_reads_as_none(kind, data):
    assert decode_conf_change(kind, data) is None


def test_an_old_style_change_reads_like_a_new_one():
    assert decode_conf_change(1, b"\x10\x02\x18\x06") == (2, 6, b"")


def test_a_change_that_would_leave_no_voter_is_refused_before_it_is_appended():
    world = World(nodes=(1,))
    world[1].raft.campaign(SHARD)
    world.settle()
    with pytest.raises(ValueError, match="removed all voters"):
        world[1].raft.propose_conf_change(SHARD, encode_conf_change([(1, 1)]))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", bytes.fromhex("12021006") + bytes.fromhex("12021007"), b"\x08\x01"],
    ids=["leave joint", "garbage", "two nodes", "joint"],
)
def test_a_committed_change_that_does_not_apply_changes_nothing(data):
    _, leader = elected()
    assert leader.raft.apply_conf_change(SHARD, 2, data) == (list(NODES), [])


def test_an_old_style_change_of_one_node_is_applied():
    _, leader = elected()
    node_six_as_learner = b"\x10\x02\x18\x06"
    assert leader.raft.apply_conf_change(SHARD, 1, node_six_as_learner) == (list(NODES), [6])


def test_a_normal_entry_is_no_change_of_members():
    _, leader = elected()
    with pytest.raises(ValueError, match="kind 0"):
        leader.raft.apply_conf_change(SHARD, 0, b"")


# ---------------------------------------------------------------- transfer


def test_leadership_moves_to_the_named_node_and_proposals_wait_meanwhile():
    world, leader = elected()
    world.propose(b"x")
    heir = followers(world, leader)[1]
    leader.raft.transfer_leader(SHARD, heir.id)
    assert leader.raft.status(SHARD).transferring_to == heir.id
    with pytest.raises(ProposalDropped, match="being transferred"):
        leader.raft.propose(SHARD, b"y")
    world.trace.clear()
    world.settle()
    assert TIMEOUT_NOW in kinds(leader, world.trace)
    assert world.leader() is heir
    assert heir.raft.status(SHARD).transferring_to == 0


def test_a_transfer_to_a_dead_node_is_given_up():
    world, leader = elected()
    dead = followers(world, leader)[0]
    dead.crash()
    leader.raft.transfer_leader(SHARD, dead.id)
    world.run(2 * CONFIG["election_tick"])
    assert leader.raft.status(SHARD).transferring_to == 0
    leader.raft.propose(SHARD, b"goes on")


def test_a_follower_asked_to_transfer_forwards_nothing():
    world, leader = elected()
    one, other = followers(world, leader)[:2]
    one.raft.transfer_leader(SHARD, other.id)
    assert one.raft.has_ready() == []


# ---------------------------------------------------------------- timeouts and determinism


def test_the_election_timeout_is_set_only_within_its_range():
    world = World()
    raft = world[1].raft
    raft.set_election_timeout(SHARD, MIN_TICKS)
    assert raft.election_timeout(SHARD) == (MIN_TICKS, 0)
    for wrong in (MIN_TICKS - 1, MAX_TICKS):
        with pytest.raises(ValueError, match="ticks"):
            raft.set_election_timeout(SHARD, wrong)
    raft.tick_all()
    assert raft.election_timeout(SHARD) == (MIN_TICKS, 1)


def test_tick_all_names_the_shards_that_have_something_to_do():
    world = World(shards=(1, 2))
    raft = world[1].raft
    raft.set_election_timeout(1, MIN_TICKS)
    raft.set_election_timeout(2, MAX_TICKS - 1)
    ready = [raft.tick_all() for _ in range(MIN_TICKS)]
    assert ready == [[]] * (MIN_TICKS - 1) + [[1]]


def test_the_same_schedule_gives_the_same_bytes():
    def trace() -> list[Packet]:
        world = World(shards=(0, 1, 2))
        for shard in world.shards:
            world.run_until_leader(shard)
        for at in range(30):
            world.propose(b"%d" % at, shard=at % 3)
            world.run(at % 5)
            if at == 10:
                world[2].crash()
            if at == 20:
                world[2].start()
        world.run(2 * MAX_TICKS)
        return world.trace

    first = trace()
    assert len(first) > 1000
    assert trace() == first


# ---------------------------------------------------------------- the order of calls


def hold_ready() -> tuple[Node, int]:
    world = World(nodes=(1,))
    world[1].raft.campaign(SHARD)
    return world[1], world[1].raft.ready(SHARD).number


@pytest.mark.parametrize(
    "call",
    [
        lambda raft, _: raft.tick_all(),
        lambda raft, _: raft.campaign(SHARD),
        lambda raft, _: raft.propose(SHARD, b"x"),
        lambda raft, _: raft.propose_conf_change(SHARD, encode_conf_change([(2, 6)])),
        lambda raft, _: raft.transfer_leader(SHARD, 2),
        lambda raft, _: raft.report_unreachable(SHARD, 2),
        lambda raft, _: raft.report_snapshot(SHARD, 2, ok=False),
        lambda raft, _: raft.ready(SHARD),
        lambda raft, number: raft.on_persist_ready(SHARD, number),
        lambda raft, _: raft.advance_apply_to(SHARD, 0),
        lambda raft, _: raft.compact(SHARD, 0),
    ],
)
def test_nothing_touches_a_group_while_its_ready_is_out(call):
    node, number = hold_ready()
    with pytest.raises(RuntimeError, match="Ready 1 is out"):
        call(node.raft, number)
    assert node.raft.has_ready() == []
    node.raft.advance_append_async(SHARD)


def test_advancing_without_a_ready_is_refused():
    world = World()
    with pytest.raises(RuntimeError, match="no Ready is out"):
        world[1].raft.advance_append_async(SHARD)


def test_persisting_a_ready_that_was_never_taken_is_refused():
    node, number = hold_ready()
    node.raft.advance_append_async(SHARD)
    with pytest.raises(RuntimeError, match="never advanced"):
        node.raft.on_persist_ready(SHARD, number + 1)


def test_applying_what_was_not_given_out_or_going_back_is_refused():
    _world, leader = elected()
    applied = leader.raft.status(SHARD).applied
    for wrong in (applied + 1, applied - 1):
        with pytest.raises(RuntimeError, match="not in"):
            leader.raft.advance_apply_to(SHARD, wrong)
    leader.raft.advance_apply_to(SHARD, applied)


# ---------------------------------------------------------------- loading


GOOD = {
    "term": 5,
    "vote": 2,
    "commit": 12,
    "applied": 11,
    "truncated_index": 10,
    "truncated_term": 3,
    "voters": [1, 2, 3],
    "learners": [4],
    "entries": [(11, 3, 0, b"a"), (12, 4, 0, b"b"), (13, 5, 0, b"c")],
}


def test_a_stored_group_comes_back_as_it_was():
    raft = MultiRaft(1, **CONFIG)
    raft.add_group(7, **GOOD)
    status = raft.status(7)
    assert (status.term, status.vote, status.commit, status.applied) == (5, 2, 12, 11)
    assert (status.first_index, status.last_index) == (11, 13)
    assert (status.voters, status.learners) == ([1, 2, 3], [4])
    assert (status.role, status.leader, status.progress) == (FOLLOWER, 0, [])
    # What was committed and not applied is given out again.
    ready = raft.ready(7)
    assert [entry[0] for entry in ready.committed] == [12]
    assert (ready.entries, ready.hard_state, ready.must_sync) == ([], None, False)


@pytest.mark.parametrize(
    "broken",
    [
        {"applied": 9},
        {"applied": 13},
        {"commit": 14},
        {"commit": 10},
        {"truncated_index": 9},
        {"truncated_term": 4},
        {"term": 4},
        {"term": 1 << 53},
        {"voters": []},
        {"voters": [1, 1]},
        {"voters": [0, 1]},
        {"learners": [1]},
        {"entries": [(12, 4, 0, b"b"), (13, 5, 0, b"c")]},
        {"entries": [(11, 4, 0, b"b"), (12, 3, 0, b"c")]},
        {"entries": [(11, 4, 3, b"b"), (12, 4, 0, b"c")]},
    ],
    ids=str,
)
def test_a_stored_group_that_does_not_hold_together_is_refused(broken):
    raft = MultiRaft(1, **CONFIG)
    with pytest.raises(ValueError, match=r"MultiRaft\.add_group"):
        raft.add_group(7, **{**GOOD, **broken})
    assert raft.shards() == []


def test_a_shard_is_loaded_once():
    world = World()
    with pytest.raises(ValueError, match="already here"):
        world[1].raft.add_group(SHARD, **GOOD)


@pytest.mark.parametrize(
    "wrong",
    [
        {"heartbeat_tick": 0},
        {"election_tick": 4},
        {"min_election_tick": 11},
        {"max_election_tick": 16},
        {"max_inflight": 0},
        {"max_uncommitted": 1},
    ],
    ids=str,
)
def test_an_impossible_configuration_is_refused(wrong):
    with pytest.raises(ValueError, match="MultiRaft"):
        MultiRaft(1, **{**CONFIG, **wrong})


def test_node_zero_is_no_node():
    with pytest.raises(ValueError, match="invalid node id"):
        MultiRaft(0, **CONFIG)


def test_an_unknown_shard_is_an_error_everywhere():
    raft = World()[1].raft
    for call in (raft.status, raft.ready, raft.campaign, raft.clear_snapshot):
        with pytest.raises(ValueError, match="unknown shard 99"):
            call(99)
