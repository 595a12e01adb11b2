"""Keeps the backup key: makes it, locks it by password or digits, changes the lock, gives it up.

Here is what an owner asks for, the beginning of each piece of work; `steps` goes on with it, now
or after a kill.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from quorumvault.backup.errors import AlreadyEnabled, DeviceStateError, NotEnabled
from quorumvault.backup.key_store import KEY_BYTES
from quorumvault.backup.keys import Keys
from quorumvault.backup.steps import Steps, left_behind
from quorumvault.backup.work import (
    Changing,
    Disabling,
    Enabling,
    NewKey,
    ToDigits,
    folder_of,
    is_in_vault,
    unfinished,
)

if TYPE_CHECKING:
    from quorumvault.backup.device import Profile
    from quorumvault.backup.work import Mode

WARNING: Final[dict[Mode, str]] = {
    "off": "Backups are off: what is on this device only is lost with it.",
    "password": (
        "Whoever loses this device and forgets the password has lost the backup: nobody can open"
        " it then, neither the storage provider nor the vault's operator. Ten wrong guesses"
        " destroy the key for ever."
    ),
    "digits": (
        "Whoever loses this device and the 64 digits has lost the backup: nobody can open it then,"
        " neither the storage provider nor the vault's operator."
    ),
}
"""What the owner has to know, by mode."""


@dataclass(frozen=True, slots=True)
class Secured:
    """How the key is locked now.

    Attributes:
        mode: by password or by digits.
        warning: what the owner loses with the device and the secret; show it.
        doubts: why the vault's registration is not confirmed by three data centers, a sentence
            each; recovering once, on any device, confirms it.
        others: with digits: the vault keeps a key for the account that another device registered,
            perhaps the same one. It was not touched: its password opens what it opened before.

    """

    mode: Mode
    warning: str
    doubts: tuple[str, ...] = ()
    others: bool = False


@dataclass(frozen=True, slots=True)
class Disabled:
    """What is left after turning backups off.

    Attributes:
        record_deleted: the vault's record was deleted. False with digits, and when the vault keeps
            the key of another device by now, which was not touched.
        removed_objects: encrypted objects removed from the storage.
        kept: folders of encrypted copies that remain in the storage; of a key that was locked by
            password nobody can ever open them again, of digits only the digits can.

    """

    record_deleted: bool
    removed_objects: int
    kept: tuple[str, ...]


class Keeper(Steps):
    """All work on the key of one profile; every call is made under the profile's lock."""

    def enable_password(self, password: bytes, *, anew: bool, **settings: object) -> Secured:
        """New key, locked by a password; or another password for one that was just locked."""
        was = self._device.load().work
        profile = self.settle()
        if profile.mode == "password" and isinstance(was, Enabling):
            # An interrupted call came through, with the password typed then: now this one counts.
            return self.change_password(password)
        if profile.mode != "off":
            raise AlreadyEnabled(
                f"backups are on already, locked by {profile.mode}: change or switch the lock, or"
                " disable them first"
            )
        self._check_no_stray_key(profile)
        before = self.look(profile, anew=anew)
        profile = self._save(profile, **settings, work=None)
        work = Enabling(self._make_next(), "password", before=before)
        doubts = self.register(profile, work, password)
        return Secured("password", WARNING["password"], doubts)

    def make_digits(self, **settings: object) -> bytes:
        """A new key to be shown as digits: the first, or one after the current one."""
        profile = self.settle()
        if profile.mode == "password":
            raise AlreadyEnabled("backups are on, locked by password: switch to digits instead")
        work = profile.work
        if isinstance(work, Enabling | NewKey) and self._has_next(work):
            return self.next_key(work)  # shown before; whoever wrote them down has the right ones
        profile = self._without_lost_key(profile)
        if profile.mode == "off":
            self._check_no_stray_key(profile)
            profile = self._save(profile, **settings)
            work = Enabling(self._make_next(), "digits")
        else:
            work = NewKey(self._make_next(), "digits")
        self._save(profile, work=work)
        return self.next_key(work)

    def confirm_new_digits(self, profile: Profile) -> Secured:
        """The digits of the first key were typed back."""
        self._complete(profile, None)
        return Secured("digits", WARNING["digits"])

    def change_password(self, password: bytes, *, anew: bool = False) -> Secured:
        """The same key under another password; from digits, too."""
        profile = self.settle()
        if not isinstance(profile.work, ToDigits | None):
            raise AlreadyEnabled(f"{unfinished(profile.work)}; finish or abandon that first")
        self.key(profile)
        work = Changing(self.look(profile, anew=anew))
        doubts = self.register(profile, work, password)
        return Secured("password", WARNING["password"], doubts)

    def to_digits(self) -> bytes:
        """The current key, to be shown as digits."""
        profile = self.settle()
        if profile.mode == "digits":
            raise AlreadyEnabled("the key is locked by digits already")
        if not isinstance(profile.work, ToDigits | None):
            raise AlreadyEnabled(f"{unfinished(profile.work)}; finish or abandon that first")
        key = self.key(profile)
        self._save(profile, work=ToDigits())
        return key

    def confirm_digits(self, profile: Profile) -> Secured:
        """The digits of the current key were typed back: the vault's record goes."""
        profile = self._save(profile, mode="digits", work=ToDigits(confirmed=True))
        fate = self._end_record(profile)
        return Secured("digits", WARNING["digits"], others=fate == "others")

    def begin_new_key(self, profile: Profile) -> NewKey:
        """The work that is under way, or a new one."""
        work = profile.work
        if isinstance(work, NewKey) and self._has_next(work):
            return work
        profile = self._without_lost_key(profile)
        if profile.mode == "off":
            raise NotEnabled("backups are off on this device: enable them first")
        if profile.mode == "digits":
            raise NotEnabled("make the new digits first, and show them")
        work = NewKey(self._make_next(), "password")
        self._save(profile, work=work)
        return work

    def confirm_next_digits(self, work: NewKey) -> None:
        """The new digits were typed back."""
        self.note(work=replace(work, confirmed=True))

    def lock_new_key(
        self, password: bytes | None, generation: int, created_s: int
    ) -> tuple[str, ...]:
        """There is a whole backup under the new key: from its lock on it counts."""
        profile = self._device.load()
        if not isinstance(profile.work, NewKey):
            raise DeviceStateError("the profile has forgotten the new key; call again")
        work = replace(profile.work, generation=generation, created_s=created_s)
        profile = self._save(profile, work=work)
        if password is not None:
            work = replace(work, asking=True, before=self.look(profile, anew=False))
            return self.register(profile, work, password)
        self._complete(profile, None)
        return ()

    def disable(self, *, delete_copies: bool) -> Disabled:
        """Give the key up; see `Disabling`."""
        profile = self._device.load()
        work = profile.work
        if isinstance(work, Disabling):
            work = replace(work, delete_copies=delete_copies)
        elif profile.mode == "off" and work is None:
            raise NotEnabled("backups are off on this device already")
        else:
            ids = (profile.key_id, work.key_id if isinstance(work, Enabling | NewKey) else None)
            folders = (*profile.leftovers, *(folder_of(each) for each in ids if each is not None))
            asked = profile.mode == "password" or is_in_vault(work)
            work = Disabling(delete_copies, folders, asked, profile.registration)
        self._save(profile, work=work)
        deleted, removed = self._disable(work)
        return Disabled(deleted, removed, () if delete_copies else work.folders)

    def adopt(
        self, key: bytes, mode: Mode, *, registration: str | None, **settings: object
    ) -> Profile:
        """A recovered key becomes the current one."""
        profile = self._device.load()
        # The key first: a kill in between costs another recovery, a profile alone would say more
        # than it knows.
        self._store.save("current", key)
        key_id = Keys.of(key).key_id.hex()
        work = profile.work
        kept = work if isinstance(work, NewKey) and work.key_id != key_id else None
        came = isinstance(work, NewKey) and kept is None  # it is the new key that came back
        left = left_behind(profile, to=key_id) if came else profile.leftovers
        profile = self._save(
            profile,
            **settings,
            mode=mode,
            key_id=key_id,
            registration=registration,
            work=kept,
            leftovers=tuple(each for each in left if each != folder_of(key_id)),
        )
        if kept is None:
            self._store.erase("next")
        return profile

    # ------------------------------------------------------------ helpers

    def _make_next(self) -> str:
        """A fresh key in slot `next`; its id."""
        key = os.urandom(KEY_BYTES)
        self._store.save("next", key)
        return Keys.of(key).key_id.hex()

    def _has_next(self, work: Enabling | NewKey) -> bool:
        key = self._store.load("next")
        return key is not None and Keys.of(key).key_id.hex() == work.key_id

    def _without_lost_key(self, profile: Profile) -> Profile:
        """Forget a key that the key store has lost on its way; what it wrote is to be removed."""
        work = profile.work
        if not isinstance(work, Enabling | NewKey):
            return profile
        left = profile.leftovers
        if isinstance(work, NewKey) and work.key_id != profile.key_id:
            left = (*left, folder_of(work.key_id))
        return self._save(profile, work=None, leftovers=left)

    def _check_no_stray_key(self, profile: Profile) -> None:
        """A key without a profile may be the only one of some backup."""
        if profile.work is None and self._store.load("current") is not None:
            raise DeviceStateError(
                "the key store holds a key, but its profile is gone: recover with the password or"
                " the digits, or empty the key store first"
            )
