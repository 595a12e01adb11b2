"""Sealing of registrations at rest (crypto.md, Identifiers and blobs; keeps I11).

sealed = 0x01 ‖ u32 epoch ‖ salt[32] ‖ AES-256-GCM(record[192] ‖ proof_box[61] ‖ u16 len ‖
wrapped_key). Salt, key and nonce are PRF outputs of the HSM key `seal/<epoch>`; everything here is
pure, so equal contents seal to equal bytes on every node, and nothing touches the device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engines.encoding import enc, u8, u16, u32
from engines.identifiers import MAX_WRAPPED_KEY_BYTES, PROOF_BOX_BYTES, RECORD_BYTES
from hsm.errors import SealBroken

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION: Final = 1
SALT_BYTES: Final = 32
TAG_BYTES: Final = 16
HEADER_BYTES: Final = 1 + 4 + SALT_BYTES
FIXED_BYTES: Final = RECORD_BYTES + PROOF_BOX_BYTES + 2
MIN_SEALED_BYTES: Final = HEADER_BYTES + FIXED_BYTES + 1 + TAG_BYTES
MAX_SEALED_BYTES: Final = HEADER_BYTES + FIXED_BYTES + MAX_WRAPPED_KEY_BYTES + TAG_BYTES
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class SealedContents:
    """What a registration keeps secret at rest; never shown by repr."""

    record: bytes = field(repr=False)
    """OPAQUE record, 192 bytes."""
    proof_box: bytes = field(repr=False)
    """61 bytes."""
    wrapped_key: bytes = field(repr=False)
    """1…1,024 bytes, never parsed."""

    def __post_init__(self) -> None:
        if len(self.record) != RECORD_BYTES:
            raise ValueError(f"record: must be {RECORD_BYTES} bytes")
        if len(self.proof_box) != PROOF_BOX_BYTES:
            raise ValueError(f"proof_box: must be {PROOF_BOX_BYTES} bytes")
        if not 1 <= len(self.wrapped_key) <= MAX_WRAPPED_KEY_BYTES:
            raise ValueError(f"wrapped_key: must be 1 to {MAX_WRAPPED_KEY_BYTES} bytes")


def pack(contents: SealedContents) -> bytes:
    """The plaintext that is sealed."""
    length = u16(len(contents.wrapped_key))
    return contents.record + contents.proof_box + length + contents.wrapped_key


def unpack(plaintext: bytes) -> SealedContents:
    """The contents of a plaintext; raises SealBroken when its lengths do not add up."""
    wrapped_key = plaintext[FIXED_BYTES:]
    length = int.from_bytes(plaintext[FIXED_BYTES - 2 : FIXED_BYTES], "big")
    if len(plaintext) < FIXED_BYTES or length != len(wrapped_key):
        raise SealBroken("its inner lengths do not add up")
    try:
        return SealedContents(
            record=plaintext[:RECORD_BYTES],
            proof_box=plaintext[RECORD_BYTES : RECORD_BYTES + PROOF_BOX_BYTES],
            wrapped_key=wrapped_key,
        )
    except ValueError as error:
        raise SealBroken("its inner lengths do not add up") from error


def epoch_of(sealed: bytes) -> int:
    """Which `seal/<epoch>` opens these bytes; raises SealBroken on a malformed header."""
    if not MIN_SEALED_BYTES <= len(sealed) <= MAX_SEALED_BYTES:
        raise SealBroken(f"{len(sealed)} bytes, not {MIN_SEALED_BYTES} to {MAX_SEALED_BYTES}")
    if sealed[0] != VERSION:
        raise SealBroken(f"format {sealed[0]}, only {VERSION} is known")
    return int.from_bytes(sealed[1:5], "big")


def seal(
    prf: Callable[[bytes], bytes],
    epoch: int,
    record_id: bytes,
    registration_id: bytes,
    contents: SealedContents,
) -> bytes:
    """Seal with two calls of `prf`, which is PRF under `seal/<epoch>` of an encoded message."""
    plaintext = pack(contents)
    salt = prf(enc("seal-salt", record_id, registration_id, plaintext))[:SALT_BYTES]
    material = prf(_key_message(salt, record_id, registration_id))
    aad = _aad(epoch, record_id, registration_id)
    box = AESGCM(material[:_KEY_BYTES]).encrypt(_nonce(material), plaintext, aad)
    return u8(VERSION) + u32(epoch) + salt + box


def unseal(
    prf: Callable[[bytes], bytes], record_id: bytes, registration_id: bytes, sealed: bytes
) -> SealedContents:
    """Open with one call of `prf` under the key of `epoch_of(sealed)`.

    Raises:
        SealBroken: altered bytes, or bytes of another record, registration or key.

    """
    epoch = epoch_of(sealed)
    salt = sealed[5:HEADER_BYTES]
    material = prf(_key_message(salt, record_id, registration_id))
    aad = _aad(epoch, record_id, registration_id)
    try:
        box = sealed[HEADER_BYTES:]
        return unpack(AESGCM(material[:_KEY_BYTES]).decrypt(_nonce(material), box, aad))
    except InvalidTag as error:
        raise SealBroken("altered, or of another record or key") from error


def _key_message(salt: bytes, record_id: bytes, registration_id: bytes) -> bytes:
    return enc("seal", salt, record_id, registration_id)


def _nonce(material: bytes) -> bytes:
    return material[_KEY_BYTES : _KEY_BYTES + _NONCE_BYTES]


def _aad(epoch: int, record_id: bytes, registration_id: bytes) -> bytes:
    return enc("seal-aad", u8(VERSION), u32(epoch), record_id, registration_id)
