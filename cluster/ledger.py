"""Each node's own count of the attempts that it gave shares for, safe against any log (I1).

The record state machine keeps I1 on an honest log. A forged, rolled-back or equivocated log may
say anything, so a node also keeps this row per account, never replicated, never replaced by a
snapshot, durable in the same batch as the state: between two proofs that it verified itself it
gives shares for at most `limit` attempts. The moves are those of crypto.md, "The ledger". What
makes them safe, whatever order outcomes come in:

- `floor` only rises, and it is birth era + 1 whenever something is current: a registration that
  was replaced, expired or deleted never becomes current again, so its list is never emptied so.
- `ids` of what is current shrinks by one thing alone: a proof, verified here with the row's own
  proof key, whose signed era is greater than that of the proof before.
- whenever current := none, also proved := none and ids := [].

A row moves only with outcomes that had effect (DONE), and with REPLAYED for Charge. Moves are pure;
an unmoved row comes back as the very same object. Merging the rows of other seats into a
replacement node's (crypto.md, "A *replacement* node") reads rows of this same shape.
"""

import hmac
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from cluster.commands import (
    Activate,
    ActivateOutcome,
    Charge,
    ChargeOutcome,
    Counter,
    Delete,
    DeleteOutcome,
    Expire,
    ExpireOutcome,
    Id32,
    Prove,
    ProveOutcome,
    RecordCommand,
    RecordOutcome,
    Register,
    RegisterOutcome,
    Sig64,
    Status,
)
from cluster.decoding import Decoder
from cluster.record import MAX_LIMIT, Record, Rules
from cluster.signatures import verified
from cluster.types import MAX_COUNTER, InvariantError
from engines.identifiers import prove_message, registration_id

MERGED_ROWS: Final = 4
"""A replacement node unites its own row and three others'; such a row may exceed `limit`."""
MAX_ROW_IDS: Final = MERGED_ROWS * MAX_LIMIT
MAX_ROW_BYTES: Final = 512 + 34 * MAX_ROW_IDS


