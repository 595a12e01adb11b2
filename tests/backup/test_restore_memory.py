"""However much is restored or verified, memory stays bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from made_backup import Tree, put_backup

from quorumvault.backup.keys import Keys
from quorumvault.backup.objects import CONTENT_BYTES
from quorumvault.backup.storage import Storage

if TYPE_CHECKING:
    from pathlib import Path

KEYS = Keys.of(bytes(range(32)))
CHUNKS = 64
LIMIT_BYTES = 100 * 1_048_576  # with 4 threads; the whole is 256 MiB
WORK = """
import resource, sys
from pathlib import Path
from quorumvault.backup.keys import Keys
from quorumvault.backup.restore import restore
from quorumvault.backup.storage import Storage
from quorumvault.backup.verify import verify

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

base, keys = peak(), Keys.of(bytes(range(32)))
with Storage(sys.argv[1]) as storage:
    if sys.argv[2] == "verify":
        verify(storage, keys, workers=4)
    else:
        restore(storage, keys, Path(sys.argv[2]), workers=4)
print(peak() - base)
"""


@pytest.mark.parametrize("work", ["restore", "verify"])
def test_memory_stays_bounded(ground: Path, work: str) -> None:
    part = os.urandom(CONTENT_BYTES - 8)
    tree = Tree({"messages.db": b"".join(b"%08d" % n + part for n in range(CHUNKS))})
    with Storage(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, tree)
    target = "verify" if work == "verify" else str(ground / "target")
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(ground / "storage"), target],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < LIMIT_BYTES
    if work == "restore":
        assert (ground / "target" / "messages.db").read_bytes() == tree.files["messages.db"]
