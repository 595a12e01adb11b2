"""Performs what the flows yield: HTTPS to the nodes, Argon2 in a thread, fsync in a thread.

Decides nothing but when time is up. A connection counts only when its certificate, under the
pinned authority and no other, carries the URI `quorumvault://<cluster>/node/<id>`; this is
checked in the handshake, so a token never reaches anything else (I11).
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import ssl
import time
import weakref
from typing import TYPE_CHECKING, Final, TypeVar, assert_never
from uuid import UUID, uuid4

import aiohttp

from quorumvault._core import (
    Answer,
    Compute,
    Effect,
    Flow,
    Gather,
    Meanwhile,
    Pause,
    Reply,
    Request,
    Save,
    Silence,
)
from quorumvault._wire import MAX_ANSWER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from quorumvault._core import Endpoint
    from quorumvault._state import StateFile

CONNECT_TIMEOUT_S: Final = 4.0
"""TCP and TLS over 300 ms of round trip take 0.9 s."""

CLOSE_S: Final = 1.0
"""How long closed connections are given to let go of their sockets."""
CLOSE_POLL_S: Final = 0.001

JITTER: Final = 0.5
"""A pause is lengthened by up to this share of itself, so that clients do not come in step."""

MAX_RETRY_AFTER_S: Final = 3600.0

_NODE_URI: Final = re.compile(r"quorumvault://([0-9a-f-]{36})/node/([1-9][0-9]{0,18})")

T = TypeVar("T")


class NodeIdentity:
    """Whom an endpoint's certificate names; fixed at the first handshake unless pinned before."""

    def __init__(self, node: int | None, cluster_id: UUID | None) -> None:
        self.node = node
        self.cluster_id = cluster_id

    def check(self, certificate: object) -> None:
        """Accept the certificate of the expected node, or of any node if none is expected yet.

        Raises:
            ssl.SSLCertVerificationError: no node of the vault, or another one than before.

        """
        names = certificate.get("subjectAltName", ()) if isinstance(certificate, dict) else ()
        uris = [value for kind, value in names if kind == "URI"]
        match = _NODE_URI.fullmatch(uris[0]) if len(uris) == 1 else None
        if match is None:
            raise ssl.SSLCertVerificationError("the certificate does not name a vault node")
        cluster_id, node = UUID(match[1]), int(match[2])
        if self.node not in {None, node} or self.cluster_id not in {None, cluster_id}:
            raise ssl.SSLCertVerificationError(
                f"the certificate names node {node} of cluster {cluster_id}, expected was node"
                f" {self.node or 'any'} of cluster {self.cluster_id or 'any'}"
            )
        self.node, self.cluster_id = node, cluster_id


