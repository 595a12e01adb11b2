"""Folders by descriptor, moves that never replace, and the removal of what we made.

Whoever can write beside us may swap a folder for a symlink while we work. So every path is walked
component by component from a folder that is held open, and no component may be a symlink: what was
looked at is what is written to. A move into place fails where something is; there is no moment in
which a file of the owner's could be replaced.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import stat
import sys
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from quorumvault.backup.errors import (
    NameNotPossible,
    NoSpace,
    TargetError,
    TargetExists,
    TargetRefused,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from quorumvault.backup import manifest_frames

__all__ = [
    "FOLDER_FLAGS",
    "Folders",
    "clear_tree",
    "move_new",
    "open_target",
    "refused",
    "remove_tree",
    "sync_disk",
    "unmake_target",
]

FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PASSING: Final = FOLDER_FLAGS | getattr(os, "O_PATH", 0)  # a folder on the way: no need to list it
_KEPT: Final = 64  # folders held open; 1,024 descriptors are the usual limit

_libc: Final = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE: Final = 1  # renameat2(2), Linux
_RENAME_EXCL: Final = 4  # renameatx_np(2), macOS
_CANT_TELL: Final = frozenset([errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
_NO_LINKS: Final = frozenset([errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK, errno.EACCES])


def refused(error: OSError, what: str) -> TargetError:
    """The error that an owner can understand for what the target's disk answered."""
    said = error.strerror or type(error).__name__
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpace(f"no room for {what}: {said}; make room and try again")
    if error.errno == errno.EFBIG:
        return NoSpace(f"the disk can't hold a file as large as {what}: {said}")
    if error.errno == errno.EEXIST:
        return TargetExists(f"{what} is there already; it was not touched")
    if error.errno in {errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG}:
        return NameNotPossible(f"the disk can't have {what}: {said}; restore to another disk")
    if error.errno in {errno.ELOOP, errno.ENOTDIR}:
        return TargetRefused(f"{what} is a symlink or no folder, or lies beneath one: {said}")
    return TargetRefused(f"can't write {what}: {said}; restore to one where you may write")


# ---------------------------------------------------------------- the way to the target


def open_target(target: Path) -> tuple[int, int]:
    """Open the folder to restore into, made with its parents where it is not there.

    Returns:
        Its descriptor, which the caller closes, and how many folders at the end of the path were
        made for it (0700).

    Raises:
        TargetRefused: a symlink or a file is in the way, or no permission; what was made is gone.

    """
    names = [*target.parts[1:], "."] if target.anchor else [*target.parts, "."]
    may_make = ".." not in names
    made = 0
    here = os.open(target.anchor or ".", _PASSING)
    for number, name in enumerate(names, start=1):
        try:
            made += may_make and _make(here, name)
            flags = FOLDER_FLAGS if number == len(names) else _PASSING
            inner = os.open(name, flags, dir_fd=here)
        except OSError as error:
            problem = _why_not(here, name, target, error)
            os.close(here)
            unmake_target(target, made)
            raise problem from error
        os.close(here)
        here = inner
    return here, made


