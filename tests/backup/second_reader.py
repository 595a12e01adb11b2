"""A reader of the container of docs/format.md, written from that page alone; of a plain folder.

It refuses whatever the page does not allow and holds all in memory: simple, not fast. Its AES-GCM
is libsodium's, its msgpack is its own.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import shutil
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nacl import bindings
from nacl.exceptions import CryptoError
from second_msgpack import Unpacker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT_BYTES = 4_194_300
SEGMENT, TAG, STREAM_HEADER, PREFIX = 1_048_576, 16, 40, b"QVB\x01"
CHUNK, MANIFEST = 1, 2
MOST = 2**63 - 1

Path_ = tuple[bytes, ...]


class Refused(Exception):  # noqa: N818  (what a reader must do)
    """Something is not as the page says."""


class Later(Refused):
    """A later version of the format: update."""


class NoBackup(Refused):
    """The storage has no backup at all."""


class OtherKey(Refused):
    """The storage has backups, of other keys."""


def need(condition: object, what: str) -> None:
    if not condition:
        raise Refused(what)


# ---- keys and names


def enc(label: str, *fields: bytes) -> bytes:
    full = b"quorumvault/v1/" + label.encode()
    counted = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    return bytes([len(full)]) + full + bytes([len(fields)]) + counted


def hkdf(digest: str, key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    prk = hmac.digest(salt or bytes(hashlib.new(digest).digest_size), key, digest)
    out, block = b"", b""
    for count in range(1, 256):
        block = hmac.digest(prk, block + info + bytes([count]), digest)
        out += block
        if len(out) >= length:
            return out[:length]
    raise AssertionError("too long")


class Keys:
    """What comes of a backup key, and the names that come of that."""

    def __init__(self, backup_key: bytes) -> None:
        def derive(label: str, length: int) -> bytes:
            return hkdf("sha512", backup_key, b"", enc(label), length)

        self.id = derive("backup-key-id", 16)
        self.name = derive("backup-chunk-name", 32)
        self.chunk = derive("backup-chunk", 32)
        self.manifest = derive("backup-manifest", 32)
        self.folder = f"qv1-{self.id.hex()}"

    def chunk_id(self, content: bytes) -> bytes:
        return hmac.digest(self.name, content, "sha256")

    def chunk_name(self, chunk_id: bytes) -> str:
        return f"{self.folder}/chunks/{chunk_id.hex()[:2]}/{chunk_id.hex()}"

    def manifest_name(self, generation: int, backup_id: bytes) -> str:
        return f"{self.folder}/manifests/{generation:016x}-{backup_id.hex()}"

    def chunk_aad(self, chunk_id: bytes) -> bytes:
        return enc("backup-chunk", self.id, chunk_id)

    def manifest_aad(self, generation: int, backup_id: bytes) -> bytes:
        return enc("backup-manifest", self.id, struct.pack(">Q", generation), backup_id)


# ---- streams, padding, objects


def pieces(data: bytes, first: int, later: int) -> list[bytes]:
    """`data` cut after `first` bytes, then after every `later`; one piece at least."""
    return [data[:first], *(data[at : at + later] for at in range(first, len(data), later))]


def segment_key(key: bytes, salt: bytes, aad: bytes) -> bytes:
    return hkdf("sha256", key, salt, aad, 32)


def nonce(prefix: bytes, number: int, count: int) -> bytes:
    return prefix + struct.pack(">IB", number, number == count - 1)


def open_stream(key: bytes, aad: bytes, stream: bytes) -> bytes:
    need(len(stream) >= STREAM_HEADER + TAG, "a stream is shorter than any")
    need(stream[0] == STREAM_HEADER, "a stream's header has another length")
    sealed = pieces(stream[STREAM_HEADER:], SEGMENT - STREAM_HEADER, SEGMENT)
    need(len(sealed) == 1 or len(sealed[-1]) > TAG, "a stream ends with an empty segment")
    inner, prefix = segment_key(key, stream[1:33], aad), stream[33:40]
    plain = []
    for number, segment in enumerate(sealed):
        at = nonce(prefix, number, len(sealed))
        try:
            plain.append(bindings.crypto_aead_aes256gcm_decrypt(segment, None, at, inner))
        except (CryptoError, ValueError) as error:
            raise Refused(f"segment {number} does not open") from error
    return b"".join(plain)


def padded(length: int) -> int:
    if length < 2:
        return 4096
    e = length.bit_length() - 1
    unit = 1 << (e - e.bit_length())
    return max(4096, -(-length // unit) * unit)


def unpad(plain: bytes, length: int) -> bytes:
    need(len(plain) == padded(length), "the padding has another length")
    need(not any(plain[length:]), "the padding is not zero")
    return plain[:length]


def object_size(content: int) -> int:
    length = padded(4 + content)
    return 5 + STREAM_HEADER + length + TAG * len(pieces(bytes(length), SEGMENT - 56, SEGMENT - 16))


def open_object(data: bytes, kind: int, key: bytes, aad: bytes) -> bytes:
    need(data[:3] == PREFIX[:3] and len(data) > 5, "no object of the format")
    if data[3] > PREFIX[3] and kind == MANIFEST:
        raise Later(f"an object of version {data[3]}")
    need(data[3:5] == bytes([1, kind]), "another version or kind")
    return open_stream(key, aad, data[5:])


def open_chunk(keys: Keys, chunk_id: bytes, length: int, data: bytes) -> bytes:
    need(len(data) == object_size(length), "a chunk's object has another size")
    plain = open_object(data, CHUNK, keys.chunk, keys.chunk_aad(chunk_id))
    need(struct.unpack(">I", plain[:4]) == (length,), "a chunk's length is another")
    content = unpad(plain, 4 + length)[4:]
    need(hmac.compare_digest(keys.chunk_id(content), chunk_id), "a chunk's name is another's")
    return content


# ---- manifests


@dataclass
class Entry:
    """A folder, or a file with its parts: (chunk number, offset, length)."""

    path: Path_
    mtime_ns: int
    mode: int
    size: int | None = None
    parts: list[tuple[int, int, int]] = field(default_factory=list)
    have: int = 0


@dataclass
class Listing:
    """What a manifest says, all of it checked."""

    generation: int
    backup_id: bytes
    created_s: int = 0
    tool: str = ""
    entries: list[Entry] = field(default_factory=list)
    chunks: list[tuple[bytes, int]] = field(default_factory=list)

    def file(self, *path: bytes) -> Entry:
        return next(entry for entry in self.entries if entry.path == path)


def number(value: object, low: int = 0, high: int = MOST) -> int:
    need(type(value) is int, "no integer where one should be")
    assert isinstance(value, int)
    need(low <= value <= high, f"{value} is not in {low} … {high}")
    return value


def path_of(value: object) -> Path_:
    need(isinstance(value, list) and 1 <= len(value) <= 512, "no path")
    assert isinstance(value, list)
    for name in value:
        need(type(name) is bytes and 1 <= len(name) <= 1024, "no name")
        need(name not in (b".", b"..") and not {0, 0x2F} & set(name), "a name that is none")
    need(sum(map(len, value)) <= 32_768, "a path that is too long")
    return tuple(value)


class Checker:
    """The six rules of order, frame by frame."""

    def __init__(self, generation: int, backup_id: bytes) -> None:
        self.listing = Listing(generation, backup_id)
        self.used: set[int] = set()
        self.ids: set[bytes] = set()
        self.folders: set[Path_] = {()}
        self.started = self.ended = False
        self.open: Entry | None = None

    def frame(self, fields: object) -> None:
        need(isinstance(fields, list) and fields, "a frame is no array")
        assert isinstance(fields, list)
        tag, *rest = fields
        known = {1: 4, 2: 2, 3: 3, 4: 4, 5: 1, 6: 4}
        need(type(tag) is int and len(rest) == known.get(tag), "a frame of no known type")
        need(not self.ended, "a frame after the end")
        need(self.started == (tag != 1), "the head is not first, or comes twice")
        need(self.open is None or tag in (2, 5), "a file's parts do not follow it")
        getattr(self, f"_{('head', 'chunk', 'folder', 'file', 'parts', 'end')[tag - 1]}")(*rest)

    def _head(self, generation: object, backup_id: object, created: object, tool: object) -> None:
        named = (self.listing.generation, self.listing.backup_id)
        need((number(generation, 1), backup_id) == named, "the head is another's")
        need(isinstance(backup_id, bytes), "backup_id is not bin")
        need(isinstance(tool, str) and len(tool) <= 128, "no tool")
        self.listing.created_s, self.listing.tool = number(created), str(tool)
        self.started = True

    def _chunk(self, chunk_id: object, length: object) -> None:
        need(isinstance(chunk_id, bytes) and len(chunk_id) == 32, "no chunk_id")
        assert isinstance(chunk_id, bytes)
        need(chunk_id not in self.ids, "a chunk comes twice")
        self.ids.add(chunk_id)
        self.listing.chunks.append((chunk_id, number(length, 1, CONTENT_BYTES)))

    def _entry(self, path: object, mtime: object, mode: object) -> Entry:
        entry = Entry(path_of(path), number(mtime, -(2**63), MOST), number(mode, 0, 4095))
        last = self.listing.entries[-1].path if self.listing.entries else ()
        need(entry.path > last, "paths do not ascend")
        need(entry.path[:-1] in self.folders, "a parent was not listed as a folder")
        self.listing.entries.append(entry)
        return entry

    def _folder(self, path: object, mtime: object, mode: object) -> None:
        self.folders.add(self._entry(path, mtime, mode).path)

    def _file(self, path: object, size: object, mtime: object, mode: object) -> None:
        entry = self._entry(path, mtime, mode)
        entry.size = number(size)
        self.open = entry if entry.size else None

    def _parts(self, parts: object) -> None:
        need(self.open is not None, "parts without a file")
        assert self.open is not None
        need(isinstance(parts, list) and 1 <= len(parts) <= 1024, "no parts")
        assert isinstance(parts, list)
        for part in parts:
            need(isinstance(part, list) and len(part) == 3, "no part")
            chunk, offset, length = number(part[0]), number(part[1]), number(part[2], 1)
            need(chunk < len(self.listing.chunks), "a part of no chunk")
            need(offset + length <= self.listing.chunks[chunk][1], "a part behind its chunk's end")
            self.used.add(chunk)
            self.open.parts.append((chunk, offset, length))
            self.open.have += length
        assert self.open.size is not None
        need(self.open.have <= self.open.size, "more parts than the file has bytes")
        if self.open.have == self.open.size:
            self.open = None

    def _end(self, files: object, folders: object, total: object, chunks: object) -> None:
        sizes = [entry.size for entry in self.listing.entries if entry.size is not None]
        found = (len(sizes), len(self.folders) - 1, sum(sizes), len(self.listing.chunks))
        told = (number(files), number(folders), number(total), number(chunks))
        need(told == found, "the end does not agree with what came")
        need(len(self.used) == len(self.listing.chunks), "a chunk that nothing uses")
        self.ended = True


def open_manifest(keys: Keys, generation: int, backup_id: bytes, data: bytes) -> Listing:
    aad = keys.manifest_aad(generation, backup_id)
    plain = open_object(data, MANIFEST, keys.manifest, aad)
    checker, at = Checker(generation, backup_id), 0
    while not checker.ended:
        need(at + 4 <= len(plain), "a manifest without an end")
        (length,) = struct.unpack_from(">I", plain, at)
        need(1 <= length <= 65_536, "a frame of an impossible length")
        unpacker = Unpacker(plain[at + 4 : at + 4 + length])
        try:
            fields = unpacker.value()
        except (ValueError, RecursionError) as error:
            raise Refused(f"a frame that is no msgpack of the format: {error}") from error
        checker.frame(fields)
        need(unpacker.at == length, "a frame holds more than one value, or less")
        at += 4 + length
    unpad(plain, at)
    return checker.listing


# ---- a folder as storage


def find(storage: Path, keys: Keys) -> list[tuple[int, bytes]]:
    """(generation, backup_id) of the key's backups, newest first."""
    names = [entry.name for entry in storage.iterdir()] if storage.is_dir() else []
    folder = storage / keys.folder / "manifests"
    found = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        match = re.fullmatch(r"([0-9a-f]{16})-([0-9a-f]{32})", entry.name)
        if match and 1 <= int(match[1], 16) <= MOST:
            found.append((int(match[1], 16), bytes.fromhex(match[2])))
    if found:
        return sorted(found, reverse=True)
    versions = [re.fullmatch(r"qv([1-9][0-9]*)-[0-9a-f]{32}", name) for name in names]
    if any(match and int(match[1]) > 1 for match in versions):
        raise Later("the storage has backups of a later version")
    if any(
        match and match[0] != keys.folder and any((storage / match[0] / "manifests").glob("*-*"))
        for match in versions
    ):
        raise OtherKey("the storage has backups of other keys")
    raise NoBackup("the storage has no backup")


