"""What docs/format.md says must be refused, seen by two readers: the second one and the product.

Each case differs from a whole backup by one thing. Objects are sealed under the right keys where
the case is not about seals: so it is the rule that refuses, not the cipher.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING, Any

import pytest
import second_reader as second
import second_writer as writer
from second_msgpack import pack

from quorumvault.backup.errors import BackupError, Damaged, FutureVersion, NoBackup, WrongKey
from quorumvault.backup.keys import Keys
from quorumvault.backup.restore import restore
from quorumvault.backup.storage import Storage
from quorumvault.backup.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = bytes(range(100, 132))
KEYS = second.Keys(KEY)
GENERATION, BACKUP_ID = 7, bytes(range(16))
CONTENT = b"0123456789"
CHUNK_ID = KEYS.chunk_id(CONTENT)
FOLDER, NAME = b"folder", b"file"

HEAD = (1, GENERATION, BACKUP_ID, 1_700_000_000, "a test")
IN = (3, (FOLDER,), 5, 0o755)
CHUNK = (2, CHUNK_ID, len(CONTENT))
FILE = (4, (FOLDER, NAME), 10, -5, 0o600)
PARTS = (5, [(0, 0, 10)])
END = (6, 1, 1, 10, 1)


@dataclasses.dataclass
class Case:
    """A backup of few objects; the fields are what a case changes."""

    frames: list[Any] = dataclasses.field(default_factory=lambda: [HEAD, IN, CHUNK, FILE, PARTS])
    end: tuple[int, ...] | None = END
    plain: Callable[[bytes], bytes] = writer.pad
    manifest: Callable[[bytes], bytes] = bytes
    chunk: Callable[[bytes], bytes | None] = bytes
    named: tuple[int, bytes] = (GENERATION, BACKUP_ID)
    contents: list[bytes] = dataclasses.field(default_factory=lambda: [CONTENT])

    def store(self, storage: Path) -> Path:
        frames = self.frames if self.end is None else [*self.frames, self.end]
        plain = self.plain(writer.framed(frames))
        manifest = self.manifest(writer.seal_manifest(KEYS, GENERATION, BACKUP_ID, plain))
        objects = {KEYS.manifest_name(*self.named): manifest}
        for content in self.contents:
            sealed = self.chunk(writer.seal_chunk(KEYS, content))
            if sealed is not None:
                objects[KEYS.chunk_name(KEYS.chunk_id(content))] = sealed
        for name, data in objects.items():
            (storage / name).parent.mkdir(parents=True, exist_ok=True)
            (storage / name).write_bytes(data)
        return storage


def frames(*changed: Any, end: tuple[int, ...] | None = END) -> Case:
    return Case(frames=list(changed), end=end)


def chain(names: list[bytes]) -> Case:
    """Folders one in the other, as deep as there are names."""
    folders = [(3, tuple(names[:depth]), 0, 0o700) for depth in range(1, len(names) + 1)]
    return frames(HEAD, *folders, end=(6, 0, len(folders), 0, 0))


def path(*names: Any) -> Case:
    """A file of this path and nothing else: empty, beside the folder."""
    return frames(HEAD, IN, (4, names, 0, 0, 0), end=(6, 1, 1, 0, 0))


def raw(data: bytes) -> Case:
    """A frame of these bytes in the place of the folder's."""
    return frames(HEAD, data, end=(6, 0, 1, 0, 0))


FOLDER_FRAME = pack((3, (b"f",), 0, 0))
OTHER = b"another content"
OTHER_CHUNK = (2, KEYS.chunk_id(OTHER), len(OTHER))

