"""The snapshot directory: files that are only copies, so none is synced and any may vanish.

Names are plain (no path can leave the directory); only those that begin `out-` are ever handed
to a peer. The real twin of `cluster.ports.SnapshotFiles`.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import BinaryIO

OUT_PREFIX: Final = "out-"
STAT_BLOCK_BYTES: Final = 512
"""What POSIX's st_blocks counts in, whatever the file system's blocks are."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def is_plain(name: str) -> bool:
    """True for a name that stays inside the directory."""
    return _NAME.fullmatch(name) is not None


def bytes_of_copies(path: Path) -> int:
    """Bytes of the disk that come free when the snapshot directory `path` is emptied.

    Only looks; what cannot be looked at counts for nothing. Nor does what another name still
    keeps, or what lies on another disk.
    """
    freed = 0
    try:
        device = os.lstat(path.parent).st_dev
        for entry in path.iterdir():
            state = entry.lstat()
            alone = stat.S_ISREG(state.st_mode) and state.st_nlink == 1
            if alone and state.st_dev == device and is_plain(entry.name):
                freed += state.st_blocks * STAT_BLOCK_BYTES
    except OSError:  # not there yet, not ours, or a running node has just removed one
        return freed
    return freed


class SnapshotDirectory:
    """Snapshot files below one directory, which exists."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def path_of(self, name: str) -> Path:
        """Where the file is or would be.

        Raises:
            ValueError: the name is not plain.

        """
        if not is_plain(name):
            raise ValueError(f"{name[:64]!r} is not the plain name of a snapshot file")
        return self._path / name

    def create(self, name: str) -> BinaryIO:
        """A new file (0600), replacing any other of that name."""
        path = self.path_of(name)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        return os.fdopen(handle, "wb")

    def open(self, name: str) -> BinaryIO:
        """Raises FileNotFoundError."""
        return self.path_of(name).open("rb")

    def remove(self, name: str) -> None:
        """No error when absent."""
        self.path_of(name).unlink(missing_ok=True)

    def names(self) -> Sequence[str]:
        """Every file there, sorted."""
        return sorted(entry.name for entry in self._path.iterdir() if is_plain(entry.name))

    def free_bytes(self) -> int:
        """What the disk has left for this process."""
        disk = os.statvfs(self._path)
        return disk.f_bavail * disk.f_frsize
