"""What a storage really holds: read by hand, for tests of how backups are made."""

from __future__ import annotations

import os
import random
import stat
from dataclasses import dataclass, field
from pathlib import Path

from quorumvault.backup.keys import Keys
from quorumvault.backup.manifest import Chunk, File, Folder, Parts, parse_name, read_manifest
from quorumvault.backup.objects import MAX_CHUNK_OBJECT_BYTES, open_chunk
from quorumvault.backup.storage import Storage

KEYS = Keys.of(bytes(range(32)))


@dataclass
class Held:
    """The newest backup, every chunk opened, and the names of its objects."""

    generation: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    meta: dict[str, tuple[int, int]] = field(default_factory=dict)


def names(storage: Storage, keys: Keys = KEYS) -> set[str]:
    return {stored.name for stored in storage.list(f"{keys.folder}/")}


def manifests(storage: Storage, keys: Keys = KEYS) -> list[str]:
    return sorted(name for name in names(storage, keys) if "/manifests/" in name)


def held(storage: Storage, keys: Keys = KEYS, *, manifest: str = "") -> Held:
    """Read the newest backup (or that of `manifest`) to its last byte; raises what is wrong."""
    newest = manifest or manifests(storage, keys)[-1]
    generation, backup_id = parse_name(newest)
    found = Held(generation, names={newest})
    chunks: list[bytes] = []
    current = ""
    with storage.open(newest) as source:
        for frame in read_manifest(keys, generation, backup_id, source):
            match frame:
                case Chunk():
                    name = keys.chunk_name(frame.id)
                    found.names.add(name)
                    obj = storage.get(name, MAX_CHUNK_OBJECT_BYTES)
                    content = open_chunk(keys, frame.id, frame.length, obj, check_id=True)
                    chunks.append(bytes(content))
                case Folder():
                    found.folders.add(text(frame.path))
                    found.meta[text(frame.path)] = (frame.mtime_ns, frame.mode)
                case File():
                    current = text(frame.path)
                    found.files[current] = b""
                    found.meta[current] = (frame.mtime_ns, frame.mode)
                case Parts():
                    for number, offset, length in frame.parts:
                        found.files[current] += chunks[number][offset : offset + length]
    return found


def on_disk(source: Path) -> dict[str, bytes]:
    """The files below a folder as `held` names them."""
    return {
        str(place.relative_to(source.parent)): place.read_bytes()
        for place in source.rglob("*")
        if place.is_file()
    }


def meta_on_disk(source: Path) -> dict[str, tuple[int, int]]:
    places = [source, *source.rglob("*")]
    return {
        str(place.relative_to(source.parent)): (
            place.lstat().st_mtime_ns,
            stat.S_IMODE(place.lstat().st_mode),
        )
        for place in places
    }


def text(path: tuple[bytes, ...]) -> str:
    return os.fsdecode(b"/".join(path))


def phone(root: Path, seed: int = 1) -> Path:
    """A small phone: a database of two chunks and a bit, photos, voice notes, an empty folder."""
    draw = random.Random(seed)
    for name, size in {
        "messages.db": 4_194_300 + 900_000,
        "photos/1.jpg": 700_000,
        "photos/2.jpg": 550_000,
        "voice/a.opus": 20_000,
        "voice/b.opus": 30_000,
        "voice/c.opus": 1,
        "voice/empty": 0,
    }.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(draw.randbytes(size))
    (root / "none").mkdir()
    return root
