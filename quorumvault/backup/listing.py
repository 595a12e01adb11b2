"""The manifest of a backup that is being made: entries in order, each once its chunks are known.

Threads finish chunks in any order; the manifest has them in that of the walk. What waits here is
bounded by the buffers of the uploads and by `cut.PACK_ENTRIES`, not by the size of a backup; of
each chunk of the backup its number is remembered.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quorumvault.backup.cut import Again, File, Folder, Pack, Packed, Part, Whole
from quorumvault.backup.keys import CHUNK_ID_BYTES
from quorumvault.backup.objects import CONTENT_BYTES

if TYPE_CHECKING:
    from concurrent.futures import Future

    from quorumvault.backup.cut import Event
    from quorumvault.backup.manifest import ManifestWriter
    from quorumvault.backup.upload import Uploads

__all__ = ["Listing"]


@dataclass(slots=True)
class _Pack:
    """A chunk of small files; without a future while more of them come."""

    length: int = 0
    chunk: Future[bytes] | None = None

    def ready(self, *, wait: bool) -> bool:
        """Whether its chunk is known."""
        return self.chunk is not None and (wait or self.chunk.done())


@dataclass(slots=True)
class _Small:
    """A file in a pack."""

    file: File
    pack: _Pack
    offset: int


@dataclass(slots=True)
class _Large:
    """A file with chunks of its own: the ids that are known, then those under way."""

    file: File | None = None
    ids: bytearray = field(default_factory=bytearray)
    waiting: deque[Future[bytes]] = field(default_factory=deque)

    def ready(self, *, wait: bool) -> bool:
        """Collect the ids that are known by now; whether these are all."""
        while self.waiting and (wait or self.waiting[0].done()):
            self.ids += self.waiting.popleft().result()
        return not self.waiting


class Listing:
    """Takes the events of a `Cutter`, hands contents on, writes the manifest.

    Attributes:
        numbers: the number in the manifest of each chunk, by its chunk_id.
        files, folders, bytes: how many were listed.

    """

    def __init__(self, writer: ManifestWriter, uploads: Uploads) -> None:
        self._writer = writer
        self._uploads = uploads
        self._waiting: deque[Folder | _Large | _Small] = deque()
        self._large = _Large()
        self._pack = _Pack()
        self.numbers: dict[bytes, int] = {}
        self.files = self.folders = self.bytes = 0

    def take(self, event: Event) -> None:
        """Take the next event.

        Raises:
            BackupError: what an upload failed with.

        """
        match event:
            case Folder():
                self._waiting.append(event)
            case Pack():
                self._pack.chunk = self._uploads.submit(event.buffer, event.length)
                self._pack = _Pack()
            case Packed():
                self._waiting.append(_Small(event.file, self._pack, self._pack.length))
                self._pack.length += event.file.size
            case Part():
                self._large.waiting.append(self._uploads.submit(event.buffer, event.length))
                self._large.ready(wait=False)
            case Whole():
                self._large.file = event.file
                self._waiting.append(self._large)
                self._large = _Large()
            case Again():
                self._large = _Large()
        self._write(wait=False)

    def finish(self) -> int:
        """Wait for the last chunks and end the manifest; its size in bytes."""
        self._write(wait=True)
        return self._writer.finish()

    def _write(self, *, wait: bool) -> None:
        while self._waiting:
            first = self._waiting[0]
            match first:
                case Folder():
                    self._writer.folder(first.path, first.mtime_ns, first.mode)
                    self.folders += 1
                case _Large():
                    if not first.ready(wait=wait):
                        return
                    self._write_large(first)
                case _Small():
                    if not first.pack.ready(wait=wait):
                        return
                    self._write_small(first)
            self._waiting.popleft()

    def _write_small(self, small: _Small) -> None:
        if small.pack.chunk is None:
            raise AssertionError("a small file is written only when its pack is ready")
        number = self._number(small.pack.chunk.result())
        self._write_file(small.file)
        self._writer.parts(((number, small.offset, small.file.size),))

    def _write_large(self, large: _Large) -> None:
        file = large.file
        if file is None:
            raise AssertionError("a file waits here only when it was read to its end")
        parts = []
        left = file.size
        numbers = [
            self._number(bytes(large.ids[at : at + CHUNK_ID_BYTES]))
            for at in range(0, len(large.ids), CHUNK_ID_BYTES)
        ]
        for number in numbers:
            parts.append((number, 0, min(left, CONTENT_BYTES)))
            left -= parts[-1][2]
        self._write_file(file)
        self._writer.parts(parts)

    def _write_file(self, file: File) -> None:
        self._writer.file(file.path, file.size, file.mtime_ns, file.mode)
        self.files += 1
        self.bytes += file.size

    def _number(self, chunk_id: bytes) -> int:
        """The chunk's number; it is introduced when it comes for the first time."""
        number = self.numbers.get(chunk_id)
        if number is None:
            number = self._writer.chunk(chunk_id, self._uploads.lengths[chunk_id])
            self.numbers[chunk_id] = number
        return number
