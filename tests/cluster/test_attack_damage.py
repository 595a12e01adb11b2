"""What one owned data center can destroy or delay: seen here, listed in THREAT_MODEL.md.

None of it gives a share; all of it is availability. Each test ends with what brings service back,
where something does.
"""

from __future__ import annotations

import msgspec
import pytest
from forger import Forger
from raft_world import APPEND, APPEND_RESPONSE, wire_entry

from chaos.sim import Account, World
from cluster.api import Applied
from cluster.commands import Barrier, encode_command
from cluster.entries import check_entry, encode_entry
from cluster.frames import Hashes, HashPoint, Marks, ShardMark
from cluster.membership import Change, Kind, encode_change
from cluster.record import Record

LIMIT = 3
HONEST = (2, 3, 4, 5)


class Scene:
    """Node 1 is owned; an account with an empty list."""

    def __init__(self):
        self.world = World(seed=9, shards=1, limit=LIMIT).start()
        self.account = Account("victim", shards=1).enrol(self.world, 2)
        self.world.run(2)
        self.world.until(self.world.settled)
        self.liar = Forger(self.world, 1)

    def stopped(self):
        return {node for node in HONEST if not self.world.nodes[node].up}

    def restart(self):
        for node in sorted(self.stopped()):
            self.world.nodes[node].start()
        self.world.run(3)

    def serves(self):
        """Some honest node gets a command applied, and all of them have the same state."""
        self.world.until(self.leads, what="an honest leader")
        leader = self.leads()
        assert self.world.outcome(leader, Barrier(), shard=0)
        return True

    def givers(self, node):
        return {giver.node_id for giver in self.world.nodes[node].host.share_givers(0)}

    def leads(self):
        for node in HONEST:
            host = self.world.nodes[node].host
            if host is not None and host.status().groups[0].role == "leader":
                return node
        return None


@pytest.fixture
def scene():
    return Scene()


def test_a_forged_heartbeat_stops_every_honest_node_and_a_restart_brings_all_of_them_back(scene):
    for node in HONEST:
        scene.liar.heartbeat(node, commit=10_000)
        assert "rolled back" in scene.world.nodes[node].stopped
    assert scene.stopped() == set(HONEST)
    scene.restart()
    assert scene.stopped() == set()
    assert scene.serves()


@pytest.mark.parametrize("kind", [APPEND_RESPONSE, 9], ids=["an append's", "a heartbeat's"])
def test_a_forged_answer_stops_the_leader_with_its_reason_and_another_one_leads(scene, kind):
    """A heartbeat's answer was not looked at before it was stepped: the core aborted instead."""
    scene.serves()
    leader = scene.leads()
    group = scene.liar.group(leader)
    scene.liar.raft(leader, kind, term=group.term, commit=group.last_index + 5)
    assert "rolled back" in scene.world.nodes[leader].stopped
    assert scene.stopped() == {leader}
    assert scene.serves()


def test_an_append_that_contradicts_what_is_committed_mutes_nobody_for_long(scene):
    """Each victim gives no shares (a disk may have been rolled back) until its log goes on."""
    scene.serves()
    for node in HONEST:
        group = scene.liar.group(node)
        scene.liar.raft(node, APPEND, term=group.term, index=group.commit, log_term=1)
        assert any("contradicts" in a for a in scene.world.nodes[node].host.status().alarms)
    scene.world.run(10)
    for node in HONEST:
        assert scene.givers(node) == set(HONEST)


def test_an_entry_that_nobody_understands_is_refused_before_it_is_in_any_log(scene):
    """Appended, it would end each node that applies it, at each start: the vault for good."""
    for bad in (b"\xff", encode_entry([(1, 1, 1, b"no command")])):
        for node in HONEST:
            last = scene.liar.group(node).last_index
            scene.liar.log(node, bad)
            assert scene.liar.group(node).last_index == last
            assert "broke the protocol" in scene.liar.alarms(node)
    assert scene.stopped() == set()
    assert scene.serves()


def test_an_entry_with_a_command_of_another_shard_is_refused_too():
    command = encode_command(Account("somebody", shard=1, shards=2).charge(1))
    check_entry(1, 2, encode_entry([(1, 1, 1, command)]))
    with pytest.raises(msgspec.DecodeError, match="another shard"):
        check_entry(0, 2, encode_entry([(1, 1, 1, command)]))


CONF_CHANGE_V2 = 2


