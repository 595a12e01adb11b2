"""A file of one node's ledger rows of one shard, for a node that joins.

Row after row (record id, length, canonical bytes), ascending, out of one read transaction together
with the durable applied index and the mark that this ledger is complete. Nothing secret is in it:
ids of attempts, and what the record of the log says too. It travels like a snapshot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cluster import ledger, ledger_merge
from cluster.frames import LedgerOffer
from cluster.limits import MAX_LEDGER_BYTES, MAX_LEDGER_ROWS
from cluster.manifest import SnapshotDamagedError, group_row, read_pairs, write_pairs
from cluster.tables import WHOLE_TABLE
from cluster.types import RecordId
from engines.identifiers import shard_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.ledger import LedgerRow
    from cluster.ports import ReadView, SnapshotFiles, Store
    from cluster.record import Rules
    from cluster.types import ShardId


class Rows(dict[RecordId, "LedgerRow"]):
    """Checked rows of one seat, by record."""


class RowsRefusedError(Exception):
    """A peer's rows hold what no honest node has: its word counts for nothing here."""


def rows_of(view: ReadView, shard: ShardId, shards: int) -> Iterator[tuple[RecordId, bytes]]:
    """(record id, stored row) of one shard, ascending."""
    for key, value in view.items("ledger", *WHOLE_TABLE):
        if shard_of(key, shards) == shard:
            yield RecordId(bytes(key)), value


def build(
    store: Store, files: SnapshotFiles, shard: ShardId, shards: int, name: str
) -> LedgerOffer:
    """Copy the rows of a complete ledger into file `name`; runs on a worker thread.

    Raises:
        SnapshotDamagedError: the ledger is not complete, or larger than a file may be.

    """
    with store.reading() as view:
        row = group_row(view, shard)
        if not row.ledger:
            raise SnapshotDamagedError(f"shard {shard}: this node's own ledger is not complete")
        pairs = rows_of(view, shard, shards)
        size, sha256, count = write_pairs(files, name, pairs, MAX_LEDGER_BYTES)
    if size > MAX_LEDGER_BYTES or count > MAX_LEDGER_ROWS:
        most = f"{MAX_LEDGER_ROWS} rows" if count > MAX_LEDGER_ROWS else f"{MAX_LEDGER_BYTES} bytes"
        raise SnapshotDamagedError(
            f"shard {shard}: its ledger has more than {most}, too many for a node that joins:"
            " move to a cluster with more shards"
        )
    return LedgerOffer(shard, name, row.applied, size, sha256)


def read(files: SnapshotFiles, name: str, offer: LedgerOffer, rules: Rules, shards: int) -> Rows:
    """Every row of a fetched file, each of them checked; runs on a worker thread.

    Raises:
        SnapshotDamagedError: the file is not what was offered; it may have suffered on its way.
        RowsRefusedError: it is, and has a row that no honest node has.

    """
    raw, size, sha256 = read_pairs(files, name, offer.size, ledger.MAX_ROW_BYTES, MAX_LEDGER_ROWS)
    if (size, sha256) != (offer.size, offer.sha256):
        raise SnapshotDamagedError(f"ledger file {offer.name} is not what was offered")
    rows = Rows()
    previous = b""
    for key, value in raw:
        record_id = RecordId(key)
        if key <= previous or shard_of(key, shards) != offer.shard:
            raise RowsRefusedError("rows out of order, repeated or of another shard")
        previous = key
        try:
            row = ledger.decode_row(value)
        except msgspec.DecodeError as error:
            raise RowsRefusedError(f"the row of record {key.hex()}: {error}") from error
        why = ledger_merge.fault(rules, key, row)
        if why is not None:
            raise RowsRefusedError(f"the row of record {key.hex()}: {why}")
        rows[record_id] = row
    return rows
