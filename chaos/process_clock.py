"""The wall clock of one node process, moved while it runs; its monotonic clock stays (I10).

`wall_clock.c` is loaded into the node by LD_PRELOAD and shifts every look at the wall clock by an
offset in a small file that both sides map. Only offsets, no rates: a drift is many small steps, so
that nothing but the wall clock ever changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import struct
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE: Final = Path(__file__).with_name("wall_clock.c")
STEP_S: Final = 0.05
"""A drifting clock is moved so often."""
_OFFSET: Final = struct.Struct("=q")
"""Nanoseconds; keep in step with wall_clock.c."""


class WallClock:
    """One node's wall clock; `close` when done.

    Args:
        library: `wall_clock.c`, compiled.
        file: where its offset is kept; made here.

    """

    def __init__(self, library: Path, file: Path) -> None:
        file.write_bytes(bytes(_OFFSET.size))
        self.library = library
        self._file = file
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), _OFFSET.size)
        self._moving: asyncio.Task[None] | None = None
        self._offset_s = 0.0

    @property
    def environment(self) -> Mapping[str, str]:
        """What the node's environment needs beside LD_PRELOAD."""
        return {"QUORUMVAULT_CLOCK_FILE": str(self._file)}

    def jump(self, ms: int) -> None:
        """Move it at once."""
        self._set(self._offset_s + ms / 1000)

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
        self._set(0.0)

    def close(self) -> None:
        """Let go of the file."""
        self.right()
        self._map.close()

    async def _drift(self, rate: float) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(STEP_S)
            now = time.monotonic()
            self._set(self._offset_s + (rate - 1.0) * (now - last))
            last = now

    def _stop_moving(self) -> None:
        if self._moving is not None:
            self._moving.cancel()
            self._moving = None

    def _set(self, offset_s: float) -> None:
        self._offset_s = offset_s
        _OFFSET.pack_into(self._map, 0, int(offset_s * 1e9))


async def ahead_s(ops: str) -> float | None:
    """How far a node's wall clock is ahead, by the Date of its own answer; None: no answer."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
            session.get(f"http://{ops}/livez") as answer,
        ):
            return parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    return None
