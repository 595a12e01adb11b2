"""The end of older backups, once a newer one is whole and read back.

Two devices may write with one key. Each removes only what it saw before its own manifest was there,
looks for a newer manifest before every few objects, and stops when there is one: what a newer
backup needs is then not taken away. What remains without a lock, which most providers lack: a
device that makes a whole backup while another's one removal of a few objects is under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from quorumvault.backup.errors import AnotherWriter
from quorumvault.backup.holdings import list_manifests, opens
from quorumvault.backup.keys import KeyFolder

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from quorumvault.backup.holdings import ManifestName
    from quorumvault.backup.keys import Keys
    from quorumvault.backup.storage import Storage

__all__ = ["forget_key", "refuse_rival", "remove_older"]

BATCH: Final = 100
"""Objects removed between two looks for a newer manifest."""


def refuse_rival(
    storage: Storage, keys: Keys, own: ManifestName, seen: Collection[ManifestName]
) -> None:
    """Look for a backup that another device wrote since `seen` was listed.

    Args:
        storage: where they are.
        keys: open them: a name alone is none.
        own: ours.
        seen: the manifests of the first look, older or damaged.

    Raises:
        AnotherWriter: there is one.

    """
    for manifest in list_manifests(storage, keys):
        if manifest != own and manifest not in seen and opens(storage, keys, manifest):
            raise AnotherWriter(
                "another device wrote a backup with the same key at the same time"
                f" (number {manifest.generation}); nothing of it was touched."
                " Let one device make backups, and run this again"
            )


def remove_older(
    storage: Storage,
    keys: Keys,
    own: ManifestName,
    *,
    seen: Collection[ManifestName],
    objects: Sequence[str],
) -> int:
    """Remove older manifests, then objects that nothing newer needs; how many there were.

    Args:
        storage: where they are.
        keys: whose backup it is.
        own: the manifest of the backup that is whole now.
        seen: the manifests of the first look, all of which go.
        objects: names that were there before `own`, and that it does not need.

    Raises:
        AnotherWriter: a newer backup of another device came; what is left is for its device.
        StorageError: the provider failed; what is left is for the next backup.

    """
    storage.delete([manifest.name for manifest in seen])
    for start in range(0, len(objects), BATCH):
        refuse_rival(storage, keys, own, seen)
        storage.delete(objects[start : start + BATCH])
    storage.sweep(keys.folder)
    storage.settle()
    return len(seen) + len(objects)


def forget_key(storage: Storage, key_folder: str) -> int:
    """Remove everything that one backup key has in the storage; how many objects there were.

    Manifests go first, so that a rest is never taken for a backup.

    Args:
        storage: where it is.
        key_folder: the key's folder, as `Keys.folder` names it.

    Raises:
        ValueError: this is no key's folder.
        StorageError: the provider failed; the same call goes on.

    """
    if KeyFolder.parse(key_folder) is None:
        raise ValueError(f"{key_folder!r} is not the folder of a backup key")
    removed = 0
    for part in (f"{key_folder}/manifests/", f"{key_folder}/"):
        names = [stored.name for stored in storage.list(part)]
        for start in range(0, len(names), BATCH):
            storage.delete(names[start : start + BATCH])
        removed += len(names)
    storage.sweep(key_folder)
    storage.remove_folder(key_folder)
    storage.settle()
    return removed
