"""The share witness: one line for each share given or refused here and each evaluation combined.

It stands at the HSM boundary, before the share leaves the node, so that a checker can count what
was really evaluated (I1, I5): an attempt is evaluated when three distinct seats gave shares. A
line is one write(2) to an append-only file: it survives the death of the process. It names only
hashes and ids, no account and no element (I11). Without a file nothing is written.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Kind = Literal["attempt", "registration", "evaluation"]
Result = Literal["given", "refused", "combined"]


class Line(Struct, frozen=True):
    """One line; ids and hashes in lower-case hex, absent ones empty."""

    t_ns: int
    node: int
    seat: int
    kind: Kind
    record_id: str
    registration_id: str
    era: int
    attempt_id: str
    result: Result
    reason: str
    element_sha256: str
    """Of the share given, or of the evaluation combined."""
    seats: tuple[int, ...]
    """Whose shares were combined; the own one for a share."""


class Witness:
    """Appends lines to `path`, or to nothing.

    Raises:
        OSError: the file cannot be opened, or a line cannot be written: then no share is given.

    """

    def __init__(self, path: Path | None, node: int, seat: int) -> None:
        self._node = node
        self._seat = seat
        self._encoder = msgspec.json.Encoder()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = None if path is None else os.open(path, flags, 0o600)

    def write(
        self,
        kind: Kind,
        result: Result,
        *,
        record_id: bytes,
        era: int,
        registration_id: bytes = b"",
        attempt_id: bytes = b"",
        reason: str = "",
        element: bytes = b"",
        seats: Sequence[int] = (),
    ) -> None:
        """Write one line, now."""
        if self._file is None:
            return
        line = Line(
            t_ns=time.time_ns(),
            node=self._node,
            seat=self._seat,
            kind=kind,
            record_id=record_id.hex(),
            registration_id=registration_id.hex(),
            era=era,
            attempt_id=attempt_id.hex(),
            result=result,
            reason=reason,
            element_sha256=hashlib.sha256(element).hexdigest() if element else "",
            seats=tuple(seats) or (self._seat,),
        )
        os.write(self._file, self._encoder.encode(line) + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
