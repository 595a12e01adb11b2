"""What a process does to itself before it holds a secret, and how far its files go (I9, I11).

No core dump and no ptrace or /proc/PID/mem by an equal user: keys pass through this memory. And a
mapped page that the disk cannot give (SIGBUS) ends the process with words, not in silence.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import resource
from asyncio.sslproto import SSLProtocol
from typing import Final, Literal

ListenerName = Literal["client", "peer", "admin", "ops"]

OPEN_FILES: Final = 65_536
"""1,024 is what a service often begins with, and too few."""
OTHERS: Final[dict[ListenerName, int]] = {"peer": 256, "admin": 64, "ops": 128}
"""Connections: four peers have a link and four snapshots each; the console has 32 streams, and its
screens, probes and Prometheus come for a moment each."""
KEPT_FILES: Final = 256
"""For store, module, links, snapshots and log: some 30 in use, with room."""
MIN_CLIENTS: Final = 64
"""Also where the system gives a node fewer files than it should have."""
TLS_BUFFER_BYTES: Final = 32 << 10
"""What asyncio keeps ready to read per TLS connection, also for one that never speaks. Its own
256 KiB made 1,500 strangers 460 MB; a tenth of that loses nothing that a node notices."""
PR_SET_DUMPABLE: Final = 4
"""From linux/prctl.h."""


def open_files() -> int:
    """Files that a node may have open when it runs here, once it has helped itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return OPEN_FILES
    return max(soft, OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES))


def files_needed(clients: int) -> int:
    """Files of a node all of whose listeners are full."""
    return clients + sum(OTHERS.values()) + KEPT_FILES


def most_clients(wanted: int) -> int:
    """Connections that the client listener takes: as wanted, if the files last."""
    return min(wanted, max(MIN_CLIENTS, open_files() - files_needed(0)))


def harden() -> None:
    """Switch core dumps off, make the process not dumpable, allow it its files, spare memory.

    Raises:
        OSError: the kernel refused; the node must not start.

    """
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # no standard error to write to
        # Function names and line numbers, never values.
        faulthandler.enable(all_threads=False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files(), hard))
    SSLProtocol.max_size = TLS_BUFFER_BYTES
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_DUMPABLE, 0): {os.strerror(number)}")
