"""Keeps what a backup writes and reads only once from filling the system's page cache.

A backup passes over far more bytes than are wanted again soon. In the cache they push out what
others use, and each fresh page has to be found by the kernel (in a virtual machine by its host
first), which takes longer than the cipher; a page that was let go serves for what comes next.

None of it makes a file durable, that is for a sync. Elsewhere than on Linux nothing happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from typing import Final

__all__ = ["let_go", "write_out"]

LARGE_BYTES: Final = 262_144
"""What is smaller stays in the cache, which has the disk write many of them in one go."""
_WAIT_WRITE_WAIT: Final = 7  # the three flags of sync_file_range(2)
_CANT: Final = frozenset([errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ESPIPE])
_libc: Final = ctypes.CDLL(None, use_errno=True)


def let_go(descriptor: int, offset: int = 0, length: int = 0) -> None:
    """Have the disk begin to write what it has not yet, and drop from the cache what it has.

    Advice, which the system may pass over; a length of 0 means to the end of the file.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


def write_out(descriptor: int, offset: int, length: int) -> None:
    """Wait until the disk has got so much of a file, and let it go.

    On an overlay (of a container) Linux does not wait, and lets go of less.

    Raises:
        OSError: the disk failed to write it.

    """
    if sys.platform != "linux" or length < LARGE_BYTES:
        return
    part = (ctypes.c_int64(offset), ctypes.c_int64(length))
    if _libc.sync_file_range(descriptor, *part, _WAIT_WRITE_WAIT) != 0:
        number = ctypes.get_errno()
        if number not in _CANT:
            raise OSError(number, os.strerror(number))
    let_go(descriptor, offset, length)