def read(storage: Path, backup_key: bytes) -> tuple[Keys, Listing]:
    """The newest backup's listing."""
    keys = Keys(backup_key)
    generation, backup_id = find(storage, keys)[0]
    data = (storage / keys.manifest_name(generation, backup_id)).read_bytes()
    return keys, open_manifest(keys, generation, backup_id, data)


def chunk(storage: Path, keys: Keys, chunk_id: bytes, length: int) -> bytes:
    try:
        data = (storage / keys.chunk_name(chunk_id)).read_bytes()
    except FileNotFoundError as error:
        raise Refused(f"the chunk {chunk_id.hex()} is not there") from error
    return open_chunk(keys, chunk_id, length, data)


def contents(storage: Path, backup_key: bytes) -> Iterator[tuple[Entry, bytes]]:
    """Each folder and file of the newest backup, checked, with the file's bytes."""
    keys, listing = read(storage, backup_key)
    opened = [chunk(storage, keys, chunk_id, length) for chunk_id, length in listing.chunks]
    for entry in listing.entries:
        yield entry, b"".join(opened[n][at : at + length] for n, at, length in entry.parts)


def restore(storage: Path, backup_key: bytes, target: Path) -> None:
    """Everything into a folder that must not be there yet; all of it or nothing."""
    staging = target.with_name(target.name + ".partial")
    staging.mkdir()
    try:
        folders = []
        for entry, data in contents(storage, backup_key):
            place = os.path.join(os.fsencode(staging), *entry.path)  # noqa: PTH118  (bytes)
            if entry.size is None:
                os.mkdir(place)  # noqa: PTH102
                folders.append((place, entry))
                continue
            with open(place, "xb") as file:  # noqa: PTH123
                file.write(data)
            _dress(place, entry)
        for place, entry in reversed(folders):
            _dress(place, entry)
        target.mkdir()
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging)
        raise


def _dress(place: bytes, entry: Entry) -> None:
    os.chmod(place, entry.mode & 0o777)  # noqa: PTH101
    os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns))
