"""What the host counts for metrics: records by state, lockouts, leader changes, refused moves."""

from __future__ import annotations

import pytest
from forger import Forger

from chaos.sim import Account, World
from cluster.record import RecordState, no_records

LIMIT = 3


def report(world, node=2, shard=0):
    return world.nodes[node].host.status().groups[shard]


def counters(world, node):
    return world.nodes[node].host.status().counters


def counted(**states):
    return no_records() | {RecordState(name): count for name, count in states.items()}


def test_records_are_counted_by_state_through_every_change_and_again_from_the_disk():
    world = World(shards=1, limit=LIMIT, grace_s=5.0).start()
    assert report(world).states == counted()
    kept, spent, gone, begun = (Account(n, shards=1) for n in ("kept", "spent", "gone", "begun"))
    for account in (kept, spent, gone):
        account.enrol(world, 1)
    world.applied(1, begun.register())
    for number in range(LIMIT):
        world.applied(1, spent.charge(number))
    world.applied(1, gone.delete(1))
    world.until(world.settled)
    before = counted(active=1, exhausted=1, none=2)
    assert [report(world, node).states for node in world.nodes] == [before] * 5
    world.until(lambda: report(world, 3).states == counted(active=1, locked=1, none=2), seconds=10)
    world.until(world.settled)
    world.nodes[3].crash()
    world.nodes[3].start()
    world.until(world.settled)
    assert report(world, 3).states == counted(active=1, locked=1, none=2)
    assert sum(report(world, 3).states.values()) == report(world, 3).records
    assert [counters(world, node).lockouts for node in (1, 2, 4, 5)] == [1, 1, 1, 1]


def test_a_snapshot_brings_the_counts_of_its_records(monkeypatch):
    monkeypatch.setattr("cluster.compaction.LOG_CUT_ENTRIES", 20)
    monkeypatch.setattr("cluster.compaction.LOG_KEEP_ENTRIES", 5)
    world = World(shards=1, limit=100).start()
    away = next(node for node in world.alive if node.id != world.leader())
    away.crash()
    account = Account("user", shards=1).enrol(world, world.leader())
    for number in range(60):
        world.applied(world.leader(), account.charge(number))
    world.run(3)
    away.start()
    world.until(lambda: away.host.status().counters.snapshots_installed == 1)
    world.until(world.settled)
    assert report(world, away.id).states == counted(active=1)


def test_a_new_leader_is_counted_by_everybody_who_sees_it():
    world = World(shards=1).start()
    world.until(world.settled)
    before = {node.id: report(world, node.id).leader_changes for node in world.alive}
    leader = world.leader()
    world.nodes[leader].crash()
    world.until(world.led)
    world.until(world.settled)
    after = {node.id: report(world, node.id).leader_changes for node in world.alive}
    assert leader not in after
    assert all(count > before[node] for node, count in after.items())


@pytest.mark.parametrize(("charges", "violations"), [(LIMIT, 0), (LIMIT + 1, 1)])
def test_a_log_that_charges_more_than_the_limit_is_a_violation_and_names_no_account(
    charges, violations
):
    world = World(seed=9, shards=1, limit=LIMIT).start()
    account = Account("victim", shards=1).enrol(world, 2)
    world.run(2)
    world.until(world.settled)
    liar = Forger(world, 1)
    record = world.nodes[3].host.view(account.record_id)[0]
    # The owned leader has the record's list emptied by a snapshot, and fills it once more.
    liar.commit(3, *(account.charge(50 + n) for n in range(LIMIT)))
    assert counters(world, 3).budget_violations == 0
    if charges > LIMIT:
        assert liar.install(3, {account.record_id: record})
        liar.commit(3, account.charge(90))
    assert counters(world, 3).budget_violations == violations
    assert account.record_id.hex() not in liar.alarms(3)
    assert ("the ledger of this node refused" in liar.alarms(3)) is bool(violations)
