"""The client API's answers and requests as types (design section 7).

Decoding checks every length and range at the boundary, so that the flows above only ever see
well-formed values. Unknown fields of an answer are ignored: a newer vault may say more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, TypeVar
from uuid import UUID  # noqa: TC003 - msgspec reads the annotations

import msgspec
from msgspec import Meta, Struct

from engines.encoding import b64u_decode, b64u_encode
from engines.identifiers import (
    KE1_BYTES,
    KE2_BYTES,
    MAX_WRAPPED_KEY_BYTES,
    PROOF_BOX_BYTES,
    RESPONSE_BYTES,
)
from quorumvault.errors import Tampered

if TYPE_CHECKING:
    from collections.abc import Mapping

SUITE: Final = "OPAQUE-3DH-ristretto255-SHA512"
KSF: Final = "argon2id-v19-t3-m65536-p4"

MAX_ANSWER_BYTES: Final = 65_536
"""The largest honest answer (a wrapped key, or the table of nodes) stays below 8 KiB."""

Counter = Annotated[int, Meta(ge=0, lt=2**53)]


class Octets(bytes):
    """Bytes that travel as canonical base64url; subclasses fix the length."""

    LENGTH: ClassVar[int | None] = None
    __slots__ = ()

    def __repr__(self) -> str:
        """Never the bytes: some of them are secret."""
        return f"{type(self).__name__}({len(self)} bytes)"


class Id(Octets):
    """An identifier, element or public key: 32 bytes."""

    LENGTH = 32


class Response(Octets):
    """Registration response: evaluated element and the server's public key."""

    LENGTH = RESPONSE_BYTES


class Ke1(Octets):
    """First OPAQUE message."""

    LENGTH = KE1_BYTES


class Ke2(Octets):
    """Second OPAQUE message."""

    LENGTH = KE2_BYTES


class ProofBox(Octets):
    """The sealed seed of the proof key."""

    LENGTH = PROOF_BOX_BYTES


class WrappedKey(Octets):
    """The sealed backup key, 1-1,024 bytes."""


class Receipt(Struct, frozen=True):
    """Where in its history the vault was when it answered (design section 1)."""

    cluster_id: UUID
    shard: Counter
    index: Counter
    version: Counter
    restore_epoch: Counter


class NodeRow(Struct, frozen=True):
    """One row of the table of nodes."""

    id: int
    seat: int
    dc: str


class Hello(Struct, frozen=True):
    """GET /v1/vault."""

    cluster_id: UUID
    name: str
    opaque_public_key: Id
    suite: str
    ksf: str
    limit: int
    node: int
    nodes: tuple[NodeRow, ...]


class Started(Struct, frozen=True):
    """POST /v1/registrations."""

    record_id: Id
    registration_id: Id
    era: Counter
    response: Response
    verified: bool


class Stored(Struct, frozen=True):
    """PUT of a registration, and its activation."""

    state: Literal["pending", "active"]
    registration_id: Id
    receipt: Receipt


class Attempted(Struct, frozen=True):
    """POST /v1/attempts."""

    record_id: Id
    attempt_id: Id
    registration_id: Id
    era: Counter
    ke2: Ke2
    proof_box: ProofBox
    guesses_remaining: Counter
    limit: Counter
    verified: bool
    receipt: Receipt


class Proven(Struct, frozen=True):
    """POST /v1/attempts/{attempt_id}/proof."""

    wrapped_key: WrappedKey
    registration_id: Id
    receipt: Receipt


class Pending(Struct, frozen=True):
    """The pending registration of a record."""

    registration_id: Id
    content: Id | None = None


class RecordSeen(Struct, frozen=True):
    """GET /v1/record."""

    state: Literal["none", "active", "exhausted", "locked"]
    era: Counter
    limit: Counter
    receipt: Receipt
    registration_id: Id | None = None
    content: Id | None = None
    pending: Pending | None = None
    guesses_remaining: Counter | None = None


class Deleted(Struct, frozen=True):
    """DELETE /v1/record."""

    state: Literal["none"]
    receipt: Receipt


class Problem(Struct, frozen=True):
    """application/problem+json; only what the client acts on."""

    code: str = ""
    detail: str = ""
    charged: Literal["yes", "no", "unknown"] = "unknown"


T = TypeVar("T")


def _decode_octets(kind: type, value: object) -> object:
    if not issubclass(kind, Octets) or not isinstance(value, str):
        raise TypeError("must be base64url text")
    data = kind(b64u_decode(value, kind.LENGTH))
    if issubclass(kind, WrappedKey) and not 1 <= len(data) <= MAX_WRAPPED_KEY_BYTES:
        raise ValueError(f"must have 1-{MAX_WRAPPED_KEY_BYTES} bytes")
    return data


def _encode_octets(value: object) -> object:
    if not isinstance(value, bytes):
        raise TypeError(f"cannot encode a {type(value).__name__}")
    return b64u_encode(value)


def decode(kind: type[T], text: bytes) -> T:
    """Decode strictly typed JSON with base64url fields.

    Raises:
        ValueError: what is wrong and where; msgspec's errors are ValueErrors.

    """
    try:
        return msgspec.json.decode(text, type=kind, dec_hook=_decode_octets)
    except RecursionError:  # also in a field that nobody reads
        raise ValueError("nested too deep") from None


def encode(value: object) -> bytes:
    """Encode a struct with Octets as JSON."""
    return msgspec.json.encode(value, enc_hook=_encode_octets)


def decode_answer(kind: type[T], text: bytes, who: str) -> T:
    """Decode the body of a success.

    Raises:
        Tampered: the answer is not what the API promises.

    """
    try:
        return decode(kind, text)
    except ValueError as error:
        raise Tampered(f"{who} gave a malformed answer ({error})", charged="unknown") from error


def decode_problem(text: bytes) -> Problem:
    """The body of an error; an unreadable one (a proxy's page) is a problem without a code."""
    try:
        return decode(Problem, text)
    except ValueError:
        return Problem()


def body(fields: Mapping[str, Any]) -> bytes:
    """A request body: bytes travel as base64url, integers as numbers."""
    plain = {
        name: b64u_encode(value) if isinstance(value, bytes) else value
        for name, value in fields.items()
    }
    return msgspec.json.encode(plain)