class Current(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The one registration that this node gives attempt shares for."""

    registration_id: Id32
    birth_era: Counter
    request: Id32
    proof_key: Id32


class Proved(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The latest proof of `current` that this node verified; `era` is the signed one."""

    era: Counter
    attempt_id: Id32
    signature: Sig64


class LedgerRow(Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """One account in one node's ledger, for ever; the tag is the version of the stored format."""

    floor: Counter
    current: Current | None
    proved: Proved | None
    ids: Annotated[tuple[Id32, ...], Meta(max_length=MAX_ROW_IDS)]


NO_ROW: Final = LedgerRow(0, None, None, ())
"""What an account without a stored row has."""

_encoder = msgspec.msgpack.Encoder()
_decoder = Decoder(LedgerRow)


class Alarm(StrEnum):
    """What no honest log shows a node whose ledger is complete. The row did not move."""

    ACTIVATE_UNBOUND = "activate-unbound"
    ACTIVATE_BELOW_FLOOR = "activate-below-floor"
    CHARGE_OF_ANOTHER = "charge-of-another"
    CHARGE_NOT_NEWER = "charge-not-newer"
    LEDGER_FULL = "ledger-full"
    PROVE_OF_ANOTHER = "prove-of-another"
    PROVE_NOT_NEWER = "prove-not-newer"
    PROVE_UNVERIFIED = "prove-unverified"

    @property
    def text(self) -> str:
        """One sentence for the log: what was seen and what this node did about it."""
        return _ALARM_TEXT[self]


_ALARM_TEXT: Final = {
    Alarm.ACTIVATE_UNBOUND: "an activated registration does not recompute from its fields, or its"
    " era is out of range: not made current, no shares for it",
    Alarm.ACTIVATE_BELOW_FLOOR: "an activated registration was born before this account's floor:"
    " not made current, no shares for it",
    Alarm.CHARGE_OF_ANOTHER: "an attempt was charged to a registration that is not current in this"
    " node's ledger: not added, no share for it",
    Alarm.CHARGE_NOT_NEWER: "an attempt was charged in an era that a verified proof has ended: not"
    " added, no share for it",
    Alarm.LEDGER_FULL: "an attempt was charged beyond the limit since the last proof verified here:"
    " not added, no share for it",
    Alarm.PROVE_OF_ANOTHER: "a proof was applied for a registration that is not current in this"
    " node's ledger: the list stays",
    Alarm.PROVE_NOT_NEWER: "a proof was applied whose era is not above that of the last verified"
    " one: the list stays",
    Alarm.PROVE_UNVERIFIED: "a proof was applied whose signature does not verify with the ledger's"
    " proof key: the list stays",
}

Moved = tuple[LedgerRow, Alarm | None]


class ShareRefusal(StrEnum):
    """Why this node gives no attempt share, in the order tested."""

    NOT_ACTIVE = "not-active"
    """The record has no active registration, or another than the request names."""
    NOT_CURRENT = "not-current"
    """The ledger's current registration is none, or another than the active one."""
    NOT_CHARGED = "not-charged"
    """The applied record does not list the attempt."""
    LEDGER_FULL = "ledger-full"
    """The record lists it; the ledger has no room left for it, or holds more than `limit`."""
    NOT_IN_LEDGER = "not-in-ledger"
    """The record lists it; the ledger does not."""


# ------------------------------------------------------------------ stored bytes


def encode_row(row: LedgerRow) -> bytes:
    """Give the canonical bytes: one row, one encoding."""
    return _encoder.encode(row)


def decode_row(data: bytes) -> LedgerRow:
    """Decode stored bytes and demand that they are canonical and keep the row's own rules.

    Raises:
        msgspec.DecodeError: malformed, of another format version, out of limits, not canonical,
            or a row that no move leads to (ValidationError). The node must stop.

    """
    if len(data) > MAX_ROW_BYTES:
        raise msgspec.DecodeError(f"a ledger row has at most {MAX_ROW_BYTES} bytes")
    row = _decoder.decode(data)
    fault = _fault(row)
    if fault is not None:
        raise msgspec.ValidationError(f"a stored ledger row {fault}")
    if _encoder.encode(row) != data:
        raise msgspec.ValidationError("a stored ledger row is not in its canonical encoding")
    return row


def _fault(row: LedgerRow) -> str | None:
    if row.current is None:
        if row.proved is not None or row.ids:
            return "keeps a proof or attempts without a current registration"
        return None
    if row.floor != row.current.birth_era + 1:
        return "has a floor other than its current registration's birth era + 1"
    if len(set(row.ids)) != len(row.ids):
        return "lists an attempt twice"
    return None


# ------------------------------------------------------------------ the moves


def after(
    rules: Rules,
    record_id: bytes,
    row: LedgerRow | None,
    command: RecordCommand,
    outcome: RecordOutcome,
) -> tuple[LedgerRow | None, Alarm | None]:
    """Move a row (None: none is stored) with one applied command; to be stored if it is new.

    Raises:
        InvariantError: the outcome is not one of this command.

    """
    before = NO_ROW if row is None else row
    moved, alarm = _after(rules, record_id, before, command, outcome)
    return (row if moved is before else moved), alarm


def _after(
    rules: Rules,
    record_id: bytes,
    row: LedgerRow,
    command: RecordCommand,
    outcome: RecordOutcome,
) -> Moved:
    match command, outcome:
        case Register(), RegisterOutcome():
            return row, None
        case Activate(), ActivateOutcome():
            return _after_activate(record_id, row, outcome)
        case Charge(), ChargeOutcome():
            return _after_charge(rules, row, command, outcome)
        case Prove(), ProveOutcome():
            if outcome.status is not Status.DONE:
                return row, None
            proved = Proved(command.era, command.attempt_id, command.signature)
            return on_prove(rules, row, command.registration_id, proved)
        case Expire(), ExpireOutcome():
            return (on_expire(row) if outcome.status is Status.DONE else row), None
        case Delete(), DeleteOutcome():
            done = outcome.status is Status.DONE
            return (on_delete(row, outcome.era) if done else row), None
        case _:
            raise InvariantError(
                f"ledger of record {record_id.hex()}: a {type(outcome).__name__} is no outcome of"
                f" {type(command).__name__}"
            )


def _after_activate(record_id: bytes, row: LedgerRow, outcome: ActivateOutcome) -> Moved:
    if outcome.status is not Status.DONE:
        return row, None
    activated = Current(
        outcome.registration_id, outcome.birth_era, outcome.request, outcome.proof_key
    )
    return on_activate(record_id, row, activated)


def _after_charge(rules: Rules, row: LedgerRow, command: Charge, outcome: ChargeOutcome) -> Moved:
    if outcome.status not in (Status.DONE, Status.REPLAYED) or outcome.grant is None:
        return row, None
    grant = outcome.grant
    return on_charge(rules, row, grant.registration_id, grant.era, command.attempt_id)


def on_activate(record_id: bytes, row: LedgerRow, activated: Current) -> Moved:
    """Make a bound, never yet superseded registration current, with an empty list."""
    if row.current is not None and row.current.registration_id == activated.registration_id:
        return row, None
    computed = registration_id(
        record_id, activated.birth_era, activated.request, activated.proof_key
    )
    bound = hmac.compare_digest(computed, activated.registration_id)
    if not bound or activated.birth_era + 1 >= MAX_COUNTER:
        return row, Alarm.ACTIVATE_UNBOUND
    if activated.birth_era < row.floor:
        return row, Alarm.ACTIVATE_BELOW_FLOOR
    return LedgerRow(activated.birth_era + 1, activated, None, ()), None


def on_charge(
    rules: Rules, row: LedgerRow, registration: bytes, era: int, attempt_id: bytes
) -> Moved:
    """Add an attempt charged to `registration` in the record's `era`, within the limit."""
    if row.current is None or row.current.registration_id != registration:
        return row, Alarm.CHARGE_OF_ANOTHER
    if row.proved is not None and era <= row.proved.era:
        return row, Alarm.CHARGE_NOT_NEWER
    return _listed(rules, row, (attempt_id,))


def on_prove(rules: Rules, row: LedgerRow, registration: bytes, proof: Proved) -> Moved:
    """Empty the list for a proof of `current`, newer than the last and verified here."""
    current = row.current
    if current is None or current.registration_id != registration:
        return row, Alarm.PROVE_OF_ANOTHER
    if row.proved is not None and proof.era <= row.proved.era:
        return row, Alarm.PROVE_NOT_NEWER
    message = prove_message(rules.cluster_id, current.registration_id, proof.era, proof.attempt_id)
    if not verified(current.proof_key, message, proof.signature):
        return row, Alarm.PROVE_UNVERIFIED
    return LedgerRow(row.floor, current, proof, ()), None


def on_expire(row: LedgerRow) -> LedgerRow:
    """Nothing is current any more; the floor stays, so the ended one never comes back."""
    return row if row.current is None else LedgerRow(row.floor, None, None, ())


def on_delete(row: LedgerRow, era: int) -> LedgerRow:
    """Nothing is current any more, nor ever what was born before `era` (the record's, after)."""
    return _nothing_current(row, era)


def on_snapshot(
    rules: Rules, record_id: bytes, row: LedgerRow | None, record: Record | None
) -> tuple[LedgerRow | None, Alarm | None]:
    """Move a row by what a snapshot says of its record; the first alarm met is told.

    To be called for every record of the shard and for every row without a record.
    """
    before = NO_ROW if row is None else row
    if record is None or record.active is None:
        era = 0 if record is None else record.era
        if record is not None and record.pending is not None:
            era = record.pending.birth_era
        moved = _nothing_current(before, era)
        return (row if moved is before else moved), None
    moved, alarm = _snapshot_of_active(rules, record_id, before, record)
    return (row if moved is before else moved), alarm


def _snapshot_of_active(rules: Rules, record_id: bytes, row: LedgerRow, record: Record) -> Moved:
    active, last = record.active, record.last_proof
    if active is None:
        return row, None
    alarms: list[Alarm | None] = []
    row, alarm = on_activate(
        record_id,
        row,
        Current(active.registration_id, active.birth_era, active.request, active.proof_key),
    )
    alarms.append(alarm)
    if last is not None and not _knows(row, last.era, last.attempt_id):
        proof = Proved(last.era, last.attempt_id, last.signature)
        row, alarm = on_prove(rules, row, active.registration_id, proof)
        alarms.append(alarm)
    if row.current is not None and row.current.registration_id == active.registration_id:
        row, alarm = _listed(rules, row, record.attempts)
        alarms.append(alarm)
    return row, next((alarm for alarm in alarms if alarm is not None), None)


def _knows(row: LedgerRow, era: int, attempt_id: bytes) -> bool:
    """A snapshot normally repeats the proof that the row has; that is no alarm."""
    proved = row.proved
    return proved is not None and proved.era == era and proved.attempt_id == attempt_id


def _listed(rules: Rules, row: LedgerRow, attempts: tuple[bytes, ...]) -> Moved:
    """Add what is not listed yet, never beyond the limit."""
    ids = list(row.ids)
    alarm: Alarm | None = None
    for attempt_id in attempts:
        if attempt_id in ids:
            continue
        if len(ids) >= rules.limit:
            alarm = Alarm.LEDGER_FULL
            break
        ids.append(attempt_id)
    if len(ids) == len(row.ids):
        return row, alarm
    return LedgerRow(row.floor, row.current, row.proved, tuple(ids)), alarm


def _nothing_current(row: LedgerRow, floor: int) -> LedgerRow:
    if row.current is None and floor <= row.floor:
        return row
    return LedgerRow(max(row.floor, floor), None, None, ())


# ------------------------------------------------------------------ the question


def may_share(
    rules: Rules,
    row: LedgerRow | None,
    record: Record | None,
    registration: bytes,
    attempt_id: bytes,
) -> ShareRefusal | None:
    """None when this node may give its share of this attempt; ask with the *durable* row.

    `registration` is the request's, `attempt_id` the one computed from the KE1 to be evaluated,
    `record` the one applied here.
    """
    if record is None or record.active is None:
        return ShareRefusal.NOT_ACTIVE
    active = record.active.registration_id
    if active != registration:
        return ShareRefusal.NOT_ACTIVE
    if row is None or row.current is None or row.current.registration_id != active:
        return ShareRefusal.NOT_CURRENT
    if attempt_id not in record.attempts:
        return ShareRefusal.NOT_CHARGED
    if len(row.ids) > rules.limit:
        return ShareRefusal.LEDGER_FULL
    if attempt_id in row.ids:
        return None
    full = len(row.ids) == rules.limit
    return ShareRefusal.LEDGER_FULL if full else ShareRefusal.NOT_IN_LEDGER
