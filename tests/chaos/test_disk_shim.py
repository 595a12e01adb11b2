"""The failing disk fails when told to, only there, and only as often as told."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from chaos.disk_shim import DiskShim, build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WRITER = """
import os, sys
files = [os.open(path, os.O_RDWR | os.O_CREAT) for path in sys.argv[1:]]
for line in sys.stdin:
    call, which = line.split()
    try:
        {"write": lambda fd: os.pwrite(fd, b"x", 0), "sync": os.fsync}[call](files[int(which)])
        print("ok", flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""


class Writer:
    """A process under the shim that writes or syncs file 0 (below) or 1 (elsewhere) when asked."""

    def __init__(self, folder: Path) -> None:
        (folder / "data").mkdir()
        self.shim = DiskShim(build(folder), folder / "rules", folder / "data")
        files = [str(folder / "data" / "file"), str(folder / "elsewhere")]
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, *files],
            env=self.shim.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def does(self, call: str, which: int = 0) -> str:
        self.process.stdin.write(f"{call} {which}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.communicate()
        self.shim.close()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writing = Writer(tmp_path)
    yield writing
    writing.close()


def test_nothing_fails_while_no_rule_is_set(writer: Writer) -> None:
    assert [writer.does("write"), writer.does("sync")] == ["ok", "ok"]
    assert (writer.shim.hits("write"), writer.shim.hits("sync")) == (0, 0)


def test_a_rule_works_while_the_process_runs_as_often_as_told(writer: Writer) -> None:
    assert writer.does("sync") == "ok"
    writer.shim.set("sync", error=errno.EIO, times=2)
    assert [writer.does("sync") for _ in range(3)] == [str(errno.EIO)] * 2 + ["ok"]
    assert writer.does("write") == "ok"
    assert writer.shim.hits("sync") == 2


def test_a_rule_without_end_ends_when_healed(writer: Writer) -> None:
    writer.shim.set("write", error=errno.ENOSPC)
    assert {writer.does("write") for _ in range(5)} == {str(errno.ENOSPC)}
    writer.shim.heal()
    assert writer.does("write") == "ok"


def test_files_elsewhere_are_left_alone(writer: Writer) -> None:
    writer.shim.set("write", error=errno.EIO)
    assert [writer.does("write", 1), writer.does("write", 0)] == ["ok", str(errno.EIO)]


def test_a_slow_sync_takes_its_time_and_passes(writer: Writer) -> None:
    writer.shim.set("sync", delay_s=0.2)
    began = time.monotonic()
    assert writer.does("sync") == "ok"
    assert time.monotonic() - began >= 0.2
