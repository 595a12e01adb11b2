"""Identifiers and signed messages, exactly as crypto.md's table defines them.

Whoever uses an identifier recomputes it from what it names; nobody trusts one from the wire.
All ids are 32 bytes; `cluster_id` is a UUID and enters as its 16 bytes.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from engines.encoding import enc, u64

if TYPE_CHECKING:
    from uuid import UUID

ID_BYTES: Final = 32
REQUEST_BYTES: Final = 32
KE1_BYTES: Final = 96
KE2_BYTES: Final = 320
RESPONSE_BYTES: Final = 64
RECORD_BYTES: Final = 192
PROOF_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
PROOF_BOX_BYTES: Final = 61
MAX_WRAPPED_KEY_BYTES: Final = 1024


def record_id(record_key: bytes, cluster_id: UUID, iss: str, sub: str) -> bytes:
    """HMAC-SHA-256(K_record, …): hides the account's name from whoever lacks K_record."""
    message = enc("record-id", cluster_id.bytes, iss.encode(), sub.encode())
    return hmac.digest(record_key, message, "sha256")


def shard_of(record: bytes, shards: int) -> int:
    """The Raft group that keeps this record."""
    return int.from_bytes(record[:8], "big") % shards


def registration_id(record: bytes, era: int, request: bytes, proof_key: bytes) -> bytes:
    """Bind a registration to its record, birth era, blinded request and proof key."""
    return hashlib.sha256(enc("registration-id", record, u64(era), request, proof_key)).digest()


def attempt_id(record: bytes, ke1: bytes) -> bytes:
    """One guess: the record and the client's first OPAQUE message (96 bytes)."""
    return hashlib.sha256(enc("attempt-id", record, ke1)).digest()


def content(registration: bytes, record: bytes, proof_box: bytes, wrapped_key: bytes) -> bytes:
    """What a client compares at three seats after activation."""
    return hashlib.sha256(enc("content", registration, record, proof_box, wrapped_key)).digest()


def activation_message(cluster_id: UUID, registration: bytes) -> bytes:
    """What the proof key signs to activate a registration."""
    return enc("activate", cluster_id.bytes, registration)


def prove_message(cluster_id: UUID, registration: bytes, era: int, attempt: bytes) -> bytes:
    """What the proof key signs to prove that an attempt of this era knew the password."""
    return enc("prove", cluster_id.bytes, registration, u64(era), attempt)