ALLOWED: dict[str, Case] = {
    "the backup that the other cases change": Case(),
    "nothing but head and end": frames(HEAD, end=(6, 0, 0, 0, 0)),
    "integers in their longest form": raw(b"\x94\xd3" + bytes(7) + b"\x03" + FOLDER_FRAME[2:]),
    "an array in its longest form": raw(b"\xdd\0\0\0\4" + FOLDER_FRAME[1:]),
    "bin in its longest form": raw(b"\x94\x03\x91\xc6\0\0\0\1f" + FOLDER_FRAME[-2:]),
    "a name of 1,024 bytes": path(b"x" * 1024),
    "512 components": chain([b"n"] * 512),
    "32,768 bytes of path": chain([b"n" * 1024] * 32),
    "the first and the last time": frames(
        HEAD, (3, (b"a",), -(2**63), 0o7777), (3, (b"b",), 2**63 - 1, 0), end=(6, 0, 2, 0, 0)
    ),
    "parts that overlap": frames(
        HEAD, IN, CHUNK, (4, (FOLDER, NAME), 15, 0, 0), (5, [(0, 0, 10), (0, 2, 5)]),
        end=(6, 1, 1, 15, 1),
    ),
    "a chunk between a file and its parts": frames(HEAD, IN, FILE, CHUNK, PARTS),
    "a chunk between parts": Case(
        frames=[HEAD, CHUNK, (4, (b"f",), 25, 0, 0), PARTS, OTHER_CHUNK, (5, [(1, 0, 15)])],
        end=(6, 1, 0, 25, 2),
        contents=[CONTENT, OTHER],
    ),
    "a chunk that is used long after it came": Case(
        frames=[HEAD, OTHER_CHUNK, CHUNK, (4, (b"e",), 10, 0, 0), (5, [(1, 0, 10)]),
                (4, (b"f",), 1, 0, 0), (5, [(0, 14, 1)])],
        end=(6, 2, 0, 11, 2),
        contents=[CONTENT, OTHER],
    ),
    "1,024 parts in a frame": frames(
        HEAD, CHUNK, (4, (b"f",), 1024, 0, 0), (5, [(0, 9, 1)] * 1024), end=(6, 1, 0, 1024, 1)
    ),
    "a tool of 128 characters": frames((*HEAD[:4], "ü" * 128), IN, CHUNK, FILE, PARTS),
    "names that are no UTF-8, and . and .. with more": frames(
        HEAD, *((3, (name,), 0, 0) for name in (b"...", b"..x", b".x", b"\xff\xfe\n")),
        end=(6, 0, 4, 0, 0),
    ),
}  # fmt: skip

