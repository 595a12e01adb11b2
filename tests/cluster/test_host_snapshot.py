"""Logs are cut, and who fell behind comes back by snapshot with its own ledger (I1, I3, I8)."""

import pytest

from chaos.sim import MS, Account, World
from cluster import limits
from cluster.ledger import LedgerRow, decode_row


@pytest.fixture
def short_logs(monkeypatch):
    """Cut early, so that a few dozen commands are enough."""
    monkeypatch.setattr("cluster.compaction.LOG_CUT_ENTRIES", 20)
    monkeypatch.setattr("cluster.compaction.LOG_KEEP_ENTRIES", 5)


def busy(world, account, numbers, node=None):
    for number in numbers:
        world.applied(node or world.leader(), account.charge(number))


def left_behind(world, account, count=60):
    """A follower that is away while the others go on and cut their logs."""
    away = next(node for node in world.alive if node.id != world.leader())
    away.crash()
    busy(world, account, range(10, 10 + count))
    world.run(3)
    last = [node.host.status().groups[0].first_index for node in world.alive]
    assert min(last) > 20
    return away


@pytest.mark.usefixtures("short_logs")
def test_a_node_away_until_the_log_was_cut_comes_back_by_snapshot():
    world = World(limit=100).start()
    account = Account("user").enrol(world, 1)
    quiet = Account("quiet").enrol(world, 1)
    world.applied(1, quiet.charge(1))
    away = left_behind(world, account)
    away.start()
    world.until(lambda: away.host.status().counters.snapshots_installed == 1)
    world.until(world.settled)
    assert len(world.state_hashes()) == 1
    world.run(0.3)
    ids = set(away.host.ledger_row(account.record_id).ids)
    assert ids == set(away.host.view(account.record_id)[0].attempts)
    assert len(ids) == 60
    assert away.host.ledger_row(quiet.record_id).ids == (quiet.attempt(1),)
    busy(world, account, [90])
    world.until(world.settled)
    away.crash()
    away.start()  # count, hash and ledger totals are recomputed and match
    world.until(lambda: away.host.status().stepping)


@pytest.mark.usefixtures("short_logs")
def test_a_node_comes_back_by_snapshot_under_load():
    world = World(limit=100, seed=5).start()
    account = Account("user").enrol(world, 1)
    away = left_behind(world, account)
    away.start()
    results = []
    users = [Account(f"load {n}") for n in range(200)]

    def more():
        if users:
            node = world.random.choice(world.alive)
            node.host.propose(users.pop().register(), timeout_s=8, done=results.append)
            world.at(7 * MS, more)

    more()
    world.until(lambda: len(results) == 200)
    world.until(lambda: away.host.status().counters.snapshots_installed >= 1)
    world.until(world.settled)
    assert len(world.state_hashes()) == 1


@pytest.mark.usefixtures("short_logs")
def test_two_that_need_a_snapshot_at_once_get_the_same_one_at_once():
    """The second one's ask may come while it is built: a new file would take the first away."""
    world = World(limit=100).start()
    account = Account("user").enrol(world, 1)
    away = [node for node in world.alive if node.id != world.leader()][:2]
    for node in away:
        node.crash()
    busy(world, account, range(10, 70))
    world.run(3)
    leader = world.nodes[world.leader()].host
    for node in away:
        node.start()
    sender = leader._parts.sender
    world.until(lambda: bool(sender._going), seconds=20)
    sender._build(0)  # as for an ask that was noted before the offer was there
    world.until(
        lambda: all(node.host.status().counters.snapshots_installed for node in away), seconds=5
    )
    world.until(world.settled)
    counters = leader.status().counters
    assert (counters.snapshots_built, counters.snapshots_failed) == (1, 0)


@pytest.mark.usefixtures("short_logs")
def test_a_file_that_was_taken_back_while_it_was_fetched_is_no_stall():
    world = World(limit=100).start()
    account = Account("user").enrol(world, 1)
    away = left_behind(world, account)
    leader = world.nodes[world.leader()].host
    away.start()
    sender = leader._parts.sender
    world.until(lambda: bool(sender._going), seconds=20)
    sender._withdraw(0)
    world.until(lambda: away.host.status().counters.snapshots_installed == 1, seconds=5)
    assert leader.status().counters.snapshots_failed == 1


