"""Directories that went back in time, lost their contents or run twice are refused (I8, I9)."""

import pytest

from chaos.sim import CLUSTER, Account, SimStore, World
from cluster.api import NotAGiver
from cluster.boot import BootRefused
from cluster.stamp import encode_stamp, enrolment


def used(world, node=1):
    """Some life, so that there is something to forget."""
    account = Account("user").enrol(world, 2)
    world.applied(node, account.charge(1))
    world.run(1)
    return account


def test_a_directory_of_an_earlier_start_is_refused_by_the_stamp():
    world = World().start()
    node = world.nodes[1]
    old = node.store.copy()
    for _ in range(2):
        node.crash()
        node.start()
        world.until(lambda: node.host.status().stepping)
    node.crash()
    node.store = old
    with pytest.raises(BootRefused, match="older than the HSM's stamp"):
        node.start()


def test_a_directory_from_before_a_vote_of_this_start_is_refused_by_the_stamp():
    world = World().start()
    leader = world.leader()
    node = world.nodes[next(n for n in world.node_ids if n != leader)]
    old = node.store.copy()
    world.nodes[leader].crash()
    world.until(world.led)
    node.crash()
    node.store = old
    with pytest.raises(BootRefused, match="older than the HSM's stamp"):
        node.start()


def test_a_directory_that_lost_acknowledged_entries_is_refused_by_the_peers_marks():
    world = World().start()
    node = world.nodes[1]
    world.run(1)
    old = node.store.copy()
    used(world)
    node.crash()
    node.store = old  # same incarnation, same term and vote: the stamp does not see it
    node.start()
    world.until(lambda: node.stopped is not None, seconds=10)
    assert "older than what node" in node.stopped
    assert "replace the node with 'quorumvault member replace" in node.stopped


def test_marks_are_remembered_through_a_restart_of_everyone():
    world = World().start()
    node = world.nodes[1]
    world.run(1)
    old = node.store.copy()
    used(world)
    used_up = Account("another").enrol(world, 3)
    world.applied(3, used_up.charge(1))
    world.run(2)
    for other in world.nodes.values():
        other.crash()
    node.store = old
    for other in world.nodes.values():
        other.start()
    world.until(lambda: node.stopped is not None, seconds=10)
    assert "older than what node" in node.stopped
    world.until(world.led)


def test_an_empty_directory_under_a_used_enrolment_is_refused():
    world = World().start()
    node = world.nodes[1]
    node.crash()
    node.store = SimStore()
    with pytest.raises(BootRefused, match="has run before"):
        node.start()


def test_an_empty_directory_with_a_new_enrolment_stops_when_a_peer_has_seen_the_node():
    world = World().start()
    node = world.nodes[1]
    node.crash()
    node.store = SimStore()
    node.stamp = enrolment(CLUSTER, 1)
    node.start()
    world.until(lambda: node.stopped is not None, seconds=10)
    assert "has seen incarnation 1" in node.stopped


def test_a_second_process_under_the_same_id_stops_and_the_first_goes_on():
    world = World().start()
    node = world.nodes[1]
    store, stamp = node.store.copy(), node.stamp
    node.crash()
    node.start()
    world.until(lambda: node.host.status().stepping)
    node.crash()  # the copy comes up in its place, with the stamp of before
    node.store, node.stamp = store, stamp
    node.start()
    world.until(lambda: node.stopped is not None, seconds=10)
    assert "second process" in node.stopped


@pytest.mark.parametrize(
    ("stamp", "words"),
    [
        (b"", "not one of this version"),
        (b"\x01\x02\x03", "not one of this version"),
        (enrolment(CLUSTER, 2), "enrolled for node 2"),
        (encode_stamp(b"\x00" * 16, 1, 0, ()), "another cluster"),
        (encode_stamp(CLUSTER.bytes, 1, 5, ()), "older than the HSM's stamp"),
    ],
    ids=["empty", "garbage", "another node", "another cluster", "a later incarnation"],
)
def test_a_stamp_that_is_not_ours_is_refused(stamp, words):
    world = World().start()
    node = world.nodes[1]
    node.crash()
    node.stamp = stamp
    with pytest.raises(BootRefused, match=words):
        node.start()


def test_another_token_than_the_directory_ran_with_is_refused():
    world = World().start()
    node = world.nodes[1]
    for _ in range(3):
        node.crash()
        node.start()
        world.until(lambda: node.host.status().stepping)
    node.crash()
    node.stamp = enrolment(CLUSTER, 1)
    with pytest.raises(BootRefused, match="not the token it ran with"):
        node.start()


