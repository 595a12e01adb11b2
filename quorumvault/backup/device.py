"""What a device remembers of its backups: a small profile, replaced whole at each step.

The profile says how the key is locked, what was last written, and which piece of work was begun
and not yet ended; whoever is killed in the middle finds it there (`keeper` finishes it). It holds
no secret: the key is in the key store, and of a password nothing is ever written (I11). The URL of
the storage may hold credentials, so the file is 0600 like all others here.

The folder: `profile.json`, `vault.json` (the SDK's state file), `lock`, with `FileKeyStore` also
`key.current` and `key.next`. Names that begin with `app-` are left to the app.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from quorumvault.backup import durable
from quorumvault.backup.errors import DeviceStateError, InUse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT: Final = 1
MAX_PROFILE_BYTES: Final = 1 << 20

Mode: TypeAlias = Literal["off", "password", "digits"]
How: TypeAlias = Literal["password", "digits"]

_FOLDER: Final = 0o700


class Enabling(Struct, frozen=True, forbid_unknown_fields=True, tag="enabling"):
    """Backups are being turned on with the key in slot `next`.

    Attributes:
        key_id: that key's, in hexadecimal.
        how: by password (the vault has been or will be asked) or by digits (shown, not typed yet).
        before: the registration that was active in the vault before, hexadecimal.
        registered: the one that holds the key now; then only this device has to be put right.

    """

    key_id: str
    how: How
    before: str | None = None
    registered: str | None = None


class Changing(Struct, frozen=True, forbid_unknown_fields=True, tag="changing"):
    """The same key is being registered under a new password, from one or from digits."""

    before: str | None = None


class ToDigits(Struct, frozen=True, forbid_unknown_fields=True, tag="to-digits"):
    """The digits were shown; once they are confirmed, the vault's record is to be deleted."""

    confirmed: bool = False


class NewKey(Struct, frozen=True, forbid_unknown_fields=True, tag="new-key"):
    """A new key is in slot `next`; the current one holds until `next` is locked and has a backup.

    Attributes:
        key_id: the new key's.
        how: as the current one is locked.
        confirmed: the new digits were typed back.
        generation: of the first backup under the new key; 0 while there is none.
        created_s: when that was made.
        asking: the vault has been or will be asked to register it; `before` and `registered` as
            in `Enabling`.

    """

    key_id: str
    how: How
    confirmed: bool = False
    generation: int = 0
    created_s: int | None = None
    asking: bool = False
    before: str | None = None
    registered: str | None = None


class Disabling(Struct, frozen=True, forbid_unknown_fields=True, tag="disabling"):
    """Backups are being turned off; there is no way back from here.

    Attributes:
        delete_copies: whether `folders` of the storage are to be emptied.
        folders: of the keys that this device has.
        vault: the vault may hold a record of ours.
        registration: that record's, as far as it is known.

    """

    delete_copies: bool
    folders: tuple[str, ...]
    vault: bool
    registration: str | None


Work: TypeAlias = Enabling | Changing | ToDigits | NewKey | Disabling


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole profile; a device without one has this default.

    Attributes:
        mode: how the key is locked; off: there is none.
        key_id: which key the key store should hold, hexadecimal; public.
        registration: which of the vault's registrations holds it, hexadecimal.
        storage, storage_options: where the backups are.
        generation: the newest that this device has written or read there.
        last_created_s: when it wrote it (Unix time).
        work: begun and not ended.
        leftovers: folders of former keys that are still to be removed from the storage.

    """

    format: int = FORMAT
    mode: Mode = "off"
    key_id: str | None = None
    registration: str | None = None
    storage: str | None = None
    storage_options: dict[str, object] = {}
    generation: int = 0
    last_created_s: int | None = None
    work: Work | None = None
    leftovers: tuple[str, ...] = ()


class _Version(Struct):
    format: int


class Device:
    """The folder of one profile; made at the first write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vault_file = folder / "vault.json"
        self._profile = folder / "profile.json"

    def load(self) -> Profile:
        """The profile as it is on disk.

        Raises:
            DeviceStateError: damaged, unreadable or from a newer version.

        """
        path = self._profile
        try:
            text = durable.read_file(path, MAX_PROFILE_BYTES)
        except OSError as error:
            raise DeviceStateError(f"cannot read the profile {path}: {error.strerror}") from error
        if text is None:
            return Profile()
        damaged = (
            f"the profile {path} is damaged; move it away, then recover the key with the password"
            " or the digits"
        )
        if len(text) > MAX_PROFILE_BYTES:
            raise DeviceStateError(damaged)
        try:
            version = msgspec.json.decode(text, type=_Version).format
            if version == FORMAT:
                return msgspec.json.decode(text, type=Profile)
        except ValueError:
            version = None  # the decoder's message is left out: it might quote a credential
        if version is None:
            raise DeviceStateError(damaged)
        raise DeviceStateError(
            f"the profile {path} has format {version}, this version knows {FORMAT}: update"
            " quorumvault"
        )

    def save(self, profile: Profile) -> None:
        """Replace it; durable on return.

        Raises:
            DeviceStateError: the disk refused; the profile is as before.

        """
        try:
            durable.replace_file(self._profile, msgspec.json.encode(profile))
        except OSError as error:
            raise DeviceStateError(
                f"cannot write the profile {self._profile}: {error.strerror}; it is unchanged"
            ) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other calls and processes from changing the same profile meanwhile.

        Raises:
            InUse: one is at work.
            DeviceStateError: the folder can't be made or written.

        """
        try:
            self.folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self.folder / "lock", flags, 0o600)
        except OSError as error:
            raise DeviceStateError(
                f"cannot use the profile's folder {self.folder}: {error.strerror}"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise InUse(
                f"another call is at work with the profile {self.folder}; wait until it is over"
            ) from error
        try:
            yield
        finally:
            # Not by close alone: a child that another thread forks meanwhile shares the lock
            # until it execs.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)
