"""How fast this node's disk and loop have been lately, for whoever asks for its status.

Metrics have the whole story; this is the one number each that an operator wants to see beside it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES: Final = 1_000
"""The last so many batches count; a busy node makes them in some seconds."""
LAG_S: Final = 10.0
"""Stalls older than this are no news."""
TICKS: Final = 256
"""More than the ticks (one each 50 ms) of LAG_S."""


class Timings:
    """Made and used on the loop thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._batches: deque[float] = deque(maxlen=BATCHES)
        self._ticks: deque[tuple[float, float]] = deque(maxlen=TICKS)

    def batch(self, seconds: float) -> None:
        """One batch was written and synced in so many seconds."""
        self._batches.append(seconds)

    def tick_late(self, seconds: float) -> None:
        """A tick came so many seconds late: so long the loop did something else."""
        self._ticks.append((self._clock(), seconds))

    def fsync_p99_ms(self) -> float | None:
        """99 of 100 of the last batches took no longer; None before the first."""
        if not self._batches:
            return None
        ordered = sorted(self._batches)
        return round(ordered[math.ceil(0.99 * len(ordered)) - 1] * 1000, 3)

    def loop_lag_ms(self) -> float:
        """The worst of the last 10 s; 0.0 when no tick was late."""
        since = self._clock() - LAG_S
        worst = max((late for at, late in self._ticks if at >= since), default=0.0)
        return round(max(worst, 0.0) * 1000, 3)
