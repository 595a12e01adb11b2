"""The manifest: what a backup holds, written last, read first, never whole in memory.

    object  = "QVB" ‖ u8 version ‖ u8 2 ‖ stream of the frames, then zeros up to the padded size
    frame   = u32be length ‖ msgpack array [type, fields …]

Every rule of docs/format.md about frames is checked on both sides: a writer that breaks one is
told at once, a reader raises `Damaged`. So whoever reads frames can rely on them: each path once
and after its folder, each part within a chunk that was introduced, each file's parts as long as
the file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO, Final

from engines.encoding import enc, u32, u64
from quorumvault.backup.keys import MAX_GENERATION
from quorumvault.backup.manifest_frames import (
    MAX_FRAME_BYTES,
    MAX_PARTS,
    Chunk,
    End,
    File,
    Folder,
    Frame,
    Head,
    Part,
    Parts,
    Path,
    decode_frame,
    encode_frame,
)
from quorumvault.backup.manifest_rules import Rules
from quorumvault.backup.objects import (
    KIND_MANIFEST,
    PREAMBLE_BYTES,
    check_preamble,
    damaged,
    preamble,
)
from quorumvault.backup.padding import padded
from quorumvault.backup.stream import Opener, Sealer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from quorumvault.backup.keys import Keys

__all__ = [
    "Chunk",
    "End",
    "File",
    "Folder",
    "Frame",
    "Head",
    "ManifestWriter",
    "Part",
    "Parts",
    "Path",
    "parse_name",
    "read_manifest",
    "sealed_pieces",
]

_READ_BYTES: Final = 1_048_576
_ZEROS_BYTES: Final = 1_048_576
_LENGTH_BYTES: Final = 4
_NAME: Final = re.compile(r"(?:[^/]+/manifests/)?([0-9a-f]{16})-([0-9a-f]{32})")


def parse_name(name: str) -> tuple[int, bytes] | None:
    """The generation and backup_id of a manifest's name, with or without its folder.

    None for what is no manifest's name; then it is no object of this format.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    generation = int(match[1], 16)
    if not 1 <= generation <= MAX_GENERATION:
        return None
    return generation, bytes.fromhex(match[2])


class ManifestWriter:
    """Writes one manifest into `out`, frame by frame; holds one segment (1 MiB) of it.

    Paths must ascend (component by component, as bytes), each folder before what is in it. Every
    method raises ValueError for what a reader would refuse; then the manifest is not to be used.
    """

    def __init__(
        self,
        keys: Keys,
        generation: int,
        backup_id: bytes,
        out: BinaryIO,
        *,
        created_s: int,
        tool: str,
    ) -> None:
        """Start with the head.

        Args:
            keys: whose backup it is.
            generation: 1 … 2^63-1, higher than that of every backup before.
            backup_id: 16 fresh random bytes.
            out: takes the sealed bytes, in pieces of about 1 MiB.
            created_s: when, in seconds since 1970 (UTC).
            tool: name and version of the program, at most 128 characters.

        """
        keys.manifest_name(generation, backup_id)
        self._out = out
        self._sealer = Sealer(keys.manifest_key, _aad(keys, generation, backup_id))
        self._rules = Rules(generation, backup_id)
        self._plain_bytes = 0
        self._object_bytes = 0
        self._put(preamble(KIND_MANIFEST))
        self._write(Head(generation, backup_id, created_s, tool))

    def chunk(self, chunk_id: bytes, length: int) -> int:
        """Introduce a chunk of `length` bytes of content; returns its number, for `parts`."""
        number = self._rules.chunks
        self._write(Chunk(chunk_id, length))
        return number

    def folder(self, path: Path, mtime_ns: int, mode: int) -> None:
        """List a folder; `mode` is its permission bits, at most 0o7777."""
        self._write(Folder(path, mtime_ns, mode))

    def file(self, path: Path, size: int, mtime_ns: int, mode: int) -> None:
        """List a file; unless its size is 0, its parts come next."""
        self._write(File(path, size, mtime_ns, mode))

    def parts(self, parts: Sequence[Part]) -> None:
        """Say where the next bytes of the file are: (chunk number, offset, length), any number."""
        for start in range(0, len(parts), MAX_PARTS):
            self._write(Parts(tuple(parts[start : start + MAX_PARTS])))

    def finish(self) -> int:
        """Write end and padding; returns the size of the whole object in bytes."""
        self._write(self._rules.end())
        zeros = padded(self._plain_bytes) - self._plain_bytes
        for start in range(0, zeros, _ZEROS_BYTES):
            self._put(self._sealer.write(bytes(min(_ZEROS_BYTES, zeros - start))))
        self._put(self._sealer.finish())
        return self._object_bytes

    def _write(self, frame: Frame) -> None:
        data = encode_frame(frame)
        self._rules.take(frame)
        self._plain_bytes += _LENGTH_BYTES + len(data)
        self._put(self._sealer.write(u32(len(data)) + data))

    def _put(self, data: bytes) -> None:
        if data:
            self._out.write(data)
            self._object_bytes += len(data)


