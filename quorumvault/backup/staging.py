"""The hidden folder in which a restore grows until all of it is there and checked.

    .quorumvault-restore-GENERATION-ID/   0700, locked while a call is at work
        ticket      what is restored: whose, which backup, which part of it
        manifest    as the storage has it, sealed
        tree/       the files and folders
        moves       from when all is complete: what is moved into place
        done        what `moves` becomes when all is in place; the last to be removed

Nothing appears under its final name before `moves` is on the disk. What stands in the way of a
move makes the call move back what it had moved. After a kill the next call moves the rest; but what
the killed one had moved stays where it is, whatever comes: its owner may have worked with it since.
Before, the tree is taken up again, but no byte of it is trusted: each is compared with the backup
again (`fill`).

Others may be able to write to the target, and so to give the staging's name to something else. So
what is in it is written and removed by its descriptor; by its name only an empty folder is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from quorumvault.backup.errors import InUse, TargetError, TargetExists, TargetRefused
from quorumvault.backup.names import shown
from quorumvault.backup.place import (
    FOLDER_FLAGS,
    Folders,
    clear_tree,
    move_new,
    refused,
    remove_tree,
    sync_disk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PREFIX", "Staging", "Ticket", "Totals", "leftovers"]

PREFIX: Final = ".quorumvault-restore-"
FORMAT: Final = 1
MAX_TICKET_BYTES: Final = 16 * 1_048_576  # `only` may list many paths
_NAMES: Final = frozenset(
    ["ticket", "ticket.new", "manifest", "tree", "moves", "moves.new", "done", "probe-k", "probe-ä"]
)
_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

_Path = tuple[bytes, ...]


class Ticket(Struct, frozen=True, forbid_unknown_fields=True):
    """What is being restored; two calls with equal tickets do the same work.

    Attributes:
        folder: the key's in the storage.
        generation: the backup's.
        backup_id: likewise.
        only: the paths that were asked for, sorted; none: all.
        format: of this file.

    """

    folder: str
    generation: int
    backup_id: bytes
    only: tuple[_Path, ...]
    format: int = FORMAT

    @property
    def name(self) -> str:
        """The staging folder's."""
        return f"{PREFIX}{self.generation}-{self.backup_id.hex()[:16]}"


class Totals(Struct, frozen=True, forbid_unknown_fields=True):
    """What the moves bring into place, and what is left to do after them.

    Attributes:
        ticket: what was asked for.
        files: how many.
        folders: likewise.
        bytes: of all files.
        late: folders, deepest last, whose own mode would keep us from moving them, and that mode.

    """

    ticket: Ticket
    files: int
    folders: int
    bytes: int
    late: tuple[tuple[_Path, Annotated[int, Meta(ge=0, le=0o777)]], ...]


class _Ticketed(Struct, frozen=True, forbid_unknown_fields=True):
    ticket: Ticket
    made: int


_Kind = TypeVar("_Kind")


def leftovers(target: int) -> list[str]:
    """The names of the staging folders in the target."""
    return sorted(name for name in os.listdir(target) if name.startswith(PREFIX))


