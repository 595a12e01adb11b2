"""One simulated machine: its disk, HSM stamp and files survive; its host does not.

The node is the twin of disk, worker, network and stamper at once: each schedules into the
world's one heap. Whatever leaves the host as an exception ends the process, as in `cluster.fatal`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

from chaos.sim.clock import SimClock
from chaos.sim.disk import SimFiles, SimStore
from chaos.sim.hsm import SimHsm
from chaos.sim.space import SimSpace
from chaos.sim.units import CLUSTER, MS
from cluster.api import HostStopped
from cluster.boot import boot
from cluster.host import Host
from cluster.limits import TICK_MS
from cluster.ports import Batch, Ports
from cluster.stamp import enrolment
from cluster.types import InvariantError, NodeId

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.sim.book import Book
    from chaos.sim.world import World

P = ParamSpec("P")
T = TypeVar("T")

WORKER_MS = 5
STAMP_MS = 4
SHARE_MS = 1
NO_SPACE = "the batch could not be committed: no space left on device"
DISK_FAILED = "the batch could not be committed: input/output error"

Moment = Literal[
    "sending", "sent", "received", "turned", "batch", "submitted", "fsynced", "durable",
    "stamping", "stamp written", "stamped",
]  # fmt: skip
"""Between two moments of a node lies one step: whoever watches may end the process at any of them.

