"""One node's disk: one LMDB environment, one batch per commit, every value under a MAC (I4, I9).

It knows tables, keys and values, nothing of Raft. What it promises: a batch is there whole or not
at all, and once `commit` returns it survives power loss (synchronous, and there is no switch for
that); what it reads is what was written, or it raises. `commit` belongs to one thread, the disk
thread; `get` and `items` to the thread that opened the store; `reading()` to any. The real twin of
`cluster.ports.Store`; `cluster.disk` owns the thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from typing import TYPE_CHECKING, Final

import lmdb

from cluster.ports import TABLES, Batch, Table
from cluster.room import Space
from cluster.store_format import (
    DATA_FILE,
    FORMAT_KEY,
    MAC_BYTES,
    REPLACE_NODE,
    STORE_TABLE,
    TXN_KEY,
    CommitFailedError,
    Macs,
    StoreDamagedError,
    StoreError,
    StoreInUseError,
    TableSum,
    check_format,
    check_sums,
    check_txn,
    format_row,
    sum_key,
    txn_row,
)
from cluster.store_scan import scan
from cluster.types import check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFAULT_MAP_BYTES: Final = 64 << 30
"""Sparse: costs 48 KiB of memory until used. Never grown: that kills live readers."""
MIN_MAP_BYTES: Final = 1 << 20
MAX_SPARE_TRANSACTIONS: Final = 8


class _View:
    """Checked reads inside one read transaction."""

    __slots__ = ("_dbs", "_macs", "_txn")

    def __init__(
        self,
        txn: lmdb.Transaction[bytes],
        dbs: dict[str, lmdb._Database],
        macs: Macs,
    ) -> None:
        self._txn = txn
        self._dbs = dbs
        self._macs = macs

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value (without MAC) or None."""
        try:
            stored = self._txn.get(key, db=self._dbs[table])
        except lmdb.Error as error:
            raise _unreadable(table, error) from error
        return None if stored is None else self._macs.open(table, key, stored)

    def items(self, table: Table, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) pairs with lo ≤ key < hi, ascending."""
        try:
            with self._txn.cursor(self._dbs[table]) as cursor:
                if not cursor.set_range(lo):
                    return
                for key, stored in cursor.iternext(keys=True, values=True):
                    if key >= hi:
                        return
                    yield key, self._macs.open(table, key, stored)
        except lmdb.Error as error:
            raise _unreadable(table, error) from error


class Store:
    """The open store of one node. Use `Store.open`."""

    def __init__(
        self,
        path: Path,
        env: lmdb.Environment,
        macs: Macs,
        dbs: dict[str, lmdb._Database],
        sums: dict[Table, TableSum],
        lock: int,
    ) -> None:
        self._path = path
        self._env = env
        self._macs = macs
        self._dbs = dbs
        self._sums = sums
        self._lock = lock
        self._reader_thread = threading.get_ident()
        self._closed = False
        self._failed = False
        self._written = 0
        # The transaction of the last `get`s: begun anew (a renewed spare one) after each batch.
        self._cached: lmdb.Transaction[bytes] | None = None
        self._view: _View | None = None
        self._seen = 0

    @classmethod
    def open(
        cls,
        path: Path,
        state_key: bytes,
        *,
        map_bytes: int = DEFAULT_MAP_BYTES,
    ) -> Store:
        """Open the store in directory `path`, or make an empty one there.

        An existing one is first read completely in a child process (about 100,000 rows a second).

        Raises:
            StoreInUseError: another process has it.
            StoreForeignError: other data, or a newer format.
            StoreWrongKeyError: written with another state key.
            StoreDamagedError: bytes, rows or pages are not what was written.
            StoreError: the directory cannot be used.

        """
        macs = Macs(state_key)
        if map_bytes < MIN_MAP_BYTES:
            raise StoreError(f"store {path}: map_bytes {map_bytes} is under {MIN_MAP_BYTES}")
        with contextlib.ExitStack() as undo:
            lock = _lock_directory(path)
            undo.callback(os.close, lock)
            if _is_new(path):
                _create(path, macs, map_bytes)
            else:
                scan(path, state_key)
            env = _environment(path, map_bytes)
            undo.callback(env.close)
            try:
                dbs = {name: env.open_db(name.encode()) for name in (*TABLES, STORE_TABLE)}
                sums = _read_sums(env, dbs, macs)
                store = cls(path, env, macs, dbs, sums, lock)
            except lmdb.Error as error:
                raise _unreadable("store", error) from error
            undo.pop_all()
        return store

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value under `key` in the last durable batch, or None. Loop thread only.

        Raises:
            StoreDamagedError: it is not what was written.

        """
        return self._fresh().get(table, key)

    def items(self, table: Table, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) with lo ≤ key < hi, ascending, in one consistent state.

        Raises:
            StoreDamagedError: a value is not what was written.

        """
        with self.reading() as view:
            yield from view.items(table, lo, hi)

    @contextlib.contextmanager
    def reading(self) -> Iterator[_View]:
        """One consistent state for as long as the block lasts; any thread.

        A long one keeps pages from being used again: seconds, not minutes.
        """
        with self._env.begin() as txn:
            self._check_txn(txn)
            yield _View(txn, self._dbs, self._macs)

    def release(self) -> None:
        """Let go of the pages that the last `get` pinned; call when a batch became durable."""
        if self._cached is not None:
            self._cached.abort()
            self._cached = self._view = None

    def commit(self, batch: Batch) -> None:
        """Write the batch in order, in one transaction, durable when this returns.

        Always from one and the same thread. After a failure nothing more can be written.

        Raises:
            CommitFailedError: it may or may not be on disk; the process must end.

        """
        if self._failed:
            raise CommitFailedError(
                f"store {self._path}: an earlier batch failed: restart the node"
            )
        try:
            with self._env.begin(write=True) as txn:
                self._apply(txn, batch)
        except BaseException as error:
            self._failed = True
            if isinstance(error, lmdb.Error | OSError | StoreError):
                raise CommitFailedError(
                    f"store {self._path}: a batch of {len(batch)} writes failed "
                    f"({str(error)[:200]}): free space on the disk or check it, "
                    "then start the node again",
                ) from error
            raise
        self._written += 1

    def space(self) -> Space:
        """How full map and disk are."""
        info, page = self._env.info(), self._env.stat()["psize"]
        pages = 0
        with self._env.begin() as txn:
            for db in self._dbs.values():
                stat = txn.stat(db)
                pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        disk = os.fstatvfs(self._lock)  # of the disk that was opened, whatever is mounted there
        return Space(
            map_used=pages * page,
            map_total=info["map_size"],
            disk_free=disk.f_bavail * disk.f_frsize,
            disk_total=disk.f_blocks * disk.f_frsize,
        )

    def rows(self) -> dict[Table, int]:
        """How many rows each table has after the last batch."""
        return {table: kept.rows for table, kept in self._sums.items()}

    def close(self) -> None:
        """Release environment and lock. Twice is once."""
        if not self._closed:
            self._closed = True
            self.release()
            self._env.close()
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # a forked child may still share the descriptor
            os.close(self._lock)

    def _fresh(self) -> _View:
        check(
            threading.get_ident() == self._reader_thread,
            "Store.get was called from another thread: use reading() there",
        )
        if self._seen != self._written:
            self.release()
        if self._view is None:
            # Read first: a batch that ends in between is seen and asked for again, not missed.
            self._seen = self._written
            self._cached = self._env.begin()
            self._check_txn(self._cached)
            self._view = _View(self._cached, self._dbs, self._macs)
        return self._view

    def _check_txn(self, txn: lmdb.Transaction[bytes]) -> None:
        """The view is of the transaction that it says, not of an older one."""
        try:
            stored = txn.get(TXN_KEY, db=self._dbs[STORE_TABLE])
        except lmdb.Error as error:
            raise _unreadable(STORE_TABLE, error) from error
        check_txn(self._macs, stored, txn.id())

    def _apply(self, txn: lmdb.Transaction[bytes], batch: Batch) -> None:
        dbs, sums, mac = self._dbs, self._sums, self._macs.mac
        touched: set[Table] = set()
        for kind, table, key, value in batch.ops:
            db, kept = dbs[table], sums[table]
            touched.add(table)
            if kind == "put":
                stored = mac(table, key, value) + value
                old = txn.replace(key, stored, db=db)
                kept.add(stored)
            elif kind == "delete":
                old = txn.pop(key, db=db)
            else:
                old = None
                _delete_range(txn, db, kept, key, value)
            if old is not None:
                kept.remove(old)
        for table in touched:
            key, value = sum_key(table), sums[table].encode()
            txn.put(key, mac(STORE_TABLE, key, value) + value, db=dbs[STORE_TABLE])
        if touched:
            last = txn_row(txn.id(), sums)
            txn.put(TXN_KEY, mac(STORE_TABLE, TXN_KEY, last) + last, db=dbs[STORE_TABLE])


def _delete_range(
    txn: lmdb.Transaction[bytes],
    db: lmdb._Database,
    kept: TableSum,
    lo: bytes,
    hi: bytes,
) -> None:
    """Delete lo ≤ key < hi; both ends are always given, so no call empties a table by omission."""
    with txn.cursor(db) as cursor:
        present = cursor.set_range(lo)
        while present and cursor.key() < hi:
            kept.remove(cursor.value())
            # After a delete the cursor stands on the next key, or on none.
            cursor.delete()
            present = bool(cursor.key())


def _lock_directory(path: Path) -> int:
    """An exclusive lock on the directory itself, held until its descriptor is closed."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StoreError(
            f"store directory {path} cannot be used ({error.strerror}): check path and permissions",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise StoreInUseError(
            f"store {path} is open in another process: stop that node first",
        ) from error
    return handle


