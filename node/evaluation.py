"""Collecting shares and combining them: the caller's side of an evaluation (keeps I1, I5, I9).

The two nearest peers are asked first, ourselves when our own state has the charge, a third and
fourth peer after a short hedge or at once when somebody declines. Shares are used only when they
name exactly the registration and era that our own outcome named, and are combined by distinct
seats. With `thorough`, everybody is asked: four or five shares must lie on one polynomial.

`Collection` is driven by callbacks on the loop; what to do with the shares is decided by the pure
functions at the end. Nothing here charges, and nothing here can make a peer give a share.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from engines._engines import (
    element_is_valid,
    threshold_combine,
    threshold_consistent,
    threshold_liars,
)
from node.problems import Charged, Code, Problem
from node.share_messages import Answer, Ask, Declined, Reason, Share

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cluster.api import Giver
    from cluster.types import NodeId
    from node.exchange import Exchange
    from node.metrics import Metrics

COLLECT_S: Final = 8.0
"""How long shares may take once the charge is applied here: as long as a peer waits for it."""
MIN_HEDGE_S: Final = 0.05
MAX_HEDGE_S: Final = 1.0
HEDGE_FACTOR: Final = 3.0
"""Hedge at three times the usual: rarely under even load, soon when a peer hangs."""
SMOOTHING: Final = 0.1
PATIENCE_S: Final = 1.0
"""How long a thorough collection waits for a fourth and fifth share once it has enough."""


class Hedge:
    """Learns how long peers usually take, so that load alone does not multiply the work."""

    def __init__(self) -> None:
        self._usual_s = MIN_HEDGE_S / HEDGE_FACTOR

    @property
    def after_s(self) -> float:
        """When to ask further peers."""
        return min(MAX_HEDGE_S, max(MIN_HEDGE_S, HEDGE_FACTOR * self._usual_s))

    def learn(self, took_s: float) -> None:
        """A share came that long after it could have been given."""
        self._usual_s += SMOOTHING * (max(0.0, took_s) - self._usual_s)


class SupersededError(Exception):
    """A peer's record is beyond the era of our own outcome."""


class TooFewError(Exception):
    """Fewer shares than the threshold; `ledger_full` when a full ledger was among the reasons."""

    def __init__(self, *, ledger_full: bool) -> None:
        super().__init__("too few shares")
        self.ledger_full = ledger_full


class Collection:
    """Shares for one question, from as many nodes as needed.

    Args:
        exchange: carries asks.
        givers: share-givers, nearest first, one per seat; may include ourselves.
        own: our node id; we are asked by `expect`, never before.
        make: builds the ask for a number.
        threshold: shares needed.
        thorough: ask everybody and wait a little for a fourth and fifth share.
        hedge: when to ask further peers.
        metrics: counts hedges.

    Use: `begin`, then `expect` once it is known which shares count, `await shares()`, and always
    `close`.

    """

    def __init__(
        self,
        exchange: Exchange,
        givers: Sequence[Giver],
        own: NodeId,
        make: Callable[[int], Ask],
        *,
        threshold: int,
        thorough: bool,
        hedge: Hedge,
        metrics: Metrics,
    ) -> None:
        self._exchange = exchange
        self._own = own
        self._make = make
        self._threshold = threshold
        self._thorough = thorough
        self._hedge = hedge
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._seat_of = {giver.node_id: int(giver.seat) for giver in givers}
        self._peers = [giver.node_id for giver in givers if giver.node_id != own]
        self._open: dict[NodeId, tuple[int, float]] = {}
        self._answers: list[tuple[NodeId, Answer]] = []
        self._counts: Callable[[int, Share], bool] | None = None
        self._era = 0
        self._expected_at = 0.0
        self._taken: dict[int, bytes] = {}
        self._ledger_full = False
        self._timers: list[asyncio.TimerHandle] = []
        self._result: asyncio.Future[dict[int, bytes]] = self._loop.create_future()
        self._closed = False

    def begin(self) -> None:
        """Ask the nearest peers now; they wait until they see the charge."""
        others = self._threshold - (self._own in self._seat_of)
        self._ask_further(len(self._peers) if self._thorough else others)

    def expect(self, era: int, counts: Callable[[int, Share], bool]) -> None:
        """From now on: ask ourselves too, and use the shares of which `counts(seat, share)`.

        `era` is the outcome's; a peer in a later one supersedes it.
        """
        self._counts = counts
        self._era = era
        self._expected_at = self._loop.time()
        if self._own in self._seat_of:
            self._ask(self._own)
        earlier, self._answers = self._answers, []
        for node, answer in earlier:
            self._take(node, answer)
        if not self._result.done():
            self._timers.append(self._loop.call_later(self._hedge.after_s, self._hedged))
            self._timers.append(self._loop.call_later(COLLECT_S, self._too_late))
            self._judge()

    async def shares(self) -> dict[int, bytes]:
        """At least the threshold of shares by seat.

        Raises:
            SupersededError: a peer is in a later era than the outcome.
            TooFewError: nobody is left to ask, or the time is over.

        """
        return await self._result

    def close(self) -> None:
        """Cancel whatever is still asked."""
        self._closed = True
        for timer in self._timers:
            timer.cancel()
        for number, _ in self._open.values():
            self._exchange.cancel(number)
        self._open.clear()
        if not self._result.done():
            self._result.cancel()
        elif not self._result.cancelled():
            self._result.exception()  # seen, even if nobody came to await it

    def _ask(self, node: NodeId) -> None:
        number = self._exchange.ask(node, self._make, self._answered)
        self._open[node] = (number, self._loop.time())

    def _ask_further(self, count: int) -> int:
        asked, self._peers = self._peers[:count], self._peers[count:]
        for node in asked:
            self._ask(node)
        return len(asked)

    def _answered(self, node: NodeId, answer: Answer) -> None:
        if self._closed:
            return
        _, asked_at = self._open.pop(node)
        if self._counts is None:
            self._answers.append((node, answer))
            if isinstance(answer, Declined) and answer.reason is not Reason.LATER_ERA:
                self._ask_further(1)
            return
        if not isinstance(answer, Declined) and node != self._own:
            self._hedge.learn(self._loop.time() - max(asked_at, self._expected_at))
        self._take(node, answer)
        self._judge()

    def _take(self, node: NodeId, answer: Answer) -> None:
        """Use an answer, or ask the next peer."""
        if self._result.done() or self._counts is None:
            return
        if isinstance(answer, Declined):
            if answer.reason is Reason.LATER_ERA and answer.era > self._era:
                self._result.set_exception(SupersededError())
                return
            self._ledger_full |= answer.reason is Reason.LEDGER_FULL
        else:
            seat = self._seat_of[node]
            if element_is_valid(answer.element) and self._counts(seat, answer):
                self._taken[seat] = answer.element
                return
        self._ask_further(1)

    def _judge(self) -> None:
        """Finish when there is enough, or nothing more can come."""
        if self._result.done():
            return
        enough = len(self._taken) >= self._threshold
        if not self._open:
            if not enough and self._ask_further(self._threshold - len(self._taken)):
                return
            self._finish()
        elif enough and not self._thorough:
            self._finish()
        elif enough and len(self._taken) == self._threshold:
            self._timers.append(self._loop.call_later(PATIENCE_S, self._finish))

    def _finish(self) -> None:
        if self._result.done():
            return
        if len(self._taken) >= self._threshold:
            self._result.set_result(self._taken)
        else:
            self._result.set_exception(TooFewError(ledger_full=self._ledger_full))

    def _hedged(self) -> None:
        if not self._result.done() and self._ask_further(2):
            self._metrics.hedges.inc()

    def _too_late(self) -> None:
        self._finish()


