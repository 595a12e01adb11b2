"""The console over real sockets: its files and their headers, and the stream of events."""

from __future__ import annotations

import asyncio
import json
import socket
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from node_world import until

from node import console_files, console_stream
from node.console_http import Inside
from node.console_stream import MAX_STREAMS, Streams
from node.events import Events

POLICY = (
    "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)


class Ops:
    async def serve(self, request):
        return web.Response(text=f"ops {request.path}")


class Stand:
    def __init__(self) -> None:
        self.now = 0.0
        self.events = Events(SimpleNamespace(log=lambda *_, **__: None), monotonic=lambda: self.now)
        self.streams = Streams(self.events)

    def tell(self, text: str = "ready") -> None:
        self.now += 1
        self.events.tell("ready", text)


@pytest.fixture
async def stand():
    return Stand()


@pytest.fixture
async def served(stand):
    inside = Inside(
        Ops(), SimpleNamespace(), lambda: None, stand.streams, lambda: {"dc1.vault.example"}
    )
    async with RawTestServer(inside.serve, handler_cancellation=True) as server:
        yield server


@pytest.fixture
async def http(served):
    async with aiohttp.ClientSession(served.make_url("/")) as session:
        yield session


# ---- files


def carries_the_policy(answer) -> None:
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/console"])
async def test_the_root_leads_to_the_console(http, path):
    async with http.get(path, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "/console/")


async def test_the_page_is_whole_and_known_again(http):
    async with http.get("/console/") as answer:
        carries_the_policy(answer)
        assert (answer.status, answer.content_type) == (200, "text/html")
        body, etag = await answer.read(), answer.headers["ETag"]
    async with http.get("/console/index.html") as answer:
        assert (await answer.read(), answer.headers["ETag"]) == (body, etag)
    for tags in (etag, f'"other", W/{etag}', "*"):
        async with http.get("/console/", headers={"If-None-Match": tags}) as answer:
            carries_the_policy(answer)
            assert (answer.status, await answer.read()) == (304, b"")
            assert answer.headers["ETag"] == etag
    async with http.get("/console/", headers={"If-None-Match": '"other"'}) as answer:
        assert answer.status == 200
    async with http.head("/console/") as answer:
        assert (answer.status, int(answer.headers["Content-Length"])) == (200, len(body))


async def test_every_file_of_the_console_is_served_as_what_it_is(http):
    known = console_files.load()
    assert "index.html" in known
    for name, file in known.items():
        async with http.get(f"/console/{name}") as answer:
            carries_the_policy(answer)
            assert answer.headers["Content-Type"] == file.content_type
            assert await answer.read() == file.body


@pytest.mark.parametrize(
    "name",
    [
        "none.js",
        "INDEX.HTML",
        "../main.py",
        "%2e%2e/main.py",
        "..%2fmain.py",
        "/etc/passwd",
        "index.html%00",
        "index.html/",
        "__init__.py",
        "x" * 5_000,
    ],
)
async def test_nothing_else_is_served(http, name):
    import yarl

    url = yarl.URL(f"/console/{name}", encoded=True)
    async with http.get(url, allow_redirects=False) as answer:
        assert answer.status in (404, 200)
        text = await answer.text()
        assert text == "no such file\n" or text.startswith("ops ")


def test_files_of_other_kinds_and_folders_are_left_out(tmp_path):
    (tmp_path / "a.js").write_text("1")
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "a.js.orig").write_text("1")
    (tmp_path / "folder.js").mkdir()
    assert set(console_files.load(tmp_path)) == {"a.js"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("name", ["", "state.json", "events"])
async def test_it_only_reads(http, method, name):
    async with http.request(method, f"/console/{name}") as answer:
        assert answer.status == 405


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9090", "127.0.0.1.evil.example", "localhost.evil.example",
     "evil.example:9090:1", "dc1.vault.example.evil", "127.0.0.1@evil.example"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/console/", "/console/state.json", "/console/events"])
async def test_a_name_that_somebody_elses_page_made_to_mean_this_node_is_not_answered(
    http, path, host
):
    async with http.get(path, headers={"Host": host}) as answer:
        assert answer.status == 421
        assert "cluster file" in await answer.text()


@pytest.mark.parametrize(
    "host",
    ["10.0.0.7", "10.0.0.7:9090", "[::1]:9090", "[fd00::7]", "localhost:9090", "node-3:9090",
     "DC1.vault.example:9090", "vault.localhost", ""],
)  # fmt: skip
async def test_an_address_or_a_name_of_ours_is_answered(http, host):
    async with http.get("/console/", headers={"Host": host}) as answer:
        assert answer.status == 200


async def test_everything_else_is_as_before(http):
    async with http.get("/metrics") as answer:
        assert await answer.text() == "ops /metrics"


# ---- the stream


class Reader:
    def __init__(self, answer) -> None:
        self.answer = answer
        self.begin = b""

    async def next(self) -> tuple[int, str, dict]:
        async with asyncio.timeout(10):
            while True:
                fields = {}
                async for line in self.answer.content:
                    if not line.strip():
                        break
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    fields[name] = value
                else:
                    raise EOFError
                if "data" in fields:
                    return int(fields["id"]), fields["event"], json.loads(fields["data"])
                self.begin += str(fields).encode()


async def test_a_stream_begins_with_all_that_is_kept_and_goes_on(stand, http):
    stand.tell("one")
    stand.tell("two")
    async with http.get("/console/events") as answer:
        carries_the_policy(answer)
        assert answer.content_type == "text/event-stream"
        reader = Reader(answer)
        assert (await reader.next())[:2] == (1, "ready")
        assert b"'retry': '2000'" in reader.begin
        seq, kind, event = await reader.next()
        assert (seq, kind, event["text"], event["seq"]) == (2, "ready", "two", 2)
        stand.tell("three")
        assert (await reader.next())[2]["text"] == "three"


@pytest.mark.parametrize(
    ("headers", "query", "first"),
    [
        ({"Last-Event-ID": "3"}, "", 4),
        ({}, "?after=2", 3),
        ({"Last-Event-ID": "4"}, "?after=2", 5),
        ({"Last-Event-ID": "9999"}, "", 1),
        ({}, "", 1),
    ],
)
async def test_a_stream_is_resumed_by_number(stand, http, headers, query, first):
    for _ in range(6):
        stand.tell()
    async with http.get(f"/console/events{query}", headers=headers) as answer:
        assert (await Reader(answer).next())[0] == first


@pytest.mark.parametrize(
    ("headers", "query"),
    [({"Last-Event-ID": "x"}, ""), ({}, "?after=-1"), ({}, "?before=3"), ({}, "?after=1&after=2")],
)
async def test_a_beginning_that_is_none_is_refused(http, headers, query):
    async with http.get(f"/console/events{query}", headers=headers) as answer:
        assert answer.status == 400


async def test_a_text_with_line_breaks_and_markup_stays_one_event(stand, http):
    stand.tell("a\n\nevent: forged\ndata: <img src=x>")
    stand.tell("next")
    async with http.get("/console/events") as answer:
        reader = Reader(answer)
        assert (await reader.next())[2]["text"] == "a  event: forged data: <img src=x>"
        assert (await reader.next())[2]["text"] == "next"


async def test_a_quiet_stream_says_now_and_then_that_it_lives(http, monkeypatch):
    monkeypatch.setattr(console_stream, "PING_S", 0.01)
    async with http.get("/console/events") as answer, asyncio.timeout(10):
        lines = []
        while len(lines) < 3:
            line = await answer.content.readline()
            if line.startswith(b":"):
                lines.append(line)


async def test_so_many_streams_and_no_more_and_a_place_is_free_again(stand, http):
    stand.tell()
    async with asyncio.timeout(20):
        answers = [await http.get("/console/events") for _ in range(MAX_STREAMS)]
        async with http.get("/console/events") as one_more:
            assert one_more.status == 503
        answers.pop().close()
        await until(lambda: stand.streams.count < MAX_STREAMS)
        async with http.get("/console/events") as again:
            assert again.status == 200
        for answer in answers:
            answer.close()
        await until(lambda: not stand.streams.count)


async def test_all_streams_end_at_once_when_the_node_does_and_no_new_one_begins(stand, http):
    stand.tell()
    async with http.get("/console/events") as answer:
        reader = Reader(answer)
        await reader.next()
        stand.streams.close()
        with pytest.raises(EOFError):
            await reader.next()
    async with http.get("/console/events") as late:
        assert late.status == 503


async def test_a_reader_that_does_not_read_is_dropped(stand, served, monkeypatch):
    monkeypatch.setattr(console_stream, "TAKE_S", 0.2)
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(lazy, ("127.0.0.1", served.port))
        await loop.sock_sendall(lazy, b"GET /console/events HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(30):
            await until(lambda: stand.streams.count)
            while stand.streams.count:
                for _ in range(20):
                    stand.tell("x" * 200)
                await asyncio.sleep(0.001)
