"""What a node's process cannot do: dump core, be read by another process of its user."""

from __future__ import annotations

import subprocess
import sys

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
