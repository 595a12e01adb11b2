"""All links of one node: four out, four in, and the snapshot stream, over mutual TLS 1.3.

The real twin of `cluster.ports.Network`. Everything happens on the loop thread; `send` never
waits: a frame is queued or dropped. What a peer is allowed rests on its certificate alone; see
`link_in.Gate` and `link_out.OutgoingLink`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from cluster.certificates import client_context, server_context
from cluster.cluster_file import extends
from cluster.link_in import Gate, IncomingLinks
from cluster.link_out import OutgoingLink
from cluster.link_wire import HOST_CHANNEL
from cluster.snapshot_stream import SnapshotFetcher, SnapshotServer
from cluster.types import NodeId, check

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from aiohttp import web

    from cluster.certificates import TlsFiles
    from cluster.cluster_file import ClusterFile, NodeEntry
    from cluster.snapshot_files import SnapshotDirectory

_log = logging.getLogger("quorumvault.links")


class LinkEvents(Protocol):
    """Who hears of frames and links. Called on the loop thread; must not raise."""

    def on_link_frame(self, peer: NodeId, channel: int, payload: bytes) -> None:
        """One whole frame from the authenticated peer."""
        ...

    def on_link_up(self, peer: NodeId) -> None:
        """Frames to `peer` can be sent."""
        ...

    def on_link_down(self, peer: NodeId) -> None:
        """They no longer can; what was queued is dropped."""
        ...

    def on_replaced(self, why: str) -> None:
        """So many peers say that this node was replaced that at least one is honest."""
        ...


class LinkReport(Struct, frozen=True):
    """One outgoing link, and what came over the peer's own, for metrics."""

    peer: NodeId
    connected: bool
    backlog_bytes: int
    connects: int
    drops: int
    frames: int
    bytes: int
    failures: int
    received_bytes: int
    last_error: str
    """Why our link is down; empty while it is up."""


