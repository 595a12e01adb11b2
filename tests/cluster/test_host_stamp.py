"""HSM away, disk slow: what waits, what goes on, and in which order (rule b, step 9)."""

import pytest
from raft_world import wire_message

from chaos.sim import MS, Account, World
from cluster.api import Applied
from cluster.durability import UNSTAMPED
from cluster.frames import Frame, RaftMessages, encode_frame
from cluster.stamp import decode_stamp

TIMEOUT_NOW = 14


def test_a_node_whose_hsm_is_away_follows_and_applies_in_the_old_term():
    world = World().start()
    account = Account("user").enrol(world, 1)
    leader = world.leader()
    follower = next(node for node in world.alive if node.id != leader)
    follower.hsm_away = True
    assert world.applied(leader, account.charge(1)).status == "done"
    world.until(lambda: follower.host.view(account.record_id)[0].attempts)


def test_a_node_whose_hsm_is_away_gives_no_vote_in_a_new_term():
    world = World().start()
    leader = world.leader()
    others = [node for node in world.alive if node.id != leader]
    for node in others[:2]:
        node.hsm_away = True
    world.nodes[leader].crash()
    world.run(10)
    # Two of four living nodes can stamp: three votes are needed, so nobody leads.
    assert world.leader() is None
    others[0].hsm_away = False
    world.until(world.led, seconds=15)


def test_a_leader_with_its_hsm_away_goes_on_leading_its_stamped_term():
    world = World().start()
    account = Account("user").enrol(world, 1)
    leader = world.leader()
    world.nodes[leader].hsm_away = True
    for number in range(1, 4):
        assert isinstance(world.outcome(2, account.charge(number)), Applied)
    assert world.leader() == leader


def test_no_message_of_a_new_term_leaves_before_the_stamp_has_it():
    world = World().start()
    for node in world.alive:
        node.stamp_ms = 200
    watched = {"frames": 0}

    def stamped_first(a, _b, frame):
        node = world.nodes[a]
        stamp = decode_stamp(node.stamp)
        raft = node.host._core.raft
        from cluster.frames import RaftMessages, decode_frame

        for item in decode_frame(frame).items:
            if isinstance(item, RaftMessages):
                for shard, message in item.messages:
                    kind, _, _, term, *_ = raft.peek(message)
                    if kind not in (17, 18):  # pre-votes ask about a term, they enter none
                        assert term <= stamp.shards[shard].term, (a, kind, term)
                        watched["frames"] += 1

    world.observe.append(stamped_first)
    world.nodes[world.leader()].crash()
    world.until(world.led)
    assert watched["frames"] > 10


def roles_seen(world, node, seconds):
    seen = set()
    for _ in range(int(seconds * 20)):
        world.run(0.05)
        seen |= {(group.role, group.term) for group in node.host.status().groups}
    return seen


def without_hsm(world):
    node = next(node for node in world.alive if node.id != world.leader())
    node.hsm_away = True
    node.host.set_hsm(working=False)
    return node


def test_a_node_whose_hsm_is_away_does_not_campaign_however_long_it_hears_nobody():
    world = World(shards=1).start()
    node = without_hsm(world)
    term = node.host.status().groups[0].term
    world.partition((node.id,), tuple(n for n in world.node_ids if n != node.id))
    assert roles_seen(world, node, 20) == {("follower", term)}
    world.heal()
    node.hsm_away = False
    node.host.set_hsm(working=True)
    world.until(world.led)


def test_nor_does_it_campaign_when_the_leader_is_lost_or_tells_it_to():
    world = World(shards=1).start()
    leader = world.leader()
    node = without_hsm(world)
    term = node.host.status().groups[0].term
    told = wire_message(TIMEOUT_NOW, sender=leader, to=node.id, term=term)
    incarnation = world.nodes[leader].host.status().incarnation
    node.host.on_frame(leader, encode_frame(Frame(incarnation, [RaftMessages([(0, told)])])))
    world.nodes[leader].crash()
    world.nodes[next(n.id for n in world.alive if n is not node)].crash()
    assert {role for role, _ in roles_seen(world, node, 20)} == {"follower"}
    # Two can stamp, and three votes are needed; with its HSM back there are three.
    assert world.leader() is None
    node.hsm_away = False
    node.host.set_hsm(working=True)
    world.until(world.led, seconds=20)


