"""What the storage holds, for an owner to look at: backups, and the files in one of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from quorumvault.backup.catalog import choose, find
from quorumvault.backup.errors import Damaged, NotThere
from quorumvault.backup.manifest import Chunk, End, File, Folder, Head, read_manifest
from quorumvault.backup.names import shown
from quorumvault.backup.objects import chunk_object_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quorumvault.backup.holdings import ManifestName
    from quorumvault.backup.keys import Keys
    from quorumvault.backup.storage import Storage

__all__ = ["Item", "Kind", "Summary", "contents", "summaries"]


class Kind(StrEnum):
    """What an item is."""

    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Item:
    """A file or folder in a backup.

    Attributes:
        path: as `restore(only=…)` takes it; printable, whatever bytes the name has.
        kind: file or folder.
        size: in bytes; 0 for a folder.
        mtime_ns: last change, in nanoseconds since 1970 (UTC).

    """

    path: str
    kind: Kind
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A backup as its manifest describes it.

    Attributes:
        generation: counts up with each backup.
        backup_id: 16 bytes.
        created_s: when it was begun, in seconds since 1970 (UTC).
        files: how many; 0 where it is damaged, like all that follows.
        folders: likewise.
        bytes: of all files together.
        stored_bytes: of its objects in the storage, manifest included.
        damage: what is wrong with its list of files; empty where that is whole.

    """

    generation: int
    backup_id: bytes
    created_s: int
    files: int
    folders: int
    bytes: int
    stored_bytes: int
    damage: str = ""


def summaries(storage: Storage, keys: Keys) -> list[Summary]:
    """All backups of this key, newest first; there is one, but while a new one is made two.

    Raises:
        NoBackup, WrongKey, FutureVersion: there is none to show.
        StorageError: the provider refused or failed.

    """
    found: list[Summary] = []
    for one in find(storage, keys):
        try:
            found.append(_summary(storage, keys, one))
        except Damaged as error:
            found.append(
                Summary(one.generation, one.backup_id, 0, 0, 0, 0, max(one.size, 0), str(error))
            )
        except NotThere:  # removed meanwhile, or an old listing
            continue
    return found


def contents(
    storage: Storage, keys: Keys, *, generation: int | None = None, known_generation: int = 0
) -> Iterator[Item]:
    """The files and folders of the newest backup in the order of their paths, as they are read.

    Each item is authentic when it comes; only the end shows that none is missing.

    Raises:
        NoBackup, WrongKey, FutureVersion, RolledBack: there is none to show.
        Damaged: the list of files is.
        StorageError: the provider refused or failed.

    """
    found = choose(storage, keys, generation=generation, known_generation=known_generation)
    with storage.open(found.name) as source:
        for frame in read_manifest(keys, found.generation, found.backup_id, source):
            if isinstance(frame, File):
                yield Item(shown(frame.path), Kind.FILE, frame.size, frame.mtime_ns)
            elif isinstance(frame, Folder):
                yield Item(shown(frame.path), Kind.FOLDER, 0, frame.mtime_ns)


def _summary(storage: Storage, keys: Keys, found: ManifestName) -> Summary:
    stored_bytes = max(found.size, 0)
    created_s = 0
    end = End(0, 0, 0, 0)
    with storage.open(found.name) as source:
        for frame in read_manifest(keys, found.generation, found.backup_id, source):
            match frame:
                case Head():
                    created_s = frame.created_s
                case Chunk():
                    stored_bytes += chunk_object_bytes(frame.length)
                case End():
                    end = frame
                case _:
                    pass
    return Summary(
        generation=found.generation,
        backup_id=found.backup_id,
        created_s=created_s,
        files=end.files,
        folders=end.folders,
        bytes=end.bytes,
        stored_bytes=stored_bytes,
    )