RULES: dict[str, Case] = {
    # 1. head and end
    "no head": frames(IN, CHUNK, FILE, PARTS),
    "a head that is second": frames(IN, HEAD, CHUNK, FILE, PARTS),
    "two heads": frames(HEAD, HEAD, IN, CHUNK, FILE, PARTS),
    "a head of another generation": frames((1, 8, *HEAD[2:]), IN, CHUNK, FILE, PARTS),
    "a head of another backup_id": frames((1, 7, bytes(16), *HEAD[3:]), IN, CHUNK, FILE, PARTS),
    "a head with a negative time": frames((*HEAD[:3], -1, "t"), IN, CHUNK, FILE, PARTS),
    "a tool of 129 characters": frames((*HEAD[:4], "t" * 129), IN, CHUNK, FILE, PARTS),
    "a tool that is bin": frames((*HEAD[:4], b"t"), IN, CHUNK, FILE, PARTS),
    "no end": Case(end=None),
    "an end with a file more": Case(end=(6, 2, 1, 10, 1)),
    "an end with a folder less": Case(end=(6, 1, 0, 10, 1)),
    "an end with a byte more": Case(end=(6, 1, 1, 11, 1)),
    "an end with a chunk more": Case(end=(6, 1, 1, 10, 2)),
    "two ends": frames(HEAD, IN, CHUNK, FILE, PARTS, END),
    "a folder after the end": frames(HEAD, END, IN, CHUNK, FILE, PARTS),
    # 2. chunks
    "a chunk twice": frames(HEAD, IN, CHUNK, CHUNK, FILE, PARTS, end=(6, 1, 1, 10, 2)),
    "a chunk that nothing uses": Case(
        frames=[HEAD, IN, CHUNK, OTHER_CHUNK, FILE, PARTS],
        end=(6, 1, 1, 10, 2),
        contents=[CONTENT, OTHER],
    ),
    "a chunk_id of 31 bytes": frames(HEAD, IN, (2, CHUNK_ID[:31], 10), FILE, PARTS),
    "a chunk of no bytes": frames(HEAD, IN, (2, CHUNK_ID, 0), FILE, PARTS),
    "a chunk of 4,194,301 bytes": frames(HEAD, IN, (2, CHUNK_ID, 4_194_301), FILE, PARTS),
    # 3. parts and their file
    "a part too few": frames(HEAD, IN, CHUNK, FILE, (5, [(0, 0, 9)])),
    "a part too many": frames(HEAD, IN, CHUNK, FILE, (5, [(0, 0, 10), (0, 0, 1)])),
    "parts after the file is whole": frames(HEAD, IN, CHUNK, FILE, PARTS, PARTS),
    "parts of an empty file": frames(
        HEAD, IN, CHUNK, (4, (FOLDER, NAME), 0, 0, 0), PARTS, end=(6, 1, 1, 0, 1)
    ),
    "parts without a file": frames(HEAD, IN, CHUNK, PARTS, FILE, PARTS),
    "a folder between a file and its parts": frames(
        HEAD, IN, CHUNK, FILE, (3, (b"g",), 0, 0), PARTS, end=(6, 1, 2, 10, 1)
    ),
    "a file without parts before another": frames(
        HEAD, IN, CHUNK, FILE, (4, (b"g",), 0, 0, 0), end=(6, 2, 1, 10, 1)
    ),
    # 4. parts and their chunk
    "a part of a chunk that comes later": frames(HEAD, IN, FILE, PARTS, CHUNK),
    "a part behind its chunk": frames(HEAD, IN, CHUNK, FILE, (5, [(0, 1, 10)])),
    "a part of no bytes": frames(HEAD, IN, CHUNK, FILE, (5, [(0, 0, 0), (0, 0, 10)])),
    "a part before its chunk": frames(HEAD, IN, CHUNK, FILE, (5, [(0, -1, 10)])),
    "a part of chunk -1": frames(HEAD, IN, CHUNK, FILE, (5, [(-1, 0, 10)])),
    "a part whose end wraps around": frames(HEAD, IN, CHUNK, FILE, (5, [(0, 2**63 - 1, 10)])),
    "no parts in a parts frame": frames(HEAD, IN, CHUNK, FILE, (5, []), PARTS),
    "1,025 parts in a frame": frames(
        HEAD, CHUNK, (4, (b"f",), 1025, 0, 0), (5, [(0, 9, 1)] * 1025), end=(6, 1, 0, 1025, 1)
    ),
    "a part of two numbers": frames(HEAD, IN, CHUNK, FILE, (5, [(0, 10)])),
    # 5. and 6. paths
    "the same folder twice": frames(HEAD, IN, IN, end=(6, 0, 2, 0, 0)),
    "paths that descend": frames(HEAD, IN, (3, (b"a",), 0, 0), end=(6, 0, 2, 0, 0)),
    "paths in the order of their whole text": frames(
        HEAD, (3, (b"a",), 0, 0), (3, (b"a.b",), 0, 0), (3, (b"a", b"b"), 0, 0),
        end=(6, 0, 3, 0, 0),
    ),
    "a parent that was not listed": frames(HEAD, (3, (b"a", b"b"), 0, 0), end=(6, 0, 1, 0, 0)),
    "a parent that is a file": frames(
        HEAD, (4, (b"a",), 0, 0, 0), (4, (b"a", b"b"), 0, 0, 0), end=(6, 2, 0, 0, 0)
    ),
    "a parent of the same name elsewhere": frames(
        HEAD, (3, (b"a",), 0, 0), (3, (b"a", b"c"), 0, 0), (3, (b"b",), 0, 0),
        (3, (b"b", b"c", b"d"), 0, 0), end=(6, 0, 4, 0, 0),
    ),
    "a path of nothing": path(),
    "an empty name": path(FOLDER, b""),
    "a name .": path(FOLDER, b"."),
    "a name ..": path(FOLDER, b".."),
    "a name with a slash": path(FOLDER, b"x/y"),
    "a name with a zero byte": path(FOLDER, b"x\0"),
    "a name of 1,025 bytes": path(b"x" * 1025),
    "a name that is text": path("x"),
    "a path that is a name": frames(HEAD, (3, b"a", 0, 0), end=(6, 0, 1, 0, 0)),
    "513 components": chain([b"n"] * 513),
    "32,769 bytes of path": chain([b"n" * 1024] * 32 + [b"n"]),
    "a mode of 13 bits": frames(HEAD, (3, (b"a",), 0, 4096), end=(6, 0, 1, 0, 0)),
    "a time of 2^63": frames(HEAD, (3, (b"a",), 2**63, 0), end=(6, 0, 1, 0, 0)),
    "a size of 2^63": frames(HEAD, CHUNK, (4, (b"f",), 2**63, 0, 0), PARTS),
    "a negative size": frames(HEAD, (4, (b"f",), -1, 0, 0), end=(6, 1, 0, 0, 0)),
    # frames and msgpack
    "a frame of type 0": raw(pack((0, (b"f",), 0, 0))),
    "a frame of type 7": raw(pack((7, (b"f",), 0, 0))),
    "a field more": raw(pack((3, (b"f",), 0, 0, 0))),
    "a field less": raw(pack((3, (b"f",), 0))),
    "no fields at all": raw(b"\x90"),
    "a map": raw(b"\x84\x00\x03\x01\x91\xc4\x01f\x02\x00\x03\x00"),
    "a number": raw(b"\x03"),
    "nil for a number": raw(FOLDER_FRAME[:-1] + b"\xc0"),
    "false for a number": raw(FOLDER_FRAME[:-1] + b"\xc2"),
    "a float for a number": raw(FOLDER_FRAME[:-1] + b"\xcb" + bytes(8)),
    "text for a number": raw(FOLDER_FRAME[:-1] + b"\xa10"),
    "an ext for a number": raw(FOLDER_FRAME[:-1] + b"\xd4\x00\x00"),
    "text of no UTF-8": raw(pack(HEAD)[:-6] + b"\xff" * 6),
    "two values in a frame": raw(FOLDER_FRAME + b"\x00"),
    "a frame that ends too early": raw(FOLDER_FRAME[:-1]),
    "an array that promises 2^32 - 1": raw(b"\xdd\xff\xff\xff\xff" + FOLDER_FRAME[1:]),
    "arrays 60,000 deep": raw(b"\x91" * 60_000),
    "a frame of nothing": raw(b""),
    "a frame that is longer than the manifest": Case(
        plain=lambda framed: writer.pad(framed[:-10] + b"\0\0\x13\x88" + framed[-6:])
    ),
    # padding
    "a zero more": Case(plain=lambda framed: writer.pad(framed) + b"\0"),
    "a zero less": Case(plain=lambda framed: writer.pad(framed)[:-1]),
    "no padding": Case(plain=bytes),
    "the next padded size": Case(plain=lambda framed: framed.ljust(4224, b"\0")),
    "a byte in the padding": Case(plain=lambda framed: writer.pad(framed)[:-1] + b"\1"),
    "nothing at all": Case(plain=lambda framed: b""),
}  # fmt: skip


