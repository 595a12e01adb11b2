"""What a node's process cannot do: dump core, be read by its user's others, vanish in silence."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cluster.store import Store
from cluster.store_format import StoreDamagedError
from node.hardening import most_clients

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import os, resource
from node.hardening import harden
harden()
print(resource.getrlimit(resource.RLIMIT_CORE))
import ctypes
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE
"""


def test_core_dumps_are_off_and_the_process_is_not_dumpable():
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split("\n")[:2] == ["(0, 0)", "0"]


def test_it_may_open_as_many_files_as_the_system_lets_it():
    program = PROGRAM + (
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE); print(soft, hard)\n"
    )
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2048))\n"
    ended = subprocess.run(
        [sys.executable, "-c", few + program], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split("\n")[2] == "2048 2048"


@pytest.mark.parametrize(
    ("files", "clients"),
    [
        ((1024, 65_536), 3072),
        ((256, 4096), 3072),
        ((1024, 2048), 2048 - 704),
        ((256, 512), 64),
        ((100_000, 100_000), 3072),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 3072),
    ],
)
def test_so_many_clients_are_taken_that_files_are_left_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, files: tuple[int, int], clients: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: files)
    assert most_clients(3072) == clients


READER = """
import os, sys
from pathlib import Path
from cluster.ports import Batch
from cluster.store import Store
from node.hardening import harden
harden()
store = Store.open(Path(sys.argv[1]), bytes(32))
batch = Batch()
for number in range(2000):
    batch.put("log", number.to_bytes(8, "big"), bytes(100))
store.commit(batch)
os.truncate(Path(sys.argv[1]) / "data.mdb", 2 * 4096)  # what a disk with lost sectors looks like
list(store.items("log", b"", b"\\xff" * 9))
"""


def test_a_page_that_is_gone_ends_the_process_with_words_and_the_next_start_names_it(
    tmp_path: Path,
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGBUS
    assert ended.stderr.startswith("Fatal Python error: Bus error")
    with pytest.raises(StoreDamagedError, match="the file ends before it: this node must not go"):
        Store.open(tmp_path / "store", bytes(32))
