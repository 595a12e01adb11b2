"""What clients did to a vault and what they were told, as one history (design section 9).

Every operation is two events: `invoke` before the request leaves, and then `ok` (done), `fail` (it
did not happen and never will) or `info` (nobody can say). A client has one operation open at a
time. Checkers read nothing else of a client; as JSON lines a history outlives its run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from pathlib import Path

Op = Literal["register", "activate", "attempt", "prove", "observe", "delete"]
Phase = Literal["invoke", "ok", "fail", "info"]


class Seen(Struct, frozen=True, omit_defaults=True):
    """The receipt of an answer."""

    cluster_id: str
    shard: int
    index: int
    version: int
    restore_epoch: int


class Event(Struct, frozen=True, omit_defaults=True):
    """One line; what is not known is left out. Ids as the API writes them (base64url)."""

    t_ns: int
    client: int
    node: int
    op: Op
    phase: Phase
    account: str
    registration_id: str = ""
    era: int | None = None
    attempt_id: str = ""
    charged: str = ""
    guesses_remaining: int | None = None
    state: str = ""
    receipt: Seen | None = None
    code: str = ""
    replayed: bool | None = None
    """Of an answered attempt: it had been charged before."""
    pending: str | None = None
    """Of a look: the pending registration, empty when there is none."""
    wrapped: str = ""
    """Names the wrapped key (any hash of it): put by a registration, released by a proof."""
    forged: bool = False
    """Of an invoke: the signature is wrong on purpose, so this must never succeed."""


class History:
    """Events in the order in which they happened here; `t_ns` is monotonic."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, event: Event) -> None:
        """Append."""
        self.events.append(event)

    @staticmethod
    def now_ns() -> int:
        """This machine's monotonic time."""
        return time.monotonic_ns()

    def write(self, path: Path) -> None:
        """Write all events as JSON lines."""
        encoder = msgspec.json.Encoder()
        path.write_bytes(b"".join(encoder.encode(event) + b"\n" for event in self.events))


def read(path: Path) -> list[Event]:
    """Read what `History.write` wrote.

    Raises:
        msgspec.DecodeError: a line that is no event.

    """
    decoder = msgspec.json.Decoder(Event)
    return [decoder.decode(line) for line in path.read_bytes().splitlines()]
