"""A node steps aside before its disk is full, and comes back by itself (ADR 0011; I4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from replace_kit import lead

from chaos.sim import Account, World
from cluster.api import NotAppended
from cluster.core import ROLE_NAMES
from cluster.room import Room

if TYPE_CHECKING:
    from chaos.sim.node import SimNode

LEADER = ROLE_NAMES[2]


def roles(world: World, node: int) -> set[str]:
    return {group.role for group in world.nodes[node].host.status().groups}


def log_end(world: World, node: int) -> int:
    return world.nodes[node].host.status().groups[0].last_index


@pytest.mark.parametrize("room", [Room.SHORT, Room.FULL])
def test_a_node_out_of_room_hands_over_what_it_leads_and_leads_nothing_again(room: Room) -> None:
    world = World(shards=4).start()
    out = world.leader(0)
    world.nodes[out].host.set_room(room)
    begun = world.now
    world.until(lambda: LEADER not in roles(world, out) and world.led())
    assert world.now - begun < 2_000_000_000
    world.run(50)  # far beyond the time after which leadership is spread again
    assert LEADER not in roles(world, out)
    user = next(node for node in world.node_ids if node != out)
    Account("afterwards", shards=4).enrol(world, user)


def test_a_short_node_still_follows_so_that_no_write_loses_a_copy() -> None:
    world = World().start()
    short = next(node for node in world.node_ids if node != world.leader())
    world.nodes[short].host.set_room(Room.SHORT)
    account = Account("user").enrol(world, world.leader())
    world.until(lambda: world.nodes[short].host.view(account.record_id)[0] is not None)
    world.until(world.settled)


def test_a_full_node_takes_no_entry_and_catches_up_when_there_is_room() -> None:
    world = World().start()
    Account("before").enrol(world, 1)
    world.until(world.settled)
    full = next(node for node in world.node_ids if node != world.leader())
    host = world.nodes[full].host
    host.set_room(Room.FULL)
    end = log_end(world, full)
    user = next(node for node in world.node_ids if node != full)
    for number in range(20):
        Account(f"user {number}").enrol(world, user)
    world.run(10)
    assert log_end(world, full) == end
    host.set_room(Room.ENOUGH)
    world.until(world.settled, seconds=5)
    assert len(world.state_hashes()) == 1


def test_a_full_node_counts_for_no_quorum_of_writes() -> None:
    """Two dead and one full: nothing can be acknowledged that three disks do not have."""
    world = World().start()
    account = Account("user").enrol(world, 1)
    world.until(world.settled)
    leader = world.leader()
    dead, other, full = [node for node in world.node_ids if node != leader][1:4]
    world.nodes[full].host.set_room(Room.FULL)
    for node in (dead, other):
        world.nodes[node].crash()
    results = world.propose(leader, account.charge(1), timeout_s=30)
    world.run(9)
    records = [node.host.view(account.record_id)[0] for node in world.alive]
    assert [record.attempts for record in records] == [()] * 3
    world.nodes[full].host.set_room(Room.ENOUGH)
    world.until(lambda: all(n.host.view(account.record_id)[0].attempts for n in world.alive))
    assert results


def test_a_full_node_proposes_nothing_and_says_so() -> None:
    world = World().start()
    world.nodes[3].host.set_room(Room.FULL)
    results = world.propose(3, Account("user").charge(1))
    world.run(0.1)
    assert results == [NotAppended("disk-full")]


def test_a_full_node_is_no_share_giver_because_it_lags() -> None:
    world = World().start()
    full = next(node for node in world.node_ids if node != world.leader())
    other = world.nodes[world.leader()].host
    world.until(lambda: full in [giver.node_id for giver in other.share_givers(0)])
    world.nodes[full].host.set_room(Room.FULL)
    world.until(lambda: full not in [giver.node_id for giver in other.share_givers(0)])
    assert full not in [giver.node_id for giver in world.nodes[full].host.share_givers(0)]
    world.nodes[full].host.set_room(Room.SHORT)
    world.until(lambda: full in [giver.node_id for giver in other.share_givers(0)])


def test_five_full_nodes_do_nothing_and_all_go_on_when_there_is_room() -> None:
    world = World().start()
    account = Account("user").enrol(world, 1)
    for node in world.nodes.values():
        node.host.set_room(Room.FULL)
    world.run(60)
    assert len(world.alive) == 5
    for node in world.nodes.values():
        node.host.set_room(Room.ENOUGH)
    world.until(world.led)
    assert world.applied(2, account.charge(1)).status == "done"


def test_a_full_node_takes_no_snapshot_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.compaction.LOG_CUT_ENTRIES", 40)
    monkeypatch.setattr("cluster.compaction.LOG_KEEP_ENTRIES", 10)
    world = World(limit=80).start()
    account = Account("user").enrol(world, 1)
    world.until(world.settled)
    full = next(node for node in world.node_ids if node != world.leader())
    host = world.nodes[full].host
    host.set_room(Room.FULL)
    user = next(node for node in world.node_ids if node != full)
    for number in range(60):
        world.applied(user, account.charge(number))
    world.run(10)
    behind = world.nodes[world.leader()].host.status().groups[0]
    assert behind.first_index > log_end(world, full) + 1
    assert host.status().counters.snapshots_installed == 0
    host.set_room(Room.SHORT)
    world.until(world.settled, seconds=20)
    assert host.status().counters.snapshots_installed >= 1
    assert len(world.state_hashes()) == 1


def test_a_full_leader_without_an_heir_builds_no_snapshot_until_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copy of a shard would take the last room from what is under way, and end the node."""
    monkeypatch.setattr("cluster.compaction.LOG_CUT_ENTRIES", 20)
    monkeypatch.setattr("cluster.compaction.LOG_KEEP_ENTRIES", 5)
    world = World(shards=1).start()
    leader = world.leader(0)
    away = next(node for node in world.node_ids if node != leader)
    world.nodes[away].crash()
    for number in range(12):
        Account(f"user {number}", shards=1).enrol(world, leader)
    world.run(3)
    for node in world.alive:
        node.host.set_room(Room.FULL)
    world.nodes[away].start()
    world.run(5)
    assert world.leader(0) == leader
    assert not [name for name in world.nodes[leader].files if name.startswith("out-")]
    for node in world.alive:
        node.host.set_room(Room.ENOUGH)
    world.until(world.settled, seconds=20)
    assert world.nodes[away].host.status().counters.snapshots_installed == 1