@pytest.mark.usefixtures("short_logs")
def test_a_snapshot_moves_the_ledger_by_its_rule_and_never_replaces_it():
    world = World(limit=80).start()
    account = Account("user").enrol(world, 1)
    gone = Account("gone").enrol(world, 1)
    proven = Account("proven").enrol(world, 1)
    for user in (gone, proven):
        world.applied(1, user.charge(1))
    world.run(1)
    away = left_behind(world, account)
    assert decode_row(away.store.tables["ledger"][proven.record_id]).ids
    world.applied(world.leader(), gone.delete(1))
    world.applied(world.leader(), proven.prove(1))
    busy(world, account, [1, 2, 3])
    world.run(3)
    away.start()
    world.until(lambda: away.host.status().counters.snapshots_installed == 1)
    world.until(world.settled)
    world.run(0.3)
    assert away.host.ledger_row(gone.record_id) == LedgerRow(2, None, None, ())
    row = away.host.ledger_row(proven.record_id)
    assert row.ids == ()
    assert row.proved.era == 1


@pytest.mark.usefixtures("short_logs")
def test_a_forged_row_in_the_ledger_is_not_forgotten_by_a_snapshot():
    """What this node gave stays given, whatever the cluster says of it later."""
    from cluster import statehash
    from cluster.ledger import encode_row
    from cluster.tables import LedgerTotals, decode_totals
    from cluster.tables import encode_row as encode_meta

    world = World(limit=80).start()
    account = Account("user").enrol(world, 1)
    victim = Account("victim").enrol(world, 1)
    world.applied(1, victim.charge(1))
    world.run(1)
    away = left_behind(world, account)
    rows = away.store.tables["ledger"]
    old = rows[victim.record_id]
    row = decode_row(old)
    extra = LedgerRow(row.floor, row.current, None, (*row.ids, b"\x77" * 32))
    totals = decode_totals(away.store.tables["meta"][b"ledger"])
    state = statehash.replace(
        statehash.decode_hash(totals.hash), victim.record_id, old, encode_row(extra)
    )
    rows[victim.record_id] = encode_row(extra)
    away.store.tables["meta"][b"ledger"] = encode_meta(
        LedgerTotals(totals.rows, statehash.encode_hash(state))
    )
    away.start()
    world.until(lambda: away.host.status().counters.snapshots_installed == 1)
    world.run(0.5)
    assert b"\x77" * 32 in away.host.ledger_row(victim.record_id).ids


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:],
        lambda _data: b"",
        lambda data: data + data[:100],
    ],
    ids=["short", "flipped", "empty", "long"],
)
@pytest.mark.usefixtures("short_logs")
def test_a_damaged_snapshot_is_dropped_and_asked_for_again(damage):
    world = World(limit=100).start()
    account = Account("user").enrol(world, 1)
    away = left_behind(world, account)
    world.spoil_once = damage
    away.start()
    world.until(lambda: away.host.status().counters.snapshots_failed == 1, seconds=90)
    world.until(lambda: away.host.status().counters.snapshots_installed == 1, seconds=90)
    world.until(world.settled)
    assert len(world.state_hashes()) == 1


@pytest.mark.usefixtures("short_logs")
def test_a_receiver_killed_while_staging_starts_over(monkeypatch):
    monkeypatch.setattr("cluster.staging.STAGE_RECORDS_PER_BATCH", 3)
    world = World(limit=100).start()
    account = Account("user").enrol(world, 1)
    for number in range(20):
        world.applied(1, Account(f"other {number}").register())
    away = left_behind(world, account)
    for _ in range(3):
        away.start()
        world.until(lambda: len([k for k in away.store.tables["records"] if k[2] == 1]) >= 6)
        away.crash()
    away.start()
    world.until(lambda: away.host.status().counters.snapshots_installed == 1)
    world.until(world.settled)
    assert len(world.state_hashes()) == 1
    world.run(1)
    assert {key[2] for key in away.store.tables["records"] if key[:2] == b"\0\0"} == {1}
    assert away.files == {}


@pytest.mark.usefixtures("short_logs")
def test_the_leader_may_die_while_its_snapshot_is_fetched():
    world = World(limit=100).start()
    world.fetch_ms = 500
    account = Account("user").enrol(world, 1)
    away = left_behind(world, account)
    away.start()
    world.until(lambda: away.host.status().groups[0].catching_up)
    world.nodes[world.leader()].crash()
    world.until(lambda: away.host.status().counters.snapshots_installed == 1, seconds=120)
    world.until(world.settled)
    assert len(world.state_hashes()) == 1


@pytest.mark.usefixtures("short_logs")
def test_a_command_that_a_snapshot_jumped_over_is_proposed_again_and_says_so():
    world = World(limit=100).start()
    account = Account("user").enrol(world, 1)
    leader = world.leader()
    follower = next(node for node in world.alive if node.id != leader)
    carry = world.carry
    # The follower can speak and is not heard back: its command is appended, its log falls behind.
    world.carry = lambda a, b, frame: True if b == follower.id else carry(a, b, frame)
    results = world.propose(follower.id, account.charge(1), timeout_s=8)
    world.run(0.5)
    leader = world.leader()
    busy(world, account, range(10, 50), node=leader)
    world.run(1.5)
    world.carry = carry
    world.until(lambda: results, seconds=10)
    assert results[0].jumped
    assert results[0].outcome.status == "replayed"
    assert follower.host.status().counters.snapshots_installed == 1


