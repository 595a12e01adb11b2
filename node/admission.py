"""What a node takes on: so many requests at once, so many a minute per account (design section 7).

Whoever is turned away here is told so before anything is proposed: 429, charged `no`. Per account
the minute is a bucket (GCRA): a full one may be spent at once, then it refills evenly. Pure but
for the clock, which is handed in.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from node.problems import Code, Problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

WINDOW_S: Final = 60.0
MAX_ACCOUNTS: Final = 100_000
"""Accounts remembered at once; about 10 MB. Those whose bucket is full again are forgotten."""


class Slots:
    """Requests under way on this node; `with slots:` holds one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def resize(self, limit: int) -> None:
        """So many from now on; those under way beyond it finish."""
        self._limit = limit

    async def until_idle(self) -> None:
        """Until no request is under way."""
        await self._idle.wait()

    def __enter__(self) -> None:
        if self.taken >= self._limit:
            raise Problem(
                Code.BUSY,
                f"this node serves {self._limit} requests at once and all are taken; "
                "ask again or ask another node",
            )
        self.taken += 1
        self._idle.clear()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.taken -= 1
        if self.taken == 0:
            self._idle.set()


class AccountRate:
    """At most `per_minute` requests of one account in any minute at this node; 0: no limit."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._full_at: dict[bytes, float] = {}

    def retune(self, per_minute: int) -> None:
        """So many from now on; what an account has sent already counts on."""
        self._per_minute = per_minute

    def admit(self, account: bytes) -> None:
        """Count one request of the account.

        Raises:
            Problem: 429 with the seconds to wait.

        """
        if self._per_minute == 0:
            return
        now = self._clock()
        step = WINDOW_S / self._per_minute
        full_at = max(self._full_at.get(account, now), now) + step
        excess = full_at - now - WINDOW_S
        if excess > step * 1e-6:
            raise Problem(
                Code.BUSY,
                f"this account has sent {self._per_minute} requests within a minute; wait",
                retry_after_s=max(1, round(excess + 0.5)),
            )
        if account not in self._full_at and len(self._full_at) >= MAX_ACCOUNTS:
            self._forget(now)
        self._full_at[account] = full_at

    def _forget(self, now: float) -> None:
        """Drop those who could spend a full bucket anyway; if all are busy, the oldest half."""
        kept = {account: at for account, at in self._full_at.items() if at > now}
        if len(kept) >= MAX_ACCOUNTS:
            newest = sorted(kept.items(), key=lambda item: item[1])[MAX_ACCOUNTS // 2 :]
            kept = dict(newest)
        self._full_at = kept
