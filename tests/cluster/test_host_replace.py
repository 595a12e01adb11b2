"""Replacing a node in the simulated world: what follows, what may go wrong, what must not."""

import pytest
from replace_kit import busy, finish, gives, groups, join, lead, refuse_rows

from chaos.sim import CLUSTER, SECOND, Account, SimStore, World
from chaos.sim.book import Book
from cluster.api import NotAGiver, Unknown
from cluster.boot import BootRefused
from cluster.commands import Barrier
from cluster.elections import slot_ticks
from cluster.frames import HashPoint
from cluster.hashes import Hashes
from cluster.leading import Offered
from cluster.limits import MIN_ELECTION_TICKS
from cluster.stamp import enrolment
from cluster.types import Seat
from engines._engines import encode_conf_change
from engines.encoding import u64


@pytest.fixture
def world():
    return World(shards=2).start()


@pytest.fixture
def cut(monkeypatch):
    """Logs are cut soon, so that whoever was away needs a snapshot."""
    monkeypatch.setattr("cluster.compaction.LOG_CUT_ENTRIES", 20)
    monkeypatch.setattr("cluster.compaction.LOG_KEEP_ENTRIES", 5)


def test_a_dead_node_is_replaced_and_its_successor_votes_and_gives(world):
    account = Account("user").enrol(world, 1)
    world.applied(1, account.charge(1))
    new = join(world, 4)
    finish(world)
    assert new == 6
    assert world.node_ids == (1, 2, 3, 5, 6)
    world.applied(1, account.charge(2))
    world.run(1)
    assert gives(world, new, account, 1)
    assert gives(world, new, account, 2)
    assert len(world.state_hashes()) == 1
    seats = {giver.seat for giver in world.nodes[1].host.share_givers(0)}
    assert seats == {1, 2, 3, 4, 5}
    for dead in (1, 2):
        world.nodes[dead].crash()
    world.until(world.led)
    world.applied(new, account.charge(3))


def test_the_successor_comes_by_a_snapshot_where_the_log_is_cut(world, cut):
    account = Account("user").enrol(world, 1)
    world.applied(1, account.charge(1))
    busy(world, 1)
    world.run(3)
    assert all(groups(world, node)[0].first_index > 2 for node in world.node_ids)
    new = join(world, 4)
    finish(world)
    assert world.nodes[new].host.status().counters.snapshots_installed >= 1
    assert gives(world, new, account, 1)
    assert groups(world, new)[0].revision == 1
    assert len(world.state_hashes()) == 1


def test_a_living_node_that_is_replaced_stops_with_one_line(world):
    new = world.replace(4)
    assert world.machines[4].stopped.startswith("node 4 was replaced by node 6")
    assert "destroy its HSM keys" in world.machines[4].stopped
    world.nodes[new].start()
    finish(world)
    with pytest.raises(BootRefused, match="node 4 was replaced by node 6"):
        world.machines[4].start()


def test_a_leader_is_replaced_and_another_one_does_it(world):
    old = world.leader()
    join(world, old, crash=False)
    finish(world)
    assert world.led()


def test_a_replaced_node_without_the_new_book_is_heard_by_nobody(world):
    account = Account("user").enrol(world, 1)
    world.nodes[4].crash()
    new = world.replace(4, tell=(1, 2, 3, 5))
    world.nodes[new].start()
    finish(world)
    ghost = world.machines[4].start()
    world.run(10)
    assert ghost.up
    assert "marks of this node" in ghost.host.status().waiting_for
    verdict = ghost.host.share_verdict(account.record_id, 1, account.attempt(1))
    assert isinstance(verdict, NotAGiver)


def test_a_replaced_node_among_others_with_old_books_gets_no_vote_and_no_entry(world):
    """Two members and the ghost have the old book; they are links to each other, and no quorum."""
    world.nodes[4].crash()
    lead(world, 3)
    new = world.replace(4, tell=(3, 5))
    world.nodes[new].start()
    ghost = world.machines[4].start()
    world.until(lambda: ghost.host.status().stepping, seconds=20)
    world.run(30)
    for group in ghost.host.status().groups:
        assert group.role in ("follower", "pre-candidate")
    world.untold = set()
    for node in (1, 2):
        world.tell(node)
    finish(world)
    assert ghost.up
    world.tell(4)
    assert "node 4 was replaced by node 6" in ghost.stopped


