"""Backups built frame by frame, for tests that need one of an exact shape (not as create cuts)."""

from __future__ import annotations

import io
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from quorumvault.backup.keys import Keys
from quorumvault.backup.manifest import ManifestWriter
from quorumvault.backup.objects import CONTENT_BYTES, seal_chunk
from quorumvault.backup.storage import Storage

MTIME_NS = 1_700_000_000_123_456_789


@dataclass
class Tree:
    """What to back up: contents of files and modes by path; folders above come by themselves."""

    files: dict[str, bytes] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)

    def paths(self) -> list[tuple[bytes, ...]]:
        found: set[tuple[bytes, ...]] = set()
        for text in [*self.files, *self.folders]:
            parts = split(text)
            found |= {parts[:length] for length in range(1, len(parts) + 1)}
        return sorted(found)


def expected(tree: Tree) -> dict[str, bytes | None]:
    """What `content_of` finds where it was restored."""
    return {joined(path): tree.files.get(joined(path)) for path in tree.paths()}


def content_of(root: Path) -> dict[str, bytes | None]:
    """Every file's bytes and every folder (None) beneath the root, by path."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
    }


def split(text: str) -> tuple[bytes, ...]:
    return tuple(part.encode("utf-8", "surrogateescape") for part in text.split("/"))


def joined(path: tuple[bytes, ...]) -> str:
    return "/".join(part.decode("utf-8", "surrogateescape") for part in path)


def put_backup(
    storage: Storage,
    keys: Keys,
    tree: Tree,
    *,
    generation: int = 1,
    pack: bool = True,
    backup_id: bytes | None = None,
) -> bytes:
    """Store it; small files share one chunk when `pack`. Returns the backup_id."""
    backup_id = backup_id or secrets.token_bytes(16)
    packed = b"".join(
        dict.fromkeys(data for data in tree.files.values() if data and len(data) < 100_000)
    )
    assert len(packed) <= CONTENT_BYTES
    out = io.BytesIO()
    writer = ManifestWriter(keys, generation, backup_id, out, created_s=1_700_000_000, tool="test")
    numbers: dict[bytes, int] = {}

    def chunk(content: bytes) -> int:
        chunk_id = keys.chunk_id(content)
        if chunk_id not in numbers:
            storage.put(keys.chunk_name(chunk_id), seal_chunk(keys, chunk_id, content))
            numbers[chunk_id] = writer.chunk(chunk_id, len(content))
        return numbers[chunk_id]

    for path in tree.paths():
        text = joined(path)
        data = tree.files.get(text)
        if data is None:
            writer.folder(path, MTIME_NS, tree.folders.get(text, 0o755))
            continue
        writer.file(path, len(data), MTIME_NS, tree.modes.get(text, 0o640))
        if pack and 0 < len(data) < 100_000:
            writer.parts([(chunk(packed), packed.index(data), len(data))])
            continue
        parts = []
        for start in range(0, len(data), CONTENT_BYTES):
            piece = data[start : start + CONTENT_BYTES]
            parts.append((chunk(piece), 0, len(piece)))
        if parts:
            writer.parts(parts)
    size = writer.finish()
    out.seek(0)
    storage.put_from(keys.manifest_name(generation, backup_id), out, size)
    storage.settle()
    return backup_id
