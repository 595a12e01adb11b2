"""The wall clock of one node process, moved while it runs; its monotonic clock stays (I10).

libfaketime is loaded into the node and reads an offset from a small file at every look at the
clock. Only offsets are written, never a rate: with a rate libfaketime would stretch the node's
waits too, and a wait belongs to the monotonic clock. A drift is therefore many small steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

LIBRARIES: Final = (
    Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"),
    Path("/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"),
    Path("/usr/lib/faketime/libfaketime.so.1"),
)
SHARED: Final = Path("/dev/shm")  # noqa: S108 - where shm_open(3) keeps it
STEP_S: Final = 0.1
"""A drifting clock is moved so often."""


def library() -> Path | None:
    """Where libfaketime is on this machine."""
    return next((path for path in LIBRARIES if path.exists()), None)


class WallClock:
    """One node's wall clock.

    Args:
        file: where its offset is kept; made here.
        preload: libfaketime.

    """

    def __init__(self, file: Path, preload: Path) -> None:
        self._file = file
        self._preload = preload
        self._moving: asyncio.Task[None] | None = None
        self.offset_s = 0.0
        self._write()

    @property
    def preload(self) -> Path:
        """What the node's LD_PRELOAD needs."""
        return self._preload

    @property
    def environment(self) -> Mapping[str, str]:
        """What the node's environment needs beside LD_PRELOAD."""
        return {
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def jump(self, ms: int) -> None:
        """Move it at once."""
        self.offset_s += ms / 1000
        self._write()

    def drift(self, rate: float) -> None:
        """Let it run at this rate from now on; 1.0 keeps the offset that it has."""
        self._stop_moving()
        if rate != 1.0:
            self._moving = asyncio.create_task(self._drift(rate))

    async def strobe(self, ms: int, times: int, every_ms: int) -> None:
        """There and back so many times; returns when it is over."""
        for number in range(2 * times):
            self.jump(-ms if number % 2 else ms)
            await asyncio.sleep(every_ms / 1000)

    def right(self) -> None:
        """Show the machine's own time again."""
        self._stop_moving()
        self.offset_s = 0.0
        self._write()

    @staticmethod
    def forget(pid: int) -> None:
        """Remove the shared memory that libfaketime leaves behind when its process is killed."""
        for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
            (SHARED / name).unlink(missing_ok=True)

    async def _drift(self, rate: float) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(STEP_S)
            now = time.monotonic()
            self.offset_s += (rate - 1.0) * (now - last)
            last = now
            self._write()

    def _stop_moving(self) -> None:
        if self._moving is not None:
            self._moving.cancel()
            self._moving = None

    def _write(self) -> None:
        # Renamed into place: a reader sees the old offset or the new one.
        temporary = self._file.with_suffix(".new")
        temporary.write_text(f"{self.offset_s:+.3f}\n")
        temporary.replace(self._file)


async def ahead_s(ops: str) -> float | None:
    """How far a node's wall clock is ahead, by the Date of its own answer; None: no answer."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
            session.get(f"http://{ops}/livez") as answer,
        ):
            return parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    return None
