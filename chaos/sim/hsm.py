"""One node's HSM as its process uses it: one operation after the other, in the order asked.

The twin of the lane of `hsm/`: stamps, shares and unsealing wait for each other. An operation that
ends while the token is away has failed, whenever it was asked; and the node is told that its HSM is
gone as soon as one fails, or a moment later by the health check. Whoever went away before his turn
costs no time.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from chaos.sim.units import MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.sim.node import SimNode

HEALTH_NS: Final = 300 * MS
"""The health check notices a token that went or came so much later."""


class SimHsm:
    """Of one life of a node."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._waiting: deque[tuple[Callable[[bool], None], bool, Callable[[], bool]]] = deque()
        self._busy = False
        self._to_look = False
        self.healthy = True
        """As the process knows it."""

    def write(self, data: bytes, done: Callable[[bool], None]) -> None:
        """The twin of `cluster.ports.Stamper`: replace the stamp, if the HSM is there then."""
        node = self._node
        node.moment("stamping", data)

        def finish(there: bool) -> None:  # noqa: FBT001 - as the port's callback
            if there:
                node.stamp = data
                node.moment("stamp written", data)
            done(there)
            node.moment("stamped", data)

        self._ask(finish, stamp=True, wanted=lambda: True)

    def use(self, done: Callable[[bool], None], wanted: Callable[[], bool]) -> None:
        """One operation with a key; `done(True)` when it was made, unless nobody wants it then."""
        self._ask(done, stamp=False, wanted=wanted)

    def noticed(self) -> None:
        """The health check looks, in a moment."""
        if not self._to_look:
            self._to_look = True
            self._node.soon(HEALTH_NS, self._check)

    def _check(self) -> None:
        self._to_look = False
        self._look()

    def _look(self) -> None:
        node = self._node
        self.healthy = not node.hsm_away
        node.running.set_hsm(working=self.healthy)
        if not self.healthy:
            self.noticed()

    def _ask(
        self, done: Callable[[bool], None], *, stamp: bool, wanted: Callable[[], bool]
    ) -> None:
        self._waiting.append((done, stamp, wanted))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        while self._waiting:
            done, stamp, wanted = self._waiting.popleft()
            if wanted():
                self._busy = True
                node = self._node
                ms = node.stamp_ms if stamp else node.share_ms
                node.soon(int(ms * MS), partial(self._done, done))
                return

    def _done(self, done: Callable[[bool], None]) -> None:
        self._busy = False
        there = not self._node.hsm_away
        done(there)
        if not there:
            self._look()
        self._next()