def test_a_leader_with_the_old_book_changes_nothing_and_says_so(world):
    world.nodes[4].crash()
    lead(world, 3)
    new = world.replace(4, tell=(3,))
    world.nodes[new].start()
    world.until(lambda: groups(world, 3)[0].voters == (1, 2, 3, 5), seconds=10)
    lead(world, 5)  # it never heard of revision 1 but by the log
    before = [groups(world, 5)[shard].voters for shard in (0, 1)]
    world.run(20)
    assert [groups(world, 5)[shard].voters for shard in (0, 1)] == before
    assert any("member sync" in alarm for alarm in world.nodes[5].host.status().alarms)
    world.untold = set()
    for node in (1, 2, 5):
        world.tell(node)
    assert not any("member sync" in alarm for alarm in world.nodes[5].host.status().alarms)
    finish(world)


def test_a_leader_with_the_old_book_hands_its_shards_to_one_with_the_new(world):
    """It refuses the new node's link: led by it, a shard would never have the new member."""
    world.nodes[4].crash()
    lead(world, 3)
    world.nodes[3].host._core.raft.transfer_leader(1, 5)
    world.until(lambda: world.leader(1) == 5, seconds=20)
    new = world.replace(4, tell=(1, 2, 3))
    world.nodes[new].start()
    for shard in (0, 1):
        world.until(lambda s=shard: new in groups(world, 3)[s].voters, seconds=60)
    assert all(group.role != "leader" for group in groups(world, 5))


def test_a_node_with_the_old_book_lets_others_stand_first(world):
    """It would win, not reach the new member, and hand over: two elections where one is enough."""
    world.nodes[4].crash()
    lead(world, 3)
    new = world.replace(4, tell=(1, 2, 3))
    world.nodes[new].start()
    for shard in (0, 1):
        world.until(lambda s=shard: new in groups(world, 3)[s].voters, seconds=60)
    heirs = [1, 2, 3] * 4
    while slot_ticks(Seat(5), 0, groups(world, 3)[0].term) != MIN_ELECTION_TICKS:
        lead(world, heirs.pop())  # until the term gives node 5 the first slot
    world.nodes[world.leader(0)].crash()
    world.until(lambda: world.leader(0) is not None)
    assert world.leader(0) in (1, 2, 3, new)


def test_a_forged_revision_holds_up_the_members_of_its_shard_and_nothing_else(world):
    """No book is so new: nobody is asked to lead instead, and other shards go on as before."""
    lead(world, 3)
    for kind in (2, 1):  # learner 9 comes, and goes again
        data = encode_conf_change([(kind, 9)], u64(2**40))
        index = world.nodes[3].host._core.raft.propose_conf_change(1, data)[1]
        world.nodes[3].wake()
        world.until(lambda i=index: all(groups(world, n)[1].applied >= i for n in world.node_ids))
    assert groups(world, 3)[1].revision == 2**40
    new = join(world, 4)
    world.until(lambda: new in groups(world, 3)[0].voters, seconds=60)
    assert groups(world, 3)[1].voters == (1, 2, 3, 4, 5)
    terms = [group.term for group in groups(world, 3)]
    world.run(5)
    assert [group.term for group in groups(world, 3)] == terms
    assert all(world.leader(shard) == 3 for shard in (0, 1))
    world.nodes[3].host.drain(lambda: None)
    world.until(lambda: all(world.leader(shard) in (1, 2, 5, new) for shard in (0, 1)), seconds=5)


def test_nobody_is_removed_while_that_would_cost_the_quorum(world):
    for node in (4, 5):
        world.nodes[node].crash()
    lead(world, 3)
    world.replace(4)
    world.nodes[2].crash()
    world.run(0.5)
    assert all(group.voters == (1, 2, 3, 4, 5) for group in groups(world, 3))
    world.nodes[2].start()
    world.nodes[5].start()
    world.nodes[6].start()
    finish(world)


