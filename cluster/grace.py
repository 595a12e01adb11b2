"""Full lists are locked when their grace is over; only the shard's leader counts it.

Grace is for the user who got it right on the last guess and lost the answer, so it runs only while
enough share-givers are up to answer again. It is monotonic time of this leader; a new leader starts
anew (I10: a clock decides when Expire is proposed, never what it does).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.limits import SECOND

if TYPE_CHECKING:
    from cluster.machine import Machine
    from cluster.types import RecordId, ShardId


class Grace:
    """Elapsed grace per full record of the shards led here."""

    def __init__(self, grace_s: float, machine: Machine, shards: int) -> None:
        self._grace_ns = int(grace_s * SECOND)
        self._machine = machine
        self._elapsed: list[dict[RecordId, tuple[int, int]]] = [{} for _ in range(shards)]
        """record -> (era, elapsed ns)."""

    def not_leader(self, shard: ShardId) -> None:
        """Counting starts anew with whoever leads next."""
        self._elapsed[shard].clear()

    def pass_time(self, shard: ShardId, elapsed_ns: int) -> list[tuple[RecordId, int]]:
        """Count for every full record; returns (record, era) whose grace is over.

        A record is returned again after another grace time, if its Expire got lost.
        """
        full = self._machine.full[shard]
        counted = self._elapsed[shard]
        if not full and not counted:
            return []
        over: list[tuple[RecordId, int]] = []
        fresh: dict[RecordId, tuple[int, int]] = {}
        for record_id, era in full.items():
            known_era, elapsed = counted.get(record_id, (-1, 0))
            elapsed = elapsed + elapsed_ns if known_era == era else 0  # a new one starts now
            if elapsed >= self._grace_ns:
                over.append((record_id, era))
                elapsed = 0
            fresh[record_id] = (era, elapsed)
        self._elapsed[shard] = fresh
        return over
