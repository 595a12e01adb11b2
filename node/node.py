"""A running node: made of all its parts, watched, reloaded, drained.

Its ports are bound already; the host starts when everything is there, the client listener opens
last. The drain: unready, no new requests, those under way finish, leadership is handed over.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cluster.certificates import put_pair
from cluster.cluster_file import split_address
from cluster.fatal import end_process
from cluster.host import Host
from cluster.links import Links
from cluster.next_step import for_node
from cluster.runtime import Runtime
from cluster.snapshot_files import SnapshotDirectory
from cluster.types import NodeId
from engines._engines import __version__
from hsm.errors import HsmAway, HsmBusy
from node import logs
from node.admin import Admin
from node.assembly import Assembly, assemble
from node.book import Book
from node.config import ConfigError
from node.console_http import Inside
from node.console_state import Surveyor, View
from node.console_stream import Streams
from node.counts import counts
from node.events import Events
from node.listening import Listeners
from node.metrics_parts import (
    CertificateCollector,
    HsmCollector,
    LinkCollector,
    ListenerCollector,
)
from node.ops import Ops
from node.reload import Reloader
from node.report import Reporter
from node.steering import Steering
from node.timings import Timings
from node.transitions import Sight, transitions

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    import structlog

    from cluster.api import VaultHost
    from cluster.cluster_file import ClusterFile
    from cluster.ports import Ports
    from node.reload_plan import Plan
    from node.start import Opened

HANDOVER_S: Final = 6.0
"""The host gives up handing over after 5 s."""
STOP_S: Final = 10.0
"""How long closing everything may take after the drain, before the process just ends."""
LOOP_FAULTS: Final = 4
"""Lines a second: out of file descriptors, the loop has hundreds to tell, each with a traceback."""
WATCH_S: Final = 1.0
"""How often health is looked at when nobody asks: it feeds the gate and the metrics."""


class Node:
    """A running node: its runtime, its listeners, its drain."""

    def __init__(self, opened: Opened, log: structlog.typing.FilteringBoundLogger) -> None:
        self._opened = opened
        self._log = log
        self._told = asyncio.Event()
        self._hung_up = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._started_at = time.monotonic()
        self._hsm_told: bool | None = None
        self._loop_faults = logs.Throttle(LOOP_FAULTS)
        self._timings = Timings()
        self._events = Events(log)
        self._streams = Streams(self._events)
        self._listeners = Listeners(opened.sockets, opened.config.limits.client_connections)
        files = SnapshotDirectory(opened.directory.snapshots)
        self._links = Links(
            opened.cluster,
            opened.entry.id,
            opened.tls,
            files,
            addresses={
                NodeId(node): address for node, address in opened.config.peer_addresses.items()
            },
        )
        self._runtime = Runtime(
            make_host=self._make_host,
            store=opened.store,
            links=self._links,
            files=files,
            write_stamp=opened.hsm.write_stamp,
            stamp_away=(HsmAway, HsmBusy),
            on_service=self._on_service,
            on_peer_down=self._on_peer_down,
            on_fatal=self._end,
            on_commit=self._on_commit,
            on_tick_late=self._on_tick_late,
        )
        self._assembly: Assembly = assemble(
            opened.config,
            opened.cluster,
            self._runtime.host,
            opened.hsm,
            send=self._runtime.send_service,
            space=opened.store.space,
            log=log,
            fatal=self._end,
        )
        put_pair(self._links.contexts, opened.running.pair.cert_pem, opened.running.pair.key_pem)
        self._reloader = Reloader(
            opened.path, opened.running, opened.cluster, opened.entry, self._use, self._events
        )
        self._measure(opened)
        self._book = Book(opened.cluster, opened.config.cluster_file, self._adopt)
        self._reports = self._reporter()

    def _measure(self, opened: Opened) -> None:
        metrics = self._assembly.metrics
        metrics.watch(HsmCollector(lambda: opened.hsm.stats))
        metrics.watch(LinkCollector(self._links.report))
        metrics.watch(ListenerCollector(self._listeners.report))
        metrics.watch(CertificateCollector(lambda: self._reloader.running.pair.held))
        metrics.configuration_refused.set_function(lambda: bool(self._reloader.failed))

    def _end(self, line: str) -> None:
        """What ends a node names the node in its next step."""
        end_process(for_node(line, self._opened.entry.id))

    def _adopt(self, cluster: ClusterFile) -> None:
        """Follow a newer cluster file; it is on disk already."""
        text = f"revision {cluster.revision} of the cluster file is followed"
        self._events.tell("cluster-file", text, revision=cluster.revision)
        self._runtime.adopt(cluster)
        self._assembly.api.adopt(cluster)

    def _use(self, plan: Plan) -> None:
        """Put a reload to work: the pair first, which alone may fail, then what cannot."""
        pair, config = plan.outcome.pair, plan.outcome.loaded.config
        contexts = [*self._links.contexts, self._opened.client_tls, self._opened.admin_tls]
        put_pair(contexts, pair.cert_pem, pair.key_pem)
        logs.threshold.set(config.log_level)
        self._assembly.api.retune(config.limits, config.tenants)
        self._listeners.retune(config.limits.client_connections)

    def _make_host(self, ports: Ports) -> VaultHost:
        return Host(self._opened.shape, self._opened.state, ports)

    def _on_service(self, peer: NodeId, payload: bytes) -> None:
        self._assembly.exchange.on_frame(peer, payload)

    def _on_commit(self, seconds: float, writes: int) -> None:
        self._assembly.metrics.commit(seconds, writes)
        self._timings.batch(seconds)

    def _on_tick_late(self, seconds: float) -> None:
        self._assembly.metrics.late(seconds)
        self._timings.tick_late(seconds)

    def _on_peer_down(self, peer: NodeId) -> None:
        self._assembly.exchange.on_link_down(peer)

    async def start(self, closing: AsyncExitStack) -> None:
        """Open the listeners and start the host; `closing` undoes it."""
        opened, assembly, listeners = self._opened, self._assembly, self._listeners
        closing.callback(assembly.witness.close)
        admin = Admin(self._book, self._reports, self._steering(), self._reloader, self._events)
        await listeners.listen(closing, "ops", self._inside(closing).serve, None)
        await listeners.listen_to_peers(closing, self._links.routes(), self._links.server_context)
        self._runtime.start()
        closing.push_async_callback(self._runtime.stop)
        # A new cluster file meets a host that has begun and links that are not closed yet.
        await listeners.listen(closing, "admin", admin.serve, opened.admin_tls)
        closing.callback(assembly.exchange.close)
        opened.hsm.on_health(self._on_hsm_thread)
        self._look_at_hsm()
        await listeners.listen(closing, "client", assembly.api.serve, opened.client_tls)
        watch = self._loop.create_task(self._watch())
        closing.callback(watch.cancel)
        reloads = self._loop.create_task(self._reload_when_told())
        closing.callback(reloads.cancel)
        self._events.tell(
            "started",
            f"version {__version__} in {opened.entry.dc}",
            seat=opened.entry.seat,
            dc=opened.entry.dc,
            client=opened.entry.client,
            version=__version__,
        )
        wanted, most = opened.config.limits.client_connections, listeners.most_clients
        if most < wanted:
            text = f"{most} clients are taken at once, not {wanted}: this process gets too few"
            self._events.tell("connections", f"{text} open files (LimitNOFILE=)", level="warning")

    def _inside(self, closing: AsyncExitStack) -> Inside:
        """The ops listener."""
        ops = Ops(self._assembly.health, self._assembly.metrics, lambda: True)
        surveyor = Surveyor(self._book, self._opened.entry.id, self._view)
        closing.push_async_callback(surveyor.close)
        return Inside(ops, surveyor, self._view, self._streams, self._ops_hosts)

    def _ops_hosts(self) -> set[str]:
        return {split_address(each.ops)[0].lower() for each in self._book.current.nodes}

    def _view(self) -> View:
        return View(
            self._reports.report(),
            counts(self._assembly.metrics, self._runtime.host.status()),
            self._opened.cluster.name,
        )

    def _reporter(self) -> Reporter:
        return Reporter(
            self._book,
            self._reloader,
            self._assembly.health,
            self._timings,
            version=__version__,
            uptime_s=lambda: time.monotonic() - self._started_at,
            links=self._links.report,
            events=lambda: self._events.newest,
        )

    def _steering(self) -> Steering:
        return Steering(
            self._runtime.host,
            self._assembly.gate,
            self._runtime.transfer,
            self._told.is_set,
            self._events,
        )

    def _on_hsm_thread(self, _healthy: bool) -> None:  # noqa: FBT001 - the HSM's callback
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._look_at_hsm)

    def _look_at_hsm(self) -> None:
        """Tell the host when the HSM has come or gone."""
        healthy = self._opened.hsm.healthy
        if healthy is self._hsm_told:
            return
        if not healthy:
            self._events.tell("hsm-away", f"HSM away: {self._opened.hsm.reason}", level="warning")
        elif self._hsm_told is not None:
            self._events.tell("hsm-back", "the HSM works again")
        self._hsm_told = healthy
        self._runtime.host.set_hsm(working=healthy)
        self._runtime.wake()

    async def _watch(self) -> None:
        """Look at the node once a second, and tell what has changed."""
        before: Sight | None = None
        while True:
            self._look_at_hsm()  # its thread cannot tell that it hangs
            picture, checks = self._assembly.health.look()
            alarms = (*picture.status.alarms, *self._reloader.alarms)
            links, listeners = self._links.report(), self._listeners.report()
            now = Sight(picture.status, checks, links, alarms, listeners)
            for kind, text, level, shard, peer in transitions(before, now):
                self._events.tell(kind, text, level=level, shard=shard, peer=peer)
            self._events.settle()
            before = now
            await asyncio.sleep(WATCH_S)

    def on_loop_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what nobody awaited; the message and the exception's kind, no values."""
        left_out = self._loop_faults.admit()
        if left_out is None:
            return
        error = context.get("exception")
        self._log.error(
            "loop", text=context.get("message"), error=type(error).__name__ if error else None,
            exc_info=error, left_out=left_out,
        )  # fmt: skip

    def stop_soon(self) -> None:
        """Begin the end, from a signal: drain, then stop."""
        self._told.set()

    def reload_soon(self) -> None:
        """Read the configuration again, from a signal; several before it is done are one."""
        self._hung_up.set()

    async def _reload_when_told(self) -> None:
        while True:
            await self._hung_up.wait()
            self._hung_up.clear()
            with suppress(ConfigError):  # logged, an alarm, and in the status
                await self._reloader.reload("SIGHUP")

    def _watchdog(self) -> None:
        """Whatever hangs on the way out is left behind: what was acknowledged is durable (I4)."""
        allowed_s = self._opened.config.drain_s + HANDOVER_S + STOP_S
        timer = threading.Timer(
            allowed_s, end_process, [f"the node did not stop within {allowed_s:.0f} s of draining"]
        )
        timer.daemon = True
        timer.start()

    async def until_told(self) -> None:
        """Until SIGTERM or SIGINT."""
        await self._told.wait()

    async def drain(self) -> None:
        """Unready, finish what is under way, hand leadership over."""
        assembly = self._assembly
        assembly.gate.draining = True
        self._watchdog()
        self._streams.close()
        text = f"told to stop; {assembly.slots.taken} requests under way"
        self._events.tell("drain", text, requests=assembly.slots.taken)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._opened.config.drain_s):
                await assembly.slots.until_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(HANDOVER_S):
                await self._runtime.drain()
