"""What the vault keeps for one account, and the only function that may change it.

This file is the table of design section 5 as code: `apply` is pure and total, has no clock, no
randomness and no HSM, and gives the same answer at every node. It keeps, on any log that Raft
made, I1 and I3 (the list never grows beyond `limit`, a lock is never undone), I5 (a listed attempt
is never listed twice), I6 (only a proof or a newly activated registration empties the list) and
I7 (era and version only rise, deletion included). Conditions are tested in the order in which the
table writes them; that order is part of the protocol.

What it deliberately does not know: who asks, what an attempt evaluates to, and whether the log is
honest. For a log that is not, see `cluster.ledger`.
"""

import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, NamedTuple, assert_never
from uuid import UUID

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
    Grant,
    Id32,
    Prove,
    ProveOutcome,
    RecordCommand,
    RecordOutcome,
    Register,
    RegisterOutcome,
    Sealed,
    Sig64,
    Status,
)
from cluster.decoding import Decoder
from cluster.signatures import verified
from cluster.types import MAX_COUNTER, check
from engines._engines import ed25519_is_usable
from engines.identifiers import activation_message, prove_message
from engines.identifiers import registration_id as compute_registration_id

MAX_LIMIT: Final = 100
"""Guesses; a cluster that gives more than a hundred protects no password. Bounds the record."""
RECORD_OVERHEAD_BYTES: Final = 256
"""Target: a record without open attempts, beside its sealed registration (design section 5)."""
MAX_RECORD_BYTES: Final = 2 * 1332 + 512 + 34 * MAX_LIMIT
"""Two sealed registrations, everything beside them, and a full list (34 bytes each)."""