def test_with_two_dead_nodes_both_are_replaced_one_after_the_other(world):
    account = Account("user").enrol(world, 1)
    world.applied(1, account.charge(1))
    for node in (4, 5):
        world.nodes[node].crash()
    first, second = join(world, 4), join(world, 5)
    finish(world)
    assert world.node_ids == (1, 2, 3, first, second)
    assert gives(world, first, account, 1)
    assert gives(world, second, account, 1)


def test_the_successor_is_replaced_itself_before_it_ever_came(world):
    world.nodes[4].crash()
    never = world.replace(4)
    world.until(lambda: all(never in group.learners for group in groups(world, 1)), seconds=20)
    new = join(world, never)
    finish(world)
    assert world.node_ids == (1, 2, 3, 5, new)
    with pytest.raises(BootRefused, match=f"node {never} was replaced by node {new}"):
        world.machines[never].start()


def test_every_node_is_replaced_in_turn_and_nothing_is_forgotten(world, cut):
    account = Account("user").enrol(world, 1)
    world.applied(1, account.charge(1))
    for old in (1, 2, 3, 4, 5):
        join(world, old)
        finish(world)
        busy(world, world.node_ids[-1], 10)
    assert world.node_ids == (6, 7, 8, 9, 10)
    for node in world.node_ids:
        assert gives(world, node, account, 1)
    world.applied(6, account.charge(2))
    world.applied(6, account.charge(3))
    assert world.applied(7, account.charge(4)).status != "done"
    world.until(world.settled)
    assert len(world.state_hashes()) == 1


def test_the_count_of_the_old_seat_goes_to_the_new_one():
    """An eleventh evaluation would need a seat that forgot what it gave."""
    world = World(shards=2, grace_s=600).start()
    account = Account("user").enrol(world, 1)
    for number in range(world.limit):
        world.applied(1, account.charge(number))
    world.run(0.5)
    new = join(world, 4)
    finish(world)
    row = world.nodes[new].host.ledger_row(account.record_id)
    assert set(row.ids) == {account.attempt(number) for number in range(world.limit)}


def test_no_share_before_the_ledger_is_complete(world):
    account = Account("user").enrol(world, 1)
    world.applied(1, account.charge(1))
    refuse_rows(world)
    new = join(world, 4)
    world.until(lambda: groups(world, new)[0].applied >= groups(world, 1)[0].commit, seconds=20)
    world.run(20)
    assert all(group.learners == (new,) for group in groups(world, 1)), "promoted too early"
    host = world.nodes[new].host
    verdict = host.share_verdict(account.record_id, 1, account.attempt(1))
    assert isinstance(verdict, NotAGiver)
    assert new not in [giver.node_id for giver in world.nodes[1].host.share_givers(0)]
    assert not any(group.ledger_complete for group in groups(world, new))
    refuse_rows(world, none=True)
    finish(world)
    assert gives(world, new, account, 1)


@pytest.mark.parametrize("when", [0.3, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0])
def test_a_joiner_may_be_killed_at_any_time_and_goes_on(when, cut):
    world = World(seed=int(when * 10), shards=2).start()
    account = Account("user").enrol(world, 1)
    world.applied(1, account.charge(1))
    busy(world, 1)
    world.run(3)
    new = join(world, 4)
    world.run(when)
    world.nodes[new].crash()
    world.run(1)
    world.nodes[new].start()
    finish(world)
    assert gives(world, new, account, 1)
    assert len(world.state_hashes()) == 1


@pytest.mark.parametrize("when", [0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0])
def test_the_leader_may_be_killed_at_any_step_of_a_replacement(when):
    world = World(seed=int(when * 10), shards=2).start()
    account = Account("user").enrol(world, 1)
    new = join(world, 4)
    world.run(when)
    leader = world.leader()
    if leader is not None:
        world.nodes[leader].crash()
        world.until(world.led)
        world.nodes[leader].start()
    finish(world)
    world.applied(new, account.charge(1))
    world.until(world.settled)
    assert len(world.state_hashes()) == 1


def test_a_joiner_whose_disk_was_rolled_back_stops(world):
    new = join(world, 4)
    world.until(lambda: groups(world, new)[0].applied > 1, seconds=20)
    node = world.nodes[new]
    world.run(0.3)
    old = node.store.copy()
    account = Account("user").enrol(world, 1)
    world.applied(1, account.charge(1))
    world.run(3)
    node.crash()
    node.store = old
    node.start()
    world.until(lambda: node.stopped is not None, seconds=10)
    assert "rolled back" in node.stopped


