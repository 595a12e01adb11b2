"""The calls about the key: turning backups on and off, the lock, and a new device.

`keeper` does the work; here is what an owner types (passwords are rated, digits compared), and what
the storage has to say about a recovered key.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from quorumvault.backup import catalog
from quorumvault.backup.client_profile import ProfileClient
from quorumvault.backup.digits import compare, locate, read_digits, show_digits
from quorumvault.backup.errors import (
    AlreadyEnabled,
    MistypedDigits,
    NoBackup,
    NotEnabled,
    WrongKey,
)
from quorumvault.backup.holdings import list_folders
from quorumvault.backup.key_store import KEY_BYTES
from quorumvault.backup.keys import FORMAT_VERSION, Keys, key_id_of
from quorumvault.backup.strength import require
from quorumvault.backup.work import Enabling, NewKey, ToDigits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quorumvault.backup.client_profile import Status
    from quorumvault.backup.device import Profile
    from quorumvault.backup.keeper import Disabled, Secured
    from quorumvault.backup.storage import Storage
    from quorumvault.backup.work import Mode

MAX_PASSWORD_BYTES: Final = 4096
"""What the SDK takes."""

_LONE: Final = "the password holds half a character, which has no UTF-8"


class KeyClient(ProfileClient):
    """See `quorumvault.backup.Backup`."""

    # ------------------------------------------------------------ turning on

    def enable_with_password(
        self,
        password: str | bytes,
        *,
        check_strength: bool = True,
        hints: Sequence[str] = (),
        replace: bool = False,
    ) -> Secured:
        """Make a key, and have the vault keep it under the password.

        Interrupted, and called again with whatever password: the one typed last counts.

        Args:
            password: as typed.
            check_strength: refuse a password that is easy to guess; False only for passwords that
                another app has checked.
            hints: words that somebody who knows the owner would try: account, names.
            replace: destroy the key that the vault keeps for the account already. An old backup
                under that key can then never be opened again.

        Raises:
            WeakPassword, AlreadyEnabled, InUse, DeviceStateError: nothing was changed.
            VaultError: see quorumvault.errors; `status().unfinished` says what is left.
            ValueError: the password is longer than 4,096 bytes.

        """
        secret = password_bytes(password, hints, check_strength=check_strength)
        with self._device.locked():
            return self._keeper.enable_password(secret, anew=replace, **self._settings())

    def make_digits(self) -> str:
        """Make a key to be locked by its 64 digits, and return them, to be shown and written down.

        Backups are not on before they are typed back: `enable_with_digits`. If the key is locked by
        digits already, these are of a new key: `new_key`. Called again before that, it returns the
        same digits. The vault is never contacted.

        Raises:
            AlreadyEnabled: the key is locked by a password: `switch_to_digits`.
            InUse, DeviceStateError.

        """
        with self._device.locked():
            return show_digits(self._keeper.make_digits(**self._settings()))

    def enable_with_digits(self, typed: str) -> Secured:
        """Turn backups on with the digits of `make_digits`, as the owner typed them back.

        Raises:
            MistypedDigits: with the places; call again.
            NotEnabled: no digits were made.
            AlreadyEnabled, InUse, DeviceStateError.

        """
        with self._device.locked():
            profile = self._keeper.settle()
            work = profile.work
            if profile.mode != "off":
                raise AlreadyEnabled("backups are on already")
            if not isinstance(work, Enabling):
                raise NotEnabled("no digits were made yet: make and show them first")
            compare_typed(typed, self._keeper.next_key(work))
            return self._keeper.confirm_new_digits(profile)

    # ------------------------------------------------------------ a new device

    def recover_with_password(self, password: str | bytes) -> Status:
        """Get the key back from the vault; then `restore` and `create` work on this device.

        A wrong password costs one of ten guesses; ask `guesses` first, it is free. After an
        Unavailable whose `charged` is not "no", the next call first repeats the same attempt: the
        same password, right or wrong, is not counted twice.
        On a device that has the key, it tests the password.

        Raises:
            WrongPassword: `remaining` says how many guesses are left.
            Exhausted, Locked, NotRegistered: the key is gone, or never was there.
            Unavailable, Superseded, Tampered, RollbackDetected, Denied: see quorumvault.errors.
            WrongKey: the password is right, but the storage holds backups of other keys only.
            AlreadyEnabled: this device locks its key by digits, or holds the key of another backup
                that the storage still has.
            FutureVersion, Damaged, StorageError, InUse, DeviceStateError.

        """
        secret = password_bytes(password, (), check_strength=False)
        with self._device.locked():
            profile = self._keeper.settle()
            if profile.mode == "digits":
                raise AlreadyEnabled("this device locks its key by digits: no password opens it")
            storage = self._open(profile)
            list_folders(storage)  # can it be reached? Before a guess is spent
            vault = self._door.open()
            before = vault.status().registration_id
            key = vault.recover(secret)
            if len(key) != KEY_BYTES:
                raise WrongKey("the vault keeps something else than a backup key for this account")
            registration = None if before is None else before.hex()
            self._adopt(profile, key, "password", registration)
        return self.status()

    def recover_with_digits(self, text: str) -> Status:
        """Take the key from its 64 digits; then `restore` and `create` work on this device.

        The vault is never contacted. A slip of the hand is located: see `digits.locate`.

        Raises:
            MistypedDigits: with the places, where they are known.
            NoBackup: the storage holds no backup at all.
            WrongKey: these are the digits of no backup here, nor nearly.
            AlreadyEnabled: this device locks its key by a password, or holds the key of another
                backup that the storage still has, of a profile that is gone.
            FutureVersion, Damaged, StorageError, InUse, DeviceStateError.

        """
        with self._device.locked():
            profile = self._keeper.settle()
            if profile.mode == "password":
                raise AlreadyEnabled("this device locks its key by a password: switch instead")
            key = self._located(self._open(profile), text)
            self._adopt(profile, key, "digits", None)
        return self.status()

    def _located(self, storage: Storage, text: str) -> bytes:
        """The key, as typed if the storage knows it, else looked for among its neighbours."""
        folders = list_folders(storage)
        known = {folder.key_id for folder in folders if folder.version == FORMAT_VERSION}
        if not known:
            catalog.refuse_later(storage, folders)
            raise NoBackup(f"{storage.shown} holds no backup: check the address of the storage")
        found = locate(text, lambda key: key_id_of(key).hex() in known)
        if isinstance(found, bytes):
            return found
        if not found.positions and _is_whole(text):
            raise WrongKey(
                f"these are not the digits of a backup in {storage.shown}, nor nearly: check them,"
                " and the address of the storage"
            )
        raise found

    def _adopt(self, profile: Profile, key: bytes, mode: Mode, registration: str | None) -> None:
        """Learn the newest generation, and make the key this device's."""
        keys = Keys.of(key)
        self._refuse_to_forget(profile, keys)
        same = profile.key_id == keys.key_id.hex()
        known = self._known(profile) if same else 0
        try:
            generation = catalog.newest_generation(
                self._open(profile), keys, known_generation=known
            )
        except NoBackup:  # enabled, and lost before the first backup
            generation = 0
        self._keeper.adopt(
            key,
            mode,
            registration=registration,
            generation=generation,
            last_created_s=profile.last_created_s if same else None,
            **self._settings(),
        )

    def _refuse_to_forget(self, profile: Profile, keys: Keys) -> None:
        """The key on this device may be the only one of a backup that the storage still has.

        The vault kept it under a password, and another device's has taken its place there. (Of one
        that is locked by digits, its owner has these.)
        """
        if profile.mode == "digits":
            return
        held = self._keeper.held()
        if held is None or held.key_id == keys.key_id:
            return
        if isinstance(profile.work, NewKey) and profile.work.key_id == keys.key_id.hex():
            return  # it takes the place of that one, as its owner wanted
        with contextlib.suppress(NoBackup, WrongKey):
            if catalog.newest_generation(self._open(profile), held):
                raise AlreadyEnabled(
                    f"this device holds the key of another backup in the storage ({held.folder}),"
                    " perhaps the only one: recover with another profile; or disable backups here"
                    " first, if that backup is of no use"
                )

    # ------------------------------------------------------------ another lock

    def change_password(
        self,
        password: str | bytes,
        *,
        check_strength: bool = True,
        hints: Sequence[str] = (),
    ) -> Secured:
        """Have the vault keep the same key under a new password; nothing is uploaded again.

        The old password opens nothing from the moment that the new one does.

        Raises:
            NotEnabled: backups are off, or the key is locked by digits: `switch_to_password`.
            KeyUnknown, WeakPassword, AlreadyEnabled, InUse, DeviceStateError: nothing was changed.
            VaultError: see quorumvault.errors; `status().unfinished` says what is left.

        """
        secret = password_bytes(password, hints, check_strength=check_strength)
        with self._device.locked():
            if self._device.load().mode == "digits":
                raise NotEnabled("the key is locked by digits: switch to a password instead")
            return self._keeper.change_password(secret)

    def switch_to_password(
        self,
        password: str | bytes,
        *,
        check_strength: bool = True,
        hints: Sequence[str] = (),
        replace: bool = False,
    ) -> Secured:
        """Have the vault keep the key, so that a password replaces the 64 digits.

        The digits open the backup as long as its key is the same: `new_key` ends that.

        Raises:
            As `enable_with_password`; AlreadyEnabled also when a password locks it already.

        """
        secret = password_bytes(password, hints, check_strength=check_strength)
        with self._device.locked():
            if self._device.load().mode == "password":
                raise AlreadyEnabled("a password locks the key already: change it instead")
            return self._keeper.change_password(secret, anew=replace)

    def switch_to_digits(self) -> str:
        """The 64 digits of the key, to be shown and written down; see `confirm_digits`.

        Raises:
            NotEnabled, KeyUnknown, AlreadyEnabled, InUse, DeviceStateError.
            VaultError: an interrupted call has to be finished first.

        """
        with self._device.locked():
            return show_digits(self._keeper.to_digits())

    def confirm_digits(self, typed: str) -> Secured:
        """Lock the key by its digits alone, and delete the vault's record.

        Raises:
            MistypedDigits: with the places; call again.
            NotEnabled: the digits were not shown.
            VaultError: the digits count, and the record is deleted by the next call.

        """
        with self._device.locked():
            profile = self._keeper.settle()
            work = profile.work
            if not isinstance(work, ToDigits):
                raise NotEnabled("the digits were not shown: switch to digits first")
            compare_typed(typed, self._keeper.key(profile))
            return self._keeper.confirm_digits(profile)

    # ------------------------------------------------------------ ending

    def disable(self, *, delete_copies: bool) -> Disabled:
        """Turn backups off: the vault's record and this device's key are deleted, for ever.

        Args:
            delete_copies: remove the encrypted copies from the storage, too. Those that stay can
                never be opened again, but by whoever has the 64 digits.

        Raises:
            NotEnabled: they are off.
            VaultError, StorageError: not all is gone yet; call again.
            InUse, DeviceStateError.

        """
        with self._device.locked():
            return self._keeper.disable(delete_copies=delete_copies)


def password_bytes(password: str | bytes, hints: Sequence[str], *, check_strength: bool) -> bytes:
    """The password as bytes; the errors of str.encode are not raised, for they hold it."""
    if isinstance(password, str):
        secret = password.encode("utf-8", "surrogatepass")
        if any("\ud800" <= letter <= "\udfff" for letter in password):
            raise ValueError(_LONE)
    else:
        secret = password
    if not 1 <= len(secret) <= MAX_PASSWORD_BYTES:
        raise ValueError(f"a password has 1-{MAX_PASSWORD_BYTES} bytes")
    if check_strength:
        require(password, hints)
    return secret


def compare_typed(typed: str, key: bytes) -> None:
    """Raise what is mistyped."""
    mistake = compare(typed, key)
    if mistake is not None:
        raise mistake


def _is_whole(text: str) -> bool:
    """64 digits, right or not."""
    try:
        read_digits(text)
    except MistypedDigits:
        return False
    return True
