"""Snapshots are the leader's to offer; what a peer makes up costs it its link and nobody a node."""

import pytest
from raft_world import SNAPSHOT, wire_message, wire_snapshot

from chaos.sim import SimFiles, World
from cluster import manifest as manifests
from cluster.commands import Barrier
from cluster.frames import Frame, RaftMessages, encode_frame
from cluster.manifest import Manifest, SnapshotDamagedError, encode_manifest
from cluster.snapshot_files import SnapshotDirectory, is_plain

HASH = bytes(32)


@pytest.fixture
def world():
    made = World(seed=7, shards=1).start()
    made.run(2)
    made.cuts.clear()
    return made


def manifest(name="out-0-aa", *, shard=0, index=1000, term=1, size=10):
    return Manifest(name, shard, index, term, size, HASH, 0, HASH)


def roles(world):
    leader = world.leader()
    liar, victim = [node for node in world.node_ids if node != leader][:2]
    return leader, liar, victim


def offer(world, sender, victim, said, *, index=None, snapshot_term=None, ahead=0):
    """`ahead` is how far the message's term is before the victim's."""
    term = world.nodes[victim].host.status().groups[0].term + ahead
    message = wire_message(
        SNAPSHOT,
        sender=sender,
        to=victim,
        term=term,
        snapshot=wire_snapshot(
            said.index if index is None else index,
            said.term if snapshot_term is None else snapshot_term,
            [1, 2, 3, 4, 5],
            encode_manifest(said),
        ),
    )
    incarnation = world.nodes[sender].host.status().incarnation
    frame = encode_frame(Frame(incarnation, [RaftMessages([(0, message)])]))
    world.nodes[victim].guard(world.nodes[victim].host.on_frame, sender, frame)
    world.run(0.02)


def fetching(world, victim):
    return world.nodes[victim].host.status().groups[0].catching_up


def survives(world, victim):
    world.run(2)
    assert world.nodes[victim].up
    assert world.outcome(victim, Barrier(), shard=0)
    assert len(world.state_hashes()) == 1


def test_a_snapshot_from_a_node_that_does_not_lead_is_not_fetched(world):
    _, liar, victim = roles(world)
    offer(world, liar, victim, manifest())
    assert not fetching(world, victim)
    assert world.cuts == []
    survives(world, victim)


def test_a_snapshot_of_an_earlier_term_is_not_fetched(world):
    leader, _, victim = roles(world)
    world.nodes[leader].crash()
    world.until(world.led)
    world.nodes[leader].start()
    world.run(2)
    leader, liar, victim = roles(world)
    offer(world, liar, victim, manifest(), ahead=-1)
    assert not fetching(world, victim)
    survives(world, victim)


def test_the_leaders_own_offer_and_one_of_a_higher_term_are_fetched(world):
    leader, liar, victim = roles(world)
    offer(world, leader, victim, manifest())
    assert fetching(world, victim)
    other = next(node for node in world.node_ids if node not in (leader, liar, victim))
    offer(world, liar, other, manifest(), ahead=1)
    assert fetching(world, other)
    survives(world, victim)


@pytest.mark.parametrize(
    ("said", "position"),
    [
        (manifest(index=1), {"index": 1000}),
        (manifest(index=1001), {"index": 1000}),
        (manifest(term=2), {"snapshot_term": 1}),
        (manifest(shard=1), {}),
        (manifest("a" * 65), {}),
        (manifest("abc\n"), {}),
        (manifest("-abc"), {}),
        (manifest(""), {}),
        (manifest(size=manifests.MAX_SNAPSHOT_BYTES + 1), {}),
    ],
    ids=[
        "below the commit, said to be above",
        "another index",
        "another term",
        "another shard",
        "a name that is too long",
        "a name with a new line",
        "a name that is no file's",
        "no name",
        "a size beyond every shard",
    ],
)
def test_a_manifest_that_is_not_of_its_message_or_out_of_bounds_cuts_the_link(
    world, said, position
):
    leader, _, victim = roles(world)
    offer(world, leader, victim, said, **position)
    assert [(by, peer) for by, peer, _ in world.cuts] == [(victim, leader)]
    assert not fetching(world, victim)
    survives(world, victim)


def test_a_snapshot_of_what_is_committed_here_changes_nothing(world):
    leader, _, victim = roles(world)
    group = world.nodes[victim].host.status().groups[0]
    raft = world.nodes[victim].host._core.raft
    for index in (1, group.commit):
        offer(world, leader, victim, manifest(index=index, term=raft.term_at(0, index)))
    assert world.cuts == []
    assert not fetching(world, victim)
    survives(world, victim)


def test_a_snapshot_that_contradicts_what_is_committed_here_cuts_the_link(world):
    leader, _, victim = roles(world)
    world.nodes[leader].crash()
    world.until(world.led)
    world.nodes[leader].start()
    world.run(2)
    leader, _, victim = roles(world)
    world.cuts.clear()
    group = world.nodes[victim].host.status().groups[0]
    right = world.nodes[victim].host._core.raft.term_at(0, group.commit)
    offer(world, leader, victim, manifest(index=group.commit, term=right - 1))
    assert [(by, peer) for by, peer, _ in world.cuts] == [(victim, leader)]
    survives(world, victim)


def test_a_snapshot_larger_than_the_free_disk_is_not_fetched_and_said_aloud(world, monkeypatch):
    monkeypatch.setattr(SimFiles, "free_bytes", lambda _files: 2_999)
    leader, _, victim = roles(world)
    offer(world, leader, victim, manifest(size=1_000))
    assert not fetching(world, victim)
    assert any("no room" in alarm for alarm in world.nodes[victim].host.status().alarms)
    survives(world, victim)


def test_every_name_that_a_manifest_can_have_is_a_file_name_on_both_sides():
    longest = manifest("a" * 64)
    assert manifests.decode_manifest(encode_manifest(longest)) == longest
    assert is_plain("in-" + longest.name)


def test_a_shard_beyond_the_bound_is_not_built(world, monkeypatch, tmp_path):
    monkeypatch.setattr("cluster.manifest.MAX_SNAPSHOT_BYTES", -1)
    store = world.nodes[1].store
    with pytest.raises(SnapshotDamagedError, match="more shards"):
        manifests.build(store, SnapshotDirectory(tmp_path), 0, "out-0-aa")


def test_the_free_space_of_the_snapshot_directory_is_the_disks(tmp_path):
    assert SnapshotDirectory(tmp_path).free_bytes() > 0
