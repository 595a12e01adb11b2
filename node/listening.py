"""Puts what answers requests behind a bound socket, until the node closes.

A request under way ends when its client is gone; there is no access log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from aiohttp import web

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable
    from contextlib import AsyncExitStack
    from ssl import SSLContext

CLOSE_S: Final = 1.0
"""How long open connections get once their requests are done."""
KEEPALIVE_S: Final = 75.0

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def listen(
    closing: AsyncExitStack, handler: Handler, sock: socket.socket, context: SSLContext | None
) -> None:
    """Answer on the bound socket; `closing` ends it."""
    options: dict[str, Any] = {
        "access_log": None,
        "auto_decompress": False,
        "keepalive_timeout": KEEPALIVE_S,
        "handler_cancellation": True,
    }
    runner = web.ServerRunner(web.Server(handler, **options), shutdown_timeout=CLOSE_S)
    await _serve(closing, runner, sock, context)


async def listen_to_peers(
    closing: AsyncExitStack,
    routes: Iterable[web.AbstractRouteDef],
    sock: socket.socket,
    context: SSLContext,
) -> None:
    """The same for the links of other nodes."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=CLOSE_S)
    await _serve(closing, runner, sock, context)


async def _serve(
    closing: AsyncExitStack,
    runner: web.BaseRunner,
    sock: socket.socket,
    context: SSLContext | None,
) -> None:
    await runner.setup()
    closing.push_async_callback(runner.cleanup)
    await web.SockSite(runner, sock, ssl_context=context).start()
