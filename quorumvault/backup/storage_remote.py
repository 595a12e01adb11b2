"""Any provider that fsspec knows, as the storage.

fsspec is a thin layer over packages that differ in what they promise, so little is taken on trust:
no listing cache, one object asked by its name where that matters, a time limit around every call,
the size looked at after a write where a write may be cut off half-way, and only errors that may
pass are tried again, here and nowhere below. A write that got no answer in time is tried again
only where the provider replaces an object in one go (S3): elsewhere the first may still be
writing.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from fsspec import get_filesystem_class
from fsspec.core import url_to_fs

from quorumvault.backup.errors import NotThere, StorageError, StorageUnreachable
from quorumvault.backup.storage_errors import of_provider, said
from quorumvault.backup.storage_folder import TooShortError, too_large
from quorumvault.backup.storage_names import is_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fsspec import AbstractFileSystem

    from quorumvault.backup.storage import Patience
    from quorumvault.backup.storage_names import Place

T = TypeVar("T")

BLOCK_BYTES: Final = 4 << 20  # of a stream, and of an upload in parts (S3 wants 5 MiB at least)
BUFFER_BYTES: Final = 64 << 10
PART_BYTES: Final = 8 << 20
WHOLE_BYTES: Final = 32 << 20  # an upload up to this is one request
DELETE_NAMES: Final = 1000  # S3's limit of one request
DELETE_THREADS: Final = 4
_S3: Final = frozenset({"s3", "s3a"})
_EXTRAS: Final = {
    "s3": "quorumvault[s3]",
    "s3a": "quorumvault[s3]",
    "webdav": "quorumvault[webdav]",
    "gdrive": "gdrive-fsspec",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "smb": "smbprotocol",
    "dropbox": "dropboxdrivefs",
    "oci": "ocifs",
}


class RemoteStore:
    """The objects at a provider."""

    def __init__(self, place: Place, patience: Patience) -> None:
        self._place = place
        self._patience = patience
        self._fs, self._root = _connect(place, patience)
        self._s3 = place.protocol in _S3
        self._lock = threading.Lock()
        self._made: set[str] = set()

    # ------------------------------------------------------------ reading

    def walk(self, folder: str, start: str) -> Iterator[tuple[str, int]]:
        """Every file under `folder` whose path there begins with `start`, and its size."""
        if self._s3:  # one listing, a thousand names a request
            path = self._path(folder)
            found = self._listing(
                lambda: list(self._fs.find(path, detail=True, prefix=start).values()), folder
            )
            yield from ((name, size) for name, is_folder, size in found if not is_folder)
            return
        waiting = [(folder, start)]
        while waiting:
            here, begin = waiting.pop()
            for name, is_folder, size in self._entries(here):
                if name.rpartition("/")[2].startswith(begin):
                    if not is_folder:
                        yield name, size
                    elif is_name(name):  # else nothing of ours is in it, and it may have no end
                        waiting.append((name, ""))

    def folders(self, start: str) -> list[str]:
        """The folders in the root whose names begin so."""
        return sorted(
            name for name, is_folder, _ in self._entries("") if is_folder and name.startswith(start)
        )

    def get(self, name: str, limit: int) -> bytes:
        """The whole object."""
        data = self._call("read", name, lambda: self._read(name, 0, limit + 1), limit)
        if len(data) > limit:
            raise too_large(name, len(data), limit)
        return data

    def open(self, name: str) -> BinaryIO:
        """The object as a stream, read block by block."""
        size = self.size(name)
        if size is None:
            raise NotThere(f"{name} is not there in {self._place.shown}")
        return io.BufferedReader(_Blocks(self, name, size), BUFFER_BYTES)

    def read_block(self, name: str, start: int, end: int, handle: list[BinaryIO]) -> bytes:
        """The bytes from `start` up to before `end`; `handle` is the caller's open file, if any."""
        return self._call(
            "read", name, lambda: self._read_on(name, start, end, handle), end - start
        )

    def size(self, name: str) -> int | None:
        """How many bytes the object has, asked by its name."""

        def ask() -> dict[str, object]:
            self._fs.invalidate_cache()
            return self._fs.info(self._path(name))

        try:
            info = self._call("look at", name, ask)
        except NotThere:
            return None
        size = info.get("size")
        return int(size) if info.get("type") == "file" and isinstance(size, (int, str)) else None

    # ------------------------------------------------------------ writing

    def put(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Store the bytes under the name."""
        whole = data if isinstance(data, bytes) else bytes(data)
        self._in_folder(name, lambda: self._write(self._path(name), whole), len(whole))
        self._check_size(name, len(whole))

    def put_from(self, name: str, file: BinaryIO, size: int) -> None:
        """Store the next `size` bytes of the file under the name."""
        if size <= WHOLE_BYTES:
            self.put(name, _exactly(file, size))
            return
        start = file.tell()
        if file.seek(0, os.SEEK_END) < start + size:
            raise TooShortError

        def upload() -> None:
            file.seek(start)
            self._upload(self._path(name), file, size)

        self._in_folder(name, upload, size)
        self._check_size(name, size)

    def settle(self) -> None:
        """A provider that said yes has it."""

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects.

        Their folders stay: WebDAV removes a folder with all that is in it, and only a listing,
        which may lag behind, could say that this is nothing.
        """
        if self._s3:
            for first in range(0, len(names), DELETE_NAMES):
                self._delete_many(names[first : first + DELETE_NAMES])
            return
        with ThreadPoolExecutor(DELETE_THREADS) as threads:
            for _ in threads.map(self._delete_one, names):
                pass

    def remove_folder(self, folder: str) -> None:
        """Remove a folder in which a listing shows no object."""
        if self._s3 or next(self.walk(folder, ""), None) is not None:
            return
        with self._lock:
            self._made.clear()
        path = self._path(folder)
        with contextlib.suppress(NotThere):
            self._call("remove", folder, lambda: self._fs.rm(path, recursive=True))

    def sweep(self, folder: str) -> int:
        """Nothing of ours is left behind by a killed write that could be told apart."""
        del folder
        return 0

    def close(self) -> None:
        """Close the connections that can be."""
        client = getattr(getattr(self._fs, "client", None), "http", None)
        if client is not None:
            client.close()

    # ------------------------------------------------------------ inside

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if self._root and name else self._root or name

    def _entries(self, folder: str) -> list[tuple[str, bool, int]]:
        path = self._path(folder)
        return self._listing(lambda: self._fs.ls(path, detail=True), folder)

    def _listing(
        self, call: Callable[[], list[dict[str, object]]], folder: str
    ) -> list[tuple[str, bool, int]]:
        def ask() -> list[dict[str, object]]:
            self._fs.invalidate_cache()
            return call()

        try:
            entries = self._call("list", folder, ask)
        except NotThere:
            return []
        found = []
        below = self._root.strip("/") + "/" if self._root.strip("/") else ""
        for entry in entries:
            name = str(entry.get("name", "")).strip("/")
            if name.startswith(below) and name != (below + folder).strip("/"):
                size = entry.get("size")
                is_folder = entry.get("type") == "directory"
                known = int(size) if isinstance(size, (int, str)) else -1
                found.append((name[len(below) :], is_folder, known))
        return found

    def _read(self, name: str, start: int, end: int) -> bytes:
        path = self._path(name)
        if not self._fs.async_impl:
            with self._fs.open(path, "rb") as file:
                return _up_to(file, end)
        try:
            if self._s3:
                reading = _read_s3(self._fs, path, start, end)
                return asyncio.run_coroutine_threadsafe(reading, self._fs.loop).result()
            return self._fs.cat_file(path, start=start, end=end)
        except OSError as error:
            if said(error).kind == "beyond":  # no byte from there on, or none at all
                return b""
            raise

    def _read_on(self, name: str, start: int, end: int, handle: list[BinaryIO]) -> bytes:
        if self._fs.async_impl:
            return self._read(name, start, end)
        if not handle:
            file = self._fs.open(self._path(name), "rb")
            handle.append(file)
            _skip(file, start)
        try:
            return _up_to(handle[0], end - start)
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                handle.pop().close()
            raise

    def _write(self, path: str, data: bytes) -> None:
        if self._place.protocol == "webdav":  # pipe_file would look for the folder each time
            self._fs.client.upload_fileobj(io.BytesIO(data), path, overwrite=True, size=len(data))
        else:
            self._fs.pipe_file(path, data)

    def _upload(self, path: str, file: BinaryIO, size: int) -> None:
        if self._place.protocol == "webdav":  # it takes one request only, but as a stream
            blocks = _Bounded(file, size)
            self._fs.client.upload_fileobj(blocks, path, overwrite=True, size=size)
        else:
            _upload(self._fs, path, file, size)

    def _in_folder(self, name: str, write: Callable[[], None], size: int) -> None:
        """Write, after the folder was made where the provider has folders."""
        folder = "" if self._s3 else name.rpartition("/")[0]
        self._make(folder)
        try:
            self._call("write", name, write, size, writes=True)
        except NotThere:
            # The folder was removed meanwhile.
            with self._lock:
                self._made.clear()
            try:
                self._make(folder)
                self._call("write", name, write, size, writes=True)
            except NotThere as error:
                raise StorageError(f"{self._place.shown} has no place for {name}") from error

    def _make(self, folder: str) -> None:
        with self._lock:
            if self._s3 or folder in self._made:
                return
        path = self._path(folder)
        if folder:
            self._make(folder.rpartition("/")[0])
            webdav = self._place.protocol == "webdav"
            self._call("make", folder, lambda: _make_one(self._fs, path, webdav=webdav))
        elif path:
            self._call("make", folder, lambda: self._fs.makedirs(path, exist_ok=True))
        with self._lock:
            self._made.add(folder)

    def _check_size(self, name: str, size: int) -> None:
        if self._s3:  # it takes an object whole or not at all
            return
        found = self.size(name)
        if found != size:
            has = "nothing" if found is None else f"{found} bytes"
            raise StorageUnreachable(
                f"{self._place.shown} took {size} bytes of {name}, but has {has}: run the same"
                " again"
            )

    def _delete_one(self, name: str) -> None:
        with contextlib.suppress(NotThere):
            self._call("remove", name, lambda: self._fs.rm_file(self._path(name)))

    def _delete_many(self, names: Sequence[str]) -> None:
        bucket, _, prefix = self._root.partition("/")
        start = f"{prefix}/" if prefix else ""
        keys = [{"Key": start + name} for name in names]

        def ask() -> dict[str, object]:
            return self._fs.call_s3(
                "delete_objects", Bucket=bucket, Delete={"Objects": keys, "Quiet": True}
            )

        answer = self._call("remove", names[0], ask)
        failed = answer.get("Errors")
        if isinstance(failed, list) and failed:
            for name in names:  # one by one: the first that can't be says why
                self._delete_one(name)

    def _call(
        self,
        what: str,
        name: str,
        call: Callable[[], T],
        size: int = 0,
        *,
        writes: bool = False,
    ) -> T:
        """Do it, with a time limit and again where that can help.

        Raises:
            StorageError: what the provider said last.

        """
        limit_s = self._patience.call_s + size / self._patience.bytes_per_s
        pause_s = self._patience.pause_s
        for left in reversed(range(self._patience.tries)):
            try:
                return _within(limit_s, call)
            except (StorageError, TooShortError):
                raise
            except Exception as error:  # the packages raise what they like
                heard = said(error)
                again = heard.passing and left > 0
                if writes and heard.kind == "late" and not self._s3:
                    again = False
                if not again:
                    raise of_provider(error, self._place, what, name) from error
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause_s = min(pause_s * 2, 15.0)
        raise AssertionError("a call is tried at least once")


class _Bounded:
    """The next bytes of a file, as something that webdav4 reads from."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        size = self._left if size < 0 else min(size, self._left)
        self._left -= size
        return _exactly(self._file, size)


class _Blocks(io.RawIOBase):
    """A remote object as a raw stream; each block is asked for again where that can help."""

    def __init__(self, store: RemoteStore, name: str, size: int) -> None:
        super().__init__()
        self._store = store
        self._name = name
        self._size = size
        self._position = 0
        self._block = memoryview(b"")
        self._handle: list[BinaryIO] = []

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]
        if not self._block and self._position < self._size:
            end = min(self._position + BLOCK_BYTES, self._size)
            block = self._store.read_block(self._name, self._position, end, self._handle)
            if not block:
                raise StorageUnreachable(
                    f"{self._name} got shorter while it was read: run the same again"
                )
            self._position += len(block)
            self._block = memoryview(block)
        count = min(len(into), len(self._block))
        into[:count] = self._block[:count]
        self._block = self._block[count:]
        return count

    def close(self) -> None:
        while self._handle:
            with contextlib.suppress(Exception):  # what was read is what counts
                self._handle.pop().close()
        super().close()


def _connect(place: Place, patience: Patience) -> tuple[AbstractFileSystem, str]:
    options = dict(place.options)
    protocol = place.protocol
    try:
        get_filesystem_class(protocol)
    except ImportError as error:
        package = _EXTRAS.get(protocol)
        hint = f"pip install '{package}'" if package else place.scrub(str(error))
        raise StorageError(
            f"{place.shown} needs a package that is not installed: {hint}"
        ) from error
    except ValueError as error:
        raise StorageError(
            f"{place.shown}: no storage is called {protocol}://; see docs/storage.md for those"
            " that there are"
        ) from error
    try:
        if protocol == "webdav":
            options.setdefault("timeout", patience.call_s)
            options.setdefault("retry", False)
            fs = get_filesystem_class("webdav")(place.address, skip_instance_cache=True, **options)
            return fs, place.path
        if protocol in _S3:
            config = options.get("config_kwargs")
            config = dict(config) if isinstance(config, dict) else {}
            config.setdefault("retries", {"total_max_attempts": 1})
            config.setdefault("connect_timeout", min(patience.call_s, 20.0))
            config.setdefault("read_timeout", patience.call_s)
            options["config_kwargs"] = config
        fs, root = url_to_fs(place.address, skip_instance_cache=True, **options)
    except Exception as error:  # whatever a package makes of its options
        raise StorageError(
            f"{place.shown} can't be used with these options: {place.scrub(str(error))}"
        ) from error
    fs.dircache.use_listings_cache = False
    if protocol in _S3:
        fs.retries = 1
    return fs, root.rstrip("/")


async def _read_s3(fs: AbstractFileSystem, path: str, start: int, end: int) -> bytes:
    """The bytes of a range, and no byte more, whatever comes: s3fs would hold all of it."""
    bucket, _, key = path.partition("/")
    asked = f"bytes={start}-{end - 1}"
    answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, Range=asked)  # noqa: SLF001
    body = answer["Body"]
    try:
        data = bytearray()
        while len(data) < end - start and (more := await body.read(end - start - len(data))):
            data += more
        return bytes(data)
    finally:
        body.close()


def _within(limit_s: float, call: Callable[[], T]) -> T:
    """Run a call in a thread of its own; whoever never answers is left behind with it.

    Raises:
        TimeoutError: no answer in time.

    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="storage").start()
    try:
        return future.result(limit_s)
    except TimeoutError as error:
        if future.done():
            raise
        raise TimeoutError(f"no answer in {limit_s:.0f} s") from error


