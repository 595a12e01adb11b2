"""What the bytes of a node's store mean: MACs, per-table sums, and how damage is told (I9, I11).

LMDB notices neither a flipped bit nor a vanished key. So every value is stored as
`mac[16] ‖ value`, the MAC over table, key and value under K_state (crypto.md, stored value MAC);
and every table has a sum: the number of its rows and the sum mod 2^128 of their MACs, written in
the same transaction as the rows. A row that is changed, moved, lost or brought back breaks one or
the other; both are checked over the whole store before a node starts from it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.next_step import replace_node
from cluster.ports import TABLES, Table
from engines.encoding import enc, u16, u32, u64

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT_VERSION: Final = 3
MAGIC: Final = b"quorumvault-store"
DATA_FILE: Final = "data.mdb"
"""LMDB's own name for its file."""
MAC_BYTES: Final = 16
SUM_MODULUS: Final = 1 << (8 * MAC_BYTES)
STATE_KEY_BYTES: Final = 32
MAX_KEY_BYTES: Final = 511
"""LMDB's own limit; ours have at most 43."""

STORE_TABLE: Final = "store"
"""The store's own rows: its format and the sums of the tables."""
FORMAT_KEY: Final = b"format"
TXN_KEY: Final = b"txn"
"""The number of the LMDB transaction that wrote the row, u64, and SHA-256 over all tables' sums:
every one writes it anew. A meta page that leads to another one's tree, an older one above all, is
told by it; and so is a table that was put back, with its sum, beside the others of today."""
TXN_NUMBER_BYTES: Final = 8
ALL_TABLES: Final = (*TABLES, STORE_TABLE)

REPLACE_NODE: Final = (
    "this node must not go on with it: check the disk, keep the directory for inspection, and "
    + replace_node()
)


class StoreError(Exception):
    """The store cannot be used; one line that says why and what to do."""


class StoreInUseError(StoreError):
    """Another process has it open."""


class StoreForeignError(StoreError):
    """Not a store of ours, or of a newer program."""


class StoreWrongKeyError(StoreError):
    """Its MACs were made with another node's key."""


class StoreDamagedError(StoreError):
    """Stored bytes are not what was written."""


class CommitFailedError(StoreError):
    """A batch did not become durable; the process must end."""


class Macs:
    """Computes the MAC of a stored value; holds K_state and never shows it."""

    __slots__ = ("_key", "_prefixes")

    def __init__(self, state_key: bytes) -> None:
        if len(state_key) != STATE_KEY_BYTES:
            raise StoreError(f"the state key has {len(state_key)} bytes, not {STATE_KEY_BYTES}")
        self._key = state_key
        # enc("state", table, …) up to its second field: the count says three, the rest follows.
        self._prefixes = {table: _prefix(table) for table in ALL_TABLES}

    def mac(self, table: str, key: bytes, value: bytes) -> bytes:
        """HMAC-SHA-256(K_state, enc("state", table, key, value))[:16]."""
        message = b"".join(
            (self._prefixes[table], u32(len(key)), key, u32(len(value)), value),
        )
        return hmac.digest(self._key, message, "sha256")[:MAC_BYTES]

    def open(self, table: str, key: bytes, stored: bytes) -> bytes:
        """The value inside `stored`.

        Raises:
            StoreDamagedError: the MAC is not that of this table, key and value.

        """
        value = stored[MAC_BYTES:]
        if not hmac.compare_digest(self.mac(table, key, value), stored[:MAC_BYTES]):
            raise StoreDamagedError(
                f"the stored value of table {table!r}, key {key.hex()} is not what was written "
                f"(its MAC is wrong): {REPLACE_NODE}",
            )
        return value


@dataclass(slots=True)
class TableSum:
    """How many rows a table has, and the sum of their MACs."""

    rows: int = 0
    total: int = 0

    def add(self, stored: bytes) -> None:
        """Count one stored value in."""
        self.rows += 1
        self.total = (self.total + int.from_bytes(stored[:MAC_BYTES], "big")) % SUM_MODULUS

    def remove(self, stored: bytes) -> None:
        """Take one stored value out."""
        self.rows -= 1
        self.total = (self.total - int.from_bytes(stored[:MAC_BYTES], "big")) % SUM_MODULUS

    def encode(self) -> bytes:
        """24 bytes: u64 rows ‖ u128 total."""
        return u64(self.rows) + self.total.to_bytes(MAC_BYTES, "big")

    @classmethod
    def decode(cls, data: bytes) -> TableSum:
        """Undo `encode`; the MAC has already vouched for `data`."""
        return cls(int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big"))


def sum_key(table: Table) -> bytes:
    """Where a table's sum stands in the store's own table."""
    return b"sum/" + table.encode()


def format_row() -> bytes:
    """The value under FORMAT_KEY: magic and version, readable without the key."""
    return MAGIC + u16(FORMAT_VERSION)


def check_format(macs: Macs, stored: bytes | None, place: str) -> None:
    """Tell foreign, newer and other-keyed stores from ours.

    Raises:
        StoreForeignError: not our magic, or a version that this program does not read.
        StoreWrongKeyError: ours, but its MAC was made with another key.

    """
    row = (stored or b"")[MAC_BYTES:]
    if stored is None or not row.startswith(MAGIC) or len(row) != len(format_row()):
        raise StoreForeignError(
            f"store {place} holds no Quorumvault store: give the node its own data directory",
        )
    version = int.from_bytes(row[len(MAGIC) :], "big")
    if version != FORMAT_VERSION:
        raise StoreForeignError(
            f"store {place} has format {version}, this program reads {FORMAT_VERSION}: "
            "run the version that wrote it",
        )
    try:
        macs.open(STORE_TABLE, FORMAT_KEY, stored)
    except StoreDamagedError as error:
        raise StoreWrongKeyError(
            f"store {place} was written with another node's state key: "
            "put directory and HSM token of the same node together",
        ) from error


def txn_row(txn: int, sums: Mapping[Table, TableSum]) -> bytes:
    """The value under TXN_KEY."""
    return u64(txn) + hashlib.sha256(b"".join(sums[t].encode() for t in TABLES)).digest()


def check_sums(macs: Macs, stored: bytes, sums: Mapping[Table, TableSum]) -> None:
    """All tables' sums were written by one and the same transaction.

    Raises:
        StoreDamagedError: one of them is of another.

    """
    wrote = macs.open(STORE_TABLE, TXN_KEY, stored)
    if wrote != txn_row(int.from_bytes(wrote[:TXN_NUMBER_BYTES], "big"), sums):
        raise StoreDamagedError(
            f"the tables' sums are not those of one transaction, some are older: {REPLACE_NODE}"
        )


def check_txn(macs: Macs, stored: bytes | None, txn: int) -> None:
    """The tree that was reached as transaction `txn` is the one that it wrote.

    Raises:
        StoreDamagedError: it is another one's.

    """
    if stored is None:
        raise StoreDamagedError(f"transaction {txn} did not leave its number: {REPLACE_NODE}")
    wrote = int.from_bytes(macs.open(STORE_TABLE, TXN_KEY, stored)[:TXN_NUMBER_BYTES], "big")
    if wrote != txn:
        raise StoreDamagedError(
            f"what the store shows as transaction {txn} was written by {wrote}: {REPLACE_NODE}"
        )


def _prefix(table: str) -> bytes:
    empty = enc("state", table.encode(), b"", b"")
    return empty[: -2 * len(u32(0))]
