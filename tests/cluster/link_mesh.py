"""Real links on loopback for tests: one authority, one peer listener per node, free ports."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web

from cluster.certificates import Authority, TlsFiles, create_authority, issue, node_uri
from cluster.cluster_file import ClusterFile, NodeEntry
from cluster.links import Links
from cluster.snapshot_files import SnapshotDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

CLUSTER_ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
HOSTS = ["127.0.0.1", "::1", "localhost"]


PORT_BASE, PORTS_PER_WORKER = 3_000, 3_000
"""Below the ranges of real vaults and of outgoing connections, and a share for each test worker."""
_draws = itertools.count(os.getpid() * 61)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now and that no other worker of the tests will take."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    found: list[int] = []
    for draw in itertools.islice(_draws, PORTS_PER_WORKER):
        port = PORT_BASE + worker * PORTS_PER_WORKER + draw % PORTS_PER_WORKER
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"fewer than {count} free ports among {PORTS_PER_WORKER}")


def cluster_file(nodes: int = 3, *, shards: int = 1) -> ClusterFile:
    ports = iter(free_ports(4 * nodes))
    return ClusterFile(
        version=1,
        cluster_id=CLUSTER_ID,
        name="demo",
        shards=shards,
        limit=10,
        grace_s=120,
        threshold=2 if nodes == 3 else 3,
        nodes=tuple(
            NodeEntry(
                node,
                node,
                f"dc{node}",
                *(f"127.0.0.1:{next(ports)}" for _ in range(4)),
            )
            for node in range(1, nodes + 1)
        ),
        check_values={"identity": "00" * 8},
        opaque_public_key="A" * 43,
    )


def write_tls(directory: Path, authority: Authority, uri: str, *, server: bool = True) -> TlsFiles:
    directory.mkdir(parents=True, exist_ok=True)
    issued = issue(
        authority,
        uri=uri,
        hosts=HOSTS if server else [],
        days=1,
        server=server,
        client=True,
    )
    files = TlsFiles(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    files.ca.write_bytes(authority.cert_pem)
    files.cert.write_bytes(issued.cert_pem)
    files.key.write_bytes(issued.key_pem)
    return files


@dataclass
class Heard:
    """What a node's links reported, with a way to wait for it."""

    frames: list[tuple[int, int, bytes]] = field(default_factory=list)
    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_link_frame(self, peer: int, channel: int, payload: bytes) -> None:
        self.frames.append((peer, channel, payload))
        self.changed.set()

    def on_link_up(self, peer: int) -> None:
        self.up.append(peer)
        self.changed.set()

    def on_link_down(self, peer: int) -> None:
        self.down.append(peer)
        self.changed.set()

    def on_replaced(self, why: str) -> None:
        self.replaced.append(why)
        self.changed.set()

    async def until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class LinkNode:
    """One node's links behind a real peer listener."""

    def __init__(
        self,
        cluster: ClusterFile,
        node_id: int,
        tls: TlsFiles,
        directory: Path,
        *,
        addresses: Mapping[int, str] | None = None,
        revoked: frozenset[str] = frozenset(),
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.cluster = cluster
        self.node_id = node_id
        self.tls = tls
        self.directory = directory
        self.heard = Heard()
        self.links = Links(
            cluster,
            node_id,
            tls,
            SnapshotDirectory(directory),
            addresses=addresses,
            revoked=revoked,
        )
        self._runner: web.AppRunner | None = None

    async def listen(self) -> None:
        application = web.Application()
        application.add_routes(self.links.routes())
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        host, _, port = self.cluster.node(self.node_id).peer.rpartition(":")
        site = web.TCPSite(
            self._runner, host, int(port), ssl_context=self.links.server_context, reuse_address=True
        )
        await site.start()

    async def start(self) -> None:
        await self.listen()
        self.links.start(self.heard)

    async def stop(self) -> None:
        await self.links.stop()
        if self._runner is not None:
            await self._runner.cleanup()


class Mesh:
    """Some nodes of one cluster in this process."""

    def __init__(self, root: Path, nodes: int = 3, *, shards: int = 1) -> None:
        self.root = root
        self.authority = create_authority("demo")
        self.cluster = cluster_file(nodes, shards=shards)
        self.nodes: dict[int, LinkNode] = {}

    def tls(self, node_id: int) -> TlsFiles:
        directory = self.root / f"tls{node_id}"
        if (directory / "ca.pem").exists():
            return TlsFiles(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
        return write_tls(directory, self.authority, node_uri(CLUSTER_ID, node_id))

    def node(
        self,
        node_id: int,
        *,
        tls: TlsFiles | None = None,
        addresses: Mapping[int, str] | None = None,
        revoked: frozenset[str] = frozenset(),
    ) -> LinkNode:
        node = LinkNode(
            self.cluster,
            node_id,
            tls or self.tls(node_id),
            self.root / f"snapshots{node_id}",
            addresses=addresses,
            revoked=revoked,
        )
        self.nodes[node_id] = node
        return node

    async def stop(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))
