"""The table of design section 5, line by line: every condition has its row, by name."""

from __future__ import annotations

import itertools

import pytest
from record_kit import (
    BAD_SIGNATURE,
    FULL,
    ID,
    LIMIT,
    OTHER_CLUSTER,
    RULES,
    WEAK_KEY,
    A,
    B,
    Phone,
    S,
    active,
    att,
    charge,
    delete,
    expire,
    locked,
    locked_with_pending,
    pending_b,
    proven,
    run,
    tombstone,
)

from cluster.commands import Activate, Prove, Register
from cluster.record import apply, decode_record, encode_record, is_bound

# Name, record before, command, status; the record changes when the status is DONE, only then.
# fmt: off
TABLE = [
    # Register
    ("register puts a pending registration on an absent record",
     lambda: None, A.register(), S.DONE),
    ("register with a weak proof key is rejected",
     lambda: None, Register(ID, 0, A.request, WEAK_KEY, A.sealed), S.REJECTED),
    ("a weak proof key is rejected before the era is looked at",
     lambda: None, Register(ID, 5, A.request, WEAK_KEY, A.sealed), S.REJECTED),
    ("the pending registration with the same bytes is pending",
     lambda: run(A.register()), A.register(), S.SAME),
    ("the active registration with the same bytes is active although its era is over",
     active, A.register(), S.SAME),
    ("the pending registration with other bytes conflicts",
     lambda: run(A.register()), Phone("a", sealed=bytes(340)).register(), S.CONFLICT),
    ("the active registration with other bytes conflicts although its era is over",
     active, Phone("a", sealed=bytes(340)).register(), S.CONFLICT),
    ("a registration for an earlier era is stale",
     active, Phone("c").register(), S.STALE),
    ("a registration for a later era is stale",
     active, Phone("c", era=2).register(), S.STALE),
    ("a registration for a later era is stale on an absent record",
     lambda: None, B.register(), S.STALE),
    ("a pending registration stands beside the active one",
     active, B.register(), S.DONE),
    ("a pending registration replaces another pending one",
     pending_b, Phone("c", era=1).register(), S.DONE),
    ("a locked account may register anew",
     locked, Phone("c", era=2).register(), S.DONE),
    ("a deleted account may register anew",
     tombstone, Phone("c", era=2).register(), S.DONE),
    ("a replaced registration sent again is stale",
     tombstone, A.register(), S.STALE),
    # Activate
    ("activate makes the pending registration active",
     lambda: run(A.register()), A.activate(), S.DONE),
    ("activate of the active registration answers the same, whatever the signature",
     active, Activate(ID, A.id, BAD_SIGNATURE), S.SAME),
    ("activate of a charged registration does not reset",
     lambda: active(1), A.activate(), S.SAME),
    ("activate on an absent record conflicts",
     lambda: None, A.activate(), S.CONFLICT),
    ("activate of what is neither pending nor active conflicts",
     pending_b, Phone("c", era=1).activate(), S.CONFLICT),
    ("activate of a replaced registration conflicts",
     lambda: run(B.activate(), record=pending_b()), A.activate(), S.CONFLICT),
    ("activate after deletion conflicts",
     tombstone, A.activate(), S.CONFLICT),
    ("activate of what a lock ended conflicts",
     locked, A.activate(), S.CONFLICT),
    ("activate with a bad signature is rejected",
     lambda: run(A.register()), Activate(ID, A.id, BAD_SIGNATURE), S.REJECTED),
    ("activate signed by another registration's key is rejected",
     pending_b, Activate(ID, B.id, A.activate().signature), S.REJECTED),
    ("activate signed for another cluster is rejected",
     lambda: run(A.register()), A.activate(OTHER_CLUSTER), S.REJECTED),
    ("activate replaces the active registration",
     lambda: pending_b(*FULL), B.activate(), S.DONE),
    ("a registration pending before a lock may still be activated",
     locked_with_pending, B.activate(), S.DONE),
    # Charge
    ("charge lists an attempt",
     active, charge(1, 1), S.DONE),
    ("charge of a listed attempt is replayed",
     lambda: active(1), charge(1, 1), S.REPLAYED),
    ("charge of a listed attempt is replayed in any era sent",
     lambda: active(1), charge(0, 1), S.REPLAYED),
    ("charge of a listed attempt is replayed on a full list",
     lambda: active(*FULL), charge(1, 3), S.REPLAYED),
    ("charge of the last proof's attempt is superseded",
     proven, charge(1, 0), S.SUPERSEDED),
    ("charge of the last proof's attempt is superseded in the new era too",
     proven, charge(2, 0), S.SUPERSEDED),
    ("charge in an earlier era is stale",
     active, charge(0, 1), S.STALE),
    ("charge in a later era is stale",
     active, charge(2, 1), S.STALE),
    ("charge in another era is stale on a full list",
     lambda: active(*FULL), charge(0, "x"), S.STALE),
    ("charge in another era is stale on a locked record",
     locked, charge(1, "x"), S.STALE),
    ("charge in another era is stale on an absent record",
     lambda: None, charge(1, "x"), S.STALE),
    ("charge on an absent record: not registered",
     lambda: None, charge(0, 1), S.NOT_REGISTERED),
    ("charge on a pending registration alone: not registered",
     lambda: run(A.register()), charge(0, 1), S.NOT_REGISTERED),
    ("charge on a tombstone: not registered",
     tombstone, charge(2, 1), S.NOT_REGISTERED),
    ("charge on a locked record: locked",
     locked, charge(2, 1), S.LOCKED),
    ("charge on a locked record with a pending registration: locked",
     locked_with_pending, charge(2, 1), S.LOCKED),
    ("charge of a new attempt on a full list: exhausted",
     lambda: active(*FULL), charge(1, "x"), S.EXHAUSTED),
    ("the last free place is given",
     lambda: active(*range(LIMIT - 1)), charge(1, "x"), S.DONE),
    # Prove
    ("prove of a listed attempt empties the list",
     lambda: active(1, 2), A.prove(1, att(1)), S.DONE),
    ("prove of a listed attempt on a full list",
     lambda: active(*FULL), A.prove(1, att(9)), S.DONE),
    ("the last proof sent again is answered the same",
     proven, A.prove(1, att(0)), S.SAME),
    ("the last proof with a bad signature is superseded",
     proven, Prove(ID, A.id, 1, att(0), BAD_SIGNATURE), S.SUPERSEDED),
    ("the last proof's attempt in the new era is superseded",
     proven, A.prove(2, att(0)), S.SUPERSEDED),
    ("the last proof under another registration is superseded",
     proven, Prove(ID, B.id, 1, att(0), A.prove(1, att(0)).signature), S.SUPERSEDED),
    ("another attempt in the last proof's era is superseded",
     proven, A.prove(1, att(1)), S.SUPERSEDED),
    ("a proof from two eras ago resets nothing",
     lambda: run(A.prove(2, att(1)), charge(3, 2), record=proven()),
     A.prove(1, att(0)), S.SUPERSEDED),
    ("prove on an absent record is superseded",
     lambda: None, A.prove(0, att(1)), S.SUPERSEDED),
    ("prove of a replaced registration is superseded",
     lambda: run(B.activate(), charge(2, 1), record=pending_b(1)),
     A.prove(2, att(1)), S.SUPERSEDED),
    ("prove of a pending registration is superseded",
     lambda: pending_b(1), B.prove(1, att(1)), S.SUPERSEDED),
    ("prove after the lock is superseded",
     locked, A.prove(1, att(1)), S.SUPERSEDED),
    ("prove in an earlier era is superseded",
     lambda: active(1), A.prove(0, att(1)), S.SUPERSEDED),
    ("prove in a later era is superseded",
     lambda: active(1), A.prove(2, att(1)), S.SUPERSEDED),
    ("prove of an unlisted attempt is superseded",
     lambda: active(1), A.prove(1, att(2)), S.SUPERSEDED),
    ("an unlisted attempt is superseded before its signature is looked at",
     lambda: active(1), Prove(ID, A.id, 1, att(2), BAD_SIGNATURE), S.SUPERSEDED),
    ("prove with a bad signature is rejected",
     lambda: active(1), Prove(ID, A.id, 1, att(1), BAD_SIGNATURE), S.REJECTED),
    ("prove with the signature of another attempt is rejected",
     lambda: active(1, 2), Prove(ID, A.id, 1, att(1), A.prove(1, att(2)).signature), S.REJECTED),
    ("prove with the signature of another era is rejected",
     lambda: active(1), Prove(ID, A.id, 1, att(1), A.prove(2, att(1)).signature), S.REJECTED),
    ("prove with another registration's signature is rejected",
     lambda: active(1), Prove(ID, A.id, 1, att(1), B.prove(1, att(1)).signature), S.REJECTED),
    ("prove signed for another cluster is rejected",
     lambda: active(1), A.prove(1, att(1), OTHER_CLUSTER), S.REJECTED),
    # Expire
    ("expire locks a full list",
     lambda: active(*FULL), expire(1), S.DONE),
    ("expire keeps a list with one place left",
     lambda: active(*range(LIMIT - 1)), expire(1), S.SAME),
    ("expire of an earlier era does nothing",
     lambda: active(*FULL), expire(0), S.SAME),
    ("expire of a later era does nothing",
     lambda: active(*FULL), expire(2), S.SAME),
    ("expire after a proof does nothing",
     lambda: run(A.prove(1, att(1)), record=active(*FULL)), expire(1), S.SAME),
    ("expire sent again does nothing",
     locked, expire(1), S.SAME),
    ("expire in the lock's own era does nothing",
     locked, expire(2), S.SAME),
    ("expire on an absent record does nothing",
     lambda: None, expire(0), S.SAME),
    ("expire on a tombstone does nothing",
     tombstone, expire(2), S.SAME),
    # Delete
    ("delete erases an active registration",
     lambda: active(1), delete(1), S.DONE),
    ("delete erases a pending registration",
     lambda: run(A.register()), delete(0), S.DONE),
    ("delete erases a lock",
     locked, delete(2), S.DONE),
    ("delete erases everything beside each other",
     lambda: pending_b(*FULL), delete(1), S.DONE),
    ("delete in an earlier era is stale",
     active, delete(0), S.STALE),
    ("delete in a later era is stale",
     active, delete(2), S.STALE),
    ("delete of a locked record in another era is stale",
     locked, delete(1), S.STALE),
    ("delete of a pending registration in another era is stale",
     lambda: run(A.register()), delete(1), S.STALE),
    ("delete sent again answers the same",
     tombstone, delete(1), S.SAME),
    ("delete of a bare tombstone changes nothing in its own era",
     tombstone, delete(2), S.SAME),
    ("delete of an absent record changes nothing",
     lambda: None, delete(0), S.SAME),
    ("delete of an absent record changes nothing in another era",
     lambda: None, delete(7), S.SAME),
]
# fmt: on


@pytest.mark.parametrize(
    ("before", "command", "status"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_table(before, command, status):
    record = before()
    after, outcome = apply(RULES, record, command)
    assert outcome.status is status
    if status is S.DONE:
        assert after.version == (0 if record is None else record.version) + 1
    else:
        assert after is record
    assert outcome.version == (0 if after is None else after.version)
    assert outcome.era == (0 if after is None else after.era)
    if after is not None:
        assert decode_record(encode_record(after)) == after
        assert is_bound(ID, after)


@pytest.mark.parametrize("row", TABLE, ids=[r[0] for r in TABLE])
def test_only_what_may_be_evaluated_or_released_carries_a_grant(row):
    _, before, command, status = row
    outcome = apply(RULES, before(), command)[1]
    if hasattr(outcome, "grant"):
        assert (outcome.grant is not None) == (status in (S.DONE, S.REPLAYED, S.SAME))


def test_every_command_answers_in_every_state():
    """Total: no pair of state and command raises."""
    states = [row[1]() for row in TABLE]
    commands = [row[2] for row in TABLE]
    for state, command in itertools.product(states, commands):
        after, outcome = apply(RULES, state, command)
        assert (outcome.status is S.DONE) == (after is not state)
