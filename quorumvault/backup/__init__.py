"""End-to-end encrypted backups: the reference client for app developers (docs/backup-sdk.md).

with Backup("s3://bucket/alice", Path("profile"), vault=open_vault) as backup:
    print(backup.enable_with_password("cobalt ferry underneath nine").warning)
    backup.create(["Messages", "Photos"])

Each name is imported when it is first used: the errors alone need none of the libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from quorumvault.backup.client import Backup
    from quorumvault.backup.client_async import AsyncBackup
    from quorumvault.backup.client_profile import Status
    from quorumvault.backup.create import Check, Made
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
        NotThere,
        RolledBack,
        SourceChanged,
        SourceError,
        SourceRefused,
        SourceUnreadable,
        StorageDenied,
        StorageError,
        StorageFull,
        StorageUnreachable,
        TargetError,
        TargetExists,
        TargetRefused,
        WeakPassword,
        WrongKey,
    )
    from quorumvault.backup.keeper import Disabled, Secured
    from quorumvault.backup.key_store import FileKeyStore, KeyStore, MemoryKeyStore
    from quorumvault.backup.progress import SILENT, Progress
    from quorumvault.backup.restore import Restored
    from quorumvault.backup.show import Item, Summary
    from quorumvault.backup.strength import Strength, rate
    from quorumvault.backup.verify import Verified

__all__ = [
    "SILENT",
    "AlreadyEnabled",
    "AnotherWriter",
    "AsyncBackup",
    "Backup",
    "BackupError",
    "Cancelled",
    "Check",
    "Damaged",
    "DeviceStateError",
    "Disabled",
    "FileKeyStore",
    "FutureVersion",
    "InUse",
    "Item",
    "KeyStore",
    "KeyUnknown",
    "Made",
    "MemoryKeyStore",
    "MistypedDigits",
    "NameNotPossible",
    "NoBackup",
    "NoSpace",
    "NotEnabled",
    "NotInBackup",
    "NotThere",
    "Progress",
    "Restored",
    "RolledBack",
    "Secured",
    "SourceChanged",
    "SourceError",
    "SourceRefused",
    "SourceUnreadable",
    "Status",
    "StorageDenied",
    "StorageError",
    "StorageFull",
    "StorageUnreachable",
    "Strength",
    "Summary",
    "TargetError",
    "TargetExists",
    "TargetRefused",
    "Verified",
    "WeakPassword",
    "WrongKey",
    "rate",
]

_HOMES: Final = {
    "client": ("Backup",),
    "client_async": ("AsyncBackup",),
    "client_profile": ("Status",),
    "create": ("Check", "Made"),
    "keeper": ("Disabled", "Secured"),
    "key_store": ("FileKeyStore", "KeyStore", "MemoryKeyStore"),
    "progress": ("SILENT", "Progress"),
    "restore": ("Restored",),
    "show": ("Item", "Summary"),
    "strength": ("Strength", "rate"),
    "verify": ("Verified",),
}
"""Where each public name is from; the others are errors."""


def __getattr__(name: str) -> object:
    """A public name at its first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    homes = (module for module, names in _HOMES.items() if name in names)
    value: object = getattr(import_module(f"{__name__}.{next(homes, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """What is public, imported or not."""
    return sorted({*globals(), *__all__})
