"""Small private files, replaced whole and durably, so that a kill at any moment leaves old or new.

New file (0600), fsync, rename, fsync of the folder. What a killed write leaves behind has one known
name, which the next write or removal takes along: a key never stays in a forgotten file.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`, mode 0600; durable on return.

    Raises:
        OSError: the disk refused; what was there before is unchanged.

    """
    half = _half(path)
    half.unlink(missing_ok=True)  # of a killed write
    try:
        descriptor = os.open(half, _NEW, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            half.unlink(missing_ok=True)
        raise
    _sync(path.parent)


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
        _sync(path.parent)


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


def _half(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
