"""What nodes say to each other about shares: one frame on the service channel, many messages.

Three asks and three answers, closed unions with exact lengths; whatever does not decode is a
broken or hostile peer and the whole frame is dropped. An ask never carries an attempt id: the
giver computes it from the KE1 that it evaluates (crypto.md). `ask` numbers are the asker's own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from cluster.commands import Counter, Id32, Sig64  # noqa: TC001 - msgspec reads the annotations
from cluster.decoding import Decoder

Ke1 = Annotated[bytes, Meta(min_length=96, max_length=96)]
AskNumber = Annotated[int, Meta(ge=0, lt=2**53)]
MAX_MESSAGES: Final = 1024
MAX_FRAME_BYTES: Final = 1 << 20
"""A registration ask has about 180 bytes, a registration share about 210: 1,024 fit well."""


class AttemptAsk(Struct, frozen=True, array_like=True, tag="attempt", forbid_unknown_fields=True):
    """Your share for KE1's blinded message, once you see the attempt charged in `era`."""

    ask: AskNumber
    record_id: Id32
    era: Counter
    ke1: Ke1


class RegistrationAsk(
    Struct, frozen=True, array_like=True, tag="registration", forbid_unknown_fields=True
):
    """Your proven share for `request`; `registration_id` must recompute from the other fields."""

    ask: AskNumber
    record_id: Id32
    era: Counter
    request: Id32
    proof_key: Id32
    registration_id: Id32


class CancelAsk(Struct, frozen=True, array_like=True, tag="cancel", forbid_unknown_fields=True):
    """Nobody waits for this ask any more."""

    ask: AskNumber


class AttemptShare(
    Struct, frozen=True, array_like=True, tag="attempt-share", forbid_unknown_fields=True
):
    """S = k_j·B for this registration, given while it was in this era."""

    ask: AskNumber
    registration_id: Id32
    era: Counter
    element: Id32


class RegistrationShare(
    Struct, frozen=True, array_like=True, tag="registration-share", forbid_unknown_fields=True
):
    """S = k_j·B with K_j = k_j·G and the DLEQ proof of both."""

    ask: AskNumber
    registration_id: Id32
    era: Counter
    element: Id32
    point: Id32
    proof: Sig64


class Reason(StrEnum):
    """Why there is no share; the caller asks the next peer."""

    LATER_ERA = "later-era"
    LEDGER_FULL = "ledger-full"
    NOT_A_GIVER = "not-a-giver"
    HSM_AWAY = "hsm-away"
    REFUSED = "refused"
    """The ask itself is wrong: never, from nobody."""
    TIMEOUT = "timeout"
    """The charge did not become visible here within the waiting time."""
    BUSY = "busy"
    UNREACHABLE = "unreachable"
    """Said by the asker's own exchange: the link is down."""


class Declined(Struct, frozen=True, array_like=True, tag="declined", forbid_unknown_fields=True):
    """No share; `era` is the record's for `later-era`, else 0."""

    ask: AskNumber
    reason: Reason
    era: Counter = 0


Ask = AttemptAsk | RegistrationAsk
Share = AttemptShare | RegistrationShare
Answer = AttemptShare | RegistrationShare | Declined
Message = AttemptAsk | RegistrationAsk | CancelAsk | AttemptShare | RegistrationShare | Declined


class Frame(Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """Some messages; the tag is the version of this protocol."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]


_encoder = msgspec.msgpack.Encoder()
_decoder = Decoder(Frame)


def encode_frame(messages: list[Message]) -> bytes:
    """At most MAX_MESSAGES at a time."""
    return _encoder.encode(Frame(messages))


def decode_frame(payload: bytes) -> list[Message]:
    """The messages of one frame.

    Raises:
        msgspec.DecodeError: too long, malformed, of another version, or a field out of limits.

    """
    if len(payload) > MAX_FRAME_BYTES:
        raise msgspec.DecodeError(f"a service frame has at most {MAX_FRAME_BYTES} bytes")
    return _decoder.decode(payload).messages
