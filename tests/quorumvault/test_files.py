"""Private files: whole and durable, or as they were; and nothing of a failed write stays."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from quorumvault._files import read_file, remove_file, replace_file, write_new

KEY = bytes(range(32))


def test_a_half_written_file_is_taken_along_by_the_next_write_or_removal(tmp_path):
    path = tmp_path / "key.next"
    (tmp_path / ".key.next.new").write_bytes(b"half a key")
    replace_file(path, KEY)
    assert [each.name for each in tmp_path.iterdir()] == ["key.next"]
    (tmp_path / ".key.next.new").write_bytes(b"half a key")
    remove_file(path)
    remove_file(path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_on_the_disk_before_it_takes_the_old_ones_place(tmp_path, monkeypatch):
    seen = []
    fsync, replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        seen.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def rename(path: Path, target: Path) -> Path:
        seen.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", rename)
    replace_file(tmp_path / "x", b"new")
    assert seen == ["file", "rename", "folder"]


def test_a_write_that_was_killed_leaves_the_old_file_and_nothing_after_the_next(tmp_path):
    path = tmp_path / "x"
    replace_file(path, b"old")
    child = os.fork()
    if child == 0:
        os.fsync = lambda _: os._exit(0)
        try:
            replace_file(path, b"new")
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert read_file(path, 99) == b"old"
    assert len(list(tmp_path.iterdir())) == 2  # the old one, and what the killed write left
    replace_file(path, b"newer")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("x", b"newer")]


def test_a_new_file_never_takes_the_place_of_another(tmp_path):
    path = tmp_path / "digits"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_new(path, b"new")
    assert path.read_bytes() == b"old"


def test_nothing_is_left_of_a_new_file_for_which_the_disk_had_no_room(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_new(tmp_path / "digits", b"new")
    assert list(tmp_path.iterdir()) == []
