"""The hands of the process ground: a node's wall clock and its disk."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from test_cluster_history import after

from chaos.disk_shim import build
from chaos.driver_process import ProcessDriver
from chaos.process_clock import SOURCE, WallClock
from chaos.process_disk import HEADER, SIZE_BYTES, STORE_FILE, NodeDisk, why_no_mount
from chaos.replacing import awaited
from cluster.ports import Batch
from cluster.store import Store
from cluster.store_format import StoreDamagedError
from cluster.store_pages import LEAF, PAGE_BYTES
from engines.encoding import u64
from quorumvault.cli.admin import Access, Unreachable

LOOK = """
import sys, threading, time
mono = time.monotonic()
def look():
    print(time.time(), flush=True)
look()
for line in sys.stdin:
    look()
began = time.monotonic()
time.sleep(0.05)
threading.Event().wait(0.05)
print(time.monotonic() - began, time.monotonic() - mono)
"""


def test_the_wall_clock_of_a_process_moves_while_it_runs_and_nothing_else_does(tmp_path):
    import time

    clock = WallClock(build(tmp_path, SOURCE), tmp_path / "clock")
    env = {**os.environ, **clock.environment, "LD_PRELOAD": str(clock.library)}
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", LOOK],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ahead() -> float:
            return float(process.stdout.readline()) - time.time()

        assert abs(ahead()) < 5
        for ms, offset_s in ((3_600_000, 3600), (-3_600_000, 0), (-90_000_500, -90_000.5)):
            clock.jump(ms)
            process.stdin.write("\n")
            process.stdin.flush()
            assert abs(ahead() - offset_s) < 5
        process.stdin.close()
        waited, lived = map(float, process.stdout.readline().split())
        assert 0.1 <= waited < 5  # neither sleep nor wait took a step of the wall clock
        assert lived <= time.monotonic() - began
    clock.close()
    assert process.returncode == 0


@pytest.fixture
def disk(tmp_path) -> NodeDisk:
    made = NodeDisk(tmp_path / "data", tmp_path / "aside")
    (made.path / STORE_FILE).parent.mkdir(parents=True)
    (made.path / STORE_FILE).write_bytes(bytes(range(256)) * 64)
    return made


def test_an_old_image_takes_the_place_of_the_right_contents_and_gives_it_back(disk):
    file = disk.path / STORE_FILE
    old = file.read_bytes()
    disk.copy()
    file.write_bytes(b"newer")
    (disk.path / "later").touch()
    disk.put_image()
    assert file.read_bytes() == old
    assert not (disk.path / "later").exists()
    assert disk.exchanged
    disk.put_right()
    assert file.read_bytes() == b"newer"
    assert (disk.path / "later").exists()
    assert not disk.exchanged


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_flip_changes_one_bit_and_the_right_byte_can_come_back(disk, where: float):
    file = disk.path / STORE_FILE
    right = file.read_bytes()
    assert disk.flip(where).startswith("byte ")
    wrong = file.read_bytes()
    changed = [one ^ other for one, other in zip(right, wrong, strict=True) if one != other]
    assert [each.bit_count() for each in changed] == [1]
    disk.put_right()
    assert file.read_bytes() == right


def test_a_flip_in_a_page_with_rows_meets_what_a_start_reads(tmp_path):
    """A log that grew in order leaves its pages half full: a bit in a gap would prove nothing."""
    disk = NodeDisk(tmp_path / "data", tmp_path / "aside")
    disk.path.mkdir()
    opened = Store.open(disk.path / "store", bytes(32), map_bytes=1 << 26)
    for number in range(400):
        batch = Batch()
        batch.put("log", u64(number), bytes(200))
        opened.commit(batch)
    opened.close()
    right = (disk.path / STORE_FILE).read_bytes()
    headers = {at: HEADER.unpack_from(right, at) for at in range(0, len(right), PAGE_BYTES)}
    gaps = [at for at, (kind, lower, upper) in headers.items() if kind == LEAF and upper > lower]
    found = 0
    for at in gaps[::5]:
        _, lower, upper = headers[at]
        what = disk.flip((at + (lower + upper) // 2 + 0.5) / len(right))
        assert what.startswith(f"byte {upper} of page {at // PAGE_BYTES} of")
        try:
            Store.open(disk.path / "store", bytes(32)).close()
        except StoreDamagedError:
            found += 1
        disk.put_right()
    assert found > len(gaps[::5]) / 2  # the others are copies from before, and free


@pytest.mark.skipif(why_no_mount() is not None, reason=str(why_no_mount()))
def test_a_disk_of_its_own_is_really_full_until_it_is_freed(tmp_path):
    disk = NodeDisk(tmp_path / "data", tmp_path / "aside")
    disk.mount()
    try:
        assert SIZE_BYTES * 0.9 < disk.fill() <= SIZE_BYTES
        with pytest.raises(OSError, match="No space left"):
            (disk.path / "more").write_bytes(bytes(8192))
        (disk.path / "more").unlink(missing_ok=True)
        disk.free()
        (disk.path / "more").write_bytes(bytes(8192))
    finally:
        disk.unmount()
    disk.unmount()
    assert list(disk.path.iterdir()) == []


def test_a_newcomer_counts_as_away_until_it_votes_in_every_shard(tmp_path, monkeypatch):
    """Else a third node was taken away beside it and its lost predecessor."""
    answers = {}

    class Told:
        statuses = staticmethod(lambda: answers)

    monkeypatch.setattr(Access, "from_connection", lambda _path: Told)
    driver = ProcessDriver(tmp_path)
    monkeypatch.setattr(ProcessDriver, "connection_file", tmp_path / "connection.json")
    driver._joining = {6}
    for voters, joining in (([1, 2, 3, 5], {6}), ([1, 2, 3, 5, 6], set())):
        answers["1"] = {"groups": [{"voters": [1, 2, 3, 5, 6]}, {"voters": voters}]}
        answers["2"] = Unreachable("dead")
        driver._look_who_joined()
        assert driver._joining == joining


def test_only_successors_that_are_members_still_are_waited_for_at_the_end():
    book = after((3, 6), (6, 7), (1, 8))
    assert awaited(book) == [6, 1]
    assert book.successor(3) == 6
    assert awaited(after()) == []
