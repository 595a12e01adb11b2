"""What the storage holds under one backup key, as a listing tells it.

A listing may be late, and its names are the provider's word: a manifest counts only once it opens
under the key, a chunk only once it was read back or was proven by the manifest that names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from quorumvault.backup.errors import Damaged, FutureVersion, NotThere
from quorumvault.backup.keys import FORMAT_VERSION, KeyFolder
from quorumvault.backup.manifest import Chunk, parse_name, read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quorumvault.backup.keys import Keys
    from quorumvault.backup.storage import Storage

__all__ = [
    "Holdings",
    "ManifestName",
    "chunks_of_newest",
    "list_folders",
    "list_manifests",
    "look",
    "opens",
]

_CHUNK: Final = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{62})")


@dataclass(frozen=True, slots=True, order=True)
class ManifestName:
    """A manifest as it is listed; nothing is known yet about what it says. Sorts by generation.

    Attributes:
        generation: counts up with each backup of one key.
        backup_id: 16 random bytes.
        name: the object's, relative to the storage's URL.
        size: bytes of the object, as listed; -1 if not told. Two that differ only in it are one.

    """

    generation: int
    backup_id: bytes
    name: str
    size: int = field(default=-1, compare=False)


@dataclass(slots=True)
class Holdings:
    """The objects of one key's folder.

    Attributes:
        chunks: the size in bytes of each listed chunk object by its chunk_id; -1 if not told.
        manifests: newest first.
        others: names among them that are of neither kind: what a failed write left.

    """

    chunks: dict[bytes, int] = field(default_factory=dict)
    manifests: list[ManifestName] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def look(storage: Storage, keys: Keys) -> Holdings:
    """List the key's folder.

    Raises:
        FutureVersion: the key has a folder of a later format, too.
        StorageError: the provider failed.

    """
    for folder in list_folders(storage):
        if folder.key_id == keys.key_id.hex() and folder.version > FORMAT_VERSION:
            raise FutureVersion(
                f"the storage holds backups of this key in a newer format ({folder.name});"
                " update first"
            )
    found = Holdings()
    chunks, manifests = f"{keys.folder}/chunks/", f"{keys.folder}/manifests/"
    for stored in storage.list(f"{keys.folder}/"):
        if stored.name.startswith(chunks):
            match = _CHUNK.fullmatch(stored.name, len(chunks))
            if match:
                found.chunks[bytes.fromhex(match[2])] = stored.size
            else:
                found.others.append(stored.name)
        elif stored.name.startswith(manifests):
            parsed = parse_name(stored.name)
            if parsed:
                found.manifests.append(ManifestName(*parsed, stored.name, stored.size))
            else:
                found.others.append(stored.name)
    found.manifests.sort(reverse=True)
    return found


def list_folders(storage: Storage) -> list[KeyFolder]:
    """Of all keys that the storage has something of, in any format; strangers' folders are none."""
    parsed = map(KeyFolder.parse, storage.folders(KeyFolder.START))
    return [folder for folder in parsed if folder is not None]


def list_manifests(storage: Storage, keys: Keys) -> list[ManifestName]:
    """The manifests only, newest first."""
    found = []
    for stored in storage.list(f"{keys.folder}/manifests/"):
        parsed = parse_name(stored.name)
        if parsed:
            found.append(ManifestName(*parsed, stored.name, stored.size))
    return sorted(found, reverse=True)


def opens(storage: Storage, keys: Keys, manifest: ManifestName) -> bool:
    """Whether its start opens under the key, so that it is not only a name.

    Raises:
        FutureVersion, StorageError: as the storage has it.

    """
    try:
        with storage.open(manifest.name) as source:
            next(read_manifest(keys, manifest.generation, manifest.backup_id, source))
    except (Damaged, NotThere):
        return False
    return True


def chunks_of_newest(
    storage: Storage, keys: Keys, manifests: Sequence[ManifestName]
) -> dict[bytes, int]:
    """The chunks, with the lengths of their contents, that the newest whole manifest names.

    They were read back before it was written. None if there is no whole manifest.

    Raises:
        FutureVersion, StorageError: as the storage has it.

    """
    for manifest in manifests:
        chunks = {}
        try:
            with storage.open(manifest.name) as source:
                for frame in read_manifest(keys, manifest.generation, manifest.backup_id, source):
                    if isinstance(frame, Chunk):
                        chunks[frame.id] = frame.length
        except (Damaged, NotThere):
            continue
        return chunks
    return {}
