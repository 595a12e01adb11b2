"""Random histories of one account, by hypothesis and by seed; and one long life replayed."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from record_kit import BAD_SIGNATURE, CLUSTER, ID, WEAK_KEY, Phone, att, charge, delete, expire
from record_watch import Watched

from cluster.commands import Activate, Prove, Register, Status
from cluster.record import Rules, apply

NAMES = st.sampled_from(["a", "b", "c"])
ATTEMPTS = st.integers(0, 5).map(att)
OFFSETS = st.sampled_from([0, 0, 0, 0, 0, -1, -2, 1])
SEALED = st.sampled_from([bytes(320), bytes(320), b"\x01" * 320])


class OneAccount(RuleBasedStateMachine):
    @initialize(limit=st.integers(1, 4))
    def start(self, limit):
        self.watched = Watched(limit)

    # -------------------------------------------------------------- what people and nodes say

    @property
    def model(self):
        return self.watched.model

    def say(self, command):
        self.watched.say(command)

    def era(self, offset):
        return self.watched.era(offset)

    def pick(self, name):
        born = [phone for phone in self.watched.phones if phone.name == name]
        return born[-1] if born else self.watched.phones[-1]

    @rule(name=NAMES, offset=OFFSETS, sealed=SEALED)
    def register(self, name, offset, sealed):
        phone = Phone(name, self.era(offset), sealed)
        self.watched.phones.append(phone)
        self.say(phone.register())

    @rule(name=NAMES, offset=OFFSETS)
    def register_weak(self, name, offset):
        phone = Phone(name, self.era(offset))
        self.say(msgspec.structs.replace(phone.register(), proof_key=WEAK_KEY))

    @rule(name=NAMES)
    def activate(self, name):
        self.say(self.pick(name).activate())

    @precondition(lambda self: self.model.pending)
    @rule()
    def activate_pending(self):
        for phone in self.watched.phones:
            if phone.id == self.model.pending["id"]:
                return self.say(phone.activate())
        raise AssertionError("a pending registration that nobody made")

    @rule(name=NAMES, signer=NAMES)
    def activate_signed_by_another(self, name, signer):
        phone = self.pick(name)
        self.say(Activate(ID, phone.id, self.pick(signer).activate().signature))

    @rule(attempt=ATTEMPTS, offset=OFFSETS)
    def charge(self, attempt, offset):
        self.say(charge(self.era(offset), attempt))

    @precondition(lambda self: self.model.active)
    @rule()
    def fill(self):
        for n in range(self.model.limit + 1):
            self.say(charge(self.model.era, ("fill", n)))

    @precondition(lambda self: self.model.active and self.model.list)
    @rule(choice=st.integers(0, 9), offset=OFFSETS)
    def prove_listed(self, choice, offset):
        attempt = self.model.list[choice % len(self.model.list)]
        self.prove(self.model.active["id"], self.era(offset), attempt)

    @rule(name=NAMES, attempt=ATTEMPTS, offset=OFFSETS)
    def prove_any(self, name, attempt, offset):
        self.prove(self.pick(name).id, self.era(offset), attempt)

    def prove(self, registration, era, attempt):
        self.say(self.watched.phone_of(registration).prove(era, attempt))

    @rule(name=NAMES, attempt=ATTEMPTS, signed=ATTEMPTS, offset=OFFSETS, signed_offset=OFFSETS)
    def prove_with_a_borrowed_signature(self, name, attempt, signed, offset, signed_offset):
        if not self.model.active:
            return
        signature = self.pick(name).prove(self.era(signed_offset), signed).signature
        self.say(Prove(ID, self.model.active["id"], self.era(offset), attempt, signature))

    @precondition(lambda self: self.model.active and self.model.list)
    @rule()
    def prove_unsigned(self):
        active, attempt = self.model.active["id"], self.model.list[0]
        self.say(Prove(ID, active, self.model.era, attempt, BAD_SIGNATURE))

    @rule(offset=OFFSETS)
    def expire(self, offset):
        self.say(expire(self.era(offset)))

    @rule(offset=OFFSETS)
    def delete(self, offset):
        self.say(delete(self.era(offset)))

    @precondition(lambda self: self.watched.said)
    @rule(choices=st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
    def replay(self, choices):
        for choice in choices:
            self.say(self.watched.said[choice % len(self.watched.said)])

    # -------------------------------------------------------------- the node that falls behind

    @precondition(lambda self: not self.watched.behind)
    @rule()
    def fall_behind(self):
        self.watched.behind = True

    @precondition(lambda self: self.watched.behind)
    @rule()
    def come_back_by_snapshot(self):
        self.watched.come_back_by_snapshot()

    @invariant()
    def everything_holds(self):
        self.watched.check()


OneAccount.TestCase.settings = settings(
    max_examples=40, stateful_step_count=50, deadline=None, database=None
)
test_any_history_of_one_account = OneAccount.TestCase


def live(rng, watched):  # noqa: C901 - one arm for each thing that can be said
    """One step of a likely life: most commands fit the moment, the others are a little off."""
    model = watched.model
    off = rng.choice([0, 0, 0, 0, 0, 0, 0, -1, -2, 1])
    attempt = rng.choice([*model.list * 4, *(att(n) for n in range(8))])
    registration = (model.active or model.pending or {"id": watched.phones[-1].id})["id"]
    phone = watched.phone_of(registration)
    match rng.choices(range(10), [6, 8, 30, 14, 5, 3, 2, 22, 5, 4])[0]:
        case 0:
            sealed = rng.choice([bytes(320), bytes(321)])
            watched.phones.append(Phone(rng.choice("abc"), watched.era(off), sealed))
            watched.say(watched.phones[-1].register())
        case 1:
            pending = (model.pending or model.active or {"id": registration})["id"]
            watched.say(watched.phone_of(pending).activate())
        case 2:
            watched.say(charge(watched.era(off), attempt))
        case 3:
            watched.say(phone.prove(watched.era(off), attempt))
        case 4:
            watched.say(expire(watched.era(off)))
        case 5:
            signed = rng.choice(watched.phones).prove(watched.era(-1), attempt).signature
            watched.say(Prove(ID, registration, watched.era(off), attempt, signed))
        case 6:
            watched.say(delete(watched.era(off)))
        case 7 if watched.said:
            watched.say(rng.choice(watched.said[-rng.choice([1, 2, 4, 10, 1000]) :]))
        case 8 if watched.behind:
            watched.come_back_by_snapshot()
        case 9:
            watched.behind = True
        case _:
            pass


@pytest.mark.parametrize("first_seed", range(0, 160, 40))
def test_likely_lives_reach_every_outcome_and_keep_every_rule(first_seed):
    seen = Counter()
    for seed in range(first_seed, first_seed + 40):
        rng = random.Random(seed)
        watched = Watched(rng.choice([1, 2, 3, 4]))
        for _ in range(80):
            try:
                live(rng, watched)
                watched.check()
            except AssertionError as error:
                error.add_note(f"seed {seed}")
                raise
        seen.update(watched.seen)
    expected = {
        "Register": {"done", "same", "conflict", "stale"},
        "Activate": {"done", "same", "conflict"},
        "Charge": {*Status} - {"same", "conflict", "rejected"},
        "Prove": {"done", "same", "superseded", "rejected"},
        "Expire": {"done", "same"},
        "Delete": {"done", "same", "stale"},
    }
    assert set(seen) == {(kind, status) for kind, all_ in expected.items() for status in all_}


def test_every_message_ever_recorded_sent_again_resets_nothing():
    """All replays of a long life, forwards and backwards, at each of its ends."""
    rules = Rules(CLUSTER, 2)
    a, b, c = Phone("a"), Phone("b", 2), Phone("c", 3)
    life = [
        a.register(),
        a.activate(),
        charge(1, 0),
        a.prove(1, att(0)),
        charge(2, 1),
        charge(2, 2),
        b.register(),
        b.activate(),
        charge(3, 3),
        charge(3, 4),
        c.register(),
        expire(3),
    ]
    record = None
    for n, command in enumerate(life):
        record, outcome = apply(rules, record, command)
        assert outcome.status is Status.DONE, n
    locked = record
    for command in [*life, *reversed(life)]:
        record, outcome = apply(rules, record, command)
        assert outcome.status is not Status.DONE
        assert record is locked
    record, outcome = apply(rules, record, c.activate())
    assert outcome.status is Status.DONE
    again = record
    for command in [*life, *reversed(life), c.activate()]:
        record, outcome = apply(rules, record, command)
        assert outcome.status is not Status.DONE
        assert record is again
    assert isinstance(life[0], Register)
