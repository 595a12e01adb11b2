"""Puts the files of a backup where the owner wants them: all of them, each byte checked, or none.

The order is what keeps the promise: read and check the list of files, look whether all of it could
be put in place, fetch into a hidden folder beside, put that on the disk, then move. Nothing of the
owner's is ever replaced. After a kill, a lost connection or Ctrl-C the hidden folder stays, and
the same call goes on; after any other error it is removed.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from quorumvault.backup.catalog import choose, find
from quorumvault.backup.errors import (
    AnotherWriter,
    BackupError,
    Cancelled,
    Damaged,
    InUse,
    NotThere,
    StorageError,
    TargetError,
    TargetRefused,
)
from quorumvault.backup.fill import Filler
from quorumvault.backup.manifest import read_manifest, sealed_pieces
from quorumvault.backup.place import Folders, open_target, refused, sync_disk, unmake_target
from quorumvault.backup.progress import SILENT
from quorumvault.backup.selection import Selection
from quorumvault.backup.staging import Staging, Ticket, Totals, leftovers
from quorumvault.backup.survey import Survey

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from quorumvault.backup.holdings import ManifestName
    from quorumvault.backup.keys import Keys
    from quorumvault.backup.manifest import Frame
    from quorumvault.backup.progress import Progress
    from quorumvault.backup.storage import Storage

__all__ = ["Restored", "copy_manifest", "explain_damage", "restore"]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put in place.

    Attributes:
        generation: of the backup.
        files: how many.
        folders: how many, with those that were there already.
        bytes: of all files together.
        target: the folder that they are in.

    """

    generation: int
    files: int
    folders: int
    bytes: int
    target: Path


