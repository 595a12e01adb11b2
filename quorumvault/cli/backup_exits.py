"""Which exit code each error of a backup ends a command with, and what JSON tells of it.

Ordered: the first class that fits decides, so a subclass stands before what it is a kind of.
"""

from __future__ import annotations

from typing import Final

from quorumvault.backup.errors import (
    AlreadyEnabled,
    AnotherWriter,
    BackupError,
    Cancelled,
    Damaged,
    DeviceStateError,
    FutureVersion,
    InUse,
    KeyUnknown,
    MistypedDigits,
    NameNotPossible,
    NoBackup,
    NoSpace,
    NotEnabled,
    NotInBackup,
    RolledBack,
    SourceChanged,
    SourceRefused,
    SourceUnreadable,
    StorageDenied,
    StorageError,
    StorageFull,
    TargetExists,
    TargetRefused,
    WeakPassword,
    WrongKey,
)
from quorumvault.cli.exits import Exit, Failure
from quorumvault.errors import Exhausted, Locked, Unavailable, VaultError, WrongPassword

_EXIT_OF_ERROR: Final[tuple[tuple[type[BackupError], Exit], ...]] = (
    (WrongKey, Exit.DENIED),
    (NoBackup, Exit.NOT_FOUND),
    (Damaged, Exit.DEGRADED),
    (FutureVersion, Exit.CONFLICT),
    (RolledBack, Exit.CONFLICT),
    (AnotherWriter, Exit.CONFLICT),
    (StorageDenied, Exit.DENIED),
    (StorageFull, Exit.DEGRADED),
    (StorageError, Exit.CONNECTION),
    (SourceUnreadable, Exit.DENIED),
    (SourceChanged, Exit.DEGRADED),
    (SourceRefused, Exit.USAGE),
    (TargetExists, Exit.CONFLICT),
    (TargetRefused, Exit.DENIED),
    (NameNotPossible, Exit.DEGRADED),
    (NoSpace, Exit.DEGRADED),
    (KeyUnknown, Exit.NOT_FOUND),
    (NotEnabled, Exit.NOT_FOUND),
    (NotInBackup, Exit.NOT_FOUND),
    (AlreadyEnabled, Exit.CONFLICT),
    (InUse, Exit.CONFLICT),
    (DeviceStateError, Exit.CONFLICT),
    (WeakPassword, Exit.USAGE),
    (MistypedDigits, Exit.USAGE),
    (Cancelled, Exit.CANCELLED),
)


GONE: Final = (
    "all guesses are used, and the vault destroys the key for ever: whoever has no device that"
    " still knows it has lost the backup. On one that does, `quorumvault backup change-password`"
    " locks the key anew; without one, `quorumvault backup enable` begins anew"
)
"""After the last wrong guess."""


class Told(Failure):
    """A failure whose JSON is on stdout already."""


def exit_code(error: BackupError | VaultError) -> Exit:
    """How a command ends that met `error`."""
    if isinstance(error, VaultError):
        from quorumvault.cli import vault_exits  # noqa: PLC0415 - its errors bring half the SDK

        return vault_exits.exit_code(error)
    known = (code for kind, code in _EXIT_OF_ERROR if isinstance(error, kind))
    return next(known, Exit.UNEXPECTED)


def message(error: BackupError | VaultError) -> str:
    """What the owner of a backup is told of it, in one line."""
    if isinstance(error, WrongPassword) and not error.remaining:
        return f"wrong password; {GONE}"
    if isinstance(error, Exhausted | Locked):
        return GONE
    text = one_line(str(error))
    if isinstance(error, Unavailable) and error.charged == "unknown":
        text += (
            " Whether this guess was counted is not known: typing the same password again repeats"
            " the same attempt, free of a new charge."
        )
    return text


def facts(error: BaseException) -> dict[str, object]:
    """The error as JSON: its class, its message, and what else it knows."""
    told: dict[str, object] = {"error": type(error).__name__, "message": one_line(str(error))}
    if isinstance(error, VaultError):
        told["charged"] = error.charged
    if isinstance(error, WrongPassword):
        told |= {"guesses_remaining": error.remaining, "verified": error.verified}
    if isinstance(error, Unavailable):
        told |= {"reason": error.reason, "retry_after": error.retry_after}
    if isinstance(error, Damaged):
        told |= {"objects": list(error.objects), "files": list(error.files)}
    if isinstance(error, WeakPassword):
        told |= {"score": error.score, "advice": list(error.advice)}
    if isinstance(error, MistypedDigits):
        told["positions"] = list(error.positions)
    return told


def one_line(text: str) -> str:
    """A message or file name as a terminal may show it: one line, no control characters."""
    flat = " ".join(text.split("\n"))
    return "".join(letter if letter.isprintable() else "?" for letter in flat)
