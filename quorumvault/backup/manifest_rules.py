"""The order of a manifest's frames, checked one by one with little memory.

Paths ascend, compared component by component as bytes. So equal ones would be neighbours, and
what is in a folder follows it directly: the last folder tells whether a parent was listed. Only
chunks are remembered, about 100 bytes each (25 MB for a backup of 1 TiB).
"""

from __future__ import annotations

from array import array
from typing import assert_never

from quorumvault.backup.manifest_frames import Chunk, End, File, Folder, Frame, Head, Parts, Path

__all__ = ["Rules"]


class Rules:
    """Takes one frame after another; `ValueError` for the first that may not stand there."""

    def __init__(self, generation: int, backup_id: bytes) -> None:
        self._expected = (generation, backup_id)
        self._started = False
        self._path: Path = ()
        self._folder: Path = ()
        self._file_left = 0
        self._ids: set[bytes] = set()
        self._lengths = array("I")
        self._unused: set[int] = set()
        self._files = self._folders = self._bytes = 0
        self.ended = False

    @property
    def chunks(self) -> int:
        """How many chunks were introduced: the number of the next one."""
        return len(self._lengths)

    def end(self) -> End:
        """The last frame that would be right now."""
        return End(self._files, self._folders, self._bytes, self.chunks)

    def take(self, frame: Frame) -> None:
        """Check the frame against those before it.

        Raises:
            ValueError: which rule it breaks; quotes nothing of it.

        """
        if self.ended:
            raise ValueError("a frame after the last")
        if isinstance(frame, Head) == self._started:
            raise ValueError("the head is first, and nowhere else")
        if self._file_left and not isinstance(frame, Chunk | Parts):
            raise ValueError("a file lacks parts")
        match frame:
            case Head():
                self._head(frame)
            case Chunk():
                self._chunk(frame)
            case Folder():
                self._entry(frame.path)
                self._folder = frame.path
                self._folders += 1
            case File():
                self._entry(frame.path)
                self._folder = frame.path[:-1]
                self._file_left = frame.size
                self._files += 1
                self._bytes += frame.size
            case Parts():
                self._parts(frame)
            case End():
                self._last(frame)
            case _:
                assert_never(frame)

    def _head(self, frame: Head) -> None:
        if (frame.generation, frame.backup_id) != self._expected:
            raise ValueError("the head of another backup")
        self._started = True

    def _chunk(self, frame: Chunk) -> None:
        if frame.id in self._ids:
            raise ValueError("a chunk is introduced twice")
        self._ids.add(frame.id)
        self._unused.add(self.chunks)
        self._lengths.append(frame.length)

    def _entry(self, path: Path) -> None:
        if path <= self._path:
            raise ValueError("paths do not ascend")
        if path[:-1] != self._folder[: len(path) - 1]:
            raise ValueError("a path whose folder is not listed")
        self._path = path

    def _parts(self, frame: Parts) -> None:
        for number, offset, length in frame.parts:
            if number >= self.chunks:
                raise ValueError("a part of a chunk that is not introduced")
            if offset + length > self._lengths[number]:
                raise ValueError("a part beyond the end of its chunk")
            if length > self._file_left:
                raise ValueError("more parts than the file has bytes")
            self._file_left -= length
            self._unused.discard(number)

    def _last(self, frame: End) -> None:
        if self._unused:
            raise ValueError("a chunk that no file uses")
        if frame != self.end():
            raise ValueError("the end does not agree with what came before")
        self.ended = True
