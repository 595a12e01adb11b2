"""A new backup, from a first look at the storage to the end of what is older.

The order is what keeps the owner's files safe. All chunks; settled; read back and opened; then the
manifest; settled; read back and opened; another look for the backup of another device; only then
what is older goes. Until the last step the backup that was whole before still is, whatever fails
or is killed, and what was uploaded is found and used by the next call.

What safety rests on is asked by name or read back, never taken from a listing, which may be late.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, Final

from quorumvault._version import VERSION
from quorumvault.backup.crew import default_workers
from quorumvault.backup.cut import Cutter
from quorumvault.backup.errors import (
    Damaged,
    RolledBack,
    SourceChanged,
    SourceRefused,
    StorageError,
)
from quorumvault.backup.exclude import Exclude
from quorumvault.backup.holdings import ManifestName, chunks_of_newest, look, opens
from quorumvault.backup.keys import BACKUP_ID_BYTES
from quorumvault.backup.listing import Listing
from quorumvault.backup.manifest import ManifestWriter
from quorumvault.backup.objects import chunk_object_bytes
from quorumvault.backup.progress import SILENT
from quorumvault.backup.publish import publish
from quorumvault.backup.readback import bad_chunks, missing_chunks
from quorumvault.backup.removal import remove_older
from quorumvault.backup.sources import gather, leave_out
from quorumvault.backup.spool import room, spooled
from quorumvault.backup.upload import Uploads
from quorumvault.backup.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from quorumvault.backup.holdings import Holdings
    from quorumvault.backup.keys import Keys
    from quorumvault.backup.progress import Progress
    from quorumvault.backup.sources import Source
    from quorumvault.backup.storage import Storage

__all__ = ["Check", "Made", "create"]

TOOL: Final = f"quorumvault {VERSION}"
PASSES: Final = 3
"""How often the sources are read at most: again when a file was renamed under the walk's eyes, when
a database was changed before its log was read, or when objects that were stored are not there."""
FORGED_GENERATION: Final = 2**62
"""No device counts so far by itself: a name with such a number must open to be counted."""


class Check(StrEnum):
    """What is read back before older backups go."""

    NEW = "new"
    """What this run uploaded, and what it found that no whole backup had; of all else the size."""
    ALL = "all"
    """Every object of the new backup."""


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that is whole.

    Attributes:
        generation: its number, higher than that of any before.
        backup_id: 16 bytes, its name.
        created_s: when, in seconds since 1970.
        files, folders, bytes: what it holds; bytes are those of all files.
        chunks: objects that hold them.
        uploaded_objects, uploaded_bytes: what this run sent, its manifest included.
        stored_bytes: all objects of this backup in the storage.
        removed_objects: how many older ones went.
        skipped: places that are not in it, as `skip_unreadable` allowed.
        doubts: of `new_key` with a password: as `Secured` has them.

    """

    generation: int
    backup_id: bytes
    created_s: int
    files: int
    folders: int
    bytes: int
    chunks: int
    uploaded_objects: int
    uploaded_bytes: int
    stored_bytes: int
    removed_objects: int
    skipped: tuple[str, ...]
    doubts: tuple[str, ...] = ()


