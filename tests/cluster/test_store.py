"""The store: whole batches, durable once acknowledged, and no damaged byte is ever believed."""

from __future__ import annotations

import hmac
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb
import pytest

from cluster.ports import TABLES, Batch
from cluster.store import DATA_FILE, Store
from cluster.store_format import (
    CommitFailedError,
    Macs,
    StoreDamagedError,
    StoreError,
    StoreForeignError,
    StoreInUseError,
    StoreWrongKeyError,
    _prefix,
)
from cluster.types import InvariantError
from engines.encoding import enc, u64

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = bytes(range(32))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "store", KEY)
    yield opened
    opened.close()


def batch(*ops: tuple) -> Batch:
    made = Batch()
    for name, *arguments in ops:
        getattr(made, name)(*arguments)
    return made


def test_the_mac_is_that_of_the_golden_vector() -> None:
    vector = json.loads((ROOT / "tests" / "vectors.json").read_text())["state_mac"]
    node_key = bytes.fromhex(vector["node_key"])
    state_key = hmac.digest(node_key, enc("state-key"), "sha512")[:32]
    macs = Macs(state_key)
    macs._prefixes[vector["table"]] = _prefix(vector["table"])
    value = bytes.fromhex(vector["value"])
    assert macs.mac(vector["table"], bytes.fromhex(vector["key"]), value).hex() == vector["mac"]
    assert KEY.hex() not in repr(Macs(KEY))


def test_what_was_committed_is_read_back_also_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = Store.open(path, KEY)
    store.commit(batch(("put", "log", b"\1", b"one"), ("put", "meta", b"\1", b"")))
    assert store.get("log", b"\1") == b"one"
    assert store.get("meta", b"\1") == b""
    assert store.get("records", b"\1") is None
    store.close()
    store.close()
    again = Store.open(path, KEY)
    assert again.get("log", b"\1") == b"one"
    assert again.rows() == dict.fromkeys(TABLES, 0) | {"log": 1, "meta": 1}
    again.close()


def test_a_batch_is_applied_in_order(store: Store) -> None:
    store.commit(
        batch(
            ("put", "log", b"\1", b"a"),
            ("put", "log", b"\1", b"b"),
            ("put", "log", b"\2", b"c"),
            ("delete_range", "log", b"\2", b"\3"),
            ("put", "log", b"\2", b"d"),
            ("delete", "log", b"\1"),
            ("delete", "log", b"\7"),
        )
    )
    assert list(store.items("log", b"", b"\xff")) == [(b"\2", b"d")]
    assert store.rows()["log"] == 1


def test_ranges_are_half_open(store: Store) -> None:
    keys = [bytes((n,)) for n in range(10)]
    store.commit(batch(*(("put", "log", key, key) for key in keys)))
    assert [key for key, _ in store.items("log", keys[3], keys[6])] == keys[3:6]
    assert list(store.items("log", keys[6], keys[3])) == []
    store.commit(batch(("delete_range", "log", keys[3], keys[6])))
    assert [key for key, _ in store.items("log", b"", b"\xff")] == keys[:3] + keys[6:]
    store.commit(
        batch(("delete_range", "log", b"\5", b"\5"), ("delete_range", "log", b"\x09", b""))
    )
    assert store.rows()["log"] == 7
    store.commit(batch(("delete_range", "log", b"", b"\xff")))
    assert store.rows()["log"] == 0


def test_get_sees_each_new_batch_and_reading_stays_where_it_began(store: Store) -> None:
    store.commit(batch(("put", "log", b"\1", b"old")))
    assert store.get("log", b"\1") == b"old"
    with store.reading() as view:
        walk = view.items("log", b"", b"\xff")
        disk = threading.Thread(target=store.commit, args=(batch(("put", "log", b"\1", b"new")),))
        disk.start()
        disk.join()
        assert list(walk) == [(b"\1", b"old")]
        assert view.get("log", b"\1") == b"old"
        assert store.get("log", b"\1") == b"new"
    store.release()
    assert store.get("log", b"\1") == b"new"


def test_reading_works_in_another_thread_and_get_does_not(store: Store) -> None:
    store.commit(batch(("put", "log", b"\1", b"x")))
    seen: list[object] = []

    def elsewhere() -> None:
        with store.reading() as view:
            seen.append(view.get("log", b"\1"))
        try:
            store.get("log", b"\1")
        except InvariantError as error:
            seen.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen[0] == b"x"
    assert "another thread" in seen[1]


def test_released_pages_are_used_again(store: Store) -> None:
    for _ in range(200):
        store.commit(batch(("put", "log", b"\1", os.urandom(20_000))))
        assert len(store.get("log", b"\1")) == 20_000
    assert store.space().map_used < 200_000
    assert (Path(store._path) / DATA_FILE).stat().st_size < 1_000_000


