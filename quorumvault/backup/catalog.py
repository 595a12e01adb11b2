"""Which backups a storage holds, told from names alone, and which of them counts.

A storage provider can hide a new backup, show an old one again or lay strange objects beside ours.
Names decide nothing but where to look: what a manifest says is believed after it opened. What a
device itself wrote last (`known_generation`) is the only guard against going back in time; a new
device has none, and docs/format.md says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorumvault.backup.errors import FutureVersion, NoBackup, RolledBack, WrongKey
from quorumvault.backup.holdings import ManifestName, list_folders, list_manifests, opens
from quorumvault.backup.keys import FORMAT_VERSION
from quorumvault.backup.manifest import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quorumvault.backup.keys import KeyFolder, Keys
    from quorumvault.backup.storage import Storage

__all__ = ["choose", "find", "newest", "newest_generation", "refuse_later"]


def find(storage: Storage, keys: Keys) -> list[ManifestName]:
    """All backups of this key that the storage lists, newest first, at least one.

    Raises:
        WrongKey: the storage holds backups, none of this key.
        FutureVersion: it holds backups in a format that this version does not know, and none
            of this key that it does.
        NoBackup: it holds none at all.
        StorageError: the provider refused or failed.

    """
    found = list_manifests(storage, keys)
    if not found:
        _explain_absence(storage, keys)
    return found


def newest(storage: Storage, keys: Keys, *, known_generation: int = 0) -> ManifestName:
    """The newest backup of this key; `known_generation` is what this device wrote last.

    Raises:
        RolledBack: the newest that the storage lists is older than `known_generation`.
        BackupError: as `find`.

    """
    return _found(storage, keys, known_generation)[0]


def newest_generation(storage: Storage, keys: Keys, *, known_generation: int = 0) -> int:
    """The generation for a device to remember: of the newest backup that opens, not only by name.

    Whoever lays down a name with a large number must not make the device miss backups for ever.

    Raises:
        RolledBack: the newest that opens is older than `known_generation`.
        BackupError: as `find`.

    """
    for one in _found(storage, keys, known_generation):
        if opens(storage, keys, one):
            if one.generation < known_generation:
                raise _rolled_back(storage, one.generation, known_generation)
            return one.generation
    return known_generation


def choose(
    storage: Storage, keys: Keys, *, generation: int | None = None, known_generation: int = 0
) -> ManifestName:
    """The newest backup, or the one of `generation` where the owner asked for an older one.

    Raises:
        NoBackup: there is none of that generation; the message names those that there are.
        RolledBack: as `newest`; never when `generation` is given.
        BackupError: as `find`.

    """
    if generation is None:
        return newest(storage, keys, known_generation=known_generation)
    found = find(storage, keys)
    for one in found:
        if one.generation == generation:
            return one
    there = ", ".join(str(one.generation) for one in found[:10])
    raise NoBackup(f"{storage.shown} holds no backup {generation}; it holds {there}")


def refuse_later(storage: Storage, folders: Iterable[KeyFolder]) -> None:
    """Before somebody is told that nothing is there: it may be of a later quorumvault.

    Raises:
        FutureVersion: one of the folders is.

    """
    latest = max((folder.version for folder in folders), default=0)
    if latest > FORMAT_VERSION:
        raise FutureVersion(
            f"{storage.shown} holds a backup in format {latest}, this version reads format"
            f" {FORMAT_VERSION}: update quorumvault"
        )


def _found(storage: Storage, keys: Keys, known_generation: int) -> list[ManifestName]:
    """As `find`, or RolledBack if all of it is older than what this device knows."""
    found = find(storage, keys)
    if found[0].generation < known_generation:
        raise _rolled_back(storage, found[0].generation, known_generation)
    return found


def _rolled_back(storage: Storage, shown: int, known: int) -> RolledBack:
    return RolledBack(
        f"{storage.shown} shows backup {shown} as the newest, but this device has written backup"
        f" {known} there: the storage went back in time, or its listing is late. Try again in some"
        " minutes; if it stays, ask the storage provider"
    )


def _explain_absence(storage: Storage, keys: Keys) -> None:
    """Raise the error that tells why nothing was found; strangers' objects mean nothing."""
    folders = list_folders(storage)
    refuse_later(storage, folders)
    other_key = any(
        parse_name(stored.name)
        for folder in folders
        if folder.name != keys.folder
        for stored in storage.list(f"{folder.name}/manifests/")
    )
    if other_key:
        raise WrongKey(
            f"{storage.shown} holds a backup, but of another key: look whether the account,"
            " the digits and the storage belong together. If another device has made a new key,"
            " get that one as on a new phone, with a profile of its own"
        )
    raise NoBackup(
        f"{storage.shown} holds no complete backup: check its address, and that its disk is"
        " connected; `quorumvault backup create` makes a new one"
    )
