"""What a device remembers of its backups: a small profile, replaced whole at each step.

The profile says how the key is locked, what was last written, and which piece of work was begun
and not yet ended; whoever is killed in the middle finds it there (`steps` finishes it). It holds
no secret: the key is in the key store, and of a password nothing is ever written (I11). The URL of
the storage may hold credentials, so the file is 0600 like all others here.

The folder: `profile.json`, `vault.json` (the SDK's state file), `lock`, with `FileKeyStore` also
`key.current` and `key.next`. Names that begin with `app-` are left to the app.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from quorumvault import _files
from quorumvault.backup.errors import DeviceStateError, InUse
from quorumvault.backup.work import Mode, Work  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT: Final = 1
MAX_PROFILE_BYTES: Final = 1 << 20
VAULT_FILE: Final = "vault.json"
"""The SDK's state file, in the folder of the profile."""

_FOLDER: Final = 0o700


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
        self.vault_file = folder / VAULT_FILE
        self._profile = folder / "profile.json"

    def load(self) -> Profile:
        """The profile as it is on disk.

        Raises:
            DeviceStateError: damaged, unreadable, from a newer version, or others can write to it.

        """
        self._refuse_others()
        path = self._profile
        try:
            text = _files.read_file(path, MAX_PROFILE_BYTES)
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
            _files.replace_file(self._profile, msgspec.json.encode(profile))
        except OSError as error:
            raise DeviceStateError(
                f"cannot write the profile {self._profile}: {error.strerror}; it is unchanged"
            ) from error

    def _refuse_others(self) -> None:
        """Whoever can write here can put a key of their own in, and read the next backup."""
        try:
            found = self.folder.stat()
        except OSError:
            return  # not there yet; whatever else it is, the next call says
        if found.st_mode & 0o022 or os.geteuid() not in {found.st_uid, 0}:
            raise DeviceStateError(
                f"others may write to the profile's folder {self.folder}: look whether its files"
                f" are yours, then make it yours alone (chmod 700 {self.folder})"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other calls and processes from changing the same profile meanwhile.

        Raises:
            InUse: one is at work.
            DeviceStateError: the folder can't be made or written, or others can write to it.

        """
        try:
            self.folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
            self._refuse_others()
            held = _files.take_lock(self.folder / "lock")
        except BlockingIOError as error:
            raise InUse(
                f"another call is at work with the profile {self.folder}; wait until it is over"
            ) from error
        except OSError as error:
            raise DeviceStateError(
                f"cannot use the profile's folder {self.folder}: {error.strerror}"
            ) from error
        try:
            yield
        finally:
            _files.release_lock(held)