def _make_one(fs: AbstractFileSystem, path: str, *, webdav: bool) -> None:
    """Make a folder whose parent is there; one that is there already is fine."""
    if not webdav:
        with contextlib.suppress(FileExistsError):
            fs.mkdir(path, create_parents=False)
        return
    try:
        fs.client.mkdir(path)
    except Exception as error:
        if type(error).__name__ != "ResourceAlreadyExists":  # the package is not always there
            raise


def _up_to(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end of the file."""
    parts = []
    while size:
        part = file.read(size)
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _skip(file: BinaryIO, size: int) -> None:
    """Go to a place in a file, by reading where the server can't send from the middle."""
    if not size:
        return
    try:
        file.seek(size)
    except ValueError:
        while size and (part := file.read(min(size, BLOCK_BYTES))):
            size -= len(part)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise TooShortError
    return data


def _upload(fs: AbstractFileSystem, path: str, file: BinaryIO, size: int) -> None:
    """Write in parts; one that fails half-way is thrown away, not completed."""
    target = fs.open(path, "wb", block_size=PART_BYTES)
    try:
        left = size
        while left:
            block = _exactly(file, min(left, BLOCK_BYTES))
            left -= len(block)
            target.write(block)
    except BaseException:
        discard = getattr(target, "discard", None)
        if discard is not None:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                discard()
        with contextlib.suppress(AttributeError):
            target.closed = True  # type: ignore[misc] # or its end would complete it
        raise
    target.close()