def read_manifest(
    keys: Keys, generation: int, backup_id: bytes, source: BinaryIO
) -> Iterator[Frame]:
    """The frames of a manifest as they come, in about 2 MiB of memory and 100 bytes per chunk.

    Each frame is authentic and in its place when it comes. But only the end of the iteration shows
    that the manifest is whole: do nothing before it that can't be undone.

    Raises:
        Damaged: it is not what was sealed under this name, or breaks a rule; names the object.
        FutureVersion: it is of a later version of the format.
        StorageError: as `source` raises it.

    """
    name = keys.manifest_name(generation, backup_id)
    check_preamble(name, KIND_MANIFEST, _read_exactly(source, PREAMBLE_BYTES))
    rules = Rules(generation, backup_id)
    stream = _plaintext(Opener(keys.manifest_key, _aad(keys, generation, backup_id)), source)
    try:
        yield from _frames(stream, rules)
    except ValueError as error:
        damaged(name, str(error))


def sealed_pieces(
    keys: Keys, generation: int, backup_id: bytes, source: BinaryIO
) -> Iterator[bytes]:
    """The object as it is stored, piece by piece, to be kept: what is not authentic ends it.

    So a storage can't fill a disk: of what it made up it gets 2 MiB written at most.

    Raises:
        Damaged, FutureVersion, StorageError: as `read_manifest`.

    """
    name = keys.manifest_name(generation, backup_id)
    start = _read_exactly(source, PREAMBLE_BYTES)
    check_preamble(name, KIND_MANIFEST, start)
    yield start
    opener = Opener(keys.manifest_key, _aad(keys, generation, backup_id))
    try:
        while data := source.read(_READ_BYTES):
            opener.feed(data)
            yield data
        opener.finish()
    except ValueError as error:
        damaged(name, str(error))


def _frames(stream: Iterator[bytes], rules: Rules) -> Iterator[Frame]:
    pending = b""
    framed = 0
    for piece in stream:
        pending += piece
        start = 0
        while not rules.ended and len(pending) - start >= _LENGTH_BYTES:
            until = start + _LENGTH_BYTES
            length = int.from_bytes(pending[start:until], "big")
            if length == 0:  # zeros: the padding
                raise ValueError("it ends before its last frame")
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length:,} bytes, the limit is {MAX_FRAME_BYTES:,}")
            if len(pending) - until < length:
                break
            frame = decode_frame(pending[until : until + length])
            rules.take(frame)
            start = until + length
            framed += _LENGTH_BYTES + length
            yield frame
        pending = pending[start:]
        if rules.ended:
            break
    if not rules.ended:
        raise ValueError("it ends before its last frame")
    _check_zeros(pending, stream, padded(framed) - framed)


def _check_zeros(pending: bytes, stream: Iterator[bytes], expected: int) -> None:
    while True:
        if pending != bytes(len(pending)):
            raise ValueError("its padding is not zeros")
        expected -= len(pending)
        if expected < 0:
            break
        following = next(stream, None)
        if following is None:
            break
        pending = following
    if expected:
        raise ValueError("its padding is not of the right length")


def _plaintext(opener: Opener, source: BinaryIO) -> Iterator[bytes]:
    while data := source.read(_READ_BYTES):
        yield opener.feed(data)
    yield opener.finish()


def _read_exactly(source: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := source.read(size - len(data))):
        data += more
    return data


def _aad(keys: Keys, generation: int, backup_id: bytes) -> bytes:
    return enc("backup-manifest", keys.key_id, u64(generation), backup_id)
