"""A file of one node's ledger rows of one shard, for a node that joins.

Row after row (record id, length, canonical bytes), ascending, out of one read transaction together
with the durable applied index and the mark that this ledger is complete. Nothing secret is in it:
ids of attempts, and what the record of the log says too. It travels like a snapshot.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from cluster import ledger, ledger_merge
from cluster.frames import LedgerOffer
from cluster.limits import MAX_LEDGER_BYTES
from cluster.manifest import ID_BYTES, LENGTH_BYTES, SnapshotDamagedError, split
from cluster.tables import WHOLE_TABLE, GroupRow, decode_group, group_key
from cluster.types import RecordId
from engines.encoding import u32
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


def group_row(view: ReadView, shard: ShardId) -> GroupRow:
    """The shard's row of the same read transaction."""
    stored = view.get("group", group_key(shard))
    if stored is None:
        raise SnapshotDamagedError(f"shard {shard} has no group row")
    return decode_group(stored)


def build(
    store: Store, files: SnapshotFiles, shard: ShardId, shards: int, name: str
) -> LedgerOffer:
    """Copy the rows of a complete ledger into file `name`; runs on a worker thread.

    Raises:
        SnapshotDamagedError: the ledger is not complete, or larger than a file may be.

    """
    digest, size = hashlib.sha256(), 0
    with store.reading() as view:
        row = group_row(view, shard)
        if not row.ledger:
            raise SnapshotDamagedError(f"shard {shard}: this node's own ledger is not complete")
        writer = files.create(name)
        try:
            for record_id, value in rows_of(view, shard, shards):
                chunk = record_id + u32(len(value)) + value
                digest.update(chunk)
                writer.write(chunk)
                size += len(chunk)
                if size > MAX_LEDGER_BYTES:
                    break
        finally:
            writer.close()
    if size > MAX_LEDGER_BYTES:
        raise SnapshotDamagedError(
            f"shard {shard}: its ledger has more than {MAX_LEDGER_BYTES} bytes, too many for a"
            " node that joins: move to a cluster with more shards"
        )
    return LedgerOffer(shard, name, row.applied, size, digest.digest())


def read(files: SnapshotFiles, name: str, offer: LedgerOffer, rules: Rules, shards: int) -> Rows:
    """Every row of a fetched file, each of them checked; runs on a worker thread.

    Raises:
        SnapshotDamagedError: the file is not what was offered; it may have suffered on its way.
        RowsRefusedError: it is, and has a row that no honest node has.

    """
    digest, size = hashlib.sha256(), 0
    raw: list[tuple[bytes, bytes]] = []
    for record_id, value in split(files, name, offer.size, ledger.MAX_ROW_BYTES):
        digest.update(record_id + u32(len(value)) + value)
        size += ID_BYTES + LENGTH_BYTES + len(value)
        raw.append((record_id, value))
    if (size, digest.digest()) != (offer.size, offer.sha256):
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
