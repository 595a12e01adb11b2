"""Is this node able to serve? Named checks, each with its reason (design section 7; keeps I9).

Ready means that a request sent here can be answered, by a leader or a follower alike. The checks
are a pure function of one picture of the node; `Health` takes that picture at most so often.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.limits import SLOW_DISK_MS
from cluster.room import Room
from node.verdict_why import ranges

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.api import HostStatus
    from cluster.room import Space

PICTURE_S: Final = 0.5
"""How old a picture may be; probes come every few seconds, the drain asks more often."""


@dataclass(frozen=True, slots=True)
class Check:
    """One named check."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that the checks look at, taken at one moment."""

    status: HostStatus
    space: Space
    hsm: bool
    hsm_reason: str
    draining: bool
    fewest_givers: int
    """Share-givers of the shard that has the fewest."""
    threshold: int
    drained: bool = False
    """An operator had it step aside; it stays."""

    @property
    def is_short(self) -> bool:
        """Disk or map is short of space, or full (cluster.room)."""
        return self.status.room is not Room.ENOUGH


def checks(picture: Picture) -> tuple[Check, ...]:
    """All named checks, in a fixed order."""
    status, space = picture.status, picture.space
    leaderless = [group.shard for group in status.groups if not group.leader]
    behind = [group.shard for group in status.groups if group.catching_up]
    in_flight = status.batch_in_flight_ms
    map_free = space.map_total - space.map_used
    return (
        Check("serving", not (picture.draining or picture.drained), _serving(picture)),
        Check("hsm", picture.hsm, "ok" if picture.hsm else picture.hsm_reason or "away"),
        Check("raft", status.stepping, "ok" if status.stepping else status.waiting_for),
        Check(
            "quorum",
            bool(status.groups) and not leaderless,
            f"no leader known for shard {ranges(leaderless)}" if leaderless else "ok",
        ),
        Check(
            "caught-up",
            not behind,
            f"fetching a snapshot for shard {ranges(behind)}" if behind else "ok",
        ),
        Check(
            "share-givers",
            picture.fewest_givers >= picture.threshold,
            f"{picture.fewest_givers} of {picture.threshold} needed",
        ),
        Check(
            "disk",
            not (status.slow_disk or picture.is_short),
            f"slow: a write took over {SLOW_DISK_MS} ms, the present one {in_flight:.0f} ms so far"
            if status.slow_disk
            else f"{min(space.disk_free, map_free)} bytes free"
            f"{', too few' if picture.is_short else ''}",
        ),
        Check(
            "state-hash",
            status.hash_agreement,
            "ok" if status.hash_agreement else "differs from the peers'",
        ),
    )


def _serving(picture: Picture) -> str:
    if picture.draining:
        return "draining"
    if not picture.drained:
        return "ok"
    led = [group.shard for group in picture.status.groups if group.role == "leader"]
    still = f"; leads shard {ranges(led)} until another node will" if led else ""
    return f"drained by an operator{still}"


class Health:
    """The checks, from a picture at most PICTURE_S old."""

    def __init__(
        self, take: Callable[[], Picture], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._take = take
        self._clock = clock
        self._taken_at = float("-inf")
        self._picture: Picture | None = None
        self._checks: tuple[Check, ...] = ()

    def look(self) -> tuple[Picture, tuple[Check, ...]]:
        """The picture and its checks."""
        if self._picture is None or self._clock() - self._taken_at >= PICTURE_S:
            return self.look_again()
        return self._picture, self._checks

    def look_again(self) -> tuple[Picture, tuple[Check, ...]]:
        """A new picture: whoever asks for it sees everything that was answered before."""
        self._picture = self._take()
        self._checks = checks(self._picture)
        self._taken_at = self._clock()
        return self._picture, self._checks

    @property
    def ready(self) -> bool:
        """All checks pass."""
        return all(check.ok for check in self.look()[1])
