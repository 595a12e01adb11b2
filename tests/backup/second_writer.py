"""A writer of the container of docs/format.md, written from that page alone; into a plain folder.

Where the page leaves a choice, it chooses otherwise than the product: contents are cut from all
files one after another, wherever a file ends.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from typing import TYPE_CHECKING, Any

import second_reader as reader
from nacl import bindings
from second_msgpack import pack
from second_reader import (
    CHUNK,
    CONTENT_BYTES,
    MANIFEST,
    PREFIX,
    Keys,
    NoBackup,
    OtherKey,
    Path_,
    Refused,
    need,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PARTS = 1024


def seal_stream(key: bytes, aad: bytes, plain: bytes, cut: list[bytes] | None = None) -> bytes:
    """Sealed, cut as the page says; tests may cut otherwise."""
    cut = reader.pieces(plain, 1_048_520, 1_048_560) if cut is None else cut
    salt, prefix = os.urandom(32), os.urandom(7)
    inner = reader.segment_key(key, salt, aad)
    sealed = (
        bindings.crypto_aead_aes256gcm_encrypt(
            piece, None, reader.nonce(prefix, number, len(cut)), inner
        )
        for number, piece in enumerate(cut)
    )
    return bytes([40]) + salt + prefix + b"".join(sealed)


def pad(plain: bytes) -> bytes:
    return plain.ljust(reader.padded(len(plain)), b"\x00")


def seal_chunk(keys: Keys, content: bytes) -> bytes:
    plain = pad(struct.pack(">I", len(content)) + content)
    aad = keys.chunk_aad(keys.chunk_id(content))
    return PREFIX + bytes([CHUNK]) + seal_stream(keys.chunk, aad, plain)


# ---- manifests


def framed(frames: Iterable[Any]) -> bytes:
    packed = (frame if isinstance(frame, bytes) else pack(frame) for frame in frames)
    return b"".join(struct.pack(">I", len(data)) + data for data in packed)


def seal_manifest(keys: Keys, generation: int, backup_id: bytes, plain: bytes) -> bytes:
    """`plain` with its padding."""
    aad = keys.manifest_aad(generation, backup_id)
    return PREFIX + bytes([MANIFEST]) + seal_stream(keys.manifest, aad, plain)


# ---- a whole backup


def walk(top: Path) -> Iterator[tuple[Path_, os.stat_result, bytes | None]]:
    """(path, stat, bytes of a file or None), in the order of the format."""

    def below(folder: bytes, path: Path_) -> Iterator[tuple[Path_, os.stat_result, bytes | None]]:
        for name in sorted(os.listdir(folder)):  # noqa: PTH208  (bytes)
            place = os.path.join(folder, name)  # noqa: PTH118
            found = os.lstat(place)
            if stat.S_ISDIR(found.st_mode):
                yield (*path, name), found, None
                yield from below(place, (*path, name))
            else:
                with open(place, "rb") as file:  # noqa: PTH123
                    yield (*path, name), found, file.read()

    return below(os.fsencode(top), ())


class _Cutter:
    """Cuts the bytes of all files together; equal contents become one chunk."""

    def __init__(self, keys: Keys, stream: bytes, piece: int) -> None:
        self.piece = piece
        self.contents: list[bytes] = []
        self.of: list[int] = []
        numbers: dict[bytes, int] = {}
        for at in range(0, len(stream), piece):
            content = stream[at : at + piece]
            number = numbers.setdefault(keys.chunk_id(content), len(self.contents))
            if number == len(self.contents):
                self.contents.append(content)
            self.of.append(number)

    def parts(self, start: int, size: int) -> list[tuple[int, int, int]]:
        parts = []
        while size:
            at = start % self.piece
            length = min(size, self.piece - at)
            parts.append((self.of[start // self.piece], at, length))
            start, size = start + length, size - length
        return parts


def frames(
    keys: Keys, top: Path, piece: int, head: tuple[Any, ...]
) -> tuple[list[Any], list[bytes]]:
    """The manifest's frames, and the chunks' contents in their order."""
    found = list(walk(top))
    cutter = _Cutter(keys, b"".join(data or b"" for _, _, data in found), piece)
    out: list[Any] = [(1, *head)]
    files = folders = total = introduced = 0
    for path, about, data in found:
        mode = stat.S_IMODE(about.st_mode)
        if data is None:
            folders += 1
            out.append((3, path, about.st_mtime_ns, mode))
            continue
        files += 1
        out.append((4, path, len(data), about.st_mtime_ns, mode))
        parts = cutter.parts(total, len(data))
        total += len(data)
        for at in range(0, len(parts), PARTS):
            some = parts[at : at + PARTS]
            for number in range(introduced, max(part[0] for part in some) + 1):
                content = cutter.contents[number]
                out.append((2, keys.chunk_id(content), len(content)))
                introduced = number + 1
            out.append((5, some))
    out.append((6, files, folders, total, len(cutter.contents)))
    return out, cutter.contents


def write(
    storage: Path, backup_key: bytes, top: Path, *, piece: int = CONTENT_BYTES, remembered: int = 0
) -> int:
    """Writes a backup of what is in `top` and removes what is older; its generation."""
    keys = Keys(backup_key)
    seen = _seen(storage, keys)
    generation = max((one for one, _ in seen if one < 2**62), default=0) + 1
    need(generation > remembered, "the storage went back in time")
    backup_id = os.urandom(16)
    listed, contents = frames(
        keys, top, piece, (generation, backup_id, 1_700_000_000, "a second writer")
    )
    for content in contents:
        place = storage / keys.chunk_name(keys.chunk_id(content))
        if not _opens(keys, place, content):
            _put(place, seal_chunk(keys, content))
            need(_opens(keys, place, content), "what was written reads back otherwise")
    place = storage / keys.manifest_name(generation, backup_id)
    _put(place, seal_manifest(keys, generation, backup_id, pad(framed(listed))))
    reader.open_manifest(keys, generation, backup_id, place.read_bytes())
    if set(_seen(storage, keys)) != {*seen, (generation, backup_id)}:
        place.unlink()
        raise Refused("another device writes with this key")
    for older in seen:
        (storage / keys.manifest_name(*older)).unlink()
    named = {keys.chunk_id(content).hex() for content in contents}
    for old in list((storage / keys.folder / "chunks").glob("??/*")):
        if re.fullmatch("[0-9a-f]{64}", old.name) and old.name not in named:
            old.unlink()
    return generation


def _seen(storage: Path, keys: Keys) -> list[tuple[int, bytes]]:
    try:
        return reader.find(storage, keys)
    except (NoBackup, OtherKey):
        return []


def _opens(keys: Keys, place: Path, content: bytes) -> bool:
    """Whether the chunk is there and whole; one that is not is written again."""
    if not place.exists():
        return False
    try:
        reader.open_chunk(keys, keys.chunk_id(content), len(content), place.read_bytes())
    except Refused:
        return False
    return True


def _put(place: Path, data: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
