"""Files cut into the contents of chunks: large ones at fixed places, small ones packed together.

A file above `SMALL_BYTES` is cut every `CONTENT_BYTES`: a database that is changed in place keeps
all other chunks. Small files are packed in the order of the walk, and a pack ends after a file
that ends it by its own content (as content-defined chunking does with bytes): whoever adds, drops
or changes one file changes its pack and at most a few after it, never all.

A file is read while nothing changes it: size, mtime and ctime must be the same before and after,
else it is read again. What is written through a memory map may escape that, as it escapes every
backup program.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quorumvault.backup.errors import Cancelled, SourceChanged, SourceRefused, SourceUnreadable
from quorumvault.backup.manifest_frames import kept_time
from quorumvault.backup.objects import CONTENT_BYTES
from quorumvault.backup.sources import leave_out, quoted

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from quorumvault.backup.walk import Entry, Walk

__all__ = ["Again", "Cutter", "Event", "File", "Folder", "Pack", "Packed", "Part", "Whole"]

SMALL_BYTES: Final = 524_288
"""Up to here a file is packed with others; a larger one has chunks of its own."""
PACK_MIN_BYTES: Final = 524_288
"""No file ends a pack before it is this long, so that there are not many short ones."""
PACK_SPREAD_BYTES: Final = 1_572_864
"""About this much more follows until a file ends the pack; the mean is 2 MiB."""
PACK_ENTRIES: Final = 4_096
"""A pack ends after so many files, folders and parts: all of them wait for it in memory."""
FILE_WEIGHT_BYTES: Final = 512
"""Counts on top of a file's bytes, so that a pack of tiny files ends, too."""
EDGE_BYTES: Final = 256
"""So much of a file's start and of its end decides whether it ends its pack."""
TRIES: Final = 4
"""How often a file is read that changes meanwhile: once, and three times more."""
RETRY_AFTER_S: Final = 0.1
"""Between two of these."""
FRESH_NS: Final = 20_000_000
"""A kernel stamps times at its ticks, 10 ms at most: a file changed within so short a time could
change again under the same stamp, so its reading waits until it is older."""
SQLITE_MAGIC: Final = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was read."""

    path: tuple[bytes, ...]
    size: int
    mtime_ns: int
    mode: int


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder as it was met."""

    path: tuple[bytes, ...]
    mtime_ns: int
    mode: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A small file that lies in the next `Pack`, right after the one before."""

    file: File


@dataclass(frozen=True, slots=True)
class Pack:
    """One chunk's content: all that was `Packed` since the last one, `length` bytes of `buffer`."""

    buffer: bytearray
    length: int


@dataclass(frozen=True, slots=True)
class Part:
    """One chunk's content, a part of the large file that ends with `Whole`."""

    buffer: bytearray
    length: int


@dataclass(frozen=True, slots=True)
class Whole:
    """The parts since the last `Whole` or `Again` are this file; an empty one has none."""

    file: File


@dataclass(frozen=True, slots=True)
class Again:
    """The parts since the last `Whole` are void: the file changed while it was read."""


Event = Folder | Packed | Pack | Part | Whole | Again
"""What comes of a walk; files and folders in its order."""


class _ChangedError(Exception):
    """The file was changed while it was read."""


