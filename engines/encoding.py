"""The one injective encoding that everything signed, hashed or MACed goes through (crypto.md).

``enc(label, f1 … fn) = u8(len label) ‖ label ‖ u8(n) ‖ (u32be(len fi) ‖ fi)…``, where every label
is ASCII under the prefix ``quorumvault/v1/``. The Rust crate has the same function; golden
vectors hold the two together.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

LABEL_PREFIX: Final = b"quorumvault/v1/"
MAX_FIELDS: Final = 255


def enc(label: str, *fields: bytes) -> bytes:
    """Encode `fields` under `label` (given without the prefix; at most 240 ASCII bytes).

    Raises:
        ValueError: the label is not ASCII or too long, or there are more than 255 fields.

    """
    full = LABEL_PREFIX + label.encode("ascii")
    if len(full) > 255 or len(fields) > MAX_FIELDS:  # each count is one byte
        raise ValueError(f"enc({label!r}): at most 240 label bytes and {MAX_FIELDS} fields")
    parts = [bytes((len(full),)), full, bytes((len(fields),))]
    for field in fields:
        parts.append(len(field).to_bytes(4, "big"))
        parts.append(field)
    return b"".join(parts)


def u8(value: int) -> bytes:
    """One byte; raises OverflowError outside 0…255."""
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    """Two bytes, big-endian; raises OverflowError when it does not fit."""
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    """Four bytes, big-endian; raises OverflowError when it does not fit."""
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    """Eight bytes, big-endian; raises OverflowError when it does not fit."""
    return value.to_bytes(8, "big")


def b64u_encode(data: bytes) -> str:
    """Base64url without padding (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64u_decode(text: str, length: int | None = None) -> bytes:
    """Decode canonical base64url: no padding, no other characters, no spare bits.

    Args:
        text: what came from outside.
        length: the exact number of decoded bytes to demand, or None for any.

    Raises:
        ValueError: names what is wrong with the text, never quotes it.

    """
    if length is not None and len(text) != (length * 8 + 5) // 6:
        raise ValueError(f"must be {length} bytes as base64url without padding")
    try:
        raw = text.encode("ascii")
        data = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ValueError("must be base64url without padding") from error
    if b64u_encode(data) != text:
        raise ValueError("must be canonical base64url: no padding, no spare bits")
    return data
