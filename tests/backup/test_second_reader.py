"""What one implementation of docs/format.md wrote, the other reads: both ways, byte for byte."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import second_reader as second
import second_writer as writer
from second_msgpack import Unpacker, pack

from quorumvault.backup.catalog import find
from quorumvault.backup.create import create
from quorumvault.backup.keys import Keys
from quorumvault.backup.objects import CONTENT_BYTES
from quorumvault.backup.restore import restore
from quorumvault.backup.storage import Storage
from quorumvault.backup.verify import verify

KEY = bytes(range(32))
VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "format_vectors.json").read_text())


# ------------------------------------------------------------------ the page's vectors


def content(length: int) -> bytes:
    return bytes((at * 7 + at // 256) % 256 for at in range(length))


def test_keys_and_names_are_those_of_the_page() -> None:
    keys = second.Keys(bytes.fromhex(VECTORS["backup_key"]))
    assert keys.id.hex() == VECTORS["key_id"]
    assert keys.name.hex() == VECTORS["name_key"]
    assert keys.chunk.hex() == VECTORS["chunk_key"]
    assert keys.manifest.hex() == VECTORS["manifest_key"]
    assert keys.folder == VECTORS["folder"]


@pytest.mark.parametrize("vector", VECTORS["chunks"], ids=lambda one: str(one["content_bytes"]))
def test_the_second_reader_names_and_measures_the_chunks_of_the_page(
    vector: dict[str, Any],
) -> None:
    keys, data = second.Keys(KEY), content(vector["content_bytes"])
    chunk_id = keys.chunk_id(data)
    assert hashlib.sha256(data).hexdigest() == vector["content_sha256"]
    assert chunk_id.hex() == vector["chunk_id"]
    assert keys.chunk_name(chunk_id) == vector["name"]
    assert second.object_size(len(data)) == vector["object_bytes"]
    if "object" in vector:
        sealed = bytes.fromhex(vector["object"])
        assert second.open_chunk(keys, chunk_id, len(data), sealed) == data


def test_the_second_reader_reads_the_manifest_of_the_page() -> None:
    vector = VECTORS["manifest"]
    backup_id = bytes.fromhex(vector["backup_id"])
    sealed = bytes.fromhex(vector["object"])
    listing = second.open_manifest(second.Keys(KEY), vector["generation"], backup_id, sealed)
    assert [(entry.path, entry.size) for entry in listing.entries] == [
        ((b"messages.db",), CONTENT_BYTES + 1),
        ((b"photos",), None),
        ((b"photos", "café.jpg".encode()), 499),
        ((b"photos", b"empty"), 0),
        ((b"photos", b"not-utf8-\xff"), 500),
    ]
    assert [length for _, length in listing.chunks] == [CONTENT_BYTES, 1000]


def test_the_second_writer_packs_the_frames_of_the_page_into_the_same_bytes() -> None:
    packed = [bytes.fromhex(frame) for frame in VECTORS["manifest"]["frames"]]
    assert [pack(Unpacker(frame).value()) for frame in packed] == packed


@pytest.mark.parametrize(("length", "padded"), VECTORS["padme"])
def test_the_second_reader_pads_as_the_page_does(length: int, padded: int) -> None:
    assert second.padded(length) == max(4096, padded)


# ------------------------------------------------------------------ both ways

Seen = dict[tuple[bytes, ...], tuple[bytes | None, int, int]]


def plant(top: Path) -> Path:
    """What a phone has, small, and what is odd: empty, equal, hidden, misordered, no UTF-8."""
    seeded = random.Random(6)
    files = {
        b"messages.db": seeded.randbytes(60_000),
        b"photos/IMG_0001.jpg": seeded.randbytes(400_000),
        b"photos/IMG_0001 (copy).jpg": random.Random(7).randbytes(70_000),
        b"photos/again.jpg": random.Random(7).randbytes(70_000),
        b"photos.txt": b"sorts before what is in photos, as text",
        b"videos/long.mp4": seeded.randbytes(CONTENT_BYTES + 700_000),
        b"voice/1.opus": seeded.randbytes(5_000),
        b"voice/nothing": b"",
        b".hidden": b"h",
        b"\xff\xfe no utf-8": b"raw",
        "Größe 日本.txt".encode(): b"text",
        "e\u0301 decomposed".encode(): b"never normalised",
        b"deep/er/and/deeper/still/leaf": b"leaf",
        b"zeros": bytes(100_000),
    }
    for name, data in files.items():
        place = os.path.join(os.fsencode(top), name)  # noqa: PTH118  (bytes)
        os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120
        with open(place, "wb") as file:  # noqa: PTH123
            file.write(data)
        os.utime(place, ns=(0, 1_600_000_000_123_456_700 + 100 * len(data)))
    (top / "voice/1.opus").chmod(0o640)
    (top / "empty folder").mkdir(mode=0o750)
    return top


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("phone"))


def seen(top: Path) -> Seen:
    """Contents, times and modes; a folder's own time is its backup's affair."""
    return {
        path: (data, about.st_mtime_ns if data is not None else 0, about.st_mode)
        for path, about, data in writer.walk(top)
    }


def test_the_second_reader_restores_what_create_made(phone: Path, tmp_path: Path) -> None:
    with Storage(str(tmp_path / "storage")) as storage:
        create(storage, Keys.of(KEY), [phone])
    second.restore(tmp_path / "storage", KEY, tmp_path / "target")
    assert seen(tmp_path / "target" / phone.name) == seen(phone)
    assert [entry.name for entry in (tmp_path / "target").iterdir()] == [phone.name]


def test_create_and_the_second_writer_take_turns_in_one_storage(
    phone: Path, tmp_path: Path
) -> None:
    """Each counts on from the other, and removes what the other no longer needs."""
    with Storage(str(tmp_path)) as storage:
        for generation in (1, 3):
            assert writer.write(tmp_path, KEY, phone, piece=65_536) == generation
            assert verify(storage, Keys.of(KEY)).strangers == 0
            assert create(storage, Keys.of(KEY), [phone]).generation == generation + 1
            assert verify(storage, Keys.of(KEY)).strangers == 0
            assert [one for one, _ in second.find(tmp_path, second.Keys(KEY))] == [generation + 1]
            list(second.contents(tmp_path, KEY))


@pytest.mark.parametrize("piece", [CONTENT_BYTES, 65_536, 5_000])
def test_verify_and_restore_take_what_the_second_writer_wrote(
    piece: int, phone: Path, tmp_path: Path
) -> None:
    """Cut across files; in 5,000s a thousand chunks, and more parts than one frame holds."""
    writer.write(tmp_path / "storage", KEY, phone, piece=piece)
    with Storage(str(tmp_path / "storage")) as storage:
        told = verify(storage, Keys.of(KEY))
        restore(storage, Keys.of(KEY), tmp_path / "new phone")
    assert seen(tmp_path / "new phone") == seen(phone)
    assert told.files == 14
    assert told.strangers == 0


def test_restore_takes_one_file_out_of_what_the_second_writer_wrote(
    phone: Path, tmp_path: Path
) -> None:
    writer.write(tmp_path / "storage", KEY, phone, piece=65_536)
    with Storage(str(tmp_path / "storage")) as storage:
        restore(storage, Keys.of(KEY), tmp_path / "target", only=["photos/again.jpg"])
    files = [path for path, (data, _, _) in seen(tmp_path / "target").items() if data is not None]
    assert files == [(b"photos", b"again.jpg")]
    wanted = (phone / "photos/again.jpg").read_bytes()
    assert (tmp_path / "target/photos/again.jpg").read_bytes() == wanted


def test_the_second_writer_leaves_nothing_older(phone: Path, tmp_path: Path) -> None:
    for piece in (65_536, 70_000):
        writer.write(tmp_path, KEY, phone / "photos", piece=piece)
    with Storage(str(tmp_path)) as storage:
        assert [one.generation for one in find(storage, Keys.of(KEY))] == [2]
        assert verify(storage, Keys.of(KEY)).strangers == 0


def test_the_second_reader_and_writer_understand_each_other(phone: Path, tmp_path: Path) -> None:
    writer.write(tmp_path / "storage", KEY, phone, piece=65_536)
    second.restore(tmp_path / "storage", KEY, tmp_path / "target")
    assert seen(tmp_path / "target") == seen(phone)
