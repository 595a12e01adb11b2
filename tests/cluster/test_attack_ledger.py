"""What a forging peer may try so that an honest node gives more: crypto.md's rules one by one.

One honest node of the simulated world gave its whole limit for an account; then it is told each lie
here, as a snapshot or as log entries, and must not give one share more for that registration. The
account's own proof then empties the list, as ever: the node is not merely broken.
"""

from __future__ import annotations

import lmdb
import msgspec
import pytest
from forger import Forger

from chaos.sim import Account, World
from cluster.commands import Activate, Charge, Delete, Expire, Prove, Register
from cluster.ports import TABLES, Batch
from cluster.record import LastProof, Record, Registration
from cluster.store import Store
from cluster.store_format import DATA_FILE, StoreDamagedError
from engines._engines import ed25519_public_key, ed25519_sign
from engines.identifiers import prove_message, registration_id

LIMIT = 3
VICTIM = 4
OTHER_CLUSTER = bytes(16)


class Scene:
    """Node 1 is owned; node 4 gave all of `account`'s shares in era 2 after a proof in era 1."""

    def __init__(self):
        self.world = World(seed=5, shards=1, limit=LIMIT).start()
        self.account = account = Account("victim", shards=1).enrol(self.world, 2)
        self.other = Account("mallory", shards=1).enrol(self.world, 2)
        self.world.applied(2, account.charge(0))
        self.world.applied(2, account.prove(0))
        for number in range(1, LIMIT + 1):
            self.world.applied(2, account.charge(number, 2))
        self.world.run(2)
        self.liar = Forger(self.world, 1)
        self.world.partition([1, VICTIM])
        self.old = self.liar.record(VICTIM, account.record_id)
        self.id = account.record_id
        assert self.given([account.attempt(n) for n in range(1, LIMIT + 1)]) == LIMIT

    def given(self, attempts):
        return sum(self.liar.gives(VICTIM, self.id, each) for each in attempts)

    def install(self, record, *, taken=True):
        mallory = self.liar.record(VICTIM, self.other.record_id)
        records = {self.other.record_id: mallory}
        if record is not None:
            records[self.id] = record
        assert self.liar.install(VICTIM, records) is taken

    def commit(self, *commands):
        self.liar.commit(VICTIM, *commands)

    def row(self):
        return self.liar.nodes[VICTIM].host.ledger_row(self.id)

    def changed(self, **fields):
        return msgspec.structs.replace(self.old, **fields)

    def later(self, record, **fields):
        """The record a little later, so that it may differ."""
        version = max(record.version, fields.get("era", 0)) + 5
        return msgspec.structs.replace(record, **{"version": version, **fields})

    def registration(self, **fields):
        return msgspec.structs.replace(self.old.active, **fields)


@pytest.fixture
def scene():
    return Scene()


def proof(signer, cluster, registration, era, attempt):
    return ed25519_sign(signer, prove_message(cluster, registration, era, attempt))


# ------------------------------------------------------------------ the lies


def the_list_emptied(s):
    s.install(s.changed(attempts=()))


def the_list_emptied_in_a_later_era(s):
    s.install(s.later(s.old, era=9, attempts=(), last_proof=None))


def the_list_emptied_in_the_era_before_the_proof(s):
    s.install(s.changed(era=1, attempts=(), last_proof=None))


def a_proof_made_of_nothing(s):
    s.install(
        s.later(s.old, era=3, attempts=(), last_proof=LastProof(s.account.attempt(1), 2, bytes(64)))
    )


def the_last_proof_replayed_in_a_later_era(s):
    s.install(
        s.later(
            s.old, era=3, attempts=(),
            last_proof=msgspec.structs.replace(s.old.last_proof, era=2),
        )
    )  # fmt: skip


def the_last_proof_replayed_to_a_record_of_its_own_era(s):
    """`apply` takes it, since the forged record stands before it; the ledger does not."""
    s.install(s.changed(era=1, last_proof=None, attempts=(s.account.attempt(0),)))
    s.commit(s.account.prove(0))
    assert s.liar.record(VICTIM, s.id).attempts == ()


