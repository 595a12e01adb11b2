"""Small private files, replaced whole and durably, so that a kill at any moment leaves old or new.

New file (0600), fsync, rename, fsync of the folder. What a killed write leaves behind has one known
name, which the next write or removal takes along: a key or an open attempt never stays in a
forgotten file. Two writers at once are kept apart by a lock file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`, mode 0600; durable on return.

    Raises:
        OSError: the disk refused; what was there before is unchanged.

    """
    half = _half(path)
    half.unlink(missing_ok=True)  # of a killed write
    write_new(half, data)
    try:
        half.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            half.unlink()
        raise
    sync_folder(path.parent)


def write_new(path: Path, data: bytes, mode: int = 0o600) -> None:
    """A file that was not there before, its bytes on the disk; `sync_folder` keeps its name, too.

    Raises:
        OSError: something is there, or the disk refused; then nothing is left of it.

    """
    descriptor = os.open(path, _NEW, mode)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def remove_file(path: Path) -> None:
    """Remove it, and what a killed write of it left; nothing happens if there is none.

    The disk may still hold the bytes: only its own encryption guards against that.

    Raises:
        OSError: the folder does not allow it.

    """
    there = False
    for each in (_half(path), path):
        with contextlib.suppress(FileNotFoundError):
            each.unlink()
            there = True
    if there:
        sync_folder(path.parent)


def read_file(path: Path, limit: int) -> bytes | None:
    """At most `limit` bytes of the file, and one more if it is longer; None when there is none.

    Raises:
        OSError: not readable, or a symbolic link.

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        return file.read(limit + 1)


def take_lock(path: Path) -> int:
    """Lock the file `path`, made if need be; the descriptor is for `release_lock`.

    Raises:
        BlockingIOError: another call or process holds it.
        OSError: it can't be made or opened.

    """
    descriptor = os.open(path, _LOCK, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def release_lock(descriptor: int) -> None:
    """Let others take it.

    Not by close alone: a child that another thread forks meanwhile shares the lock until it execs,
    and the next call here would find the file in use.
    """
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the names in it on the disk.

    Raises:
        OSError: the disk refused.

    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _half(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
