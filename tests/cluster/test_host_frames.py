"""A peer with a valid certificate may send anything; it gets its link cut, the node stays up."""

import time

import pytest

from chaos.sim import CLUSTER, World
from cluster.commands import Barrier, Expire, encode_command
from cluster.frames import (
    Accepted,
    Beat,
    Forward,
    Frame,
    FrameError,
    Hello,
    Nack,
    Outbox,
    Pong,
    RaftMessages,
    SnapshotProgress,
    Welcome,
    decode_frame,
    encode_frame,
)
from cluster.limits import MAX_FRAME_ITEMS, MAX_ITEM_MESSAGES

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


def hello(world):
    known = world.nodes[VICTIM].host._parts.memory._known[FORGER]
    return Hello(CLUSTER.bytes, known.incarnation, known.nonce)


def test_a_frame_full_of_greetings_cuts_the_link_at_once_and_is_not_answered(world):
    incarnation = world.nodes[FORGER].host.status().incarnation
    host = world.nodes[VICTIM].host
    said = host.status().counters.bytes_sent
    for number in (2, MAX_FRAME_ITEMS, 60_000):
        frame = encode_frame(Frame(incarnation, [hello(world)] * number))
        begun = time.process_time()
        host.on_frame(FORGER, frame)
        host.turn()
        assert time.process_time() - begun < 0.25
    assert host.status().counters.bytes_sent - said < 100_000
    assert len(world.cuts) == 3
    survives(world)


def test_greetings_in_many_frames_of_one_turn_are_answered_once(world):
    incarnation = world.nodes[FORGER].host.status().incarnation
    host = world.nodes[VICTIM].host
    sent = []
    world.observe.append(lambda a, b, frame: sent.append(frame) if (a, b) == (1, 2) else None)
    for _ in range(200):
        host.on_frame(FORGER, encode_frame(Frame(incarnation, [hello(world)])))
    host.turn()
    items = [item for frame in sent for item in decode_frame(frame).items]
    assert sum(isinstance(item, Welcome) for item in items) == 1
    assert world.cuts == []
    survives(world)


@pytest.mark.parametrize(
    "items",
    [
        [Pong(1)] * (MAX_FRAME_ITEMS + 1),
        [RaftMessages([(0, b"")] * (MAX_ITEM_MESSAGES + 1))],
        [Nack(0, "busy", 0, [(1, 1)] * 1025)],
        [Nack(0, "call this number", 0, [(1, 1)])],
        [SnapshotProgress(0, "out-1", "lost")],
        [Accepted(0, 1, 1, [1] * 257)],
        [Welcome(bytes(16), True, 1, [])] * 2,
        [Hello(b"x", 1, bytes(16))],
    ],
    ids=[
        "items",
        "messages",
        "refusals",
        "own words",
        "own state",
        "acceptances",
        "two welcomes",
        "short cluster id",
    ],
)
def test_a_frame_with_more_than_its_bound_of_anything_is_not_understood(items):
    with pytest.raises(FrameError):
        decode_frame(encode_frame(Frame(1, items)))


def test_what_an_outbox_makes_is_always_within_the_bounds_of_a_frame():
    outbox = Outbox()
    greeting = Hello(bytes(16), 1, bytes(16))
    count = 3 * MAX_ITEM_MESSAGES
    for number in range(count):
        outbox.add_message(number % 256, b"m")
    for number in range(2 * MAX_FRAME_ITEMS):
        outbox.add(Beat(number, True, False, b""))
        outbox.add_message(0, b"m")
        outbox.greet(greeting)
        outbox.greet(Welcome(bytes(16), True, number, []))
    frames = [decode_frame(frame) for frame in outbox.take(7)]
    items = [item for frame in frames for item in frame.items]
    messages = sum(len(item.messages) for item in items if isinstance(item, RaftMessages))
    assert messages == count + 2 * MAX_FRAME_ITEMS
    beats = [item.sent_ns for item in items if isinstance(item, Beat)]
    assert beats == list(range(2 * MAX_FRAME_ITEMS))
    last = [item for item in items if isinstance(item, Welcome)][-1]
    assert last.incarnation == 2 * MAX_FRAME_ITEMS - 1


def test_answers_to_commands_that_were_never_sent_change_nothing(world):
    forged(world, Accepted(0, 99, 99, [1, 2, 3]), Nack(0, "busy", 0, [(1, 1), (7, 3)]))
    assert not world.cuts
    survives(world)
