"""Quorumvault for those who use it: client SDK, backup client, command line.

with Vault.from_connection("connection.json", "alice", state_file="alice.json") as vault:
    key = vault.register("correct horse").backup_key
    assert vault.recover("correct horse") == key
"""

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