def test_space_names_map_and_disk(store: Store) -> None:
    space = store.space()
    assert 0 < space.map_used < space.map_total == 64 << 30
    assert 0 < space.disk_free <= space.disk_total


def test_sync_cannot_be_switched_off(store: Store) -> None:
    flags = store._env.flags()
    assert flags["sync"]
    assert flags["metasync"]
    assert not flags["writemap"]
    assert not flags["map_async"]


@pytest.mark.usefixtures("store")
def test_a_second_opener_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreInUseError, match="open in another process: stop that node first"):
        Store.open(tmp_path / "store", KEY)


def test_another_nodes_key_is_told_from_damage(tmp_path: Path) -> None:
    Store.open(tmp_path / "store", KEY).close()
    with pytest.raises(StoreWrongKeyError, match="another node's state key"):
        Store.open(tmp_path / "store", bytes(32))
    with pytest.raises(StoreError, match="has 31 bytes"):
        Store.open(tmp_path / "store", bytes(31))


def edit(path: Path, table: str, change) -> None:
    """Change the raw contents behind the store's back."""
    with lmdb.open(str(path), max_dbs=len(TABLES) + 1, map_size=1 << 26) as env:
        db = env.open_db(table.encode())
        with env.begin(write=True, db=db) as txn:
            change(txn)


def test_a_newer_format_and_foreign_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "store"
    Store.open(path, KEY).close()
    row = b"quorumvault-store\0\4"
    newer = Macs(KEY).mac("store", b"format", row) + row
    edit(path, "store", lambda txn: txn.put(b"format", newer))
    with pytest.raises(StoreForeignError, match="has format 4, this program reads 3: run"):
        Store.open(path, KEY)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    edit(foreign, "things", lambda txn: txn.put(b"a", b"b"))
    with pytest.raises(StoreForeignError, match="no Quorumvault store"):
        Store.open(foreign, KEY)
    text = tmp_path / "text"
    text.mkdir()
    (text / DATA_FILE).write_bytes(b"hello" * 5000)
    with pytest.raises(StoreDamagedError, match="page 0: it is no meta page of this version"):
        Store.open(text, KEY)


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"file cannot be used .*: check path"):
        Store.open(tmp_path / "file", KEY)
    with pytest.raises(StoreError, match="map_bytes 1 is under"):
        Store.open(tmp_path / "store", KEY, map_bytes=1)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    store = Store.open(path, KEY, map_bytes=1 << 26)
    store.commit(
        batch(*(("put", table, u64(n), bytes((n,)) * 60) for table in TABLES for n in range(40)))
    )
    store.close()
    return path


def swapped(txn) -> None:
    one, two = txn.get(u64(1)), txn.get(u64(2))
    txn.put(u64(1), two)
    txn.put(u64(2), one)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda txn: txn.put(u64(7), txn.get(u64(7))[:-1] + b"\xff"), "key 0000000000000007"),
        (lambda txn: txn.put(u64(7), b"short"), "key 0000000000000007"),
        (lambda txn: txn.put(u64(7), b""), "key 0000000000000007"),
        (swapped, "key 0000000000000001"),
        (lambda txn: txn.put(u64(99), txn.get(u64(7))), "key 0000000000000063"),
        (lambda txn: txn.delete(u64(7)), "39 rows where 40 were written"),
    ],
)
def test_a_row_changed_moved_copied_or_lost_is_named_at_start(
    filled: Path, table: str, change, message: str
) -> None:
    edit(filled, table, change)
    with pytest.raises(StoreDamagedError, match=message) as refused:
        Store.open(filled, KEY)
    assert repr(table) in str(refused.value)
    assert "replace the node" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_old_value_brought_back_is_noticed(filled: Path) -> None:
    kept: list[bytes] = []
    edit(filled, "ledger", lambda txn: kept.append(txn.get(u64(3))))
    store = Store.open(filled, KEY)
    store.commit(batch(("put", "ledger", u64(3), b"later")))
    store.close()
    edit(filled, "ledger", lambda txn: txn.put(u64(3), kept[0]))
    with pytest.raises(StoreDamagedError, match="'ledger' has 40 rows where 40 were written, or"):
        Store.open(filled, KEY)


def test_a_value_damaged_while_running_raises_at_the_read(filled: Path) -> None:
    store = Store.open(filled, KEY, map_bytes=1 << 26)
    data = (filled / DATA_FILE).read_bytes()
    stored = Macs(KEY).mac("records", u64(7), b"\7" * 60) + b"\7" * 60
    with (filled / DATA_FILE).open("r+b") as file:
        while (at := data.find(stored, file.tell())) >= 0:  # in every tree that ever held it
            file.seek(at)
            file.write(b"\0" + stored[1:])
    for read in (
        lambda: store.get("records", u64(7)),
        lambda: list(store.items("records", b"", b"\xff")),
    ):
        with pytest.raises(StoreDamagedError, match="'records', key 0000000000000007"):
            read()
    store.close()


