"""Holes that the bug bank showed: each of these bugs was put back and no check complained."""

from chaos.sim import SECOND, Account, World
from chaos.sim.disk import SimFiles
from chaos.sim.space import SimSpace
from cluster.frames import RaftMessages, decode_frame
from cluster.grace import Grace
from cluster.limits import MAX_ELECTION_TICKS
from cluster.manifest import build
from cluster.ports import Batch
from cluster.tables import GroupRow, decode_group, encode_row, group_key, log_key

PRE_VOTE, VOTE = 17, 5


def test_grace_that_passed_in_an_earlier_era_does_not_count_for_a_list_full_again():
    class Full:
        full = ({b"record": 1},)

    machine = Full()
    grace = Grace(5.0, machine, shards=1)
    assert [grace.pass_time(0, SECOND) for _ in range(5)] == [[]] * 5
    machine.full = ({b"record": 2},)
    assert [grace.pass_time(0, SECOND) for _ in range(5)] == [[]] * 5
    assert grace.pass_time(0, SECOND) == [(b"record", 2)]


def asked_for_votes(world, node):
    """Pre-votes and votes that the node asks for from now on."""
    asked = []

    def watch(sender, _receiver, payload):
        for item in decode_frame(payload).items:
            if sender == node and isinstance(item, RaftMessages):
                for _, message in item.messages:
                    kind = world.nodes[node].host._core.raft.peek(message)[0]
                    asked.extend([kind] if kind in (PRE_VOTE, VOTE) else [])

    world.observe.append(watch)
    return asked


def test_a_clock_that_jumps_a_minute_is_one_tick_for_every_node():
    world = World().start()
    Account("user").enrol(world, 1)
    world.run(5)
    leaders = [world.leader(shard) for shard in range(world.shards)]
    for node in world.nodes.values():
        asked = asked_for_votes(world, node.id)
        node.clock.jump(MAX_ELECTION_TICKS * 50_000_000 * 20)
        world.run(1)
        assert not asked, f"node {node.id}"
        assert [world.leader(shard) for shard in range(world.shards)] == leaders


def test_a_snapshot_carries_the_index_that_its_records_are_applied_to_not_the_commit():
    world = World().start()
    Account("user").enrol(world, 1)
    store = world.nodes[1].store
    row = decode_group(store.get("group", group_key(0)))
    ahead = GroupRow(
        **{name: getattr(row, name) for name in row.__struct_fields__} | {"commit": row.commit + 3}
    )
    batch = Batch()
    batch.put("group", group_key(0), encode_row(ahead))
    store.apply(batch)
    manifest, _ = build(store, SimFiles({}, SimSpace({})), 0, "out")
    assert (manifest.index, manifest.term) == (row.applied, row.applied_term)


def test_nothing_stays_on_disk_behind_an_entry_that_replaces_another():
    world = World(shards=1).start()
    account = Account("user", 0, 1).enrol(world, 1)
    old = world.nodes[world.leader()]
    others = [node for node in world.node_ids if node != old.id]
    world.partition((old.id,), others)
    for number in range(4):
        world.propose(old.id, account.charge(number))
        world.run(0.05)
    tail = old.host._core.groups[0].last_index
    world.until(lambda: world.leader() not in (None, old.id), what="another leader")
    replaced = []

    def watch(node, moment, _what):
        last = node.host._core.groups[0].last_index
        if node is old and moment == "durable" and last < tail:
            replaced.append(last)
            assert old.store.get("log", log_key(0, last + 1)) is None

    world.moments.append(watch)
    world.heal()
    world.until(world.settled)
    assert replaced
