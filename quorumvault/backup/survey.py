"""Looks through a whole manifest before anything is fetched: could all of it be put in place?

Names that the system can't have, files that are there already, symlinks where a folder should be,
room on the disk, wishes that the backup does not fulfil: each is told here, while nothing but the
manifest was read and nothing was made.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Final

from quorumvault.backup.errors import (
    NameNotPossible,
    NoSpace,
    TargetError,
    TargetExists,
    TargetRefused,
)
from quorumvault.backup.manifest import File, Folder
from quorumvault.backup.names import shown, why_impossible
from quorumvault.backup.place import refused
from quorumvault.backup.staging import Totals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quorumvault.backup.manifest import Frame, Path
    from quorumvault.backup.place import Folders
    from quorumvault.backup.selection import Selection
    from quorumvault.backup.staging import Ticket

__all__ = ["Survey", "human_bytes"]

_NAMED: Final = 5  # files that a message names, of those that are in the way


class Survey:
    """What a restore would bring, and what is in its way."""

    def __init__(self, target: Folders, disk: int, *, system: str = sys.platform) -> None:
        """Prepare.

        Args:
            target: the folders beneath the target.
            disk: the device number of the staging folder.
            system: whose rules for names hold, as `sys.platform` has it.

        """
        self._target = target
        self._disk = disk
        self._system = system
        self._merged: set[Path] = {()}  # folders that are in the target already
        self._in_the_way: list[str] = []
        self._in_the_way_count = 0
        self._files = self._folders = self._bytes = 0
        self._late: list[tuple[Path, int]] = []
        self._room = 0
        self._refusal: TargetError | None = None

    def look(self, frames: Iterable[Frame], selection: Selection, *, block: int) -> None:
        """Go through all frames; a file takes whole blocks of `block` bytes on the disk.

        Raises:
            Damaged: the manifest is.

        """
        for frame in frames:
            # To the end in any case: damage to the manifest counts more than a name in it.
            if isinstance(frame, File | Folder) and selection.takes(frame):
                try:
                    self._take(frame, block)
                except TargetError as error:
                    self._refusal = self._refusal or error

    def verdict(self, ticket: Ticket) -> Totals:
        """What there is to restore, if all of it can be.

        Raises:
            NameNotPossible: this system can't have a name.
            TargetExists: files are there already; names the first ones.
            TargetRefused: a symlink or another disk is in the way.

        """
        if self._refusal is not None:
            raise self._refusal
        if self._in_the_way_count:
            raise self._exists()
        return Totals(ticket, self._files, self._folders, self._bytes, tuple(self._late))

    def check_room(self, folder: int, have: int) -> None:
        """Compare with what is free on the folder's disk; `have` bytes are in the staging already.

        Raises:
            NoSpace: less than what is needed.

        """
        disk = os.fstatvfs(folder)
        if not disk.f_blocks:
            return  # a file system without a size
        free = (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize
        if self._room - have > free:
            raise NoSpace(
                f"the files need {human_bytes(self._room - have)}, the disk of the target has"
                f" {human_bytes(free)} free: make room or restore a part with --only"
            )
        entries = self._files + self._folders
        inodes = disk.f_favail if os.geteuid() else disk.f_ffree
        if disk.f_files and not have and entries > inodes:
            raise NoSpace(
                f"there are {entries:,} files and folders, the disk of the target has room for"
                f" {inodes:,} more: restore to another disk or a part with --only"
            )

    def _take(self, frame: File | Folder, block: int) -> None:
        path = frame.path
        why = why_impossible(path[-1], system=self._system)
        if why is not None:
            raise NameNotPossible(
                f"this system can't have {shown(path)}: {shown(path[-1:])} {why}. Restore on"
                " another system, or the other files by --only"
            )
        is_folder = isinstance(frame, Folder)
        if path[:-1] in self._merged:
            self._look_at(path, is_folder=is_folder)
        if isinstance(frame, Folder):
            self._folders += 1
            self._room += block
            if frame.mode & 0o700 != 0o700:
                self._late.append((path, frame.mode & 0o777))
        else:
            self._files += 1
            self._bytes += frame.size
            self._room += -(-frame.size // block) * block

    def _look_at(self, path: Path, *, is_folder: bool) -> None:
        """What the target has under this path."""
        try:
            with self._target.at(path[:-1]) as folder:
                found = os.stat(path[-1], dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            raise refused(error, shown(path)) from error
        if is_folder and stat.S_ISLNK(found.st_mode):
            raise TargetRefused(
                f"{shown(path)} is a symlink in the target, and restore follows none: move it"
                " away or restore elsewhere"
            )
        if is_folder and stat.S_ISDIR(found.st_mode):
            if found.st_dev != self._disk:
                raise TargetRefused(
                    f"{shown(path)} is on another disk than the target: restore to an empty"
                    " folder and move the files from there"
                )
            self._merged.add(path)
            return
        self._in_the_way_count += 1
        if len(self._in_the_way) < _NAMED:
            self._in_the_way.append(shown(path))

    def _exists(self) -> TargetExists:
        more = self._in_the_way_count - len(self._in_the_way)
        and_more = f" and {more:,} more" if more else ""
        verb = "is" if self._in_the_way_count == 1 else "are"
        return TargetExists(
            f"{', '.join(self._in_the_way)}{and_more} {verb} in the target already; nothing was"
            " restored and nothing touched: restore to an empty folder, or move them away"
        )


def human_bytes(count: int) -> str:
    """A number of bytes for people, with binary units."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