def drop_one(table):
    def damage(store):
        rows = store.tables[table]
        del rows[min(rows)]

    return damage


def drop_identity(store):
    del store.tables["meta"][b"identity"]


def drop_middle_of_log(store):
    keys = sorted(store.tables["log"])
    del store.tables["log"][keys[1]]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (drop_one("records"), "state hash"),
        (drop_one("ledger"), "ledger"),
        (drop_one("group"), "no group row"),
        (drop_middle_of_log, "is missing"),
        (drop_identity, "no identity"),
    ],
)
def test_a_directory_that_lost_a_row_is_refused(damage, words):
    world = World().start()
    used(world)
    node = world.nodes[1]
    node.crash()
    damage(node.store)
    with pytest.raises(BootRefused, match=words):
        node.start()


def test_a_leader_to_whom_more_is_acknowledged_than_it_has_stops():
    """Rule (d), checked before step."""
    world = World().start()
    world.run(1)
    leader = world.nodes[world.leader()]
    group = leader.host._core.groups[0]
    last = group.last_index
    world.propose(leader.id, Account("user").register())
    world.until(lambda: group.last_index > last)
    group.last_index = last  # as if the entry had gone from under it
    world.until(lambda: leader.stopped is not None, seconds=1)
    assert "rolled back" in leader.stopped


def test_a_follower_that_hears_of_a_commit_beyond_its_log_stops():
    """Rule (d), checked before step."""
    world = World().start()
    used(world)
    follower = next(node for node in world.alive if node.id != world.leader())
    follower.host._core.groups[0].last_index -= 2
    world.until(lambda: follower.stopped is not None, seconds=1)
    assert "rolled back" in follower.stopped


def test_frames_of_an_earlier_life_are_dropped():
    world = World().start()
    leader = world.leader()
    node = world.nodes[next(n for n in world.node_ids if n != leader)]
    account = Account("user").enrol(world, leader)
    recorded = []
    world.observe.append(
        lambda a, b, frame: recorded.append(frame) if (a, b) == (node.id, leader) else None
    )
    assert world.applied(node.id, account.charge(1)).status == "done"
    world.observe.clear()
    assert any(b"charge" in frame for frame in recorded)
    node.crash()
    node.start()
    world.until(lambda: node.host.status().stepping)
    host = world.nodes[leader].host
    world.run(1)
    heard = host.status().counters.forwards_received
    contact = host.status().peers
    for frame in recorded:
        host.on_frame(node.id, frame)
    host.turn()
    assert host.status().counters.forwards_received == heard
    assert host.status().peers == contact


def rolled_back_after(lost, *, then=lambda _world, _node: None):
    """A follower whose marks of two charges went the way of `lost`, restarted on an older disk.

    The leader, which has the marks by its own frames, does not come back to tell of them.
    """
    world = World(shards=1).start()
    leader = world.leader()
    account = Account("user", shards=1).enrol(world, leader)
    world.run(3)
    node = next(node for node in world.alive if node.id != leader)
    old = node.store.copy()
    carry = world.carry

    def lossy(a, b, frame):
        if a == node.id and b != leader:
            return lost
        return carry(a, b, frame)

    world.carry = lossy
    for number in (1, 2):
        world.applied(leader, account.charge(number))
    world.run(3)
    world.carry = carry
    then(world, node)
    node.crash()
    node.store = old
    world.nodes[leader].crash()
    node.start()
    world.until(lambda: node.stopped is not None, seconds=10)
    assert "older than what node" in node.stopped


def test_marks_lost_with_a_frame_without_a_word_are_told_again_in_time():
    rolled_back_after(True, then=lambda world, _node: world.run(11))


def test_marks_of_a_frame_that_was_not_taken_go_with_the_next():
    rolled_back_after(False, then=lambda world, _node: world.run(0.2))


def test_marks_from_the_time_without_a_link_are_told_when_it_is_back():
    world = World(shards=1).start()
    leader = world.leader()
    account = Account("user", shards=1).enrol(world, leader)
    world.run(3)
    node, away = [node for node in world.alive if node.id != leader][:2]
    world.cut_pairs = {(node.id, away.id), (away.id, node.id)}
    world.links_changed()
    world.applied(leader, account.charge(1))
    world.run(1)
    mark = node.host._core.groups[0].mark
    assert away.host._parts.memory._known[node.id].marks[0] != mark
    world.heal()
    world.run(0.2)
    assert (
        away.host._parts.memory._known[node.id].marks[0] == mark == node.host._core.groups[0].mark
    )