def test_an_empty_directory_under_the_joiner_s_used_enrolment_is_refused(world):
    new = join(world, 4)
    finish(world)
    node = world.nodes[new]
    node.crash()
    node.store = SimStore()
    with pytest.raises(BootRefused, match="has run before"):
        node.start()
    node.stamp = enrolment(CLUSTER, new)
    node.start()
    world.until(lambda: node.stopped is not None, seconds=10)
    assert "has seen incarnation 1" in node.stopped


def test_a_joiner_that_has_nothing_to_remember_opens_no_gate(world):
    """Two of the others are down: of three that are up one just came, and does not count."""
    for node in (4, 5):
        world.nodes[node].crash()
    new = world.replace(4)
    lead(world, 3)
    refuse_rows(world)
    world.nodes[new].start()
    world.until(lambda: groups(world, 3)[0].learners == (new,), seconds=20)
    world.nodes[1].crash()
    world.nodes[1].start()
    world.nodes[2].crash()
    world.run(3)
    world.nodes[1].crash()
    world.nodes[1].start()
    world.run(5)
    assert "1 more voters" in world.nodes[1].host.status().waiting_for


def test_a_founder_that_never_ran_before_comes_late_with_a_complete_ledger():
    world = World(shards=2)
    for node in (1, 2, 3, 4):
        world.nodes[node].start()
    world.until(world.led)
    world.nodes[4].crash()
    new = world.replace(4)
    world.nodes[new].start()
    world.until(lambda: groups(world, 1)[0].voters == (1, 2, 3, 5, 6), seconds=30)
    world.nodes[5].start()
    finish(world)


def test_three_seats_replace_a_node_with_the_rows_of_the_other_two():
    world = World(nodes=3, shards=1).start()
    account = Account("user", shards=1).enrol(world, 1)
    world.applied(1, account.charge(1))
    new = join(world, 3)
    finish(world)
    assert gives(world, new, account, 1)


def test_members_change_while_a_snapshot_is_on_its_way(cut):
    """The snapshot is of other members then: another one is offered, and nobody stops."""
    world = World(shards=1).start()
    account = Account("user", shards=1).enrol(world, 1)
    world.applied(1, account.charge(1))
    busy(world, 1)
    world.run(3)
    world.fetch_ms = 4_000
    first = join(world, 4)
    world.until(lambda: groups(world, first)[0].catching_up, seconds=20)
    world.nodes[5].crash()
    second = join(world, 5)
    finish(world, seconds=120)
    assert world.node_ids == (1, 2, 3, first, second)
    assert gives(world, first, account, 1)
    assert gives(world, second, account, 1)


@pytest.mark.parametrize(
    ("change", "context"),
    [((1, 5), b""), ((1, 5), b"\x01"), ((0, 9), bytes(7)), ((2, 5), bytes(8))],
    ids=["no revision", "short revision", "an unknown voter", "a founder added"],
)
def test_a_change_that_no_leader_of_ours_makes_enters_nobody_elses_log(world, change, context):
    join(world, 4)
    finish(world)
    leader = world.nodes[world.leader()]
    index = leader.host._core.raft.propose_conf_change(0, encode_conf_change([change], context))[1]
    leader.wake()
    world.run(5)
    others = [node for node in world.alive if node is not leader]
    assert all(groups(world, node.id)[0].last_index < index for node in others)
    leader.crash()
    world.until(world.leader)
    world.applied(others[0].id, Account("user", shards=1).register(0))
    leader.start()
    finish(world)
    for node in world.alive:
        assert groups(world, node.id)[0].voters == world.node_ids
        assert groups(world, node.id)[0].applied >= index


def test_the_word_of_a_retired_peer_does_not_open_a_gate(world):
    for node in (1, 2, 3, 5):
        world.nodes[node].crash()
    world.nodes[1].start()
    world.until(lambda: "1 more voters" in world.nodes[1].host.status().waiting_for, seconds=10)
    world.replace(4)
    assert "2 more voters" in world.nodes[1].host.status().waiting_for


