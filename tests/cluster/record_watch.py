"""One account under watch: `apply` beside the model, two ledgers, and I1, I3, I5, I6 apart.

Two nodes follow the same honest log: one applies everything, one may fall behind and come back by
snapshot. Both ledgers must keep step with the record, and never raise an alarm.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec
from record_kit import CLUSTER, ID, Phone
from record_model import Model

from cluster.commands import (
    ActivateOutcome,
    Charge,
    ChargeOutcome,
    DeleteOutcome,
    ExpireOutcome,
    ProveOutcome,
    Status,
)
from cluster.ledger import after as ledger_after
from cluster.ledger import decode_row, encode_row, may_share, on_snapshot
from cluster.record import Rules, apply, decode_record, encode_record, state_of


def plain(registration):
    if registration is None:
        return None
    keys = ("id", "birth", "request", "key", "sealed")
    return dict(zip(keys, msgspec.structs.astuple(registration), strict=True))


class Watched:
    """Every command goes through `say`; every claim is checked there or in `check`."""

    def __init__(self, limit):
        self.rules = Rules(CLUSTER, limit)
        self.model = Model(CLUSTER.bytes, limit)
        self.record = None
        self.row = None
        self.said = []
        self.seen = set()  # (command, status)
        self.phones = [Phone("a")]
        self.behind = False
        self.late_record = None
        self.late_row = None
        self.evaluated = defaultdict(set)  # registration -> attempts since its last proof
        self.shared = defaultdict(set)
        self.charged = set()  # (registration, era, attempt): counted once, I5
        self.ended = set()  # registrations that were active once and are no longer
        self.locked = set()

    def era(self, offset):
        return max(0, self.model.era + offset)

    def phone_of(self, registration):
        return next(phone for phone in self.phones if phone.id == registration)

    def come_back_by_snapshot(self):
        self.behind = False
        self.late_row, alarm = on_snapshot(self.rules, ID, self.late_row, self.record)
        self.late_record = self.record
        assert alarm is None

    def check(self):
        self.budget_holds()
        self.record_is_the_models()
        self.ledgers_keep_step_with_their_record()

    # -------------------------------------------------------------- one command

    def say(self, command):
        self.said.append(command)
        before = self.record
        expected = self.model.do(type(command).__name__, command)
        self.record, outcome = apply(self.rules, before, command)
        self.compare(outcome, expected)
        self.seen.add((type(command).__name__, str(outcome.status)))
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

    def budget_holds(self):
        for witness in (self.evaluated, self.shared):
            assert all(len(attempts) <= self.rules.limit for attempts in witness.values())

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