def a_proof_by_another_key(s):
    signature = proof(
        s.other.proof_seed, s.world.shape(1).cluster_id, s.account.registration(0), 2,
        s.account.attempt(1),
    )  # fmt: skip
    s.install(
        s.later(s.old, era=3, attempts=(), last_proof=LastProof(s.account.attempt(1), 2, signature))
    )


def a_proof_for_another_cluster(s):
    from uuid import UUID

    signature = proof(
        s.account.proof_seed, UUID(bytes=OTHER_CLUSTER), s.account.registration(0), 2,
        s.account.attempt(1),
    )  # fmt: skip
    s.install(
        s.later(s.old, era=3, attempts=(), last_proof=LastProof(s.account.attempt(1), 2, signature))
    )


def a_proof_for_another_registration(s):
    signature = proof(
        s.account.proof_seed, s.world.shape(1).cluster_id, s.account.registration(7), 2,
        s.account.attempt(1),
    )  # fmt: skip
    s.install(
        s.later(s.old, era=3, attempts=(), last_proof=LastProof(s.account.attempt(1), 2, signature))
    )


def a_proof_with_a_proof_key_swapped_under_the_same_id(s):
    """The snapshot is not taken at all: a registration's id binds its key."""
    key = ed25519_public_key(s.other.proof_seed)
    s.install(s.later(s.old, active=s.registration(proof_key=key)), taken=False)
    assert "not bound" in s.liar.alarms(VICTIM)


def a_birth_era_swapped_under_the_same_id(s):
    s.install(
        s.later(s.old, era=9, active=s.registration(birth_era=5), last_proof=None), taken=False
    )
    assert "not bound" in s.liar.alarms(VICTIM)


def other_sealed_bytes(s):
    """They are not bound by the id, and not by the ledger: the list must stay all the same."""
    s.install(s.later(s.old, attempts=(), active=s.registration(sealed=b"\x01" + bytes(399))))


def the_account_left_out_and_brought_back(s):
    s.install(None)
    s.install(s.changed(attempts=()))


def a_tombstone_and_the_account_alive_again(s):
    s.install(Record(90, 9, None, None, (), None, False))
    s.install(s.later(s.old, era=20, attempts=(), last_proof=None))


def locked_and_alive_again(s):
    s.install(Record(90, 3, None, None, (), None, True))
    s.install(s.later(s.old, era=20, attempts=(), last_proof=None))


def expired_by_entry_and_alive_again(s):
    s.commit(Expire(s.id, 2))
    assert s.liar.record(VICTIM, s.id).locked
    s.install(s.later(s.old, era=20, attempts=(), last_proof=None))


def deleted_and_registered_again_with_the_old_birth_era(s):
    s.commit(Delete(s.id, 2))
    s.install(Record(90, 0, None, None, (), None, False))
    s.commit(s.account.register(), s.account.activate())
    assert s.liar.record(VICTIM, s.id).active is not None


def replaced_by_the_liars_own_and_activated_again(s):
    seed = bytes(32)
    key = ed25519_public_key(seed)
    own = registration_id(s.id, 5, s.account.request, key)
    mine = Registration(own, 5, s.account.request, key, bytes(400))
    s.install(Record(90, 6, mine, None, (), None, False))
    assert s.row().current.registration_id == own
    s.install(s.changed(attempts=()))
    s.install(Record(3, 0, None, None, (), None, False))
    s.commit(s.account.register(), s.account.activate())
    assert s.liar.record(VICTIM, s.id).active.registration_id == s.account.registration(0)


def activated_again_by_entry(s):
    s.install(Record(90, 0, None, s.registration(), (), None, False))
    s.commit(Activate(s.id, s.account.registration(0), s.account.activate().signature))
    assert s.liar.record(VICTIM, s.id).attempts == ()


def a_pending_one_beside_it(s):
    register = Register(s.id, 2, s.other.request, s.other.proof_key, bytes(400))
    s.commit(register)
    s.install(s.later(s.liar.record(VICTIM, s.id), attempts=()))


