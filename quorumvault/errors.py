# ruff: noqa: N818 - the names are those of the design: they read as what happened
"""What can go wrong for someone who uses the vault, one class per thing that they can do about it.

Every error tells whether the guess that it is about was counted (I12): `charged` combines all
sends of the call, "yes" over "unknown" over "no". No message holds a password, a key, a token or
an account name (I11).
"""

from __future__ import annotations

from typing import Final, Literal

Charged = Literal["yes", "no", "unknown"]

_WEIGHT: Final[dict[Charged, int]] = {"no": 0, "unknown": 1, "yes": 2}


def heavier(one: Charged, other: Charged) -> Charged:
    """Combine two sends of the same attempt: yes > unknown > no."""
    return one if _WEIGHT[one] >= _WEIGHT[other] else other


class VaultError(Exception):
    """Anything that the vault or the way to it refused.

    Attributes:
        charged: whether this call counted a guess: "yes", "no" or "unknown".

    """

    def __init__(self, message: str, *, charged: Charged = "no") -> None:
        super().__init__(message)
        self.charged: Charged = charged


class WrongPassword(VaultError):
    """The password did not open the record, at two data centers.

    Attributes:
        remaining: guesses left before the key is destroyed.
        verified: whether the second answer came from four or five agreeing data centers. False
            with only three up: then a faulty node cannot be told from a wrong password.

    """

    def __init__(self, remaining: int, *, verified: bool) -> None:
        guesses = "1 guess remains" if remaining == 1 else f"{remaining} guesses remain"
        super().__init__(
            f"wrong password; {guesses} before the key is destroyed for ever", charged="yes"
        )
        self.remaining = remaining
        self.verified = verified


class Exhausted(VaultError):
    """All guesses are used; the key is destroyed when the grace time is over."""


class Locked(VaultError):
    """The key was destroyed after too many wrong guesses; register a new one."""


class NotRegistered(VaultError):
    """The vault keeps no key for this account."""


class Superseded(VaultError):
    """Something newer overtook this call: another device's proof, or another registration."""


class Conflict(VaultError):
    """The record has moved on since this call began; nothing was changed by it."""


class Unfinished(VaultError):
    """The state file holds an interrupted registration: resume or abandon it first."""


class Denied(VaultError):
    """The token is missing, expired, for another cluster, or lacks the scope."""


class Refused(VaultError):
    """The vault does not understand this client: a malformed call or another cipher suite."""


UnavailableReason = Literal[
    "unreachable", "timeout", "no-quorum", "hsm-unavailable", "ledger-full", "draining", "busy"
]


class Unavailable(VaultError):
    """Nobody could answer in time; the same call may be made again.

    Attributes:
        reason: the most telling cause that was met.
        retry_after: seconds that the vault asked to wait, where it said so.

    """

    def __init__(
        self,
        message: str,
        *,
        reason: UnavailableReason,
        charged: Charged,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, charged=charged)
        self.reason: UnavailableReason = reason
        self.retry_after = retry_after


class RollbackDetected(VaultError):
    """The vault shows an older state than this client has seen: it went back in time."""


class Tampered(VaultError):
    """An answer contradicts what this client computed, pinned or saw elsewhere. Do not rely on it.

    A node, or whoever answers in its place, lies or is broken.
    """


class StateFileError(VaultError):
    """The state file cannot be used: damaged, foreign, from a newer version, or in use."""