@dataclass(frozen=True, slots=True)
class Settled:
    """What the shares evaluate to."""

    evaluation: bytes
    verified: bool
    """Four or more distinct seats agree."""
    seats: tuple[int, ...]
    """Whose shares were combined."""
    liars: tuple[int, ...]
    """Seats whose share lies outside the one consistent set."""


def settle(threshold: int, shares: Mapping[int, bytes], *, thorough: bool) -> Settled | None:
    """Combine shares by seat; None when they disagree and nobody can be named (fail closed).

    Any `threshold` points fit one polynomial, so only more of them can show a lie; four of five
    must agree to name the fifth.
    """
    points = sorted(shares.items())
    first = points[:threshold]
    try:
        if not thorough or len(points) == threshold:
            return Settled(threshold_combine(first), False, tuple(seat for seat, _ in first), ())
        if threshold_consistent(threshold, points):
            return Settled(threshold_combine(first), True, tuple(seat for seat, _ in points), ())
        evaluation, liars = threshold_liars(threshold, points)
    except ValueError:  # they combine to the identity: at least one of them is a lie
        return None
    if evaluation is None:
        return None
    honest = tuple(seat for seat, _ in points if seat not in liars)
    return Settled(evaluation, True, honest, tuple(liars))


def distinct_seats(givers: Sequence[Giver]) -> list[Giver]:
    """The nearest share-giver of each seat, nearest first."""
    found: dict[int, Giver] = {}
    for giver in sorted(givers, key=lambda each: each.rtt_ms):
        found.setdefault(int(giver.seat), giver)
    return list(found.values())


def too_few(
    error: TooFewError, *, charged: Charged, guesses_remaining: int | None = None
) -> Problem:
    """The 503 for a collection that found too few shares."""
    code = Code.LEDGER_FULL if error.ledger_full else Code.HSM_UNAVAILABLE
    return Problem(
        code,
        "fewer seats than needed gave their share in time; ask again, the same attempt is not "
        "counted twice",
        charged=charged,
        guesses_remaining=guesses_remaining,
    )


def disagreement(*, charged: Charged, guesses_remaining: int | None = None) -> Problem:
    """The 503 for shares that contradict each other."""
    return Problem(
        Code.HSM_UNAVAILABLE,
        "the shares of the seats disagree and it takes five to name the wrong one; ask again when "
        "all data centers are up",
        charged=charged,
        guesses_remaining=guesses_remaining,
    )
