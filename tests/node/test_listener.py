"""A listener's limits at real TLS sockets: who keeps it waiting goes, who is served stays."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from aiohttp import web

from node import listener
from node.listener import Listener, attend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GET = b"GET /%s HTTP/1.1\r\nHost: vault\r\n\r\n"
MUCH = bytes(8 << 20)
"""More than kernel and TLS take in for somebody who does not read."""
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Ground:
    """A listener and whoever comes to it."""

    port: int
    client: ssl.SSLContext
    listener: Listener = field(init=False)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    held: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def plain(self) -> Pair:
        pair = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(pair[1])
        return pair

    async def tls(self) -> Pair:
        pair = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.client, server_hostname="vault"
        )
        self.writers.append(pair[1])
        return pair

    async def asks(self, path: bytes = b"") -> Pair:
        pair = await self.tls()
        pair[1].write(GET % path)
        return pair

    async def answer(self, path: bytes = b"") -> bytes:
        """Of a new client that behaves."""
        reader, _ = await self.asks(path)
        return await answered(reader)

    @property
    def open(self) -> int:
        return self.listener.report().open

    @property
    def cuts(self) -> dict[str, int]:
        return {why: count for why, count in self.listener.report().cuts.items() if count}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.path:
            case "/hold":
                self.held += 1
                await self.release.wait()
            case "/body":
                await request.read()
            case "/much":
                return web.Response(body=MUCH)
        return web.Response(text="served")


async def answered(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return await reader.readexactly(len(b"served"))


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait for the end, by whatever it comes; what is read before does not matter."""
    try:
        while await reader.read(1 << 16):
            pass
    except OSError:
        pass
    return True


def highest_file() -> int:
    return max(int(each.name) for each in Path("/proc/self/fd").iterdir())


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - of another task, at a socket
            await asyncio.sleep(0.01)


