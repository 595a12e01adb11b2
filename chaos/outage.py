"""How long was there no service? Measured from a history alone, per shard.

An account is served by its shard, so the vault is without service as far as a shard is: an outage
is the time between two successes of anybody, at any node, in one shard. What an outage belongs to
is not guessed: each fault is told the longest one that touched the time from it to the next fault.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chaos.history import Event

MS: Final = 1_000_000


class Outages:
    """The outages of one run.

    Args:
        history: events of phones and probes.
        shards: account → shard.
        until_ns: when looking ended; a shard without success up to then is out until then.

    """

    def __init__(self, history: Iterable[Event], shards: Mapping[str, int], until_ns: int) -> None:
        successes: dict[int, list[int]] = {shard: [] for shard in set(shards.values())}
        for event in history:
            if event.phase == "ok" and event.account in shards and event.t_ns <= until_ns:
                successes[shards[event.account]].append(event.t_ns)
        self._successes = {shard: [*sorted(each), until_ns] for shard, each in successes.items()}

    def longest_ms(self, begin_ns: int, end_ns: int) -> int:
        """The longest outage of any shard that touches this time, in whole milliseconds."""
        longest = 0
        for times in self._successes.values():
            first = max(bisect_right(times, begin_ns) - 1, 0)
            for one, next_one in pairwise(times[first:]):
                if one > end_ns:
                    break
                longest = max(longest, next_one - one)
        return longest // MS

    def spans_ms(self, times_ns: Sequence[int], end_ns: int) -> list[int]:
        """`longest_ms` from each of these times to the next; the last one's ends at `end_ns`."""
        ends = [*times_ns[1:], end_ns]
        return [self.longest_ms(begin, end) for begin, end in zip(times_ns, ends, strict=True)]
