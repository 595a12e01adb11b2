"""Ed25519 verification for the state machine and the ledger, computed once per signature.

A proof is verified by the request, by `record.apply` and by this node's own ledger, each with the
key, message and signature that it has by its own right (I6, and the ledger's independence of the
record for I1). Where all three are the same bytes, the answer is the same: strict verification is
a pure function of them. So the last answers are kept under exactly those bytes; a caller with
another key or message asks another question.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from engines._engines import ed25519_verify

REMEMBERED: Final = 1024
"""Answers kept: more than the proofs between a request and its apply; about 500 bytes each."""


@lru_cache(maxsize=REMEMBERED)
def verified(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is valid under the key (RFC 8032, strict); a wrong length is not."""
    return ed25519_verify(public_key, message, signature)