def test_what_is_refused_to_a_retired_node_says_nothing_of_our_own_command(world):
    """It had forwarded a command under the number that one of ours, sent to it, has here (I12)."""
    lead(world, 4)
    world.run(1)
    host = world.nodes[1].host
    heard = []
    host.propose(Barrier(), timeout_s=8.0, done=heard.append, shard=0)
    command = next(iter(host._parts.proposals._open.values()))
    world.until(lambda: command.sends == 1, seconds=1)
    assert command.outstanding == {1: 4}
    world.nodes[4].crash()
    world.partition((1,), (2, 3, 5))
    world.replace(4)
    host._parts.routing._refuse(0, "dropped", [Offered(4, 1, command.seq, 1, command.data)])
    world.until(lambda: heard, seconds=20)
    assert isinstance(heard[0], Unknown), "node 4 may have it in its log"


def test_a_book_of_another_history_stops_the_node(world):
    other, _ = world.book.replaced(5)
    world.replace(4)
    node = world.nodes[1]
    node.guard(node.host.adopt, other.shape(1))
    assert "does not go on" in node.stopped


def test_the_same_book_again_changes_nothing(world):
    before = world.nodes[1].host.status().peers
    world.nodes[1].host.adopt(world.book.shape(1))
    assert world.nodes[1].host.status().peers == before


def test_a_replacement_is_there_after_a_restart_of_everyone(world):
    account = Account("user").enrol(world, 1)
    world.applied(1, account.charge(1))
    new = join(world, 4)
    finish(world)
    for node in world.nodes.values():
        node.crash()
    for node in world.nodes.values():
        node.start()
    world.until(world.led)
    finish(world)
    assert [group.revision for group in groups(world, new)] == [1, 1]
    assert gives(world, new, account, 1)
    assert world.nodes[1].host.status().revision == 1


def test_a_power_cut_in_the_middle_of_a_replacement_is_survived():
    for tenths in range(2, 50, 4):
        world = World(seed=tenths, shards=1).start()
        account = Account("user", shards=1).enrol(world, 1)
        world.applied(1, account.charge(1))
        new = join(world, 4)
        world.run(tenths / 10)
        for node in world.nodes.values():
            node.crash()
        for node in world.nodes.values():
            node.start()
        finish(world)
        assert gives(world, new, account, 1), tenths
        assert len(world.state_hashes()) == 1


def test_what_a_retired_peer_said_of_a_state_hash_counts_no_more():
    hashes = Hashes([2, 3, 4, 5], 1)
    hashes.reached(0, 10, b"a" * 32, now=0)
    hashes.heard(4, HashPoint(0, 10, b"b" * 32), 10, 0)
    assert hashes.doubt
    hashes.adopt([2, 3, 5, 6])
    assert hashes.on_time(SECOND) == []
    assert not hashes.doubt
    hashes.heard(6, HashPoint(0, 10, b"a" * 32), 10, SECOND)
    assert not hashes.doubt


def test_no_share_while_the_merged_ledger_is_not_on_disk(world):
    account = Account("user").enrol(world, 1)
    world.applied(1, account.charge(1))
    new = join(world, 4)
    node = world.nodes[new]
    group = node.host._core.groups[0]
    world.until(lambda: node.host._parts.join._shards[0].merged is not None, seconds=20)
    node.disk_ms = 20_000
    world.until(lambda: group.ledger, seconds=5)
    world.run(10)
    assert not group.durable_ledger
    assert not groups(world, new)[0].ledger_complete
    assert new in groups(world, 1)[0].learners
    node.disk_ms = 4
    node.crash()
    node.start()
    finish(world)
    assert gives(world, new, account, 1)


def test_a_node_that_starts_with_an_older_book_than_its_shards_have_seen_says_so(world):
    join(world, 4)
    finish(world)
    world.nodes[1].crash()
    world.nodes[1].book = Book.founded(5, 2, 3, 5.0)
    world.untold = {1}
    world.nodes[1].start()
    assert any("revision 0" in alarm for alarm in world.nodes[1].host.status().alarms)
    world.untold = set()
    world.tell(1)
    assert not any("revision 0" in alarm for alarm in world.nodes[1].host.status().alarms)
    finish(world)
