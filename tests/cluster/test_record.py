"""What each command does, whole; the limits of counting; records that must stop a node."""

from __future__ import annotations

import msgspec
import pytest
from record_kit import (
    BAD_SIGNATURE,
    CLUSTER,
    FULL,
    ID,
    LIMIT,
    OTHER_ID,
    RULES,
    A,
    B,
    Phone,
    S,
    active,
    att,
    charge,
    delete,
    expire,
    h,
    locked,
    locked_with_pending,
    pending_b,
    proven,
    run,
    tombstone,
)

from cluster.commands import Activate, Prove
from cluster.record import (
    MAX_LIMIT,
    LastProof,
    Record,
    Registration,
    Rules,
    apply,
    encode_record,
    is_bound,
    state_of,
)
from cluster.types import MAX_COUNTER, InvariantError

# ------------------------------------------------------------------ effects, whole


def test_register_leaves_all_but_the_pending_registration_alone():
    before = proven()
    after, outcome = apply(RULES, before, Phone("b", era=2).register())
    assert after.pending == Registration(
        Phone("b", era=2).id, 2, Phone("b").request, Phone("b").key, A.sealed
    )
    assert (after.era, after.active, after.attempts, after.last_proof, after.locked) == (
        before.era,
        before.active,
        before.attempts,
        before.last_proof,
        before.locked,
    )
    assert (outcome.registration_id, outcome.state) == (Phone("b", era=2).id, "pending")


def test_register_tells_where_the_same_registration_is():
    assert apply(RULES, active(), A.register())[1].state == "active"
    assert apply(RULES, run(A.register()), A.register())[1].state == "pending"
    for record, command in (
        (None, B.register()),
        (active(), Phone("a", sealed=bytes(340)).register()),
    ):
        assert apply(RULES, record, command)[1].state == ""


@pytest.mark.parametrize(
    "key",
    [
        bytes(32),
        b"\x01" + bytes(31),
        b"\xec" + b"\xff" * 30 + b"\x7f",
        b"\xed" + b"\xff" * 30 + b"\x7f",
        b"\xff" * 32,
        b"\x02" + bytes(31),
    ],
    ids=["order 4", "identity", "order 2", "not canonical", "all ones", "no point"],
)
def test_a_key_that_is_weak_or_no_key_is_rejected(key):
    command = msgspec.structs.replace(A.register(), proof_key=key)
    assert apply(RULES, None, command)[1].status is S.REJECTED


def test_register_on_a_locked_account_keeps_the_lock_until_activation():
    new = Phone("c", era=2)
    pending = run(new.register(), record=locked())
    assert pending.locked
    assert state_of(pending, LIMIT) == ("locked", 0)
    assert state_of(run(new.activate(), record=pending), LIMIT) == ("active", LIMIT)


def test_activate_leaves_nothing_of_what_was_before():
    before = run(Phone("b", era=2).register(), record=proven())
    after, outcome = apply(RULES, before, Phone("b", era=2).activate())
    assert after == Record(before.version + 1, 3, before.pending, None, (), None, False)
    assert (outcome.registration_id, outcome.birth_era, outcome.request, outcome.proof_key) == (
        Phone("b", era=2).id,
        2,
        Phone("b").request,
        Phone("b").key,
    )
    assert A.sealed not in encode_record(after) or Phone("b", era=2).sealed == A.sealed
    assert A.key not in encode_record(after)


def test_activate_answers_the_same_with_the_whole_registration():
    done = apply(RULES, run(A.register()), A.activate())[1]
    same = apply(RULES, active(1, 2), A.activate())[1]
    assert (same.registration_id, same.birth_era, same.request, same.proof_key) == (
        done.registration_id,
        done.birth_era,
        done.request,
        done.proof_key,
    )


@pytest.mark.parametrize("command", [B.activate(), Activate(ID, A.id, BAD_SIGNATURE)])
def test_a_refused_activation_tells_nothing_of_a_registration(command):
    outcome = apply(RULES, run(A.register()), command)[1]
    assert (outcome.birth_era, outcome.request, outcome.proof_key) == (0, b"", b"")


def test_charge_appends_in_order_and_changes_nothing_else():
    before = pending_b(3, 1)
    after, outcome = apply(RULES, before, charge(1, 2))
    assert after == msgspec.structs.replace(
        before, version=before.version + 1, attempts=(att(3), att(1), att(2))
    )
    assert outcome.guesses_remaining == LIMIT - 3


def test_a_charge_keeps_the_last_proof():
    assert proven().last_proof == LastProof(att(0), 1, A.prove(1, att(0)).signature)


def test_charge_grants_the_active_registration_in_the_records_era():
    for era_sent, attempt in ((2, "new"), (2, 1), (0, 1)):
        grant = apply(RULES, proven(), charge(era_sent, attempt))[1].grant
        assert (grant.registration_id, grant.era, grant.proof_key, grant.sealed) == (
            A.id,
            2,
            A.key,
            A.sealed,
        )


def test_prove_keeps_the_pending_registration_and_the_signed_era():
    before = pending_b(1, 2)
    after, outcome = apply(RULES, before, A.prove(1, att(1)))
    proof = LastProof(att(1), 1, A.prove(1, att(1)).signature)
    assert after == msgspec.structs.replace(
        before, version=before.version + 1, era=2, attempts=(), last_proof=proof
    )
    assert (outcome.grant.era, outcome.era, outcome.guesses_remaining) == (1, 2, LIMIT)
    assert outcome.signature == proof.signature


