# ruff: noqa: N818 - the names read as what happened, like those of `quorumvault.errors`
"""What can go wrong with a backup, one class per thing that its owner can do about it.

Every message names the thing and the next step; none holds a password, a key, a digit of a key or
the contents of a file (I11). Whatever is raised, the backup that was whole before still is, and
nothing of the owner's is overwritten.
"""

from __future__ import annotations

__all__ = [
    "AlreadyEnabled",
    "AnotherWriter",
    "BackupError",
    "Cancelled",
    "Damaged",
    "DeviceStateError",
    "FutureVersion",
    "InUse",
    "KeyUnknown",
    "MistypedDigits",
    "NameNotPossible",
    "NoBackup",
    "NoSpace",
    "NotEnabled",
    "NotInBackup",
    "NotThere",
    "RolledBack",
    "SourceChanged",
    "SourceError",
    "SourceRefused",
    "SourceUnreadable",
    "StorageDenied",
    "StorageError",
    "StorageFull",
    "StorageUnreachable",
    "TargetError",
    "TargetExists",
    "TargetRefused",
    "WeakPassword",
    "WrongKey",
]


class BackupError(Exception):
    """Anything that stands between an owner and a whole backup."""


class Cancelled(BackupError):
    """The caller asked to stop; the work can be taken up again with the same call."""


# ---------------------------------------------------------------- what the storage holds


class NoBackup(BackupError):
    """The storage holds no complete backup."""


class NotInBackup(BackupError):
    """The backup holds no file or folder of that name; the message names near ones."""


class WrongKey(BackupError):
    """The storage holds a backup, but of another key."""


class FutureVersion(BackupError):
    """The backup was written by a newer version: update."""


class Damaged(BackupError):
    """A stored object is missing, cut off, changed, exchanged or in the wrong place.

    Attributes:
        objects: the names in the storage of what is damaged, at most 1,000 of them.
        files: the files that can't be restored because of it, as the owner knows them, likewise.

    """

    def __init__(
        self, message: str, *, objects: tuple[str, ...] = (), files: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.objects = objects
        self.files = files


class RolledBack(BackupError):
    """The storage shows an older backup than this device has written: it went back in time."""


class AnotherWriter(BackupError):
    """Another device wrote a backup with this key meanwhile; nothing of it was removed."""


# ---------------------------------------------------------------- the way to the storage


class StorageError(BackupError):
    """The storage provider refused or failed; the message says what it said."""


class StorageUnreachable(StorageError):
    """No answer, or none in time; the same call goes on where this one ended."""


class StorageDenied(StorageError):
    """The provider does not accept the credentials, or they do not allow this."""


class StorageFull(StorageError):
    """The provider has no room left; the backup that was whole before still is."""


class NotThere(StorageError):
    """The object has no bytes in the storage."""


# ---------------------------------------------------------------- files to back up


class SourceError(BackupError):
    """A file or folder to back up can't be; no new backup was made, the old one is whole."""


class SourceUnreadable(SourceError):
    """No permission, not there, or the disk failed."""


class SourceChanged(SourceError):
    """It changed each time it was read."""


class SourceRefused(SourceError):
    """A symlink, a device, a socket, two sources of one name, or a name that can't be kept."""


# ---------------------------------------------------------------- where to restore


class TargetError(BackupError):
    """The files can't be put where they should go; nothing half-restored is left in place."""


class TargetExists(TargetError):
    """Something is there already; it was not touched."""


class TargetRefused(TargetError):
    """No permission, a symlink in the way, or not a folder."""


class NameNotPossible(TargetError):
    """This system can't have a file of that name."""


class NoSpace(TargetError):
    """The disk has no room left."""


# ---------------------------------------------------------------- key and device


class KeyUnknown(BackupError):
    """This device does not hold the backup key: recover it with the password or the digits."""


class NotEnabled(BackupError):
    """Backups are off on this device."""


class AlreadyEnabled(BackupError):
    """Backups are on already."""


class InUse(BackupError):
    """Another call on this device is at work with the same profile."""


class DeviceStateError(BackupError):
    """The profile on this device is damaged, foreign or from a newer version."""


class WeakPassword(BackupError):
    """The password can be guessed.

    Attributes:
        score: zxcvbn's, 0 (worst) to 4.
        advice: what would help, a sentence each.

    """

    def __init__(self, message: str, *, score: int, advice: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.score = score
        self.advice = advice


class MistypedDigits(BackupError):
    """The 64 digits are not as they should be.

    Attributes:
        positions: which of them are wrong, counted from 1, where that is known.

    """

    def __init__(self, message: str, *, positions: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.positions = positions
