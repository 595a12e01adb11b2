"""The stamp: one small private data object on the token, replaced without ever being absent.

It ties a data directory to its token, so that an older disk is noticed (I9; raft-host.md). SoftHSM
loses an object that is killed in an update, so a stamp is never updated: the new one is created
complete, then older ones are destroyed. Killed between any two steps, the highest complete stamp
is the old or the new one, never none; leftovers go with the next write.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from engines.encoding import u32, u64
from hsm.durable import sync_token_files
from hsm.errors import StampMissing

if TYPE_CHECKING:
    import pkcs11

    from hsm.token import OpenToken

LABEL: Final = "stamp"
MAX_STAMP_BYTES: Final = 4096
"""Devices keep few kilobytes per object; a stamp is a handful of numbers."""
_MAGIC: Final = b"QVS1"
_HEADER_BYTES: Final = len(_MAGIC) + 8 + 4
_SUM_BYTES: Final = 16


class _Found(NamedTuple):
    sequence: int
    data: bytes
    thing: pkcs11.Object


def pack(sequence: int, data: bytes) -> bytes:
    """Value of the object: magic ‖ u64 sequence ‖ u32 length ‖ data ‖ SHA-256(all before)[:16]."""
    if len(data) > MAX_STAMP_BYTES:
        raise ValueError(f"stamp: {len(data)} bytes, at most {MAX_STAMP_BYTES}")
    body = _MAGIC + u64(sequence) + u32(len(data)) + data
    return body + hashlib.sha256(body).digest()[:_SUM_BYTES]


def unpack(value: bytes) -> tuple[int, bytes] | None:
    """(sequence, data), or None for an object that was not completely written."""
    body, checksum = value[:-_SUM_BYTES], value[-_SUM_BYTES:]
    length = int.from_bytes(body[_HEADER_BYTES - 4 : _HEADER_BYTES], "big")
    if not body.startswith(_MAGIC) or len(body) != _HEADER_BYTES + length:
        return None
    if hashlib.sha256(body).digest()[:_SUM_BYTES] != checksum:
        return None
    return int.from_bytes(body[4:12], "big"), body[_HEADER_BYTES:]


def read(token: OpenToken) -> bytes:
    """The data of the highest complete stamp; raises StampMissing, HsmAway."""
    complete, _ = _survey(token)
    if not complete:
        raise StampMissing(token.label)
    return complete[-1].data


def write(token: OpenToken, data: bytes) -> None:
    """Replace the stamp; durable on the token when this returns. Raises HsmAway, ValueError."""
    complete, broken = _survey(token)
    sequence = complete[-1].sequence + 1 if complete else 1
    token.create_data(LABEL, pack(sequence, data))
    sync_token_files(token.module.path)
    for old in complete:
        token.destroy(old.thing)
    for leftover in broken:
        token.destroy(leftover)


def exists(token: OpenToken) -> bool:
    """Whether the token carries anything of a stamp, complete or not."""
    return bool(token.data_objects(LABEL))


def destroy(token: OpenToken) -> int:
    """Remove every stamp, lowest first; how many."""
    complete, broken = _survey(token)
    doomed = [*broken, *(stamp.thing for stamp in complete)]
    for thing in doomed:
        token.destroy(thing)
    return len(doomed)


def _survey(token: OpenToken) -> tuple[list[_Found], list[pkcs11.Object]]:
    """Complete stamps in ascending order, and the objects that are not complete."""
    complete: list[_Found] = []
    broken: list[pkcs11.Object] = []
    for thing in token.data_objects(LABEL):
        parsed = unpack(token.value_of(thing))
        if parsed is None:
            broken.append(thing)
        else:
            complete.append(_Found(*parsed, thing))
    return sorted(complete, key=lambda found: found.sequence), broken
