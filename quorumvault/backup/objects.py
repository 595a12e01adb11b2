"""Objects in the storage: five plain bytes, then a sealed stream; here those that hold chunks.

    object     = "QVB" ‖ u8 version ‖ u8 kind ‖ stream
    chunk      = stream of u32be content length ‖ content ‖ zeros up to the padded size

Whoever holds the storage cannot make one, change one, or put one in another's place: each stream
is bound to its kind, its backup key and its chunk_id (docs/format.md).
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final, NoReturn

from engines.encoding import enc, u32
from quorumvault.backup.errors import Damaged, FutureVersion
from quorumvault.backup.keys import FORMAT_VERSION
from quorumvault.backup.padding import padded
from quorumvault.backup.stream import open_into, seal_into, sealed_length

if TYPE_CHECKING:
    from quorumvault.backup.keys import Keys, Octets

__all__ = [
    "CONTENT_BYTES",
    "KIND_CHUNK",
    "KIND_MANIFEST",
    "MAX_CHUNK_OBJECT_BYTES",
    "PREAMBLE_BYTES",
    "check_preamble",
    "chunk_object_bytes",
    "chunk_plain_bytes",
    "open_chunk",
    "preamble",
    "seal_chunk",
]

MAGIC: Final = b"QVB"
KIND_CHUNK: Final = 1
KIND_MANIFEST: Final = 2
PREAMBLE_BYTES: Final = 5
_LENGTH_BYTES: Final = 4
CONTENT_BYTES: Final = 4 * 1_048_576 - _LENGTH_BYTES  # a full chunk's plaintext is 4 MiB exactly


def chunk_plain_bytes(content_length: int) -> int:
    """The size of a chunk's plaintext with length and zeros: at least 4,096, at most 4 MiB."""
    return padded(_LENGTH_BYTES + content_length)


def chunk_object_bytes(content_length: int) -> int:
    """The exact size in the storage of a chunk of `content_length` bytes."""
    return PREAMBLE_BYTES + sealed_length(chunk_plain_bytes(content_length))


MAX_CHUNK_OBJECT_BYTES: Final = chunk_object_bytes(CONTENT_BYTES)


def preamble(kind: int) -> bytes:
    """The five bytes that each object starts with."""
    return MAGIC + bytes((FORMAT_VERSION, kind))


def check_preamble(name: str, kind: int, start: Octets) -> None:
    """Look at an object's first five bytes.

    Raises:
        Damaged: they are no object's, or those of another kind.
        FutureVersion: a later version of the format. The byte is not sealed, so it is the word of
            the storage; no object that it does not tell the truth of opens.

    """
    if len(start) < PREAMBLE_BYTES or start[:3] != MAGIC or start[3] < FORMAT_VERSION:
        damaged(name, "it does not start as a backup's objects do")
    if start[3] > FORMAT_VERSION:
        raise FutureVersion(
            f"{name} in the storage is of version {start[3]} of the format, this program knows "
            f"version {FORMAT_VERSION}; update it"
        )
    if start[4] != kind:
        damaged(name, "it is an object of another kind")


def damaged(name: str, what: str) -> NoReturn:
    """Say that one object is not as it was written.

    Raises:
        Damaged: always, with the object's name.

    """
    raise Damaged(f"the object {name} in the storage is damaged: {what}", objects=(name,)) from None


def seal_chunk(
    keys: Keys, chunk_id: bytes, content: Octets, *, into: bytearray | None = None
) -> memoryview:
    """The chunk object of `content`, under a fresh salt; any number of threads may do this.

    Args:
        keys: whose backup it is.
        chunk_id: what `keys.chunk_id(content)` said; it is not computed again.
        content: 1 to CONTENT_BYTES bytes.
        into: a buffer of at least MAX_CHUNK_OBJECT_BYTES to use again, where fresh memory costs
            more than the cipher. The result is a part of it, good until its next use.

    Raises:
        ValueError: there is no content, or more than fits.

    """
    length = len(content)
    if not 1 <= length <= CONTENT_BYTES:
        raise ValueError(f"a chunk has 1 to {CONTENT_BYTES:,} bytes of content, not {length:,}")
    size = chunk_object_bytes(length)
    out = memoryview(bytearray(size) if into is None else into)[:size]
    out[:PREAMBLE_BYTES] = preamble(KIND_CHUNK)
    zeros = bytes(chunk_plain_bytes(length) - _LENGTH_BYTES - length)
    parts = (u32(length), content, zeros)
    seal_into(keys.chunk_key, _chunk_aad(keys, chunk_id), parts, out[PREAMBLE_BYTES:])
    return out.toreadonly()


def open_chunk(
    keys: Keys,
    chunk_id: bytes,
    length: int,
    obj: Octets,
    *,
    check_id: bool = False,
    into: bytearray | None = None,
) -> memoryview:
    """The content of a chunk object; any number of threads may do this.

    Args:
        keys: whose backup it is.
        chunk_id: the chunk that is wanted; the object of another does not open.
        length: of its content, as the manifest has it.
        obj: the whole object.
        check_id: also compute the chunk_id of the content again. Without it, whoever sealed the
            chunk is trusted to have named it rightly; the storage is not trusted either way.
        into: a buffer of at least 4 MiB to use again. The result is a part of it, good until its
            next use.

    Raises:
        Damaged: it is not what was sealed under this name, or of another length; names the object.
        FutureVersion: it is of a later version of the format.

    """
    name = keys.chunk_name(chunk_id)
    check_preamble(name, KIND_CHUNK, obj)
    size = chunk_plain_bytes(length)
    if len(obj) != chunk_object_bytes(length):
        damaged(name, f"it has {len(obj):,} bytes, not {chunk_object_bytes(length):,}")
    plain = memoryview(bytearray(size) if into is None else into)[:size]
    try:
        sealed = memoryview(obj)[PREAMBLE_BYTES:]
        open_into(keys.chunk_key, _chunk_aad(keys, chunk_id), sealed, plain)
    except ValueError as error:
        damaged(name, str(error))
    end = _LENGTH_BYTES + length
    if plain[:_LENGTH_BYTES] != u32(length):
        damaged(name, "its content is not of the length that the manifest has")
    if bytes(plain[end:]) != bytes(size - end):
        damaged(name, "its padding is not zeros")
    content = plain[_LENGTH_BYTES:end].toreadonly()
    if check_id and not hmac.compare_digest(keys.chunk_id(content), chunk_id):
        damaged(name, "its content is not what its name says")
    return content


def _chunk_aad(keys: Keys, chunk_id: bytes) -> bytes:
    return enc("backup-chunk", keys.key_id, chunk_id)
