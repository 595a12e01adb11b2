"""Reads every object of the newest backup and says whether all of it could be restored.

Nothing is taken on trust: each object is fetched whole, opened, and its content must have the very
chunk_id that the manifest names. All damage is told, not only the first: which objects, and which
files an owner would miss.
"""

from __future__ import annotations

import tempfile
import threading
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from quorumvault.backup.catalog import choose
from quorumvault.backup.crew import Crew, default_workers
from quorumvault.backup.errors import Cancelled, Damaged
from quorumvault.backup.fill import ChunkTable, fetch_chunk
from quorumvault.backup.manifest import Chunk, End, File, Parts, read_manifest
from quorumvault.backup.names import shown
from quorumvault.backup.objects import chunk_object_bytes
from quorumvault.backup.progress import SILENT
from quorumvault.backup.restore import copy_manifest, explain_damage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quorumvault.backup.holdings import ManifestName
    from quorumvault.backup.keys import Keys
    from quorumvault.backup.manifest import Frame
    from quorumvault.backup.progress import Progress
    from quorumvault.backup.storage import Storage

__all__ = ["MAX_TOLD", "Verified", "verify"]

MAX_TOLD: Final = 1_000  # damaged objects and files that an error names
_PLAIN_BYTES: Final = 4 * 1_048_576


@dataclass(frozen=True, slots=True)
class Verified:
    """A backup that is whole.

    Attributes:
        generation: of the backup.
        files: how many.
        bytes: of all files together.
        objects: that it consists of, the manifest included.
        stored_bytes: of these.
        strangers: objects beside it that it does not name: harmless, the next backup removes them.

    """

    generation: int
    files: int
    bytes: int
    objects: int
    stored_bytes: int
    strangers: int = 0


def verify(
    storage: Storage,
    keys: Keys,
    *,
    generation: int | None = None,
    known_generation: int = 0,
    workers: int | None = None,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> Verified:
    """Check the newest backup byte by byte, or an older one; nothing is changed.

    Raises:
        NoBackup, WrongKey, FutureVersion, RolledBack: nothing to check.
        Damaged: names all damaged objects and the files in them, at most 1,000 each.
        AnotherWriter: a newer backup took its place meanwhile; call again.
        Cancelled: as asked.
        StorageError: the provider refused or failed; nothing is known then.

    """
    found = choose(storage, keys, generation=generation, known_generation=known_generation)
    check = _Check(storage, keys, found, progress, stop or threading.Event())
    with tempfile.TemporaryFile() as manifest:
        try:
            copy_manifest(storage, keys, found, manifest, progress)
            return check.run(manifest, workers or default_workers(storage))
        except Damaged as error:
            raise explain_damage(storage, keys, found, error) from error


class _Memory(threading.local):
    """A thread's memory for one chunk."""

    def __init__(self) -> None:
        self.plain = bytearray(_PLAIN_BYTES)


class _Check:
    """One call of `verify`."""

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        found: ManifestName,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._storage = storage
        self._keys = keys
        self._found = found
        self._progress = progress
        self._stop = stop
        self._memory = _Memory()
        self._chunks = ChunkTable()
        self._stored_bytes = 0  # of all chunk objects
        self._lock = threading.Lock()
        self._bad: dict[int, str] = {}  # number of a damaged chunk: what is wrong

    def run(self, manifest: BinaryIO, workers: int) -> Verified:
        end = self._survey(self._frames(manifest))
        with Crew(workers, self._check) as crew:
            for number in range(len(self._chunks)):
                crew.put(number)
        if self._bad:
            raise self._damage(self._frames(manifest))
        size = self._found.size if self._found.size >= 0 else manifest.seek(0, 2)
        return Verified(
            generation=self._found.generation,
            files=end.files,
            bytes=end.bytes,
            objects=1 + len(self._chunks),
            stored_bytes=size + self._stored_bytes,
            strangers=self._strangers(),
        )

    def _frames(self, manifest: BinaryIO) -> Iterator[Frame]:
        manifest.seek(0)
        found = self._found
        return read_manifest(self._keys, found.generation, found.backup_id, manifest)

    def _survey(self, frames: Iterator[Frame]) -> End:
        """Remember the chunks; the whole list of files must be sound before they are fetched."""
        end: End | None = None
        for frame in frames:
            if isinstance(frame, Chunk):
                self._chunks.add(frame)
                self._stored_bytes += chunk_object_bytes(frame.length)
            elif isinstance(frame, End):
                end = frame
        self._progress.phase("check", self._stored_bytes)
        if end is None:
            raise Damaged(f"{self._found.name} has no end", objects=(self._found.name,))
        return end

    def _check(self, number: int) -> None:
        if self._stop.is_set():
            raise Cancelled("stopped as asked; nothing is known about what was not read yet")
        chunk_id, length = self._chunks[number]
        try:
            fetch_chunk(
                self._storage,
                self._keys,
                chunk_id,
                length,
                into=self._memory.plain,
                check_id=True,
            )
        except Damaged as error:
            with self._lock:
                self._bad[number] = str(error)
        self._progress.advance(chunk_object_bytes(length))

    def _damage(self, frames: Iterator[Frame]) -> Damaged:
        names = [self._keys.chunk_name(self._chunks[number][0]) for number in sorted(self._bad)]
        files: list[str] = []
        affected = 0
        path = None
        for frame in frames:
            if isinstance(frame, File):
                path = frame.path
            elif (
                isinstance(frame, Parts)
                and path is not None
                and any(number in self._bad for number, _, _ in frame.parts)
            ):
                affected += 1
                if len(files) < MAX_TOLD:
                    files.append(shown(path))
                path = None  # told once
        first = self._bad[min(self._bad)]
        return Damaged(
            f"backup {self._found.generation} is damaged: {len(names):,} of"
            f" {len(self._chunks):,} objects, needed for {affected:,} files, the first of them"
            f" {files[0]}. The first object: {first}. While the files are still on this device,"
            " `quorumvault backup create --check all` stores again what is damaged",
            objects=tuple(names[:MAX_TOLD]),
            files=tuple(files),
        )

    def _strangers(self) -> int:
        """How many objects in the key's folder belong to no part of this backup."""
        # The first 8 bytes of each id are enough to count by, and small.
        known = array(
            "Q",
            sorted(
                int.from_bytes(self._chunks[number][0][:8], "big")
                for number in range(len(self._chunks))
            ),
        )
        count = 0
        start = f"{self._keys.folder}/chunks/"
        for stored in self._storage.list(f"{self._keys.folder}/"):
            if stored.name == self._found.name:
                continue
            text = stored.name.rpartition("/")[2]
            ours = False
            if stored.name.startswith(start) and len(text) == 64:
                try:
                    head = int(text[:16], 16)
                except ValueError:
                    head = -1
                place = bisect_left(known, head)
                ours = place < len(known) and known[place] == head
            count += not ours
        return count
