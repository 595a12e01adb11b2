"""Ledger rows on their way to a node that joins: liars, losses, older and newer files (I1)."""

import hashlib

import msgspec
import pytest
from replace_kit import busy, finish, groups, join, refuse_rows

from chaos.sim import Account, World
from chaos.sim.disk import SimFiles
from chaos.sim.space import TOTAL
from cluster.api import Give, LedgerFull
from cluster.frames import Frame, LedgerAsk, LedgerOffer, decode_frame, encode_frame
from cluster.ledger import NO_ROW, Current, LedgerRow, decode_row, encode_row
from cluster.ledger_join import _Said
from cluster.ledger_rows import Rows, read
from cluster.limits import LEDGER_ANSWER_NS, MAX_LEDGER_BYTES
from cluster.manifest import SnapshotDamagedError
from cluster.proposals import NO_NODE
from cluster.record import Rules
from cluster.room import SHORT_BYTES
from engines.encoding import u32


@pytest.fixture
def world():
    return World(shards=1, grace_s=600).start()


@pytest.fixture
def account(world):
    account = Account("user", shards=1).enrol(world, 1)
    world.applied(1, account.charge(1))
    world.run(0.5)
    return account


def row_of(world, node, account):
    return world.nodes[node].host.ledger_row(account.record_id)


def forge(world, node, account, row):
    """The liar's own store says so; only what it hands out matters here."""
    world.nodes[node].store.tables["ledger"][account.record_id] = row


def files_asked(world, joiner):
    """Who was asked for rows by the joiner, in order."""
    asked = []

    def watch(a, b, frame):
        if a == joiner and any(isinstance(item, LedgerAsk) for item in decode_frame(frame).items):
            asked.append(b)

    world.observe.append(watch)
    return asked


def unbound(row):
    current = row.current
    other = Current(bytes(32), current.birth_era, current.request, current.proof_key)
    return encode_row(LedgerRow(row.floor, other, None, row.ids))


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (unbound, "does not recompute"),
        (lambda row: encode_row(row)[:-1], "the row of record"),
        (lambda row: b"", "the row of record"),
    ],
    ids=["unbound registration", "truncated row", "empty row"],
)
def test_a_seat_whose_rows_no_honest_node_has_is_refused_and_another_one_asked(
    world, account, lie, words
):
    for liar in (1, 2):
        forge(world, liar, account, lie(row_of(world, liar, account)))
    world.nodes[4].crash()
    world.nodes[5].crash()
    new = world.replace(4)
    asked = files_asked(world, new)
    world.nodes[new].start()
    world.run(20)
    alarms = " ".join(world.nodes[new].host.status().alarms)
    assert words in alarms
    assert {1, 2, 3} == set(asked)
    assert not groups(world, new)[0].ledger_complete, "three seats are not there"
    world.nodes[5].start()
    world.run(20)
    assert not groups(world, new)[0].ledger_complete, "two honest seats are not enough"


def test_one_liar_among_four_costs_time_and_nothing_else(world, account):
    honest = row_of(world, 1, account)
    forge(world, 1, account, unbound(honest))
    new = join(world, 4)
    finish(world)
    assert row_of(world, new, account) == honest


def test_a_seat_that_tells_of_fewer_attempts_is_outvoted_by_any_other(world, account):
    honest = row_of(world, 1, account)
    for liar in (1, 2):
        forge(world, liar, account, encode_row(LedgerRow(honest.floor, honest.current, None, ())))
    new = join(world, 4)
    finish(world)
    assert row_of(world, new, account) == honest


def test_a_seat_that_tells_of_more_attempts_denies_shares_and_gives_none(world, account):
    honest = row_of(world, 1, account)
    invented = tuple(account.attempt(number) for number in range(90, 90 + world.limit))
    more = LedgerRow(honest.floor, honest.current, None, honest.ids + invented)
    for liar in (1, 2, 3, 5):
        forge(world, liar, account, encode_row(more))
    new = join(world, 4)
    finish(world)
    verdict = world.nodes[new].host.share_verdict(account.record_id, 1, account.attempt(1))
    assert verdict == LedgerFull()


def test_what_was_charged_while_the_ledger_was_on_its_way_is_in_it_too(world, account):
    """Files of an earlier index: the joiner's own log has the rest."""
    refuse_rows(world)
    world.nodes[4].crash()
    new = world.replace(4)
    world.nodes[new].start()
    world.run(4)
    refuse_rows(world, none=True)
    world.fetch_ms = 3_000
    world.run(6)
    world.applied(1, account.charge(2))
    finish(world, seconds=200)
    ids = set(row_of(world, new, account).ids)
    assert ids == {account.attempt(1), account.attempt(2)}


