"""The one thread that writes: takes a batch, makes it durable, says so on the loop thread (I4).

A write transaction of LMDB belongs to the thread that began it, and a commit blocks for as long as
the disk takes; so all batches go through this thread, one at a time. A commit that fails leaves
memory ahead of the disk: the process ends at once, with one line, and starts again from what is
durable.
"""

from __future__ import annotations

import os
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from cluster.types import check

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from cluster.ports import Batch
    from cluster.store import Store

EXIT_COMMIT_FAILED: Final = 70
"""sysexits.h EX_SOFTWARE: memory and disk no longer agree."""


class DiskThread:
    """The real twin of `cluster.ports.Disk`."""

    def __init__(self, store: Store, loop: AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._queue: SimpleQueue[tuple[Batch, Callable[[], None]] | None] = SimpleQueue()
        self._in_flight = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch, done: Callable[[], None]) -> None:
        """Write and fsync, then `done` on the loop thread. One batch at a time."""
        check(not self._in_flight, "a second batch was submitted while one is being written")
        check(not self._stopped, "a batch was submitted after the disk thread was stopped")
        self._in_flight = True
        self._queue.put((batch, done))

    def stop(self) -> None:
        """Finish the batch in flight and end the thread; its `done` is not called any more."""
        if not self._stopped:
            self._stopped = True
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            batch, done = work
            try:
                self._store.commit(batch)
            except BaseException as error:  # noqa: BLE001 - whatever it was, nothing may go on
                sys.stderr.write(f"quorumvault: fatal: {error!s}\n")
                sys.stderr.flush()
                os._exit(EXIT_COMMIT_FAILED)
            if not self._stopped:
                self._loop.call_soon_threadsafe(self._finished, done)

    def _finished(self, done: Callable[[], None]) -> None:
        self._in_flight = False
        if not self._stopped:
            self._store.release()
            done()
