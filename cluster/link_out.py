"""One outgoing link: dials a peer, proves who answers, sends frames, notices when it is dead.

There is one per ordered pair of nodes and it only sends; answers come over the peer's own link.
Frames wait in a bounded buffer and whole frames are dropped beyond it (Raft repeats what matters).
A peer that was cut off without a reset, or stopped, is noticed by unanswered pings within
DEAD_AFTER_S; it is dialled again after a short, jittered pause. A peer that refuses this node is
asked once why, so that the reason stands in this node's log too; "you were replaced" is told on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections import deque
from typing import TYPE_CHECKING, Final, NoReturn

import aiohttp

from cluster.certificates import CertificateError, NodeIdentity, peer_identity
from cluster.cluster_file import split_address
from cluster.limits import MAX_FRAME_BYTES
from cluster.link_ask import certified_get, why_not
from cluster.link_wire import (
    CHANNELS,
    HEAD_BYTES,
    LINK_BUFFER_BYTES,
    LINK_PATH,
    MAX_MESSAGE_BYTES,
    MESSAGE_BYTES,
    SUBPROTOCOL,
    head,
)
from cluster.types import check

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from uuid import UUID

    from cluster.types import NodeId

CONNECT_TIMEOUT_S: Final = 3.0
"""TCP, TLS and upgrade are three round trips: 1.2 s at 400 ms."""
PING_EVERY_S: Final = 0.5
DEAD_AFTER_S: Final = 2.5
"""Without a pong, and without progress on a backlog."""
BACKOFF_MIN_MS: Final = 100
BACKOFF_MAX_MS: Final = 500
SLOW_WRITE_S: Final = 0.25
"""A write that waits longer for room and then gets it is a sign of life on a slow line."""
MAX_REASON_BYTES: Final = 512
"""One line; whatever a peer says beyond it is not logged."""
FORBIDDEN: Final = 403
GONE: Final = 410
UNSENT_BYTES: Final = 128 * 1024
"""TCP_NOTSENT_LOWAT: what the kernel may hoard, so that a ping is not stuck behind megabytes."""

check(PING_EVERY_S * 3 < DEAD_AFTER_S, "link: more than one ping must fit before a peer is dead")

_log = logging.getLogger("quorumvault.links")


class LinkLostError(Exception):
    """Why this connection ended."""


class OutgoingLink:
    """Keeps one link to `peer` open for as long as it runs."""

    def __init__(
        self,
        *,
        cluster_id: UUID,
        peer: NodeId,
        address: str,
        context: ssl.SSLContext,
        refused: Callable[[bytes], str | None],
        on_up: Callable[[NodeId], None],
        on_down: Callable[[NodeId], None],
        on_gone: Callable[[NodeId, str], None],
    ) -> None:
        """`on_gone(peer, why)`: the peer, by its certificate, says that this node was replaced."""
        self._cluster_id = cluster_id
        self._peer = peer
        host, port = split_address(address)
        shown = f"[{host}]" if ":" in host else host
        self._url = f"https://{shown}:{port}{LINK_PATH}"
        self._context = context
        self._refused = refused
        self._on_up = on_up
        self._on_down = on_down
        self._on_gone = on_gone
        self._queue: deque[tuple[int, bytes]] = deque()
        self._queued = 0
        self._wanted = asyncio.Event()
        self._connected = False
        self._ping_due = False
        self._heard = 0.0
        self._connection: asyncio.Task[str] | None = None
        self._cut_reason = ""
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self.last_reason = ""
        """Why it is down; empty while it is up, and before the first try ends."""
        self.drops = 0
        self.failures = 0
        """Connections lost, and dials that came to nothing."""
        self.connects = 0
        self.frames = 0
        self.bytes = 0

    @property
    def connected(self) -> bool:
        """True while frames can be sent."""
        return self._connected

    @property
    def backlog(self) -> int:
        """Bytes waiting."""
        return self._queued

    def start(self) -> None:
        """Begin to dial."""
        self._task = asyncio.create_task(self._keep(), name=f"link to {self._peer}")

    async def stop(self) -> None:
        """Close for good."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def retire(self) -> None:
        """The peer is none any more: down at once, then `stop` only waits."""
        self._stopping = True
        self._went_down()
        if self._task is not None:
            self._task.cancel()

    def send(self, channel: int, payload: bytes) -> bool:
        """Queue one frame; False when the link is down or its buffer full (then it is dropped)."""
        check(channel in CHANNELS, f"links: channel {channel} does not exist")
        check(len(payload) <= MAX_FRAME_BYTES, f"links: a frame of {len(payload)} bytes to send")
        size = len(payload) + HEAD_BYTES
        if not self._connected:
            return False
        if self._queued + size > LINK_BUFFER_BYTES:
            self.drops += 1
            return False
        self._queue.append((channel, payload))
        self._queued += size
        self._wanted.set()
        return True

    def cut(self, reason: str) -> None:
        """Drop this connection; a new one is dialled after the usual pause."""
        if self._connection is not None and self._connected:
            self._cut_reason = reason
            self._connection.cancel()

    async def _keep(self) -> None:
        """Connect, use, pause, again."""
        try:
            # A connection that ends by itself in the moment of the cancel may swallow it.
            while not self._stopping:
                self._connection = asyncio.create_task(self._connect_and_use())
                try:
                    reason = await self._connection
                except asyncio.CancelledError:
                    if self._stopping:
                        raise
                    reason, self._cut_reason = self._cut_reason, ""
                except Exception as error:  # noqa: BLE001 - outermost loop: told, and dialled again
                    reason = f"ended with {type(error).__name__}: {error}"
                finally:
                    self._went_down()
                self.failures += 1
                if reason != self.last_reason:
                    _log.warning("link to node %d: %s", self._peer, reason)
                    self.last_reason = reason
                spread = BACKOFF_MAX_MS - BACKOFF_MIN_MS
                await asyncio.sleep((BACKOFF_MIN_MS + secrets.randbelow(spread + 1)) / 1000)
        finally:
            if self._connection is not None:
                self._connection.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._connection

    def _went_down(self) -> None:
        self._queue.clear()
        self._queued = 0
        self._wanted.clear()
        self._ping_due = False
        if self._connected:
            self._connected = False
            self._on_down(self._peer)

    async def _connect_and_use(self) -> str:
        """One connection from dial to end; returns why it ended."""
        # A session of its own: closing it aborts the connection at once, whatever its state.
        connector = aiohttp.TCPConnector(ssl=self._context, limit=1, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    websocket = await session.ws_connect(
                        self._url,
                        protocols=(SUBPROTOCOL,),
                        autoping=False,
                        autoclose=False,
                        compress=0,
                        max_msg_size=MAX_MESSAGE_BYTES,
                    )
            except TimeoutError:
                return f"no answer within {CONNECT_TIMEOUT_S:g} s"
            except aiohttp.WSServerHandshakeError as error:
                if error.status in (FORBIDDEN, GONE):
                    return await self._ask_why()
                return f"cannot connect ({error})"
            except (aiohttp.ClientError, OSError) as error:
                return f"cannot connect ({why_not(error)})"
            try:
                self._came_up(websocket)
                await self._use(websocket)
            except LinkLostError as lost:
                return str(lost)
            finally:
                await connector.close()  # aborts: a dead peer would keep a polite close waiting
                await websocket.close()

    async def _ask_why(self) -> str:
        """What the peer says when it refuses this node; only if it is the peer that says it."""
        try:
            async with (
                asyncio.timeout(CONNECT_TIMEOUT_S),
                certified_get(self._context, self._url) as (certificate, response),
            ):
                self._verify(certificate)
                text = (await response.content.read(MAX_REASON_BYTES)).decode("ascii", "replace")
        except LinkLostError as lost:
            return str(lost)
        except TimeoutError:
            return f"no answer within {CONNECT_TIMEOUT_S:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return f"cannot connect ({why_not(error)})"
        line = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
        if response.status == GONE:
            self._on_gone(self._peer, line)
        return f"refused by it: {line}"

    async def _use(self, websocket: aiohttp.ClientWebSocketResponse) -> NoReturn:
        """Send, listen and watch until one of them finds the link lost."""
        reason = ""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(websocket))
                group.create_task(self._send(websocket))
                group.create_task(self._watch())
        except* LinkLostError as lost:
            reason = str(lost.exceptions[0])
        raise LinkLostError(reason)

    def _verify(self, certificate: bytes | None) -> None:
        """The one that answered must be the node that was dialled (before any frame is sent)."""
        if certificate is None:
            raise LinkLostError("the peer shows no certificate")
        if (why := self._refused(certificate)) is not None:
            raise LinkLostError(why)
        try:
            identity = peer_identity(certificate, self._cluster_id)
        except CertificateError as error:
            raise LinkLostError(str(error)) from error
        if identity != NodeIdentity(self._peer):
            raise LinkLostError(
                f"{self._url} answers as {identity}: correct the addresses in the cluster file",
            )

    def _came_up(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        if self._stopping:
            raise LinkLostError("this link is closing")
        tls = websocket.get_extra_info("ssl_object")
        self._verify(None if tls is None else tls.getpeercert(binary_form=True))
        if websocket.protocol != SUBPROTOCOL:
            raise LinkLostError(f"the peer does not speak {SUBPROTOCOL}")
        connection = websocket.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self._heard = asyncio.get_running_loop().time()
        self.connects += 1
        self._connected = True
        if self.last_reason:
            _log.info("link to node %d: connected again", self._peer)
            self.last_reason = ""
        self._on_up(self._peer)

    async def _receive(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Only pongs come back on this link."""
        loop = asyncio.get_running_loop()
        while True:
            message = await websocket.receive()
            if message.type is not aiohttp.WSMsgType.PONG:
                raise LinkLostError(
                    f"the peer closed it (code {websocket.close_code})"
                    if message.type in _ENDS
                    else f"the peer answered with {message.type.name}",
                )
            self._heard = loop.time()

    async def _send(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Everything that is queued, a message at a time; the only one who writes."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                if self._ping_due:
                    self._ping_due = False
                    await websocket.ping()
                while self._queue and not self._ping_due:
                    before = loop.time()
                    message = self._next_message()
                    await websocket.send_bytes(message)
                    self._queued -= len(message)
                    self.bytes += len(message)
                    if loop.time() - before > SLOW_WRITE_S:
                        self._heard = loop.time()  # a backlog moved: the peer takes what we send
                if self._queue:
                    self._wanted.set()
        except (aiohttp.ClientError, OSError) as error:
            raise LinkLostError(f"lost ({error or type(error).__name__})") from error

    def _next_message(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while self._queue and size < MESSAGE_BYTES:
            channel, payload = self._queue.popleft()
            parts += (head(channel, payload), payload)
            size += len(payload) + HEAD_BYTES
            self.frames += 1
        return b"".join(parts)

    async def _watch(self) -> None:
        """Have pings sent, and end the link when nothing comes back."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(PING_EVERY_S)
            now = loop.time()
            if now - before > 2 * PING_EVERY_S:
                # This process itself stood still; what the peer sent meanwhile is not read yet.
                self._heard = max(self._heard, now - DEAD_AFTER_S + PING_EVERY_S)
            elif now - self._heard > DEAD_AFTER_S:
                raise LinkLostError(f"no sign of life for {DEAD_AFTER_S:g} s")
            self._ping_due = True
            self._wanted.set()


_ENDS: Final = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.ERROR,
)
