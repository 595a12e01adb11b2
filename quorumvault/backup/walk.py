"""The files and folders to back up, in a stable order and never through a symlink.

Every folder is opened from the one above it (openat, O_NOFOLLOW), so whoever swaps a folder for a
symlink meanwhile leads the walk nowhere. Open folders are few however deep the tree is: those far
above are closed and opened again by ``..``, and must be the same ones then.

Order: by the bytes of the names, a folder before what is in it. A manifest needs just that, so a
file that was renamed to an earlier name while its folder was read is one for another walk: then
`renamed` is set.

SQLite keeps a database in two files while it is used: `messages.db`, and what was written lately in
`messages.db-wal` (or what undoes it in `messages.db-journal`). Each may be read without a change
and the two not belong together, if the one was written into the other in between. So a database
must be as it was read until its log has been read; else `torn` is set, for another walk.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quorumvault.backup.errors import SourceChanged, SourceRefused, SourceUnreadable
from quorumvault.backup.manifest_frames import check_path, kept_time
from quorumvault.backup.sources import leave_out, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from quorumvault.backup.errors import SourceError
    from quorumvault.backup.exclude import Exclude
    from quorumvault.backup.sources import Source

__all__ = ["Entry", "Walk"]

LISTINGS: Final = 16
"""How often a folder is listed when things in it vanish (they may have been renamed)."""
KEPT_OPEN: Final = 64
"""Levels whose folders stay open; further ones up are opened again on the way back."""
_PLAIN_DEPTH: Final = 64
_PLAIN_BYTES: Final = 1_024  # within these two no path of a disk breaks a rule of `check_path`

_LOGS: Final = (b"-journal", b"-wal")

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PASSING: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(slots=True)
class _Level:
    """One folder on the way down."""

    path: tuple[bytes, ...]
    descriptor: int  # -1 while closed
    identity: tuple[int, int]
    names: list[bytes]
    at: int = 0
    listings: int = 1

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Entry:
    """A file or folder that was met; use it before the walk goes on.

    Attributes:
        path: its names in the backup, from the source's own name on.
        is_folder: whether it is a folder; else it is a regular file.
        size: bytes, as the walk saw it; 0 for a folder.
        mtime_ns: modification time, ns since 1970.
        mode: permission bits.

    """

    __slots__ = ("_level", "_source", "is_folder", "mode", "mtime_ns", "path", "size")

    def __init__(
        self, source: Source, level: _Level, path: tuple[bytes, ...], status: os.stat_result
    ) -> None:
        self._source = source
        self._level = level
        self.path = path
        self.is_folder = stat.S_ISDIR(status.st_mode)
        self.size = 0 if self.is_folder else status.st_size
        self.mtime_ns = kept_time(status.st_mtime_ns)
        self.mode = stat.S_IMODE(status.st_mode)

    @property
    def shown(self) -> str:
        """The full path on this device, for messages."""
        return _shown(self._source, self.path)

    def open(self) -> int | None:
        """Open the file for reading; None when it is gone (then tell the walk: `vanished`).

        Raises:
            OSError: it can't be opened; ELOOP when it became a symlink.

        """
        try:
            return os.open(self.path[-1], _FILE, dir_fd=self._level.descriptor)
        except FileNotFoundError:
            return None


class Walk:
    """One walk over all sources.

    Args:
        sources: what `gather` found.
        exclude: what stays out.
        keep_out: folders that must not be met (those that `gather` was given).
        skip_unreadable: note what can't be backed up in `skipped` instead of raising.

    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        exclude: Exclude,
        keep_out: Sequence[Path] = (),
        skip_unreadable: bool = False,
    ) -> None:
        self._sources = sources
        self._exclude = exclude
        self._skip = skip_unreadable
        self._keep_out = _identities(keep_out)
        self._levels: list[_Level] = []
        self._databases: dict[tuple[bytes, ...], tuple[int, ...]] = {}
        self.skipped: list[str] = []
        self.renamed: str | None = None
        self.torn: str | None = None

    def vanished(self, entry: Entry) -> None:
        """Tell that the last entry is gone: its folder is listed again, for its new name.

        Raises:
            SourceUnreadable: it was a source itself.

        """
        self._gone(entry._source, entry._level)  # noqa: SLF001 - of the same module
        self._check_database(entry._source, entry._level, entry.path)  # noqa: SLF001

    def look_for_logs(self, entry: Entry) -> None:
        """See to it that the log of this database is met, if it came after the listing."""
        level = entry._level  # noqa: SLF001 - of the same module
        for end in _LOGS:
            log = entry.path[-1] + end
            if not _holds(level.names, log) and _is_there(level, log):
                self._gone(entry._source, level)  # noqa: SLF001

    def has_read(self, entry: Entry, status: os.stat_result) -> None:
        """Tell that the last entry was read, and had this status all the while."""
        name, level = entry.path[-1], entry._level  # noqa: SLF001 - of the same module
        if any(_holds(level.names, name + end) for end in _LOGS):
            self._databases[entry.path] = _stamp(status)
        self._check_database(entry._source, level, entry.path)  # noqa: SLF001

    def _check_database(self, source: Source, level: _Level, log: tuple[bytes, ...]) -> None:
        """What was read as `log`, or is gone, may be the log of a database that was read before."""
        for end in _LOGS:
            path = (*log[:-1], log[-1].removesuffix(end))
            before = self._databases.get(path)
            if before is None or path == log:
                continue
            try:
                status = os.stat(path[-1], dir_fd=level.descriptor, follow_symlinks=False)
            except OSError:
                self.torn = _shown(source, path)
                continue
            if _stamp(status) != before:
                self.torn = _shown(source, path)

    def skip(self, entry: Entry, kind: type[SourceError], why: str, advice: str) -> None:
        """Note the last entry as skipped if that is wanted, else raise.

        Raises:
            SourceError: of this `kind`. Always for the log of a database that is in the backup:
                without it the database lacks what was written lately, or is spoilt.

        """
        self._leave_out(entry._source, entry.path, kind, why, advice)  # noqa: SLF001 - our own

    def _leave_out(
        self,
        source: Source,
        path: tuple[bytes, ...],
        kind: type[SourceError],
        why: str,
        advice: str,
    ) -> None:
        place = _shown(source, path)
        database = self._database_of(path)
        if database is not None:
            whose = _shown(source, database)
            raise kind(
                f"{why}; it is the log of the database {whose}, which is nothing without it: back"
                " up a snapshot of that instead (SQLite: VACUUM INTO), and exclude both:"
                f" {leave_out(whose)} {leave_out(place)}"
            )
        if not self._skip:
            raise kind(f"{why}; {advice}")
        self.skipped.append(place)

    def _database_of(self, log: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
        """The database that was read before, and of which this is a log."""
        for end in _LOGS:
            path = (*log[:-1], log[-1].removesuffix(end))
            if path != log and path in self._databases:
                return path
        return None

    def __iter__(self) -> Iterator[Entry]:
        """Walk all sources, once.

        Raises:
            SourceUnreadable: no permission, or the disk failed.
            SourceRefused: a symlink, device, socket or FIFO, a path too long to be kept, or a
                folder to keep out.
            SourceChanged: a folder was moved away while it was read.

        """
        try:
            for source in self._sources:
                yield from self._walk_source(source)
        finally:
            for level in self._levels:
                level.close()
            self._levels.clear()

    def _walk_source(self, source: Source) -> Iterator[Entry]:
        try:
            descriptor = os.open(source.parent, _PASSING)
        except OSError as error:
            raise SourceUnreadable(
                f"cannot read {shown(source.place)}: {error.strerror}"
            ) from error
        self._levels.append(_Level((), descriptor, (0, 0), [source.name]))
        while self._levels:
            level = self._levels[-1]
            if level.at == len(level.names):
                self._leave(source)
                continue
            name = level.names[level.at]
            level.at += 1
            entry = self._meet(source, level, (*level.path, name))
            if entry is None:
                continue
            if not entry.is_folder:
                yield entry
                continue
            status = self._enter(source, level, entry)
            if status is not None:
                yield Entry(source, level, entry.path, status)

    def _meet(self, source: Source, level: _Level, path: tuple[bytes, ...]) -> Entry | None:
        """Look at one name; None if it stays out or is gone."""
        try:
            status = os.stat(path[-1], dir_fd=level.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            self._gone(source, level)
            self._check_database(source, level, path)
            return None
        except OSError as error:
            self._unreadable(source, path, error)
            return None
        folder = stat.S_ISDIR(status.st_mode)
        if self._exclude.leaves_out(path, source.parent, folder=folder):
            return None
        if folder or stat.S_ISREG(status.st_mode):
            if len(path) > _PLAIN_DEPTH or sum(map(len, path)) > _PLAIN_BYTES:
                return self._meet_long(source, level, path, status)
            return Entry(source, level, path, status)
        place = _shown(source, path)
        self._leave_out(
            source,
            path,
            SourceRefused,
            f"{place} is a {_kind(status.st_mode)}, which a backup can't keep",
            f"exclude it: {leave_out(place)}",
        )
        return None

    def _meet_long(
        self, source: Source, level: _Level, path: tuple[bytes, ...], status: os.stat_result
    ) -> Entry | None:
        """A path that may be longer than a manifest can keep."""
        try:
            check_path(path)
        except ValueError as error:
            place = _shown(source, path)
            self._leave_out(
                source,
                path,
                SourceRefused,
                f"{place[:200]} can't be kept: {error}",
                "move or rename it, or exclude its folder",
            )
            return None
        return Entry(source, level, path, status)

    def _enter(self, source: Source, level: _Level, entry: Entry) -> os.stat_result | None:
        """Open and list a folder and go down into it; its status, or None if it stays out."""
        path = entry.path
        try:
            descriptor = os.open(path[-1], _FOLDER, dir_fd=level.descriptor)
        except FileNotFoundError:
            self._gone(source, level)
            return None
        except OSError as error:
            self._unreadable(source, path, error)
            return None
        below = _Level(path, descriptor, (0, 0), [])
        try:
            status = os.fstat(descriptor)
            below.identity = (status.st_dev, status.st_ino)
            self._refuse_own(entry, below.identity)
            below.names = _list(descriptor)
        except OSError as error:
            below.close()
            self._unreadable(source, path, error)
            return None
        except SourceRefused:
            below.close()
            raise
        self._levels.append(below)
        if len(self._levels) > KEPT_OPEN + 1:  # the first, where the source lies, stays open
            self._levels[-KEPT_OPEN].close()
        return status

    def _refuse_own(self, entry: Entry, identity: tuple[int, int]) -> None:
        if identity in self._keep_out:
            raise SourceRefused(
                f"{entry.shown} is the backup's own and no part of it;"
                f" exclude it: {leave_out(entry.shown)}"
            )

    def _leave(self, source: Source) -> None:
        """Go up one level, opening its folder again if it was closed."""
        left = self._levels.pop()
        try:
            if self._levels and self._levels[-1].descriptor < 0:
                above = self._levels[-1]
                above.descriptor = os.open("..", _FOLDER, dir_fd=left.descriptor)
                status = os.fstat(above.descriptor)
                if (status.st_dev, status.st_ino) != above.identity:
                    raise SourceChanged(
                        f"{_shown(source, left.path)} was moved away while it was read; try again"
                    )
        except OSError as error:
            raise SourceUnreadable(
                f"cannot read {_shown(source, self._levels[-1].path)}: {error.strerror}"
            ) from error
        finally:
            left.close()

    def _gone(self, source: Source, level: _Level) -> None:
        """The last name that was met is gone (or so): list the folder again, for new names."""
        if not level.path:
            raise SourceUnreadable(f"{shown(source.place)} is not there any more; check the path")
        if level.listings == LISTINGS:
            return
        level.listings += 1
        try:
            names = _list(level.descriptor)
        except OSError as error:
            self._unreadable(source, level.path, error)
            return
        last = level.names[level.at - 1]
        new = set(names).difference(level.names)
        if min(new, default=last) < last:
            self.renamed = _shown(source, level.path)
        later = new.union(level.names[level.at :])
        level.names[level.at :] = sorted(name for name in later if name > last)

    def _unreadable(self, source: Source, path: tuple[bytes, ...], error: OSError) -> None:
        place = _shown(source, path)
        self._leave_out(
            source,
            path,
            SourceUnreadable,
            f"cannot read {place}: {error.strerror}",
            f"allow reading it, or exclude it: {leave_out(place)}",
        )


def _holds(names: list[bytes], name: bytes) -> bool:
    at = bisect_left(names, name)
    return at < len(names) and names[at] == name


def _is_there(level: _Level, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=level.descriptor, follow_symlinks=False)
    except OSError:
        return False
    return True


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _list(descriptor: int) -> list[bytes]:
    return sorted(os.fsencode(name) for name in os.listdir(descriptor))


def _shown(source: Source, path: tuple[bytes, ...]) -> str:
    return shown(os.path.join(source.parent, *path))  # noqa: PTH118 - bytes


def _identities(places: Sequence[Path]) -> frozenset[tuple[int, int]]:
    found = set()
    for place in places:
        try:
            status = place.stat()
        except OSError:
            continue  # not there yet: `gather` has compared the paths
        found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISLNK, "symlink"),
        (stat.S_ISFIFO, "FIFO"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISCHR, "device"),
        (stat.S_ISBLK, "device"),
    )
    return next((word for test, word in kinds if test(mode)), "special file")
