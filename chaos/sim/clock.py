"""One node's monotonic clock: it never goes back, but it may jump forwards, race or crawl (I10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.sim.world import World


class SimClock:
    """The twin of `cluster.ports.Clock`; nanoseconds."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rate = 1.0
        self._ahead = 0
        """Local minus virtual time at `_since`."""
        self._since = 0
        self._true = True

    def monotonic_ns(self) -> int:
        """What this node believes."""
        now = self._world.now
        if self._true:
            return now
        return self._since + self._ahead + int((now - self._since) * self._rate)

    def real_ns(self, local_ns: int) -> int:
        """How long a timer of this node takes in virtual time."""
        return int(local_ns / self._rate)

    def jump(self, ns: int) -> None:
        """Forwards, at once."""
        self._set(self._rate, ns)

    def run(self, rate: float) -> None:
        """From now on so much faster (or slower) than virtual time."""
        self._set(rate, 0)

    def _set(self, rate: float, jump_ns: int) -> None:
        local = self.monotonic_ns() + jump_ns
        self._true = False
        self._rate, self._since = rate, self._world.now
        self._ahead = local - self._since