def _make(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.mkdir(name, 0o700, dir_fd=folder)
        return True
    return False


def _why_not(folder: int, name: str, target: Path, error: OSError) -> TargetRefused:
    try:
        is_link = stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        is_link = False
    if is_link:
        return TargetRefused(
            f"{name} in {target} is a symlink, and restore follows none; give the path that it"
            f" leads to: {target.resolve()}"
        )
    if error.errno == errno.ENOTDIR:
        return TargetRefused(f"{name} in {target} is no folder; choose another target")
    return TargetRefused(f"can't restore to {target}: {error.strerror} ({name})")


def unmake_target(target: Path, made: int) -> None:
    """Remove the last `made` folders of the path where they are empty."""
    with contextlib.suppress(OSError):
        for folder in (target, *target.parents)[:made]:
            folder.rmdir()


# ---------------------------------------------------------------- folders beneath one root


class _Open:
    """A folder held open and how many use it just now."""

    __slots__ = ("descriptor", "users")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.users = 1


class Folders:
    """The folders beneath one root by their paths, some kept open; for any number of threads.

    Raises:
        OSError: ELOOP or ENOTDIR where a component is a symlink or a file, and what the disk says.

    """

    def __init__(self, root: int) -> None:
        """Work beneath the open folder `root`, which the caller closes after this."""
        self._root = root
        self._lock = threading.Lock()
        self._open: OrderedDict[manifest_frames.Path, _Open] = OrderedDict()

    @contextlib.contextmanager
    def at(self, path: manifest_frames.Path) -> Iterator[int]:
        """The descriptor of the folder, good until the block ends."""
        if not path:
            yield self._root
            return
        held = self._acquire(path)
        try:
            yield held.descriptor
        finally:
            self._release(held)

    def close(self) -> None:
        """Close all; none may be in use."""
        with self._lock:
            for held in self._open.values():
                os.close(held.descriptor)
            self._open.clear()

    def _acquire(self, path: manifest_frames.Path) -> _Open:
        with self._lock:
            held = self._open.get(path)
            if held is not None:
                held.users += 1
                self._open.move_to_end(path)
                return held
            above, known = self._nearest(path)
        try:
            fresh = _Open(self._descend(above, path[known:]))
        finally:
            if above is not None:
                self._release(above)
        with self._lock:
            other = self._open.get(path)
            if other is not None:
                os.close(fresh.descriptor)
                other.users += 1
                return other
            self._open[path] = fresh
            self._shed()
        return fresh

    def _nearest(self, path: manifest_frames.Path) -> tuple[_Open | None, int]:
        """The deepest open folder above `path`, now in use, and how many components it has."""
        for length in range(len(path) - 1, 0, -1):
            held = self._open.get(path[:length])
            if held is not None:
                held.users += 1
                return held, length
        return None, 0

    def _descend(self, above: _Open | None, names: manifest_frames.Path) -> int:
        start = self._root if above is None else above.descriptor
        here = start
        for name in names:
            try:
                inner = os.open(name, FOLDER_FLAGS, dir_fd=here)
            finally:
                if here != start:
                    os.close(here)
            here = inner
        return here

    def _release(self, held: _Open) -> None:
        with self._lock:
            held.users -= 1
            self._shed()

    def _shed(self) -> None:
        if len(self._open) <= _KEPT:
            return
        for path, held in list(self._open.items()):
            if not held.users:
                os.close(held.descriptor)
                del self._open[path]
                if len(self._open) <= _KEPT:
                    return


# ---------------------------------------------------------------- moves


def move_new(source: int, name: bytes, target: int, new_name: bytes) -> None:
    """Move a file or folder to a name that nothing has; both folders are on one disk.

    Raises:
        FileExistsError: something has that name; nothing was moved or replaced.
        OSError: as the system says.

    """
    try:
        _rename_exclusively(source, name, target, new_name)
    except OSError as error:
        if error.errno not in _CANT_TELL:
            raise
    else:
        return
    if stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
        move_folder_plainly(source, name, target, new_name)
    else:
        move_file_plainly(source, name, target, new_name)


def _rename_exclusively(source: int, name: bytes, target: int, new_name: bytes) -> None:
    if sys.platform == "darwin":
        call, flag = getattr(_libc, "renameatx_np", None), _RENAME_EXCL
    else:
        call, flag = getattr(_libc, "renameat2", None), _RENAME_NOREPLACE
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(source, name, target, new_name, flag) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(new_name))


def move_folder_plainly(source: int, name: bytes, target: int, new_name: bytes) -> None:
    """As `move_new` for a folder, where the disk knows no exclusive rename.

    Made first, so that only one can have made it; a rename then replaces an empty folder only.
    """
    os.mkdir(new_name, 0o700, dir_fd=target)
    try:
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.rmdir(new_name, dir_fd=target)
        raise


def move_file_plainly(source: int, name: bytes, target: int, new_name: bytes) -> None:
    """As `move_new` for a file: by a hard link, or over an empty file that only we made."""
    try:
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        move_file_over_own(source, name, target, new_name)
    else:
        os.unlink(name, dir_fd=source)


def move_file_over_own(source: int, name: bytes, target: int, new_name: bytes) -> None:
    """Take the name with an empty file that is made exclusively, then rename over that."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(new_name, flags, 0o600, dir_fd=target))
    try:
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new_name, dir_fd=target)
        raise


# ---------------------------------------------------------------- disk


def sync_disk(folder: int) -> None:
    """Return when all that was written to the disk of this folder is on it.

    Raises:
        OSError: the disk failed to write some of it (Linux 5.8 and later tell).

    """
    call = getattr(_libc, "syncfs", None)
    if call is None:
        os.sync()
        os.fsync(folder)
    elif call(folder) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def remove_tree(parent: int, name: bytes) -> None:
    """Remove a folder with all that is in it, of any depth; symlinks in it are not followed.

    Only where nobody else can write to `parent`: what has the name is what is removed.

    Raises:
        OSError: as the system says.

    """
    top = os.open(name, FOLDER_FLAGS, dir_fd=parent)
    try:
        clear_tree(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def clear_tree(top: int) -> None:
    """Remove all that is in an open folder, of any depth; symlinks in it are not followed.

    Folders are lifted to the top before they are emptied, so that neither recursion nor the number
    of open folders grows with the depth. All folders in it are its owner's with mode 0700 or more.

    Raises:
        OSError: as the system says.

    """
    while folders := _empty(top):
        for folder in folders:
            inner = os.open(folder, FOLDER_FLAGS, dir_fd=top)
            try:
                for deeper in _empty(inner):
                    lifted = f".lifted-{secrets.token_hex(8)}"
                    os.rename(deeper, lifted, src_dir_fd=inner, dst_dir_fd=top)
            finally:
                os.close(inner)
            os.rmdir(folder, dir_fd=top)


def _empty(folder: int) -> list[str]:
    """Remove all files of a folder; the folders that remain in it."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in found if is_folder]