def change_members(scene, victim, *changes, kind=CONF_CHANGE_V2):
    term, last, last_term = scene.liar.end(victim)
    entries = [
        wire_entry(
            last + n, term, change if isinstance(change, bytes) else encode_change(change), kind
        )
        for n, change in enumerate(changes, start=1)
    ]
    scene.liar.raft(
        victim, APPEND, term=term, index=last, log_term=last_term, commit=last + len(entries),
        entries=entries,
    )  # fmt: skip
    scene.world.run(0.3)


@pytest.mark.parametrize("revision", [0, 1, 2**52])
@pytest.mark.parametrize("kind", [Kind.REMOVE, Kind.ADD_LEARNER])
def test_no_forged_change_removes_or_demotes_the_node_that_it_is_sent_to(scene, kind, revision):
    """Committed on its disk, it ended or muted each honest node at each of its starts: for good."""
    for node in HONEST:
        change_members(scene, node, Change(kind, node, revision))
        assert "cluster.json" in scene.liar.alarms(node)
        assert scene.liar.group(node).voters == (1, 2, 3, 4, 5)
    assert scene.stopped() == set()
    assert scene.serves()
    assert all(scene.liar.group(node).revision == 0 for node in HONEST)


@pytest.mark.parametrize(
    "change",
    [Change(Kind.ADD_VOTER, 1, 0), Change(Kind.ADD_LEARNER, 1, 2**52)],
    ids=str,
)
def test_who_was_there_from_the_start_is_added_by_no_log(scene, change):
    for node in HONEST:
        last = scene.liar.group(node).last_index
        change_members(scene, node, change)
        assert scene.liar.group(node).last_index == last
    assert scene.serves()


@pytest.mark.parametrize("kind", [Kind.ADD_LEARNER, Kind.ADD_VOTER])
def test_a_forged_member_does_not_vote(scene, kind):
    for node in HONEST:
        change_members(scene, node, Change(kind, 6, 0))
        assert scene.liar.group(node).voters == (1, 2, 3, 4, 5)
    assert scene.serves()


def test_a_forged_newer_book_never_empties_two_seats_of_a_shard(scene):
    """What this node's book cannot know is bounded by what any leader may do."""
    others = (3, 4, 5)
    change_members(scene, 2, *(Change(Kind.REMOVE, node, 7) for node in others))
    assert len(scene.liar.group(2).voters) == 4
    change_members(scene, 2, Change(Kind.ADD_VOTER, 9, 7), Change(Kind.ADD_LEARNER, 4, 7))
    assert scene.liar.group(2).voters == (1, 2, 4, 5)
    assert scene.liar.group(2).learners == ()
    assert scene.stopped() == set()


def test_a_change_that_no_leader_makes_cuts_the_link_and_is_in_no_log(scene):
    for node in HONEST:
        last = scene.liar.group(node).last_index
        change_members(scene, node, b"\xff\xff")
        assert scene.liar.group(node).last_index == last
        assert "broke the protocol" in scene.liar.alarms(node)
    assert scene.serves()


@pytest.mark.parametrize(
    ("voters", "learners", "revision", "why"),
    [
        ((1, 3, 4, 5), (2,), 7, "no voter there"),
        ((1, 3, 4, 5), (), 7, "no voter there"),
        ((1, 2, 4, 5), (3,), 7, "does not vote there"),
        ((1, 2, 3), (), 7, "two seats are empty"),
        ((1, 2, 3, 4), (), 0, "nobody replaced"),
        ((1, 2, 3, 4, 5), (6,), 0, "never a member"),
    ],
)
def test_a_snapshot_with_members_that_the_own_book_rules_out_is_not_taken(
    scene, voters, learners, revision, why
):
    before = scene.liar.group(2)
    members = {"voters": voters, "learners": learners, "revision": revision}
    assert not scene.liar.install(2, {}, **members)
    assert why in scene.liar.alarms(2)
    assert scene.liar.group(2).voters == before.voters
    assert scene.stopped() == set()
    assert scene.serves()


def test_a_node_that_runs_is_not_ended_by_one_refusal_of_its_greeting(scene):
    for node in HONEST:
        scene.liar.refuse(node)
        assert "refuses this node's greeting" in scene.liar.alarms(node)
    assert scene.stopped() == set()
    assert scene.serves()


def test_an_account_planted_at_the_end_of_its_versions_is_not_taken(scene):
    """Such a trap was laid long before it sprang: every node stopped at the owner's next call."""
    record_id = scene.account.record_id
    for node in HONEST:
        record = scene.liar.record(node, record_id)
        last = msgspec.structs.replace(record, version=2**53 - 1)
        assert not scene.liar.install(node, {record_id: last})
        assert scene.liar.record(node, record_id) == record
    assert scene.stopped() == set()
    assert scene.serves()


