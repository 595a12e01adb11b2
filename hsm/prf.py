"""PRF(k, label, f…) = HMAC-SHA-512(k, enc(label, f…)), and what is derived with it (crypto.md).

On a node the HSM computes it; here it is in the clear for the ceremony, which holds the keys, and
for the messages that both sides agree on.
"""

from __future__ import annotations

import hmac
from typing import Final

from engines.encoding import enc

PRF_BYTES: Final = 64
CHECK_VALUE_BYTES: Final = 8
DERIVED_KEY_BYTES: Final = 32

CHECK_MESSAGE: Final = enc("kcv")
RECORD_KEY_MESSAGE: Final = enc("record-key")
AKE_KEY_MESSAGE: Final = enc("ake-key")
STATE_KEY_MESSAGE: Final = enc("state-key")


def prf(key: bytes | bytearray, message: bytes) -> bytes:
    """64 bytes for a 64-byte key and an encoded message."""
    return hmac.digest(bytes(key), message, "sha512")


def check_value(key: bytes | bytearray) -> bytes:
    """PRF(key, "kcv")[:8]: tells a wrong key by name, tells nothing about a right one."""
    return prf(key, CHECK_MESSAGE)[:CHECK_VALUE_BYTES]


def subset_message(registration_id: bytes) -> bytes:
    """What `oprf/A` is asked for one registration."""
    return enc("oprf-subset", registration_id)
