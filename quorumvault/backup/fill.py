"""Fills the tree of a staging folder: fetch chunks, open them, write their parts into the files.

One thread walks the manifest and hands out jobs, one per chunk with all the places that it belongs
to; a crew fetches and writes. Memory is bounded by the jobs at work, not by files or sizes.

When an earlier call left files here, a chunk is not fetched if every byte of it is in them: its
content is put together from the files and must have the very chunk_id. So whatever a kill, a power
cut or somebody else left in the tree, a wrong byte is never taken for a right one.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from quorumvault.backup.crew import Crew, default_workers
from quorumvault.backup.errors import Cancelled, Damaged, FutureVersion, NameNotPossible, NotThere
from quorumvault.backup.keys import CHUNK_ID_BYTES
from quorumvault.backup.manifest import Chunk, File, Folder, Parts
from quorumvault.backup.names import shown
from quorumvault.backup.objects import CONTENT_BYTES, chunk_object_bytes, open_chunk
from quorumvault.backup.page_cache import write_out
from quorumvault.backup.place import refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quorumvault.backup.keys import Keys
    from quorumvault.backup.manifest import Frame, Path
    from quorumvault.backup.place import Folders
    from quorumvault.backup.progress import Progress
    from quorumvault.backup.selection import Selection
    from quorumvault.backup.storage import Storage

__all__ = ["ChunkTable", "Filler", "fetch_chunk"]

_JOBS_OPEN: Final = 4  # chunks whose parts may come mixed without being fetched twice
_JOB_USES: Final = 8_192  # a chunk of more and tinier files is fetched more than once instead
_JOB_BYTES: Final = 16 * CONTENT_BYTES  # the same chunk again and again: a file of zeros
_PLAIN_BYTES: Final = 4 * 1_048_576
_EXISTING: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LATEST_NS: Final = 2**63 - 1


class ChunkTable:
    """The chunks of a manifest by number: 36 bytes for each."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self._lengths = array("I")

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, chunk: Chunk) -> None:
        """Append the next one."""
        self._ids += chunk.id
        self._lengths.append(chunk.length)

    def __getitem__(self, number: int) -> tuple[bytes, int]:
        """The chunk_id and the content's length."""
        start = number * CHUNK_ID_BYTES
        return bytes(self._ids[start : start + CHUNK_ID_BYTES]), self._lengths[number]


class _Sink:
    """A file that is being written; opened by the first job that needs it, closed by the last."""

    __slots__ = ("descriptor", "frame", "left", "lock")

    def __init__(self, frame: File) -> None:
        self.frame = frame
        self.left = frame.size
        self.descriptor = -1
        self.lock = threading.Lock()


@dataclass(slots=True)
class _Job:
    """A chunk and where its content goes: (file, offset in it, offset in the chunk, length)."""

    chunk_id: bytes
    length: int
    uses: list[tuple[_Sink, int, int, int]] = field(default_factory=list)
    bytes: int = 0


class _Buffers(threading.local):
    """A thread's memory for one chunk, and which chunk's content is in it."""

    def __init__(self) -> None:
        self.plain = bytearray(_PLAIN_BYTES)
        self.chunk_id = b""
        self.content = memoryview(b"")


def fetch_chunk(
    storage: Storage,
    keys: Keys,
    chunk_id: bytes,
    length: int,
    *,
    into: bytearray,
    check_id: bool = False,
) -> memoryview:
    """The content of a chunk from the storage, good until the next use of `into`.

    Raises:
        Damaged: it is not there, cut off, or not what was sealed.
        StorageError: the provider refused or failed.

    """
    name = keys.chunk_name(chunk_id)
    try:
        sealed = storage.get(name, chunk_object_bytes(length))
    except NotThere as error:
        raise Damaged(f"{name} is missing in the storage", objects=(name,)) from error
    try:
        return open_chunk(keys, chunk_id, length, sealed, check_id=check_id, into=into)
    except FutureVersion as error:
        # No update mends it: the manifest that names it is of this version.
        raise Damaged(f"{name} is not of its backup's version", objects=(name,)) from error