def test_a_truncated_file_is_a_sentence(filled: Path) -> None:
    data = filled / DATA_FILE
    os.truncate(data, data.stat().st_size // 2 // 4096 * 4096)
    with pytest.raises(StoreDamagedError, match=r"page \d+: the file ends before it"):
        Store.open(filled, KEY)


def test_a_failed_commit_lets_nothing_more_be_written(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", KEY, map_bytes=1 << 20)
    store.commit(batch(("put", "log", b"\1", b"kept")))
    with pytest.raises(CommitFailedError, match=r"MDB_MAP_FULL.*free space"):
        store.commit(batch(*(("put", "log", u64(n), bytes(4000)) for n in range(1000))))
    with pytest.raises(CommitFailedError, match="earlier batch failed"):
        store.commit(batch(("put", "log", b"\2", b"")))
    assert store.get("log", b"\1") == b"kept"
    store.close()
    again = Store.open(tmp_path / "store", KEY)
    assert list(again.items("log", b"", b"\xff")) == [(b"\1", b"kept")]
    again.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from cluster.disk import DiskThread
from cluster.ports import Batch
from cluster.store import Store

async def main(path, map_bytes, size):
    store = Store.open(Path(path), bytes(range(32)), map_bytes=map_bytes)
    last = store.get("meta", b"last")
    n = int.from_bytes(last, "big") if last else 0
    disk = DiskThread(store, asyncio.get_running_loop(), lambda call: call())
    print("open", n, flush=True)
    while True:
        n += 1
        batch = Batch()
        for i in range(5):
            batch.put("log", n.to_bytes(8, "big") + bytes((i,)), n.to_bytes(8, "big") * size)
        batch.put("meta", b"last", n.to_bytes(8, "big"))
        batch.delete_range("log", b"", max(0, n - 50).to_bytes(8, "big")) if size < 100 else None
        durable = asyncio.Event()
        disk.submit(batch, durable.set)
        await durable.wait()
        print(n, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def writer(path: Path, map_bytes: int, size: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(map_bytes), str(size)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_after_kill_9_nothing_acknowledged_is_lost_or_torn(tmp_path: Path) -> None:
    path = tmp_path / "store"
    dice = random.Random(1)
    acknowledged = 0
    for _ in range(6):
        with writer(path, 1 << 28, 40) as child:
            opened = child.stdout.readline().split()
            assert opened[0] == "open"
            assert int(opened[1]) >= acknowledged
            for _ in range(dice.randrange(5, 60)):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            for line in child.stdout:
                if line.endswith("\n"):
                    acknowledged = int(line)
        store = Store.open(path, KEY)
        last = int.from_bytes(store.get("meta", b"last"), "big")
        assert last >= acknowledged
        rows = list(store.items("log", b"", b"\xff"))
        first = max(1, last - 50)
        assert [key for key, _ in rows] == [
            u64(n) + bytes((i,)) for n in range(first, last + 1) for i in range(5)
        ]
        assert all(value == key[:8] * 40 for key, value in rows)
        store.close()


def ends_with_one_line(path: Path, map_bytes: int) -> None:
    with writer(path, map_bytes, 1000) as child:
        lines = child.stdout.read().splitlines()
        stderr = child.stderr.read()
    assert child.returncode == 70
    assert stderr.count("\n") == 1
    assert stderr.startswith("quorumvault: fatal: store ")
    assert "free space on the disk" in stderr
    acknowledged = int(lines[-1].split()[-1])
    assert acknowledged > 1
    store = Store.open(path, KEY)
    assert int.from_bytes(store.get("meta", b"last"), "big") == acknowledged
    store.close()


def test_a_full_map_ends_the_process_with_one_line(tmp_path: Path) -> None:
    ends_with_one_line(tmp_path / "store", 1 << 22)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_ends_the_process_with_one_line(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)],  # noqa: S607
        check=False,
        capture_output=True,
    )
    if mount.returncode != 0:
        pytest.skip("mounting is not permitted here")
    try:
        with writer(small / "store", 64 << 30, 1000) as child:
            lines = child.stdout.read().splitlines()
            stderr = child.stderr.read()
        assert child.returncode == 70
        assert stderr.count("\n") == 1
        assert "free space on the disk" in stderr
        acknowledged = int(lines[-1].split()[-1])
        store = Store.open(small / "store", KEY)
        assert int.from_bytes(store.get("meta", b"last"), "big") >= acknowledged > 1
        store.close()
    finally:
        subprocess.run(["umount", str(small)], check=True)  # noqa: S607


def test_a_kill_while_the_store_is_being_made_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    making = tmp_path / "store" / "making"
    making.mkdir(parents=True)
    (making / DATA_FILE).write_bytes(b"half")
    store = Store.open(tmp_path / "store", KEY)
    assert store.rows() == dict.fromkeys(TABLES, 0)
    store.close()
    assert not making.exists()