@asynccontextmanager
async def ground(most: int) -> AsyncIterator[Ground]:
    authority = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("vault").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)
    bound = socket.create_server(("127.0.0.1", 0), backlog=512)
    port = bound.getsockname()[1]
    here = Ground(port, client_tls)
    server = web.Server(partial(attend, handler=here.handle))
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    here.listener = Listener("client", bound, server_tls, runner.server, most)
    try:
        yield here
    finally:
        here.release.set()
        with suppress(ValueError):  # a test has done it
            here.listener.stop()
        await runner.cleanup()
        for writer in here.writers:
            writer.transport.abort()
        await until(lambda: here.open == 0)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for long."""
    monkeypatch.setattr(listener, "ARRIVAL_S", 1.0)
    monkeypatch.setattr(listener, "UNREAD_S", 1.5)


@pytest.mark.usefixtures("brief")
async def test_a_handshake_that_does_not_come_is_not_waited_for() -> None:
    async with ground(8) as here:
        reader, _ = await here.plain()
        assert await ended(reader)
        await until(lambda: here.open == 0)
        assert here.cuts == {"handshake": 1}


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nHost: vault\r\n"])
async def test_a_first_request_that_does_not_come_is_not_waited_for(beginning: bytes) -> None:
    async with ground(8) as here:
        reader, writer = await here.tls()
        writer.write(beginning)
        assert await ended(reader)
        assert here.cuts == {"request": 1}
        assert here.open == 0


@pytest.mark.usefixtures("brief")
async def test_a_head_that_comes_a_line_at_a_time_is_over_at_the_same_moment() -> None:
    async with ground(8) as here:
        reader, writer = await here.tls()
        writer.write(b"GET / HTTP/1.1\r\n")
        end = asyncio.ensure_future(ended(reader))
        lines = 0
        while not (await asyncio.wait([end], timeout=0.02))[0]:
            writer.write(b"X-More: yes\r\n")
            lines += 1
        assert lines < 100
        assert here.cuts == {"request": 1}


@pytest.mark.usefixtures("brief")
async def test_who_was_answered_may_be_idle_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "UNREAD_S", 60.0)
    async with ground(8) as here:
        reader, writer = await here.asks()
        await answered(reader)
        silent, _ = await here.tls()  # comes later and goes earlier
        assert await ended(silent)
        writer.write(GET % b"")
        assert await answered(reader) == b"served"


@pytest.mark.usefixtures("brief")
async def test_an_answer_that_nobody_reads_is_not_kept_for_ever() -> None:
    async with ground(8) as here:
        _, writer = await here.asks(b"much")
        writer.write((GET % b"much") * 50)
        await until(lambda: here.open == 0)
        assert here.cuts == {"request": 1}


@pytest.mark.usefixtures("brief")
async def test_a_request_that_takes_long_here_is_nobodys_fault() -> None:
    async with ground(8) as here:
        reader, _ = await here.asks(b"hold")
        await until(lambda: here.held == 1)
        silent, _ = await here.tls()
        assert await ended(silent)
        assert (here.open, here.cuts) == (1, {"request": 1})
        here.release.set()
        assert await answered(reader) == b"served"


async def test_where_it_is_full_who_waits_longest_makes_room() -> None:
    async with ground(3) as here:
        first, _ = await here.plain()
        idle, again = await here.asks()
        await answered(idle)
        third, _ = await here.tls()
        assert await here.answer() == b"served"
        assert await ended(first)
        assert (here.open, here.cuts) == (3, {"room": 1})
        assert here.listener.report().crowded
        again.write(GET % b"")  # asks, and so is the newest of those who wait
        await answered(idle)
        assert await here.answer() == b"served"
        assert await ended(third)
        again.write(GET % b"")
        assert await answered(idle) == b"served"


async def test_whose_request_is_here_is_never_closed_for_another() -> None:
    async with ground(2) as here:
        both = [await here.asks(b"hold") for _ in range(2)]
        await until(lambda: here.held == 2)
        with pytest.raises(OSError):
            await here.tls()
        assert (here.open, here.cuts) == (2, {"refused": 1})
        here.release.set()
        for reader, _ in both:
            assert await answered(reader) == b"served"
        assert await here.answer() == b"served"


async def test_a_body_that_does_not_come_keeps_nobody_out() -> None:
    async with ground(1) as here:
        reader, writer = await here.tls()
        writer.write(b"POST /body HTTP/1.1\r\nHost: vault\r\nContent-Length: 9\r\n\r\nh")
        await writer.drain()
        assert await here.answer() == b"served"
        assert await ended(reader)


async def test_a_crowd_leaves_a_client_that_behaves_its_turn() -> None:
    async with ground(8) as here:
        crowd = [await here.plain() for _ in range(100)]
        assert [await here.answer() for _ in range(3)] == [b"served"] * 3
        assert here.open <= 8
        assert here.cuts["room"] >= 95
        for reader, _ in crowd[:90]:
            assert await ended(reader)


async def test_whoever_leaves_is_counted_no_more() -> None:
    async with ground(8) as here:
        _, gone = await here.plain()
        _, wrong = await here.plain()
        _, well = await here.asks()
        await until(lambda: here.open == 3)
        gone.transport.abort()
        wrong.write(b"this is no handshake\r\n" * 10)
        well.close()
        await until(lambda: here.open == 0)
        assert here.cuts == {}


async def test_a_lower_limit_holds_from_the_next_connection_on() -> None:
    async with ground(8) as here:
        crowd = [await here.tls() for _ in range(6)]
        here.listener.most = 2
        assert await here.answer() == b"served"
        assert here.open == 2
        for reader, _ in crowd[:5]:
            assert await ended(reader)


async def test_out_of_files_it_lets_one_go_and_takes_the_next() -> None:
    async with ground(8) as here:
        silent, _ = await here.plain()
        await until(lambda: here.open == 1)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = highest_file()
        with socket.socket() as late, ExitStack() as undo:
            late.setblocking(False)
            spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(highest)]  # no gap is left
            for each in spare:
                undo.callback(os.close, each)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1, hard))
            undo.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            await asyncio.get_running_loop().sock_connect(late, ("127.0.0.1", here.port))
            assert await ended(silent)
            await until(lambda: here.open == 1)
            assert here.cuts == {"room": 1}
            undo.close()
            reader, writer = await asyncio.open_connection(
                sock=late, ssl=here.client, server_hostname="vault"
            )
            here.writers.append(writer)
            writer.write(GET % b"")
            assert await answered(reader) == b"served"


async def test_the_end_waits_for_no_handshake() -> None:
    async with ground(8) as here:
        reader, _ = await here.plain()
        await until(lambda: here.open == 1)
        here.listener.stop()
        assert await ended(reader)
        with pytest.raises(ConnectionRefusedError):
            await here.plain()
