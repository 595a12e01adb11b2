"""The console's stream of events (text/event-stream): resumed by number, bounded in every way.

There are so many streams and no more, each buffers so many bytes and no more, and none of them
holds up the end of the node.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from cluster.hang_up import hang_up
from node.console_files import HEADERS
from node.events import BadQuery, Query, query_of

if TYPE_CHECKING:
    from node.events import Events

MAX_STREAMS: Final = 32
"""Each costs a socket; a room full of operators has fewer screens."""
PING_S: Final = 15.0
"""Proxies cut a connection on which nothing moves for half a minute."""
RETRY_MS: Final = 2_000
"""When a browser comes back after it lost its stream."""
TAKE_S: Final = 5.0
"""A reader that leaves 64 KiB (asyncio's mark) lying for so long is dropped; it resumes by number
when it is back."""
BATCH: Final = 100
"""Events written at once: some 20 KiB."""


class Streams:
    """All streams of one node."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.count = 0
        """Streams that are open."""
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End all streams now, and take no new one."""
        self._closing.set()

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Stream events until the reader goes, or the node does."""
        try:
            after = _after(request)
        except BadQuery as bad:
            return web.Response(status=400, text=f"{bad}\n", headers=HEADERS)
        if self._closing.is_set():
            return web.Response(status=503, text="this node is stopping\n", headers=HEADERS)
        if self.count >= MAX_STREAMS:
            text = f"{MAX_STREAMS} streams are open already; close one\n"
            return web.Response(status=503, text=text, headers=HEADERS)
        self.count += 1
        try:
            return await self._stream(request, after)
        finally:
            self.count -= 1

    async def _stream(self, request: web.BaseRequest, after: int) -> web.StreamResponse:
        response = web.StreamResponse(
            headers=HEADERS | {"Content-Type": "text/event-stream; charset=utf-8"}
        )
        response.force_close()  # a connection whose stream has ended serves nothing else
        with suppress(ConnectionError):
            await response.prepare(request)
            await self._write(request, response, b"retry: %d\n\n" % RETRY_MS)
            if after > self._events.newest:
                after = 0  # of an earlier life of this node
            while not self._closing.is_set():
                found = self._events.page(Query(after, BATCH)).events
                if found:
                    after = found[-1].seq
                    data = b"".join(
                        b"id: %d\nevent: %s\ndata: %s\n\n"
                        % (event.seq, event.kind.encode(), msgspec.json.encode(event))
                        for event in found
                    )
                else:
                    data = b"" if await self._wait() else b": so far\n\n"
                if data:
                    await self._write(request, response, data)
        return response

    async def _write(
        self, request: web.BaseRequest, response: web.StreamResponse, data: bytes
    ) -> None:
        """Raises ConnectionError when the reader has gone, or was dropped."""
        try:
            async with asyncio.timeout(TAKE_S):
                await response.write(data)
        except TimeoutError:
            hang_up(request.transport)
            raise ConnectionError("the reader does not read") from None

    async def _wait(self) -> bool:
        """True when something was told or all ends, False when nothing was for PING_S."""
        waits = {
            asyncio.ensure_future(self._events.changed()),
            asyncio.ensure_future(self._closing.wait()),
        }
        try:
            done, _ = await asyncio.wait(waits, timeout=PING_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        return bool(done)


def _after(request: web.BaseRequest) -> int:
    """Where to begin; a browser that comes back says it in a header, and that counts."""
    resumed = request.headers.get("Last-Event-ID")
    pairs = list(request.query.items()) if resumed is None else [("after", resumed.strip())]
    return query_of(pairs).after