def test_rows_of_a_later_index_wait_until_the_joiner_has_applied_so_much(world, account):
    """It hears its leader no more, and its peers are ahead of it."""
    refuse_rows(world)
    world.nodes[4].crash()
    new = world.replace(4)
    world.nodes[new].start()
    world.until(lambda: groups(world, new)[0].applied == groups(world, 1)[0].applied, seconds=20)
    world.run(1)
    node = world.nodes[new]
    node.disk_ms = 3_600_000  # nothing more becomes durable there
    world.applied(1, account.charge(2))
    world.run(121)  # files from before the charge are offered no more
    refuse_rows(world, none=True)
    world.run(30)
    assert not groups(world, new)[0].ledger_complete
    joining = node.host._parts.join._shards[0]
    assert len(joining.said) == 3
    assert (
        max(said.index for said in joining.said.values())
        > node.host._core.groups[0].durable_applied
    )
    node.crash()
    node.disk_ms = 4
    node.start()
    finish(world, seconds=200)
    assert set(row_of(world, new, account).ids) == {account.attempt(1), account.attempt(2)}


def test_a_snapshot_between_reading_and_merging_begins_the_merge_anew(world, account, monkeypatch):
    monkeypatch.setattr("cluster.compaction.LOG_CUT_ENTRIES", 20)
    monkeypatch.setattr("cluster.compaction.LOG_KEEP_ENTRIES", 5)
    new = join(world, 4)
    join_ = world.nodes[new].host._parts.join
    world.until(lambda: not join_._shards or join_._shards[0].merging, seconds=20)
    assert join_._shards
    begun = join_._shards[0].begun
    join_.installed(0)
    finish(world)
    assert begun == 1
    assert row_of(world, new, account) == row_of(world, 1, account)


def test_a_snapshot_that_was_read_before_the_merge_does_not_undo_it(world, account, monkeypatch):
    """Its rows were worked out from the joiner's own ones; the merged ones stand by then."""
    monkeypatch.setattr("cluster.compaction.LOG_CUT_ENTRIES", 20)
    monkeypatch.setattr("cluster.compaction.LOG_KEEP_ENTRIES", 5)
    honest = row_of(world, 1, account)
    lost = account.attempt(77)  # in a log that was rolled back; only ledgers still know it
    for node in (1, 2, 3, 5):
        forge(
            world,
            node,
            account,
            encode_row(LedgerRow(honest.floor, honest.current, None, (*honest.ids, lost))),
        )
    refuse_rows(world)
    new = join(world, 4)
    joiner = world.nodes[new]
    world.until(lambda: groups(world, new)[0].applied == groups(world, 1)[0].applied, seconds=20)
    world.run(2)
    world.partition((1, 2, 3, 5), (new,))
    world.applied(1, account.charge(2))
    busy(world, 1)
    world.heal()
    stages = joiner.host._parts.stager._stages
    world.until(lambda: 0 in stages and stages[0].parsed is not None, seconds=20)
    joiner.disk_ms = 8_000  # the merge comes while the snapshot is written
    refuse_rows(world, none=True)
    world.until(lambda: not joiner.host._parts.join._shards, seconds=30)
    joiner.disk_ms = 4
    finish(world)
    assert set(row_of(world, new, account).ids) == {account.attempt(1), account.attempt(2), lost}


def held_fetches(world, node, giver):
    """Ends of fetches from `giver` that wait until the test calls them, as a slow way does."""
    held = []
    network = world.nodes[node].host._core.ports.network
    fetch = network.fetch_snapshot

    def fetch_later(from_node, name, into, *, size, done):
        late = (lambda ok: held.append(lambda: done(ok))) if from_node == giver else done
        fetch(from_node, name, into, size=size, done=late)

    network.fetch_snapshot = fetch_later
    return held


def test_reading_ends_at_the_row_that_is_one_too_many(world, account, monkeypatch):
    """The smallest rows take some 40 bytes of a file, and several times as many of RAM."""
    monkeypatch.setattr("cluster.ledger_rows.MAX_LEDGER_ROWS", 4)
    row = encode_row(NO_ROW)
    rows = b"".join(bytes([n]) * 32 + u32(len(row)) + row for n in range(5))
    data = rows + bytes(32) + b"\xff" * 4  # a row of 4 GiB, if it were reached
    node = world.nodes[1]
    node.files["in"] = data
    offer = LedgerOffer(0, "out", 1, len(data), hashlib.sha256(data).digest())
    rules = Rules(world.shape(1).cluster_id, world.limit)
    with pytest.raises(SnapshotDamagedError, match="more than 4 records"):
        read(SimFiles(node.files, node.space), "in", offer, rules, 1)


