"""End a connection at once, whatever has closed it before.

In Python 3.11.2, which is Debian 12's, a TLS transport that was closed twice no longer knows its
socket: `abort` ends in an AttributeError, and the connection ends by the shutdown that the first
close began. Where that error got away, one link's end took the handling of the next one with it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


def hang_up(transport: asyncio.Transport | None) -> None:
    """Abort it; nothing is flushed."""
    if transport is not None:
        with suppress(AttributeError):
            transport.abort()
