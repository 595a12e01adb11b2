"""Step 10: the log is cut, in RAM and on disk alike, and erased bytes leave it in time.

A cut never goes beyond what is durably applied here, nor past a snapshot that a follower is
waiting for. It follows size; and within ten minutes after an Activate, Delete or Expire it takes
everything up to that entry, also in a quiet shard, because the sealed bytes that the entry erased
from the record still stand in the log before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.limits import (
    CUT_KEYS_PER_TURN,
    ERASE_NS,
    LOG_CUT_BYTES,
    LOG_CUT_ENTRIES,
    LOG_KEEP_ENTRIES,
)
from cluster.tables import log_key
from cluster.types import check

if TYPE_CHECKING:
    from cluster.core import Core, Group
    from cluster.durability import Durability
    from cluster.sending import SnapshotSender


class Compaction:
    """Log cutting of all shards."""

    def __init__(self, core: Core, durability: Durability, sender: SnapshotSender) -> None:
        self._core = core
        self._durability = durability
        self._sender = sender

    def on_time(self, now: int) -> None:
        """Once a second."""
        for group in self._core.groups:
            target = max(_by_size(group), _by_erasure(group, now))
            limit = min(
                group.durable_applied,
                self._sender.holds(group, now),
                group.truncated_index + CUT_KEYS_PER_TURN,
            )
            self._cut(group, min(target, limit))

    def _cut(self, group: Group, index: int) -> None:
        """The same cut in RAM and, with the next batch, on disk."""
        if index <= group.truncated_index:
            return
        raft = self._core.raft
        term = raft.term_at(group.shard, index)
        check(term is not None, f"shard {group.shard}: no term at {index}, where the log is cut")
        lo, hi = log_key(group.shard, group.truncated_index), log_key(group.shard, index + 1)
        self._durability.log.delete_range("log", lo, hi)
        kept = (group.last_index - index) / (group.last_index - group.truncated_index)
        group.log_bytes = int(group.log_bytes * kept)
        group.truncated_index, group.truncated_term = index, term or 0
        self._durability.dirty.add(group.shard)
        raft.compact(group.shard, index)


def _by_size(group: Group) -> int:
    entries = group.last_index - group.truncated_index
    if group.log_bytes > LOG_CUT_BYTES:
        # So few large entries that keeping the usual number would keep the bytes.
        per_entry = group.log_bytes // entries + 1
        keep = min(LOG_KEEP_ENTRIES, LOG_CUT_BYTES // 2 // per_entry)
        return group.applied - keep
    return group.applied - LOG_KEEP_ENTRIES if entries > LOG_CUT_ENTRIES else 0


def _by_erasure(group: Group, now: int) -> int:
    if group.erase_index <= group.truncated_index:
        group.erase_at = None
        return 0
    if group.erase_at is None:
        group.erase_at = now + ERASE_NS
    return group.erase_index if now >= group.erase_at else 0
