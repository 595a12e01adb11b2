"""One flipped bit, anywhere in the store's file: found at start, or it changed nothing (I9)."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster.ports import TABLES, Batch
from cluster.store import Store
from cluster.store_format import DATA_FILE
from engines.encoding import u64

ROOT = Path(__file__).parents[2]
if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = bytes(range(32))
PAGE = 4096
META_BYTES = 16 + 24 + 2 * 48 + 16
"""Header, fixed part, two trees, last page and transaction of a meta page."""

FLIPPER = """
# For every bit number on stdin: flip it, scan in a fork, print how that ended as JSON. What the
# scan lets pass is compared with the contents before, in order and by looking each key up, and then
# the store is written to, as a node would, and scanned again.
import json, os, sys
from pathlib import Path
import lmdb
from cluster.ports import TABLES, Batch
from cluster.store import Store
from cluster.store_format import DATA_FILE, StoreError
from cluster.store_scan import read_everything

path, key = Path(sys.argv[1]), bytes(range(32))
good = (path / DATA_FILE).read_bytes()
END = b"\\xff" * 20

def contents(store):
    found = {}
    for table in TABLES:
        rows = list(store.items(table, b"", END))
        assert [store.get(table, name) for name, _ in rows] == [value for _, value in rows]
        found[table] = rows
    return found

import cluster.store
cluster.store.scan = read_everything  # in this very process: it is a fork
store = Store.open(path, key)
wanted = contents(store)
store.close()

def verdict():
    try:
        read_everything(path, key)
    except StoreError as error:
        return "found", str(error)
    store = Store.open(path, key)
    if contents(store) != wanted:
        return "WRONG", ""
    for number in range(3):  # free pages are used, trees are changed
        batch = Batch()
        for table in TABLES:
            batch.put(table, number.to_bytes(8, "big"), bytes(900))
            batch.put(table, bytes((number,)) * 7, bytes(5000))
        store.commit(batch)
    store.close()
    read_everything(path, key)
    return "harmless", ""

for line in sys.stdin:
    damaged = bytearray(good)
    damaged[int(line) // 8] ^= 1 << int(line) % 8
    (path / DATA_FILE).write_bytes(damaged)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, json.dumps(verdict()).encode())
        os._exit(0)
    os.close(writer)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    answer = os.read(reader, 65536).decode()
    os.close(reader)
    (path / DATA_FILE).write_bytes(good)
    print(answer if status == 0 else json.dumps(("CRASHED", f"exit {status}")), flush=True)
"""


@pytest.fixture(scope="module")
def store() -> Iterator[Path]:
    """Every kind of page: metas, branches, leaves, long values, free pages and their list."""
    shared = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=shared if Path(shared).is_dir() else None) as folder:
        path = Path(folder) / "store"
        fill(path)
        yield path


def fill(path: Path) -> None:
    opened = Store.open(path, KEY, map_bytes=1 << 26)
    for round_ in range(3):
        batch = Batch()
        for table in TABLES:
            for number in range(60):
                batch.put(table, u64(number), bytes((number, round_)) * 40)
            batch.put(table, b"long", bytes((round_,)) * 9000)
        batch.delete_range("log", u64(10), u64(30))
        opened.commit(batch)
    opened.close()


def kinds(data: bytes) -> dict[str, list[int]]:
    """Pages of each kind by the flags in their header; a long value's later pages have none."""
    names = {1: "branch", 2: "leaf", 4: "overflow", 8: "meta"}
    found: dict[str, list[int]] = {}
    for page in range(len(data) // PAGE):
        flags = int.from_bytes(data[page * PAGE + 10 : page * PAGE + 12], "little")
        found.setdefault(names.get(flags, "other"), []).append(page)
    return found


def flipped(store: Path, bits: list[int]) -> list[tuple[str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", FLIPPER, str(store)],
        input="".join(f"{bit}\n" for bit in bits),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(answers) == len(bits)
    return answers


def judge(store: Path, bits: list[int]) -> Counter[str]:
    answers = flipped(store, bits)
    bad = [
        (divmod(bit // 8, PAGE), bit % 8, answer)
        for bit, answer in zip(bits, answers, strict=True)
        if answer[0] not in ("found", "harmless")
    ]
    assert bad == []
    for word, line in answers:
        if word == "found":
            assert "\n" not in line
            assert "replace the node with 'quorumvault member replace" in line, line
    return Counter(word for word, _ in answers)


@pytest.mark.parametrize("page", [0, 1])
def test_a_flip_in_a_meta_page_is_found_or_not_used(store: Path, page: int) -> None:
    """Every bit of the transaction's number, which decides what is read at all; others drawn."""
    number = range((META_BYTES - 8) * 8, META_BYTES * 8)
    others = random.Random(page).sample(range(number.start), 60)
    told = judge(store, [page * PAGE * 8 + bit for bit in (*number, *others)])
    assert told["found"] >= len(number)


@pytest.mark.parametrize("kind", ["branch", "leaf", "overflow", "other"])
def test_a_flip_on_any_page_of_a_kind_is_found_or_not_used(store: Path, kind: str) -> None:
    data = (store / DATA_FILE).read_bytes()
    pages = kinds(data)[kind]
    dice = random.Random(kind)
    bits = []
    for _ in range(60):
        page = dice.choice(pages)
        # Half of them where pages keep what they say of themselves and their nodes.
        span = range(64) if dice.random() < 0.3 else range(PAGE)
        bits.append((page * PAGE + dice.choice(span)) * 8 + dice.randrange(8))
    told = judge(store, bits)
    assert told["found"] > 0
