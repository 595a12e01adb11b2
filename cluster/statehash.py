"""A shard's state as 32 bytes, kept up record by record (I8: equal index, equal hash).

The hash is the sum mod 2^256 of SHA-256(record_id ‖ canonical value) over all records, so a change
costs two hashes and needs no order. It shows faults (a lost record, a flipped bit, a replica that
went another way); it is not made against someone who can choose records to collide, and nothing
secret rests on it. A node's own MACs and its ledger stay outside.
"""

from __future__ import annotations

import hashlib
from typing import Final, NewType

from cluster.types import check
from engines.identifiers import ID_BYTES

StateHash = NewType("StateHash", int)

STATE_HASH_BYTES: Final = 32
EMPTY_HASH: Final = StateHash(0)
_MODULUS: Final = 1 << (8 * STATE_HASH_BYTES)


def add(state: StateHash, record_id: bytes, value: bytes) -> StateHash:
    """Count in a record that was absent."""
    return StateHash((state + _term(record_id, value)) % _MODULUS)


def remove(state: StateHash, record_id: bytes, value: bytes) -> StateHash:
    """Count out a record, given the very value that was counted in."""
    return StateHash((state - _term(record_id, value)) % _MODULUS)


def replace(state: StateHash, record_id: bytes, old: bytes | None, new: bytes | None) -> StateHash:
    """Move from one value of a record to another; None is absence."""
    if old is not None:
        state = remove(state, record_id, old)
    if new is not None:
        state = add(state, record_id, new)
    return state


def encode_hash(state: StateHash) -> bytes:
    """32 bytes, big-endian."""
    return state.to_bytes(STATE_HASH_BYTES, "big")


def decode_hash(data: bytes) -> StateHash:
    """Read 32 bytes back.

    Raises:
        ValueError: not exactly 32 bytes.

    """
    if len(data) != STATE_HASH_BYTES:
        raise ValueError(f"a state hash has {STATE_HASH_BYTES} bytes, not {len(data)}")
    return StateHash(int.from_bytes(data, "big"))


def _term(record_id: bytes, value: bytes) -> int:
    check(
        len(record_id) == ID_BYTES, "state hash: a record id has 32 bytes, or terms are ambiguous"
    )
    return int.from_bytes(hashlib.sha256(record_id + value).digest(), "big")
