"""Records and ledger rows as applied: the durable store with this turn's changes laid over it.

Changes of applied commands live here until the batch that holds them is durable; reads by `apply`
and by the node go through here, reads that must be durable (a share's ledger row) do not. The
shard's record count and state hash, and the ledger's, move with every change (I8).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from cluster import ledger as ledger_rules
from cluster import statehash
from cluster.record import Record, decode_record, encode_record
from cluster.tables import META_LEDGER, LedgerTotals, encode_row, record_prefix

if TYPE_CHECKING:
    from cluster.ledger import LedgerRow
    from cluster.ports import Batch, Store
    from cluster.statehash import StateHash
    from cluster.types import RecordId, ShardId


T = TypeVar("T")

RECENT: Final = 4_096
"""Decoded records, and ledger rows, kept after they became durable: an account in use is asked
for several times within a second, and a stored value costs a MAC and two decodings."""


class ShardRecords:
    """One shard's records: which slot, how many, their hash, and what is not durable yet."""

    __slots__ = ("changed", "count", "hash", "prefix", "shard", "slot")

    def __init__(self, shard: ShardId, slot: int, count: int, state: StateHash) -> None:
        self.shard = shard
        self.slot = slot
        self.prefix = record_prefix(shard, slot)
        self.count = count
        self.hash = state
        self.changed: dict[RecordId, tuple[Record, bytes]] = {}

    def flip(self, count: int, state: StateHash) -> None:
        """The other slot, filled by a snapshot, is the shard's now."""
        self.slot ^= 1
        self.prefix = record_prefix(self.shard, self.slot)
        self.count = count
        self.hash = state
        self.changed = {}


class Overlay:
    """The applied state of all shards of one node."""

    def __init__(
        self, store: Store, shards: list[ShardRecords], rows: int, rows_hash: StateHash
    ) -> None:
        self._store = store
        self.shards = shards
        self._rows = rows
        self._rows_hash = rows_hash
        self.ledger_changed: dict[RecordId, tuple[LedgerRow, bytes]] = {}
        self._recent: dict[RecordId, tuple[Record, bytes]] = {}
        self._recent_rows: dict[RecordId, tuple[LedgerRow, bytes]] = {}

    # ---- reads

    def record(self, shard: ShardId, record_id: RecordId) -> tuple[Record, bytes] | None:
        """The record and its canonical bytes, as applied."""
        records = self.shards[shard]
        known = records.changed.get(record_id) or self._recent.get(record_id)
        if known is not None:
            return known
        stored = self._store.get("records", records.prefix + record_id)
        return None if stored is None else (decode_record(stored), stored)

    def row(self, record_id: RecordId) -> tuple[LedgerRow, bytes] | None:
        """The ledger row and its bytes, as applied."""
        known = self.ledger_changed.get(record_id) or self._recent_rows.get(record_id)
        if known is not None:
            return known
        stored = self._store.get("ledger", record_id)
        return None if stored is None else (ledger_rules.decode_row(stored), stored)

    def durable_row(self, record_id: RecordId) -> LedgerRow | None:
        """The ledger row that survives a power cut now."""
        stored = self._store.get("ledger", record_id)
        return None if stored is None else ledger_rules.decode_row(stored)

    # ---- writes

    def put_record(
        self, shard: ShardId, record_id: RecordId, record: Record, old: bytes | None
    ) -> None:
        """Replace a record whose stored bytes were `old`."""
        records = self.shards[shard]
        new = encode_record(record)
        records.hash = statehash.replace(records.hash, record_id, old, new)
        if old is None:
            records.count += 1
        records.changed[record_id] = (record, new)

    def put_row(self, record_id: RecordId, row: LedgerRow, old: bytes | None) -> None:
        """Replace a ledger row whose stored bytes were `old`."""
        new = ledger_rules.encode_row(row)
        self._rows_hash = statehash.replace(self._rows_hash, record_id, old, new)
        if old is None:
            self._rows += 1
        self.ledger_changed[record_id] = (row, new)

    # ---- durability

    def write(self, batch: Batch) -> None:
        """Put every change into the batch."""
        for records in self.shards:
            for record_id, (_, data) in records.changed.items():
                batch.put("records", records.prefix + record_id, data)
        for record_id, (_, data) in self.ledger_changed.items():
            batch.put("ledger", record_id, data)
        if self.ledger_changed:
            totals = LedgerTotals(self._rows, statehash.encode_hash(self._rows_hash))
            batch.put("meta", META_LEDGER, encode_row(totals))

    def drop(self) -> list[RecordId]:
        """The batch is durable: forget the changes; returns whose ledger rows were in it."""
        for records in self.shards:
            if records.changed:
                _keep(self._recent, records.changed)
                records.changed = {}
        durable = list(self.ledger_changed)
        if durable:
            _keep(self._recent_rows, self.ledger_changed)
            self.ledger_changed = {}
        return durable

    def flip(self, shard: ShardId, count: int, state: StateHash) -> None:
        """A snapshot in the other slot becomes the shard; nothing of before is remembered."""
        self.shards[shard].flip(count, state)
        self._recent.clear()


def _keep(recent: dict[RecordId, T], changed: dict[RecordId, T]) -> None:
    """The latest RECENT ones; the oldest go first."""
    for record_id, value in changed.items():
        recent.pop(record_id, None)
        recent[record_id] = value
    for record_id in list(islice(recent, max(0, len(recent) - RECENT))):
        del recent[record_id]
