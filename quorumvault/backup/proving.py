"""Objects made durable and read back while others are still on their way.

A disk is slowest when it is asked for everything at the end, so whenever enough was stored, a
thread of its own settles it, and what is settled is read back and opened. What does not come back
here is no finding yet: it is looked at once more when all is stored.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from quorumvault.backup.errors import BackupError
from quorumvault.backup.objects import MAX_CHUNK_OBJECT_BYTES, chunk_object_bytes, open_chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from quorumvault.backup.keys import Keys
    from quorumvault.backup.storage import Storage

__all__ = ["Proving"]

BATCH_BYTES: Final = 50_331_648
"""So much is settled at once."""


class Proving:
    """One thread that settles; what was opened after that is in `proven`.

    Args:
        storage: where the objects are.
        keys: open them.
        run: has a task done by some thread that gives it a buffer of 4 MiB.
        fail: told the error when settling failed; it is not to be tried again, since a disk tells
            only once that it lost something.

    """

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        *,
        run: Callable[[Callable[[bytearray], None]], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._storage = storage
        self._keys = keys
        self._run = run
        self._fail = fail
        self._more = threading.Condition()
        self._stored: list[tuple[bytes, int]] = []
        self._bytes = 0
        self._ended = False
        self._thread = threading.Thread(target=self._settle, name="settle", daemon=True)
        self.proven: set[bytes] = set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stored(self, chunk_id: bytes, length: int) -> None:
        """Take an object that was put, with the length of its content."""
        with self._more:
            self._stored.append((chunk_id, length))
            self._bytes += chunk_object_bytes(length)
            if self._bytes >= BATCH_BYTES:
                self._more.notify()

    def end(self) -> None:
        """Wait until the thread is over; it takes up nothing more."""
        with self._more:
            self._ended = True
            self._more.notify()
        self._thread.join()

    def _settle(self) -> None:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._ended or self._bytes >= BATCH_BYTES)
                if self._ended:
                    return
                batch, self._stored, self._bytes = self._stored, [], 0
            try:
                self._storage.settle()
            except BackupError as error:
                self._fail(error)
                return
            for chunk_id, length in batch:
                self._run(self._task(chunk_id, length))

    def _task(self, chunk_id: bytes, length: int) -> Callable[[bytearray], None]:
        def open_it(into: bytearray) -> None:
            try:
                obj = self._storage.get(self._keys.chunk_name(chunk_id), MAX_CHUNK_OBJECT_BYTES)
                open_chunk(self._keys, chunk_id, length, obj, into=into)
            except BackupError:
                return
            self.proven.add(chunk_id)

        return open_it