def test_a_round_of_pre_votes_ends_when_the_hsm_goes():
    world = World(shards=1).start()
    node = next(node for node in world.alive if node.id != world.leader())
    world.partition((node.id,), tuple(n for n in world.node_ids if n != node.id))
    world.until(lambda: node.host.status().groups[0].role == "pre-candidate", seconds=10)
    node.hsm_away = True
    node.host.set_hsm(working=False)
    world.run(0.2)
    term = node.host.status().groups[0].term
    assert roles_seen(world, node, 10) == {("follower", term)}


def test_a_stamp_that_failed_is_tried_again_when_the_hsm_is_back():
    world = World().start()
    leader = world.leader()
    node = next(n for n in world.alive if n.id != leader)
    node.hsm_away = True
    node.host.set_hsm(working=False)
    world.nodes[leader].crash()
    world.until(lambda: world.leader() is not None)
    world.until(lambda: node.host.status().counters.stamp_failures > 0)
    assert not all(group.stamped for group in node.host.status().groups)
    node.hsm_away = False
    node.host.set_hsm(working=True)
    world.until(lambda: all(group.stamped for group in node.host.status().groups), seconds=1)


def test_one_batch_is_in_flight_and_a_slow_disk_stops_nothing_else():
    world = World().start()
    account = Account("user").enrol(world, 1)
    slow = next(node for node in world.alive if node.id != world.leader())
    slow.disk_ms = 900
    begun = world.now
    for number in range(1, 4):
        assert world.applied(world.leader(), account.charge(number)).status == "done"
    assert world.now - begun < 1000 * MS
    world.until(lambda: slow.host.status().batch_in_flight_ms > 500)
    slow.disk_ms = 4
    world.until(world.settled)
    assert len(world.state_hashes()) == 1


def test_a_leader_whose_disk_hangs_is_replaced():
    world = World().start()
    account = Account("user").enrol(world, 1)
    leader = world.leader()
    world.nodes[leader].disk_ms = 60_000
    other = next(node for node in world.node_ids if node != leader)
    results = world.propose(other, account.charge(1))
    world.until(lambda: world.leader() not in (None, leader), seconds=30)
    world.until(lambda: results)
    assert isinstance(world.outcome(other, account.charge(2)), Applied)


@pytest.mark.parametrize("stamp_ms", [1, 50, 300])
def test_elections_work_with_slow_tokens(stamp_ms):
    world = World(shards=8)
    for node in world.nodes.values():
        node.stamp_ms = stamp_ms
    world.start()
    for _ in range(2):
        leader = world.leader()
        world.nodes[leader].crash()
        world.until(world.led)
        world.nodes[leader].start()
        world.run(2)


def test_a_node_whose_hsm_is_away_from_its_first_tick_on_follows():
    world = World()
    for node in world.nodes.values():
        node.start()
    world.nodes[1].host.set_hsm(working=False)
    world.until(world.led)
    assert world.nodes[1].up
    assert world.leader() != 1


def test_the_alarm_of_a_vote_that_was_not_stamped_ends_when_one_is():
    world = World().start()
    leader = world.leader()
    others = [node for node in world.alive if node.id != leader]
    for node in others[:2]:
        node.hsm_away = True
    world.nodes[leader].crash()

    def alarmed():
        return [node for node in others[:2] if UNSTAMPED in node.host.status().alarms]

    world.until(alarmed, seconds=15)
    for node in others[:2]:
        node.hsm_away = False
    world.until(world.led, seconds=15)
    world.until(lambda: not alarmed(), seconds=15)