class Cutter:
    """Reads what a walk meets and cuts it.

    Args:
        walk: the files and folders.
        buffers: gives a buffer of at least `CONTENT_BYTES`; may wait for one.
        give_back: takes a buffer that holds nothing of use.
        fingerprint: a keyed hash of bytes (at least 8), which decides where packs end.
        stop: set to stop the work.
        read: told how many bytes of the sources were read.

    """

    def __init__(
        self,
        walk: Walk,
        *,
        buffers: Callable[[], bytearray],
        give_back: Callable[[bytearray], None],
        fingerprint: Callable[[bytes], bytes],
        stop: threading.Event,
        read: Callable[[int], None],
    ) -> None:
        self._walk = walk
        self._buffers = buffers
        self._give_back = give_back
        self._fingerprint = fingerprint
        self._stop = stop
        self._read = read
        self._pack: bytearray | None = None
        self._packed = 0
        self._waiting = 0

    def __iter__(self) -> Iterator[Event]:
        """Cut everything; each event's buffer belongs to whoever takes it.

        Raises:
            Cancelled: `stop` is set.
            SourceError: as `Walk` and this module's `read`.

        """
        for entry in self._walk:
            if self._stop.is_set():
                raise Cancelled("stopped; the same call goes on where this one ended")
            if self._waiting >= PACK_ENTRIES and self._packed:
                yield self._flush()
            self._waiting += 1
            if entry.is_folder:
                yield Folder(entry.path, entry.mtime_ns, entry.mode)
            else:
                yield from self._file(entry)
        if self._packed:
            yield self._flush()

    def _file(self, entry: Entry) -> Iterator[Event]:
        """Read one file, again if it changes."""
        magic = b""
        for attempt in range(TRIES):
            if attempt:
                self._wait(RETRY_AFTER_S)
            try:
                descriptor = entry.open()
            except OSError as error:
                self._unreadable(entry, error)
                return
            if descriptor is None:
                self._walk.vanished(entry)
                return
            try:
                yield from self._once(entry, descriptor)
            except _ChangedError:
                with contextlib.suppress(OSError):
                    magic = os.pread(descriptor, len(SQLITE_MAGIC), 0)
                yield Again()
            except OSError as error:
                yield Again()
                self._unreadable(entry, error)
                return
            else:
                return
            finally:
                os.close(descriptor)
        self._walk.skip(entry, SourceChanged, *_changed(entry.shown, magic))

    def _once(self, entry: Entry, descriptor: int) -> Iterator[Event]:
        before = self._settled(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "it became something else than a file")
        file = File(
            entry.path, before.st_size, kept_time(before.st_mtime_ns), stat.S_IMODE(before.st_mode)
        )
        if file.size > SMALL_BYTES:
            self._waiting += file.size // CONTENT_BYTES
            for start in range(0, file.size, CONTENT_BYTES):
                yield self._part(descriptor, start, min(CONTENT_BYTES, file.size - start))
            self._look_for_logs(entry, descriptor)
            _check_unchanged(descriptor, before)
            self._walk.has_read(entry, before)
            yield Whole(file)
            return
        if not file.size:
            _check_unchanged(descriptor, before)
            self._walk.has_read(entry, before)
            yield Whole(file)
            return
        if self._packed + file.size > CONTENT_BYTES:
            yield self._flush()
        if self._pack is None:
            self._pack, self._packed, self._waiting = self._buffers(), 0, 0
        place = memoryview(self._pack)[self._packed : self._packed + file.size]
        _fill(descriptor, place, 0)
        self._look_for_logs(entry, descriptor)
        _check_unchanged(descriptor, before)
        self._walk.has_read(entry, before)
        self._packed += file.size
        self._read(file.size)
        yield Packed(file)
        if self._packed >= PACK_MIN_BYTES and self._ends(place):
            yield self._flush()

    def _look_for_logs(self, entry: Entry, descriptor: int) -> None:
        """Before the last look at a database: one without a log was not in the middle of a change.

        (Its log is there as long as a change is.)
        """
        if os.pread(descriptor, len(SQLITE_MAGIC), 0) == SQLITE_MAGIC:
            self._walk.look_for_logs(entry)

    def _part(self, descriptor: int, start: int, length: int) -> Part:
        if self._stop.is_set():
            raise Cancelled("stopped; the same call goes on where this one ended")
        buffer = self._buffers()
        try:
            _fill(descriptor, memoryview(buffer)[:length], start)
        except BaseException:
            self._give_back(buffer)
            raise
        self._read(length)
        return Part(buffer, length)

    def _flush(self) -> Pack:
        if self._pack is None:
            raise AssertionError("a pack is flushed only when it holds a file")
        pack = Pack(self._pack, self._packed)
        self._pack, self._packed = None, 0
        return pack

    def _ends(self, content: memoryview) -> bool:
        """Whether a file of this content ends its pack: the likelier, the longer it is."""
        edges = b"".join(
            (content.nbytes.to_bytes(8, "big"), content[:EDGE_BYTES], content[-EDGE_BYTES:])
        )
        drawn = int.from_bytes(self._fingerprint(edges)[:8], "big")
        return drawn * PACK_SPREAD_BYTES < (content.nbytes + FILE_WEIGHT_BYTES) << 64

    def _settled(self, descriptor: int) -> os.stat_result:
        """The file's status, once it was not changed for a tick of the kernel's clock."""
        status = os.fstat(descriptor)
        age = time.time_ns() - status.st_ctime_ns
        if 0 <= age < FRESH_NS:
            self._wait((FRESH_NS - age) / 1e9)
            status = os.fstat(descriptor)
        return status

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Cancelled("stopped; the same call goes on where this one ended")

    def _unreadable(self, entry: Entry, error: OSError) -> None:
        place = entry.shown
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EINVAL}:
            self._walk.skip(
                entry,
                SourceRefused,
                f"{place} became something else than a file while it was read",
                f"try again, or exclude it: {leave_out(place)}",
            )
            return
        self._walk.skip(
            entry,
            SourceUnreadable,
            f"cannot read {place}: {error.strerror}",
            f"allow reading it, or exclude it: {leave_out(place)}",
        )


def _fill(descriptor: int, place: memoryview, start: int) -> None:
    """Fill `place` with the file's bytes from `start` on."""
    done = 0
    while done < place.nbytes:
        count = os.preadv(descriptor, [place[done:]], start + done)
        if count == 0:
            raise _ChangedError
        done += count


def _check_unchanged(descriptor: int, before: os.stat_result) -> None:
    after = os.fstat(descriptor)
    if (after.st_size, after.st_mtime_ns, after.st_ctime_ns) != (
        before.st_size,
        before.st_mtime_ns,
        before.st_ctime_ns,
    ):
        raise _ChangedError
    # Some file systems (/proc, and a few made by programs) tell a size that is none.
    if os.pread(descriptor, 1, before.st_size):
        raise _ChangedError


def _changed(place: str, magic: bytes) -> tuple[str, str]:
    """Why it can't be kept, and what to do."""
    often = f"changed each of the {TRIES} times it was read"
    if magic == SQLITE_MAGIC:
        copy = f'back up a snapshot of it instead: sqlite3 {quoted(place)} ".backup COPY"'
        return f"{place} is a SQLite database in use: it {often}", copy
    return f"{place} {often}", f"close what writes to it, or exclude it: {leave_out(place)}"