def another_chunk(data: bytes) -> bytes:
    return writer.seal_chunk(KEYS, b"abcdefghij")


def chunk_of(plain: bytes, chunk_id: bytes = CHUNK_ID) -> bytes:
    sealed = writer.seal_stream(KEYS.chunk, KEYS.chunk_aad(chunk_id), plain)
    return b"QVB\x01\x01" + sealed


def manifest_of(generation: int, backup_id: bytes) -> bytes:
    plain = writer.pad(writer.framed([HEAD, IN, CHUNK, FILE, PARTS, END]))
    return writer.seal_manifest(KEYS, generation, backup_id, plain)


OTHER_KEYS = second.Keys(bytes(32))

OBJECTS: dict[str, Case] = {
    "a chunk that is not there": Case(chunk=lambda data: None),
    "a chunk that is empty": Case(chunk=lambda data: b""),
    "a chunk that is cut off": Case(chunk=lambda data: data[:-1]),
    "a chunk with a byte more": Case(chunk=lambda data: data + b"\0"),
    "another chunk of the same length under this name": Case(chunk=another_chunk),
    "a chunk of another backup key": Case(
        chunk=lambda data: writer.seal_chunk(OTHER_KEYS, CONTENT)
    ),
    "a chunk as a manifest": Case(manifest=lambda data: writer.seal_chunk(KEYS, CONTENT)),
    "a manifest as a chunk": Case(chunk=lambda data: manifest_of(GENERATION, BACKUP_ID)),
    "a chunk of the kind of manifests": Case(chunk=lambda data: data[:4] + b"\2" + data[5:]),
    "a chunk of version 0": Case(chunk=lambda data: data[:3] + b"\0" + data[4:]),
    "a chunk of a later version": Case(chunk=lambda data: data[:3] + b"\2" + data[4:]),
    "a chunk with another magic": Case(chunk=lambda data: b"QVC" + data[3:]),
    "another header length": Case(chunk=lambda data: data[:5] + b"\x29" + data[6:]),
    "another content sealed under this name": Case(
        chunk=lambda data: chunk_of(writer.pad(struct.pack(">I", 10) + b"abcdefghij"))
    ),
    "a chunk that says another length": Case(
        chunk=lambda data: chunk_of(writer.pad(struct.pack(">I", 9) + CONTENT))
    ),
    "a chunk with a byte in its padding": Case(
        chunk=lambda data: chunk_of(writer.pad(struct.pack(">I", 10) + CONTENT + b"\1"))
    ),
    "an older manifest under a newer name": Case(named=(GENERATION + 1, BACKUP_ID)),
    "a manifest under another backup_id": Case(named=(GENERATION, bytes(16))),
    "a manifest of version 0": Case(manifest=lambda data: data[:3] + b"\0" + data[4:]),
    "a manifest of kind 3": Case(manifest=lambda data: data[:4] + b"\3" + data[5:]),
    "a manifest that is empty": Case(manifest=lambda data: b""),
    "a manifest that is cut off": Case(manifest=lambda data: data[:-1]),
    "a manifest of five bytes": Case(manifest=lambda data: data[:5]),
    "a manifest of a header only": Case(manifest=lambda data: data[:45]),
    "a manifest with a byte more": Case(manifest=lambda data: data + b"\0"),
}  # fmt: skip

