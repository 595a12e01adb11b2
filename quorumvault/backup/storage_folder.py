"""A folder as the storage: a local disk, a USB stick, a mounted share.

An object appears under its name whole or not at all: it is written to a file `.qv-….part` beside
it and then linked or renamed to its name. An object that is there already is replaced only by one
that is on the disk for sure (fsync first); a new one gets its fsync in `settle`, together with the
folders, because that is much faster and nothing relies on it before. An object that a killed run
has left may lack its fsync, too, so `settle` also sees to all that was read since: whoever builds
on what is there already has read it back.

A kill leaves at most such a part file. It is never listed; `sweep` removes those whose writer is
gone, which the lock that a writer holds on its part file tells.

Every path is walked from the root by descriptors, and symlinks inside are not followed: whoever
can write to the folder can't make us write elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import secrets
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO, Final

from quorumvault.backup.errors import Damaged, NotThere, StorageUnreachable
from quorumvault.backup.page_cache import let_go
from quorumvault.backup.storage_errors import of_disk
from quorumvault.backup.storage_names import is_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from quorumvault.backup.storage_names import Place

PART_START: Final = ".qv-"
PART_END: Final = ".part"
PART_KEPT_S: Final = 86_400  # where there are no locks; no single object takes a day
COPY_BYTES: Final = 1 << 20
TRIES: Final = 50
PAUSE_S: Final = 0.05  # at most, between two tries
SETTLE_THREADS: Final = 4  # a disk takes several syncs in one go
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PART: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NFS locks no reader
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LINKS: Final = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES}


class TooShortError(ValueError):
    """The caller's file ended early: a mistake on this side, not the provider's."""

    def __init__(self) -> None:
        super().__init__("the file to store has fewer bytes than announced")


class FolderStore:
    """The objects in one folder, mode 0700, each a file, mode 0600."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._root = place.address
        self._lock = threading.Lock()
        self._settling = threading.Lock()
        self._shape = threading.Lock()  # a folder is made with what goes in, or goes when empty
        self._unsettled: set[str] = set()
        self._settled: set[str] = set()
        self._folders: set[str] = set()

    def expect(self, key_folder: str) -> None:
        """The folders were there before: missing, they are on a disk that is not mounted."""
        with self._said("look for", ""):
            self._check_root()
            if not self.folders(key_folder):
                raise StorageUnreachable(
                    f"the folder {key_folder} with this device's backups is not in"
                    f" {self._place.shown}: is the disk connected? To begin anew there, make that"
                    " folder first"
                )

    # ------------------------------------------------------------ reading

    def walk(self, folder: str, start: str) -> Iterator[tuple[str, int]]:
        """Every file under `folder` whose path there begins with `start`, and its size."""
        waiting = [(folder, start)]
        while waiting:
            here, begin = waiting.pop()
            with self._said("list", here):
                entries = self._entries(here)
            for name, is_folder, size in entries:
                if name.startswith(begin):
                    path = f"{here}/{name}" if here else name
                    if not is_folder:
                        yield path, size
                    elif is_name(path):  # else nothing of ours is in it, and it may have no end
                        waiting.append((path, ""))

    def folders(self, start: str) -> list[str]:
        """The folders in the root whose names begin so."""
        with self._said("list", ""):
            return sorted(
                name
                for name, is_folder, _ in self._entries("")
                if is_folder and name.startswith(start)
            )

    def get(self, name: str, limit: int) -> bytes:
        """The whole object."""
        self._has_read(name)
        with self._said("read", name), self._read(name) as (descriptor, size):
            if size > limit:
                raise too_large(name, size, limit)
            parts = []
            while block := os.read(descriptor, limit + 1):
                parts.append(block)
                limit -= len(block)
                if limit < 0:
                    raise too_large(name, size, limit)
            let_go(descriptor)  # nobody reads it again soon
            return parts[0] if len(parts) == 1 else b"".join(parts)

    def open(self, name: str) -> BinaryIO:
        """The object as a stream."""
        self._has_read(name)
        with self._said("read", name), self._read(name) as (descriptor, _):
            return os.fdopen(os.dup(descriptor), "rb", buffering=COPY_BYTES)

    def size(self, name: str) -> int | None:
        """How many bytes the object has."""
        try:
            with self._said("look at", name), self._folder_of(name) as (folder, last):
                found = os.stat(last, dir_fd=folder, follow_symlinks=False)
        except NotThere:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    # ------------------------------------------------------------ writing

    def put(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Store the bytes under the name."""

        def fill(descriptor: int) -> None:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]

        self._put(name, fill)

    def put_from(self, name: str, file: BinaryIO, size: int) -> None:
        """Store the next `size` bytes of the file under the name."""
        start = file.tell()

        def fill(descriptor: int) -> None:
            file.seek(start)
            left = size
            while left:
                block = file.read(min(left, COPY_BYTES))
                if not block:
                    raise TooShortError
                left -= len(block)
                rest = memoryview(block)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]

        self._put(name, fill)

    def settle(self) -> None:
        """Return when all that was put, read or deleted is on the disk as it is now."""
        with self._settling:  # who comes second waits for what the first has taken up
            with self._lock:
                files, self._unsettled = self._unsettled, set()
                folders, self._folders = self._folders, set()
                self._settled |= files
            try:
                self._settle(files, folders)
            except BaseException:
                with self._lock:
                    self._settled -= files
                    self._unsettled |= files
                    self._folders |= folders
                raise

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects, and folders that are empty then."""
        folders: set[str] = set()
        for name in names:
            with contextlib.suppress(NotThere):
                with self._said("remove", name), self._folder_of(name) as (descriptor, last):
                    os.unlink(last, dir_fd=descriptor)
                with self._lock:
                    self._unsettled.discard(name)
            folders.update(_above(name))
        folders.discard("")
        for folder in sorted(folders, key=lambda path: -path.count("/")):
            with self._shape:
                self._sweep(folder)
                removed = self._remove_folder(folder)
            with self._lock:
                self._folders.add(folder.rpartition("/")[0] if removed else folder)

    def remove_folder(self, folder: str) -> None:
        """Nothing to do: `delete` takes each folder along that is empty."""

    def sweep(self, folder: str) -> int:
        """Remove what killed writers left under this folder; how many files that were."""
        swept = 0
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            with self._said("list", here):
                entries = self._entries(here)
            inner = (f"{here}/{name}" if here else name for name, folder, _ in entries if folder)
            waiting += filter(is_name, inner)
            swept += self._sweep(here)
        return swept

    def close(self) -> None:
        """Nothing is held open."""

    # ------------------------------------------------------------ inside

    def _settle(self, files: set[str], folders: set[str]) -> None:
        with ThreadPoolExecutor(SETTLE_THREADS) as threads:
            for _ in threads.map(self._sync_file, sorted(files)):
                pass
        # The entries after what they lead to; whoever made a folder may have been killed.
        above = {folder for name in files | folders for folder in _above(name)}
        for folder in sorted(folders | above, key=len, reverse=True):
            self._sync_folder(folder)

    def _has_read(self, name: str) -> None:
        with self._lock:
            if name not in self._settled:
                self._unsettled.add(name)

    def _has_put(self, name: str) -> None:
        with self._lock:
            self._settled.discard(name)
            self._unsettled.add(name)

    def _put(self, name: str, fill: Callable[[int], None]) -> None:
        folder, _, last = name.rpartition("/")
        with self._said("write", name):
            for turn in range(TRIES):
                # Another process may take the folder away while it is empty, or a part file
                # before it is locked: both are done again.
                with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as held:
                    with self._shape:
                        descriptor = held.enter_context(self._made(folder))
                        part, file = _new_part(descriptor)
                    _write_part(descriptor, part, file, last, fill)
                    self._has_put(name)
                    return
                self._check_root()
                time.sleep(random.uniform(0, min(PAUSE_S, 0.001 * 2**turn)))  # noqa: S311 - no secret
            raise StorageUnreachable(
                f"can't write {name}: {self._place.shown} is taken away time and again"
            )

    def _remove_folder(self, folder: str) -> bool:
        """Whether the folder is gone; one that is not empty stays."""
        with (
            contextlib.suppress(NotThere),
            self._said("remove", folder),
            self._folder_of(folder) as (descriptor, last),
        ):
            try:
                os.rmdir(last, dir_fd=descriptor)
            except OSError as error:
                if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                    return False
                raise
        return True

    def _entries(self, folder: str) -> list[tuple[str, bool, int]]:
        """What is in a folder, without part files, symlinks and special files."""
        found: list[tuple[str, bool, int]] = []
        with (
            contextlib.suppress(FileNotFoundError),
            self._opened(folder) as descriptor,
            os.scandir(descriptor) as entries,
        ):
            for entry in entries:
                if entry.name.startswith(PART_START):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    found.append((entry.name, True, 0))
                elif entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        size = entry.stat(follow_symlinks=False).st_size
                        found.append((entry.name, False, size))
        return found

    def _sweep(self, folder: str) -> int:
        swept = 0
        with (
            contextlib.suppress(NotThere),
            self._said("clean", folder),
            self._opened(folder) as descriptor,
        ):
            for name in os.listdir(descriptor):  # noqa: PTH208 - of a descriptor
                if name.startswith(PART_START) and name.endswith(PART_END):
                    swept += self._abandoned(descriptor, name)
        return swept

    @staticmethod
    def _abandoned(folder: int, name: str) -> bool:
        """Remove a part file unless its writer may still be at work."""
        with contextlib.suppress(FileNotFoundError, PermissionError):
            descriptor = os.open(name, _LOCK, dir_fd=folder)
            try:
                if _is_left(descriptor):
                    os.unlink(name, dir_fd=folder)
                    return True
            finally:
                os.close(descriptor)
        return False

    def _sync_file(self, name: str) -> None:
        # One that was deleted meanwhile needs none.
        with (
            contextlib.suppress(NotThere),
            self._said("save", name),
            self._read(name) as (descriptor, _),
        ):
            os.fsync(descriptor)

    def _sync_folder(self, folder: str) -> None:
        with (
            contextlib.suppress(NotThere),
            self._said("save", folder),
            self._opened(folder) as descriptor,
        ):
            os.fsync(descriptor)
        if folder:
            return
        # The root's own entry, where we may see it.
        with contextlib.suppress(OSError):
            descriptor = os.open(os.path.dirname(self._root), _FOLDER)  # noqa: PTH120 - of a text
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _read(self, name: str) -> Iterator[tuple[int, int]]:
        with self._folder_of(name) as (folder, last):
            descriptor = os.open(last, _READ, dir_fd=folder)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Damaged(f"{name} is not a file in {self._place.shown}", objects=(name,))
            yield descriptor, found.st_size
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _folder_of(self, name: str) -> Iterator[tuple[int, str]]:
        folder, _, last = name.rpartition("/")
        with self._opened(folder) as descriptor:
            yield descriptor, last

    @contextlib.contextmanager
    def _opened(self, folder: str) -> Iterator[int]:
        descriptor = os.open(self._root, _FOLDER & ~os.O_NOFOLLOW)  # the root may be a symlink
        try:
            for part in folder.split("/") if folder else ():
                inner = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _made(self, folder: str) -> Iterator[int]:
        """The folder opened, made where it is not there."""
        try:
            descriptor = os.open(self._root, _FOLDER & ~os.O_NOFOLLOW)
        except FileNotFoundError:
            self._check_root()
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._root, 0o700)  # noqa: PTH102 - not its parents
            descriptor = os.open(self._root, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for part in folder.split("/") if folder else ():
                try:
                    inner = os.open(part, _FOLDER, dir_fd=descriptor)
                except FileNotFoundError:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=descriptor)
                    inner = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def _check_root(self) -> None:
        """A missing parent is a disk that is not mounted: the backup must not go elsewhere."""
        if os.path.islink(self._root) and not os.path.exists(self._root):  # noqa: PTH110, PTH114
            raise StorageUnreachable(
                f"{self._place.shown} is a symlink to what does not exist: is the disk connected?"
            )
        parent = os.path.dirname(self._root)  # noqa: PTH120 - of a text
        if not os.path.isdir(parent):  # noqa: PTH112 - of a text
            raise StorageUnreachable(
                f"the folder {parent} does not exist: is the disk connected? Make it if it is new"
            )

    @contextlib.contextmanager
    def _said(self, what: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise of_disk(error, self._place, what, name) from error


def _is_left(descriptor: int) -> bool:
    """Whether nobody writes to a part file any more."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks on this file system: its age has to tell
        return time.time() - os.fstat(descriptor).st_mtime > PART_KEPT_S
    return True


def _above(name: str) -> Iterator[str]:
    """The folders that lead to a name, up to the root ("")."""
    while name:
        name = name.rpartition("/")[0]
        yield name


def _new_part(folder: int) -> tuple[str, int]:
    """A fresh part file, locked where there are locks (elsewhere sweep goes by its age)."""
    part = f"{PART_START}{secrets.token_hex(8)}{PART_END}"
    descriptor = os.open(part, _PART, 0o600, dir_fd=folder)
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return part, descriptor


def _write_part(
    folder: int, part: str, descriptor: int, last: str, fill: Callable[[int], None]
) -> None:
    """Fill a part file and give it its name; it is closed, and gone if that fails."""
    try:
        fill(descriptor)
        let_go(descriptor)  # the disk begins now, so that `settle` waits less
        if not _linked(folder, part, last):
            os.fsync(descriptor)
            os.rename(part, last, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=folder)
        raise
    finally:
        os.close(descriptor)


def _linked(folder: int, part: str, last: str) -> bool:
    """Give a part file its name unless an object has it; False also where links can't be."""
    try:
        os.link(part, last, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EEXIST and error.errno not in _NO_LINKS:
            raise
        return False
    os.unlink(part, dir_fd=folder)
    return True


def too_large(name: str, size: int, limit: int) -> Damaged:
    """The refusal of an object that is larger than its kind can be."""
    return Damaged(
        f"{name} is damaged: it has {size} bytes where at most {limit} can be", objects=(name,)
    )