@pytest.mark.usefixtures("short_logs")
def test_the_log_behind_a_snapshot_under_way_is_kept():
    world = World(limit=100).start()
    world.fetch_ms = 3000
    account = Account("user").enrol(world, 1)
    away = left_behind(world, account)
    away.start()
    world.until(lambda: away.host.status().groups[0].catching_up)
    users = [Account(f"load {n}") for n in range(60)]
    for user in users:
        world.applied(world.leader(), user.register())
    world.until(lambda: away.host.status().counters.snapshots_installed == 1)
    world.until(world.settled)
    assert away.host.status().counters.snapshots_installed == 1  # the log reached back to it
    world.run(70)
    groups = [node.host.status().groups[0] for node in world.alive]
    assert all(group.last_index - group.first_index <= 20 for group in groups)


@pytest.mark.usefixtures("short_logs")
def test_a_ledger_row_that_was_not_durable_while_staging_is_not_lost(monkeypatch):
    monkeypatch.setattr("cluster.durability.LAZY_PUTS_NS", 3600 * limits.SECOND)
    world = World(limit=100).start()
    account = Account("user").enrol(world, 1)
    victim = Account("victim").enrol(world, 1)
    follower = next(node for node in world.alive if node.id != world.leader())
    world.applied(world.leader(), victim.charge(1))
    changed = follower.host._core.overlay.ledger_changed
    world.until(lambda: victim.record_id in changed)
    row, data = changed[victim.record_id]
    extra = LedgerRow(row.floor, row.current, None, (*row.ids, b"\x77" * 32))
    follower.host._core.overlay.put_row(victim.record_id, extra, data)
    world.partition([follower.id], [n for n in world.node_ids if n != follower.id])
    busy(world, account, range(10, 60))
    world.run(3)
    assert victim.record_id in follower.host._core.overlay.ledger_changed
    world.heal()
    world.until(lambda: follower.host.status().counters.snapshots_installed == 1)
    world.run(0.5)
    assert b"\x77" * 32 in follower.host.ledger_row(victim.record_id).ids


@pytest.mark.usefixtures("short_logs")
def test_a_log_is_cut_by_size_on_every_node_and_on_disk():
    world = World(limit=100).start()
    account = Account("user").enrol(world, 1)
    busy(world, account, range(60))
    world.run(3)
    for node in world.alive:
        report = node.host.status().groups[0]
        assert report.last_index - report.first_index <= 20
        on_disk = [key for key in node.store.tables["log"] if key[:2] == b"\0\0"]
        assert len(on_disk) == report.last_index - report.first_index + 1


@pytest.mark.parametrize("how", ["activate", "delete", "expire"])
def test_erased_bytes_leave_every_log_in_time_also_in_silence(how, monkeypatch):
    monkeypatch.setattr("cluster.compaction.ERASE_NS", 30 * limits.SECOND)
    world = World(grace_s=2.0, limit=2).start()
    account = Account("user")
    world.applied(1, account.register())
    world.applied(1, account.activate())
    if how == "delete":
        world.applied(1, account.delete(1))
    if how == "expire":
        world.applied(1, account.charge(1))
        world.applied(1, account.charge(2))
        world.until(lambda: world.nodes[1].host.view(account.record_id)[0].locked, seconds=30)
    sealed = b"\x01" * 400
    assert any(sealed in value for value in world.nodes[1].store.tables["log"].values())
    world.run(31.5)
    for node in world.alive:
        assert not any(sealed in value for value in node.store.tables["log"].values())
        assert how == "activate" or not any(
            sealed in value for value in node.store.tables["records"].values()
        )


def test_erased_bytes_leave_the_log_also_when_the_node_restarts_before(monkeypatch):
    monkeypatch.setattr("cluster.compaction.ERASE_NS", 30 * limits.SECOND)
    world = World().start()
    account = Account("user").enrol(world, 1)
    world.applied(1, account.delete(1))
    world.run(20)
    node = world.nodes[1]
    node.crash()
    node.start()
    world.run(33)
    assert not any(b"\x01" * 400 in value for value in node.store.tables["log"].values())


def test_the_bound_on_erased_bytes_is_below_ten_minutes():
    assert limits.ERASE_NS + 30 * limits.SECOND < 600 * limits.SECOND
