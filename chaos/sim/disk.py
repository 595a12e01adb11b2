"""The twins of store and snapshot directory: tables and files in RAM, kept by the machine.

A batch is there whole or not at all (LMDB's commit is one page flip after the fsync), so a power
cut leaves the store as of some batch. What is here has been fsynced; a batch in flight is with the
node (`node.pending`).
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import hashlib
import os
from typing import TYPE_CHECKING

from cluster.ports import TABLES, Batch, Table
from cluster.store_format import Macs, StoreDamagedError, TableSum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.sim.space import SimSpace

Rows = dict[bytes, bytes]


class SimStore:
    """Tables in RAM; a copy of it is what a power cut leaves."""

    def __init__(self, tables: dict[Table, Rows] | None = None) -> None:
        self.tables: dict[Table, Rows] = tables or {table: {} for table in TABLES}

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value under `key`, or None."""
        return self.tables[table].get(bytes(key))

    def items(self, table: Table, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) pairs with lo ≤ key < hi, ascending."""
        rows = self.tables[table]
        keys = sorted(rows)
        for key in keys[bisect.bisect_left(keys, lo) : bisect.bisect_left(keys, hi)]:
            yield key, rows[key]

    @contextlib.contextmanager
    def reading(self) -> Iterator[SimStore]:
        """One consistent view."""
        yield self.copy()

    def copy(self) -> SimStore:
        """An image of the disk as of now."""
        return SimStore({table: dict(rows) for table, rows in self.tables.items()})

    def apply(self, batch: Batch) -> None:
        """Make a batch durable."""
        for kind, table, first, second in batch.ops:
            rows = self.tables[table]
            if kind == "put":
                rows[bytes(first)] = bytes(second)
            elif kind == "delete":
                rows.pop(bytes(first), None)
            else:
                for key in [key for key in rows if first <= key < second]:
                    del rows[key]


def flipped_byte_is_found(store: SimStore, where: float) -> bool:
    """Write the tables as the real store does, change one stored byte, and read all of it back.

    The bytes are laid out by `cluster.store_format`: each value under its MAC, each table with its
    sum. `where` (0 to 1) chooses the byte.
    """
    macs = Macs(hashlib.sha256(b"state key").digest())
    stored = [
        (table, key, macs.mac(table, key, value) + value)
        for table, rows in store.tables.items()
        for key, value in rows.items()
    ]
    sums = {table: TableSum() for table in TABLES}
    for table, _, data in stored:
        sums[table].add(data)
    at = int(where * (sum(len(data) for _, _, data in stored) - 1))
    for place, (table, key, data) in enumerate(stored):
        if at < len(data):
            changed = data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :]
            stored[place] = (table, key, changed)
            break
        at -= len(data)
    read = {table: TableSum() for table in TABLES}
    try:
        for table, key, data in stored:
            macs.open(table, key, data)
            read[table].add(data)
    except StoreDamagedError:
        return True
    return read != sums


class SimFiles:
    """The snapshot directory."""

    def __init__(self, files: dict[str, bytes], space: SimSpace) -> None:
        self.files = files
        self._space = space

    def create(self, name: str) -> SimWriter:
        """A new file."""
        return SimWriter(self.files, name, self._space)

    def open(self, name: str) -> SimReader:
        """Raises FileNotFoundError."""
        if name not in self.files:
            raise FileNotFoundError(name)
        return SimReader(self.files[name])

    def remove(self, name: str) -> None:
        """No error when absent."""
        self.files.pop(name, None)

    def names(self) -> list[str]:
        """Every file there, sorted."""
        return sorted(self.files)

    def free_bytes(self) -> int:
        """What the disk has left."""
        return self._space.left


class SimWriter:
    """A file being written; there once it is closed."""

    def __init__(self, files: dict[str, bytes], name: str, space: SimSpace) -> None:
        self.files, self.name, self._space = files, name, space
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Append.

        Raises:
            OSError: no space is left.

        """
        if sum(map(len, self.parts)) + len(data) > self._space.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name)
        self.parts.append(data)

    def close(self) -> None:
        """Put it into the directory."""
        self.files[self.name] = b"".join(self.parts)


class SimReader:
    """A file being read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def read(self, size: int) -> bytes:
        """The next bytes."""
        chunk = self.data[self.at : self.at + size]
        self.at += size
        return chunk

    def close(self) -> None:
        """Nothing to do."""
