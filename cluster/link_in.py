"""Incoming links: who dials is who the certificate says, and only then is a frame read.

An operator's certificate, another cluster's, an unknown or revoked node's is answered 403 before
the upgrade, that of a node that was replaced 410: it is over for good. A peer's newest link
replaces its older one. Whatever does not parse cuts the link; what it carried before that was
whole frames (I9).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING, Final

from aiohttp import WSMsgType, web

from cluster.certificates import CertificateError, OperatorIdentity, peer_identity
from cluster.hang_up import hang_up
from cluster.link_wire import (
    LINK_PATH,
    MAX_MESSAGE_BYTES,
    SUBPROTOCOL,
    WireError,
    frames,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.cluster_file import ClusterFile
    from cluster.types import NodeId

SILENCE_S: Final = 10.0
"""The dialling end pings twice a second; one that is silent for so long is gone."""
CLOSE_TIMEOUT_S: Final = 0.2

_log = logging.getLogger("quorumvault.links")


class Gate:
    """Decides whether a certificate may speak on the peer listener, and as which node."""

    def __init__(self, cluster: ClusterFile, node_id: NodeId, revoked: frozenset[str]) -> None:
        self._node_id = node_id
        self._revoked = revoked
        self.adopt(cluster)

    def adopt(self, cluster: ClusterFile) -> None:
        """Judge by this cluster file from now on."""
        self._cluster = cluster
        self._peers = frozenset(entry.id for entry in cluster.peers_of(self._node_id))

    def knows(self, peer: NodeId) -> bool:
        """It is a peer by the present cluster file."""
        return peer in self._peers

    def refused(self, certificate: bytes) -> str | None:
        """Why nobody with this certificate (DER) is talked to, or None.

        Revoked are the fingerprints that we were given, and every certificate of a node that was
        replaced.
        """
        fingerprint = hashlib.sha256(certificate).hexdigest()
        if fingerprint in self._revoked:
            return f"certificate {fingerprint[:16]} is revoked"
        return self._replaced(certificate)

    def _replaced(self, certificate: bytes) -> str | None:
        try:
            identity = peer_identity(certificate, self._cluster.cluster_id)
        except CertificateError:
            return None  # nobody's: whoever asks sees that next
        if isinstance(identity, OperatorIdentity):
            return None
        return self._cluster.retirement(identity.node_id)

    def admit(self, request: web.Request) -> NodeId:
        """The peer that sent this request.

        Raises:
            web.HTTPForbidden: it is no peer of this node; logged with the reason.
            web.HTTPGone: it was one, and was replaced.

        """
        tls = request.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        if certificate is None:
            raise self._forbid(request, "no client certificate")
        if (why := self._replaced(certificate)) is not None:
            _log.warning("peer listener: refused %s: %s", request.remote, why)
            raise web.HTTPGone(text=f"{why}\n")
        if (why := self.refused(certificate)) is not None:
            raise self._forbid(request, why)
        try:
            identity = peer_identity(certificate, self._cluster.cluster_id)
        except CertificateError as error:
            raise self._forbid(request, str(error)) from error
        if isinstance(identity, OperatorIdentity):
            raise self._forbid(request, f"operator {identity.name!r} is no node")
        if not self.knows(identity.node_id):
            raise self._forbid(
                request,
                f"node {identity.node_id} is no peer of node {self._node_id}, which has revision "
                f"{self._cluster.revision} of the cluster file: if it is a replacement, run "
                "'quorumvault member sync'",
            )
        return identity.node_id

    @staticmethod
    def _forbid(request: web.Request, why: str) -> web.HTTPForbidden:
        _log.warning("peer listener: refused %s: %s", request.remote, why)
        return web.HTTPForbidden(text=f"{why}\n")


class IncomingLinks:
    """The WebSocket end of the peer listener."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._on_frame: Callable[[NodeId, int, bytes], None] | None = None
        self._open: dict[NodeId, asyncio.Transport] = {}
        self._handlers: set[asyncio.Task[object]] = set()
        self.cuts = 0
        self.bytes: dict[NodeId, int] = {}
        """Received from each peer since start, heads included."""

    def start(self, on_frame: Callable[[NodeId, int, bytes], None]) -> None:
        """Deliver frames from now on; until then peers are told to come again."""
        self._on_frame = on_frame

    async def stop(self) -> None:
        """Close every incoming link."""
        self._on_frame = None
        for transport in list(self._open.values()):
            hang_up(transport)
        if self._handlers:
            await asyncio.wait(self._handlers)

    def cut(self, peer: NodeId) -> None:
        """Close the peer's incoming link."""
        transport = self._open.pop(peer, None)
        hang_up(transport)

    def routes(self) -> list[web.RouteDef]:
        """To mount on the peer listener."""
        return [web.get(LINK_PATH, self._handle)]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        peer = self._gate.admit(request)
        if self._on_frame is None:
            raise web.HTTPServiceUnavailable(text="starting or stopping\n")
        websocket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            autoping=False,
            autoclose=False,
            compress=False,
            max_msg_size=MAX_MESSAGE_BYTES,
            timeout=CLOSE_TIMEOUT_S,
        )
        if not websocket.can_prepare(request).protocol:
            raise web.HTTPBadRequest(text=f"this node speaks {SUBPROTOCOL}\n")
        await websocket.prepare(request)
        transport = request.transport
        if transport is None:
            return websocket
        if not self._gate.knows(peer):  # retired since it was admitted
            hang_up(transport)
            return websocket
        self.cut(peer)  # a newer link replaces the older one
        self._open[peer] = transport
        task = asyncio.current_task()
        if task is not None:
            self._handlers.add(task)
        try:
            await self._read(peer, websocket, transport)
        except WireError as error:
            self.cuts += 1
            _log.warning("link from node %d cut: %s", peer, error)
        finally:
            if self._open.get(peer) is transport:
                del self._open[peer]
            hang_up(transport)
            if task is not None:
                self._handlers.discard(task)
        return websocket

    async def _read(
        self,
        peer: NodeId,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport,
    ) -> None:
        """Deliver frames until the link ends, is replaced, falls silent, or breaks the protocol."""
        # A timer of its own: a timeout around each message cost a fifth of a busy node's CPU.
        silence = _Silence(transport)
        try:
            await self._deliver(peer, websocket, transport, silence)
        finally:
            silence.over()

    async def _deliver(
        self,
        peer: NodeId,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport,
        silence: _Silence,
    ) -> None:
        while True:
            message = await websocket.receive()
            silence.heard = True
            if self._open.get(peer) is not transport or self._on_frame is None:
                return
            if message.type is WSMsgType.BINARY:
                self.bytes[peer] = self.bytes.get(peer, 0) + len(message.data)
                for channel, payload in frames(message.data):
                    self._on_frame(peer, channel, payload)
            elif message.type is WSMsgType.PING:
                try:
                    await websocket.pong(message.data)
                except OSError:
                    return
            elif message.type is WSMsgType.ERROR:
                raise WireError(f"not a message ({websocket.exception()})")
            elif message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
                return
            else:
                raise WireError(f"a {message.type.name} message")


class _Silence:
    """Ends a link on which nothing arrived for SILENCE_S, looking once per SILENCE_S."""

    __slots__ = ("_timer", "_transport", "heard")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.heard = False
        """Something arrived since the last look."""
        self._timer = asyncio.get_running_loop().call_later(SILENCE_S, self._look)

    def over(self) -> None:
        """The link has ended otherwise."""
        self._timer.cancel()

    def _look(self) -> None:
        if not self.heard:
            hang_up(self._transport)
            return
        self.heard = False
        self._timer = asyncio.get_running_loop().call_later(SILENCE_S, self._look)
