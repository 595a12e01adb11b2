"""Equal index, equal hash: the odd node out is fenced, then stops (I8, I9)."""

import pytest

from chaos.sim import Account, World
from cluster.api import HostStopped, NotAGiver
from cluster.frames import Frame, HashPoint, encode_frame
from cluster.frames import Hashes as Said
from cluster.hashes import Hashes

SECONDS = 1_000_000_000
GOOD, BAD = b"\x01" * 32, b"\x02" * 32


def test_all_nodes_tell_the_same_hash_every_ten_seconds():
    world = World().start()
    Account("user").enrol(world, 1)
    world.run(11)
    points = {
        (group.shard, group.hash_index, group.hash)
        for node in world.alive
        for group in node.host.status().groups
    }
    assert len(points) == world.shards
    assert all(node.host.status().hash_agreement for node in world.alive)


def test_a_node_whose_state_went_another_way_stops_and_the_others_go_on():
    world = World().start()
    account = Account("user").enrol(world, 1)
    odd = next(node for node in world.alive if node.id != world.leader())
    odd.host._core.overlay.shards[0].hash ^= 1
    world.applied(1, account.charge(1))
    world.until(lambda: odd.stopped is not None, seconds=25)
    assert "state hash" in odd.stopped
    world.run(15)
    assert len(world.alive) == 4
    world.applied(world.alive[0].id, account.charge(2))


def test_a_leader_whose_state_went_another_way_stops_too():
    world = World().start()
    account = Account("user").enrol(world, 1)
    leader = world.nodes[world.leader()]
    leader.host._core.overlay.shards[0].hash ^= 1
    world.applied(1, account.charge(1))
    world.until(lambda: leader.stopped is not None, seconds=25)
    world.until(world.led)
    assert len(world.alive) == 4


def hashes():
    made = Hashes([2, 3, 4, 5], 1)
    made.reached(0, 1024, GOOD, 0)
    return made


def said(made, peer, value, now=0):
    made.heard(peer, HashPoint(0, 1024, value), 2000, now)


def test_one_liar_among_agreeing_peers_changes_nothing():
    made = hashes()
    for peer in (2, 3):
        said(made, peer, GOOD)
    said(made, 4, BAD)
    said(made, 5, BAD)
    assert not made.doubt


def test_a_contradicted_node_gives_no_shares_until_two_peers_agree():
    made = hashes()
    said(made, 2, BAD)
    assert made.doubt
    said(made, 3, GOOD)
    assert made.doubt
    said(made, 4, GOOD)
    assert not made.doubt


def test_the_odd_node_stops_as_soon_as_too_few_are_left_who_could_agree():
    made = hashes()
    said(made, 2, BAD)
    said(made, 3, BAD)
    with pytest.raises(HostStopped, match="shard 0"):
        said(made, 4, BAD)


def test_silence_counts_against_a_node_that_two_contradict_after_ten_seconds():
    made = hashes()
    said(made, 2, BAD, now=5)
    said(made, 3, BAD, now=5)
    made.on_time(5 + 9 * SECONDS)
    with pytest.raises(HostStopped):
        made.on_time(5 + 10 * SECONDS)


@pytest.mark.parametrize("agreeing", [(), (3,)])
def test_a_node_that_one_peer_alone_contradicts_stays_up_in_doubt_and_says_so(agreeing):
    made = hashes()
    said(made, 2, BAD, now=5)
    for peer in agreeing:
        said(made, peer, GOOD, now=5)
    assert made.on_time(5 + 9 * SECONDS) == []
    (alarm,) = made.on_time(5 + 60 * SECONDS)
    assert "node 2 alone" in alarm
    assert made.doubt
    with pytest.raises(HostStopped):
        said(made, 4, BAD, now=61 * SECONDS)


def test_a_doubt_that_nobody_else_can_settle_ends_when_its_point_is_old():
    made = hashes()
    said(made, 2, BAD)
    for number in range(2, 20):
        made.reached(0, 1024 * number, GOOD, 0)
    assert not made.doubt
    assert made.on_time(99 * SECONDS) == []


