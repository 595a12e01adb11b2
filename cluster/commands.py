"""What can be asked of the replicated state machine, and what it answers (design section 5).

Two closed unions. A command is what enters the log; an outcome is what `apply` says about it, at
its own index. Everything that a caller may evaluate or release comes from an outcome, never from
the record as it is later. Encoded by msgspec as tagged msgpack arrays; unknown fields or tags are
refused at decode, and a node that meets one in its log stops.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from cluster.decoding import Decoder
from cluster.types import MAX_COUNTER

Id32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Sig64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
Counter = Annotated[int, Meta(ge=0, lt=MAX_COUNTER)]
# 1 + 4 + 32 + (192 + 61 + 2 + 1…1024) + 16 (crypto.md, sealed)
Sealed = Annotated[bytes, Meta(min_length=309, max_length=1332)]


class Register(Struct, frozen=True, array_like=True, tag="register", forbid_unknown_fields=True):
    """Put a pending registration; the state machine computes its id."""

    record_id: Id32
    era: Counter
    request: Id32
    proof_key: Id32
    sealed: Sealed


class Activate(Struct, frozen=True, array_like=True, tag="activate", forbid_unknown_fields=True):
    """Make the pending registration the active one; destroys the old key and empties the list."""

    record_id: Id32
    registration_id: Id32
    signature: Sig64


class Charge(Struct, frozen=True, array_like=True, tag="charge", forbid_unknown_fields=True):
    """Count one attempt."""

    record_id: Id32
    era: Counter
    attempt_id: Id32


class Prove(Struct, frozen=True, array_like=True, tag="prove", forbid_unknown_fields=True):
    """Show that a listed attempt knew the password; empties the list."""

    record_id: Id32
    registration_id: Id32
    era: Counter
    attempt_id: Id32
    signature: Sig64


class Expire(Struct, frozen=True, array_like=True, tag="expire", forbid_unknown_fields=True):
    """The grace of a full list is over: lock and erase."""

    record_id: Id32
    era: Counter


class Delete(Struct, frozen=True, array_like=True, tag="delete", forbid_unknown_fields=True):
    """Erase the record but for its era and version."""

    record_id: Id32
    era: Counter


class Barrier(Struct, frozen=True, array_like=True, tag="barrier", forbid_unknown_fields=True):
    """No change; a read waits for it."""


RecordCommand = Register | Activate | Charge | Prove | Expire | Delete
Command = RecordCommand | Barrier


class Status(StrEnum):
    """What became of a command. The names are those of design section 5."""

    DONE = "done"  # it had its effect: pending, active, charged, proved, expired, deleted
    SAME = "same"  # it (or its equal) had its effect before: same answer, no change
    REPLAYED = "replayed"  # Charge: already listed
    SUPERSEDED = "superseded"
    STALE = "stale"
    CONFLICT = "conflict"
    REJECTED = "rejected"  # a bad signature or a weak proof key
    NOT_REGISTERED = "not-registered"
    LOCKED = "locked"
    EXHAUSTED = "exhausted"


class Grant(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The only material that may be evaluated or released, as of the outcome's own index."""

    registration_id: Id32
    era: Counter
    proof_key: Id32
    sealed: Sealed


class RegisterOutcome(Struct, frozen=True, array_like=True, tag="register"):
    """DONE or SAME (then `state` is pending or active), STALE, CONFLICT, REJECTED (weak key)."""

    status: Status
    registration_id: Id32
    state: str  # "pending" | "active" | ""
    era: Counter
    version: Counter


class ActivateOutcome(Struct, frozen=True, array_like=True, tag="activate"):
    """DONE, SAME (already active), CONFLICT, REJECTED. The last three fields feed the ledger."""

    status: Status
    registration_id: Id32
    era: Counter
    version: Counter
    birth_era: Counter
    request: bytes
    proof_key: bytes


class ChargeOutcome(Struct, frozen=True, array_like=True, tag="charge"):
    """DONE (charged), REPLAYED, SUPERSEDED, STALE, NOT_REGISTERED, LOCKED, EXHAUSTED.

    `grant` is present for DONE and REPLAYED only. `era` is the record's.
    """

    status: Status
    attempt_id: Id32
    era: Counter
    version: Counter
    guesses_remaining: int
    grant: Grant | None


class ProveOutcome(Struct, frozen=True, array_like=True, tag="prove"):
    """DONE, SAME (the last proof again), SUPERSEDED, REJECTED.

    `grant` (its era is the command's) is present for DONE and SAME only.
    """

    status: Status
    attempt_id: Id32
    era: Counter
    version: Counter
    guesses_remaining: int
    signature: bytes
    grant: Grant | None


class ExpireOutcome(Struct, frozen=True, array_like=True, tag="expire"):
    """DONE or SAME (nothing to expire in that era)."""

    status: Status
    registration_id: bytes  # the one it ended, or empty
    era: Counter
    version: Counter


class DeleteOutcome(Struct, frozen=True, array_like=True, tag="delete"):
    """DONE, SAME (nothing there), STALE. `era` is the record's after it."""

    status: Status
    era: Counter
    version: Counter


class BarrierOutcome(Struct, frozen=True, array_like=True, tag="barrier"):
    """Always DONE."""

    status: Status = Status.DONE


RecordOutcome = (
    RegisterOutcome | ActivateOutcome | ChargeOutcome | ProveOutcome | ExpireOutcome | DeleteOutcome
)
Outcome = RecordOutcome | BarrierOutcome

MAX_COMMAND_BYTES = 2048
"""The largest is Register: 1,332 sealed bytes, three ids and its frame."""

_encoder = msgspec.msgpack.Encoder()
_decoder: Decoder[Command] = Decoder(Command)  # type: ignore[arg-type]  # a union is no type


def encode_command(command: Command) -> bytes:
    """At most MAX_COMMAND_BYTES."""
    return _encoder.encode(command)


def decode_command(data: bytes) -> Command:
    """Decode and validate one command.

    Raises:
        msgspec.DecodeError: malformed, unknown, or out of limits (ValidationError).

    """
    if len(data) > MAX_COMMAND_BYTES:
        raise msgspec.DecodeError(f"a command has at most {MAX_COMMAND_BYTES} bytes")
    return _decoder.decode(data)