def create(
    storage: Storage,
    keys: Keys,
    sources: Sequence[Path],
    *,
    known_generation: int = 0,
    exclude: Sequence[str] = (),
    keep_out: Sequence[Path] = (),
    skip_unreadable: bool = False,
    check: Check = Check.NEW,
    workers: int | None = None,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> Made:
    """Back up the sources, read it back, remove what is older.

    Chunks that are stored already are not sent again. A call that failed, was stopped or killed
    is taken up by the next one.

    Args:
        storage: where it goes.
        keys: of the backup key.
        sources: files and folders.
        known_generation: of the newest backup that this device knows of.
        exclude: patterns as `exclude.Exclude` has them.
        keep_out: folders that must not be in the backup, such as this device's profile; that of
            the storage needs no mention.
        skip_unreadable: leave out what can't be read, and say so in `Made.skipped`, instead of
            making no backup at all.
        check: what is read back.
        workers: threads that seal and send, each with about 20 MiB of memory; by default see
            `crew.default_workers`.
        progress: told what is going on.
        stop: set to stop the work.

    Raises:
        SourceError: a file or folder can't be backed up, or none of the sources holds a file any
            more.
        RolledBack: the storage shows only backups older than `known_generation`.
        FutureVersion: the storage holds a backup of a newer format.
        AnotherWriter: another device made a backup meanwhile; that one counts.
        Damaged: what was stored did not come back, twice.
        StorageError: the provider refused or failed. After the new backup was whole, it says so.
        NoSpace: no room for a temporary file.
        Cancelled: `stop` is set.

    """
    order = _Order(
        storage=storage,
        keys=keys,
        known_generation=known_generation,
        exclude=Exclude(exclude),
        keep_out=(*keep_out, *([] if storage.folder is None else [storage.folder])),
        skip_unreadable=skip_unreadable,
        check=check,
        workers=default_workers(storage) if workers is None else max(1, workers),
        progress=progress,
        stop=stop or threading.Event(),
    )
    return _Creation(order).run(sources)


@dataclass(frozen=True, slots=True)
class _Order:
    """What `create` was called with."""

    storage: Storage
    keys: Keys
    known_generation: int
    exclude: Exclude
    keep_out: tuple[Path, ...]
    skip_unreadable: bool
    check: Check
    workers: int
    progress: Progress
    stop: threading.Event


@dataclass(frozen=True, slots=True)
class _Pass:
    """One reading of all sources: the sealed manifest, and the chunks that it names."""

    files: int
    folders: int
    size: int
    lengths: dict[bytes, int]
    manifest_bytes: int
    renamed: str | None
    torn: str | None
    skipped: tuple[str, ...]


class _Creation:
    """The steps, in their order."""

    def __init__(self, order: _Order) -> None:
        self._order = order
        self._storage = order.storage
        self._keys = order.keys
        self._held: dict[bytes, int] = {}  # chunks to use again, and their objects' sizes
        self._sound: set[bytes] = set()  # those of them that need not be opened any more
        self._proven: frozenset[bytes] = frozenset()  # those that the newest backup has
        self._sent: dict[bytes, int] = {}  # what was uploaded, and its objects' sizes

    def run(self, sources: Sequence[Path]) -> Made:
        order = self._order
        order.progress.phase("look", None)
        places = gather(sources, exclude=order.exclude, keep_out=order.keep_out)
        files, total = 0, 0
        for entry in self._walk(places):
            files += not entry.is_folder
            total += entry.size
        holdings = look(self._storage, self._keys)
        generation = self._next_generation(holdings)
        proven = chunks_of_newest(self._storage, self._keys, holdings.manifests)
        if proven and not files:
            raise SourceRefused(
                f"there is no file in {', '.join(map(str, sources))}, and the backup in the storage"
                " has some: is the disk connected? Nothing was changed; to have that backup"
                " removed, turn backups off"
            )
        self._held = dict(holdings.chunks)
        self._proven = frozenset(
            chunk_id
            for chunk_id, length in proven.items()
            if self._held.get(chunk_id) in {chunk_object_bytes(length), -1}
        )
        self._sound = set() if order.check is Check.ALL else set(self._proven)
        del proven

        backup_id = os.urandom(BACKUP_ID_BYTES)
        own = ManifestName(generation, backup_id, self._keys.manifest_name(generation, backup_id))
        created_s = max(0, int(time.time()))
        with spooled() as spool:
            made = self._passes(places, own, created_s, spool, total)
            publish(
                self._storage,
                self._keys,
                own,
                spool,
                made.manifest_bytes,
                seen=holdings.manifests,
                doubtful={
                    chunk_id: length
                    for chunk_id, length in made.lengths.items()
                    if chunk_id not in self._proven
                },
                workers=order.workers,
                stop=order.stop,
            )
        removed = self._remove(own, holdings, made)
        return Made(
            generation=generation,
            backup_id=backup_id,
            created_s=created_s,
            files=made.files,
            folders=made.folders,
            bytes=made.size,
            chunks=len(made.lengths),
            uploaded_objects=len(self._sent) + 1,
            uploaded_bytes=sum(self._sent.values()) + made.manifest_bytes,
            stored_bytes=sum(map(chunk_object_bytes, made.lengths.values())) + made.manifest_bytes,
            removed_objects=removed,
            skipped=made.skipped,
        )

    def _next_generation(self, holdings: Holdings) -> int:
        """One more than any before.

        Raises:
            RolledBack: there are backups, but none as new as what this device knows.

        """
        known = self._order.known_generation
        newest = max(
            (
                manifest.generation
                for manifest in holdings.manifests
                if manifest.generation < FORGED_GENERATION
                or opens(self._storage, self._keys, manifest)
            ),
            default=0,
        )
        if holdings.manifests and newest < known:
            raise RolledBack(
                f"the storage shows backup number {newest} as its newest, but this device made or"
                f" knew number {known}: the storage went back in time, or is another one."
                " Nothing was changed; check the storage's address"
            )
        return max(newest, known) + 1

    # ------------------------------------------------------------ chunks

    def _walk(self, places: Sequence[Source]) -> Walk:
        order = self._order
        return Walk(
            places,
            exclude=order.exclude,
            keep_out=order.keep_out,
            skip_unreadable=order.skip_unreadable,
        )

    def _passes(
        self,
        places: Sequence[Source],
        own: ManifestName,
        created_s: int,
        spool: BinaryIO,
        total: int,
    ) -> _Pass:
        """Upload until all chunks are there; the pass that `spool` holds the manifest of."""
        bad: set[bytes] = set()
        for last in (False,) * (PASSES - 1) + (True,):
            self._order.progress.phase("upload", total)
            made = self._pass(places, own, created_s, spool)
            if (made.renamed or made.torn) is not None and not last:
                continue
            if made.torn is not None:
                raise SourceChanged(
                    f"{made.torn} is a database in use: each time it was read, it was changed"
                    " before its log was; back up a snapshot of it instead (SQLite: VACUUM INTO),"
                    f" or exclude it: {leave_out(made.torn)}"
                )
            if made.renamed is not None and not self._order.skip_unreadable:
                raise SourceChanged(
                    f"files in {made.renamed} were renamed each time it was read; try again when"
                    f" that is over, or exclude it: {leave_out(made.renamed)}"
                )
            before, bad = bad, self._bad(made)
            if not bad:
                return made
            if last or bad & before:
                break
            for chunk_id in bad:
                self._held.pop(chunk_id, None)
                self._sound.discard(chunk_id)
        names = tuple(sorted(map(self._keys.chunk_name, bad)))
        raise Damaged(
            f"{len(names)} objects were stored twice, and are missing or damaged when they are"
            f" read back (first {names[0]}); nothing older was removed."
            f" Check the storage {self._storage.shown}, then run this again",
            objects=names[:1_000],
        )

    def _pass(
        self, places: Sequence[Source], own: ManifestName, created_s: int, spool: BinaryIO
    ) -> _Pass:
        """Read all sources, store the chunks that are not there, write the manifest to `spool`."""
        order = self._order
        spool.seek(0)
        spool.truncate()
        writer = ManifestWriter(
            self._keys,
            own.generation,
            own.backup_id,
            spool,
            created_s=created_s,
            tool=TOOL,
        )
        walk = self._walk(places)
        with (
            room(),
            Uploads(
                self._storage, self._keys, held=self._held, workers=order.workers, stop=order.stop
            ) as uploads,
        ):
            cutter = Cutter(
                walk,
                buffers=uploads.buffer,
                give_back=uploads.give_back,
                fingerprint=self._keys.cut_mark,
                stop=order.stop,
                read=order.progress.advance,
            )
            listing = Listing(writer, uploads)
            for event in cutter:
                listing.take(event)
            manifest_bytes = listing.finish()
            spool.flush()
        uploads.check()
        self._sound |= uploads.proven
        for chunk_id in uploads.uploaded:
            size = chunk_object_bytes(uploads.lengths[chunk_id])
            self._sent[chunk_id] = self._held[chunk_id] = size
        for chunk_id in uploads.lengths.keys() - listing.numbers.keys():
            del uploads.lengths[chunk_id]  # of a file that changed while it was read
        return _Pass(
            files=listing.files,
            folders=listing.folders,
            size=listing.bytes,
            lengths=uploads.lengths,
            manifest_bytes=manifest_bytes,
            renamed=walk.renamed,
            torn=walk.torn,
            skipped=(*walk.skipped, *([] if walk.renamed is None else [walk.renamed])),
        )

    def _bad(self, made: _Pass) -> set[bytes]:
        """The chunks of the backup that are not there as they should be."""
        order = self._order
        self._storage.settle()
        opened = {
            chunk_id: length
            for chunk_id, length in made.lengths.items()
            if chunk_id not in self._sound
        }
        asked = {
            chunk_id: length for chunk_id, length in made.lengths.items() if chunk_id not in opened
        }
        bad = bad_chunks(
            self._storage,
            self._keys,
            opened,
            own=self._sent,
            workers=order.workers,
            progress=order.progress,
            stop=order.stop,
        )
        self._sound.update(opened.keys() - bad)
        return bad | missing_chunks(
            self._storage, self._keys, asked, workers=order.workers, stop=order.stop
        )

    # ------------------------------------------------------------ the end of what is older

    def _remove(self, own: ManifestName, holdings: Holdings, made: _Pass) -> int:
        self._order.progress.phase("clean", None)
        unused = {*holdings.chunks, *self._sent} - made.lengths.keys()
        objects = [*sorted(map(self._keys.chunk_name, unused)), *holdings.others]
        try:
            return remove_older(
                self._storage, self._keys, own, seen=holdings.manifests, objects=objects
            )
        except StorageError as error:
            raise type(error)(
                f"the new backup is whole, but older objects could not be removed: {error}."
                " The next backup removes them"
            ) from error
