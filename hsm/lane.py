"""The one thread of a process that speaks PKCS#11.

SoftHSM as Python loads it crashes when two threads call it, and one thread is also the fastest;
so every call of every Hsm in the process runs here, in the order posted. Timers run here too: the
health round trip and reopening never meet a request half way.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class Lane:
    """A thread that runs posted functions one after another, some of them later."""

    def __init__(self, name: str) -> None:
        self._wake = threading.Condition(threading.Lock())
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._progress: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def stuck_s(self) -> float:
        """For how long what runs now has made no progress, in seconds; 0 when nothing runs."""
        since = self._progress
        return 0.0 if since is None else time.monotonic() - since

    def progress(self) -> None:
        """What runs now says that it goes on, between two calls of a long batch."""
        self._progress = time.monotonic()

    def post(self, function: Callable[[], None], after_s: float = 0.0) -> None:
        """Run `function` in the lane, `after_s` seconds from now; it must not raise.

        An exception that escapes it ends up in threading.excepthook, and the lane goes on.
        """
        due = time.monotonic() + after_s  # by time for all: steady load must not starve a timer
        with self._wake:
            heapq.heappush(self._due, (due, next(self._order), function))
            self._wake.notify()

    def call(self, function: Callable[[], _T]) -> _T:
        """Run `function` in the lane and wait for its result or exception."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[_T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - handed to the caller
                future.set_exception(error)

        self.post(run)
        return future.result()

    def _run(self) -> None:
        while True:
            function = self._next()
            self.progress()
            try:
                function()
            except Exception as error:  # noqa: BLE001 - outermost loop: reported, not lost
                threading.excepthook(
                    threading.ExceptHookArgs(
                        (type(error), error, error.__traceback__, self._thread)
                    )
                )
            finally:
                self._progress = None

    def _next(self) -> Callable[[], None]:
        with self._wake:
            while True:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._wake.wait(wait)
