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
from second_reader import CHUNK, CONTENT_BYTES, MANIFEST, PREFIX, Keys, NoBackup, Path_, need

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


# ---- msgpack, the shortest form of everything


def pack(value: Any) -> bytes:
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, str):
        data = value.encode()
        if len(data) < 32:
            return bytes([0xA0 | len(data)]) + data
        return _counted((0xD9, 0xDA, 0xDB), len(data)) + data
    if isinstance(value, bytes):
        return _counted((0xC4, 0xC5, 0xC6), len(value)) + value
    long = len(value) > 15
    head = struct.pack(">BH", 0xDC, len(value)) if long else bytes([0x90 | len(value)])
    return head + b"".join(pack(item) for item in value)


def _integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b", value)
    forms = "BHIQ" if value >= 0 else "bhiq"
    for number, form in enumerate(forms):
        bits = 8 * struct.calcsize(form)
        low, high = (0, 2**bits) if value >= 0 else (-(2 ** (bits - 1)), 0)
        if low <= value < high:
            return bytes([(0xCC if value >= 0 else 0xD0) + number]) + struct.pack(f">{form}", value)
    raise OverflowError(value)


def _counted(types: tuple[int, int, int], length: int) -> bytes:
    for kind, form in zip(types, "BHI", strict=True):
        if length < 2 ** (8 * struct.calcsize(form)):
            return struct.pack(f">B{form}", kind, length)
    raise OverflowError(length)


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
    generation = max(remembered, _newest(storage, keys)) + 1
    backup_id = os.urandom(16)
    listed, contents = frames(
        keys, top, piece, (generation, backup_id, 1_700_000_000, "a second writer")
    )
    for content in contents:
        place = storage / keys.chunk_name(keys.chunk_id(content))
        if not place.exists():
            _put(place, seal_chunk(keys, content))
            data = place.read_bytes()
            need(reader.open_chunk(keys, keys.chunk_id(content), len(content), data), "read back")
    place = storage / keys.manifest_name(generation, backup_id)
    _put(place, seal_manifest(keys, generation, backup_id, pad(framed(listed))))
    reader.open_manifest(keys, generation, backup_id, place.read_bytes())
    need(reader.find(storage, keys)[0] == (generation, backup_id), "another device writes")
    for older in reader.find(storage, keys)[1:]:
        (storage / keys.manifest_name(*older)).unlink()
    named = {keys.chunk_id(content).hex() for content in contents}
    for old in list((storage / keys.folder / "chunks").glob("??/*")):
        if re.fullmatch("[0-9a-f]{64}", old.name) and old.name not in named:
            old.unlink()
    return generation


def _newest(storage: Path, keys: Keys) -> int:
    try:
        return reader.find(storage, keys)[0][0]
    except (NoBackup, reader.OtherKey):
        return 0


def _put(place: Path, data: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
