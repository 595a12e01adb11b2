"""A node's data directory: whose it is, and that only one process uses it (design section 6).

Layout: `node.lock` (held by the running node), `identity.json` (cluster and node, written once,
first of all), `store/` (LMDB), `snapshots/` (plain files, only copies). The identity is in clear so
that a foreign directory is named as such; what binds content to node is the store's MAC key (I9).
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final
from uuid import UUID  # noqa: TC003 - msgspec reads the annotations at run time

import msgspec
from msgspec import Struct

from cluster.next_step import replace_node
from cluster.snapshot_files import SnapshotDirectory

if TYPE_CHECKING:
    from pathlib import Path

FORMAT_VERSION: Final = 1
LOCK_NAME: Final = "node.lock"
IDENTITY_NAME: Final = "identity.json"
STORE_NAME: Final = "store"
SNAPSHOTS_NAME: Final = "snapshots"
_TEMPORARY: Final = "identity.new"


class DataDirError(Exception):
    """The data directory cannot be used; one line with the next step."""


class DataDirInUseError(DataDirError):
    """Another process uses it (exit code 8)."""


class DataDirForeignError(DataDirError):
    """It belongs to another node or cluster, or is no data directory (exit code 8)."""


class Identity(Struct, frozen=True, forbid_unknown_fields=True):
    """Content of identity.json."""

    format: int
    cluster_id: UUID
    node_id: int


class DataDir:
    """A claimed data directory. Use `DataDir.claim`; `release` gives the lock back."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.store = path / STORE_NAME
        self.snapshots = path / SNAPSHOTS_NAME
        self._lock: int | None = lock

    @classmethod
    def claim(cls, path: Path, cluster_id: UUID, node_id: int) -> DataDir:
        """Lock the directory for this process; an empty or absent one becomes this node's.

        Copies in transit that an earlier life left go at once: they may have filled the disk.

        Raises:
            DataDirInUseError: another process holds it.
            DataDirForeignError: another node's, another cluster's, or something else.
            DataDirError: it cannot be read or written.

        """
        wanted = Identity(FORMAT_VERSION, cluster_id, node_id)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _lock(path)
            try:
                _identify(path, wanted)
                (path / SNAPSHOTS_NAME).mkdir(mode=0o700, exist_ok=True)
                copies = SnapshotDirectory(path / SNAPSHOTS_NAME)
                for name in copies.names():
                    copies.remove(name)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            raise DataDirError(
                f"data directory {path} cannot be used ({error.strerror}): "
                "check path, permissions and space",
            ) from error
        return cls(path, lock)

    def release(self) -> None:
        """Let another process have it. Twice is once."""
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # a forked child may still share the descriptor
            os.close(self._lock)
            self._lock = None


def _lock(path: Path) -> int:
    handle = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise DataDirInUseError(
            f"data directory {path} is in use by process {holder}: stop that node first, "
            "or give this one its own directory",
        ) from None
    # Over the old one, then cut: a full disk need not give a block for it.
    os.ftruncate(handle, os.pwrite(handle, f"{os.getpid()}\n".encode(), 0))
    return handle


def _identify(path: Path, wanted: Identity) -> None:
    file = path / IDENTITY_NAME
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        others = {entry.name for entry in path.iterdir()} - {LOCK_NAME, _TEMPORARY}
        if others:
            raise DataDirForeignError(
                f"data directory {path} has no {IDENTITY_NAME} but holds {min(others)!r}: "
                "give the node an empty directory, or its own",
            ) from None
        _write(path, msgspec.json.encode(wanted) + b"\n")
        return
    try:
        found = msgspec.json.decode(data, type=Identity)
    except msgspec.DecodeError as error:
        raise DataDirForeignError(
            f"{file} is damaged or of another program ({error}): "
            f"keep the directory for inspection and {replace_node(wanted.node_id)}",
        ) from error
    if found.format != wanted.format:
        raise DataDirForeignError(
            f"data directory {path} has format {found.format}, this program reads "
            f"{wanted.format}: run the version that wrote it",
        )
    if found != wanted:
        raise DataDirForeignError(
            f"data directory {path} belongs to node {found.node_id} of cluster "
            f"{found.cluster_id}, not to node {wanted.node_id} of {wanted.cluster_id}: "
            "correct data_dir or node_id",
        )


def _write(path: Path, data: bytes) -> None:
    """Durable and whole, or not there."""
    temporary = path / _TEMPORARY
    with temporary.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path / IDENTITY_NAME)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
