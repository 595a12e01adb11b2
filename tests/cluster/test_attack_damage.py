"""What one owned data center can destroy or delay: seen here, listed in THREAT_MODEL.md.

None of it gives a share; all of it is availability. Each test ends with what brings service back,
where something does.
"""

from __future__ import annotations

import msgspec
import pytest
from forger import Forger
from raft_world import APPEND_RESPONSE

from chaos.sim import Account, World
from cluster.api import Applied
from cluster.commands import Barrier, Charge
from cluster.entries import encode_entry
from cluster.frames import Hashes, HashPoint, Marks, ShardMark
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


def test_an_entry_that_nobody_understands_ends_the_vault_for_good(scene):
    """Committed garbage: who has it durably stops again at every start, and a quorum never is."""
    for node in HONEST:
        scene.liar.log(node, encode_entry([(1, 1, 1, b"no command")]))
        assert "not understood" in scene.world.nodes[node].stopped
    for _ in range(3):
        scene.restart()
        scene.world.run(10)
        assert len(scene.stopped()) >= 2  # of five voters, one of them owned
        assert not any(scene.world.nodes[n].host.status().groups[0].role == "leader"
                       for n in set(HONEST) - scene.stopped())  # fmt: skip


def test_an_account_at_the_end_of_its_versions_stops_every_node_at_its_owners_next_call(scene):
    """The trap can be laid long before: it springs when the account is used."""
    record_id = scene.account.record_id
    for node in HONEST:
        record = scene.liar.record(node, record_id)
        last = msgspec.structs.replace(record, version=2**53 - 1)
        assert scene.liar.install(node, {record_id: last})
        scene.liar.commit(node, Barrier())
        assert scene.world.nodes[node].up
        sent = Charge(record_id, record.era, scene.account.attempt(1))
        scene.liar.commit(node, sent)
        assert "reached 2^53" in scene.world.nodes[node].stopped


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
    tombstone = Record(2**52 + 1, 2**52, None, None, (), None, False)
    for node in HONEST:
        assert scene.liar.install(node, {account.record_id: tombstone})
        assert scene.liar.nodes[node].host.ledger_row(account.record_id).floor == 2**52
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