def test_a_ledger_of_more_rows_than_a_joiner_takes_is_not_offered(world, account, monkeypatch):
    monkeypatch.setattr("cluster.ledger_rows.MAX_LEDGER_ROWS", 4)
    for number in range(4):
        world.nodes[1].store.tables["ledger"][bytes([number]) * 32] = encode_row(NO_ROW)
    offers = offers_of(world, 1)
    new = join(world, 4)
    finish(world, seconds=150)
    assert offers == []
    alarms = " ".join(world.nodes[1].host.status().alarms)
    assert "its ledger has more than 4 rows, too many for a node that joins" in alarms
    assert row_of(world, new, account) == row_of(world, 2, account)


def test_rows_that_come_while_three_others_are_merged_are_not_merged_with_them(world, account):
    """A row that moves meanwhile is merged anew: from the same three seats."""
    honest = row_of(world, 1, account)
    invented = tuple(account.attempt(number) for number in range(90, 95))
    refuse_rows(world)
    new = join(world, 4)
    world.until(lambda: groups(world, new)[0].applied == groups(world, 1)[0].applied, seconds=20)
    joiner = world.nodes[new]
    joining = joiner.host._parts.join._shards[0]
    late = next(iter(joining.asked.values())).node if joining.asked else 1
    more = LedgerRow(honest.floor, honest.current, None, honest.ids + invented)
    forge(world, late, account, encode_row(more))
    world.run(130)  # what was built before is offered no more
    held = held_fetches(world, new, late)
    refuse_rows(world, none=True)
    world.until(lambda: held, seconds=200)
    joiner.worker_ms = 1_000
    world.until(lambda: joining.merging, seconds=200)
    joiner.worker_ms = 5
    joiner.guard(held[-1])
    world.applied(1, account.charge(2))
    world.until(lambda: account.record_id in joining.touched, seconds=1)
    world.run(0.1)
    assert joining.merging
    assert joining.merged is None
    finish(world)
    assert set(row_of(world, new, account).ids) == {account.attempt(1), account.attempt(2)}


def test_a_proof_empties_the_merged_list_like_any_other(world, account):
    for number in range(world.limit):
        world.applied(1, account.charge(number))
    new = join(world, 4)
    finish(world)
    assert world.applied(1, account.prove(1)).status == "done"
    world.applied(1, account.charge(50, era=2))
    world.run(0.5)
    verdict = world.nodes[new].host.share_verdict(account.record_id, 2, account.attempt(50))
    assert isinstance(verdict, Give)
    assert row_of(world, new, account) == row_of(world, 1, account)


def offers_of(world, node):
    """What the node offers from now on."""
    offers = []

    def watch(a, _b, frame):
        if a == node:
            offers.extend(i for i in decode_frame(frame).items if isinstance(i, LedgerOffer))

    world.observe.append(watch)
    return offers


def ask(world, asker, target, times=1):
    incarnation = world.nodes[asker].host.status().incarnation
    frame = encode_frame(Frame(incarnation, [LedgerAsk(0)] * times))
    world.nodes[target].guard(world.nodes[target].host.on_frame, asker, frame)


def test_a_node_whose_own_ledger_is_not_complete_hands_out_nothing(world, account):
    new = join(world, 4)
    finish(world)
    refuse_rows(world)
    newer = join(world, 5)
    world.run(5)
    offers = offers_of(world, newer)
    ask(world, new, newer)
    world.run(1)
    assert offers == []


def test_an_offer_that_was_not_asked_for_is_not_fetched(world, account):
    refuse_rows(world)
    new = join(world, 4)
    world.run(5)
    fetched = []
    world.refuse_file = lambda node, name: bool(fetched.append((node, name))) or True
    incarnation = world.nodes[5].host.status().incarnation
    offers = [LedgerOffer(0, f"out-ledger-0-{n}", 1, 1, bytes(32)) for n in range(3)]
    asked = {asked.node for asked in world.nodes[new].host._parts.join._shards[0].asked.values()}
    assert 5 not in asked
    frame = encode_frame(Frame(incarnation, offers))
    world.nodes[new].guard(world.nodes[new].host.on_frame, 5, frame)
    world.run(0.2)
    assert fetched == []


def test_a_merged_ledger_serves_the_next_joiner(world, account):
    for old in (1, 2, 3):
        join(world, old)
        finish(world)
    world.nodes[5].crash()
    new = join(world, 4)
    world.run(20)
    assert groups(world, new)[0].ledger_complete
    assert row_of(world, new, account).ids == (account.attempt(1),)