A turn ends with "turned"; "batch" is made and not handed to the disk, "submitted" is; "fsynced" is
on disk and not known to the host, "durable" is step 9 done; likewise for the stamp.
"""


class Killed(BaseException):
    """SIGKILL in the middle of whatever the host is doing; only `SimNode.guard` catches it."""


class SimNode:
    """One machine and, while it runs, its host."""

    def __init__(self, world: World, node_id: NodeId) -> None:
        self.world = world
        self.id = node_id
        self.book = world.book
        """The cluster.json of this machine."""
        self.store = SimStore()
        self.stamp = enrolment(CLUSTER, node_id)
        self.files: dict[str, bytes] = {}
        self.host: Host | None = None
        self.life = 0
        self.stopped: str | None = None
        self.hsm_away = False
        self.disk_ms: float = world.disk_ms
        self.stamp_ms: float = STAMP_MS
        self.worker_ms: float = WORKER_MS
        self.share_ms: float = SHARE_MS
        """One operation with a key."""
        self.hsm = SimHsm(self)
        self.space = SimSpace(self.files)
        self.disk_fails = False
        self.clock = SimClock(world)
        self.backlog: list[Callable[[], object]] | None = None
        """What waits for a paused process; None while it runs."""
        self.pending: Batch | None = None
        self.turn_due = False
        self.batches = 0
        self.random = random.Random(0)  # noqa: S311 - a seed reproduces, it does not protect

    # ---- life

    @property
    def up(self) -> bool:
        """The process runs."""
        return self.host is not None

    @property
    def running(self) -> Host:
        """The host of a node that runs."""
        if self.host is None:
            raise AssertionError(f"node {self.id} is down: {self.stopped}")
        return self.host

    def start(self) -> SimNode:
        """Boot from what the disk has.

        Raises:
            BootRefused: as a real node would say in its one line.

        """
        if self.up:
            raise AssertionError(f"node {self.id} runs already")
        self.life += 1
        self.stopped = None
        seed = f"{self.world.seed}/{self.id}/{self.life}"
        self.random = random.Random(seed)  # noqa: S311
        if self.id not in self.world.untold:
            self.book = self.world.book
        shape = self.book.shape(self.id)
        state = boot(self.store, self.stamp, shape)
        self.hsm = SimHsm(self)
        ports = Ports(
            clock=self.clock,
            disk=self,
            store=self.store,
            worker=self,
            network=SimNetwork(self),
            stamper=self.hsm,
            files=SimFiles(self.files, self.space),
            random=self.random,
            wake=self.wake,
        )
        self.space.started()
        self.turn_due = False
        self.pending = None
        self.backlog = None
        self.host = Host(shape, state, ports)
        self._tell("started")
        self.guard(self.host.start)
        self.world.links_changed()
        self._tick()
        return self

    def adopt(self, book: Book) -> None:
        """A new cluster.json is on the disk, then the host goes on with it."""
        self.book = book
        self.running.adopt(book.shape(self.id))

    def crash(self) -> None:
        """SIGKILL or power cut: the batch in flight is there whole, or not at all."""
        if self.pending is not None and self.world.random.random() < 0.5:
            self.store.apply(self.pending)
        self.pending = None
        self.backlog = None
        self.host = None
        self.life += 1
        self.store = self.store.copy()
        self._tell("ended")
        self.world.links_changed()

    def _tell(self, what: Literal["started", "ended"]) -> None:
        for watch in self.world.lives:
            watch(self, what)

    def pause(self) -> None:
        """SIGSTOP: what happens to the process from now on waits."""
        if self.up and self.backlog is None:
            self.backlog = []

    def resume(self) -> None:
        """SIGCONT: everything that waited happens at once, in order."""
        backlog, self.backlog = self.backlog, None
        life = self.life
        for call in backlog or ():
            if self.life == life:
                self.guard(call)

    def call(self, call: Callable[[], object]) -> None:
        """Something happens to the process; later, if it is paused."""
        if self.backlog is not None:
            self.backlog.append(call)
        else:
            self.guard(call)

    def guard(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Whatever leaves the host ends the process."""
        try:
            return call(*args, **kwargs)
        except Killed:
            self.crash()
            return None
        except (HostStopped, InvariantError) as error:
            self.stopped = str(error)
            self.crash()
            return None

    def moment(self, moment: Moment, what: bytes | Batch = b"") -> None:
        """Tell whoever watches where this node is; they may raise `Killed`."""
        for watch in self.world.moments:
            watch(self, moment, what)

    def soon(self, delay_ns: int, call: Callable[[], object]) -> None:
        """Call after a while, unless the process ends before."""
        life = self.life

        def run() -> None:
            if self.life == life and self.up:
                self.call(call)

        self.world.at(delay_ns, run)

    def _tick(self) -> None:
        if self.host is not None:
            self.space.look(self)
            self.host.on_tick()
            self.soon(self.clock.real_ns(TICK_MS * MS), self._tick)

    def wake(self) -> None:
        """The host wants a turn."""
        if not self.turn_due:
            self.turn_due = True
            self.soon(0, self._turn)

    def _turn(self) -> None:
        self.turn_due = False
        self.running.turn()
        self.moment("turned")

    # ---- Disk, Worker

    def submit(self, batch: Batch, done: Callable[[], None]) -> None:
        """Write and fsync."""
        if self.pending is not None:
            raise AssertionError(f"node {self.id}: two batches in flight")
        self.moment("batch", batch)
        self.pending = batch

        def durable() -> None:
            self._may_fail(batch)
            self.store.apply(batch)
            self.pending = None
            self.batches += 1
            self.moment("fsynced", batch)
            done()
            self.moment("durable", batch)

        self.soon(int(self.disk_ms * MS), durable)
        self.moment("submitted", batch)

    def _may_fail(self, batch: Batch) -> None:
        """A commit that fails ends the process; after EIO nobody knows what reached the disk."""
        full = not self.space.left
        if not (full or self.disk_fails):
            return
        self.pending = batch if self.disk_fails else None
        self.disk_fails = False
        raise HostStopped(NO_SPACE if full else DISK_FAILED)

    def run(self, job: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Long reads: the job sees the store as of now."""
        result: T | Exception
        try:
            result = job()
        except Exception as error:  # noqa: BLE001 - the port hands it on
            result = error
        self.soon(int(self.worker_ms * MS), lambda: done(result))


class SimNetwork:
    """One node's links."""

    def __init__(self, node: SimNode) -> None:
        self.node = node

    def send(self, to: NodeId, frame: bytes) -> bool:
        """Onto the wire; False when there is none."""
        self.node.moment("sending", frame)
        taken = self.node.world.carry(self.node.id, to, frame)
        self.node.moment("sent", frame)
        return taken

    def cut(self, peer: NodeId, reason: str) -> None:
        """A peer broke the protocol."""
        self.node.world.cuts.append((self.node.id, peer, reason))

    def fetch_snapshot(
        self,
        from_node: NodeId,
        name: str,
        into: str,
        *,
        size: int,
        done: Callable[[bool], None],
    ) -> None:
        """Copy a peer's snapshot file."""
        node, world = self.node, self.node.world
        data = world.machines[from_node].files.get(name)
        refused = world.refuse_file is not None and world.refuse_file(from_node, name)
        if not world.connected(node.id, from_node) or refused or (data and len(data) > size):
            data = None

        def finish() -> None:
            fits = data is not None and len(data) <= node.space.left
            if data is not None and fits:
                spoil, world.spoil_once = world.spoil_once, None
                node.files[into] = spoil(data) if spoil else data
            done(fits)

        node.soon(world.fetch_ms * MS, finish)
