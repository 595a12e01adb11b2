"""What the client seals under OPAQUE's export_key: the proof key's seed and the backup key.

Byte layouts and labels are crypto.md's table "Identifiers and blobs". The vault keeps both and
can open neither (I11).
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engines.encoding import enc
from engines.identifiers import MAX_WRAPPED_KEY_BYTES, PROOF_BOX_BYTES

VERSION: Final = b"\x01"
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
SEED_BYTES: Final = 32
OVERHEAD_BYTES: Final = len(VERSION) + NONCE_BYTES + TAG_BYTES
MAX_BACKUP_KEY_BYTES: Final = MAX_WRAPPED_KEY_BYTES - OVERHEAD_BYTES

if SEED_BYTES + OVERHEAD_BYTES != PROOF_BOX_BYTES:  # two pages must agree
    raise RuntimeError("the proof box's parts do not add up to its length")


def _cipher(export_key: bytes, label: str) -> AESGCM:
    # An empty salt and none are the same in RFC 5869.
    return AESGCM(HKDF(SHA512(), length=32, salt=b"", info=enc(label)).derive(export_key))


def _seal(export_key: bytes, label: str, plaintext: bytes, aad: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return VERSION + nonce + _cipher(export_key, label).encrypt(nonce, plaintext, aad)


def _open(export_key: bytes, label: str, box: bytes, aad: bytes) -> bytes:
    if len(box) < OVERHEAD_BYTES or box[:1] != VERSION:
        raise ValueError("the box has an unknown version or is too short")
    nonce, sealed = box[1 : 1 + NONCE_BYTES], box[1 + NONCE_BYTES :]
    try:
        return _cipher(export_key, label).decrypt(nonce, sealed, aad)
    except InvalidTag as error:
        raise ValueError("the box was not sealed under this key for this registration") from error


def seal_proof_seed(export_key: bytes, registration_id: bytes, seed: bytes) -> bytes:
    """proof_box, 61 bytes, of the proof key's 32-byte seed."""
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a proof key's seed has {SEED_BYTES} bytes")
    return _seal(export_key, "wrap-proof", seed, enc("proof-aad", registration_id))


def open_proof_seed(export_key: bytes, registration_id: bytes, box: bytes) -> bytes:
    """The proof key's seed.

    Raises:
        ValueError: not sealed under this key for this registration.

    """
    return _open(export_key, "wrap-proof", box, enc("proof-aad", registration_id))


def seal_backup_key(export_key: bytes, registration_id: bytes, backup_key: bytes) -> bytes:
    """wrapped_key of a backup key of 1-995 bytes."""
    if not 1 <= len(backup_key) <= MAX_BACKUP_KEY_BYTES:
        raise ValueError(f"a backup key has 1-{MAX_BACKUP_KEY_BYTES} bytes")
    return _seal(export_key, "wrap-key", backup_key, enc("wrap-aad", registration_id))


def open_backup_key(export_key: bytes, registration_id: bytes, wrapped_key: bytes) -> bytes:
    """The backup key.

    Raises:
        ValueError: not sealed under this key for this registration.

    """
    return _open(export_key, "wrap-key", wrapped_key, enc("wrap-aad", registration_id))