def restore(
    storage: Storage,
    keys: Keys,
    target: Path,
    *,
    only: Sequence[str] = (),
    generation: int | None = None,
    known_generation: int = 0,
    workers: int | None = None,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> Restored:
    """Restore the newest backup into the folder `target`, which is made where it is not there.

    Args:
        storage: where the backup is.
        keys: that open it.
        target: no component of its path may be a symlink. Folders in it are merged into.
        only: files and folders as `contents` shows them; by default everything.
        generation: an older backup that the storage still has; by default the newest.
        known_generation: what this device wrote last; an older newest one is refused.
        workers: threads; about 12 MiB of memory each.
        progress: hears the phases "read" and "restore".
        stop: when set, the call ends with Cancelled.

    Raises:
        NoBackup, WrongKey, FutureVersion, RolledBack, NotInBackup: nothing to restore.
        Damaged: an object is missing or changed; nothing was put in place.
        AnotherWriter: a newer backup took the place of this one meanwhile; call again.
        TargetExists, TargetRefused, NameNotPossible, NoSpace: nothing was put in place.
        InUse: another call restores to the same folder.
        Cancelled, StorageError: the same call goes on from where this one ended.

    """
    selection = Selection(only)
    _refuse_storage(storage, target)
    folder, made = open_target(target)
    try:
        work = _Work(storage, keys, target, folder, selection, progress)
        moved = work.finish_earlier(generation)
        if moved is not None:
            return moved
        found = choose(storage, keys, generation=generation, known_generation=known_generation)
        with work.staging(found, made) as staging:
            return work.run(found, staging, workers, stop)
    except BaseException:
        unmake_target(target, made)  # removes only what is empty
        raise
    finally:
        os.close(folder)


def _refuse_storage(storage: Storage, target: Path) -> None:
    """Whoever sees the sealed copies would see the files beside them."""
    if storage.folder is None:
        return
    place = os.path.realpath(storage.folder)
    if os.path.commonpath([place, os.path.realpath(target)]) == place:
        raise TargetRefused(
            f"{target} lies in the storage {storage.shown}, where others could read all of it;"
            " restore to another folder"
        )


class _Work:
    """One call of `restore`."""

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        target: Path,
        folder: int,
        selection: Selection,
        progress: Progress,
    ) -> None:
        self._storage = storage
        self._keys = keys
        self._target = target
        self._folder = folder
        self._selection = selection
        self._progress = progress

    # ------------------------------------------------------------ what an earlier call left

    def finish_earlier(self, generation: int | None) -> Restored | None:
        """Complete the moves of a call that was killed in them; what it restored if as asked now.

        Raises:
            TargetExists, TargetRefused: the moves are not possible any more; what is in place
                stays, for its owner may have worked with it since.

        """
        wanted: Restored | None = None
        for name in leftovers(self._folder):
            try:
                staging = Staging.enter(self._folder, name)
            except InUse:  # it ends its moves itself
                continue
            if staging is None:
                continue
            with contextlib.closing(staging):
                totals = staging.done() or staging.moving()
                if totals is None or totals.ticket.folder != self._keys.folder:
                    continue
                try:
                    done = self._put_in_place(staging, totals)
                except TargetError:
                    removed = staging.descriptor < 0
                    if not removed and staging.moving() is None and staging.done() is None:
                        self._discard(staging)
                    raise
                asked = generation in {None, totals.ticket.generation}
                if asked and totals.ticket.only == self._selection.paths:
                    wanted = done
        return wanted

    @contextlib.contextmanager
    def staging(self, found: ManifestName, made: int) -> Iterator[Staging]:
        """The folder to work in, of an earlier call or new; kept after what the same call mends.

        Raises:
            InUse: another call is at work in it.
            TargetRefused, NoSpace: it can't be made.

        """
        ticket = self._ticket(found)
        staging = self._resumable(ticket)
        if staging is None:
            staging = Staging.begin(self._folder, ticket, made)
        try:
            yield staging
        except NotThere:
            self._discard(staging)
            raise
        except (StorageError, Cancelled, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException:
            removed = staging.descriptor < 0  # as far as it could be
            if not removed and staging.moving() is None and staging.done() is None:
                self._discard(staging)
            raise
        finally:
            staging.close()

    def _resumable(self, ticket: Ticket) -> Staging | None:
        """What an earlier call with this ticket left; leftovers of other ones are removed."""
        same: Staging | None = None
        for name in leftovers(self._folder):
            try:
                staging = Staging.enter(self._folder, name)
            except InUse:
                if name == ticket.name:
                    raise
                continue
            if staging is None:
                self._refuse(name, ticket)
            elif staging.ticket == ticket and staging.tells_names_apart():
                same = staging
            elif self._may_remove(staging):
                staging.remove()
            else:
                staging.close()
                self._refuse(name, ticket)
        return same

    def _may_remove(self, staging: Staging) -> bool:
        """Whether a staging that is of no use is ours: of this key, or given up at its start."""
        if staging.ticket is None:
            return staging.holds_only_ours()
        return staging.ticket.folder == self._keys.folder

    def _refuse(self, name: str, ticket: Ticket) -> None:
        if name == ticket.name:
            raise TargetRefused(
                f"{name} in {self._target} is not ours, or others may write to it; remove it and"
                " try again"
            )

    def _ticket(self, found: ManifestName) -> Ticket:
        return Ticket(
            folder=self._keys.folder,
            generation=found.generation,
            backup_id=found.backup_id,
            only=self._selection.paths,
        )

    def _discard(self, staging: Staging) -> None:
        made = staging.made
        staging.remove()
        unmake_target(self._target, made)

    # ------------------------------------------------------------ the work

    def run(
        self,
        found: ManifestName,
        staging: Staging,
        workers: int | None,
        stop: threading.Event | None,
    ) -> Restored:
        """Read, look, fetch, move."""
        try:
            with staging.manifest() as manifest, staging.tree() as tree:
                copy_manifest(self._storage, self._keys, found, manifest, self._progress)

                def frames() -> Iterator[Frame]:
                    manifest.seek(0)
                    return read_manifest(self._keys, found.generation, found.backup_id, manifest)

                totals = self._survey(frames, staging, self._ticket(found))
                self._progress.phase("restore", totals.bytes)
                filler = Filler(
                    self._storage,
                    self._keys,
                    tree,
                    resumed=staging.resumed,
                    progress=self._progress,
                    workers=workers,
                    stop=stop,
                )
                filler.run(frames(), self._selection)
                filler.set_times(frames(), self._selection)
                if staging.resumed and staging.there()[0] != totals.files + totals.folders:
                    raise TargetRefused(
                        f"somebody put files into {staging.name} in {self._target}; it is removed"
                        " now: try again"
                    )
        except Damaged as error:
            raise explain_damage(self._storage, self._keys, found, error) from error
        try:
            sync_disk(staging.descriptor)
            staging.complete(totals)
        except OSError as error:
            raise refused(error, "the restored files") from error
        return self._put_in_place(staging, totals)

    def _survey(
        self, frames: Callable[[], Iterator[Frame]], staging: Staging, ticket: Ticket
    ) -> Totals:
        target = Folders(self._folder)
        try:
            survey = Survey(target, os.fstat(staging.descriptor).st_dev)
            block = os.fstatvfs(staging.descriptor).f_frsize
            survey.look(frames(), self._selection, block=block)
            if self._selection.unmet():
                raise self._selection.explain(frames())
            totals = survey.verdict(ticket)
            survey.check_room(staging.descriptor, staging.there()[1] if staging.resumed else 0)
        finally:
            target.close()
        return totals

    def _put_in_place(self, staging: Staging, totals: Totals) -> Restored:
        try:
            if staging.done() is None:
                staging.move_all()
                staging.finish(totals)
        except OSError as error:
            raise refused(error, "the restored files") from error
        staging.remove()
        return Restored(
            generation=totals.ticket.generation,
            files=totals.files,
            folders=totals.folders,
            bytes=totals.bytes,
            target=self._target,
        )


def copy_manifest(
    storage: Storage, keys: Keys, found: ManifestName, into: BinaryIO, progress: Progress
) -> None:
    """Copy the sealed manifest into a file, in phase "read".

    Raises:
        Damaged: it is not there, longer than listed, or not what was sealed.
        FutureVersion: it is of a later version of the format.
        StorageError: the provider refused or failed.

    """
    progress.phase("read", found.size if found.size >= 0 else None)
    size = found.size if found.size >= 0 else storage.size(found.name)
    copied = 0
    try:
        with storage.open(found.name) as source:
            for block in sealed_pieces(keys, found.generation, found.backup_id, source):
                copied += len(block)
                if size is not None and copied > size:
                    raise Damaged(
                        f"{found.name} is longer than the storage said", objects=(found.name,)
                    )
                try:
                    into.write(block)
                except OSError as error:
                    raise refused(error, "the list of files") from error
                progress.advance(len(block))
    except NotThere as error:
        raise Damaged(
            f"the storage lists {found.name}, but does not have it; its listing may be late: try"
            " again in some minutes",
            objects=(found.name,),
        ) from error
    into.flush()


def explain_damage(
    storage: Storage, keys: Keys, found: ManifestName, damage: Damaged
) -> Damaged | AnotherWriter:
    """Tell damage from a backup that was replaced meanwhile, and name older ones that are there."""
    try:
        listed = find(storage, keys)
    except BackupError:
        return damage  # whatever happens to the storage now, that is what was found
    names = {one.name for one in listed}
    if listed[0].generation > found.generation and found.name not in names:
        return AnotherWriter(
            f"backup {found.generation} was replaced by backup {listed[0].generation} while it was"
            " read; call again"
        )
    older = [
        one for one in listed if one.generation < found.generation and _whole(storage, keys, one)
    ]
    if not older:
        return damage
    return Damaged(
        f"{damage}. The older backup {older[0].generation} is there with a whole list of files;"
        f" restore it with --backup {older[0].generation}",
        objects=damage.objects,
        files=damage.files,
    )


def _whole(storage: Storage, keys: Keys, found: ManifestName) -> bool:
    """Whether a manifest opens to its end."""
    try:
        with storage.open(found.name) as source:
            for _ in read_manifest(keys, found.generation, found.backup_id, source):
                pass
    except BackupError:
        return False
    return True
