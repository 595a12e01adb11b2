"""Copies on their way in take room too: together, and not on a disk that is full (ADR 0011)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from replace_kit import busy, finish, groups, join

from chaos.sim import Account, World
from cluster.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.sim.node import SimNode


@pytest.fixture
def short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.compaction.LOG_CUT_ENTRIES", 20)
    monkeypatch.setattr("cluster.compaction.LOG_KEEP_ENTRIES", 5)


def copies_in(node: SimNode) -> list[str]:
    return [name for name in node.files if name.startswith("in-")]


def left_behind(world: World, shards: int = 1) -> SimNode:
    """A follower that is away while the others go on and cut their logs."""
    for number in range(4 * shards):
        Account(f"user {number}", number % shards, shards).enrol(world, 1)
    away = next(node for node in world.alive if node.id != world.leader())
    away.crash()
    for shard in range(shards):
        busy(world, next(iter(world.alive)).id, shard=shard)
    world.run(3)
    return away


def is_fetched(node: SimNode) -> bool:
    return bool(copies_in(node))


def is_half_written(node: SimNode) -> bool:
    return any(stage.written > 0 for stage in node.running._parts.stager._stages.values())


@pytest.mark.usefixtures("short_logs")
@pytest.mark.parametrize("stage", [is_fetched, is_half_written])
def test_a_node_that_becomes_full_lets_go_of_a_snapshot_on_its_way_in(
    stage: Callable[[SimNode], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.staging.STAGE_RECORDS_PER_BATCH", 1)
    world = World(shards=1).start()
    away = left_behind(world).start()
    world.until(lambda: stage(away))
    away.guard(away.running.set_room, Room.FULL)
    assert copies_in(away) == []
    world.run(5)
    slot = away.running._core.overlay.shards[0].slot
    assert {key[-33] for key in away.store.tables["records"]} <= {slot}
    assert away.running.status().counters.snapshots_installed == 0
    away.guard(away.running.set_room, Room.ENOUGH)
    world.until(world.settled, seconds=70)
    assert away.running.status().counters.snapshots_installed == 1
    assert copies_in(away) == []


@pytest.mark.usefixtures("short_logs")
def test_snapshots_that_fit_one_by_one_but_not_together_come_one_after_the_other() -> None:
    world = World(shards=4).start()
    away = left_behind(world, 4)
    world.fetch_ms = 300
    away.start()
    most = 0
    files = away.running._core.ports.files
    files.free_bytes = lambda: 12_000  # a shard has some 2,200 bytes

    def watch(_node: SimNode, _moment: str, _what: object) -> None:
        nonlocal most
        stages = away.running._parts.stager._stages.values() if away.up else ()
        most = max(most, sum(stage.manifest.size for stage in stages))

    world.moments.append(watch)
    world.until(world.settled, seconds=70)
    assert away.running.status().counters.snapshots_installed >= 3
    assert 0 < 3 * most <= 12_000


def test_a_joiner_that_becomes_full_lets_go_of_ledger_rows_and_asks_again_when_it_has_room() -> (
    None
):
    world = World(shards=1, grace_s=600).start()
    account = Account("user", shards=1).enrol(world, 1)
    world.fetch_ms = 2_000
    new = join(world, 4)
    joiner = world.nodes[new]
    joiner.worker_ms = 1_000
    world.until(lambda: any("ledger" in name for name in copies_in(joiner)), seconds=20)
    joiner.guard(joiner.running.set_room, Room.FULL)
    assert copies_in(joiner) == []
    world.run(10)
    assert copies_in(joiner) == []
    assert not joiner.running._parts.join._shards[0].asked
    joiner.worker_ms = 5
    joiner.guard(joiner.running.set_room, Room.ENOUGH)
    finish(world)
    assert groups(world, new)[0].ledger_complete
    assert joiner.running.ledger_row(account.record_id) is not None


def test_ledger_rows_that_fit_one_by_one_but_not_together_come_one_after_the_other() -> None:
    world = World(shards=4, grace_s=600).start()
    for number in range(20):
        Account(f"user {number}", number % 4, 4).enrol(world, 1)
    world.fetch_ms = 300
    new = join(world, 4)
    joiner = world.nodes[new]
    files = joiner.running._core.ports.files
    files.free_bytes = lambda: 8_000  # a file of rows has some 700 bytes
    sizes: dict[str, int] = {}
    network = joiner.running._core.ports.network
    fetch = network.fetch_snapshot
    most = 0

    def watched(from_node, name, into, *, size, done):  # type: ignore[no-untyped-def]
        nonlocal most
        sizes[into] = size
        most = max(most, sum(sizes.values()))

        def ended(ok: bool) -> None:
            sizes.pop(into)
            done(ok)

        fetch(from_node, name, into, size=size, done=ended)

    network.fetch_snapshot = watched
    finish(world, seconds=600)
    assert 0 < 3 * most <= 8_000
