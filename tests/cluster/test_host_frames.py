"""A peer with a valid certificate may send anything; it gets its link cut, the node stays up."""

import pytest
from world import World

from cluster.commands import Barrier, Expire, encode_command
from cluster.frames import Accepted, Forward, Frame, Hello, Nack, RaftMessages, encode_frame

FORGER, VICTIM = 2, 1


def forged(world, *items):
    """A frame of the forger's present life, delivered to the victim."""
    incarnation = world.nodes[FORGER].host.status().incarnation
    world.nodes[VICTIM].host.on_frame(FORGER, encode_frame(Frame(incarnation, list(items))))
    world.run(0.5)


@pytest.fixture
def world():
    world = World().start()
    world.run(1)
    world.cuts.clear()
    return world


def survives(world):
    assert world.nodes[VICTIM].up
    assert world.outcome(VICTIM, Barrier(), shard=0)


@pytest.mark.parametrize(
    "item",
    [
        RaftMessages([(0, b"\xff\xff garbage")]),
        RaftMessages([(0, b"")]),
        RaftMessages([(200, b"")]),
        Forward(200, [(1, 1, b"")]),
        Hello(b"x" * 16, 9, b"n" * 16),
    ],
    ids=["garbage", "empty", "unknown shard", "forward to no shard", "foreign greeting"],
)
def test_a_frame_that_breaks_the_protocol_cuts_the_link_and_nothing_else(world, item):
    forged(world, item)
    assert [(by, peer) for by, peer, _ in world.cuts] == [(VICTIM, FORGER)]
    survives(world)


def test_a_frame_that_is_none_cuts_the_link(world):
    for payload in (b"", b"\x00", b"not msgpack", b"\x93" * 50):
        world.nodes[VICTIM].host.on_frame(FORGER, payload)
    world.run(0.5)
    assert {(by, peer) for by, peer, _ in world.cuts} == {(VICTIM, FORGER)}
    survives(world)


def test_forwarded_commands_that_do_not_belong_in_a_log_are_refused_before_it(world):
    leader = world.leader(0)
    forger = next(node for node in world.node_ids if node != leader)
    before = world.nodes[leader].host.status().groups[0].last_index
    bad = [b"garbage", b"", encode_command(Expire(bytes(31) + b"\x01", 0))]
    commands = [(900 + number, 1, data) for number, data in enumerate(bad)]
    incarnation = world.nodes[forger].host.status().incarnation
    frame = encode_frame(Frame(incarnation, [Forward(0, commands)]))
    world.nodes[leader].host.on_frame(forger, frame)
    world.run(0.5)
    assert world.nodes[leader].host.status().groups[0].last_index == before
    assert not world.cuts
    assert world.outcome(VICTIM, Barrier(), shard=0)


def test_answers_to_commands_that_were_never_sent_change_nothing(world):
    forged(world, Accepted(0, 99, 99, [1, 2, 3]), Nack(0, "busy", 0, [(1, 1), (7, 3)]))
    assert not world.cuts
    survives(world)
