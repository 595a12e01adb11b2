"""Random histories of one account: `apply` against the model, and I1, I3, I5, I6 watched apart.

Two nodes follow the same honest log: one applies everything, one falls behind and comes back by
snapshot. Both ledgers must keep step with the record, and never raise an alarm.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from record_kit import BAD_SIGNATURE, CLUSTER, ID, WEAK_KEY, Phone, att, charge, delete, expire
from record_model import Model

from cluster.commands import (
    Activate,
    ActivateOutcome,
    Charge,
    ChargeOutcome,
    DeleteOutcome,
    ExpireOutcome,
    Prove,
    ProveOutcome,
    Register,
    Status,
)
from cluster.ledger import after as ledger_after
from cluster.ledger import decode_row, encode_row, may_share, on_snapshot
from cluster.record import Rules, apply, decode_record, encode_record, state_of

NAMES = st.sampled_from(["a", "b", "c"])
ATTEMPTS = st.integers(0, 5).map(att)
OFFSETS = st.sampled_from([0, 0, 0, 0, 0, -1, -2, 1])
SEALED = st.sampled_from([bytes(320), bytes(320), b"\x01" * 320])


def plain(registration):
    if registration is None:
        return None
    keys = ("id", "birth", "request", "key", "sealed")
    return dict(zip(keys, msgspec.structs.astuple(registration), strict=True))


class OneAccount(RuleBasedStateMachine):
    @initialize(limit=st.integers(1, 4))
    def start(self, limit):
        self.rules = Rules(CLUSTER, limit)
        self.model = Model(CLUSTER.bytes, limit)
        self.record = None
        self.row = None
        self.said = []
        self.phones = [Phone("a")]
        self.behind = False
        self.late_record = None
        self.late_row = None
        self.evaluated = defaultdict(set)  # registration -> attempts since its last proof
        self.shared = defaultdict(set)
        self.charged = set()  # (registration, era, attempt): counted once, I5
        self.ended = set()  # registrations that were active once and are no longer
        self.locked = set()

    # -------------------------------------------------------------- what people and nodes say

    def era(self, offset):
        return max(0, self.model.era + offset)

    def pick(self, name):
        born = [phone for phone in self.phones if phone.name == name]
        return born[-1] if born else self.phones[-1]

    @rule(name=NAMES, offset=OFFSETS, sealed=SEALED)
    def register(self, name, offset, sealed):
        phone = Phone(name, self.era(offset), sealed)
        self.phones.append(phone)
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
        for phone in self.phones:
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
        phone = next(phone for phone in self.phones if phone.id == registration)
        self.say(phone.prove(era, attempt))

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

    @precondition(lambda self: self.said)
    @rule(choices=st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
    def replay(self, choices):
        for choice in choices:
            self.say(self.said[choice % len(self.said)])

    # -------------------------------------------------------------- the node that falls behind

    @precondition(lambda self: not self.behind)
    @rule()
    def fall_behind(self):
        self.behind = True

    @precondition(lambda self: self.behind)
    @rule()
    def come_back_by_snapshot(self):
        self.behind = False
        self.late_row, alarm = on_snapshot(self.rules, ID, self.late_row, self.record)
        self.late_record = self.record
        assert alarm is None

    # -------------------------------------------------------------- one command

    def say(self, command):
        self.said.append(command)
        before = self.record
        expected = self.model.do(type(command).__name__, command)
        self.record, outcome = apply(self.rules, before, command)
        self.compare(outcome, expected)
        self.row, alarm = ledger_after(self.rules, ID, self.row, command, outcome)
        assert alarm is None
        if not self.behind:
            self.late_record, late_outcome = apply(self.rules, self.late_record, command)
            assert late_outcome == outcome
            self.late_row, alarm = ledger_after(
                self.rules, ID, self.late_row, command, late_outcome
            )
            assert alarm is None
        self.watch(before, command, outcome)
        self.give_shares(command, outcome)

    def compare(self, outcome, expected):
        real = msgspec.structs.asdict(outcome)
        if real.get("grant") is not None:
            real["grant"] = msgspec.structs.astuple(real["grant"])
        assert real == expected

    def watch(self, before, command, outcome):
        had = () if before is None else before.attempts
        has = () if self.record is None else self.record.attempts
        done = outcome.status is Status.DONE
        assert (self.record is not before) == done
        old = (0, 0) if before is None else (before.era, before.version)
        assert outcome.version == old[1] + done
        assert outcome.era in (old[0], old[0] + 1)
        if not set(had) <= set(has):  # I6
            ends = isinstance(
                outcome, ActivateOutcome | ProveOutcome | ExpireOutcome | DeleteOutcome
            )
            assert ends
            assert done
        was = before.active if before is not None else None
        now = self.record.active if self.record is not None else None
        if was is not None and (now is None or now.registration_id != was.registration_id):
            self.ended.add(was.registration_id)
        if now is not None:  # what ended never comes back: I3, I6
            assert now.registration_id not in self.ended
        if isinstance(outcome, ChargeOutcome) and outcome.grant is not None:
            grant = outcome.grant
            assert grant.registration_id not in self.locked  # I3
            self.evaluated[grant.registration_id].add(command.attempt_id)
            if done:  # I5
                key = (grant.registration_id, grant.era, command.attempt_id)
                assert key not in self.charged
                self.charged.add(key)
        if isinstance(outcome, ProveOutcome) and done:
            assert command.attempt_id in self.evaluated[command.registration_id]
            self.evaluated[command.registration_id].clear()
            self.shared[command.registration_id].clear()
        if isinstance(outcome, ExpireOutcome) and done:
            self.locked.add(outcome.registration_id)

    def give_shares(self, command, outcome):
        if not isinstance(command, Charge):
            return
        for phone in self.phones:
            refusal = may_share(self.rules, self.row, self.record, phone.id, command.attempt_id)
            granted = outcome.grant is not None and outcome.grant.registration_id == phone.id
            assert (refusal is None) == granted
            if refusal is None:
                self.shared[phone.id].add(command.attempt_id)

    # -------------------------------------------------------------- what always holds

    @invariant()
    def budget_holds(self):
        for witness in (self.evaluated, self.shared):
            assert all(len(attempts) <= self.rules.limit for attempts in witness.values())

    @invariant()
    def record_is_the_models(self):
        record, model = self.record, self.model
        if record is None:
            assert (model.era, model.version) == (0, 0)
            return
        assert (record.version, record.era, record.locked) == (
            model.version,
            model.era,
            model.locked,
        )
        assert plain(record.active) == model.active
        assert plain(record.pending) == model.pending
        assert list(record.attempts) == model.list
        last = record.last_proof
        assert (last and (last.attempt_id, last.era, last.signature)) == (
            model.last and (model.last["attempt"], model.last["era"], model.last["signature"])
        )
        assert decode_record(encode_record(record)) == record
        full = len(model.list) == model.limit
        names = {True: "locked", False: "none"} if not model.active else {False: "active"}
        name = "exhausted" if model.active and full else names[model.locked]
        assert state_of(record, model.limit).state == name

    @invariant()
    def ledgers_keep_step_with_their_record(self):
        for record, row in ((self.record, self.row), (self.late_record, self.late_row)):
            active = record.active if record is not None else None
            current = row.current if row is not None else None
            if active is None:
                assert current is None
                continue
            assert msgspec.structs.astuple(current) == msgspec.structs.astuple(active)[:4]
            assert set(row.ids) == set(record.attempts)
            last = record.last_proof
            assert (row.proved and (row.proved.era, row.proved.attempt_id)) == (
                last and (last.era, last.attempt_id)
            )
            assert decode_row(encode_row(row)) == row


OneAccount.TestCase.settings = settings(
    max_examples=120, stateful_step_count=60, deadline=None, database=None
)
test_any_history_of_one_account = OneAccount.TestCase


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
