"""Snapshots on their own HTTP stream, so that megabytes never stand before a heartbeat.

Any peer of this node may fetch a file that begins `out-`: it holds only what is replicated to
every node anyway. The fetching end checks who answers, and takes exactly the announced size; what
the bytes mean is checked by the host, by hash.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web

from cluster.certificates import CertificateError, NodeIdentity, peer_identity
from cluster.cluster_file import split_address
from cluster.hang_up import hang_up
from cluster.link_ask import certified_get
from cluster.link_wire import SNAPSHOT_PATH
from cluster.snapshot_files import OUT_PREFIX, SnapshotDirectory, is_plain

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable
    from typing import BinaryIO
    from uuid import UUID

    from cluster.link_in import Gate
    from cluster.types import NodeId

CHUNK_BYTES: Final = 256 * 1024
STALL_S: Final = 60.0
MAX_STREAMS_PER_PEER: Final = 4

_log = logging.getLogger("quorumvault.links")


class SnapshotServer:
    """Hands snapshot files to peers."""

    def __init__(self, gate: Gate, files: SnapshotDirectory) -> None:
        self._gate = gate
        self._files = files
        self._streams: dict[NodeId, list[asyncio.Transport | None]] = {}

    def cut(self, peer: NodeId) -> None:
        """End what is being streamed to this peer."""
        for transport in self._streams.get(peer, ()):
            hang_up(transport)

    def routes(self) -> list[web.RouteDef]:
        """To mount on the peer listener."""
        return [web.get(SNAPSHOT_PATH + "/{name}", self._handle, allow_head=False)]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        peer = self._gate.admit(request)
        name = request.match_info["name"]
        if not (is_plain(name) and name.startswith(OUT_PREFIX)):
            raise web.HTTPNotFound(text="no such snapshot\n")
        streams = self._streams.setdefault(peer, [])
        if len(streams) >= MAX_STREAMS_PER_PEER:
            raise web.HTTPTooManyRequests(text=f"at most {MAX_STREAMS_PER_PEER} at once\n")
        try:
            file = self._files.open(name)
        except OSError:
            raise web.HTTPNotFound(text="no such snapshot\n") from None
        transport = request.transport
        streams.append(transport)
        try:
            with file:
                return await self._stream(request, file)
        finally:
            streams.remove(transport)

    @staticmethod
    async def _stream(request: web.Request, file: BinaryIO) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        size = file.seek(0, 2)
        file.seek(0)
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = size
        await response.prepare(request)
        sent = 0
        while sent < size:
            data = await loop.run_in_executor(None, file.read, min(CHUNK_BYTES, size - sent))
            if not data:
                break
            async with asyncio.timeout(STALL_S):
                await response.write(data)
            sent += len(data)
        if sent < size:
            hang_up(request.transport)  # the file shrank: the peer must not take it for whole
        return response


class SnapshotFetcher:
    """Fetches snapshot files from peers."""

    def __init__(
        self,
        cluster_id: UUID,
        context: ssl.SSLContext,
        files: SnapshotDirectory,
        refused: Callable[[bytes], str | None],
    ) -> None:
        self._cluster_id = cluster_id
        self._context = context
        self._files = files
        self._refused = refused

    async def fetch(self, peer: NodeId, address: str, name: str, into: str, size: int) -> bool:
        """Stream the peer's file `name` (of `size` bytes) into our file `into`.

        False, and no file, when the peer has no such file, is not who it should be, sends another
        size, or sends nothing for STALL_S, for names that are no file's, and when our file was
        removed meanwhile: nobody wants it any more.
        """
        if not (is_plain(name) and is_plain(into)):
            _log.warning("node %d offered %r, which is not the name of a snapshot", peer, name)
            return False
        complete = False
        try:
            complete = await self._receive(peer, address, name, into, size)
        except (aiohttp.ClientError, OSError, TimeoutError, CertificateError, ValueError) as error:
            _log.warning("snapshot %s from node %d: %s", name, peer, error or type(error).__name__)
        finally:
            if not complete:
                self._files.remove(into)
        return complete

    async def _receive(self, peer: NodeId, address: str, name: str, into: str, size: int) -> bool:
        loop = asyncio.get_running_loop()
        with self._files.create(into) as file:
            async with self._answer(peer, address, name) as response:
                if response.status != web.HTTPOk.status_code or response.content_length != size:
                    _log.warning(
                        "snapshot %s from node %d: status %d, %s bytes where %d were announced",
                        name,
                        peer,
                        response.status,
                        response.content_length,
                        size,
                    )
                    return False
                received = 0
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    if os.fstat(file.fileno()).st_nlink == 0:
                        return False
                    received += len(chunk)
                    await loop.run_in_executor(None, file.write, chunk)
                return received == size

    @contextlib.asynccontextmanager
    async def _answer(
        self, peer: NodeId, address: str, name: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The peer's response, after it was seen to be the peer's."""
        host, port = split_address(address)
        shown = f"[{host}]" if ":" in host else host
        url = f"https://{shown}:{port}{SNAPSHOT_PATH}/{name}"
        async with certified_get(self._context, url, stall_s=STALL_S) as (certificate, response):
            if certificate is None:
                raise CertificateError("the peer shows no certificate")
            if (why := self._refused(certificate)) is not None:
                raise CertificateError(why)
            identity = peer_identity(certificate, self._cluster_id)
            if identity != NodeIdentity(peer):
                raise CertificateError(f"{address} answers as {identity}, not as node {peer}")
            yield response