def test_only_the_leader_can_have_a_node_look_at_an_index_of_its_choice():
    made = Hashes([2, 3, 4, 5], 1)
    made.heard(2, HashPoint(0, 77, BAD), 50, 0)
    assert not made.due(0, 77)
    made.heard(3, HashPoint(0, 78, GOOD), 50, 0, from_leader=True)
    assert made.due(0, 78)


def test_a_leader_that_names_indexes_far_ahead_does_not_keep_out_the_next_ones():
    made = Hashes([2, 3, 4, 5], 1)
    for number in range(1000):
        made.heard(2, HashPoint(0, 10**9 + number, BAD), 50, 0, from_leader=True)
    made.heard(3, HashPoint(0, 60, GOOD), 50, 0, from_leader=True)
    assert made.due(0, 60)
    assert len(made.wanted[0]) <= 32


def test_a_peer_that_says_much_does_not_wipe_out_what_others_said():
    made = Hashes([2, 3, 4, 5], 1)
    for peer in (2, 3, 4):
        made.heard(peer, HashPoint(0, 1024, GOOD), 50, 0)
    for number in range(1000):
        made.heard(2, HashPoint(0, 2000 + number, GOOD), 50, 0)
    made.reached(0, 1024, GOOD, 0)
    made.heard(5, HashPoint(0, 1024, BAD), 1024, 0)
    assert not made.doubt


def test_one_peer_that_names_another_index_to_each_node_stops_none():
    world = World(seed=7, shards=1).start()
    world.run(2)
    lies(world, next(node for node in world.node_ids if node != world.leader()))
    assert [node.id for node in world.alive] == list(world.node_ids)
    assert not any(node.host._parts.hashes.doubt for node in world.alive)


def test_a_leader_that_names_another_index_to_each_node_stops_none():
    world = World(seed=7, shards=1).start()
    world.run(2)
    lies(world, world.leader())
    assert [node.id for node in world.alive] == list(world.node_ids)
    assert any("alone contradicts" in text for n in world.alive for text in n.host.status().alarms)


def lies(world, liar):
    incarnation = world.nodes[liar].host.status().incarnation
    for number, node in enumerate(node for node in world.alive if node.id != liar):
        index = node.host.status().groups[0].applied + 1 + number
        frame = encode_frame(Frame(incarnation, [Said([HashPoint(0, index, BAD)])]))
        node.guard(node.host.on_frame, liar, frame)
    world.run(0.2)
    for number in range(12):
        world.applied(world.alive[number % 5].id, Account(f"u{number}", shards=1).register())
    world.run(14)


def test_a_hash_heard_ahead_is_compared_when_this_node_is_there():
    made = Hashes([2, 3, 4, 5], 1)
    for peer in (2, 3, 4):
        made.heard(peer, HashPoint(0, 77, GOOD), 50, 0, from_leader=peer == 4)
    assert made.due(0, 77)
    with pytest.raises(HostStopped):
        made.reached(0, 77, BAD, 0)


def test_a_doubtful_node_is_no_giver():
    world = World().start()
    account = Account("user").enrol(world, 1)
    world.applied(1, account.charge(1))
    world.run(11)
    host = world.nodes[1].host
    point = host.status().groups[0]
    host._parts.hashes._said.clear()
    host._parts.hashes.heard(2, HashPoint(0, point.hash_index, BAD), point.applied, world.now)
    verdict = host.share_verdict(account.record_id, 1, account.attempt(1))
    assert isinstance(verdict, NotAGiver)


@pytest.mark.parametrize("snapshot_first", [True, False])
def test_a_doubt_ends_with_the_words_that_it_rests_on(snapshot_first):
    """The one who contradicted is replaced, and a snapshot takes the place of the state."""
    made = hashes()
    said(made, 5, BAD)
    assert made.doubt
    steps = [lambda: made.forget(0), lambda: made.adopt([2, 3, 4, 6])]
    for step in steps if snapshot_first else reversed(steps):
        step()
    assert not made.doubt
    assert made.on_time(11 * SECONDS) == []