def an_emptied_list_and_a_power_cut(s):
    s.install(s.changed(attempts=()))
    node = s.world.nodes[VICTIM]
    node.crash()
    s.world.heal()
    node.start()
    s.world.until(lambda: node.host.status().stepping)
    s.world.partition([1, VICTIM])


def two_snapshots_in_quick_order(s):
    for era in (9, 10):
        s.install(s.later(s.old, era=era, version=era + 50, attempts=(), last_proof=None))


LIES = [
    the_list_emptied, the_list_emptied_in_a_later_era, the_list_emptied_in_the_era_before_the_proof,
    a_proof_made_of_nothing, the_last_proof_replayed_in_a_later_era,
    the_last_proof_replayed_to_a_record_of_its_own_era, a_proof_by_another_key,
    a_proof_for_another_cluster, a_proof_for_another_registration,
    a_proof_with_a_proof_key_swapped_under_the_same_id, a_birth_era_swapped_under_the_same_id,
    other_sealed_bytes, the_account_left_out_and_brought_back,
    a_tombstone_and_the_account_alive_again, locked_and_alive_again,
    expired_by_entry_and_alive_again, deleted_and_registered_again_with_the_old_birth_era,
    replaced_by_the_liars_own_and_activated_again, activated_again_by_entry,
    a_pending_one_beside_it, an_emptied_list_and_a_power_cut, two_snapshots_in_quick_order,
]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__.replace("_", " "))
def test_no_lie_gets_one_share_more_out_of_a_full_ledger(scene, lie):
    lie(scene)
    fresh = [scene.account.attempt(100 + n) for n in range(LIMIT)]
    record = scene.liar.record(VICTIM, scene.id)
    if record is not None and record.active is not None:
        scene.commit(*(Charge(scene.id, record.era, each) for each in fresh))
    assert scene.given(fresh) == 0
    # Nor after a snapshot that lists them, whatever its era.
    if record is not None and record.active is not None:
        record = scene.liar.record(VICTIM, scene.id)
        scene.install(scene.later(record, attempts=tuple(fresh)))
        assert scene.given(fresh) == 0


def test_a_true_proof_empties_the_list_after_all_those_lies(scene):
    """The control: the same node, told of the user's own proof, gives a new round."""
    for lie in (the_list_emptied, a_proof_made_of_nothing, a_proof_by_another_key):
        lie(scene)
    scene.install(scene.later(scene.old))
    signed = scene.account.prove(1, 2)
    assert isinstance(signed, Prove)
    scene.commit(signed)
    record = scene.liar.record(VICTIM, scene.id)
    assert record.last_proof is not None
    fresh = [scene.account.attempt(200 + n) for n in range(LIMIT + 2)]
    scene.commit(*(Charge(scene.id, record.era, each) for each in fresh))
    assert scene.given(fresh) == LIMIT


# ------------------------------------------------------------------ the ledger on disk


def raw(path, table, key):
    with lmdb.open(str(path), max_dbs=len(TABLES) + 1, map_size=1 << 26, readonly=True) as env:
        db = env.open_db(table.encode(), create=False)
        with env.begin(db=db) as txn:
            return bytes(txn.get(key))


def test_an_old_ledger_row_with_its_old_sum_beside_new_records_is_refused(tmp_path):
    """Each of the old bytes was once written by this node; together with the rest never."""
    path, key, state_key = tmp_path / "store", bytes(32), bytes(32)
    old = []
    for spent in (b"nine left", b"none left"):
        store = Store.open(path, state_key, map_bytes=1 << 26)
        batch = Batch()
        for table in TABLES:
            batch.put(table, key, spent)
        store.commit(batch)
        store.close()
        old.append((raw(path, "ledger", key), raw(path, "store", b"sum/ledger")))
    file = path / DATA_FILE
    data = file.read_bytes()
    for before, after in zip(*old, strict=True):
        assert after in data
        data = data.replace(after, before)
    file.write_bytes(data)
    with pytest.raises(StoreDamagedError, match="sums"):
        Store.open(path, state_key)
