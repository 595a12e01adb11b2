"""What a backup writes or reads once does not stay in the page cache, where a disk allows that."""

from __future__ import annotations

import ctypes
import errno
import math
import os

import pytest
from made_backup import Tree, put_backup

from quorumvault.backup.keys import Keys
from quorumvault.backup.objects import CONTENT_BYTES
from quorumvault.backup.page_cache import LARGE_BYTES, let_go, write_out
from quorumvault.backup.restore import restore
from quorumvault.backup.storage import Storage

KEYS = Keys.of(bytes(range(32)))
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
READ, SHARED = 1, 1
FEW = 64
"""Pages that two parts share, or that the system has in hand; of 2,048 and more."""


def cached(path) -> int:
    """How many of a file's pages are in the cache (mincore(2)), which this look leaves as it is."""
    size = path.stat().st_size
    pages = -(-size // os.sysconf("SC_PAGESIZE"))
    told = (ctypes.c_ubyte * pages)()
    with path.open("rb") as file:
        size_, start_ = ctypes.c_size_t(size), ctypes.c_int64(0)
        found = LIBC.mmap(None, size_, READ, SHARED, file.fileno(), start_)
    assert LIBC.mincore(ctypes.c_void_p(found), size_, told) == 0
    assert LIBC.munmap(ctypes.c_void_p(found), size_) == 0
    return sum(each & 1 for each in told)


@pytest.fixture
def most(tmp_path) -> float:
    """How many pages of a file may stay here: any number where the disk is memory or an overlay."""
    path = tmp_path / "sample"
    with path.open("wb", buffering=0) as file:
        file.write(os.urandom(8 << 20))
        whole = ctypes.c_int64(0), ctypes.c_int64(8 << 20)
        assert LIBC.sync_file_range(file.fileno(), *whole, 7) == 0
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return FEW if cached(path) <= FEW else math.inf


def test_a_large_part_is_written_out_and_let_go(tmp_path, most):
    path = tmp_path / "file"
    with path.open("wb", buffering=0) as file:
        file.write(os.urandom(8 << 20))
        assert cached(path) == (8 << 20) // os.sysconf("SC_PAGESIZE")
        write_out(file.fileno(), 0, 8 << 20)
        assert cached(path) <= most


def test_what_is_small_is_left_to_the_cache(tmp_path):
    path = tmp_path / "file"
    with path.open("wb", buffering=0) as file:
        file.write(bytes(LARGE_BYTES - 1))
        write_out(file.fileno(), 0, LARGE_BYTES - 1)
        assert cached(path) == LARGE_BYTES // os.sysconf("SC_PAGESIZE")


def test_a_disk_that_fails_is_heard_and_one_that_cannot_do_it_is_not(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        closed = file.fileno()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        write_out(closed, 0, LARGE_BYTES)
    reader, writer = os.pipe()
    write_out(writer, 0, LARGE_BYTES)
    let_go(writer)
    os.close(reader)
    os.close(writer)


def test_a_restore_leaves_neither_the_objects_nor_the_files_in_the_cache(tmp_path, most):
    content = os.urandom(2 * CONTENT_BYTES)
    with Storage(str(tmp_path / "storage")) as storage:
        put_backup(storage, KEYS, Tree(files={"large": content}))
        storage.settle()
        restore(storage, KEYS, tmp_path / "back")
    assert (tmp_path / "back" / "large").stat().st_size == len(content)
    assert cached(tmp_path / "back" / "large") <= most
    objects = [path for path in (tmp_path / "storage").rglob("*") if path.is_file()]
    assert sum(cached(path) for path in objects if path.stat().st_size > LARGE_BYTES) <= most
    assert (tmp_path / "back" / "large").read_bytes() == content
