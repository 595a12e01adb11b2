"""A few threads that take jobs from a short queue; the first error stops them all.

The queue is short so that memory stays bounded however fast jobs come: whoever puts one in waits.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

__all__ = ["Crew", "default_workers"]

_WAITING: Final = 2  # jobs that nobody works at yet
Job = TypeVar("Job")


def default_workers() -> int:
    """One thread per processor and two that wait for the storage; 2 to 8."""
    return max(2, min(8, (os.cpu_count() or 1) + 2))


class Crew(Generic[Job]):
    """Does jobs in any order; leave the block to wait for the last, or by an error to drop them.

    Raises:
        BaseException: the first that a job raised, from `put` or at the end of the block.

    """

    def __init__(self, workers: int, work: Callable[[Job], None]) -> None:
        self._work = work
        self._jobs: queue.Queue[Job | None] = queue.Queue(maxsize=_WAITING)
        self._error: BaseException | None = None
        self._failed = threading.Event()
        self._ended = False
        self._threads = [
            threading.Thread(target=self._run, name=f"backup-{number}", daemon=True)
            for number in range(workers)
        ]

    def put(self, job: Job) -> None:
        """Queue a job; waits while the queue is full."""
        if self._failed.is_set():
            self._wait()
            self._tell()
        self._jobs.put(job)

    @property
    def failed(self) -> bool:
        """A job raised an error: the others may end early."""
        return self._failed.is_set()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._failed.set()
        self._wait()
        if error is None:
            self._tell()

    def _wait(self) -> None:
        if not self._ended:
            self._ended = True
            for _ in self._threads:  # one for each, whoever ends first
                self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _tell(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._failed.is_set():
                continue  # drained, so that whoever puts never waits for ever
            try:
                self._work(job)
            except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
                if not self._failed.is_set():
                    self._error = error
                self._failed.set()
