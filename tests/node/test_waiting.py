"""Whether a node waits for room before it touches its data directory (ADR 0011)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from chaos.process_disk import NodeDisk, why_no_mount
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
