"""Whether a node waits for room before it touches its data directory (ADR 0011)."""

from __future__ import annotations

import os
import socket
import uuid
from typing import TYPE_CHECKING

import pytest

from chaos.process_disk import NodeDisk, why_no_mount
from cluster.datadir import DataDir, DataDirError
from node.waiting import until_room

if TYPE_CHECKING:
    from pathlib import Path


def test_a_disk_with_room_is_not_waited_for(tmp_path: Path) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as ops:
        until_room(tmp_path / "not" / "yet" / "made", ops, said.append)
    assert said == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(why_no_mount() is not None, reason=str(why_no_mount()))
def test_it_says_how_much_is_missing_and_goes_on_when_that_is_free(tmp_path: Path) -> None:
    disk = NodeDisk(tmp_path / "disk", tmp_path / "aside")
    disk.mount()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        disk.free()

    try:
        disk.fill()
        with socket.create_server(("127.0.0.1", 0)) as ops:
            until_room(disk.path / "data", ops, say)
            assert ops.getsockname(), "the listener stays open for the node"
    finally:
        disk.unmount()
    (line,) = said
    assert line.startswith(f"waiting for room: data directory {disk.path}/data has 0 bytes free")
    assert "make 6710887 free" in line


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
