"""Exit codes, the same for every command (design section 8)."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What the exit code tells a script."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2  # also bad configuration
    CONNECTION = 3
    DEGRADED = 4
    NO_QUORUM = 5
    DENIED = 6  # also locked
    NOT_FOUND = 7
    CONFLICT = 8  # also a foreign or doubly used directory or port
    TIMEOUT = 124
    CANCELLED = 130  # Ctrl-C, as shells have it


class Failure(Exception):  # noqa: N818 - it is how a command ends, not a programming error
    """A command ends with one line on stderr and this exit code."""

    def __init__(self, message: str, exit_code: Exit) -> None:
        """`message` names the thing and the next step, in one line."""
        super().__init__(message)
        self.exit_code = exit_code
