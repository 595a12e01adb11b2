"""The look at what was stored, before anything relies on it and before anything is removed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from quorumvault.backup.errors import Cancelled, Damaged, FutureVersion, NotThere
from quorumvault.backup.objects import (
    MAX_CHUNK_OBJECT_BYTES,
    chunk_object_bytes,
    chunk_plain_bytes,
    open_chunk,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from quorumvault.backup.keys import Keys
    from quorumvault.backup.progress import Progress
    from quorumvault.backup.storage import Storage

__all__ = ["bad_chunks", "missing_chunks"]


class _Shared:
    """Work that several threads take from, one piece at a time."""

    def __init__(self, chunks: Collection[bytes], stop: threading.Event) -> None:
        self._chunks = iter(chunks)
        self._lock = threading.Lock()
        self._stop = stop
        self._failed = False

    def next(self) -> bytes | None:
        """The next chunk; None when there is no more, or another thread failed."""
        if self._stop.is_set():
            raise Cancelled("stopped; the same call goes on where this one ended")
        with self._lock:
            return None if self._failed else next(self._chunks, None)

    def fail(self) -> None:
        """Let the other threads end."""
        self._failed = True


def bad_chunks(
    storage: Storage,
    keys: Keys,
    chunks: Mapping[bytes, int],
    *,
    own: Collection[bytes],
    workers: int,
    progress: Progress,
    stop: threading.Event,
) -> set[bytes]:
    """Read chunks back and open them; those that are missing or not what they should be.

    Args:
        storage: where they are.
        keys: open them.
        chunks: the length of the content of each, by its chunk_id.
        own: those that this run sealed: they need not be named again.
        workers: how many threads; each holds 8 MiB.
        progress: told the bytes of the objects.
        stop: set to stop the work.

    Raises:
        StorageError: the provider failed, so it is not known.
        Cancelled: `stop` is set.

    """
    progress.phase("check", sum(map(chunk_object_bytes, chunks.values())))
    bad: set[bytes] = set()
    shared = _Shared(chunks, stop)

    def work() -> None:
        into = bytearray(chunk_plain_bytes(max(chunks.values())))
        while (chunk_id := shared.next()) is not None:
            length = chunks[chunk_id]
            try:
                obj = storage.get(keys.chunk_name(chunk_id), MAX_CHUNK_OBJECT_BYTES)
                check_id = chunk_id not in own
                open_chunk(keys, chunk_id, length, obj, check_id=check_id, into=into)
            except (Damaged, NotThere, FutureVersion):
                bad.add(chunk_id)
            progress.advance(chunk_object_bytes(length))

    _run(work, shared, min(workers, len(chunks)))
    return bad


def missing_chunks(
    storage: Storage,
    keys: Keys,
    chunks: Mapping[bytes, int],
    *,
    workers: int,
    stop: threading.Event,
) -> set[bytes]:
    """Ask for each chunk's size by its name; those that are not there or not of their size.

    Raises:
        StorageError: the provider failed, so it is not known.
        Cancelled: `stop` is set.

    """
    missing: set[bytes] = set()
    shared = _Shared(chunks, stop)

    def work() -> None:
        while (chunk_id := shared.next()) is not None:
            size = storage.size(keys.chunk_name(chunk_id))
            if size != chunk_object_bytes(chunks[chunk_id]):
                missing.add(chunk_id)

    _run(work, shared, min(workers, len(chunks)))
    return missing


def _run(work: Callable[[], None], shared: _Shared, workers: int) -> None:
    """Let so many threads do the work; the first error of one is raised when all have ended."""

    def guarded(_: int) -> None:
        try:
            work()
        except BaseException:
            shared.fail()
            raise

    if workers:
        with ThreadPoolExecutor(workers, "check") as threads:
            for _ in threads.map(guarded, range(workers)):
                pass
