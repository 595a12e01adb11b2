"""Drives one node's Raft host in asyncio: ticks, turns, callbacks, and the end when a rule breaks.

The host decides; this file only sees to it that it is called: a tick every 50 ms with missed ones
dropped (after a pause, catch-up ticks would start elections while heartbeats wait unread), one
turn per round of the loop however many frames came in it, every callback on the loop thread. An
exception that leaves the host ends the process in one line (I9). It also carries the node's own
messages (share requests) over the same links.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
from typing import TYPE_CHECKING, Final, ParamSpec

from cluster.api import HostStopped, NotAppended, Shape, Unknown
from cluster.disk import DiskThread
from cluster.failstop import FailStop
from cluster.fatal import end_process
from cluster.limits import TICK_MS
from cluster.link_wire import HOST_CHANNEL, SERVICE_CHANNEL
from cluster.links import HostNetwork
from cluster.ports import Ports
from cluster.room import Room, judge
from cluster.types import check
from cluster.worker import WorkerThread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cluster.api import ProposalResult, VaultHost
    from cluster.cluster_file import ClusterFile
    from cluster.commands import Command
    from cluster.handover import TransferResult
    from cluster.links import Links
    from cluster.ports import SnapshotFiles
    from cluster.store import Store
    from cluster.types import NodeId, ShardId

P = ParamSpec("P")

TICK_S: Final = TICK_MS / 1000
SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread waits for Python's interpreter lock before it asks for it. The disk thread
takes it some five times a batch; at Python's 5 ms a busy loop tripled the time of a commit."""
DISK_WATCHDOG_S: Final = 30.0
"""A disk that takes longer for one batch is gone; a restart on a good one is the way back."""

_log = logging.getLogger("quorumvault.runtime")


class LoopClock:
    """`cluster.ports.Clock` on the loop's own monotonic clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def monotonic_ns(self) -> int:
        """Nanoseconds since some start."""
        return int(self._loop.time() * 1e9)


class StampTasks:
    """`cluster.ports.Stamper` over an async HSM call; `away` are its "not now" errors."""

    def __init__(
        self,
        write_stamp: Callable[[bytes], Awaitable[None]],
        away: tuple[type[Exception], ...],
        call: Callable[[Callable[[], None]], None],
    ) -> None:
        self._write_stamp = write_stamp
        self._away = away
        self._call = call
        self._task: asyncio.Task[None] | None = None

    def write(self, data: bytes, done: Callable[[bool], None]) -> None:
        """Replace the stamp, then `done(True)`; `done(False)` when the HSM is away."""
        check(self._task is None, "stamp: a second write while one is under way")
        self._task = asyncio.create_task(self._write(data, done), name="stamp")

    async def stop(self) -> None:
        """Wait no longer; a write under way may still happen (the stamp is the old or the new)."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _write(self, data: bytes, done: Callable[[bool], None]) -> None:
        try:
            await self._write_stamp(data)
            written = True
        except self._away as error:
            _log.warning("stamp not written: %s", error)
            written = False
        except Exception as error:  # noqa: BLE001 - re-raised through the host's outermost guard
            failure = error
            self._task = None
            self._call(lambda: _raise(failure))
            return
        self._task = None
        self._call(lambda: done(written))