def test_an_account_left_out_of_a_snapshot_is_gone_and_its_next_registration_gives_nothing(scene):
    """Destroyed; the second registration from then on works, since the floor is below it."""
    account = scene.account
    for node in HONEST:
        assert scene.liar.install(node, {})
        assert scene.liar.record(node, account.record_id) is None
        assert not scene.liar.gives(node, account.record_id, account.attempt(1))
    victim = HONEST[0]
    for era, gives in ((0, False), (1, True)):
        scene.liar.commit(victim, account.register(era), account.activate(era))
        scene.liar.commit(victim, account.charge(10 + era, era + 1))
        given = scene.liar.gives(victim, account.record_id, account.attempt(10 + era))
        assert given is gives


def test_a_floor_that_was_raised_to_the_end_leaves_the_account_without_shares_for_ever(scene):
    account = scene.account
    tombstone = Record(2**40, 2**40 - 1, None, None, (), None, False)
    for node in HONEST:
        assert scene.liar.install(node, {account.record_id: tombstone})
        assert scene.liar.nodes[node].host.ledger_row(account.record_id).floor == 2**40 - 1
        assert scene.liar.install(node, {})
        scene.liar.commit(node, account.register(0), account.activate(0), account.charge(1, 1))
        assert not scene.liar.gives(node, account.record_id, account.attempt(1))
        assert "before this account's" in scene.liar.alarms(node)


def test_forged_charges_fill_the_ledger_and_the_owner_has_no_guess_left_there(scene):
    account = scene.account
    for node in HONEST:
        scene.liar.commit(node, *(account.charge(50 + n) for n in range(LIMIT)))
        scene.liar.commit(node, account.charge(1))
        assert not scene.liar.gives(node, account.record_id, account.attempt(1))
        # A proof of one of those attempts would help; nobody but the owner can make it.
        assert len(scene.liar.nodes[node].host.ledger_row(account.record_id).ids) == LIMIT


def test_a_leader_that_commits_different_entries_at_different_nodes_parts_them_for_good(scene):
    """Raft is not Byzantine: what each of them applied stays, so they never agree again."""
    for node in HONEST:
        scene.liar.commit(node, scene.account.charge(20 + node))
    for _ in range(2):
        scene.world.run(30)
        assert len(scene.stopped()) == 3
        for node in scene.stopped():
            assert "contradicted by 2 peers" in scene.world.nodes[node].stopped
        scene.restart()


def test_marks_that_lie_keep_a_node_that_restarts_from_coming_back(scene):
    """One liar is enough: the first two marks decide, and too high a one ends the node."""
    victim = scene.world.nodes[4]
    victim.crash()
    scene.world.run(1)
    victim.start()
    high = ShardMark(0, 10_000, 10_000, 10_000)
    scene.liar.welcome(4, [high])
    assert not victim.up
    assert victim.stopped
    scene.restart()  # while the liar says nothing, it does come back
    assert victim.up
    assert scene.serves()


def test_hashes_that_lie_stop_nobody(scene):
    """One peer's word against a state is doubt for nobody: two that agree are needed."""
    for node in HONEST:
        group = scene.liar.group(node)
        for index in range(group.applied - 3, group.applied + 4):
            scene.liar.say(node, Hashes([HashPoint(0, index, b"\xee" * 32)]))
    scene.world.run(15)
    assert scene.stopped() == set()
    assert scene.serves()


def test_marks_of_its_own_stop_nobody(scene):
    for node in HONEST:
        scene.liar.say(node, Marks([ShardMark(0, 2**60, 2**60, 2**60)]))
    scene.world.run(2)
    assert scene.stopped() == set()
    assert scene.serves()


def test_an_owned_node_that_leads_and_does_nothing_is_not_noticed_by_raft(scene):
    """A leader that heartbeats and appends nothing: commands of all others wait in vain."""
    scene.serves()
    leader = scene.leads()
    term = max(scene.liar.group(node).term for node in HONEST) + 1
    results = []

    def heartbeat():
        for node in HONEST:
            scene.liar.raft(node, 8, term=term, commit=0)

    heartbeat()
    host = scene.world.nodes[leader].host
    host.propose(scene.account.charge(1), timeout_s=8, done=results.append)
    for _ in range(40):
        heartbeat()
        scene.world.run(0.2)
    scene.world.run(1)
    assert results  # told within its deadline that it is unknown or was refused
    assert not isinstance(results[0], Applied)
    for node in HONEST:
        assert (
            scene.account.attempt(1)
            not in scene.liar.record(node, scene.account.record_id).attempts
        )
    assert scene.serves()  # the liar fell silent