def test_a_leader_with_a_slow_disk_is_replaced_and_leads_nothing_until_the_disk_is_well() -> None:
    world = World(shards=4).start()
    slow = world.leader(0)
    node = world.nodes[slow]
    node.disk_ms = 3000
    user = next(n for n in world.node_ids if n != slow)
    Account("write", shards=4).enrol(world, user)
    world.until(lambda: node.host.status().slow_disk and LEADER not in roles(world, slow))
    for number in range(10):
        Account(f"user {number}", shards=4).enrol(world, user)
        world.run(5)
        assert LEADER not in roles(world, slow)
        assert node.host.status().slow_disk
    node.disk_ms = 4
    world.until(lambda: not node.host.status().slow_disk, seconds=20)
    world.until(lambda: LEADER in roles(world, slow), seconds=120, what="leadership is spread")


def behind(monkeypatch: pytest.MonkeyPatch, shards: int = 1) -> tuple[World, SimNode, SimNode]:
    """A world whose logs are cut, its leader of shard 0, and a node that needs snapshots."""
    monkeypatch.setattr("cluster.compaction.LOG_CUT_ENTRIES", 20)
    monkeypatch.setattr("cluster.compaction.LOG_KEEP_ENTRIES", 5)
    world = World(shards=shards).start()
    leader = world.nodes[world.leader(0)]
    away = next(node for node in world.alive if node is not leader)
    away.crash()
    for number in range(12 * shards):
        Account(f"user {number}", number % shards, shards).enrol(world, leader.id)
    world.run(3)
    return world, leader, away


def out_files(node: SimNode) -> list[str]:
    return [name for name in node.files if name.startswith("out-")]


def test_a_short_leader_without_an_heir_builds_no_snapshot_until_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copy could make it full, and then it would not even follow."""
    world, _, away = behind(monkeypatch)
    for node in world.alive:
        node.running.set_room(Room.SHORT)
    away.start()
    away.running.set_room(Room.SHORT)
    world.run(5)
    assert world.leader(0) is not None
    assert [node.running.status().counters.snapshots_built for node in world.alive] == [0] * 5
    for node in world.alive:
        node.running.set_room(Room.ENOUGH)
    world.until(world.settled, seconds=20)
    assert away.running.status().counters.snapshots_installed == 1


def test_a_snapshot_that_would_take_more_than_a_third_of_what_is_free_is_not_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, leader, away = behind(monkeypatch)
    scans = []
    reading = leader.store.reading
    monkeypatch.setattr(leader.store, "reading", lambda: scans.append(1) or reading())
    for node in world.alive:
        node.running._core.ports.files.free_bytes = lambda: 3 * 1_000
    away.start()
    world.run(5)
    assert [out_files(node) for node in world.alive] == [[]] * 5
    if world.leader(0) == leader.id:
        assert len(scans) == 1, "it knows by now that it does not fit"
    alarms = " ".join(alarm for node in world.alive for alarm in node.running.status().alarms)
    assert "make 3 times as much free" in alarms
    for node in world.alive:
        node.running._core.ports.files.free_bytes = lambda: 3 * 100_000
    world.until(world.settled, seconds=20)
    assert away.running.status().counters.snapshots_installed == 1


def test_snapshots_of_many_shards_are_built_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, leader, away = behind(monkeypatch, 4)
    lead(world, leader.id)
    leader.worker_ms = 1_000
    away.start()
    world.until(lambda: out_files(leader), seconds=20)
    world.run(0.9)
    assert len(out_files(leader)) == 1
    leader.worker_ms = 5
    world.until(world.settled, seconds=60)
