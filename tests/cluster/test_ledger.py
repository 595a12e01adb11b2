"""The ledger's moves, each as crypto.md writes it, its question, and its stored bytes."""

from __future__ import annotations

import msgspec
import pytest
from record_kit import (
    BAD_SIGNATURE,
    ID,
    LIMIT,
    OTHER_CLUSTER,
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

from cluster.commands import Activate
from cluster.ledger import (
    MAX_ROW_BYTES,
    MAX_ROW_IDS,
    NO_ROW,
    Alarm,
    Current,
    LedgerRow,
    Proved,
    ShareRefusal,
    after,
    decode_row,
    encode_row,
    may_share,
    on_activate,
    on_charge,
    on_delete,
    on_expire,
    on_prove,
    on_snapshot,
)
from cluster.record import LastProof, Record, Registration, apply
from cluster.types import MAX_COUNTER, InvariantError


def current(phone):
    return Current(phone.id, phone.era, phone.request, phone.key)


def proof(phone, era, n):
    return Proved(era, att(n), phone.prove(era, att(n)).signature)


def ids(*names):
    return tuple(att(n) for n in names)


def registration(phone):
    return Registration(phone.id, phone.era, phone.request, phone.key, phone.sealed)


EMPTY_A = LedgerRow(1, current(A), None, ())
FULL_A = LedgerRow(1, current(A), None, ids(*range(LIMIT)))
PROVED_A = LedgerRow(1, current(A), proof(A, 4, 0), ids(1, 2))
GONE = LedgerRow(7, None, None, ())


# ------------------------------------------------------------------ Activate


@pytest.mark.parametrize("row", [NO_ROW, GONE, EMPTY_A, FULL_A, PROVED_A])
def test_activate_of_a_bound_registration_at_or_above_the_floor_becomes_current_and_empty(row):
    for birth in (row.floor, row.floor + 3):
        new = Phone("n", birth)
        assert on_activate(ID, row, current(new)) == (
            LedgerRow(birth + 1, current(new), None, ()),
            None,
        )


@pytest.mark.parametrize("row", [EMPTY_A, FULL_A, PROVED_A])
def test_activate_of_what_is_current_changes_nothing_and_raises_no_alarm(row):
    moved, alarm = on_activate(ID, row, current(A))
    assert moved is row
    assert alarm is None


@pytest.mark.parametrize("row", [GONE, EMPTY_A, FULL_A, PROVED_A])
def test_activate_below_the_floor_changes_nothing_and_raises_an_alarm(row):
    moved, alarm = on_activate(ID, row, current(Phone("n", row.floor - 1)))
    assert moved is row
    assert alarm is Alarm.ACTIVATE_BELOW_FLOOR


@pytest.mark.parametrize(
    "forged",
    [
        {"registration_id": h("x")},
        {"birth_era": 9},
        {"request": h("x")},
        {"proof_key": B.key},
    ],
    ids=lambda c: next(iter(c)),
)
def test_activate_of_an_id_that_does_not_recompute_changes_nothing_and_raises_an_alarm(forged):
    new = msgspec.structs.replace(current(Phone("n", 8)), **forged)
    moved, alarm = on_activate(ID, PROVED_A, new)
    assert moved is PROVED_A
    assert alarm is Alarm.ACTIVATE_UNBOUND
    _, alarm = on_activate(OTHER_ID, PROVED_A, current(Phone("n", 8)))
    assert alarm is Alarm.ACTIVATE_UNBOUND


def test_activate_whose_floor_would_leave_the_range_changes_nothing():
    moved, alarm = on_activate(ID, EMPTY_A, current(Phone("n", MAX_COUNTER - 1)))
    assert moved is EMPTY_A
    assert alarm is Alarm.ACTIVATE_UNBOUND
    moved, alarm = on_activate(ID, EMPTY_A, current(Phone("n", MAX_COUNTER - 2)))
    assert alarm is None
    assert decode_row(encode_row(moved)) == moved


# ------------------------------------------------------------------ Charge


def test_charge_against_current_adds_the_attempt():
    assert on_charge(RULES, EMPTY_A, A.id, 1, att(1)) == (
        LedgerRow(1, current(A), None, ids(1)),
        None,
    )


def test_charge_of_a_listed_attempt_changes_nothing_also_when_full():
    for row in (PROVED_A, FULL_A):
        moved, alarm = on_charge(RULES, row, A.id, 5, att(1))
        assert moved is row
        assert alarm is None


@pytest.mark.parametrize("row", [NO_ROW, GONE, EMPTY_A])
def test_charge_of_another_registration_changes_nothing_and_raises_an_alarm(row):
    moved, alarm = on_charge(RULES, row, B.id, 5, att(1))
    assert moved is row
    assert alarm is Alarm.CHARGE_OF_ANOTHER


@pytest.mark.parametrize(("era", "added"), [(3, False), (4, False), (5, True), (6, True)])
def test_charge_counts_only_in_an_era_greater_than_the_last_proofs(era, added):
    moved, alarm = on_charge(RULES, PROVED_A, A.id, era, att(3))
    assert moved.ids == (ids(1, 2, 3) if added else ids(1, 2))
    assert alarm is (None if added else Alarm.CHARGE_NOT_NEWER)


def test_charge_at_the_limit_is_not_added_and_raises_an_alarm():
    moved, alarm = on_charge(RULES, FULL_A, A.id, 5, att("x"))
    assert moved is FULL_A
    assert alarm is Alarm.LEDGER_FULL


# ------------------------------------------------------------------ Prove


@pytest.mark.parametrize("row", [EMPTY_A, FULL_A])
def test_the_first_proof_empties_the_list(row):
    assert on_prove(RULES, row, A.id, proof(A, 1, 1)) == (
        LedgerRow(1, current(A), proof(A, 1, 1), ()),
        None,
    )


@pytest.mark.parametrize(("era", "empties"), [(1, False), (3, False), (4, False), (5, True)])
def test_only_a_proof_of_a_greater_signed_era_empties_the_list(era, empties):
    moved, alarm = on_prove(RULES, PROVED_A, A.id, proof(A, era, 9))
    assert (moved.ids == ()) == empties
    assert (moved is PROVED_A) != empties
    assert alarm is (None if empties else Alarm.PROVE_NOT_NEWER)


@pytest.mark.parametrize("row", [NO_ROW, GONE, PROVED_A])
def test_a_proof_of_another_registration_changes_nothing_and_raises_an_alarm(row):
    moved, alarm = on_prove(RULES, row, B.id, proof(B, 9, 1))
    assert moved is row
    assert alarm is Alarm.PROVE_OF_ANOTHER


@pytest.mark.parametrize(
    "signature",
    [
        BAD_SIGNATURE,
        A.prove(10, att(1)).signature,
        A.prove(9, att(2)).signature,
        B.prove(9, att(1)).signature,
        A.prove(9, att(1), OTHER_CLUSTER).signature,
        A.activate().signature,
    ],
    ids=["zeros", "another era", "another attempt", "another key", "another cluster", "activate"],
)
def test_a_proof_that_does_not_verify_here_changes_nothing_and_raises_an_alarm(signature):
    moved, alarm = on_prove(RULES, PROVED_A, A.id, Proved(9, att(1), signature))
    assert moved is PROVED_A
    assert alarm is Alarm.PROVE_UNVERIFIED


def test_a_proof_is_verified_with_the_rows_own_key():
    """Under the registration id of A but another key in the row, A's signature is nothing."""
    row = LedgerRow(1, msgspec.structs.replace(current(A), proof_key=B.key), None, ids(1))
    assert on_prove(RULES, row, A.id, proof(A, 1, 1)) == (row, Alarm.PROVE_UNVERIFIED)


# ------------------------------------------------------------------ Expire, Delete


@pytest.mark.parametrize("row", [EMPTY_A, FULL_A, PROVED_A])
def test_expire_ends_current_and_keeps_the_floor(row):
    assert on_expire(row) == LedgerRow(row.floor, None, None, ())
    assert on_expire(GONE) is GONE


@pytest.mark.parametrize(("era", "floor"), [(0, 1), (1, 1), (2, 2), (9, 9)])
def test_delete_ends_current_and_raises_the_floor_never_lowers_it(era, floor):
    assert on_delete(PROVED_A, era) == LedgerRow(floor, None, None, ())
    assert on_delete(GONE, era) == LedgerRow(max(7, era), None, None, ())


def test_what_expired_or_was_deleted_never_becomes_current_again():
    for row in (on_expire(FULL_A), on_delete(FULL_A, 0)):
        assert on_activate(ID, row, current(A)) == (row, Alarm.ACTIVATE_BELOW_FLOOR)


# ------------------------------------------------------------------ after: outcomes


def moved_by(row, record, command):
    """The row after apply said what it said."""
    _, outcome = apply(RULES, record, command)
    return outcome.status, *after(RULES, ID, row, command, outcome)


A_LISTED = LedgerRow(1, current(A), None, ids(1))
A_PROVEN = LedgerRow(1, current(A), proof(A, 1, 0), ids(1))


@pytest.mark.parametrize(
    ("row", "record", "command", "status", "expected"),
    [
        (None, None, A.register(), S.DONE, None),
        (None, run(A.register()), A.activate(), S.DONE, EMPTY_A),
        (A_LISTED, active(1), A.activate(), S.SAME, A_LISTED),
        (None, active(1), A.activate(), S.SAME, None),
        (None, run(A.register()), Activate(ID, A.id, BAD_SIGNATURE), S.REJECTED, None),
        (A_LISTED, active(1), B.activate(), S.CONFLICT, A_LISTED),
        (EMPTY_A, active(), charge(1, 1), S.DONE, A_LISTED),
        (EMPTY_A, active(1), charge(1, 1), S.REPLAYED, A_LISTED),
        (A_LISTED, active(1), charge(1, 1), S.REPLAYED, A_LISTED),
        (A_LISTED, active(1), charge(0, 2), S.STALE, A_LISTED),
        (EMPTY_A, active(*range(LIMIT)), charge(1, "x"), S.EXHAUSTED, EMPTY_A),
        (GONE, locked(), charge(2, "x"), S.LOCKED, GONE),
        (GONE, None, charge(0, "x"), S.NOT_REGISTERED, GONE),
        (A_PROVEN, proven(), charge(2, 0), S.SUPERSEDED, A_PROVEN),
        (
            A_LISTED,
            active(1),
            A.prove(1, att(1)),
            S.DONE,
            LedgerRow(1, current(A), proof(A, 1, 1), ()),
        ),
        (A_PROVEN, proven(), A.prove(1, att(0)), S.SAME, A_PROVEN),
        (A_LISTED, proven(), A.prove(1, att(0)), S.SAME, A_LISTED),
        (A_LISTED, active(1), A.prove(1, att(2)), S.SUPERSEDED, A_LISTED),
        (FULL_A, active(*range(LIMIT)), expire(1), S.DONE, LedgerRow(1, None, None, ())),
        (A_LISTED, active(1), expire(1), S.SAME, A_LISTED),
        (A_LISTED, active(1), delete(1), S.DONE, LedgerRow(2, None, None, ())),
        (None, run(A.register()), delete(0), S.DONE, LedgerRow(1, None, None, ())),
        (A_LISTED, active(1), delete(0), S.STALE, A_LISTED),
        (A_LISTED, tombstone(), delete(2), S.SAME, A_LISTED),
        (None, None, delete(0), S.SAME, None),
    ],
)
def test_a_row_moves_with_effects_and_replayed_charges_only(row, record, command, status, expected):
    said, moved, alarm = moved_by(row, record, command)
    assert said is status
    assert moved == expected
    assert alarm is None
    if expected == row:
        assert moved is row


@pytest.mark.parametrize("status", [s for s in S if s not in (S.DONE, S.REPLAYED)])
def test_a_charge_outcome_without_effect_moves_nothing_although_it_carries_a_grant(status):
    _, outcome = apply(RULES, active(), charge(1, 1))
    outcome = msgspec.structs.replace(outcome, status=status)
    moved, alarm = after(RULES, ID, EMPTY_A, charge(1, 1), outcome)
    assert moved is EMPTY_A
    assert alarm is None


def test_a_replayed_charge_counts_in_the_records_era_not_in_the_era_sent():
    row = LedgerRow(1, current(A), proof(A, 1, 0), ())
    assert moved_by(row, proven(), charge(1, 1)) == (
        S.REPLAYED,
        LedgerRow(1, current(A), proof(A, 1, 0), ids(1)),
        None,
    )


def test_a_proof_moves_the_row_by_the_signed_era_not_by_the_one_after_it():
    _, moved, _ = moved_by(A_LISTED, active(1), A.prove(1, att(1)))
    assert moved.proved.era == 1
    _, moved, alarm = moved_by(moved, run(A.prove(1, att(1)), record=active(1)), charge(2, 2))
    assert moved.ids == ids(2)
    assert alarm is None


def test_delete_raises_the_floor_to_the_era_after_it():
    record = run(
        *(c for n in range(1, 4) for c in (charge(n, n), A.prove(n, att(n)))), record=active()
    )
    _, moved, _ = moved_by(LedgerRow(1, current(A), proof(A, 3, 3), ()), record, delete(4))
    assert moved == LedgerRow(5, None, None, ())


def test_an_outcome_of_another_command_stops_the_node():
    _, outcome = apply(RULES, active(), charge(1, 1))
    with pytest.raises(InvariantError, match="no outcome of"):
        after(RULES, ID, EMPTY_A, expire(1), outcome)


# ------------------------------------------------------------------ Snapshot


def snap(active=None, pending=None, attempts=(), last=None, era=9, *, locked=False):
    return Record(50, era, active, pending, attempts, last, locked)


def last(phone, era, n):
    return LastProof(att(n), era, phone.prove(era, att(n)).signature)


REG_A = registration(A)
NEW = Phone("n", 5)
REG_NEW = registration(NEW)


@pytest.mark.parametrize(
    ("row", "record", "expected", "alarm"),
    [
        pytest.param(None, None, None, None, id="nothing and no record"),
        pytest.param(GONE, None, GONE, None, id="none current and no record"),
        pytest.param(
            PROVED_A, None, LedgerRow(1, None, None, ()), None, id="current and no record: ended"
        ),
        pytest.param(
            PROVED_A,
            snap(era=9),
            LedgerRow(9, None, None, ()),
            None,
            id="a tombstone raises the floor to its era",
        ),
        pytest.param(
            None, snap(era=9), LedgerRow(9, None, None, ()), None, id="also without a row"
        ),
        pytest.param(
            LedgerRow(12, None, None, ()),
            snap(era=9),
            LedgerRow(12, None, None, ()),
            None,
            id="a tombstone never lowers the floor",
        ),
        pytest.param(
            PROVED_A,
            snap(pending=registration(Phone("p", 6)), era=9, locked=True),
            LedgerRow(6, None, None, ()),
            None,
            id="with one pending the floor is its birth era",
        ),
        pytest.param(
            LedgerRow(7, None, None, ()),
            snap(pending=registration(Phone("p", 6)), era=9),
            LedgerRow(7, None, None, ()),
            None,
            id="one pending never lowers the floor",
        ),
        pytest.param(None, snap(REG_A), EMPTY_A, None, id="other active becomes current"),
        pytest.param(
            None,
            snap(REG_A, attempts=ids(1, 2), last=last(A, 8, 0)),
            LedgerRow(1, current(A), proof(A, 8, 0), ids(1, 2)),
            None,
            id="a whole record into an empty ledger",
        ),
        pytest.param(
            PROVED_A,
            snap(REG_NEW, attempts=ids(7)),
            LedgerRow(6, current(NEW), None, ids(7)),
            None,
            id="another active above the floor replaces what is current",
        ),
        pytest.param(
            LedgerRow(7, None, None, ()),
            snap(REG_NEW, attempts=ids(7)),
            LedgerRow(7, None, None, ()),
            Alarm.ACTIVATE_BELOW_FLOOR,
            id="another active below the floor: no change, alarm",
        ),
        pytest.param(
            LedgerRow(8, current(Phone("m", 7)), None, ids(1)),
            snap(REG_NEW, attempts=ids(7), last=last(NEW, 8, 0)),
            LedgerRow(8, current(Phone("m", 7)), None, ids(1)),
            Alarm.ACTIVATE_BELOW_FLOOR,
            id="nor does its proof or list touch what is current",
        ),
        pytest.param(
            PROVED_A,
            snap(msgspec.structs.replace(REG_NEW, request=h("x"))),
            PROVED_A,
            Alarm.ACTIVATE_UNBOUND,
            id="another active that does not recompute: no change, alarm",
        ),
        pytest.param(
            PROVED_A,
            snap(REG_A, attempts=ids(1, 2), last=last(A, 4, 0), era=5),
            PROVED_A,
            None,
            id="the same state again changes nothing",
        ),
        pytest.param(
            PROVED_A,
            snap(REG_A, attempts=ids(2, 3), last=last(A, 4, 0), era=5),
            LedgerRow(1, current(A), proof(A, 4, 0), ids(1, 2, 3)),
            None,
            id="listed ids are added, none is taken away",
        ),
        pytest.param(
            PROVED_A,
            snap(REG_A, attempts=ids(3), last=last(A, 8, 9)),
            LedgerRow(1, current(A), proof(A, 8, 9), ids(3)),
            None,
            id="a newer proof empties before the listed are added",
        ),
        pytest.param(
            FULL_A,
            snap(REG_A, attempts=ids("x"), last=last(A, 8, 9)),
            LedgerRow(1, current(A), proof(A, 8, 9), ids("x")),
            None,
            id="also a full list, which then has room",
        ),
        pytest.param(
            PROVED_A,
            snap(REG_A, last=last(A, 3, 9)),
            PROVED_A,
            Alarm.PROVE_NOT_NEWER,
            id="an older proof never empties",
        ),
        pytest.param(
            PROVED_A,
            snap(REG_A, last=last(A, 4, 9), era=5),
            PROVED_A,
            Alarm.PROVE_NOT_NEWER,
            id="an equal era with another attempt never empties",
        ),
        pytest.param(
            PROVED_A,
            snap(REG_A, attempts=ids(3), last=LastProof(att(9), 8, BAD_SIGNATURE)),
            LedgerRow(1, current(A), proof(A, 4, 0), ids(1, 2, 3)),
            Alarm.PROVE_UNVERIFIED,
            id="a forged proof does not empty, the listed are added",
        ),
        pytest.param(
            PROVED_A,
            snap(REG_A, attempts=ids(3), last=last(B, 8, 9)),
            LedgerRow(1, current(A), proof(A, 4, 0), ids(1, 2, 3)),
            Alarm.PROVE_UNVERIFIED,
            id="nor does a proof with another key",
        ),
        pytest.param(
            PROVED_A,
            snap(REG_A),
            PROVED_A,
            None,
            id="an emptied list without its proof empties nothing",
        ),
        pytest.param(
            LedgerRow(1, current(A), None, ids(*range(LIMIT - 1))),
            snap(REG_A, attempts=ids("x", "y", "z")),
            LedgerRow(1, current(A), None, ids(*range(LIMIT - 1), "x")),
            Alarm.LEDGER_FULL,
            id="listed ids are never added beyond the limit",
        ),
        pytest.param(
            FULL_A,
            snap(REG_A, attempts=ids(*range(LIMIT))),
            FULL_A,
            None,
            id="a full list that is already here raises no alarm",
        ),
        pytest.param(
            None,
            snap(REG_A, attempts=ids(*range(LIMIT + 5))),
            FULL_A,
            Alarm.LEDGER_FULL,
            id="nor from an overlong list into an empty ledger",
        ),
    ],
)
def test_snapshot(row, record, expected, alarm):
    moved, raised = on_snapshot(RULES, ID, row, record)
    assert moved == expected
    assert raised is alarm
    if expected == row:
        assert moved is row


def test_a_snapshot_cannot_bring_back_a_deleted_registration():
    gone, _ = on_snapshot(RULES, ID, FULL_A, None)
    row, alarm = on_snapshot(RULES, ID, gone, snap(REG_A))
    assert row is gone
    assert alarm is Alarm.ACTIVATE_BELOW_FLOOR


def test_a_pending_registration_may_become_current_after_the_snapshot_that_ended_the_old_one():
    row, _ = on_snapshot(RULES, ID, FULL_A, locked_with_pending())
    assert row == LedgerRow(1, None, None, ())
    assert on_activate(ID, row, current(B)) == (LedgerRow(2, current(B), None, ()), None)


# ------------------------------------------------------------------ may this node share?


LISTED = active(1)


@pytest.mark.parametrize(
    ("row", "record", "asked", "refusal"),
    [
        pytest.param(A_LISTED, LISTED, A.id, None, id="listed in both for current"),
        pytest.param(A_LISTED, None, A.id, ShareRefusal.NOT_ACTIVE, id="no record"),
        pytest.param(A_LISTED, tombstone(), A.id, ShareRefusal.NOT_ACTIVE, id="nothing active"),
        pytest.param(A_LISTED, LISTED, B.id, ShareRefusal.NOT_ACTIVE, id="asked for another"),
        pytest.param(
            A_LISTED, pending_b(1), B.id, ShareRefusal.NOT_ACTIVE, id="asked for the pending one"
        ),
        pytest.param(None, LISTED, A.id, ShareRefusal.NOT_CURRENT, id="no row"),
        pytest.param(GONE, LISTED, A.id, ShareRefusal.NOT_CURRENT, id="none current"),
        pytest.param(
            LedgerRow(2, current(B), None, ids(1)),
            LISTED,
            A.id,
            ShareRefusal.NOT_CURRENT,
            id="another current",
        ),
        pytest.param(
            LedgerRow(2, current(B), None, ids(1)),
            LISTED,
            B.id,
            ShareRefusal.NOT_ACTIVE,
            id="asked for what is current but not active",
        ),
        pytest.param(A_LISTED, active(), A.id, ShareRefusal.NOT_CHARGED, id="not charged here"),
        pytest.param(EMPTY_A, LISTED, A.id, ShareRefusal.NOT_IN_LEDGER, id="not in the ledger"),
        pytest.param(
            LedgerRow(1, current(A), None, ids(*range(2, LIMIT + 2))),
            LISTED,
            A.id,
            ShareRefusal.LEDGER_FULL,
            id="no room in the ledger",
        ),
        pytest.param(
            LedgerRow(1, current(A), None, ids(*range(LIMIT + 1))),
            LISTED,
            A.id,
            ShareRefusal.LEDGER_FULL,
            id="more than the limit: none at all, although listed",
        ),
        pytest.param(FULL_A, LISTED, A.id, None, id="listed in a full ledger"),
    ],
)
def test_may_share(row, record, asked, refusal):
    assert may_share(RULES, row, record, asked, att(1)) is refusal


# ------------------------------------------------------------------ alarms and stored bytes


def test_every_alarm_has_its_sentence():
    assert len({alarm.text for alarm in Alarm}) == len(Alarm)
    assert all(len(alarm.text) > 40 for alarm in Alarm)


ROWS = [NO_ROW, GONE, EMPTY_A, FULL_A, PROVED_A]


@pytest.mark.parametrize("row", ROWS)
def test_a_row_comes_back_from_its_bytes(row):
    assert decode_row(encode_row(row)) == row


def test_the_largest_row_is_within_the_bound():
    big = MAX_COUNTER - 2
    full = Current(h(1), big, h(2), h(3))
    row = LedgerRow(big + 1, full, proof(A, big, 1), ids(*range(MAX_ROW_IDS)))
    data = encode_row(row)
    assert len(data) <= MAX_ROW_BYTES
    assert decode_row(data) == row
    with pytest.raises(msgspec.DecodeError, match="at most"):
        decode_row(data + bytes(MAX_ROW_BYTES))
    with pytest.raises(msgspec.DecodeError):
        decode_row(encode_row(msgspec.structs.replace(row, ids=(*row.ids, h("more")))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"floor": 2}, "floor other than"),
        ({"floor": 0}, "floor other than"),
        ({"current": None}, "without a current"),
        ({"current": None, "ids": ()}, "without a current"),
        ({"current": None, "proved": None}, "without a current"),
        ({"ids": ids(1, 1)}, "twice"),
    ],
)
def test_a_row_that_no_move_leads_to_is_refused(changes, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        decode_row(encode_row(msgspec.structs.replace(PROVED_A, **changes)))


RAW = msgspec.msgpack.decode(encode_row(PROVED_A))


def damaged_rows():
    """Each field of each array: gone, of another type, of another size; and one too many."""

    def change(value, wrap):
        for i, item in enumerate(value):
            yield wrap(value[:i] + value[i + 1 :])
            for bad in (None, "text", 1.5, -1, MAX_COUNTER, True, b"", {}, [[]]):
                yield wrap([*value[:i], bad, *value[i + 1 :]])
            if isinstance(item, bytes):
                for size in (len(item) - 1, len(item) + 1):
                    yield wrap([*value[:i], bytes(size), *value[i + 1 :]])
            if isinstance(item, list):

                def inner(new, i=i):
                    return wrap([*value[:i], new, *value[i + 1 :]])

                yield from change(item, inner)
        yield wrap([*value, 0])

    is_valid = [
        [*RAW[:3], None, RAW[4]],  # not proved yet
        [*RAW[:4], []],  # nothing listed
        [*RAW[:4], RAW[4][:1]],  # one of two listed
        [*RAW[:4], RAW[4][1:]],
    ]
    return [row for row in change(RAW, lambda row: row) if row not in is_valid]


def test_a_row_damaged_in_any_field_is_refused():
    rows = damaged_rows()
    assert len(rows) > 100
    for row in rows:
        with pytest.raises(msgspec.DecodeError):
            decode_row(msgspec.msgpack.encode(row))


def test_bytes_that_are_cut_extended_or_not_canonical_are_refused():
    data = encode_row(PROVED_A)
    for cut in range(len(data)):
        with pytest.raises(msgspec.DecodeError):
            decode_row(data[:cut])
    with pytest.raises(msgspec.DecodeError):
        decode_row(data + b"\x00")
    with pytest.raises(msgspec.DecodeError):
        decode_row(b"\xdc\x00" + bytes([data[0] & 0x0F]) + data[1:])
    for tag in (0, 2, "row"):
        with pytest.raises(msgspec.DecodeError):
            decode_row(msgspec.msgpack.encode([tag, *RAW[1:]]))
