"""One GET to a peer's listener, with the certificate of whoever answers it.

Peer links and snapshots are dialled at an address, and an address proves nothing: the caller looks
at the certificate before it believes a byte.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.connector import Connection


def why_not(error: aiohttp.ClientError | OSError) -> str:
    """Why nothing came back, in the system's words where it has some: "Connection refused".

    Without them it is the library's text, which may hold what the other end sent.
    """
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return str(error.os_error)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error)
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ClientConnectorError):
        number = error.os_error.errno
        if isinstance(error.os_error, ssl.SSLEOFError):
            return "the connection was closed during the TLS handshake"
        if not isinstance(error.os_error, ssl.SSLError) and number is not None and number > 0:
            return os.strerror(number)
    return str(error) or type(error).__name__


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
