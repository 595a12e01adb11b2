"""Reads a whole store in a process of its own, so that page damage becomes a sentence (I9).

A damaged page header or a truncated file can kill whoever reads it (SIGBUS, SIGSEGV). The node
therefore starts this module on its directory first and opens the store itself only after every
page in use (`store_pages`), row, MAC, count and sum was found good. The state key comes on stdin;
the answer is one line on stdout: `ok <rows>`, or the kind of the error and its sentence.

Run as `python -m cluster.store_scan PATH`.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import lmdb

from cluster.ports import TABLES, Table
from cluster.store_format import (
    DATA_FILE,
    FORMAT_KEY,
    REPLACE_NODE,
    STATE_KEY_BYTES,
    STORE_TABLE,
    TXN_KEY,
    Macs,
    StoreDamagedError,
    StoreError,
    StoreForeignError,
    StoreWrongKeyError,
    TableSum,
    check_format,
    check_sums,
    check_txn,
    sum_key,
)
from cluster.store_pages import Checked, check_pages, look_up

SCAN_TIMEOUT_S: Final = 1800
"""Damage must not make a node hang for ever; 100 GB on a slow disk are read in less."""

_KINDS: Final = {
    "damaged": StoreDamagedError,
    "foreign": StoreForeignError,
    "wrong-key": StoreWrongKeyError,
}


def scan(path: Path, state_key: bytes) -> int:
    """Check the store at `path` in a child process; returns the number of its rows.

    Raises:
        StoreError: of the kind that the child found, or StoreDamagedError when it was killed.

    """
    command = [sys.executable, "-m", "cluster.store_scan", str(path.resolve())]
    try:
        child = subprocess.run(
            command,
            input=state_key,
            capture_output=True,
            cwd=Path(__file__).resolve().parents[1],
            timeout=SCAN_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StoreDamagedError(
            f"store {path}: reading all of it took over {SCAN_TIMEOUT_S} s: {REPLACE_NODE}",
        ) from error
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise StoreDamagedError(
            f"store {path}: reading it ends in {name}, its pages are damaged or the file is "
            f"truncated: {REPLACE_NODE}",
        )
    word, _, rest = child.stdout.decode(errors="replace").strip().partition(" ")
    if child.returncode == 0 and word == "ok":
        return int(rest)
    if word in _KINDS:
        raise _KINDS[word](rest)
    last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    raise StoreError(f"store {path} could not be scanned ({last[:200]}): check the installation")


def read_everything(path: Path, state_key: bytes) -> int:
    """Read and check every page in use, then every row of every table.

    Raises:
        StoreError: the first thing that is wrong.

    """
    macs = Macs(state_key)
    try:
        checked = check_pages(path / DATA_FILE)
        # Only one process at a time gets here (the caller holds the lock), so LMDB's own lock
        # file is not needed.
        with lmdb.open(
            str(path),
            readonly=True,
            lock=False,
            create=False,
            max_dbs=len(TABLES) + 1,
        ) as env:
            rows = _read_tables(env, macs, path)
        _check_metas(path / DATA_FILE, checked, macs)
    except (lmdb.Error, OSError) as error:
        raise StoreDamagedError(
            f"store {path} cannot be read ({str(error)[:200]}): {REPLACE_NODE}",
        ) from error
    return rows


def _check_metas(file: Path, checked: Checked, macs: Macs) -> None:
    """Both meta pages lead to the tree of their own transaction; LMDB takes the later one's word.

    A flipped bit in the later one's number would otherwise bring back the batch before.
    """
    store = STORE_TABLE.encode()
    check_txn(macs, look_up(file, checked.newest, store, TXN_KEY), checked.newest.txn)
    older = look_up(file, checked.older, store, TXN_KEY)
    if older is not None or look_up(file, checked.older, store, FORMAT_KEY) is not None:
        check_txn(macs, older, checked.older.txn)


def _read_tables(env: lmdb.Environment, macs: Macs, path: Path) -> int:
    rows = 0
    sums: dict[Table, TableSum] = {}
    own = _open_table(env, STORE_TABLE)
    with env.begin() as txn:
        stored = None if own is None else txn.get(FORMAT_KEY, db=own)
    check_format(macs, stored, str(path))
    for table in TABLES:
        db = _open_table(env, table)
        if db is None or own is None:
            raise StoreDamagedError(f"store {path}: table {table!r} is missing: {REPLACE_NODE}")
        found = TableSum()
        with env.begin() as txn, txn.cursor(db) as cursor:
            for key, value in cursor.iternext(keys=True, values=True):
                macs.open(table, key, value)
                found.add(value)
            kept = txn.get(sum_key(table), db=own)
        if kept is None:
            raise StoreDamagedError(f"store {path}: table {table!r} has no sum: {REPLACE_NODE}")
        wanted = TableSum.decode(macs.open(STORE_TABLE, sum_key(table), kept))
        if found != wanted:
            raise StoreDamagedError(
                f"store {path}: table {table!r} has {found.rows} rows where {wanted.rows} were "
                f"written, or other ones: {REPLACE_NODE}",
            )
        sums[table] = found
        rows += found.rows
    if own is not None:
        with env.begin() as txn:
            check_sums(macs, txn.get(TXN_KEY, db=own) or b"", sums)
    return rows


def _open_table(env: lmdb.Environment, table: str) -> lmdb._Database | None:
    try:
        return env.open_db(table.encode(), create=False)
    except (lmdb.NotFoundError, lmdb.ReadonlyError):
        return None


def main() -> int:
    """The child: one line on stdout."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the state key is in this memory (I11)
    state_key = sys.stdin.buffer.read(STATE_KEY_BYTES)
    try:
        rows = read_everything(Path(sys.argv[1]), state_key)
    except StoreError as error:
        kinds = [word for word, kind in _KINDS.items() if isinstance(error, kind)]
        sys.stdout.write(f"{kinds[0] if kinds else 'error'} {error}\n")
        return 1
    sys.stdout.write(f"ok {rows}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
