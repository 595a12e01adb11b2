"""The honest vault behind five real TLS listeners, for tests of transport and command line."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from honest_vault import CLUSTER, SEATS, HonestVault

from cluster.certificates import create_authority, issue, node_uri

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Served:
    """Five listeners; `uris` may be changed before `start`."""

    vault: HonestVault
    folder: Path
    uris: dict[int, str] = field(default_factory=lambda: {n: node_uri(CLUSTER, n) for n in SEATS})
    urls: dict[int, str] = field(default_factory=dict)
    tokens: list[str | None] = field(default_factory=list)
    bodies: dict[int, bytes] = field(default_factory=dict)
    hanging_path: str | None = None

    def start(self) -> None:
        authority = create_authority("test")
        self.ca = self.folder / "ca.pem"
        self.ca.write_bytes(authority.cert_pem)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._do(self._listen(authority))

    def _do(self, call):
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(20)

    async def _listen(self, authority) -> None:
        self._runners = {}
        for node in SEATS:
            issued = issue(
                authority,
                uri=self.uris[node],
                hosts=["127.0.0.1"],
                days=2,
                server=True,
                client=False,
            )
            cert, key = self.folder / f"{node}.pem", self.folder / f"{node}.key"
            cert.write_bytes(issued.cert_pem)
            key.write_bytes(issued.key_pem)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
            app = web.Application()
            app.router.add_route("*", "/{rest:.*}", self._handler(node))
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
            await site.start()
            self._runners[node] = runner
            port = site._server.sockets[0].getsockname()[1]
            self.urls[node] = f"https://127.0.0.1:{port}"

    def _handler(self, node):
        async def handle(request: web.Request) -> web.Response:
            self.tokens.append(request.headers.get("Authorization"))
            body = await request.read()
            if request.path == self.hanging_path:
                await asyncio.Event().wait()
            if node in self.bodies:
                return web.Response(body=self.bodies[node])
            reply = self.vault.serve(node, request.method, request.path_qs, body or None)
            if reply is None:
                request.transport.abort()
                return web.Response(status=500)
            headers = {}
            if reply.retry_after is not None:
                headers["Retry-After"] = str(int(reply.retry_after))
            return web.Response(status=reply.status, body=reply.body, headers=headers)

        return handle

    def kill(self, node: int) -> None:
        """Nobody listens there any more."""
        self._do(self._end(self._runners.pop(node)))

    @staticmethod
    async def _end(runner) -> None:
        await runner.cleanup()  # cancels the handlers that still run, and does not wait for them
        await asyncio.gather(
            *(each for each in asyncio.all_tasks() if each.cancelling()), return_exceptions=True
        )

    async def _let_go(self) -> None:
        """Nothing runs any more, and no socket is open: neither of a client that went away while
        it was answered, nor of one whose TLS is still being closed."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        transports = list(self._loop._transports.values())
        for transport in transports:
            transport.abort()
        async with asyncio.timeout(10):
            while any(each._sock is not None for each in transports):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0)

    def stop(self) -> None:
        for node in list(self._runners):
            self.kill(node)
        self._do(self._let_go())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def connection_file(self) -> Path:
        key = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (self.folder / "tenant.pem").write_bytes(key)
        endpoints = [
            {"node": n, "seat": n, "dc": f"dc-{n}", "url": url, "ops_url": None}
            for n, url in self.urls.items()
        ]
        text = {
            "cluster_id": str(CLUSTER),
            "name": "test",
            "endpoints": endpoints,
            "ca_file": str(self.ca),
            "tenant": {
                "iss": "demo",
                "kid": "k1",
                "alg": "EdDSA",
                "private_key_file": str(self.folder / "tenant.pem"),
            },
            "nodes": [],
            "admin": {"urls": []},
        }
        path = self.folder / "connection.json"
        path.write_text(json.dumps(text))
        return path
