"""Which exit code (design section 8) each error of the SDK ends a command with."""

from __future__ import annotations

from typing import Final

from quorumvault.cli.exits import Exit
from quorumvault.connection import ConnectionFileError
from quorumvault.errors import (
    Conflict,
    Denied,
    Exhausted,
    Locked,
    NotRegistered,
    StateFileError,
    Superseded,
    Unavailable,
    Unfinished,
    VaultError,
    WrongPassword,
)

_EXIT_OF_REASON: Final = {
    "unreachable": Exit.CONNECTION,
    "timeout": Exit.TIMEOUT,
    "no-quorum": Exit.NO_QUORUM,
    "hsm-unavailable": Exit.NO_QUORUM,  # fewer than three can evaluate
}
_EXIT_OF_ERROR: Final[tuple[tuple[type[VaultError], Exit], ...]] = (
    (ConnectionFileError, Exit.USAGE),
    (StateFileError, Exit.CONFLICT),
    (WrongPassword, Exit.DENIED),
    (Exhausted, Exit.DENIED),
    (Locked, Exit.DENIED),
    (Denied, Exit.DENIED),
    (NotRegistered, Exit.NOT_FOUND),
    (Superseded, Exit.CONFLICT),
    (Conflict, Exit.CONFLICT),
    (Unfinished, Exit.CONFLICT),
)


def exit_code(error: VaultError) -> Exit:
    """The exit code of design section 8 for an error of the SDK."""
    if isinstance(error, Unavailable):
        return _EXIT_OF_REASON.get(error.reason, Exit.DEGRADED)
    known = (code for kind, code in _EXIT_OF_ERROR if isinstance(error, kind))
    return next(known, Exit.UNEXPECTED)
