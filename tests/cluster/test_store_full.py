"""A store on a disk without one free byte: no signal, no torn batch, nothing acknowledged lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chaos.process_disk import NodeDisk, why_no_mount
from cluster.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(why_no_mount() is not None, reason=str(why_no_mount()))

ROOT = Path(__file__).parents[2]
KEY = bytes(range(32))
WRITER = """
import json, sys
from pathlib import Path
from cluster.ports import Batch
from cluster.store import Store
from cluster.store_format import CommitFailedError
from engines.encoding import u64

store = Store.open(Path(sys.argv[1]), bytes(range(32)))
written, error = 0, ""
while not error:
    batch = Batch()
    for row in range(40):  # over many pages, some of them new
        batch.put("records", u64(40 * written + row), bytes(3000))
        batch.put("log", u64(row), u64(written) * 100)
    try:
        store.commit(batch)
        written += 1
    except CommitFailedError as failed:
        error = str(failed)
# What is acknowledged is still read, all of it, in the process that met the full disk.
rows = list(store.items("records", b"", b"\\xff" * 9))
log = {value[:8] for _, value in store.items("log", b"", b"\\xff" * 9)}
print(json.dumps({"written": written, "error": error, "rows": len(rows),
                  "log": [int.from_bytes(value, "big") for value in log]}))
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[NodeDisk]:
    disk = NodeDisk(tmp_path / "disk", tmp_path / "aside")
    disk.mount()
    yield disk
    disk.unmount()


def test_a_batch_that_a_full_disk_refuses_is_absent_whole_and_the_others_are_there(
    small_disk: NodeDisk,
) -> None:
    path = small_disk.path / "store"
    Store.open(path, KEY).close()
    with (small_disk.path / "neighbour").open("wb") as neighbour:
        neighbour.write(bytes(120 << 20))
    wrote = subprocess.run(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, capture_output=True, check=False
    )
    assert wrote.returncode == 0, wrote
    told = json.loads(wrote.stdout)
    assert told["written"] > 10
    assert "a batch of 80 writes failed" in told["error"]
    assert "free space on the disk" in told["error"]
    # The disk is as full as before: the store is opened, checked and read all the same.
    small_disk.fill()
    again = Store.open(path, KEY)
    rows = again.rows()["records"]
    log = {int.from_bytes(value[:8], "big") for _, value in again.items("log", b"", b"\xff" * 9)}
    again.close()
    assert (rows, log) == (40 * told["written"], {told["written"] - 1})
    assert (told["rows"], told["log"]) == (rows, [told["written"] - 1])