class Filler:
    """Writes the wanted files and folders of one backup into a tree."""

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        tree: Folders,
        *,
        resumed: bool,
        progress: Progress,
        workers: int | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Prepare.

        Args:
            storage: where the chunks are.
            keys: that open them.
            tree: to write into; nobody else does.
            resumed: it may hold files of an earlier call.
            progress: hears of each byte that is in its place.
            workers: threads; by default a few more than there are processors.
            stop: when set, the call ends with Cancelled.

        """
        self._storage = storage
        self._keys = keys
        self._tree = tree
        self._resumed = resumed
        self._progress = progress
        self._workers = workers or default_workers(storage)
        self._stop = stop or threading.Event()
        self._buffers = _Buffers()
        self._chunks = ChunkTable()
        self._jobs: OrderedDict[int, _Job] = OrderedDict()
        self._latest = -1
        self._sinks: set[_Sink] = set()
        self._open_files = threading.Lock()

    def run(self, frames: Iterable[Frame], selection: Selection) -> None:
        """Write all that is wanted of these frames; folders get their times by `set_times`.

        Raises:
            Damaged: an object is; names it and the files in it.
            Cancelled: as asked.
            NameNotPossible: two names are one on this disk.
            NoSpace, TargetRefused: as the disk says.
            StorageError: the provider refused or failed.

        """
        try:
            with Crew(self._workers, self._do) as crew:
                self._hand_out(frames, selection, crew)
                for job in self._jobs.values():
                    crew.put(job)
        finally:
            for sink in self._sinks:
                os.close(sink.descriptor)
            self._sinks.clear()

    def set_times(self, frames: Iterable[Frame], selection: Selection) -> None:
        """Give folders their times and modes, as far as we can still move them then."""
        for frame in frames:
            if isinstance(frame, Folder) and selection.takes(frame):
                try:
                    with self._tree.at(frame.path) as folder:
                        os.fchmod(folder, frame.mode & 0o777 | 0o700)
                        _set_time(folder, frame.mtime_ns)
                except OSError as error:
                    raise refused(error, shown(frame.path)) from error

    # ------------------------------------------------------------ handing out

    def _hand_out(self, frames: Iterable[Frame], selection: Selection, crew: Crew[_Job]) -> None:
        sink: _Sink | None = None
        offset = 0
        for frame in frames:
            match frame:
                case Chunk():
                    self._chunks.add(frame)
                case Folder():
                    if selection.takes(frame):
                        self._check_stop()
                        self._make_folder(frame)
                case File():
                    sink = _Sink(frame) if selection.takes(frame) else None
                    offset = 0
                    if sink is not None and not frame.size:
                        self._check_stop()
                        self._finish(sink)
                case Parts() if sink is not None:
                    for number, start, length in frame.parts:
                        self._add(number, (sink, offset, start, length), crew)
                        offset += length
                case _:
                    pass

    def _add(self, number: int, use: tuple[_Sink, int, int, int], crew: Crew[_Job]) -> None:
        if number != self._latest:
            latest = self._jobs.get(self._latest)
            if latest is not None and latest.bytes >= latest.length:
                crew.put(self._jobs.pop(self._latest))
            self._latest = number
        job = self._jobs.get(number)
        if job is None:
            if len(self._jobs) >= _JOBS_OPEN:
                crew.put(self._jobs.popitem(last=False)[1])
            job = self._jobs[number] = _Job(*self._chunks[number])
        job.uses.append(use)
        job.bytes += use[3]
        if len(job.uses) >= _JOB_USES or job.bytes >= _JOB_BYTES:
            crew.put(self._jobs.pop(number))

    def _make_folder(self, frame: Folder) -> None:
        try:
            with self._tree.at(frame.path[:-1]) as parent:
                os.mkdir(frame.path[-1], 0o700, dir_fd=parent)
        except FileExistsError as error:
            if not self._resumed:
                raise _same_name(frame.path) from error
        except OSError as error:
            raise refused(error, shown(frame.path)) from error

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Cancelled("stopped as asked; the same call goes on from here")

    # ------------------------------------------------------------ a job, in a thread

    def _do(self, job: _Job) -> None:
        self._check_stop()
        if self._resumed and self._is_there(job):
            for sink, _, _, length in job.uses:
                self._count(sink, length)
            return
        content = self._content(job)
        for sink, offset, start, length in job.uses:
            try:
                descriptor = self._opened(sink)
                _write(descriptor, content[start : start + length], offset)
                write_out(descriptor, offset, length)
            except OSError as error:
                raise refused(error, shown(sink.frame.path)) from error
            self._count(sink, length)

    def _content(self, job: _Job) -> memoryview:
        mine = self._buffers
        if mine.chunk_id != job.chunk_id:
            mine.chunk_id = b""
            try:
                mine.content = fetch_chunk(
                    self._storage, self._keys, job.chunk_id, job.length, into=mine.plain
                )
            except Damaged as error:
                raise _with_files(error, job) from error
            mine.chunk_id = job.chunk_id
        return mine.content

    def _is_there(self, job: _Job) -> bool:
        """Whether the files hold this chunk already: all of it, each byte once."""
        mine = self._buffers
        mine.chunk_id = b""
        content = memoryview(mine.plain)[: job.length]
        filled = 0
        for sink, offset, start, length in sorted(job.uses, key=lambda use: use[2]):
            if start != filled:
                return False
            try:
                got = os.preadv(self._opened(sink), [content[start : start + length]], offset)
            except OSError as error:
                raise refused(error, shown(sink.frame.path)) from error
            if got != length:
                return False
            filled += length
        return filled == job.length and self._keys.chunk_id(content) == job.chunk_id

    def _count(self, sink: _Sink, length: int) -> None:
        with sink.lock:
            sink.left -= length
            whole = not sink.left
        if whole:
            self._finish(sink)
        self._progress.advance(length)

    def _opened(self, sink: _Sink) -> int:
        with sink.lock:
            if sink.descriptor < 0:
                path = sink.frame.path
                flags = _EXISTING if self._resumed else _EXISTING | os.O_EXCL
                try:
                    with self._tree.at(path[:-1]) as parent:
                        sink.descriptor = _open_own(path[-1], flags, parent)
                except FileExistsError as error:
                    raise _same_name(path) from error
                with self._open_files:
                    self._sinks.add(sink)
            return sink.descriptor

    def _finish(self, sink: _Sink) -> None:
        """Every byte is written: size, mode, time, and close."""
        frame = sink.frame
        try:
            descriptor = self._opened(sink)
            if self._resumed:
                os.ftruncate(descriptor, frame.size)
            os.fchmod(descriptor, frame.mode & 0o777)
            _set_time(descriptor, frame.mtime_ns)
        except OSError as error:
            raise refused(error, shown(frame.path)) from error
        with self._open_files:
            self._sinks.discard(sink)
        os.close(descriptor)


def _open_own(name: bytes, flags: int, folder: int) -> int:
    try:
        return os.open(name, flags, 0o600, dir_fd=folder)
    except PermissionError:
        # An earlier call finished it and gave it a mode that keeps its owner out.
        os.chmod(name, 0o600, dir_fd=folder)
        return os.open(name, flags, 0o600, dir_fd=folder)


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data = data[written:]
        offset += written


def _set_time(descriptor: int, mtime_ns: int) -> None:
    try:
        os.utime(descriptor, ns=(mtime_ns, mtime_ns))
    except OverflowError:  # a time that this system does not have
        os.utime(descriptor, ns=(0, 0))


def _with_files(error: Damaged, job: _Job) -> Damaged:
    files = tuple(dict.fromkeys(shown(use[0].frame.path) for use in job.uses))[:1_000]
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return Damaged(
        f"{error}; it is needed for {files[0]}{more}", objects=error.objects, files=files
    )


def _same_name(path: Path) -> NameNotPossible:
    return NameNotPossible(
        f"{shown(path)} and another name are the same on this disk; restore to another disk, or"
        " one of the two by its name alone"
    )
