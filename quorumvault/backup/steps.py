"""The durable steps of every work on the backup key, and who goes on with them after a kill.

Each piece of work is a few durable steps, and the order is what makes a kill harmless at any
moment (the table is in ADR 14):

1. A new key is in slot `next` before anybody hears of it.
2. The profile names the work before the vault is asked.
3. The profile names the result before slot `current` changes; then the work is done locally.
4. What opened the old backup (vault record, key, folder) goes last, when the new is whole.

`settle` looks at what was begun. It lets the SDK repeat the bytes of an interrupted registration,
asks the vault's free status, and goes forward or back; it never has a password, so it never makes a
guess or a registration of its own (I6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from quorumvault.backup.device import Profile
from quorumvault.backup.errors import AlreadyEnabled, DeviceStateError, KeyUnknown, NotEnabled
from quorumvault.backup.keys import Keys
from quorumvault.backup.work import (
    Changing,
    Disabling,
    Enabling,
    NewKey,
    ToDigits,
    asks_vault,
    folder_of,
    unfinished,
    waits_for_owner,
)
from quorumvault.errors import Conflict, Superseded, Tampered, VaultError

if TYPE_CHECKING:
    from collections.abc import Callable

    from quorumvault._record import RecordStatus
    from quorumvault.backup.device import Device
    from quorumvault.backup.key_store import KeyStore, Slot
    from quorumvault.backup.vault_door import VaultDoor
    from quorumvault.backup.work import Work

_Fate = Literal["deleted", "none", "others"]
"""Of the vault's record, when it is to be deleted: it is, there was none, or it is not ours."""