class Staging:
    """One staging folder, open and locked.

    Attributes:
        ticket: what it is for; None where it holds no readable one: nothing was begun.
        made: how many folders at the end of the target's path the first call made.
        resumed: it was there before.

    """

    def __init__(self, target: int, name: str, folder: int, *, resumed: bool) -> None:
        """Use `enter` or `begin`."""
        self._target = target
        self._folder = folder
        self.name = name
        self.resumed = resumed
        found = self._read("ticket", _Ticketed)
        self.ticket = found.ticket if found else None
        self.made = found.made if found else 0

    # ------------------------------------------------------------ coming and going

    @classmethod
    def begin(cls, target: int, ticket: Ticket, made: int) -> Staging:
        """Make the folder and put the ticket into it.

        Raises:
            TargetRefused: no permission.
            NoSpace: no room.
            InUse: another call is at the same work.

        """
        try:
            os.mkdir(ticket.name, 0o700, dir_fd=target)
        except FileExistsError as error:
            raise _in_use(ticket.name) from error
        except OSError as error:
            raise refused(error, "the folder to restore into") from error
        staging = cls._open(target, ticket.name, resumed=False)
        if os.listdir(staging.descriptor):  # noqa: PTH208 - of a descriptor
            staging.close()
            raise _exchanged(ticket.name)
        try:
            staging._write("ticket", msgspec.msgpack.encode(_Ticketed(ticket, made)))  # noqa: SLF001
            staging.ticket, staging.made = ticket, made
            os.mkdir("tree", 0o700, dir_fd=staging._folder)  # noqa: SLF001
        except OSError as error:
            staging.remove()
            raise refused(error, "the folder to restore into") from error
        return staging

    @classmethod
    def enter(cls, target: int, name: str) -> Staging | None:
        """Take up what an earlier call left; None where it is not ours to touch.

        Raises:
            InUse: another call is at work with it.
            TargetRefused: it can't be opened.

        """
        try:
            found = os.stat(name, dir_fd=target, follow_symlinks=False)
            ours = found.st_uid == os.geteuid() and not found.st_mode & 0o022
            if not stat.S_ISDIR(found.st_mode) or not ours:
                return None
            return cls._open(target, name, resumed=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refused(error, name) from error

    @classmethod
    def _open(cls, target: int, name: str, *, resumed: bool) -> Staging:
        folder = os.open(name, FOLDER_FLAGS, dir_fd=target)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _check_owner(folder, name)
            return cls(target, name, folder, resumed=resumed)
        except BlockingIOError as error:
            os.close(folder)
            raise _in_use(name) from error
        except BaseException:
            os.close(folder)
            raise

    def close(self) -> None:
        """Leave it as it is for the next call."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def remove(self) -> None:
        """Remove it with all that is in it.

        The ticket goes first, so that nothing takes up a tree that is half removed; what tells
        that all is in place goes last.

        Raises:
            TargetRefused: the system does not let us.

        """
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink("ticket", dir_fd=self._folder)
                os.fsync(self._folder)
            with contextlib.suppress(FileNotFoundError):
                remove_tree(self._folder, b"tree")
            with contextlib.suppress(FileNotFoundError):
                os.unlink("manifest", dir_fd=self._folder)
            clear_tree(self._folder)
            if self._has_its_name():
                os.rmdir(self.name, dir_fd=self._target)
        except OSError as error:
            raise refused(error, self.name) from error
        finally:
            self.close()

    def _has_its_name(self) -> bool:
        """Whether nobody has given the name to another folder."""
        try:
            named = os.stat(self.name, dir_fd=self._target, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(self._folder))

    # ------------------------------------------------------------ what is in it

    def manifest(self) -> BinaryIO:
        """An empty file to keep the sealed manifest in, for writing and reading."""
        try:
            return os.fdopen(self._at("manifest", _FILE | os.O_TRUNC), "w+b")
        except OSError as error:
            raise refused(error, "the list of files") from error

    @contextlib.contextmanager
    def tree(self) -> Iterator[Folders]:
        """The folders of the tree."""
        with contextlib.suppress(FileExistsError):
            os.mkdir("tree", 0o700, dir_fd=self._folder)
        root = os.open("tree", FOLDER_FLAGS, dir_fd=self._folder)
        folders = Folders(root)
        try:
            yield folders
        finally:
            folders.close()
            os.close(root)

    def holds_only_ours(self) -> bool:
        """Whether each name in it is one that we give."""
        return all(name in _NAMES for name in os.listdir(self._folder))  # noqa: PTH208

    def there(self) -> tuple[int, int]:
        """How many files and folders are in the tree, and how much of the disk they take."""
        count = total = 0
        waiting: list[_Path] = [()]
        with self.tree() as tree:
            while waiting:
                path = waiting.pop()
                with tree.at(path) as folder, os.scandir(folder) as entries:
                    for entry in entries:
                        count += 1
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append((*path, os.fsencode(entry.name)))
        return count, total

    @property
    def descriptor(self) -> int:
        """Of the staging folder itself; -1 once it is closed."""
        return self._folder

    def tells_names_apart(self) -> bool:
        """Whether the disk has `k` beside `K`, and both spellings of an umlaut.

        Where it has not, a name that is there already may be another file's.
        """
        return all(self._apart(one, other) for one, other in (("k", "K"), ("\u00e4", "a\u0308")))

    def _apart(self, one: str, other: str) -> bool:
        os.close(self._at(f"probe-{one}", _FILE))
        try:
            os.stat(f"probe-{other}", dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return True
        finally:
            os.unlink(f"probe-{one}", dir_fd=self._folder)
        return False

    # ------------------------------------------------------------ the moves

    def moving(self) -> Totals | None:
        """What is to be moved, once all is complete; None before."""
        entries = self._log("moves")
        return entries[0] if entries else None

    def done(self) -> Totals | None:
        """What was moved, once all is in its place; None before."""
        entries = self._log("done")
        return entries[0] if entries else None

    def complete(self, totals: Totals) -> None:
        """Say that the tree is whole and on the disk; from now on it is moved.

        Raises:
            OSError: the disk failed.

        """
        self._write("moves", _framed(msgspec.msgpack.encode(totals)))

    def move_all(self) -> None:
        """Move everything to where it belongs; go on where an earlier call was killed.

        Raises:
            TargetExists: something came to be there meanwhile; all is back in the tree. But what a
                killed call moved stays in place, the rest in the tree: the same call goes on.
            TargetRefused: the system does not let us; likewise.

        """
        entries = self._log("moves")
        before = set(entries[1]) if entries else set()
        log = self._at("moves", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        target = Folders(self._target)
        try:
            with self.tree() as tree:
                try:
                    _Moves(tree, target, log, before).run()
                except (OSError, TargetError):
                    if not before:
                        self._move_back(tree, target)
                    raise
        finally:
            target.close()
            os.close(log)

    def finish(self, totals: Totals) -> None:
        """Give folders that were moved the modes that had to wait, and say that all is done.

        Raises:
            OSError: the system does not let us.

        """
        target = Folders(self._target)
        try:
            with self.tree() as tree:
                for path, mode in reversed(totals.late):
                    # What is still in the tree was merged into a folder of the owner's.
                    if not _exists(tree, path):
                        _give_mode(target, path, mode)
        finally:
            target.close()
        sync_disk(self._target)
        os.rename("moves", "done", src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)

    def _move_back(self, tree: Folders, target: Folders) -> None:
        entries = self._log("moves")
        for path in reversed(entries[1] if entries else ()):
            if not _exists(tree, path) and _exists(target, path):
                with tree.at(path[:-1]) as goal, target.at(path[:-1]) as source:
                    move_new(source, path[-1], goal, path[-1])
        os.unlink("moves", dir_fd=self._folder)

    def _log(self, name: str) -> tuple[Totals, list[_Path]] | None:
        try:
            data = self._whole(name, -1)
        except FileNotFoundError:
            return None
        frames = list(_frames(data))
        totals = msgspec.msgpack.decode(frames[0], type=Totals)
        return totals, [msgspec.msgpack.decode(frame, type=_Path) for frame in frames[1:]]

    # ------------------------------------------------------------ small files

    def _at(self, name: str, flags: int) -> int:
        return os.open(name, flags, 0o600, dir_fd=self._folder)

    def _whole(self, name: str, limit: int) -> bytes:
        with os.fdopen(self._at(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return file.read(limit)

    def _read(self, name: str, kind: type[_Kind]) -> _Kind | None:
        try:
            return msgspec.msgpack.decode(self._whole(name, MAX_TICKET_BYTES), type=kind)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def _write(self, name: str, data: bytes) -> None:
        """Whole and on the disk, or not at all."""
        with os.fdopen(self._at(f"{name}.new", _FILE | os.O_TRUNC), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{name}.new", name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)


class _Moves:
    """Moves what is in the tree to the target; folders that are there already are merged into."""

    def __init__(self, tree: Folders, target: Folders, log: int, before: set[_Path]) -> None:
        self._tree = tree
        self._target = target
        self._log = log
        self._before = before

    def run(self) -> None:
        waiting: list[_Path] = [()]
        while waiting:
            path = waiting.pop()
            with self._tree.at(path) as source, self._target.at(path) as goal:
                for name in sorted(os.listdir(source)):  # noqa: PTH208 - of a descriptor
                    inner = (*path, os.fsencode(name))
                    if not self._move(source, goal, inner):
                        waiting.append(inner)

    def _move(self, source: int, goal: int, path: _Path) -> bool:
        """Whether it is in its place; else it is a folder to merge into another."""
        name = path[-1]
        _write_all(self._log, _framed(msgspec.msgpack.encode(path)))
        try:
            move_new(source, name, goal, name)
        except FileExistsError:
            ours = os.stat(name, dir_fd=source, follow_symlinks=False)
            there = os.stat(name, dir_fd=goal, follow_symlinks=False)
            if stat.S_ISDIR(ours.st_mode) and stat.S_ISDIR(there.st_mode):
                return False
            self._take_up(source, goal, path, ours, there)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise TargetRefused(
                    f"the folder of {shown(path)} is on another disk than the target; restore to"
                    " an empty folder and move the files from there"
                ) from error
            raise refused(error, shown(path)) from error
        return True

    def _take_up(
        self, source: int, goal: int, path: _Path, ours: os.stat_result, there: os.stat_result
    ) -> None:
        """Finish a move by link or over our own empty file that a kill cut in two."""
        name = path[-1]
        if os.path.samestat(ours, there):
            os.unlink(name, dir_fd=source)
        elif path in self._before and stat.S_ISREG(there.st_mode) and not there.st_size:
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=goal)
        elif self._before:
            raise TargetExists(
                f"{shown(path)} came to be there since a restore was cut off; it was not touched."
                " What that restore had put in place stays, the rest waits: move"
                f" {shown(path)} away and try again"
            )
        else:
            raise TargetExists(
                f"{shown(path)} came to be there while we worked; it was not touched, and nothing"
                " was restored: move it away and try again"
            )


def _check_owner(folder: int, name: str) -> None:
    """What was opened is ours, too: it may have been exchanged since it was looked at."""
    found = os.fstat(folder)
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise _exchanged(name)


def _exchanged(name: str) -> TargetRefused:
    return TargetRefused(f"{name} was exchanged while we worked; nothing was restored")


def _give_mode(target: Folders, path: _Path, mode: int) -> None:
    try:
        with target.at(path) as folder:
            os.fchmod(folder, mode)
    except PermissionError as error:
        # Closed to us: it or one above has its mode from a call that was killed after that; and
        # what is deeper had its before.
        if error.errno != errno.EACCES:
            raise


def _exists(folders: Folders, path: _Path) -> bool:
    try:
        with folders.at(path[:-1]) as folder:
            os.stat(path[-1], dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _frames(data: bytes) -> Iterator[bytes]:
    """Every whole frame; a kill may have cut the last one off."""
    start = 0
    while len(data) - start >= 4:
        end = start + 4 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            return
        yield data[start + 4 : end]
        start = end


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _in_use(name: str) -> InUse:
    return InUse(f"another restore is at work in {name}; wait until it is over")
