"""Where the backup key is kept on the device: the seam to a phone's Keychain or Keystore.

The key is needed at night, when nobody types a password, so it stays on the device; ADR 14 says
why that gives nothing away. An app plugs in its platform's key store here; `FileKeyStore` stands in
for it on desktops and servers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from quorumvault import _files
from quorumvault.backup.errors import DeviceStateError

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES: Final = 32

Slot: TypeAlias = Literal["current", "next"]
"""`current` opens the backups; `next` is a key on its way to becoming that."""


class KeyStore(Protocol):
    """Two slots of 32 secret bytes.

    `save` replaces whole or not at all and is durable when it returns, `erase` likewise; both are
    called by one thread and one process at a time. The slots must belong to this profile alone,
    must not be copied to another device (on iOS: `…ThisDeviceOnly`), and must be readable while
    the screen is locked if backups run at night (on iOS: `…AfterFirstUnlock…`).
    """

    def load(self, slot: Slot) -> bytes | None:
        """The 32 bytes; None when the slot is empty."""

    def save(self, slot: Slot, key: bytes) -> None:
        """Put 32 bytes into the slot, whatever it held."""

    def erase(self, slot: Slot) -> None:
        """Empty the slot; an empty one stays so."""


class FileKeyStore:
    """Each slot a file of mode 0600: as safe as the data itself, which the same disk holds.

    Args:
        folder: exists, and nobody else may write to it.

    Raises:
        DeviceStateError: of every method: the file can't be used, or is no key.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, slot: Slot) -> bytes | None:
        """See `KeyStore`."""
        path = self._path(slot)
        try:
            key = _files.read_file(path, KEY_BYTES)
        except OSError as error:
            raise DeviceStateError(f"cannot read the key file {path}: {error.strerror}") from error
        if key is not None and len(key) != KEY_BYTES:
            raise DeviceStateError(
                f"the key file {path} is damaged: it has not {KEY_BYTES} bytes; remove it, then"
                " recover the key with the password or the digits"
            )
        return key

    def save(self, slot: Slot, key: bytes) -> None:
        """See `KeyStore`."""
        path = self._path(slot)
        try:
            _files.replace_file(path, _checked(key))
        except OSError as error:
            raise DeviceStateError(f"cannot write the key file {path}: {error.strerror}") from error

    def erase(self, slot: Slot) -> None:
        """See `KeyStore`."""
        path = self._path(slot)
        try:
            _files.remove_file(path)
        except OSError as error:
            raise DeviceStateError(
                f"cannot remove the key file {path}: {error.strerror}"
            ) from error

    def _path(self, slot: Slot) -> Path:
        return self._folder / f"key.{slot}"


class MemoryKeyStore:
    """Slots that end with the program: for tests, and for a restore that leaves nothing behind."""

    def __init__(self) -> None:
        self._slots: dict[Slot, bytes] = {}

    def load(self, slot: Slot) -> bytes | None:
        """See `KeyStore`."""
        return self._slots.get(slot)

    def save(self, slot: Slot, key: bytes) -> None:
        """See `KeyStore`."""
        self._slots[slot] = _checked(key)

    def erase(self, slot: Slot) -> None:
        """See `KeyStore`."""
        self._slots.pop(slot, None)


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a backup key has {KEY_BYTES} bytes")
    return bytes(key)