class Steps:
    """See `keeper.Keeper`, which has the owner's calls; every call is under the profile's lock.

    Args:
        device: the profile.
        store: the key.
        door: the vault.
        forget: empties a folder of the storage and says how many objects went.

    """

    def __init__(
        self, device: Device, store: KeyStore, door: VaultDoor, forget: Callable[[str], int]
    ) -> None:
        self._device = device
        self._store = store
        self._door = door
        self._forget = forget

    # ------------------------------------------------------------ the key

    def key(self, profile: Profile) -> bytes:
        """The current key.

        Raises:
            NotEnabled: backups are off.
            KeyUnknown: the key store has no key, or another profile's.

        """
        if profile.mode == "off":
            hint = f" ({told})" if (told := unfinished(profile.work)) else ""
            raise NotEnabled(f"backups are off on this device{hint}: enable them, or recover a key")
        return self._held("current", profile.key_id)

    def held(self) -> Keys | None:
        """The keys of what slot `current` holds, whether the profile knows it or not."""
        try:
            key = self._store.load("current")
        except DeviceStateError:
            return None  # no key any more
        return None if key is None else Keys.of(key)

    def next_key(self, work: Enabling | NewKey) -> bytes:
        """The key that is on its way.

        Raises:
            KeyUnknown: the key store has lost it.

        """
        return self._held("next", work.key_id)

    def _held(self, slot: Slot, key_id: str | None) -> bytes:
        key = self._store.load(slot)
        if key is None or Keys.of(key).key_id.hex() != key_id:
            what = "no key" if key is None else "the key of another profile"
            raise KeyUnknown(
                f"the key store of this device holds {what}: recover the key with the password or"
                " the digits"
            )
        return key

    # ------------------------------------------------------------ after an interruption

    def settle(self, *, strict: bool = True) -> Profile:
        """Finish what was interrupted, as far as the owner is not needed for it.

        Args:
            strict: raise what the vault says; else let it wait if the current key works anyway.

        Raises:
            VaultError: the vault must be asked first and refused or could not.
            ValueError: it must be asked, and none was given.

        """
        profile = self._device.load()
        work = profile.work
        if work is None:
            self._store.erase("next")  # of a call that was killed before it named its work
            return profile
        if waits_for_owner(work):
            return profile
        may_wait = not strict and profile.mode != "off" and not isinstance(work, Disabling)
        if may_wait and asks_vault(work) and not self._door.given:
            return profile
        try:
            self._go_on(profile, work)
        except VaultError:
            if not may_wait:
                raise
        return self._device.load()

    def _go_on(self, profile: Profile, work: Work) -> None:
        match work:
            case Disabling():
                self._disable(work)
            case ToDigits():
                self._end_record(profile)
            case Enabling() | NewKey() if not asks_vault(work):
                self._complete(profile, work.registered)
            case Enabling() | Changing() | NewKey():
                registration = self._arrived(work.before)
                if registration is None:
                    self._undo(profile)
                else:
                    self._complete(profile, registration)

    def _arrived(self, before: str | None) -> str | None:
        """The registration that was interrupted, if it is active; its last byte was its owner's."""
        vault = self._door.open()
        try:
            done = vault.resume_registration()
        except (Superseded, Conflict):  # another took its place; the SDK has forgotten it
            done = None
        if done is not None:
            return done.registration_id.hex()
        seen = vault.status()
        now = _hex(seen.registration_id)
        return now if seen.mine and now != before else None

    def _replaced(self, work: NewKey) -> bool:
        """Whether the vault has given up the key of before."""
        return _hex(self._door.open().status().registration_id) != work.before

    def abandon(self) -> Profile:
        """Give up what waits for the owner, or what can't be finished.

        Raises:
            VaultError: the vault must be asked first whether it is done already; or it is, and
                that can't be taken back.

        """
        try:
            profile = self.settle()
        except (Tampered, KeyUnknown):
            work = self._device.load().work
            if isinstance(work, NewKey) and work.how == "password" and self._replaced(work):
                raise  # given up, the key that stays would have no lock at all
            if self._door.waits():
                self._door.open().abandon_registration()
            self._undo(self._device.load())
            profile = self._device.load()
        work = profile.work
        if isinstance(work, NewKey) and work.key_id != profile.key_id:
            self._forget(folder_of(work.key_id))
        profile = self._save(profile, work=None)
        self._store.erase("next")
        return profile

    # ------------------------------------------------------------ asking the vault

    def look(self, profile: Profile, *, anew: bool) -> str | None:
        """The registration that is active before ours, which may replace it.

        Args:
            profile: as it is on disk.
            anew: replace whatever the vault keeps, even if it is not ours.

        Raises:
            AlreadyEnabled: the vault keeps a key that is not ours.
            VaultError: see quorumvault.errors.

        """
        if self._door.waits():  # of a profile that is gone: nothing here knows its key
            self._arrived(None)
        seen = self._door.open().status()
        if not anew:
            self._check_owner(profile, seen)
        return _hex(seen.registration_id)

    def register(
        self, profile: Profile, work: Enabling | Changing | NewKey, password: bytes
    ) -> tuple[str, ...]:
        """Lock the key of this work under a password, and end the work; returns the doubts.

        Args:
            profile: as it is on disk.
            work: its `before` is what `look` said.
            password: as the owner typed it, just now.

        Raises:
            VaultError: see quorumvault.errors.
            ValueError: a password of impossible length.

        """
        key = self.key(profile) if isinstance(work, Changing) else self.next_key(work)
        profile = self._save(profile, work=work)
        try:
            done = self._door.open().register(password, key)
        except (VaultError, ValueError):
            if not self._door.waits():  # nothing was sent that the vault keeps
                self._undo(profile)
            raise
        self._complete(profile, done.registration_id.hex())
        return done.doubts

    @staticmethod
    def _check_owner(profile: Profile, seen: RecordStatus) -> None:
        """Never destroy a key in the vault that may be the only one of some backup."""
        if seen.state not in {"active", "exhausted"}:
            return
        if profile.mode != "password":
            raise AlreadyEnabled(
                "the vault keeps a key for this account already, and a new registration would"
                " destroy it: recover it with its password, or say that it is to be replaced"
            )
        if not seen.mine and _hex(seen.registration_id) != profile.registration:
            raise AlreadyEnabled(
                "another device has changed what the vault keeps for this account: recover with"
                " the password that counts now, then call again"
            )

    # ------------------------------------------------------------ the ends

    def _complete(self, profile: Profile, registration: str | None) -> None:
        """The key is locked: put this device right."""
        work = profile.work
        if isinstance(work, Changing):
            self._save(profile, mode="password", registration=registration, work=None)
            return
        if not isinstance(work, Enabling | NewKey):
            raise DeviceStateError("the profile names no work that could be completed")
        if work.registered != registration:
            work = replace(work, registered=registration)
            profile = self._save(profile, work=work)
        # A kill below comes back here with slot `next` as it is, or with nothing left to do.
        self._store.save("current", self.next_key(work))
        changes = {"mode": work.how, "key_id": work.key_id, "registration": registration}
        if isinstance(work, Enabling):
            self._save(profile, **changes, generation=0, last_created_s=None, work=None)
        else:
            self._save(
                profile,
                **changes,
                generation=work.generation,
                last_created_s=work.created_s,
                leftovers=left_behind(profile, to=work.key_id),
                work=None,
            )
        self._store.erase("next")

    def _undo(self, profile: Profile) -> None:
        """Nothing of this registration is or will be active: as before it."""
        work = profile.work
        if isinstance(work, NewKey):  # its backup may be there already
            self._save(profile, work=replace(work, asking=False, before=None))
        else:
            self._save(profile, work=None)
            self._store.erase("next")

    def _end_record(self, profile: Profile) -> _Fate:
        fate = self._delete_record(profile.registration)
        self._save(profile, registration=None, work=None)
        return fate

    def _delete_record(self, registration: str | None) -> _Fate:
        """Delete the record if it is ours."""
        vault = self._door.open()
        if self._door.waits():  # it could come to life after the delete
            try:
                vault.resume_registration()
            except (Superseded, Conflict, Tampered):
                vault.abandon_registration()
        seen = vault.status()
        ours = seen.mine or _hex(seen.registration_id) == registration
        if seen.registration_id is None:
            return "none"
        if not ours:
            return "others"
        vault.delete(only=seen.registration_id)
        return "deleted"

    def _disable(self, work: Disabling) -> tuple[bool, int]:
        """Whether a record was deleted, and how many objects of the storage were removed."""
        deleted = work.vault and self._delete_record(work.registration) == "deleted"
        removed = sum(map(self._forget, work.folders)) if work.delete_copies else 0
        self._store.erase("current")
        self._store.erase("next")
        self._device.save(Profile())
        return deleted, removed

    def sweep(self) -> None:
        """Remove the copies under former keys.

        Raises:
            StorageError: not all are gone; the next backup tries again.

        """
        profile = self._device.load()
        for folder in profile.leftovers:
            if profile.key_id is None or folder != folder_of(profile.key_id):
                self._forget(folder)
        if profile.leftovers:
            self._save(profile, leftovers=())

    def note(self, **changes: object) -> None:
        """Remember something in the profile."""
        self._save(self._device.load(), **changes)

    def note_next(self, work: NewKey, generation: int, created_s: int) -> None:
        """Remember a newer backup under the key that is on its way."""
        self.note(work=replace(work, generation=generation, created_s=created_s))

    def _save(self, profile: Profile, **changes: object) -> Profile:
        changed = replace(profile, **changes)
        self._device.save(changed)
        return changed


def left_behind(profile: Profile, *, to: str) -> tuple[str, ...]:
    """What is to be removed from the storage once the key `to` counts instead of the current."""
    if profile.key_id in {None, to}:
        return profile.leftovers
    return (*profile.leftovers, folder_of(str(profile.key_id)))


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
