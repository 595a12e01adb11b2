"""What has happened at this node lately: a ring of short lines for operators and the console.

`tell` is the one place that turns a transition into an event and, in the same words, a line of the
log. No account, record or secret is ever in one (I11): the kinds are a closed set, the texts are
made of shards, node ids, reasons and counts. A storm does not flood: of one kind only so many are
kept a second, and a last one says how many were left out.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from msgspec import UNSET, Struct, UnsetType

from cluster.types import check
from node.foreign import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import structlog

Level = Literal["info", "warning", "error"]
Kind = Literal[
    "started",
    "ready",
    "not-ready",
    "leader",
    "peer-up",
    "peer-down",
    "hsm-away",
    "hsm-back",
    "room",
    "slow-disk",
    "alarm",
    "alarm-cleared",
    "drain",
    "undrain",
    "transfer",
    "reload",
    "reload-refused",
    "cluster-file",
    "snapshot",
    "lockouts",
    "hash",
    "connections",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
LOGGED_BELOW: Final = frozenset({"peer-down", "room"})
"""The cluster package logs these itself, where they happen."""

LOG_LEVELS: Final[dict[Level, int]] = {
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
RING: Final = 1_000
"""Events kept; hours of a quiet node, minutes of a stormy one."""
MAX_TEXT: Final = 200
"""Characters of a text: a peer may have had a say in it."""
PER_SECOND: Final = 32
"""Of one kind: all shards of a usual vault may change their leader at once."""
MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100
MAX_DIGITS: Final = 15
"""Of a sequence number: what JavaScript can hold."""

check(PER_SECOND * len(KINDS) < RING, "events: one second of everything must fit into the ring")


class Event(Struct, frozen=True, omit_defaults=True):
    """One line. `seq` counts from 1 in the life of a process; `t` is RFC 3339, UTC, with ms."""

    seq: int
    t: str
    level: Level
    kind: Kind
    text: str
    shard: int | UnsetType = UNSET
    peer: int | UnsetType = UNSET


class Page(Struct, frozen=True):
    """GET /v1/events. Whoever reads on finds `oldest` > after + 1 if events were lost to him."""

    events: list[Event]
    oldest: int
    """Sequence number of the oldest event that is kept."""
    newest: int
    """…and of the newest; 0: there is none yet."""


class Query(NamedTuple):
    """What a reader may ask for."""

    after: int = 0
    limit: int = DEFAULT_PAGE


class BadQuery(Exception):  # noqa: N818 - it says what is wrong with the question
    """The question is none; one line with what may be asked."""


def query_of(pairs: list[tuple[str, str]]) -> Query:
    """The query of GET /v1/events from its decoded key-value pairs.

    Raises:
        BadQuery: a key is unknown or there twice, or a value is no number in range.

    """
    asked = dict(pairs)
    usable = all(text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS for _, text in pairs)
    known = asked.keys() <= {"after", "limit"} and len(asked) == len(pairs)
    limit = int(asked.get("limit", DEFAULT_PAGE)) if usable and known else 0
    if not 1 <= limit <= MAX_PAGE:
        raise BadQuery(
            f"ask for ?after=SEQ&limit=N: whole numbers, N from 1 to {MAX_PAGE}, each at most once"
        )
    return Query(int(asked.get("after", 0)), limit)


class Events:
    """The ring of one node; made and used on the loop thread."""

    def __init__(
        self,
        log: structlog.typing.FilteringBoundLogger,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._wall = wall
        self._monotonic = monotonic
        self._ring: deque[Event] = deque(maxlen=RING)
        self._newest = 0
        self._second: dict[Kind, tuple[int, int]] = {}
        """By kind: a second, and how many were told in it."""
        self._changed = asyncio.Event()

    @property
    def newest(self) -> int:
        """Sequence number of the newest event; 0: none yet."""
        return self._newest

    def tell(
        self,
        kind: Kind,
        text: str,
        *,
        level: Level = "info",
        shard: int | None = None,
        peer: int | None = None,
        **facts: str | float,
    ) -> None:
        """Something happened. `facts` are for the log alone."""
        second = int(self._monotonic())
        since, told = self._second.get(kind, (second, 0))
        if since != second:
            self._left_out(kind, told)
            told = 0
        self._second[kind] = second, told + 1
        if told < PER_SECOND:
            self._keep(kind, text, level, shard=shard, peer=peer, **facts)

    def settle(self) -> None:
        """Say what was left out of seconds that are over; to be called each second."""
        second = int(self._monotonic())
        for kind, (since, told) in list(self._second.items()):
            if since != second:
                del self._second[kind]
                self._left_out(kind, told)

    def page(self, query: Query) -> Page:
        """The events after a sequence number, the oldest first."""
        oldest = self._ring[0].seq if self._ring else 0
        skip = max(0, query.after + 1 - oldest)
        return Page(
            events=list(islice(self._ring, skip, skip + query.limit)),
            oldest=oldest,
            newest=self._newest,
        )

    def changed(self) -> Coroutine[None, None, bool]:
        """To be awaited: until something is told after this call, whenever the awaiting begins."""
        return self._changed.wait()

    def _left_out(self, kind: Kind, told: int) -> None:
        if told > PER_SECOND:
            self._keep(kind, f"{told - PER_SECOND} more of this kind in one second", "warning")

    def _keep(
        self,
        kind: Kind,
        text: str,
        level: Level,
        *,
        shard: int | None = None,
        peer: int | None = None,
        **facts: str | float,
    ) -> None:
        self._newest += 1
        at = dt.datetime.fromtimestamp(self._wall(), dt.UTC)
        event = Event(
            seq=self._newest,
            t=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            level=level,
            kind=kind,
            text=cut(text, MAX_TEXT),
            shard=UNSET if shard is None else shard,
            peer=UNSET if peer is None else peer,
        )
        self._ring.append(event)
        self._changed.set()
        self._changed = asyncio.Event()
        if kind in LOGGED_BELOW:
            return
        where = {"shard": shard, "peer": peer}
        known = {name: number for name, number in where.items() if number is not None}
        self._log.log(LOG_LEVELS[level], kind.replace("-", " "), text=event.text, **known, **facts)
