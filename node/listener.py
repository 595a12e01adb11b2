"""The four listeners: so many connections each, and nobody keeps one by doing nothing (design 7).

A connection costs a file and some 70 KiB, whoever opens it, and files are what links to peers, the
HSM's module and snapshots need too. So every listener has a limit of its own, counted from the
accept on. Where it is reached, the connection that has kept the node waiting longest makes room for
the new one, as nginx does: to refuse the new one would let whoever came first keep everybody out.
One whose request is here whole is never closed for another; if all are so, the new one is refused.
asyncio bounds the handshake and aiohttp the next request; what they leave open is bounded here: the
first request, and an answer that nobody reads.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, TypeVar, get_args

from aiohttp import web
from msgspec import Struct

from cluster.hang_up import hang_up

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from node.hardening import ListenerName

Cut = Literal["handshake", "request", "room", "refused"]
"""Why this end closed a connection: the TLS handshake or a request did not come, room was made for
a newer one, or there was none to make."""
CUTS: Final[tuple[Cut, ...]] = get_args(Cut)
ARRIVAL_S: Final = 10.0
"""For the handshake, and again for the first request's head. OpenBao has the same; asyncio's 60 s
are for strangers to like."""
KEEPALIVE_S: Final = 75.0
"""From an answer to the end of the next request's head; aiohttp closes then."""
UNREAD_S: Final = KEEPALIVE_S + ARRIVAL_S
"""From an answer to a connection's end all the same: aiohttp waits for ever for it to be read."""
CROWDED_S: Final = 60.0
"""A listener is called full until for so long nobody had to go."""
ACCEPTS: Final = 64
"""In one go; then the loop does something else first."""
PAUSES_S: Final = (0.2, 0.01)
"""Out of files, the next accept waits: for luck, or for the file of whoever was let go."""
_OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_Request = TypeVar("_Request", bound=web.BaseRequest)


class ListenerReport(Struct, frozen=True):
    """One listener, for metrics and events."""

    name: ListenerName
    open: int
    most: int
    cuts: dict[Cut, int]
    """Since the start."""
    crowded: bool
    """Within the last minute somebody had to go, or was refused."""


class Listener:
    """One listener; on the loop thread."""

    def __init__(
        self,
        name: ListenerName,
        bound: socket.socket,
        context: ssl.SSLContext | None,
        make: Callable[[], asyncio.Protocol] | None,
        most: int,
    ) -> None:
        """Accept from now on.

        Args:
            name: for metrics and events.
            bound: listens already; `stop` closes it.
            context: None: without TLS.
            make: an aiohttp server that is set up; makes the protocol of each connection.
            most: connections; may be changed at any time.

        """
        if make is None:
            raise TypeError("the server is not set up")
        self.most = most
        self._name: ListenerName = name
        self._socket = bound
        self._make = make
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._open: dict[_Connection, None] = {}
        """In the order in which they began to keep this node waiting."""
        self._cuts: dict[Cut, int] = dict.fromkeys(CUTS, 0)
        self._crowded_at = -CROWDED_S
        self._openings: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        bound.setblocking(False)
        self._resume()

    def stop(self) -> None:
        """Accept no more, and let go of whom no protocol knows yet; the others are its maker's."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for connection in list(self._open):
            if not connection.is_made:
                connection.end()

    def report(self) -> ListenerReport:
        """How it stands."""
        crowded = time.monotonic() - self._crowded_at < CROWDED_S
        return ListenerReport(self._name, len(self._open), self.most, dict(self._cuts), crowded)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for turn in range(ACCEPTS):
            try:
                accepted, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _OUT_OF_FILES:
                    continue  # it was gone before it was taken; accept(2) wants it tried again
                # Linux looks for a file first, then whom for: only the first refusal counts.
                if turn == 0:
                    pause_s = PAUSES_S[self._make_room()]
                    self._loop.remove_reader(self._socket)
                    self._pause = self._loop.call_later(pause_s, self._resume)
                return
            self._take(accepted)

    def _take(self, accepted: socket.socket) -> None:
        while len(self._open) >= self.most and self._make_room():
            pass
        if len(self._open) >= self.most:
            accepted.close()
            self._count("refused")
            return
        accepted.setblocking(False)
        connection = _Connection(self, accepted, self._make())
        self._open[connection] = None
        task = self._loop.create_task(self._begin(connection, accepted))
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)

    async def _begin(self, connection: _Connection, accepted: socket.socket) -> None:
        limit_s = None if self._context is None else ARRIVAL_S
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=limit_s,
                ssl_shutdown_timeout=limit_s,
            )
        except ConnectionAbortedError:
            self._count("handshake")
        except OSError:  # no TLS that we speak, no certificate where one must be, or gone
            pass
        finally:
            if not connection.is_made:
                self.forget(connection)

    def _make_room(self) -> bool:
        """Close whoever has kept this node waiting longest; False: nobody does."""
        longest = next((each for each in self._open if each.waits), None)
        if longest is None:
            return False
        self.cut(longest, "room")
        return True

    def cut(self, connection: _Connection, why: Cut) -> None:
        """Close a connection from this end."""
        self._count(why)
        self.forget(connection)
        connection.end()

    def _count(self, why: Cut) -> None:
        self._cuts[why] += 1
        if why in ("room", "refused"):
            self._crowded_at = time.monotonic()

    def forget(self, connection: _Connection) -> None:
        """It is over."""
        self._open.pop(connection, None)

    def now_waits_for(self, connection: _Connection) -> None:
        """The node waits for it from now on, later than for any other."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None


class _Connection(asyncio.Protocol):
    """One connection, from its accept on; hands everything on to aiohttp's protocol."""

    def __init__(
        self, listener: Listener, accepted: socket.socket, inner: asyncio.Protocol
    ) -> None:
        self._listener = listener
        self._socket = accepted
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._request: web.BaseRequest | None = None
        self._waits_until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_made(self) -> bool:
        """The handshake is over."""
        return self._transport is not None

    @property
    def waits(self) -> bool:
        """This node waits for the other end: for a handshake, a whole request, or to be read."""
        return self._request is None or not self._request.content.is_eof()

    def end(self) -> None:
        """Close it now, whatever it is at."""
        if self._transport is not None:
            hang_up(self._transport)
        else:  # its transport is asyncio's alone until the handshake is over
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def begin(self, request: web.BaseRequest) -> None:
        """The head of a request is here."""
        self._request = request

    def answered(self) -> None:
        """The answer to it is on its way."""
        self._request = None
        self._waits_until = time.monotonic() + UNREAD_S
        self._listener.now_waits_for(self)

    def _look(self) -> None:
        left_s = self._waits_until - time.monotonic() if self._request is None else ARRIVAL_S
        if left_s <= 0:
            self._listener.cut(self, "request")
        else:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._look)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # of a stream, as asyncio says
        self._waits_until = time.monotonic() + ARRIVAL_S
        self._look()
        self._listener.now_waits_for(self)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._listener.forget(self)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


async def attend(
    request: _Request, handler: Callable[[_Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer a request by `handler`; its connection is not closed for another meanwhile."""
    transport = request.transport
    connection = None if transport is None else transport.get_protocol()
    if not isinstance(connection, _Connection):  # it is lost already
        return await handler(request)
    connection.begin(request)
    try:
        return await handler(request)
    finally:
        connection.answered()
