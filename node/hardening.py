"""What a process does to itself before it holds a secret (keeps I9, I11).

No core dump and no ptrace or /proc/PID/mem by an equal user: keys pass through this memory. And a
mapped page that the disk cannot give (SIGBUS) ends the process with words, not in silence.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import resource
from typing import Final

OPEN_FILES: Final = 65_536
"""Connections cost one each. 1,024 is what a service often begins with, and idle strangers at the
client listener would use that up: then no peer gets in either."""
PR_SET_DUMPABLE: Final = 4
"""From linux/prctl.h."""


def harden() -> None:
    """Switch core dumps off, make the process not dumpable, and allow it its open files.

    Raises:
        OSError: the kernel refused; the node must not start.

    """
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # no standard error to write to
        # Function names and line numbers, never values.
        faulthandler.enable(all_threads=False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_DUMPABLE, 0): {os.strerror(number)}")
