"""What a client of the simulated vault is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.api import NotAppended, Unknown

if TYPE_CHECKING:
    from chaos.history import Phase, Seen
    from cluster.commands import Grant


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client is told; the names are those of `chaos.history.Event`."""

    phase: Phase
    code: str = ""
    registration_id: str = ""
    era: int | None = None
    charged: str = ""
    guesses_remaining: int | None = None
    state: str = ""
    receipt: Seen | None = None
    replayed: bool | None = None
    pending: str | None = None
    wrapped: str = ""
    grant: Grant | None = None
    """What the client learns by opening the answer; no part of the history."""


LOST = Reply("info", "connection-lost", charged="unknown")
UNREACHABLE = Reply("fail", "unreachable", charged="no")
FULL = Reply("fail", "hsm-unavailable", charged="no")


def not_applied(result: NotAppended | Unknown) -> Reply:
    """What a client is told of a command without an outcome."""
    if isinstance(result, NotAppended):
        return Reply("fail", "busy" if result.reason == "busy" else "no-quorum", charged="no")
    return Reply("info", "no-quorum", charged="unknown")


def wrapped_name(sealed: bytes) -> str:
    """Names the wrapped key inside: here the sealed bytes stand for it."""
    return sealed[-16:].hex()
