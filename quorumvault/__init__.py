"""Quorumvault for those who use it: client SDK, backup client, command line.

with Vault.from_connection("connection.json", "alice", state_file="alice.json") as vault:
    key = vault.register("correct horse").backup_key
    assert vault.recover("correct horse") == key

Each name is imported when it is first used: the command line and the nodes that it starts need few.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from quorumvault._core import Endpoint
    from quorumvault._record import RecordStatus
    from quorumvault._registration import Registered
    from quorumvault.connection import ConnectionFileError
    from quorumvault.errors import (
        Charged,
        Conflict,
        Denied,
        Exhausted,
        Locked,
        NotRegistered,
        Refused,
        RollbackDetected,
        StateFileError,
        Superseded,
        Tampered,
        Unavailable,
        Unfinished,
        VaultError,
        WrongPassword,
    )
    from quorumvault.vault import AsyncVault, Vault

__all__ = [
    "AsyncVault",
    "Charged",
    "Conflict",
    "ConnectionFileError",
    "Denied",
    "Endpoint",
    "Exhausted",
    "Locked",
    "NotRegistered",
    "RecordStatus",
    "Refused",
    "Registered",
    "RollbackDetected",
    "StateFileError",
    "Superseded",
    "Tampered",
    "Unavailable",
    "Unfinished",
    "Vault",
    "VaultError",
    "WrongPassword",
]

_HOMES: Final = {
    "quorumvault._core": ("Endpoint",),
    "quorumvault._record": ("RecordStatus",),
    "quorumvault._registration": ("Registered",),
    "quorumvault.connection": ("ConnectionFileError",),
    "quorumvault.vault": ("AsyncVault", "Vault"),
}
"""Where each public name is from; the others are errors."""


def __getattr__(name: str) -> object:
    """A public name at its first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    homes = (module for module, names in _HOMES.items() if name in names)
    value: object = getattr(import_module(next(homes, "quorumvault.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """What is public, imported or not."""
    return sorted({*globals(), *__all__})
