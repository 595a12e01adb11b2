"""The ledger alone, against a leader that may say anything: never more than `limit` shares.

Commands, outcomes, records and snapshots here are not made by `apply`: their ids, eras, statuses
and lists are whatever the adversary likes. The only thing it cannot make is a signature of the
victim's key. Bound watched (crypto.md): between two proofs that this node verified itself, at most
`limit` distinct attempts of a registration get a share.
"""

from __future__ import annotations

from collections import defaultdict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_kit import BAD_SIGNATURE, CLUSTER, ID, Phone, att
from record_model import encode, reg_id, verifies

from cluster.commands import (
    Activate,
    ActivateOutcome,
    Charge,
    ChargeOutcome,
    Delete,
    DeleteOutcome,
    Expire,
    ExpireOutcome,
    Grant,
    Prove,
    ProveOutcome,
    Status,
)
from cluster.ledger import after, decode_row, encode_row, may_share, on_snapshot
from cluster.record import LastProof, Record, Registration, Rules

LIMIT = 2
RULES = Rules(CLUSTER, LIMIT)
VICTIMS = [Phone("a"), Phone("b", 2)]
MALLORY = Phone("m", 1)
PHONES = [*VICTIMS, MALLORY]
ATTEMPTS = [att(n) for n in range(7)]
GENUINE = {  # what the victims ever signed: one proof each in these eras
    (phone.id, era, ATTEMPTS[era % 7]): phone.prove(era, ATTEMPTS[era % 7]).signature
    for phone, eras in ((VICTIMS[0], (1, 3, 4)), (VICTIMS[1], (3, 5)))
    for era in eras
}

phones = st.sampled_from(PHONES)
eras = st.integers(0, 7)
attempts = st.sampled_from(ATTEMPTS)
done = st.sampled_from([Status.DONE, Status.DONE, Status.DONE, *Status])
signatures = st.sampled_from([*GENUINE.values(), BAD_SIGNATURE])


@st.composite
def proofs(draw):
    """(registration, era, attempt, signature): genuine, or made of parts of genuine ones."""
    if draw(st.booleans()):
        (registration, era, attempt), signature = draw(st.sampled_from(sorted(GENUINE.items())))
        return registration, era, attempt, signature
    phone, era, attempt = draw(phones), draw(eras), draw(attempts)
    if phone is MALLORY or draw(st.booleans()):
        signature = MALLORY.prove(era, attempt).signature
    else:
        signature = draw(signatures)
    return phone.id, era, attempt, signature


@st.composite
def registrations(draw):
    """A true one, or one whose id, birth era or key was exchanged."""
    phone = draw(phones)
    birth = draw(st.one_of(st.just(phone.era), st.just(phone.era), eras))
    key = draw(st.sampled_from([phone.key, phone.key, phone.key, MALLORY.key]))
    return Registration(phone.id, birth, phone.request, key, phone.sealed)


@st.composite
def activations(draw):
    r = draw(registrations())
    outcome = ActivateOutcome(
        draw(done), r.registration_id, draw(eras), 1, r.birth_era, r.request, r.proof_key
    )
    return Activate(ID, r.registration_id, BAD_SIGNATURE), outcome


@st.composite
def charges(draw):
    phone, era, attempt = draw(phones), draw(eras), draw(attempts)
    grant = Grant(phone.id, era, phone.key, phone.sealed)
    outcome = ChargeOutcome(draw(done), attempt, era, 1, 1, draw(st.sampled_from([grant, None])))
    return Charge(ID, draw(eras), attempt), outcome


@st.composite
def proves(draw):
    registration, era, attempt, signature = draw(proofs())
    grant = Grant(registration, era, MALLORY.key, MALLORY.sealed)
    outcome = ProveOutcome(draw(done), attempt, draw(eras), 1, 1, signature, grant)
    return Prove(ID, registration, era, attempt, signature), outcome


@st.composite
def endings(draw):
    if draw(st.booleans()):
        outcome = ExpireOutcome(draw(done), draw(phones).id, draw(eras), 1)
        return Expire(ID, draw(eras)), outcome
    return Delete(ID, draw(eras)), DeleteOutcome(draw(done), draw(eras), 1)


@st.composite
def records(draw):
    last = None
    if draw(st.booleans()):
        _, era, attempt, signature = draw(proofs())
        last = LastProof(attempt, era, signature)
    active = draw(st.one_of(st.none(), registrations(), registrations(), registrations()))
    pending = draw(st.one_of(st.none(), registrations()))
    listed = tuple(draw(st.lists(attempts, max_size=7, unique=True)))
    return Record(9, draw(eras), active, pending, listed, last, draw(st.booleans()))


moves = st.one_of(
    activations(),
    charges(),
    charges(),
    charges(),
    proves(),
    endings(),
    records(),
    st.none(),
    st.just("restart"),
)


class Witness:
    """Counts shares apart from the ledger, and judges proofs by another implementation."""

    def __init__(self):
        self.shared = defaultdict(set)
        self.ever = defaultdict(set)
        self.last_reset = defaultdict(lambda: -1)

    def see(self, before, moved):
        """A reset counts only when the row took up a genuine proof newer than all before it."""
        if moved is None or moved.proved is None or moved.proved == (before and before.proved):
            return
        current, proved = moved.current, moved.proved
        assert current.registration_id == reg_id(
            ID, current.birth_era, current.request, current.proof_key
        )
        era = proved.era.to_bytes(8, "big")
        message = encode("prove", CLUSTER.bytes, current.registration_id, era, proved.attempt_id)
        if not verifies(current.proof_key, message, proved.signature):
            return
        if proved.era > self.last_reset[current.registration_id]:
            self.last_reset[current.registration_id] = proved.era
            self.shared[current.registration_id].clear()

    def ask_for_everything(self, row):
        """The adversary shows a record that lists all attempts, for each registration."""
        for phone in PHONES:
            active = Registration(phone.id, phone.era, phone.request, phone.key, phone.sealed)
            record = Record(9, 8, active, None, tuple(ATTEMPTS), None, False)
            for attempt in ATTEMPTS:
                if may_share(RULES, row, record, phone.id, attempt) is None:
                    self.shared[phone.id].add(attempt)
                    self.ever[phone.id].add(attempt)

    def check(self):
        for shared in self.shared.values():
            assert len(shared) <= LIMIT
        for phone in VICTIMS:
            proofs_signed = sum(1 for registration, _, _ in GENUINE if registration == phone.id)
            assert len(self.ever[phone.id]) <= LIMIT * (1 + proofs_signed)


@settings(
    max_examples=400, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.lists(moves, min_size=8, max_size=50))
def test_no_forged_history_gets_more_than_the_limit_between_two_verified_proofs(history):
    row, witness, floor = None, Witness(), 0
    for move in history:
        before = row
        if move == "restart":
            row = None if row is None else decode_row(encode_row(row))
        elif move is None or isinstance(move, Record):
            row, _ = on_snapshot(RULES, ID, row, move)
        else:
            row, _ = after(RULES, ID, row, *move)
        if row is None:
            assert before is None  # a row is for ever
            continue
        assert decode_row(encode_row(row)) == row
        assert row.floor >= floor
        floor = row.floor
        witness.see(before, row)
        witness.ask_for_everything(row)
        witness.check()
