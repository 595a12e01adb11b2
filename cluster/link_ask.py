"""One GET to a peer's listener, with the certificate of whoever answers it.

Peer links and snapshots are dialled at an address, and an address proves nothing: the caller looks
at the certificate before it believes a byte.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from aiohttp.connector import Connection


class _PeerResponse(aiohttp.ClientResponse):
    """A response that remembers whose it is: a short one gives its connection back at once."""

    certificate: bytes | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Look at the connection before anything is read from it."""
        transport = connection.transport
        tls = None if transport is None else transport.get_extra_info("ssl_object")
        self.certificate = None if tls is None else tls.getpeercert(binary_form=True)
        return await super().start(connection)


@contextlib.asynccontextmanager
async def certified_get(
    context: ssl.SSLContext, url: str, *, stall_s: float | None = None
) -> AsyncIterator[tuple[bytes | None, aiohttp.ClientResponse]]:
    """The certificate (DER; None without TLS) of whoever answers, and the answer to a GET.

    `stall_s`: how long the connection, and each read, may take; None for no bound of its own.

    Raises:
        aiohttp.ClientError, OSError, TimeoutError: no answer.

    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=stall_s, sock_read=stall_s)
    connector = aiohttp.TCPConnector(ssl=context, limit=1, force_close=True)
    async with (
        aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            auto_decompress=False,
            response_class=_PeerResponse,
        ) as session,
        session.get(
            url, allow_redirects=False, headers={"Accept-Encoding": "identity"}
        ) as response,
    ):
        yield response.certificate if isinstance(response, _PeerResponse) else None, response
