"""The small file that lets a client go on after a kill at any moment.

It holds what must be repeated byte for byte (request bodies, KE1 with its OPAQUE client state, a
KE2 that opened) and what must never go back (pins, last receipt). It never holds a password, the
proof key's seed, export_key or the backup key (I11). Whoever reads it can test passwords against
the KE1 of an open attempt, so it is 0600 and the attempt is dropped as soon as it is over.

One file per account of one cluster, replaced whole at each step (`_files`).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final
from uuid import UUID  # noqa: TC003 - msgspec reads the annotations

from msgspec import Struct

from quorumvault._files import release_lock, replace_file, take_lock
from quorumvault._wire import Id, Ke1, Ke2, Octets, Receipt, decode, encode
from quorumvault.errors import Charged, StateFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT: Final = 1
MAX_STATE_BYTES: Final = 65_536


class Pins(Struct, frozen=True, forbid_unknown_fields=True):
    """What was seen once and must never change."""

    cluster_id: UUID | None = None
    opaque_public_key: Id | None = None
    record_id: Id | None = None


class Opened(Struct, frozen=True, forbid_unknown_fields=True):
    """A KE2 that opened and the proof signed for it; this KE1 is never signed for another era."""

    registration_id: Id
    attempt_id: Id
    era: int
    ke2: Ke2
    proof_body: Octets


class OpenAttempt(Struct, frozen=True, forbid_unknown_fields=True):
    """One typed password's attempt, from before its first send until its end."""

    ke1: Ke1
    client_state: Octets
    charged: Charged
    opened: Opened | None = None


class OpenRegistration(Struct, frozen=True, forbid_unknown_fields=True):
    """A finished but not yet confirmed registration: only bytes to send again."""

    registration_id: Id
    content: Id
    put_body: Octets
    activation_body: Octets
    seats: tuple[int, ...]
    verified: bool


class Unconfirmed(Struct, frozen=True, forbid_unknown_fields=True):
    """An active registration that too few seats could confirm; `seats` took part in its start."""

    registration_id: Id
    seats: tuple[int, ...]


class State(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a client remembers between two calls."""

    format: int = FORMAT
    pins: Pins = Pins()
    receipt: Receipt | None = None
    registration: OpenRegistration | None = None
    attempt: OpenAttempt | None = None
    unconfirmed: Unconfirmed | None = None
    registered: Id | None = None
    """The last registration that a call with this file brought to its end."""


class _Version(Struct):
    format: int


class StateFile:
    """Reads and replaces one state file; without a path the state lives in memory only."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._memory = State()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from using the same file while a call runs.

        Raises:
            StateFileError: another call holds it, or the folder cannot be written.

        """
        if self.path is None:
            yield
            return
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = take_lock(lock)
        except BlockingIOError as error:
            raise StateFileError(
                f"the state file {self.path} is in use by another call; wait until it is over"
            ) from error
        except OSError as error:
            raise StateFileError(
                f"cannot lock the state file {self.path}: {error.strerror}; choose another path"
            ) from error
        try:
            yield
        finally:
            release_lock(held)

    def load(self) -> State:
        """The stored state; a fresh one when there is no file.

        Raises:
            StateFileError: damaged, too large, or written by a newer version.

        """
        if self.path is None:
            return self._memory
        try:
            with self.path.open("rb") as file:
                text = file.read(MAX_STATE_BYTES + 1)
        except FileNotFoundError:
            return State()
        except OSError as error:
            raise StateFileError(f"cannot read the state file {self.path}: {error}") from error
        if len(text) > MAX_STATE_BYTES:
            raise StateFileError(f"the state file {self.path} is no state file: it is too large")
        try:
            version = decode(_Version, text).format
            if version == FORMAT:
                return decode(State, text)
        except ValueError as error:
            # The decoder's message is left out: it might quote what it met.
            raise StateFileError(
                f"the state file {self.path} is damaged; move it away to start afresh"
                " (rollback detection then starts anew, too)"
            ) from error
        raise StateFileError(
            f"the state file {self.path} has format {version}, this version knows {FORMAT}:"
            " update quorumvault"
        )

    def save(self, state: State) -> None:
        """Replace the file atomically and durably, mode 0600.

        Raises:
            StateFileError: the disk refused; what was there before is unchanged.

        """
        if self.path is None:
            self._memory = state
            return
        try:
            replace_file(self.path, encode(state))
        except OSError as error:
            raise StateFileError(
                f"cannot write the state file {self.path}: {error.strerror}; nothing was sent"
            ) from error
