"""What all calls of `Backup` stand on: profile, key store, vault, storage."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from quorumvault.backup.device import Device
from quorumvault.backup.errors import DeviceStateError
from quorumvault.backup.keeper import Keeper
from quorumvault.backup.key_store import FileKeyStore
from quorumvault.backup.keys import Keys
from quorumvault.backup.removal import forget_key
from quorumvault.backup.storage import Storage
from quorumvault.backup.storage_names import lasting, place
from quorumvault.backup.vault_door import VaultDoor
from quorumvault.backup.work import Enabling, NewKey, flips, folder_of, unfinished

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quorumvault.backup.device import Profile
    from quorumvault.backup.key_store import KeyStore
    from quorumvault.backup.vault_door import VaultMaker
    from quorumvault.backup.work import Mode


@dataclass(frozen=True, slots=True)
class Status:
    """What this device knows of its backups; asking costs nothing and contacts nobody.

    Attributes:
        mode: how the key is locked; off: there is none.
        generation: of the newest backup that this device has written or read; 0: none.
        last_created_s: when it wrote that (Unix time); None: it did not.
        key_present: the key store holds the key; without it, recover.
        unfinished: what was interrupted and what happens next, a sentence; None: nothing was.
        storage: where the backups are, without credentials; None: not known yet.

    """

    mode: Mode
    generation: int
    last_created_s: int | None
    key_present: bool
    unfinished: str | None
    storage: str | None


class ProfileClient:
    """One profile; see `quorumvault.backup.Backup`, which has all the calls."""

    def __init__(
        self,
        storage: str | None,
        device: Path,
        *,
        vault: VaultMaker | None = None,
        key_store: KeyStore | None = None,
        storage_options: Mapping[str, object] | None = None,
    ) -> None:
        self._url = None if storage is None else lasting(storage)
        self._options = None if storage_options is None else dict(storage_options)
        msgspec.json.encode(self._options)  # the profile will have to hold them
        self._device = Device(Path(device))
        self._store = FileKeyStore(self._device.folder) if key_store is None else key_store
        self._door = VaultDoor(vault, self._device.vault_file)
        self._keeper = Keeper(self._device, self._store, self._door, self._forget)
        self._storage: Storage | None = None
        self._opening = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; may be repeated."""
        with self._opening:
            self._door.close()
            if self._storage is not None:
                self._storage.close()
                self._storage = None

    # ------------------------------------------------------------ looking

    def status(self) -> Status:
        """See `Status`.

        Raises:
            DeviceStateError: the profile or the key store can't be read.
            StorageError: the URL can't be a storage.

        """
        profile = self._device.load()
        key = self._store.load("current")
        rightful = {profile.key_id}
        if isinstance(profile.work, Enabling | NewKey) and flips(profile.work):
            rightful.add(profile.work.key_id)
        return Status(
            mode=profile.mode,
            generation=profile.generation,
            last_created_s=profile.last_created_s,
            key_present=key is not None and Keys.of(key).key_id.hex() in rightful,
            unfinished=unfinished(profile.work),
            storage=self._shown(profile),
        )

    def guesses(self) -> int | None:
        """How many wrong passwords the vault still allows: free, and worth asking before each.

        None when there is nothing to guess, with digits, and when no vault was given.

        Raises:
            VaultError: see quorumvault.errors.

        """
        if self._device.load().mode == "digits" or not self._door.given:
            return None
        return self._door.open().status().guesses_remaining

    # ------------------------------------------------------------ ending

    def finish(self) -> Status:
        """Finish what was interrupted, as far as the owner is not needed for it.

        Every other call that changes something does so first; an app may do it when it starts.

        Raises:
            VaultError: the vault must be asked, and could not; call again later.
            StorageError, InUse, DeviceStateError.

        """
        with self._device.locked():
            self._keeper.settle()
            self._keeper.sweep()
        return self.status()

    def abandon(self) -> Status:
        """Give up what waits for the owner: digits not typed back, a new key not locked yet.

        The current key, its lock and its backup stay. What can be finished is finished instead.

        Raises:
            As `finish`.

        """
        with self._device.locked():
            self._keeper.abandon()
        return self.status()

    # ------------------------------------------------------------ helpers

    def _reading(self) -> tuple[Profile, Keys]:
        """The profile and the keys of the current key, for calls that change nothing."""
        profile = self._device.load()
        if flips(profile.work):  # slot `current` is, or is about to be, another
            with self._device.locked():
                profile = self._keeper.settle()
        return profile, Keys.of(self._keeper.key(profile))

    def _open(self, profile: Profile) -> Storage:
        with self._opening:
            if self._storage is None:
                url = self._url or profile.storage
                if url is None:
                    raise ValueError("no storage: make the Backup with its URL")
                options = profile.storage_options if self._options is None else self._options
                self._storage = Storage(url, options)
            return self._storage

    def _expected(self, profile: Profile) -> Storage:
        """The same to write to: where backups of this device are, their folder must be."""
        storage = self._open(profile)
        if self._known(profile):
            storage.expect(folder_of(str(profile.key_id)))
        return storage

    def _shown(self, profile: Profile) -> str | None:
        """The storage for people to read."""
        url = self._url or profile.storage
        options = profile.storage_options if self._options is None else self._options
        return None if url is None else place(url, options).shown

    def _forget(self, folder: str) -> int:
        return forget_key(self._open(self._device.load()), folder)

    def _settings(self) -> dict[str, object]:
        """What the profile shall remember of how this object was made."""
        given = {"storage": self._url, "storage_options": self._options}
        return {name: value for name, value in given.items() if value is not None}

    def _known(self, profile: Profile) -> int:
        """The newest generation known in this storage; another storage begins anew."""
        return profile.generation if self._url in {None, profile.storage} else 0

    def _learn(self, profile: Profile, generation: int) -> None:
        """Remember a newer backup of another device that was read: an older one is refused now."""
        if self._url not in {None, profile.storage}:
            return
        with contextlib.suppress(DeviceStateError):  # what was asked for is done
            if generation > self._device.load().generation:
                self._keeper.note(generation=generation)
