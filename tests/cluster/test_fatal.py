"""However a node ends, it ends: one line if that can be written, and the exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.fatal import EXIT_FATAL

ROOT = Path(__file__).parents[2]
END = """
import threading
from cluster.fatal import end_process
threading.Thread(target=end_process, args=("the disk\\nis gone",)).start()
threading.Event().wait()
"""


def ended(stderr: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", END], cwd=ROOT, stderr=stderr, timeout=30, check=False
    )


def test_it_ends_from_any_thread_with_one_line() -> None:
    end = ended(subprocess.PIPE)
    assert (end.returncode, end.stderr) == (EXIT_FATAL, b"quorumvault: fatal: the disk is gone\n")


@pytest.mark.parametrize("place", ["/dev/full", None])
def test_it_ends_also_when_the_line_cannot_be_written(place: str | None) -> None:
    """Standard error may be a file on the very disk that is full, or closed."""
    if place is None:
        closed = [sys.executable, "-c", "import os; os.close(2)\n" + END]
        end = subprocess.run(closed, cwd=ROOT, timeout=30, check=False)
    else:
        with Path(place).open("wb") as full:
            end = ended(full)
    assert end.returncode == EXIT_FATAL