def _is_new(path: Path) -> bool:
    """True when nothing was ever committed here (also after a kill while it was being made)."""
    try:
        data = path / DATA_FILE
        if not data.exists():
            return True
        if data.stat().st_size > 0:
            return False
        data.unlink()
    except OSError as error:
        raise StoreError(
            f"store {path} cannot be read ({error.strerror}): check path and permissions",
        ) from error
    return True


def _create(path: Path, macs: Macs, map_bytes: int) -> None:
    """Make the store under another name and rename it: a half-made one is never seen."""
    making = path / "making"
    try:
        making.mkdir(mode=0o700, exist_ok=True)
        for left in making.iterdir():
            left.unlink()
        env = _environment(making, map_bytes)
        try:
            dbs = {name: env.open_db(name.encode()) for name in (*TABLES, STORE_TABLE)}
            with env.begin(write=True) as txn:
                sums = {table: TableSum() for table in TABLES}
                rows = {FORMAT_KEY: format_row(), TXN_KEY: txn_row(txn.id(), sums)}
                rows |= {sum_key(table): kept.encode() for table, kept in sums.items()}
                for key, value in rows.items():
                    stored = macs.mac(STORE_TABLE, key, value) + value
                    txn.put(key, stored, db=dbs[STORE_TABLE])
        finally:
            env.close()
        (making / DATA_FILE).rename(path / DATA_FILE)
        for left in making.iterdir():
            left.unlink()
        making.rmdir()
        for directory in (path, path.parent):
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    except (OSError, lmdb.Error) as error:
        raise StoreError(
            f"store {path} cannot be made ({str(error)[:200]}): check space and permissions",
        ) from error


