"""Every field of every call, once: decoded strictly here, described in OpenAPI from here.

Strict means: one JSON object in UTF-8, no key twice, none unknown, none missing, exact types and
exact lengths, base64url canonical. Whatever is wrong becomes a 400 that names the field. msgspec
keeps the last of two equal keys, so the document is read as pairs. Pure: no I/O.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar, assert_never

from cluster.types import MAX_COUNTER
from engines._engines import ed25519_is_usable, element_is_valid
from engines.encoding import b64u_decode
from engines.identifiers import (
    ID_BYTES,
    KE1_BYTES,
    MAX_WRAPPED_KEY_BYTES,
    PROOF_BOX_BYTES,
    PROOF_KEY_BYTES,
    RECORD_BYTES,
    REQUEST_BYTES,
    SIGNATURE_BYTES,
)
from node.problems import malformed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_ECHOED_NAME: Final = 40
"""Characters of an unknown key that an error repeats: enough to find it, too few to carry data."""


@dataclass(frozen=True, slots=True)
class Binary:
    """Base64url without padding of `low` to `high` bytes; `inspect` says what else is wrong."""

    low: int
    high: int
    inspect: Callable[[bytes], str | None] = lambda _data: None


@dataclass(frozen=True, slots=True)
class Counter:
    """A JSON integer, 0 ≤ n < 2^53."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A JSON boolean, false when absent."""


Kind = Binary | Counter | Flag
Value = bytes | int | bool


def _element(data: bytes) -> str | None:
    if element_is_valid(data):
        return None
    return "must be a canonical ristretto255 element other than the identity"


def _ke1(data: bytes) -> str | None:
    """KE1 = blinded message[32] ‖ client nonce[32] ‖ client key share[32] (RFC 9807, 6.1)."""
    return _element(data[:32]) or _element(data[64:])


def _record(data: bytes) -> str | None:
    """Record = client public key[32] ‖ masking key[64] ‖ envelope[96] (RFC 9807, 5.1)."""
    return _element(data[:32])


def _proof_key(data: bytes) -> str | None:
    if ed25519_is_usable(data):
        return None
    return "must be an Ed25519 public key that is canonical and not weak"


KIND: Final = "kind"
_KE1: Final = {KIND: Binary(KE1_BYTES, KE1_BYTES, _ke1)}
_REQUEST: Final = {KIND: Binary(REQUEST_BYTES, REQUEST_BYTES, _element)}
_PROOF_KEY: Final = {KIND: Binary(PROOF_KEY_BYTES, PROOF_KEY_BYTES, _proof_key)}
_SIGNATURE: Final = {KIND: Binary(SIGNATURE_BYTES, SIGNATURE_BYTES)}
_ERA: Final = {KIND: Counter()}


@dataclass(frozen=True, slots=True)
class RegistrationStartBody:
    """POST /v1/registrations."""

    request: bytes = field(metadata=_REQUEST)
    proof_key: bytes = field(metadata=_PROOF_KEY)


@dataclass(frozen=True, slots=True)
class RegistrationBody:
    """PUT /v1/registrations/{registration_id}."""

    request: bytes = field(metadata=_REQUEST)
    proof_key: bytes = field(metadata=_PROOF_KEY)
    era: int = field(metadata=_ERA)
    record: bytes = field(metadata={KIND: Binary(RECORD_BYTES, RECORD_BYTES, _record)})
    proof_box: bytes = field(metadata={KIND: Binary(PROOF_BOX_BYTES, PROOF_BOX_BYTES)})
    wrapped_key: bytes = field(metadata={KIND: Binary(1, MAX_WRAPPED_KEY_BYTES)})


@dataclass(frozen=True, slots=True)
class ActivationBody:
    """POST /v1/registrations/{registration_id}/activation."""

    signature: bytes = field(metadata=_SIGNATURE)


@dataclass(frozen=True, slots=True)
class AttemptBody:
    """POST /v1/attempts."""

    ke1: bytes = field(metadata=_KE1)
    verify: bool = field(default=False, metadata={KIND: Flag()})


@dataclass(frozen=True, slots=True)
class ProofBody:
    """POST /v1/attempts/{attempt_id}/proof."""

    ke1: bytes = field(metadata=_KE1)
    era: int = field(metadata=_ERA)
    signature: bytes = field(metadata=_SIGNATURE)


