"""A few threads that take jobs from a short queue; the first error stops them all.

The queue is short so that memory stays bounded however fast jobs come: whoever puts one in waits.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from quorumvault.backup.storage import Storage

__all__ = ["Crew", "default_workers"]

_WAITING: Final = 2  # jobs that nobody works at yet
Job = TypeVar("Job")


def default_workers(storage: Storage) -> int:
    """One thread per processor, and two more that wait for a provider; 2 to 8.

    A folder's disk is busy with one for each processor: more only mean more memory.
    """
    waiting = 0 if storage.folder is not None else 2
    return max(2, min(8, (os.cpu_count() or 1) + waiting))


class Crew(Generic[Job]):
    """Does jobs in any order; leave the block to wait for the last, or by an error to drop them.

    When the block is left, by whatever way, no job is at work any more: Ctrl-C waits for those
    that are. So what jobs use may be closed after it.

    Raises:
        BaseException: the first that a job raised, from `put` or at the end of the block.

    """

    def __init__(self, workers: int, work: Callable[[Job], None]) -> None:
        self._work = work
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._running = 0
        self._failed = False
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, name=f"backup-{number}", daemon=True)
            for number in range(workers)
        ]

    def put(self, job: Job) -> None:
        """Queue a job; waits while enough are queued."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or len(self._jobs) < _WAITING)
            if self._error is not None:
                raise self._error
            self._jobs.append(job)
            self._changed.notify_all()

    def __enter__(self) -> Self:
        try:
            for thread in self._threads:
                with self._changed:
                    self._running += 1
                thread.start()
        except BaseException:
            self._close(failed=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        interrupt: KeyboardInterrupt | None = None
        while True:
            try:
                self._close(failed=error is not None or interrupt is not None)
                with self._changed:
                    # Not by join alone: one that Ctrl-C broke takes the thread for ended.
                    self._changed.wait_for(lambda: not self._running)
                for thread in self._threads:
                    thread.join()
                break
            except KeyboardInterrupt as told:
                interrupt = told
        if error is not None:
            return
        if interrupt is not None:
            raise interrupt
        if self._error is not None:
            raise self._error

    def _close(self, *, failed: bool) -> None:
        """Let the threads end: after the jobs that are queued, or at once."""
        with self._changed:
            self._closed = True
            self._failed = self._failed or failed
            if self._failed:
                self._jobs.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            self._do_jobs()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _do_jobs(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed or self._failed)
                if self._failed or not self._jobs:
                    return
                job = self._jobs.popleft()
                self._changed.notify_all()
            try:
                self._work(job)
            except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
                with self._changed:
                    if not self._failed:
                        self._error = error
                    self._failed = True
                    self._jobs.clear()
                    self._changed.notify_all()