class Registration(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One key locked by one password; `registration_id` binds the other fields but `sealed`."""

    registration_id: Id32
    birth_era: Counter
    request: Id32
    proof_key: Id32
    sealed: Sealed


class LastProof(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The proof that emptied the list last; `era` is the one that it signed, before its +1."""

    attempt_id: Id32
    era: Counter
    signature: Sig64


class Record(Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """The replicated state of one account; the tag is the version of the stored format.

    Sizes: at most 256 bytes beside the sealed registration when nothing is pending or listed.
    `attempts` are the charged attempt ids in the order charged: count and idempotency in one.
    """

    version: Counter
    era: Counter
    active: Registration | None
    pending: Registration | None
    attempts: Annotated[tuple[Id32, ...], Meta(max_length=MAX_LIMIT)]
    last_proof: LastProof | None
    locked: bool


_ABSENT: Final = Record(0, 0, None, None, (), None, False)
_encoder = msgspec.msgpack.Encoder()
_decoder = Decoder(Record)


@dataclass(frozen=True, slots=True)
class Rules:
    """What `cluster.json` fixes for ever about counting: which cluster, how many guesses."""

    cluster_id: UUID
    limit: int

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            raise ValueError(f"limit in cluster.json must be 1…{MAX_LIMIT}, not {self.limit}")


class RecordState(StrEnum):
    """What `GET /v1/record` calls it."""

    NONE = "none"
    ACTIVE = "active"
    EXHAUSTED = "exhausted"
    LOCKED = "locked"


class Standing(NamedTuple):
    """A record's state; guesses are 0 when exhausted or locked, None when nothing is registered."""

    state: RecordState
    guesses_remaining: int | None


def state_of(record: Record | None, limit: int) -> Standing:
    """Say where an account stands; a pending registration does not count."""
    if record is None:
        return Standing(RecordState.NONE, None)
    if record.locked:
        return Standing(RecordState.LOCKED, 0)
    if record.active is None:
        return Standing(RecordState.NONE, None)
    remaining = limit - len(record.attempts)
    if remaining <= 0:
        return Standing(RecordState.EXHAUSTED, 0)
    return Standing(RecordState.ACTIVE, remaining)


def no_records() -> dict[RecordState, int]:
    """A count of records by state, all at 0."""
    return dict.fromkeys(RecordState, 0)


# ------------------------------------------------------------------ stored bytes


def encode_record(record: Record) -> bytes:
    """Give the canonical bytes: one record, one encoding; the shard's hash is taken over them."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> Record:
    """Decode stored bytes and demand that they are canonical and that `apply` could make them.

    Raises:
        msgspec.DecodeError: malformed, of another format version, out of limits, not canonical,
            or a state that no command leads to (ValidationError). The node must stop, or refuse
            the snapshot that this came from.

    """
    if len(data) > MAX_RECORD_BYTES:
        raise msgspec.DecodeError(f"a record has at most {MAX_RECORD_BYTES} bytes, not {len(data)}")
    record = _decoder.decode(data)
    fault = _fault(record)
    if fault is not None:
        raise msgspec.ValidationError(f"a stored record {fault}")
    if _encoder.encode(record) != data:
        raise msgspec.ValidationError("a stored record is not in its canonical encoding")
    return record


def is_bound(record_id: bytes, record: Record) -> bool:
    """Whether both registration ids recompute for this record_id: to ask of every staged record."""
    return all(
        registration is None or _recomputes(record_id, registration)
        for registration in (record.active, record.pending)
    )


def _fault(record: Record) -> str | None:
    """Name the rule that a record breaks which every reachable record keeps, or None."""
    active, pending = record.active, record.pending
    if record.version <= record.era:  # the first change is a Register: it raises the version alone
        return "has no more versions than eras"
    if pending is not None and pending.birth_era > record.era:
        return "has a pending registration from a later era"
    if active is None:
        bare = not record.attempts and record.last_proof is None
        return None if bare else "lists attempts or a proof without an active registration"
    if record.locked:
        return "is locked and has an active registration"
    if active.birth_era >= record.era:
        return "has an active registration from its own era or a later one"
    if pending is not None and pending.registration_id == active.registration_id:
        return "has one registration both active and pending"
    return _list_fault(record, active)


def _list_fault(record: Record, active: Registration) -> str | None:
    last = record.last_proof
    if len(set(record.attempts)) != len(record.attempts):
        return "lists an attempt twice"
    if last is None:
        return None
    if last.era + 1 != record.era:  # whatever else ends an era also forgets the last proof
        return "has a last proof that did not end the era before"
    if last.era <= active.birth_era:
        return "has a last proof from before its registration was active"
    if last.attempt_id in record.attempts:
        return "lists the attempt of its last proof"
    return None


# ------------------------------------------------------------------ the transitions


def apply(
    rules: Rules, record: Record | None, command: RecordCommand
) -> tuple[Record | None, RecordOutcome]:
    """Apply one command to its record (None: absent); the very same object comes back unchanged.

    Raises:
        InvariantError: the record could not have come from this function, or an era or version
            would reach 2^53. The node stops.

    """
    before = _ABSENT if record is None else record
    after, outcome = _transition(rules, before, command)
    if after is before:
        return record, outcome
    fault = _fault(after)
    check(fault is None, f"record {command.record_id.hex()} after {type(command).__name__} {fault}")
    return after, outcome


def _transition(
    rules: Rules, record: Record, command: RecordCommand
) -> tuple[Record, RecordOutcome]:
    match command:
        case Register():
            return _register(record, command)
        case Activate():
            return _activate(rules, record, command)
        case Charge():
            return _charge(rules, record, command)
        case Prove():
            return _prove(rules, record, command)
        case Expire():
            return _expire(rules, record, command)
        case Delete():
            return _delete(record, command)
        case _ as never:
            assert_never(never)


def _register(record: Record, command: Register) -> tuple[Record, RegisterOutcome]:
    new_id = compute_registration_id(
        command.record_id, command.era, command.request, command.proof_key
    )

    def answer(status: Status, state: str, after: Record = record) -> RegisterOutcome:
        return RegisterOutcome(status, new_id, state, after.era, after.version)

    if not ed25519_is_usable(command.proof_key):
        return record, answer(Status.REJECTED, "")
    for known, state in ((record.active, "active"), (record.pending, "pending")):
        if known is not None and known.registration_id == new_id:
            if known.sealed == command.sealed:
                return record, answer(Status.SAME, state)
            return record, answer(Status.CONFLICT, "")
    if command.era != record.era:
        return record, answer(Status.STALE, "")
    after = Record(
        version=_next_version(record),
        era=record.era,
        active=record.active,
        pending=Registration(
            registration_id=new_id,
            birth_era=command.era,
            request=command.request,
            proof_key=command.proof_key,
            sealed=command.sealed,
        ),
        attempts=record.attempts,
        last_proof=record.last_proof,
        locked=record.locked,
    )
    return after, answer(Status.DONE, "pending", after)


def _activate(rules: Rules, record: Record, command: Activate) -> tuple[Record, ActivateOutcome]:
    active, pending = record.active, record.pending
    if active is not None and active.registration_id == command.registration_id:
        return record, _activated(Status.SAME, record, active)
    if pending is None or pending.registration_id != command.registration_id:
        return record, _not_activated(Status.CONFLICT, record, command)
    _check_bound(command.record_id, pending)
    message = activation_message(rules.cluster_id, pending.registration_id)
    if not verified(pending.proof_key, message, command.signature):
        return record, _not_activated(Status.REJECTED, record, command)
    after = Record(
        version=_next_version(record),
        era=_next_era(record),
        active=pending,
        pending=None,
        attempts=(),
        last_proof=None,
        locked=False,
    )
    return after, _activated(Status.DONE, after, pending)


def _activated(status: Status, record: Record, active: Registration) -> ActivateOutcome:
    return ActivateOutcome(
        status=status,
        registration_id=active.registration_id,
        era=record.era,
        version=record.version,
        birth_era=active.birth_era,
        request=active.request,
        proof_key=active.proof_key,
    )


def _not_activated(status: Status, record: Record, command: Activate) -> ActivateOutcome:
    return ActivateOutcome(status, command.registration_id, record.era, record.version, 0, b"", b"")


def _charge(rules: Rules, record: Record, command: Charge) -> tuple[Record, ChargeOutcome]:
    active, last = record.active, record.last_proof

    def answer(status: Status, after: Record = record, grant: Grant | None = None) -> ChargeOutcome:
        remaining = state_of(after, rules.limit).guesses_remaining or 0
        return ChargeOutcome(status, command.attempt_id, after.era, after.version, remaining, grant)

    if active is not None and command.attempt_id in record.attempts:
        grant = _grant(command.record_id, active, record.era)
        return record, answer(Status.REPLAYED, grant=grant)
    if last is not None and last.attempt_id == command.attempt_id:
        return record, answer(Status.SUPERSEDED)
    if command.era != record.era:
        return record, answer(Status.STALE)
    if active is None:  # a lock left nothing active: "not registered" means not even that
        return record, answer(Status.LOCKED if record.locked else Status.NOT_REGISTERED)
    if len(record.attempts) >= rules.limit:
        return record, answer(Status.EXHAUSTED)
    after = Record(
        version=_next_version(record),
        era=record.era,
        active=active,
        pending=record.pending,
        attempts=(*record.attempts, command.attempt_id),
        last_proof=last,
        locked=False,
    )
    grant = _grant(command.record_id, active, after.era)
    return after, answer(Status.DONE, after, grant)


def _prove(rules: Rules, record: Record, command: Prove) -> tuple[Record, ProveOutcome]:
    active = record.active

    def answer(status: Status, after: Record = record, grant: Grant | None = None) -> ProveOutcome:
        return ProveOutcome(
            status=status,
            attempt_id=command.attempt_id,
            era=after.era,
            version=after.version,
            guesses_remaining=state_of(after, rules.limit).guesses_remaining or 0,
            signature=command.signature,
            grant=grant,
        )

    if active is None or active.registration_id != command.registration_id:
        return record, answer(Status.SUPERSEDED)
    is_last = _is_last_proof(record, command)
    if not is_last and (command.era != record.era or command.attempt_id not in record.attempts):
        return record, answer(Status.SUPERSEDED)
    grant = _grant(command.record_id, active, command.era)
    message = prove_message(
        rules.cluster_id, active.registration_id, command.era, command.attempt_id
    )
    if not verified(active.proof_key, message, command.signature):
        # The last proof's era is over, so for it the table's next line answers: superseded.
        return record, answer(Status.SUPERSEDED if is_last else Status.REJECTED)
    if is_last:
        return record, answer(Status.SAME, grant=grant)
    after = Record(
        version=_next_version(record),
        era=_next_era(record),
        active=active,
        pending=record.pending,
        attempts=(),
        last_proof=LastProof(command.attempt_id, command.era, command.signature),
        locked=False,
    )
    return after, answer(Status.DONE, after, grant)


def _is_last_proof(record: Record, command: Prove) -> bool:
    """Same attempt and era; the registration is the active one, or the proof would be gone."""
    last = record.last_proof
    return last is not None and last.attempt_id == command.attempt_id and last.era == command.era


def _expire(rules: Rules, record: Record, command: Expire) -> tuple[Record, ExpireOutcome]:
    active = record.active
    if active is None or len(record.attempts) < rules.limit or command.era != record.era:
        return record, ExpireOutcome(Status.SAME, b"", record.era, record.version)
    after = Record(
        version=_next_version(record),
        era=_next_era(record),
        active=None,
        pending=record.pending,
        attempts=(),
        last_proof=None,
        locked=True,
    )
    return after, ExpireOutcome(Status.DONE, active.registration_id, after.era, after.version)


def _delete(record: Record, command: Delete) -> tuple[Record, DeleteOutcome]:
    if record.active is None and record.pending is None and not record.locked:
        return record, DeleteOutcome(Status.SAME, record.era, record.version)
    if command.era != record.era:
        return record, DeleteOutcome(Status.STALE, record.era, record.version)
    after = Record(
        version=_next_version(record),
        era=_next_era(record),
        active=None,
        pending=None,
        attempts=(),
        last_proof=None,
        locked=False,
    )
    return after, DeleteOutcome(Status.DONE, after.era, after.version)


# ------------------------------------------------------------------ small parts


def _next_version(record: Record) -> int:
    check(record.version + 1 < MAX_COUNTER, "a record's version reached 2^53: no command may apply")
    return record.version + 1


def _next_era(record: Record) -> int:
    check(record.era + 1 < MAX_COUNTER, "a record's era reached 2^53: no command may apply")
    return record.era + 1


def _recomputes(record_id: bytes, registration: Registration) -> bool:
    computed = compute_registration_id(
        record_id, registration.birth_era, registration.request, registration.proof_key
    )
    return hmac.compare_digest(computed, registration.registration_id)


def _check_bound(record_id: bytes, registration: Registration) -> None:
    check(
        _recomputes(record_id, registration),
        f"record {record_id.hex()}: registration {registration.registration_id.hex()} does not"
        " recompute from its fields; the stored state is not what was applied",
    )


def _grant(record_id: bytes, active: Registration, era: int) -> Grant:
    """The only way out for sealed bytes; checks what the id binds before it names it."""
    _check_bound(record_id, active)
    return Grant(active.registration_id, era, active.proof_key, active.sealed)
