"""One thread for long reads (building and staging snapshot files) away from the loop.

The real twin of `cluster.ports.Worker`. Jobs run one after the other; a job decides nothing that
the host does not look at again when its result comes back on the loop thread.
"""

from __future__ import annotations

import threading
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

T = TypeVar("T")


class WorkerThread:
    """Runs jobs in order; results come back through `call`, on the loop thread."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        call: Callable[[Callable[[], None]], None],
    ) -> None:
        self._loop = loop
        self._call = call
        self._queue: SimpleQueue[Callable[[], Callable[[], None]] | None] = SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    def run(self, job: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Run `job` on the worker thread, then `done(result or exception)` on the loop thread."""

        def work() -> Callable[[], None]:
            try:
                return partial(done, job())
            except Exception as error:  # noqa: BLE001 - it is the result, for the host to judge
                return partial(done, error)

        self._queue.put(work)

    def stop(self) -> None:
        """Finish the running job and end the thread; blocks; no `done` is called any more."""
        if not self._stopped:
            self._stopped = True
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            if not self._stopped:
                finish = work()
                if not self._stopped:
                    self._loop.call_soon_threadsafe(self._finished, finish)

    def _finished(self, finish: Callable[[], None]) -> None:
        if not self._stopped:
            self._call(finish)