Body = RegistrationStartBody | RegistrationBody | ActivationBody | AttemptBody | ProofBody
B = TypeVar("B", RegistrationStartBody, RegistrationBody, ActivationBody, AttemptBody, ProofBody)


def _kinds_of(body: type[Body]) -> dict[str, Kind]:
    return {each.name: each.metadata[KIND] for each in fields(body)}


KINDS: Final[dict[type[Body], dict[str, Kind]]] = {
    each: _kinds_of(each)
    for each in (RegistrationStartBody, RegistrationBody, ActivationBody, AttemptBody, ProofBody)
}


class _DuplicateKeyError(ValueError):
    """A key that came twice in one object."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKeyError(next(name for name in names if names.count(name) > 1))
    return document


def _not_a_number(_text: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _echo(name: str) -> str:
    clean = "".join(each if each.isprintable() and each.isascii() else "?" for each in name)
    return clean[:MAX_ECHOED_NAME] or "(empty name)"


def _document(raw: bytes) -> dict[str, object]:
    try:
        document = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_not_a_number
        )
    except _DuplicateKeyError as error:
        raise malformed(_echo(str(error)), "is there twice; send each field once") from None
    except (ValueError, RecursionError):
        raise malformed("body", "must be one JSON object in UTF-8") from None
    if not isinstance(document, dict):
        raise malformed("body", "must be one JSON object")
    return document


def _value(name: str, kind: Kind, given: object) -> Value:
    match kind:
        case Binary():
            if not isinstance(given, str):
                raise malformed(name, "must be a string of base64url without padding")
            return _binary(name, kind, given)
        case Counter():
            if type(given) is not int or not 0 <= given < MAX_COUNTER:
                raise malformed(name, "must be an integer from 0 to 2^53 - 1")
            return given
        case Flag():
            if type(given) is not bool:
                raise malformed(name, "must be true or false")
            return given
        case _:
            assert_never(kind)


def _binary(name: str, kind: Binary, text: str) -> bytes:
    exact = kind.low if kind.low == kind.high else None
    try:
        data = b64u_decode(text, exact)
    except ValueError as error:
        raise malformed(name, str(error)) from None
    if not kind.low <= len(data) <= kind.high:
        raise malformed(name, f"must be {kind.low} to {kind.high} bytes")
    wrong = kind.inspect(data)
    if wrong is not None:
        raise malformed(name, wrong)
    return data


def decode_body(shape: type[B], raw: bytes) -> B:
    """Decode a request body.

    Raises:
        Problem: 400 naming the first field that is wrong.

    """
    document = _document(raw)
    kinds = KINDS[shape]
    for name in document:
        if name not in kinds:
            raise malformed(_echo(name), "is not a field of this call; leave it out")
    values: dict[str, Value] = {}
    for name, kind in kinds.items():
        if name in document:
            values[name] = _value(name, kind, document[name])
        elif not isinstance(kind, Flag):
            raise malformed(name, "is missing")
    return shape(**values)  # type: ignore[arg-type]  # each value was made by its field's kind


def decode_id(name: str, text: str) -> bytes:
    """An id of 32 bytes from a URL, canonical base64url.

    Raises:
        Problem: 400 naming it.

    """
    return _binary(name, Binary(ID_BYTES, ID_BYTES), text)


def decode_query(raw_query: str, names: Sequence[str]) -> dict[str, int]:
    """The counters of a query string, each exactly once, decimal without leading zeros.

    Raises:
        Problem: 400 naming the parameter.

    """
    found: dict[str, int] = {}
    for part in raw_query.split("&") if raw_query else ():
        name, _, text = part.partition("=")
        if name not in names:
            raise malformed(_echo(name), "is not a parameter of this call; leave it out")
        if name in found:
            raise malformed(name, "is there twice; send each parameter once")
        found[name] = _decimal(name, text)
    for name in names:
        if name not in found:
            raise malformed(name, "is missing from the query")
    return found


def _decimal(name: str, text: str) -> int:
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_COUNTER))
    if digits and str(int(text)) == text and int(text) < MAX_COUNTER:
        return int(text)
    raise malformed(name, "must be an integer from 0 to 2^53 - 1 without leading zeros")
