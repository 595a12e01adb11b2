"""The ledger alone, against a leader that may say anything: never more than `limit` shares.

Commands, outcomes, records and snapshots here are not made by `apply`: their ids, eras, statuses
and lists are whatever the adversary likes. The only thing it cannot make is a signature of the
victim's key. Bound watched (crypto.md): between two proofs that this node verified itself, at most
`limit` distinct attempts of a registration get a share. A seed reproduces a history.
"""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
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
ATTEMPTS = [att(n) for n in range(9)]
VICTIMS = [Phone("a"), Phone("b", 2)]
MALLORY = Phone("m", 1)
PHONES = [*VICTIMS, MALLORY]
GENUINE = {  # all that the victims ever signed
    (phone.id, era, ATTEMPTS[era]): phone.prove(era, ATTEMPTS[era]).signature
    for phone, eras in ((VICTIMS[0], (1, 3, 4)), (VICTIMS[1], (3, 5)))
    for era in eras
}
SIGNED = sorted(GENUINE.items())
SHOWN = [  # records that list everything, one for each registration
    Record(
        9,
        8,
        Registration(phone.id, phone.era, phone.request, phone.key, phone.sealed),
        None,
        tuple(ATTEMPTS),
        None,
        False,
    )
    for phone in PHONES
]


class Adversary:
    """Says whatever it likes, mostly about one account holder, mostly well-formed."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.target = self.rng.choice(PHONES)

    def phone(self):
        return self.target if self.rng.random() < 0.7 else self.rng.choice(PHONES)

    def era(self):
        return self.rng.choice([self.rng.randrange(8), 7])

    def status(self):
        return Status.DONE if self.rng.random() < 0.85 else self.rng.choice([*Status])

    def attempt(self):
        return self.rng.choice(ATTEMPTS)

    def proof(self):
        """(registration, era, attempt, signature): genuine, or made of parts of genuine ones."""
        if self.rng.random() < 0.6:
            (registration, era, attempt), signature = self.rng.choice(SIGNED)
            return registration, era, attempt, signature
        phone, era, attempt = self.phone(), self.era(), self.attempt()
        own = MALLORY.prove(era, attempt).signature
        signature = self.rng.choice([own, own, BAD_SIGNATURE, *GENUINE.values()])
        return phone.id, era, attempt, signature

    def registration(self):
        """A true one, or one whose birth era or key was exchanged under its old id."""
        phone = self.phone()
        birth = phone.era if self.rng.random() < 0.8 else self.era()
        key = phone.key if self.rng.random() < 0.8 else MALLORY.key
        return Registration(phone.id, birth, phone.request, key, phone.sealed)

    def activate(self):
        r = self.registration()
        outcome = ActivateOutcome(
            self.status(), r.registration_id, self.era(), 1, r.birth_era, r.request, r.proof_key
        )
        return Activate(ID, r.registration_id, BAD_SIGNATURE), outcome

    def charge(self):
        phone, attempt = self.phone(), self.attempt()
        grant = Grant(phone.id, self.era(), phone.key, phone.sealed)
        given = grant if self.rng.random() < 0.95 else None
        status = self.rng.choice([self.status(), Status.REPLAYED])
        return Charge(ID, self.era(), attempt), ChargeOutcome(
            status, attempt, self.era(), 1, 1, given
        )

    def prove(self):
        registration, era, attempt, signature = self.proof()
        grant = Grant(registration, era, MALLORY.key, MALLORY.sealed)
        outcome = ProveOutcome(self.status(), attempt, self.era(), 1, 1, signature, grant)
        return Prove(ID, registration, era, attempt, signature), outcome

    def expire(self):
        return Expire(ID, self.era()), ExpireOutcome(self.status(), self.phone().id, self.era(), 1)

    def delete(self):
        return Delete(ID, self.era()), DeleteOutcome(self.status(), self.era(), 1)

    def record(self):
        last = None
        if self.rng.random() < 0.5:
            _, era, attempt, signature = self.proof()
            last = LastProof(attempt, era, signature)
        active = self.registration() if self.rng.random() < 0.8 else None
        pending = self.registration() if self.rng.random() < 0.4 else None
        listed = tuple(self.rng.sample(ATTEMPTS, self.rng.randrange(5)))
        return Record(9, self.era(), active, pending, listed, last, self.rng.random() < 0.2)

    def move(self, row):
        """The row after one thing said."""
        kinds = ["activate", "charge", "prove", "expire", "delete", "snapshot", "gone", "restart"]
        kind = self.rng.choices(kinds, [14, 50, 16, 2, 2, 14, 1, 3])[0]
        match kind:
            case "restart":
                return None if row is None else decode_row(encode_row(row))
            case "gone":
                return on_snapshot(RULES, ID, row, None)[0]
            case "snapshot":
                return on_snapshot(RULES, ID, row, self.record())[0]
            case _:
                command, outcome = getattr(self, kind)()
                return after(RULES, ID, row, command, outcome)[0]


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
        assert len(row.ids) <= LIMIT
        for record in SHOWN:
            asked = record.active.registration_id
            for attempt in ATTEMPTS:
                if may_share(RULES, row, record, asked, attempt) is None:
                    self.shared[asked].add(attempt)
                    self.ever[asked].add(attempt)

    def check(self, seed):
        for shared in self.shared.values():
            assert len(shared) <= LIMIT, f"seed {seed}"
        for phone in VICTIMS:
            proofs_signed = sum(1 for registration, _, _ in GENUINE if registration == phone.id)
            bound = LIMIT * (1 + proofs_signed)
            assert len(self.ever[phone.id]) <= bound, f"seed {seed}"


@pytest.mark.parametrize("first_seed", range(0, 1200, 300))
def test_no_forged_history_gets_more_than_the_limit_between_two_verified_proofs(first_seed):
    most = defaultdict(int)
    for seed in range(first_seed, first_seed + 300):
        adversary, witness, row, floor = Adversary(seed), Witness(), None, 0
        for _ in range(40):
            before = row
            row = adversary.move(before)
            if row is None:
                assert before is None  # a row is for ever
                continue
            assert decode_row(encode_row(row)) == row, f"seed {seed}"
            assert row.floor >= floor, f"seed {seed}"
            floor = row.floor
            witness.see(before, row)
            witness.ask_for_everything(row)
            witness.check(seed)
        for phone in PHONES:
            most[phone.name] = max(most[phone.name], len(witness.ever[phone.id]))
    # The histories are no idle talk: proofs of the victims were taken up and budgets refilled.
    assert most["a"] >= 2 * LIMIT
    assert most["b"] >= 2 * LIMIT