def test_the_last_proof_again_grants_the_same_and_keeps_the_list():
    record = proven()
    first = apply(RULES, active(0), A.prove(1, att(0)))[1].grant
    after, outcome = apply(RULES, record, A.prove(1, att(0)))
    assert outcome.grant == first
    assert after.attempts == (att(1),)
    assert outcome.guesses_remaining == LIMIT - 1


def test_expire_leaves_a_lock_an_era_and_the_pending_registration():
    before = pending_b(*FULL)
    after, outcome = apply(RULES, before, expire(1))
    assert after == Record(before.version + 1, 2, None, before.pending, (), None, True)
    assert outcome.registration_id == A.id


def test_expire_forgets_the_last_proof():
    record = run(*(charge(2, n) for n in range(2, 11)), record=proven())
    assert run(expire(2), record=record).last_proof is None


def test_delete_leaves_era_and_version_alone():
    before = run(Phone("b", era=2).register(), record=proven())
    assert run(delete(2), record=before) == Record(
        before.version + 1, 3, None, None, (), None, False
    )


def test_era_and_version_survive_deletion_and_go_on():
    gone = tombstone()
    back = run(Phone("c", era=2).register(), record=gone)
    assert (back.era, back.version) == (2, gone.version + 1)


# ------------------------------------------------------------------ limits and broken states


@pytest.mark.parametrize("limit", [1, 2, MAX_LIMIT])
def test_the_limit_is_the_number_of_guesses(limit):
    rules = Rules(CLUSTER, limit)
    record = run(A.register(), A.activate(), rules=rules)
    statuses = []
    for n in range(limit + 2):
        record, outcome = apply(rules, record, charge(1, n))
        statuses.append((outcome.status, outcome.guesses_remaining))
    assert statuses == [
        *((S.DONE, limit - 1 - n) for n in range(limit)),
        (S.EXHAUSTED, 0),
        (S.EXHAUSTED, 0),
    ]


@pytest.mark.parametrize("limit", [-1, 0, MAX_LIMIT + 1])
def test_a_limit_out_of_range_is_refused(limit):
    with pytest.raises(ValueError, match=r"limit in cluster\.json"):
        Rules(CLUSTER, limit)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, ("none", None)),
        (run(A.register()), ("none", None)),
        (tombstone(), ("none", None)),
        (active(), ("active", LIMIT)),
        (active(1, 2, 3), ("active", LIMIT - 3)),
        (active(*FULL), ("exhausted", 0)),
        (locked(), ("locked", 0)),
        (locked_with_pending(), ("locked", 0)),
        (run(B.activate(), record=locked_with_pending()), ("active", LIMIT)),
    ],
)
def test_state_of_names_where_an_account_stands(record, expected):
    assert tuple(state_of(record, LIMIT)) == expected


LAST = MAX_COUNTER - 1


@pytest.mark.parametrize(
    "command",
    [Phone("z", era=3).register(), charge(3, 2), A.prove(3, att(1)), delete(3)],
    ids=lambda c: type(c).__name__,
)
def test_a_version_that_would_reach_2_to_53_stops_the_node(command):
    record = msgspec.structs.replace(active(1), version=LAST, era=3)
    with pytest.raises(InvariantError, match="version reached"):
        apply(RULES, record, command)


def test_an_era_that_would_reach_2_to_53_stops_the_node():
    for command in (A.prove(LAST, att(1)), delete(LAST), expire(LAST)):
        record = msgspec.structs.replace(active(*FULL), version=LAST - 1, era=LAST)
        with pytest.raises(InvariantError, match="era reached"):
            apply(RULES, record, command)
    record = msgspec.structs.replace(run(A.register()), version=LAST - 1, era=LAST)
    with pytest.raises(InvariantError, match="era reached"):
        apply(RULES, record, A.activate())


@pytest.mark.parametrize(
    "change",
    [{"birth_era": 1}, {"request": h("x")}, {"proof_key": B.key}, {"registration_id": h("y")}],
    ids=lambda c: next(iter(c)),
)
def test_a_stored_registration_that_does_not_recompute_is_never_used(change):
    def spoil(registration):
        return msgspec.structs.replace(registration, **change)

    rid = change.get("registration_id", A.id)
    key_holder = B if "proof_key" in change else A
    pending = msgspec.structs.replace(run(A.register()), era=1, version=2)
    pending = msgspec.structs.replace(pending, pending=spoil(pending.pending))
    record = msgspec.structs.replace(active(1), era=5, version=9)
    record = msgspec.structs.replace(record, active=spoil(record.active))
    assert not is_bound(ID, pending)
    assert not is_bound(ID, record)
    for state, command in (
        (pending, Activate(ID, rid, key_holder.activate().signature)),
        (record, charge(5, 2)),
        (record, charge(5, 1)),
        (record, Prove(ID, rid, 5, att(1), key_holder.prove(5, att(1)).signature)),
    ):
        with pytest.raises(InvariantError, match="does not recompute"):
            apply(RULES, state, command)


def test_a_record_under_another_record_id_is_not_bound():
    assert is_bound(ID, pending_b())
    assert not is_bound(OTHER_ID, pending_b())
    assert is_bound(OTHER_ID, tombstone())