def _environment(path: Path, map_bytes: int) -> lmdb.Environment:
    try:
        return lmdb.open(
            str(path),
            map_size=map_bytes,
            mode=0o600,
            max_dbs=len(TABLES) + 1,
            max_spare_txns=MAX_SPARE_TRANSACTIONS,
        )
    except (lmdb.Error, OSError) as error:
        raise StoreError(
            f"store {path} cannot be opened ({str(error)[:200]}): check space and permissions",
        ) from error


def _read_sums(
    env: lmdb.Environment,
    dbs: dict[str, lmdb._Database],
    macs: Macs,
) -> dict[Table, TableSum]:
    sums: dict[Table, TableSum] = {}
    with env.begin() as txn:
        own = dbs[STORE_TABLE]
        check_format(macs, txn.get(FORMAT_KEY, db=own), env.path())
        last = txn.get(TXN_KEY, db=own)
        check_txn(macs, last, txn.id())
        for table in TABLES:
            stored = txn.get(sum_key(table), db=own)
            if stored is None or len(stored) < MAC_BYTES:
                raise StoreDamagedError(f"table {table!r} has no sum: {REPLACE_NODE}")
            sums[table] = TableSum.decode(macs.open(STORE_TABLE, sum_key(table), stored))
        check_sums(macs, last or b"", sums)
    return sums


def _unreadable(table: str, error: lmdb.Error) -> StoreDamagedError:
    return StoreDamagedError(
        f"table {table!r} cannot be read ({str(error)[:200]}): {REPLACE_NODE}",
    )