class Links:
    """One node's end of the mesh."""

    def __init__(
        self,
        cluster: ClusterFile,
        node_id: NodeId,
        tls: TlsFiles,
        snapshots: SnapshotDirectory,
        *,
        addresses: Mapping[NodeId, str] | None = None,
        revoked: frozenset[str] = frozenset(),
    ) -> None:
        """`addresses` overrides where a peer is dialled; `revoked`: SHA-256 of DER, in hex.

        An override of a node holds for its replacement too, unless that has its own.

        Raises:
            CertificateError: a TLS file is missing or wrong.

        """
        self._cluster = cluster
        self._node_id = node_id
        self._overrides = dict(addresses or {})
        self._events: LinkEvents | None = None
        self._addresses = {entry.id: self._address(entry) for entry in cluster.peers_of(node_id)}
        self._gate = Gate(cluster, node_id, revoked)
        self._client = client_context(tls.ca, tls.cert, tls.key, check_hostname=False)
        self.server_context: ssl.SSLContext = server_context(tls, require_client=True)
        """For the peer listener that mounts `routes()`."""
        self.contexts: tuple[ssl.SSLContext, ...] = (self._client, self.server_context)
        """All that show this node's certificate (`certificates.put_pair`)."""
        self._incoming = IncomingLinks(self._gate)
        self._snapshot_server = SnapshotServer(self._gate, snapshots)
        self._fetcher = SnapshotFetcher(
            cluster.cluster_id, self._client, snapshots, self._gate.refused
        )
        self._outgoing: dict[NodeId, OutgoingLink] = {}
        self._fetches: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._gone_says: set[NodeId] = set()

    @property
    def node_id(self) -> NodeId:
        """Whose links these are."""
        return self._node_id

    def _address(self, entry: NodeEntry) -> str:
        """Where to dial a node: an override of its own or of whom it replaced, or the file's."""
        seat = sorted(
            (each for each in self._cluster.everybody() if each.seat == entry.seat),
            key=lambda each: each.joined,
            reverse=True,
        )
        found = (self._overrides[each.id] for each in seat if each.id in self._overrides)
        return next(found, entry.peer)

    def routes(self) -> list[web.RouteDef]:
        """To mount on the aiohttp application of the peer listener."""
        return [*self._incoming.routes(), *self._snapshot_server.routes()]

    def start(self, events: LinkEvents) -> None:
        """Accept frames and begin to dial; on the loop."""
        self._events = events
        self._incoming.start(events.on_link_frame)
        for peer in self._addresses:
            self._dial(peer, events)

    def _dial(self, peer: NodeId, events: LinkEvents) -> None:
        link = OutgoingLink(
            cluster_id=self._cluster.cluster_id,
            peer=peer,
            address=self._addresses[peer],
            context=self._client,
            refused=self._gate.refused,
            on_up=self._came_up,
            on_down=events.on_link_down,
            on_gone=self._on_gone,
        )
        self._outgoing[peer] = link
        link.start()

    def _came_up(self, peer: NodeId) -> None:
        self._gone_says.discard(peer)
        if self._events is not None:
            self._events.on_link_up(peer)

    def _on_gone(self, peer: NodeId, why: str) -> None:
        """One peer may lie, and so may all but `threshold` - 1: fewer cannot stop this node."""
        self._gone_says.add(peer)
        if len(self._gone_says) >= self._cluster.threshold and self._events is not None:
            self._events.on_replaced(why)

    def adopt(self, cluster: ClusterFile) -> None:
        """Go on with a newer revision of the cluster file, in which this node is a member.

        Links with replaced nodes are cut at once (`on_link_down` comes from inside) and refused
        from now on; new nodes are dialled and heard.
        """
        check(
            extends(cluster, self._cluster) and cluster.retirement(self._node_id) is None,
            "links: the cluster file to adopt does not go on from the present one",
        )
        self._cluster = cluster
        self._gate.adopt(cluster)
        now = {entry.id: self._address(entry) for entry in cluster.peers_of(self._node_id)}
        left = self._addresses.keys() - now.keys()
        come = now.keys() - self._addresses.keys()
        self._addresses = now
        for peer in sorted(left):
            _log.warning("links: %s", cluster.retirement(peer))
            self._gone_says.discard(peer)
            self._incoming.cut(peer)
            self._snapshot_server.cut(peer)
            link = self._outgoing.pop(peer, None)
            if link is not None:
                link.retire()
                task = asyncio.create_task(link.stop(), name=f"last of the link to {peer}")
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        for peer in sorted(come):
            if self._events is not None:
                self._dial(peer, self._events)

    async def stop(self) -> None:
        """Close every link and stream."""
        for task in self._fetches:
            task.cancel()
        if self._fetches:
            await asyncio.wait(self._fetches)
        await asyncio.gather(*(link.stop() for link in self._outgoing.values()), *self._closing)
        await self._incoming.stop()

    def send(self, to: NodeId, channel: int, payload: bytes) -> bool:
        """Queue one whole frame; False when there is no link or its buffer is full."""
        link = self._outgoing.get(to)
        return link is not None and link.send(channel, payload)

    def connected(self, peer: NodeId) -> bool:
        """True while frames to `peer` can be sent."""
        link = self._outgoing.get(peer)
        return link is not None and link.connected

    def cut(self, peer: NodeId, reason: str) -> None:
        """Drop both links with a peer that broke the protocol; they may connect again."""
        _log.warning("links with node %d cut: %s", peer, reason)
        self._incoming.cut(peer)
        if peer in self._outgoing:
            self._outgoing[peer].cut(reason)

    def fetch_snapshot(
        self,
        from_node: NodeId,
        name: str,
        into: str,
        *,
        size: int,
        done: Callable[[bool], None],
    ) -> None:
        """Stream a peer's snapshot file into ours, then `done` (see `cluster.ports.Network`)."""
        address = self._addresses.get(from_node)
        if address is None:  # it was replaced since it was chosen
            asyncio.get_running_loop().call_soon(done, False)
            return

        async def fetch() -> None:
            complete = False
            try:
                complete = await self._fetcher.fetch(from_node, address, name, into, size)
            except Exception:  # noqa: BLE001 - who waits for the file must hear of anything
                _log.exception("snapshot %s from node %d", name, from_node)
            done(complete)

        task = asyncio.create_task(fetch(), name=f"snapshot {name} from {from_node}")
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    def report(self) -> tuple[LinkReport, ...]:
        """Every outgoing link."""
        return tuple(
            LinkReport(
                peer=peer,
                connected=link.connected,
                backlog_bytes=link.backlog,
                connects=link.connects,
                drops=link.drops,
                frames=link.frames,
                bytes=link.bytes,
                failures=link.failures,
                received_bytes=self._incoming.bytes.get(peer, 0),
                last_error=link.last_reason,
            )
            for peer, link in self._outgoing.items()
        )


class HostNetwork:
    """The host's view of the links: `cluster.ports.Network` on the host channel."""

    def __init__(self, links: Links, call: Callable[[Callable[[], None]], None]) -> None:
        """`call` runs a callback of the host, on the loop thread."""
        self._links = links
        self._call = call

    def send(self, to: NodeId, frame: bytes) -> bool:
        """Queue one host frame."""
        return self._links.send(to, HOST_CHANNEL, frame)

    def cut(self, peer: NodeId, reason: str) -> None:
        """Drop the links with a peer that broke the protocol."""
        self._links.cut(peer, reason)

    def fetch_snapshot(
        self,
        from_node: NodeId,
        name: str,
        into: str,
        *,
        size: int,
        done: Callable[[bool], None],
    ) -> None:
        """Stream a peer's snapshot file into ours."""

        def finished(complete: bool) -> None:  # noqa: FBT001 - the seam's callback
            self._call(lambda: done(complete))

        self._links.fetch_snapshot(from_node, name, into, size=size, done=finished)
