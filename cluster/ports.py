"""What the host needs from the world: time, disk, network, HSM stamp, files. Seams, no I/O.

Each Protocol has a real twin (store, links, runtime, HSM) and a simulated one (the tests' world),
so that the host itself knows no clock, socket, thread or device (design section 3). Everything is
called, and calls back, on one loop thread; the only other threads are behind `Disk` and `Worker`.
A callback never runs inside the call that asked for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from cluster.types import NodeId

Table = Literal["meta", "group", "log", "records", "ledger", "marks"]
TABLES: Final[tuple[Table, ...]] = ("meta", "group", "log", "records", "ledger", "marks")

Op = tuple[Literal["put", "delete", "delete_range"], Table, bytes, bytes]
"""("put", table, key, value) · ("delete", table, key, b"") · ("delete_range", table, lo, hi)."""

T = TypeVar("T")


class Batch:
    """Writes of one turn, applied in order, all or nothing, with one fsync."""

    __slots__ = ("ops",)

    def __init__(self) -> None:
        self.ops: list[Op] = []

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        """Write `value` (without MAC: the store adds it) under `key`, replacing any other."""
        self.ops.append(("put", table, key, value))

    def delete(self, table: Table, key: bytes) -> None:
        """Remove `key`; no error when absent."""
        self.ops.append(("delete", table, key, b""))

    def delete_range(self, table: Table, lo: bytes, hi: bytes) -> None:
        """Remove every key with lo ≤ key < hi."""
        self.ops.append(("delete_range", table, lo, hi))

    def __len__(self) -> int:
        return len(self.ops)


class ReadView(Protocol):
    """Durable, MAC-checked contents; a bad MAC raises and ends the node (I9)."""

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value (without MAC) or None."""
        ...

    def items(self, table: Table, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) pairs with lo ≤ key < hi, ascending."""
        ...


class Store(ReadView, Protocol):
    """The read side of the store. `get` and `items` see the last durable batch."""

    def reading(self) -> AbstractContextManager[ReadView]:
        """One consistent read transaction, usable from the thread that opens it."""
        ...


class Disk(Protocol):
    """The one writer. At most one batch in flight."""

    def submit(self, batch: Batch, done: Callable[[], None]) -> None:
        """Write and fsync on the disk thread, then call `done` on the loop thread.

        Any failure ends the process at once; `done` means durable.
        """
        ...


class Worker(Protocol):
    """Runs long reads (building a snapshot file) away from the loop."""

    def run(self, job: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Run `job` on another thread, then call `done` with its result or exception."""
        ...


class Clock(Protocol):
    """Monotonic time; decides timers, never safety (I10)."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since some start."""
        ...


class Random(Protocol):
    """The part of random.Random that the host uses; seeded in a simulation."""

    def randrange(self, stop: int, /) -> int:
        """0 ≤ n < stop."""
        ...

    def randbytes(self, n: int, /) -> bytes:
        """`n` bytes."""
        ...


class Network(Protocol):
    """Links to the peers; each authenticated to be the node it claims (mTLS)."""

    def send(self, to: NodeId, frame: bytes) -> bool:
        """Queue one whole host frame; False when the link is down or its buffer full (dropped)."""
        ...

    def cut(self, peer: NodeId, reason: str) -> None:
        """Drop the links with a peer that broke the protocol; they may connect again."""
        ...

    def fetch_snapshot(
        self,
        from_node: NodeId,
        name: str,
        into: str,
        *,
        size: int,
        done: Callable[[bool], None],
    ) -> None:
        """Stream file `name` of the peer's snapshot directory into our own file `into`.

        `done(False)`: unknown there, link lost, longer than `size`, or 60 s without progress; the
        partial file is removed.
        """
        ...


class Stamper(Protocol):
    """The HSM's one small data object."""

    def write(self, data: bytes, done: Callable[[bool], None]) -> None:
        """Replace the stamp, then `done(True)`; `done(False)`: HSM away. One at a time."""
        ...


class SnapshotWriter(Protocol):
    """A file being written."""

    def write(self, data: bytes, /) -> object:
        """Append."""
        ...

    def close(self) -> None:
        """Flush and close (no fsync needed: a snapshot file is only a copy)."""
        ...


class SnapshotReader(Protocol):
    """A file being read."""

    def read(self, size: int, /) -> bytes:
        """At most `size` next bytes; empty at the end."""
        ...

    def close(self) -> None:
        """Close."""
        ...


class SnapshotFiles(Protocol):
    """The snapshot directory: plain names, no paths. Names of files to hand out begin `out-`."""

    def create(self, name: str) -> SnapshotWriter:
        """A new file, replacing any other of that name."""
        ...

    def open(self, name: str) -> SnapshotReader:
        """Raises FileNotFoundError."""
        ...

    def remove(self, name: str) -> None:
        """No error when absent."""
        ...

    def names(self) -> Sequence[str]:
        """Every file there, sorted."""
        ...

    def free_bytes(self) -> int:
        """What the disk has left."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """All seams of one host.

    `wake` asks the driver for a turn soon. Any exception that leaves a host call or callback ends
    the process with its text.
    """

    clock: Clock
    disk: Disk
    store: Store
    worker: Worker
    network: Network
    stamper: Stamper
    files: SnapshotFiles
    random: Random
    wake: Callable[[], None]
