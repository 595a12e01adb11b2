"""Puts what answers requests behind a bound socket, until the node closes.

A request under way ends when its client is gone; there is no access log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from aiohttp import web

from node.hardening import OTHERS, most_clients
from node.listener import KEEPALIVE_S, Listener, attend

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping
    from contextlib import AsyncExitStack
    from ssl import SSLContext

    from node.hardening import ListenerName
    from node.listener import ListenerReport

CLOSE_S: Final = 1.0
"""How long open connections get once their requests are done."""

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listeners:
    """The listeners of one node."""

    def __init__(self, sockets: Mapping[str, socket.socket], clients: int) -> None:
        """On these bound sockets; so many `clients` at once, if the files last."""
        self.most_clients = most_clients(clients)
        self._sockets = sockets
        self._open: dict[ListenerName, Listener] = {}

    def retune(self, clients: int) -> None:
        """Take so many clients from now on."""
        self.most_clients = most_clients(clients)
        if (listener := self._open.get("client")) is not None:
            listener.most = self.most_clients

    def report(self) -> tuple[ListenerReport, ...]:
        """Those that are open."""
        return tuple(each.report() for each in self._open.values())

    async def listen(
        self,
        closing: AsyncExitStack,
        name: ListenerName,
        handler: Handler,
        context: SSLContext | None,
    ) -> None:
        """Answer on the bound socket; `closing` ends it."""
        options: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": KEEPALIVE_S,
            "handler_cancellation": True,
        }
        server = web.Server(partial(attend, handler=handler), **options)
        runner = web.ServerRunner(server, shutdown_timeout=CLOSE_S)
        await self._serve(closing, name, runner, context)

    async def listen_to_peers(
        self, closing: AsyncExitStack, routes: Iterable[web.AbstractRouteDef], context: SSLContext
    ) -> None:
        """The same for the links of other nodes."""
        application = web.Application(middlewares=[web.middleware(attend)])
        application.add_routes(routes)
        runner = web.AppRunner(
            application,
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=CLOSE_S,
        )
        await self._serve(closing, "peer", runner, context)

    async def _serve(
        self,
        closing: AsyncExitStack,
        name: ListenerName,
        runner: web.BaseRunner,
        context: SSLContext | None,
    ) -> None:
        await runner.setup()
        closing.push_async_callback(runner.cleanup)
        most = OTHERS.get(name, self.most_clients)
        listener = Listener(name, self._sockets[name], context, runner.server, most)
        closing.callback(listener.stop)
        self._open[name] = listener