def test_the_ledger_s_sum_still_fits_after_a_merge(world, account):
    busy(world, 1, 5)
    new = join(world, 4)
    finish(world)
    assert decode_row(world.nodes[new].store.tables["ledger"][account.record_id])
    world.nodes[new].crash()
    world.nodes[new].start()
    finish(world)


def test_a_joiner_that_finds_too_few_complete_ledgers_says_so(world, account):
    for node in (4, 5):
        world.nodes[node].crash()
    forge(world, 1, account, unbound(row_of(world, 1, account)))
    new = world.replace(4)
    world.nodes[new].start()
    world.run(90)
    alarms = [a for a in world.nodes[new].host.status().alarms if "bring another node back" in a]
    assert len(alarms) == 1
    assert "needs the ledgers of 3 other seats; it has those of 2, 3 and" in alarms[0]
    world.nodes[5].start()
    finish(world)
    assert row_of(world, new, account) == row_of(world, 2, account)


def test_a_link_that_comes_and_goes_during_the_transfer_costs_time_alone(world, account):
    world.fetch_ms = 700
    world.nodes[4].crash()
    new = world.replace(4)
    world.nodes[new].start()
    for _ in range(8):
        world.partition((1, 2, 3, 5), (new,))
        world.run(0.2)
        world.heal()
        world.run(1.1)
    finish(world)
    assert not [a for a in world.nodes[new].host.status().alarms if "refused" in a]


def tampered(world, liar, change):
    """What the liar says of its rows goes through `change` on its way; None is silence."""
    carry = world.carry

    def lying(a, b, frame):
        if a != liar:
            return carry(a, b, frame)
        said = decode_frame(frame)
        items = [change(item) if isinstance(item, LedgerOffer) else item for item in said.items]
        kept = [item for item in items if item is not None]
        return carry(a, b, encode_frame(Frame(said.incarnation, kept)))

    world.carry = lying


@pytest.mark.parametrize(
    "change",
    [
        lambda _offer: None,
        lambda offer: msgspec.structs.replace(offer, index=10**9),
        lambda offer: msgspec.structs.replace(offer, name="out-ledger-0-none"),
        lambda offer: msgspec.structs.replace(offer, size=offer.size + 1),
        lambda offer: msgspec.structs.replace(offer, size=2**62),
        lambda offer: msgspec.structs.replace(offer, size=MAX_LEDGER_BYTES + 1),
        lambda offer: msgspec.structs.replace(offer, sha256=bytes(32)),
    ],
    ids=[
        "silence",
        "an index of the far future",
        "no such file",
        "size",
        "endless",
        "too large",
        "digest",
    ],
)
@pytest.mark.parametrize("liar", [1, 2, 3, 5])
def test_no_single_seat_can_keep_a_joiner_from_completing(world, account, liar, change):
    tampered(world, liar, change)
    new = join(world, 4)
    finish(world, seconds=150)
    assert row_of(world, new, account) == row_of(world, liar, account)


def test_a_seat_without_room_is_not_waited_for_while_another_has_some(world, account):
    """It says nothing to who asks, and was waited for a minute."""
    world.nodes[1].space.free = SHORT_BYTES // 2
    world.run(2)
    new = world.replace(4)
    asked = files_asked(world, new)
    world.nodes[new].start()
    finish(world, seconds=15)
    assert sorted(asked) == [2, 3, 5]


def test_seats_that_have_room_again_are_heard_of_soon(world, account):
    """What is asked in vain, or lost on its way, is asked again; it was waited for a minute."""
    for node in (1, 2):
        world.nodes[node].space.free = SHORT_BYTES // 2
    world.run(2)
    join(world, 4)
    world.run(3)
    for node in (1, 2):
        world.nodes[node].space.free = TOTAL
    finish(world, seconds=15)


def test_a_minute_without_a_leader_or_a_snapshot_is_not_held_against_seats_that_are_ahead(
    world, account
):
    refuse_rows(world)
    new = join(world, 4)
    host = world.nodes[new].host
    join_, now = host._parts.join, host._core.now()
    joining, applied = join_._shards[0], host._core.groups[0].durable_applied
    rows = Rows()
    joining.said = {
        1: _Said(applied, rows, now - LEDGER_ANSWER_NS),
        2: _Said(applied + 10, rows, now - LEDGER_ANSWER_NS),
    }
    join_.installed(0)
    join_._drop_ahead(0, joining, applied, now)
    assert set(joining.said) == {1, 2}
    later = now + LEDGER_ANSWER_NS
    join_._drop_ahead(0, joining, applied, later)
    assert set(joining.said) == {1}
    assert joining.not_before[2] > now
    host._core.groups[0].leader, joining.behind_at = NO_NODE, 0
    join_.on_time(later)
    assert joining.behind_at == later