SEGMENT = second.SEGMENT
BIG = bytes(range(256)) * 16_000  # of four segments
BIG_FRAMES: list[Any] = [HEAD, (2, KEYS.chunk_id(BIG), len(BIG)), (4, (b"f",), len(BIG), 0, 0)]
BIG_FRAMES += [(5, [(0, 0, len(BIG))])]
MANY = [(3, (str(n).encode().rjust(1000, b"0"),), 0, 0) for n in range(1200)]


def segments(order: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    """An object whose segments are in another order, or not the same ones."""

    def reorder(data: bytes) -> bytes:
        stream = data[5:]
        cut = [stream[at : at + SEGMENT] for at in range(0, len(stream), SEGMENT)]
        return data[:5] + b"".join(order(cut))

    return reorder


def big(order: Callable[[list[bytes]], list[bytes]]) -> Case:
    return Case(BIG_FRAMES, (6, 1, 0, len(BIG), 1), chunk=segments(order), contents=[BIG])


def long(order: Callable[[list[bytes]], list[bytes]]) -> Case:
    end = (6, 0, len(MANY), 0, 0)
    return Case([HEAD, *MANY], end, manifest=segments(order), contents=[])


def of_another_stream(cut: list[bytes]) -> list[bytes]:
    other = writer.seal_chunk(KEYS, BIG)[5:]
    return [*cut[:1], other[SEGMENT : 2 * SEGMENT], *cut[2:]]


def ends_with_an_empty_segment(data: bytes) -> bytes:
    """A manifest whose plaintext fills its segments, and one segment more with nothing in it."""
    plain = writer.pad(writer.framed([HEAD, *MANY, (6, 0, len(MANY), 0, 0)]))
    return b"QVB\1\2" + writer.seal_stream(
        KEYS.manifest,
        KEYS.manifest_aad(GENERATION, BACKUP_ID),
        plain,
        cut=[plain[:1_048_520], plain[1_048_520:], b""],
    )


def cut_in_other_places(data: bytes) -> bytes:
    plain = writer.pad(writer.framed([HEAD, *MANY, (6, 0, len(MANY), 0, 0)]))
    return b"QVB\1\2" + writer.seal_stream(
        KEYS.manifest,
        KEYS.manifest_aad(GENERATION, BACKUP_ID),
        plain,
        cut=[plain[:1_048_519], plain[1_048_519:]],
    )


ALLOWED |= {"a chunk of four segments": big(list), "a manifest of two segments": long(list)}
SEGMENTS: dict[str, Case] = {
    "segments in another order": big(lambda cut: [cut[0], cut[2], cut[1], cut[3]]),
    "a segment twice": big(lambda cut: [cut[0], cut[1], cut[1], cut[3]]),
    "a segment of another stream": big(of_another_stream),
    "a chunk without its last segment": big(lambda cut: cut[:-1]),
    "a chunk without a segment in between": big(lambda cut: [*cut[:1], *cut[2:]]),
    "a manifest without its last segment": long(lambda cut: cut[:-1]),
    "a manifest whose last segment comes twice": long(lambda cut: [*cut, cut[-1]]),
    "a manifest without its first segment": long(lambda cut: cut[1:]),
    "a manifest with its segments exchanged": long(lambda cut: cut[::-1]),
    "a manifest with an empty segment at its end": dataclasses.replace(
        long(list), manifest=ends_with_an_empty_segment
    ),
    "a manifest that is cut in other places": dataclasses.replace(
        long(list), manifest=cut_in_other_places
    ),
}
REFUSED = RULES | OBJECTS | SEGMENTS


def named(cases: dict[str, Case]) -> Any:
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


@named(ALLOWED)
def test_both_readers_take_what_the_page_allows(case: Case, tmp_path: Path) -> None:
    case.store(tmp_path / "storage")
    found = list(second.contents(tmp_path / "storage", KEY))
    with Storage(str(tmp_path / "storage")) as storage:
        told = verify(storage, Keys.of(KEY))
    files = [data for entry, data in found if entry.size is not None]
    assert (told.files, told.bytes) == (len(files), sum(map(len, files)))


@named(REFUSED)
def test_both_readers_refuse_what_the_page_refuses(case: Case, tmp_path: Path) -> None:
    case.store(tmp_path / "storage")
    with pytest.raises(second.Refused) as caught:
        list(second.contents(tmp_path / "storage", KEY))
    assert caught.type is second.Refused, "damage, and nothing else"
    with Storage(str(tmp_path / "storage")) as storage, pytest.raises(Damaged):
        verify(storage, Keys.of(KEY))


@named({name: REFUSED[name] for name in ("a name ..", "a chunk that is cut off", "no end")})
def test_both_readers_leave_nothing_of_a_backup_that_they_refuse(
    case: Case, tmp_path: Path
) -> None:
    case.store(tmp_path / "storage")
    with pytest.raises(second.Refused):
        second.restore(tmp_path / "storage", KEY, tmp_path / "target")
    with Storage(str(tmp_path / "storage")) as storage, pytest.raises(Damaged):
        restore(storage, Keys.of(KEY), tmp_path / "target")
    assert [entry.name for entry in tmp_path.iterdir()] == ["storage"]


def test_a_manifest_of_a_later_version_is_told_from_damage(tmp_path: Path) -> None:
    Case(manifest=lambda data: data[:3] + b"\2" + data[4:]).store(tmp_path)
    with pytest.raises(second.Later):
        list(second.contents(tmp_path, KEY))
    with Storage(str(tmp_path)) as storage, pytest.raises(FutureVersion):
        verify(storage, Keys.of(KEY))


@pytest.mark.parametrize(
    ("names", "by_second", "by_product"),
    [
        ([], second.NoBackup, NoBackup),
        (["notes.txt", "qv1-what/manifests/x"], second.NoBackup, NoBackup),
        ([OTHER_KEYS.manifest_name(1, BACKUP_ID)], second.OtherKey, WrongKey),
        ([OTHER_KEYS.chunk_name(CHUNK_ID)], second.NoBackup, NoBackup),
        ([KEYS.chunk_name(CHUNK_ID)], second.NoBackup, NoBackup),
        ([KEYS.folder + "/manifests/" + "0" * 16 + "-" + "0" * 32], second.NoBackup, NoBackup),
        ([f"qv2-{KEYS.id.hex()}/anything"], second.Later, FutureVersion),
        (
            [OTHER_KEYS.manifest_name(1, BACKUP_ID), f"qv12-{KEYS.id.hex()}/x"],
            second.Later,
            FutureVersion,
        ),
    ],
)
def test_both_readers_say_why_there_is_no_backup(
    names: list[str], by_second: type[Exception], by_product: type[BackupError], tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(by_second):
        second.read(tmp_path, KEY)
    with Storage(str(tmp_path)) as storage, pytest.raises(by_product):
        verify(storage, Keys.of(KEY))


def test_the_second_reader_sees_each_changed_byte(tmp_path: Path) -> None:
    """Each of the first hundred, then a sample; that the product sees all is another test's."""
    storage = Case().store(tmp_path)
    for name in (KEYS.manifest_name(GENERATION, BACKUP_ID), KEYS.chunk_name(CHUNK_ID)):
        whole = (storage / name).read_bytes()
        for at in [*range(100), *range(100, len(whole), 41)]:
            changed = bytearray(whole)
            changed[at] ^= 1 << at % 8
            (storage / name).write_bytes(changed)
            with pytest.raises(second.Refused):
                list(second.contents(storage, KEY))
        (storage / name).write_bytes(whole)
    assert len(list(second.contents(storage, KEY))) == 2
