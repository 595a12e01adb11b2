"""Files of ledger rows on the disks of those who give them: few, wanted, and only with room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from replace_kit import finish, groups, is_done, join, refuse_rows

from chaos.sim import Account, World
from cluster.limits import LEDGER_SHARDS_AT_ONCE
from cluster.room import Room

if TYPE_CHECKING:
    from cluster.types import NodeId


def rows_files(world: World, node: int) -> list[str]:
    return [name for name in world.nodes[node].files if name.startswith("out-ledger-")]


def counted(world: World) -> tuple[dict[int, int], set[str]]:
    """The most such files at once, by node, and the names of all that ever were; from now on."""
    most: dict[int, int] = {}
    names: set[str] = set()

    def watch(node, _moment, _what):  # type: ignore[no-untyped-def]
        files = rows_files(world, node.id) if node.id in world.nodes else []
        most[node.id] = max(most.get(node.id, 0), len(files))
        names.update(f"{node.id} {name}" for name in files)

    world.moments.append(watch)
    return most, names


def ask(world: World, asker: int, giver: int, shards: int) -> None:
    host = world.nodes[giver].running
    for shard in range(shards):
        host._parts.ledger_giver.asked(host._core.peers[asker], shard, world.now)


def incomplete(world: World, old: int) -> NodeId:
    """A member whose ledger is not complete and never will be."""
    refuse_rows(world)
    new = join(world, old)
    world.run(3)
    return new


def cut_off(world: World, node: int) -> None:
    """…and what it asked for has gone."""
    world.partition([other for other in world.node_ids if other != node], [node])
    world.run(130)
    assert [rows_files(world, each) for each in world.node_ids] == [[]] * 5


def test_no_file_is_built_for_a_founder_or_while_room_is_short() -> None:
    """A founder's ledger is complete: it asks to fill our disk. The last room is not for copies."""
    world = World(shards=1, grace_s=600).start()
    new = incomplete(world, 4)
    cut_off(world, new)
    giver = world.nodes[2]
    ask(world, 1, 2, 1)
    world.run(0.5)
    giver.guard(giver.running.set_room, Room.SHORT)
    ask(world, new, 2, 1)
    world.run(0.5)
    assert rows_files(world, 2) == []
    giver.guard(giver.running.set_room, Room.ENOUGH)
    ask(world, new, 2, 1)
    world.run(0.5)
    assert len(rows_files(world, 2)) == 1


def test_asking_often_builds_one_file_that_goes_when_its_time_is_over() -> None:
    world = World(shards=1, grace_s=600).start()
    new = incomplete(world, 4)
    cut_off(world, new)
    _, names = counted(world)
    for _ in range(20):
        for _ in range(50):
            ask(world, new, 2, 1)
        world.run(1)
    assert len(rows_files(world, 2)) == 1
    world.run(130)
    assert rows_files(world, 2) == []
    assert len(names) == 1


def test_a_join_of_many_shards_has_few_files_at_once_on_each_giver() -> None:
    world = World(shards=8, grace_s=600).start()
    most, _ = counted(world)
    new = join(world, 4)
    finish(world)
    assert 0 < max(most.values()) <= LEDGER_SHARDS_AT_ONCE
    assert all(group.ledger_complete for group in groups(world, new))
    assert [rows_files(world, node) for node in world.node_ids] == [[]] * 5


def test_an_asker_that_is_never_done_has_few_files_and_few_scans_of_the_ledger() -> None:
    world = World(shards=16, grace_s=600).start()
    new = incomplete(world, 4)
    most, names = counted(world)
    for _ in range(240):
        ask(world, new, 1, 16)
        world.run(1)
    assert most[1] == LEDGER_SHARDS_AT_ONCE
    assert len([name for name in names if name.startswith("1 ")]) <= 3 * LEDGER_SHARDS_AT_ONCE


def test_who_said_once_that_its_ledger_is_complete_gets_no_file_whatever_it_says_later() -> None:
    world = World(shards=1, grace_s=600).start()
    new = join(world, 4)
    finish(world)
    ask(world, new, 1, 1)
    world.nodes[1].running._core.peers[new].ledger = b""
    ask(world, new, 1, 1)
    world.run(0.2)
    assert rows_files(world, 1) == []


def test_a_file_from_before_the_asker_was_a_member_does_not_answer_it() -> None:
    """The node that it replaces gave shares since, which are perhaps in no log."""
    world = World(shards=1, grace_s=600).start()
    first = incomplete(world, 4)
    ask(world, first, 1, 1)
    world.run(1)
    (old,) = rows_files(world, 1)
    ask(world, first, 1, 1)
    world.run(1)
    assert rows_files(world, 1) == [old]
    second = join(world, 5)
    world.run(3)
    ask(world, second, 1, 1)
    world.run(1)
    (new,) = rows_files(world, 1)
    assert new != old


def test_a_build_that_fails_leaves_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.ledger_rows.MAX_LEDGER_ROWS", 2)
    world = World(shards=1, grace_s=600).start()
    for number in range(3):
        Account(f"user {number}", shards=1).enrol(world, 1)
    join(world, 4)
    world.until(lambda: any(node.running.status().alarms for node in world.alive), seconds=20)
    world.run(1)
    assert [rows_files(world, node) for node in world.node_ids] == [[]] * 5


def test_no_file_is_begun_that_would_take_more_than_a_third_of_what_is_free() -> None:
    world = World(shards=1, grace_s=600).start()
    for number in range(3):
        Account(f"user {number}", shards=1).enrol(world, 1)
    giver = world.nodes[1]
    giver.running._core.ports.files.free_bytes = lambda: 3 * 434
    new = incomplete(world, 4)
    most, names = counted(world)
    ask(world, new, 1, 1)
    world.run(0.5)
    assert rows_files(world, 1) == []
    assert "make 3 times as much free" in " ".join(giver.running.status().alarms)
    tried = len(names)
    ask(world, new, 1, 1)
    world.run(0.5)
    assert len(names) == tried, "it knows by now, and does not read the whole ledger for it"
    giver.running._core.ports.files.free_bytes = lambda: 3 * 435
    ask(world, new, 1, 1)
    world.run(0.5)
    assert len(rows_files(world, 1)) == 1
    assert most[1] == 1


def test_a_queued_build_is_not_begun_when_room_has_become_short() -> None:
    world = World(shards=4, grace_s=600).start()
    new = incomplete(world, 4)
    giver = world.nodes[1]
    cut_off(world, new)
    giver.worker_ms = 500
    ask(world, new, 1, 4)
    giver.guard(giver.running.set_room, Room.SHORT)
    world.run(5)
    assert len(rows_files(world, 1)) <= 1, "the one that was begun"


def test_rows_of_givers_that_build_for_longer_than_an_answer_may_take_are_used() -> None:
    world = World(shards=2, grace_s=600).start()
    account = Account("user", shards=2).enrol(world, 1)
    for node in world.node_ids:
        world.nodes[node].worker_ms = 70_000
    new = join(world, 4)
    world.nodes[new].worker_ms = 5
    world.until(lambda: is_done(world), seconds=400, what="the book is fulfilled")
    assert world.nodes[new].running.ledger_row(account.record_id) is not None
