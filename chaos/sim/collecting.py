"""Collecting shares, as `node/evaluation.py` asks and `node/shares.py` answers, over real hosts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from chaos.sim.units import MS
from cluster.api import Give, LaterEra, LedgerFull, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.sim.desk import Desk, Request
    from cluster.api import ShareVerdict
    from cluster.types import AttemptId, Era, NodeId, RecordId, RegistrationId

THRESHOLD = 3
COLLECT_NS = 8_000 * MS
WAIT_NS = 8_000 * MS
HEDGE_NS = 100 * MS


class Collection:
    """Shares for one question: who is asked is asked as `node/evaluation.py` asks."""

    def __init__(
        self,
        desk: Desk,
        request: Request,
        record_id: RecordId,
        attempt: AttemptId,
        era: Era,
        givers: list[tuple[NodeId, int]],
    ) -> None:
        self._desk, self._request = desk, request
        self._record_id, self._attempt, self.era = record_id, attempt, era
        self._own = request.node.id
        self._seats = dict(givers)
        self._peers = [node for node, _ in givers if node != self._own]
        self._early: list[tuple[NodeId, ShareVerdict | None]] = []
        self._open = 0
        self._taken: set[int] = set()
        self._wanted: RegistrationId | None = None
        self._ready: Callable[[str], None] | None = None
        self._full = False

    def begin(self) -> None:
        """The nearest peers now; they wait until they see the charge."""
        self._further(THRESHOLD - (self._own in self._seats))

    def expect(self, registration: RegistrationId, ready: Callable[[str], None]) -> None:
        """The outcome is known: ask ourselves too, use what fits, `ready("")` or a code."""
        self._wanted, self._ready = registration, ready
        if self._own in self._seats:
            self._ask(self._own)
        early, self._early = self._early, []
        for node, verdict in early:
            self._take(node, verdict)
        self._request.node.soon(HEDGE_NS, lambda: self._further(2))
        self._request.node.soon(COLLECT_NS, lambda: self._finish("hsm-unavailable"))
        self._judge()

    def _further(self, count: int) -> int:
        if self._request.over:
            return 0
        asked, self._peers = self._peers[:count], self._peers[count:]
        for node in asked:
            self._ask(node)
        return len(asked)

    def _ask(self, node: NodeId) -> None:
        self._open += 1
        ask = Asked(self._desk, node, self._request, self._record_id, self.era, self._attempt)
        self._desk.post(self._own, node, lambda: ask.look(partial(self._answered, node)))

    def _answered(self, node: NodeId, verdict: ShareVerdict | None) -> None:
        def back() -> None:
            self._open -= 1
            if self._request.over:
                return
            if self._wanted is None:
                self._early.append((node, verdict))
                if not isinstance(verdict, (Give, LaterEra)):
                    self._further(1)
                return
            self._take(node, verdict)
            self._judge()

        self._desk.post(node, self._own, back)

    def _take(self, node: NodeId, verdict: ShareVerdict | None) -> None:
        if self._ready is None:
            return
        if isinstance(verdict, Give):
            if verdict.registration_id == self._wanted and verdict.era == self.era:
                self._taken.add(self._seats[node])
                return
        elif isinstance(verdict, LaterEra) and verdict.era > self.era:
            self._finish("superseded")
            return
        self._full |= isinstance(verdict, LedgerFull)
        self._further(1)

    def _judge(self) -> None:
        if self._ready is None:
            return
        if len(self._taken) >= THRESHOLD:
            self._finish("")
        elif not self._open and not self._further(THRESHOLD - len(self._taken)):
            self._finish("ledger-full" if self._full else "hsm-unavailable")

    def _finish(self, code: str) -> None:
        ready, self._ready = self._ready, None
        if ready is not None and not self._request.over:
            ready(code)


class Asked:
    """A share-giver's side of one ask: it waits for the charge, at most 8 s."""

    def __init__(
        self,
        desk: Desk,
        node: NodeId,
        request: Request,
        record_id: RecordId,
        era: Era,
        attempt: AttemptId,
    ) -> None:
        self._desk, self._node, self._request = desk, desk.world.machines[node], request
        self._record_id, self._era, self._attempt = record_id, era, attempt
        self._until = 0
        self._off: Callable[[], None] | None = None
        self._life = 0

    def look(self, done: Callable[[ShareVerdict | None], None]) -> None:
        """The ask has arrived."""
        self._life = self._node.life
        self._until = self._desk.world.now + WAIT_NS
        if not self._decide(done):
            host = self._node.running
            self._off = host.watch(self._record_id, partial(self._again, done))
            host.want_share(self._record_id)
            self._node.soon(WAIT_NS, partial(self._again, done))

    def _again(self, done: Callable[[ShareVerdict | None], None]) -> None:
        if self._off is None:
            return
        if self._request.over or self._decide(done):
            self._off()
            self._off = None
        else:
            self._node.running.want_share(self._record_id)

    def _decide(self, done: Callable[[ShareVerdict | None], None]) -> bool:
        verdict = self._desk.share(self._node, self._record_id, self._era, self._attempt)
        if isinstance(verdict, Wait):
            if self._desk.world.now < self._until:
                return False
            done(None)
        elif isinstance(verdict, Give):
            self._node.hsm.use(partial(self._made, verdict, done), lambda: not self._request.over)
        else:
            done(verdict)
        return True

    def _made(
        self,
        verdict: Give,
        done: Callable[[ShareVerdict | None], None],
        there: bool,  # noqa: FBT001 - the HSM's callback
    ) -> None:
        if there:
            self._desk.made(self._node, self._attempt, verdict)
        done(verdict if there else None)