class Runtime:
    """One running host with its disk, links and timers. Made and used on one loop.

    `on_service(peer, payload)` hears the other nodes' service frames; if it raises, the link with
    that peer is cut. `on_peer_down(peer)`: nothing sent to it will be answered over this link.
    `on_fatal(line)` must end the process; the default does.
    For metrics: `on_commit(seconds, writes)` hears of each batch on disk, `on_tick_late(seconds)`
    of each tick.
    """

    def __init__(
        self,
        *,
        make_host: Callable[[Ports], VaultHost],
        store: Store,
        links: Links,
        files: SnapshotFiles,
        write_stamp: Callable[[bytes], Awaitable[None]],
        stamp_away: tuple[type[Exception], ...],
        on_service: Callable[[NodeId, bytes], None],
        on_peer_down: Callable[[NodeId], None] = lambda _peer: None,
        on_fatal: Callable[[str], object] = end_process,
        on_commit: Callable[[float, int], None] = lambda _seconds, _writes: None,
        on_tick_late: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._loop = asyncio.get_running_loop()
        self._links = links
        self._on_service = on_service
        self._on_peer_down = on_peer_down
        self._on_tick_late = on_tick_late
        self._turn_wanted = False
        self._tick: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._waiting: set[asyncio.Future[ProposalResult]] = set()
        self._store = store
        self._room = Room.ENOUGH
        self.lag_s = 0.0
        """How late the last tick was: the loop's stall at that moment."""
        self._worst_lag_s = 0.0
        self._disk = DiskThread(store, self._loop, self._callback, on_commit)
        self._worker = WorkerThread(self._loop, self._callback)
        self._stamper = StampTasks(write_stamp, stamp_away, self._callback)
        ports = Ports(
            clock=LoopClock(self._loop),
            disk=self._disk,
            store=store,
            worker=self._worker,
            network=HostNetwork(links, self._callback),
            stamper=self._stamper,
            files=files,
            random=random.SystemRandom(),
            wake=self.wake,
        )
        self.host = FailStop(make_host(ports), on_fatal, self.wake)
        """For the node: every call may end the process, none returns from a broken host."""

    def start(self) -> None:
        """Start the host, its ticks and its links."""
        self._attempt(self.host.start)
        self._links.start(self)
        self._due = self._loop.time() + TICK_S
        self._tick = self._loop.call_at(self._due, self._on_tick)

    async def stop(self) -> None:
        """End everything but the store; open proposals answer Unknown."""
        if not self.host.stopped:
            self._attempt(self.host.stop)
            self.host.stopped = True
        if self._tick is not None:
            self._tick.cancel()
        for future in self._waiting:
            if not future.done():
                future.set_result(Unknown("this node is stopping", sends=1))
        await self._links.stop()
        await self._stamper.stop()
        await self._loop.run_in_executor(None, self._disk.stop)
        await self._loop.run_in_executor(None, self._worker.stop)

    async def drain(self) -> None:
        """Refuse new proposals and hand leadership over; returns when done or after 5 s."""
        drained = self._loop.create_future()

        def done() -> None:
            if not drained.done():
                drained.set_result(None)

        self.host.drain(done)
        await drained

    async def transfer(self, shard: int, to: int) -> TransferResult:
        """Have node `to` lead the shard; within 5 s it does, or the answer says why not."""
        answered: asyncio.Future[TransferResult] = self._loop.create_future()

        def done(result: TransferResult) -> None:
            if not answered.done():
                answered.set_result(result)

        self.host.transfer(shard, to, done)
        return await answered

    async def propose(
        self,
        command: Command,
        *,
        timeout_s: float,
        shard: ShardId | None = None,
    ) -> ProposalResult:
        """Have `command` applied; `shard` for Barrier only.

        Cancelling ends the waiting; what was sent may still be applied.
        """
        if self.host.stopped:
            return NotAppended("this node is stopping")
        future: asyncio.Future[ProposalResult] = self._loop.create_future()

        def done(result: ProposalResult) -> None:
            if not future.done():
                future.set_result(result)

        proposal = self.host.propose(command, timeout_s=timeout_s, done=done, shard=shard)
        self._waiting.add(future)
        try:
            return await future
        except asyncio.CancelledError:
            proposal.cancel()
            raise
        finally:
            self._waiting.discard(future)

    def adopt(self, cluster: ClusterFile) -> None:
        """Follow a newer cluster file: links first, then the host.

        A node that it names as replaced ends here (`on_fatal`).
        """
        shape = Shape.of(cluster, self._links.node_id)
        if cluster.retirement(self._links.node_id) is None:
            self._links.adopt(cluster)
        self._attempt(self.host.adopt, shape)

    def send_service(self, to: NodeId, payload: bytes) -> bool:
        """Queue one service frame; False when the link is down or full."""
        return self._links.send(to, SERVICE_CHANNEL, payload)

    def wake(self) -> None:
        """Have one turn run soon."""
        if not self._turn_wanted:
            self._turn_wanted = True
            self._loop.call_soon(self._turn)

    def worst_lag_s(self) -> float:
        """The longest stall of the loop since the last call, seconds."""
        worst, self._worst_lag_s = self._worst_lag_s, 0.0
        return worst

    # ---- cluster.links.LinkEvents
    def on_link_frame(self, peer: NodeId, channel: int, payload: bytes) -> None:
        """One whole frame from the authenticated peer."""
        if channel == HOST_CHANNEL:
            self._attempt(self.host.on_frame, peer, payload)
            return
        try:
            self._on_service(peer, payload)
        except Exception:  # noqa: BLE001 - a peer's bytes must not end this node
            _log.exception("service frame from node %d", peer)
            self._links.cut(peer, "a service frame that this node cannot take")

    def on_link_up(self, peer: NodeId) -> None:
        """Frames to `peer` can be sent."""
        self._attempt(self.host.on_link_up, peer)

    def on_link_down(self, peer: NodeId) -> None:
        """They no longer can."""
        self._attempt(self.host.on_link_down, peer)
        self._on_peer_down(peer)

    def on_replaced(self, why: str) -> None:
        """Peers say that this node was replaced: it ends, as when its own file says so."""
        if not self.host.stopped:
            self.host.fail(why)

    # ---- the loop
    def _on_tick(self) -> None:
        now = self._loop.time()
        self.lag_s = now - self._due
        self._worst_lag_s = max(self._worst_lag_s, self.lag_s)
        self._on_tick_late(max(0.0, self.lag_s))
        if self._disk.busy_s() > DISK_WATCHDOG_S:
            self.host.fail(f"the disk did not finish a batch in {DISK_WATCHDOG_S:g} s: check it")
        self._look_at_room()
        self._attempt(self.host.on_tick)
        self._due += TICK_S
        if self._due <= now:
            self._due = now + TICK_S  # missed ticks are dropped
        if not self.host.stopped:
            self._tick = self._loop.call_at(self._due, self._on_tick)

    def _look_at_room(self) -> None:
        """Every tick: between two looks a busy neighbour may write much."""
        room = judge(self._room, self._store.space())
        if room is not self._room:
            _log.warning("disk space: %s, was %s", room.value, self._room.value)
            self._room = room
            self._attempt(self.host.set_room, room)

    def _turn(self) -> None:
        self._turn_wanted = False
        if not self.host.stopped:
            with contextlib.suppress(HostStopped):
                self.host.turn()

    def _callback(self, call: Callable[[], None]) -> None:
        """Run a callback of the host, which may raise as the host may."""
        self._attempt(self.host.run, call)

    def _attempt(self, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call into the host, unless it has stopped; then have a turn run."""
        if not self.host.stopped:
            with contextlib.suppress(HostStopped):
                call(*args, **kwargs)
            self.wake()


def _raise(error: Exception) -> None:
    raise error
