"""Whether a node waits for room before it touches its data directory (ADR 0011)."""

from __future__ import annotations

import os
import socket
import uuid
from typing import TYPE_CHECKING

import pytest

from chaos.process_disk import NodeDisk, why_no_mount
from cluster.datadir import DataDir, DataDirError
from cluster.ports import Batch
from cluster.store import MIN_MAP_BYTES, Store
from node.waiting import until_room

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAP_BYTES = MIN_MAP_BYTES


def test_a_disk_with_room_is_not_waited_for(tmp_path: Path) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as ops:
        until_room(tmp_path / "not" / "yet" / "made", ops, said.append)
    assert said == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[NodeDisk]:
    if (why := why_no_mount()) is not None:
        pytest.skip(why)
    small = NodeDisk(tmp_path / "disk", tmp_path / "aside")
    small.mount()
    yield small
    small.unmount()


def wait_on_a_full(disk: NodeDisk) -> list[str]:
    """Fill it, wait, and free it when the node says its first line; what it said."""
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        disk.free()

    disk.fill()
    with socket.create_server(("127.0.0.1", 0)) as ops:
        until_room(disk.path / "data", ops, say)
        assert ops.getsockname(), "the listener stays open for the node"
    return said


def test_it_says_how_much_is_missing_and_goes_on_when_that_is_free(disk: NodeDisk) -> None:
    (line,) = wait_on_a_full(disk)
    assert line.startswith(f"waiting for room: data directory {disk.path}/data has 0 bytes free")
    assert "make 6710887 free" in line


def test_a_disk_that_its_own_leftover_copies_fill_is_not_waited_for_and_loses_them(
    disk: NodeDisk,
) -> None:
    """Not one byte is free when the node begins; then the lock is taken, and the store opens."""
    data, cluster, key = disk.path / "data", uuid.uuid4(), bytes(32)
    said: list[str] = []
    claimed = DataDir.claim(data, cluster, 1)
    Store.open(claimed.store, key, map_bytes=MAP_BYTES).close()
    (claimed.snapshots / "out-ledger-3-abc").write_bytes(bytes(64 << 20))
    claimed.release()
    disk.fill()
    assert os.statvfs(data).f_bavail == 0
    with socket.create_server(("127.0.0.1", 0)) as ops:
        until_room(data, ops, said.append)
    claimed = DataDir.claim(data, cluster, 1)
    assert list(claimed.snapshots.iterdir()) == []
    store = Store.open(claimed.store, key, map_bytes=MAP_BYTES)
    batch = Batch()
    batch.put("meta", b"key", bytes(1000))
    store.commit(batch)
    store.close()
    claimed.release()
    assert said == []


def test_what_is_no_copy_or_lies_on_another_disk_or_is_linked_twice_makes_no_room(
    disk: NodeDisk, tmp_path: Path
) -> None:
    snapshots = disk.path / "data" / "snapshots"
    snapshots.mkdir(parents=True)
    (tmp_path / "elsewhere").write_bytes(bytes(64 << 20))
    (snapshots / "out-1").symlink_to(tmp_path / "elsewhere")
    (disk.path / "kept").write_bytes(bytes(32 << 20))
    os.link(disk.path / "kept", snapshots / "out-2")
    (snapshots / "out-3").write_bytes(bytes(1 << 20))
    (line,) = wait_on_a_full(disk)
    assert "has 1048576 bytes free of" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_directory_of_another_user_is_not_waited_for_but_refused_with_the_next_step(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # the modules are loaded: nobody may not be allowed to
        try:
            os.setuid(65_534)
            with socket.create_server(("127.0.0.1", 0)) as ops:
                until_room(directory, ops, lambda line: os.write(writer, line.encode()))
            DataDir.claim(directory, uuid.uuid4(), 1)
        except DataDirError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    line = os.read(reader, 4096).decode()
    os.close(reader)
    assert line == (
        f"data directory {directory} cannot be used (Permission denied): "
        "check path, permissions and space"
    )
