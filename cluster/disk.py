"""The one thread that writes: takes a batch, makes it durable, says so on the loop thread (I4).

A write transaction of LMDB belongs to the thread that began it, and a commit blocks for as long as
the disk takes; so all batches go through this thread, one at a time. A commit that fails leaves
memory ahead of the disk: the process ends at once, with one line, and starts again from what is
durable.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from cluster.fatal import end_process
from cluster.types import check

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from cluster.ports import Batch
    from cluster.store import Store


class DiskThread:
    """The real twin of `cluster.ports.Disk`. Made and used on the loop thread."""

    def __init__(
        self,
        store: Store,
        loop: AbstractEventLoop,
        call: Callable[[Callable[[], None]], None],
        on_commit: Callable[[float, int], None] = lambda _seconds, _writes: None,
    ) -> None:
        """`call` runs a callback of the host; `on_commit` hears seconds and writes of each batch.

        Both on the loop thread.
        """
        self._store = store
        self._loop = loop
        self._call = call
        self._on_commit = on_commit
        self._queue: SimpleQueue[tuple[Batch, Callable[[], None]] | None] = SimpleQueue()
        self._submitted: float | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch, done: Callable[[], None]) -> None:
        """Write and fsync, then `done` on the loop thread. One batch at a time."""
        check(self._submitted is None, "disk: a batch was submitted while one is being written")
        check(not self._stopped, "disk: a batch was submitted after the stop")
        self._submitted = self._loop.time()
        self._queue.put((batch, done))

    def busy_s(self) -> float:
        """Age of the batch that is being written; 0.0 when there is none."""
        return 0.0 if self._submitted is None else self._loop.time() - self._submitted

    def stop(self) -> None:
        """Finish the batch in flight and end the thread; blocks; no `done` is called any more."""
        if not self._stopped:
            self._stopped = True
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            batch, done = work
            began = self._loop.time()
            try:
                self._store.commit(batch)
            except BaseException as error:  # noqa: BLE001 - whatever it was, nothing may go on
                end_process(str(error) or type(error).__name__)
            if not self._stopped:
                seconds = self._loop.time() - began
                self._loop.call_soon_threadsafe(self._finished, done, seconds, len(batch))

    def _finished(self, done: Callable[[], None], seconds: float, writes: int) -> None:
        self._submitted = None
        self._on_commit(seconds, writes)
        if not self._stopped:
            self._store.release()
            self._call(done)
