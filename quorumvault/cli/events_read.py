"""Reading one node's ring of events without missing, repeating or mixing any (pure).

Sequence numbers begin at 1 in each life of a node. A reader asks again for the last event that it
has: if that one is another now, or gone below the newest, the node was started again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quorumvault.cli.desk_answers import Event, Events

PAGE: Final = 500
"""Events asked for at once; a node keeps 1,000."""
LEVELS: Final = ("info", "warning", "error")


@dataclass(frozen=True)
class Taken:
    """What one page brought."""

    events: list[Event] = field(default_factory=list)
    remark: str = ""
    again: bool = False
    """There is more to be had at once."""


class Reader:
    """Of one node."""

    def __init__(self) -> None:
        self._last: Event | None = None

    @property
    def path(self) -> str:
        """What to ask next."""
        after = 0 if self._last is None else self._last.seq - 1
        return f"/v1/events?after={after}&limit={PAGE}"

    def take(self, page: Events) -> Taken:
        """What is new in the answer to `path`."""
        last = self._last
        if last is None:
            return self._keep(page.events, page.newest)
        if page.newest < last.seq or (
            page.events and page.events[0].seq == last.seq and page.events[0] != last
        ):
            self._last = None
            return Taken(remark="was started again: its events begin anew", again=True)
        new = [event for event in page.events if event.seq > last.seq]
        lost = page.oldest - last.seq - 1
        remark = f"kept no room for {lost} events in between: they are lost" if lost > 0 else ""
        return self._keep(new, page.newest, remark)

    def _keep(self, events: Sequence[Event], newest: int, remark: str = "") -> Taken:
        if events:
            self._last = events[-1]
        return Taken(list(events), remark, again=bool(events) and events[-1].seq < newest)


@dataclass(frozen=True)
class Told:
    """An event and who told it."""

    node: int
    event: Event


def merged(told: Iterable[Told], level: str) -> list[Told]:
    """By the nodes' own clocks, from this level on; of one node always in its order."""
    wanted = LEVELS[LEVELS.index(level) :]
    return sorted(
        (each for each in told if each.event.level in wanted),
        key=lambda each: (each.event.t, each.node, each.event.seq),
    )


def line(told: Told, dc: str) -> str:
    """For people."""
    event = told.event
    where = "" if event.shard is None else f"shard {event.shard}: "
    return (
        f"{event.t}  node {told.node} {dc[:12]:12}  {event.level:7}  {event.kind:14}  {where}"
        f"{event.text}"
    )