def tls_context(ca_file: Path, identity: NodeIdentity) -> ssl.SSLContext:
    """TLS 1.3 towards one node; only `ca_file` is trusted.

    Raises:
        OSError: the file is missing or no PEM certificate (ssl.SSLError).

    """
    context = ssl.create_default_context(cafile=str(ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_3

    class NodeConnection(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            identity.check(self.getpeercert())

    context.sslobject_class = NodeConnection
    return context


class Transport:
    """One HTTPS client for all endpoints; belongs to one event loop."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        ca_file: Path,
        token: Callable[[], str],
        cluster_id: UUID | None,
    ) -> None:
        self._urls = [endpoint.url.rstrip("/") for endpoint in endpoints]
        self._identities = [NodeIdentity(endpoint.node, cluster_id) for endpoint in endpoints]
        self._contexts = [tls_context(ca_file, identity) for identity in self._identities]
        self._token = token
        self._session: aiohttp.ClientSession | None = None
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    async def close(self) -> None:
        """Close all connections; their sockets are closed when this returns.

        A handshake that was cut off at a deadline is nobody's connection yet: only its socket tells
        when it is gone, and whoever ends the event loop before that leaves it open.
        """
        if self._session is not None:
            await self._session.close()
            self._session = None
        until = time.monotonic() + CLOSE_S
        while time.monotonic() < until and any(  # noqa: ASYNC110 - sockets tell nobody
            one.fileno() != -1 for one in self._sockets
        ):
            await asyncio.sleep(CLOSE_POLL_S)

    async def send(self, place: int, request: Request, timeout_s: float) -> Reply:
        """One request to one place; never raises for what the network or the node does."""
        if timeout_s <= 0:
            return Silence(place, "no time was left to ask", time.monotonic(), timeout=True)
        headers = {"X-Request-Id": uuid4().hex, "Accept-Encoding": "identity"}
        if request.token:
            headers["Authorization"] = f"Bearer {self._token()}"
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self._client().request(
                request.method,
                self._urls[place] + request.path,
                data=request.body,
                headers=headers,
                ssl=self._contexts[place],
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S),
            ) as response:
                body = await _read(response)
                return self._answer(place, response, body)
        except aiohttp.ClientConnectorCertificateError as error:
            detail = f"its certificate was refused ({error.certificate_error})"
            return Silence(place, detail, time.monotonic(), foreign=True)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            late = isinstance(error, TimeoutError)
            cause = "" if late else f" ({_cause(error)})"
            return Silence(place, f"cannot connect{cause}", time.monotonic(), timeout=late)
        except TimeoutError:
            detail = f"no answer in {timeout_s:.1f} s"
            return Silence(place, detail, time.monotonic(), sent=True, timeout=True)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            detail = f"connection lost ({type(error).__name__})"
            return Silence(place, detail, time.monotonic(), sent=True)

    def _answer(self, place: int, response: aiohttp.ClientResponse, body: bytes) -> Reply:
        identity, now = self._identities[place], time.monotonic()
        if identity.node is None or identity.cluster_id is None:
            return Silence(place, "no certificate was seen", now, sent=True)
        return Answer(
            place=place,
            node=identity.node,
            cluster_id=identity.cluster_id,
            status=response.status,
            body=body,
            retry_after=_seconds(response.headers.get("Retry-After")),
            now=now,
        )

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(socket_factory=self._socket),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        self._sockets.add(made)
        return made


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, refused beyond MAX_ANSWER_BYTES."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            response.close()
            raise ValueError("the answer is too large")
    return bytes(body)


def _cause(error: aiohttp.ClientError) -> str:
    """What the system said, without the address and objects that aiohttp adds."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ConnectionError) and cause.errno is not None:
        return os.strerror(cause.errno)  # asyncio puts the address in the place of the words
    return getattr(cause, "strerror", None) or type(cause).__name__


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; the date form, which the vault never uses, is ignored."""
    if header is None or not header.isascii() or not header.isdigit() or len(header) > 6:
        return None
    return min(float(header), MAX_RETRY_AFTER_S)


class Driver:
    """Runs one flow against a transport and a state file until a deadline."""

    def __init__(self, transport: Transport, store: StateFile, deadline_s: float) -> None:
        self._transport = transport
        self._store = store
        self._deadline = time.monotonic() + deadline_s

    async def run(self, flow: Flow[T]) -> T:
        """The flow's result; what an effect raises is raised inside the flow."""
        try:
            effect = next(flow)
            while True:
                try:
                    result = await self._perform(effect)
                except Exception as error:  # noqa: BLE001 - it is the flow's to judge
                    effect = flow.throw(error)
                else:
                    effect = flow.send(result)
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            flow.close()

    async def _perform(self, effect: Effect) -> object:
        match effect:
            case Gather():
                return await self._gather(effect)
            case Compute():
                return await asyncio.to_thread(effect.run)
            case Meanwhile():
                return await self._meanwhile(effect)
            case Save():
                return await asyncio.to_thread(self._store.save, effect.state)
            case Pause():
                return await self._pause(effect.seconds)
            case _:
                assert_never(effect)

    async def _pause(self, seconds: float) -> float | None:
        wait = seconds * (1 + JITTER * random.random())  # noqa: S311 - not a secret
        if time.monotonic() + wait >= self._deadline:
            return None
        await asyncio.sleep(wait)
        return time.monotonic()

    async def _meanwhile(self, both: Meanwhile) -> tuple[object, list[Reply]]:
        asking = asyncio.ensure_future(self._gather(both.gather))
        try:
            return await asyncio.to_thread(both.compute.run), await asking
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _gather(self, gather: Gather) -> list[Reply]:
        left = self._deadline - time.monotonic()
        tasks = [
            asyncio.ensure_future(
                self._transport.send(
                    send.place,
                    send.request,
                    min(left * send.request.part, send.request.patience_s),
                )
            )
            for send in gather.sends
        ]
        replies: list[Reply] = []
        try:
            for done in asyncio.as_completed(tasks):
                reply = await done
                replies.append(reply)
                good = sum(isinstance(r, Answer) and r.status == 200 for r in replies)
                if good >= gather.enough:
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return replies