def test_two_nodes_rolled_back_at_once_are_both_refused_and_three_go_on():
    """Same incarnation, term and vote: only the peers' marks tell."""
    world = World().start()
    world.run(1)
    old = {node: world.nodes[node].store.copy() for node in (1, 2)}
    account = Account("user").enrol(world, 3)
    world.applied(3, account.charge(1))
    world.run(1)
    for node, image in old.items():
        world.nodes[node].crash()
        world.nodes[node].store = image
    for node in old:
        world.nodes[node].start()
    for node in old:
        world.until(lambda n=node: world.nodes[n].stopped is not None, seconds=10)
        assert "older than what node" in world.nodes[node].stopped
        assert "member replace" in world.nodes[node].stopped
    world.until(world.led)
    assert world.applied(4, account.charge(2)).status == "done"


def test_two_rolled_back_nodes_and_one_honest_peer_make_no_quorum():
    """Three of five processes run, and one remembers: both are refused, nothing is led."""
    world = World().start()
    world.run(1)
    old = {node: world.nodes[node].store.copy() for node in (1, 2)}
    account = used(world, node=3)
    for node in world.nodes.values():
        node.crash()
    for node, image in old.items():
        world.nodes[node].store = image
        world.nodes[node].start()
    world.nodes[3].start()
    world.until(lambda: all(world.nodes[node].stopped is not None for node in old), seconds=20)
    world.run(30)
    assert world.leader() is None
    world.nodes[4].start()
    world.nodes[5].start()
    world.until(world.led)
    assert world.applied(4, account.charge(1)).status == "replayed"


def test_two_rolled_back_nodes_alone_open_no_gate_for_each_other():
    world = World().start()
    world.run(1)
    old = {node: world.nodes[node].store.copy() for node in (1, 2)}
    used(world, node=3)
    for node in world.nodes.values():
        node.crash()
    for node, image in old.items():
        world.nodes[node].store = image
        world.nodes[node].start()
    world.run(60)
    for node in old:
        status = world.nodes[node].host.status()
        assert not status.stepping
        assert status.waiting_for.startswith("marks of this node from 1 more")
        assert {group.role for group in status.groups} == {"follower"}


def two_forget_together(apart_s):
    """Nodes 1 and 2 come back without what only 3 remembers, and 3 is heard `apart_s` later."""
    world = World(shards=1).start()
    account = Account("user", shards=1).enrol(world, 3)
    world.until(world.settled)
    world.run(11)  # the marks of all so far are everywhere
    leader = world.leader()
    for node in (1, 2, 3):
        if leader not in (1, 2, 3):
            world.nodes[leader].host._core.raft.transfer_leader(0, node)
            world.until(lambda n=node: world.leader() == n)
            leader = node
    world.until(world.settled)
    world.run(1)
    old = {node: world.nodes[node].store.copy() for node in (1, 2)}
    world.partition((1, 2, 3), (4, 5))
    assert world.applied(3, account.charge(1)).status == "done"
    world.run(1)
    for node, image in old.items():
        world.nodes[node].crash()
        world.nodes[node].store = image
    world.partition((1, 2, 4, 5), (3,))
    for node in old:
        world.nodes[node].start()
    world.run(apart_s)
    world.heal()
    return world, account


def test_two_rolled_back_nodes_wait_a_moment_for_the_one_that_remembers():
    """Nodes 4 and 5 would be enough to go on, but they know nothing of the charge."""
    world, account = two_forget_together(apart_s=1.0)
    world.until(lambda: all(world.nodes[node].stopped for node in (1, 2)), seconds=10)
    assert "older than what node 3 saw" in world.nodes[1].stopped
    world.until(lambda: world.leader() == 3, seconds=20)
    assert world.applied(4, account.charge(1)).status == "replayed"


def test_a_node_that_remembers_what_all_others_forgot_says_so_and_gives_no_shares():
    """Beyond what marks can save: it was heard too late. It must not go on as if nothing were."""
    world, account = two_forget_together(apart_s=30.0)
    witness = world.nodes[3].host
    world.until(lambda: witness.status().alarms, seconds=20)
    assert any("older disk is in use" in alarm for alarm in witness.status().alarms)
    world.run(20)
    verdict = witness.share_verdict(account.record_id, 1, account.attempt(1))
    assert isinstance(verdict, NotAGiver)
    assert "contradicted" in verdict.reason
