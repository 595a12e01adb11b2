"""Chunks on their way to the storage: named, sealed and put by a few threads.

Memory is what the buffers have: one content of 4 MiB for each thread and two more, one sealed
object for each thread. Whoever reads waits when no buffer is free. All of them are used again and
again: to get fresh memory costs more than the cipher.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self

from quorumvault.backup.errors import Cancelled
from quorumvault.backup.objects import (
    CONTENT_BYTES,
    MAX_CHUNK_OBJECT_BYTES,
    chunk_object_bytes,
    seal_chunk,
)
from quorumvault.backup.proving import Proving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from quorumvault.backup.keys import Keys
    from quorumvault.backup.storage import Storage

__all__ = ["Uploads"]

SPARE_BUFFERS: Final = 2
"""Contents that are read while every thread is at work."""


class Uploads:
    """Takes contents of chunks, stores those that are not there; a context manager.

    Attributes:
        lengths: the length of the content of each chunk that was met, by its chunk_id.
        uploaded: those of them that were put here.
        proven: those that were also read back already.

    """

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        *,
        held: dict[bytes, int],
        workers: int,
        stop: threading.Event,
    ) -> None:
        """Start the threads.

        Args:
            storage: where chunks go.
            keys: seal and name them.
            held: object sizes in bytes of chunks that are there already; -1 where not known.
            workers: how many threads.
            stop: set to stop them after what they are at.

        """
        self._storage = storage
        self._keys = keys
        self._held = held
        self._stop = stop
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._threads = ThreadPoolExecutor(workers, "upload")
        self._contents: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._objects: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._unmade = workers + SPARE_BUFFERS
        self.lengths: dict[bytes, int] = {}
        self.uploaded: set[bytes] = set()
        self._proving = Proving(storage, keys, run=self._run, fail=self._fail)
        self.proven = self._proving.proven

    def __enter__(self) -> Self:
        self._proving.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what is under way; what waits is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._proving.end()
        self._threads.shutdown()

    def buffer(self) -> bytearray:
        """A buffer for one content, as soon as one is free."""
        if self._contents.empty() and self._unmade:
            self._unmade -= 1
            return bytearray(CONTENT_BYTES)
        return self._contents.get()

    def give_back(self, buffer: bytearray) -> None:
        """Take a buffer that holds nothing of use."""
        self._contents.put(buffer)

    def submit(self, buffer: bytearray, length: int) -> Future[bytes]:
        """Store the first `length` bytes of the buffer, which is given back; their chunk_id.

        Raises:
            BackupError: what an earlier one failed with.

        """
        self.check()
        return self._threads.submit(self._store, buffer, length)

    def check(self) -> None:
        """Raise what failed until now, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _store(self, buffer: bytearray, length: int) -> bytes:
        try:
            self._check_stop()
            content = memoryview(buffer)[:length]
            chunk_id = self._keys.chunk_id(content)
            with self._lock:
                if chunk_id in self.lengths:
                    return chunk_id
                self.lengths[chunk_id] = length
            if self._held.get(chunk_id) not in {chunk_object_bytes(length), -1}:
                self._put(chunk_id, content)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self.give_back(buffer)
        return chunk_id

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Cancelled("stopped; the same call goes on where this one ended")

    def _put(self, chunk_id: bytes, content: memoryview) -> None:
        with self._object() as into:
            sealed = seal_chunk(self._keys, chunk_id, content, into=into)
            self._storage.put(self._keys.chunk_name(chunk_id), sealed)
        with self._lock:
            self.uploaded.add(chunk_id)
        self._proving.stored(chunk_id, len(content))

    @contextlib.contextmanager
    def _object(self) -> Iterator[bytearray]:
        """A buffer for one sealed object; there are as many as threads need at once."""
        try:
            into = self._objects.get_nowait()
        except queue.Empty:
            into = bytearray(MAX_CHUNK_OBJECT_BYTES)
        try:
            yield into
        finally:
            self._objects.put(into)

    def _run(self, task: Callable[[bytearray], None]) -> None:
        """Have a task done among the uploads; not at all if these are over."""

        def with_buffer() -> None:
            with self._object() as into:
                task(into)

        with contextlib.suppress(RuntimeError):  # the threads take no more
            self._threads.submit(with_buffer)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
