"""Peer links: only known nodes of this cluster, whole frames, dead peers noticed, nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import aiohttp
import pytest
from aiohttp import WSMsgType
from link_mesh import CLUSTER_ID, LinkNode, Mesh, write_tls
from yarl import URL

from cluster.certificates import (
    client_context,
    create_authority,
    node_uri,
    operator_uri,
    put_pair,
)
from cluster.cluster_file import save
from cluster.limits import MAX_FRAME_BYTES, MIB
from cluster.link_out import DEAD_AFTER_S, OutgoingLink
from cluster.link_wire import (
    CHANNELS,
    LINK_BUFFER_BYTES,
    LINK_PATH,
    MAX_MESSAGE_BYTES,
    SNAPSHOT_PATH,
    SUBPROTOCOL,
    WireError,
    frames,
    head,
)
from cluster.types import InvariantError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from cluster.certificates import TlsFiles


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    made = Mesh(tmp_path)
    yield made
    await made.stop()


@pytest.fixture
async def pair(mesh: Mesh) -> tuple[LinkNode, LinkNode]:
    """Nodes 1 and 2, linked both ways (node 3 is away)."""
    one, two = mesh.node(1), mesh.node(2)
    await one.start()
    await two.start()
    await one.heard.until(lambda: 2 in one.heard.up)
    await two.heard.until(lambda: 1 in two.heard.up)
    return one, two


# ---- the bytes


@pytest.mark.parametrize("channel", CHANNELS)
def test_frames_of_a_message_come_out_as_they_went_in(channel: int) -> None:
    payloads = [b"", b"a", bytes(70_000)]
    message = b"".join(head(channel, payload) + payload for payload in payloads)
    assert list(frames(message)) == [(channel, payload) for payload in payloads]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "an empty message"),
        (b"\1\0\0\0", "cut short in its head"),
        (b"\1\0\0\0\2x", "cut short"),
        (b"\0\0\0\0\1x", "unknown channel 0"),
        (b"\3\0\0\0\1x", "unknown channel 3"),
        (b"\1\xff\xff\xff\xff", "at most 8388608"),
        (b"\1\0\0\0\1xy", "cut short in its head"),
    ],
)
def test_what_is_not_exactly_frames_is_refused(message: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        list(frames(message))


# ---- the good path


async def test_frames_arrive_in_order_on_both_channels(pair: tuple[LinkNode, LinkNode]) -> None:
    one, two = pair
    sent = [(1 + n % 2, bytes((n % 256,)) * (n * 37 % 5000)) for n in range(500)]
    for channel, payload in sent:
        assert one.links.send(2, channel, payload)
    await two.heard.until(lambda: len(two.heard.frames) == 500)
    assert two.heard.frames == [(1, channel, payload) for channel, payload in sent]
    assert one.heard.frames == []


async def test_frames_queued_in_one_turn_of_the_loop_share_messages(
    pair: tuple[LinkNode, LinkNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    messages: list[bytes] = []

    def counted(message: bytes) -> Iterator[tuple[int, bytes]]:
        messages.append(message)
        return frames(message)

    monkeypatch.setattr("cluster.link_in.frames", counted)
    for n in range(100):
        assert one.links.send(2, 1, bytes((n,)))
    await two.heard.until(lambda: len(two.heard.frames) == 100)
    assert len(messages) <= 3


async def test_the_largest_frame_passes_and_a_larger_one_is_never_sent(
    pair: tuple[LinkNode, LinkNode],
) -> None:
    one, two = pair
    assert one.links.send(2, 1, bytes(MAX_FRAME_BYTES))
    await two.heard.until(lambda: len(two.heard.frames) == 1)
    assert len(two.heard.frames[0][2]) == MAX_FRAME_BYTES
    with pytest.raises(InvariantError, match="a frame of 8388609 bytes"):
        one.links.send(2, 1, bytes(MAX_FRAME_BYTES + 1))
    with pytest.raises(InvariantError, match="channel 3"):
        one.links.send(2, 3, b"")


async def test_without_a_link_nothing_is_taken(pair: tuple[LinkNode, LinkNode]) -> None:
    one, _ = pair
    assert not one.links.send(3, 1, b"x")
    assert not one.links.send(1, 1, b"x")
    assert not one.links.connected(3)


async def test_a_full_buffer_drops_whole_frames_and_says_so(
    pair: tuple[LinkNode, LinkNode],
) -> None:
    one, two = pair
    taken = [one.links.send(2, 1, bytes(MIB)) for _ in range(64)]  # one turn: nothing leaves yet
    count = sum(taken)
    assert MIB * count <= LINK_BUFFER_BYTES < MIB * (count + 1) + 5 * (count + 1)
    assert not any(taken[count:])
    assert one.links.report()[0].drops == 64 - count
    await two.heard.until(lambda: len(two.heard.frames) == count)
    assert all(len(payload) == MIB for _, _, payload in two.heard.frames)
    assert one.links.send(2, 1, b"again")


async def test_a_peer_that_returns_is_linked_again(mesh: Mesh, pair) -> None:
    one, two = pair
    await two.stop()
    await one.heard.until(lambda: one.heard.down == [2])
    assert not one.links.send(2, 1, b"lost")
    again = mesh.node(2)
    await again.start()
    await one.heard.until(lambda: one.heard.up == [2, 2])
    assert one.links.send(2, 1, b"found")
    await again.heard.until(lambda: again.heard.frames == [(1, 1, b"found")])


async def test_a_cut_link_is_dialled_again(pair: tuple[LinkNode, LinkNode]) -> None:
    one, two = pair
    one.links.cut(2, "it sent nonsense")
    await one.heard.until(lambda: one.heard.up == [2, 2])
    await two.heard.until(lambda: two.heard.up == [1, 1])
    assert one.heard.down == [2]
    assert two.links.send(1, 2, b"on")
    await one.heard.until(lambda: one.heard.frames == [(2, 2, b"on")])


async def test_renewed_certificates_are_used_for_new_links(
    mesh: Mesh, pair: tuple[LinkNode, LinkNode]
) -> None:
    one, two = pair
    tls = write_tls(mesh.root / "tls1", mesh.authority, node_uri(CLUSTER_ID, 1))
    put_pair(one.links.contexts, tls.cert.read_bytes(), tls.key.read_bytes())
    one.links.cut(2, "use the new certificate")
    await one.heard.until(lambda: one.heard.up == [2, 2])
    await two.heard.until(lambda: two.heard.up == [1, 1])


# ---- who may not


@asynccontextmanager
async def dialled(node: LinkNode, tls: TlsFiles, path: str = LINK_PATH, **options):
    """A WebSocket to a node's peer listener by whoever holds `tls`."""
    context = client_context(tls.ca, tls.cert, tls.key)
    url = f"https://{node.cluster.node(node.node_id).peer}{path}"
    options.setdefault("protocols", (SUBPROTOCOL,))
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.ws_connect(url, max_msg_size=0, **options) as websocket,
    ):
        yield websocket


async def logged(caplog: pytest.LogCaptureFixture, words: str, times: int = 1) -> None:
    """Wait until it is in the log."""
    async with asyncio.timeout(20):
        while caplog.text.count(words) < times:  # noqa: ASYNC110 - the log is the witness
            await asyncio.sleep(0.01)


REFUSED = [
    ("operator", operator_uri(CLUSTER_ID, "ada"), "operator 'ada' is no node"),
    ("unknown node", node_uri(CLUSTER_ID, 9), "node 9 is no peer"),
    ("itself", node_uri(CLUSTER_ID, 1), "node 1 is no peer"),
    ("other cluster", node_uri(type(CLUSTER_ID)(int=7), 2), "belongs to cluster"),
]


@pytest.mark.parametrize(("name", "uri", "why"), REFUSED, ids=[case[0] for case in REFUSED])
async def test_a_certificate_of_nobody_is_refused_before_any_frame(
    mesh: Mesh, name: str, uri: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = mesh.node(1)
    await one.start()
    tls = write_tls(mesh.root / name, mesh.authority, uri)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with dialled(one, tls):
            pass
    assert refused.value.status == 403
    assert why in caplog.text
    context = client_context(tls.ca, tls.cert, tls.key)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.get(f"https://{mesh.cluster.node(1).peer}{SNAPSHOT_PATH}/out-1") as response,
    ):
        assert response.status == 403
    assert one.heard.frames == []


async def test_another_authoritys_certificate_and_none_do_not_get_through_tls(mesh: Mesh) -> None:
    one = mesh.node(1)
    await one.start()
    other = write_tls(mesh.root / "other", create_authority("x"), node_uri(CLUSTER_ID, 2))
    ours = mesh.tls(1).ca
    for context in (client_context(ours, other.cert, other.key), client_context(ours)):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
                async with session.get(f"https://{mesh.cluster.node(1).peer}{LINK_PATH}"):
                    pass


async def test_a_revoked_certificate_is_refused_on_both_ends(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    der = ssl.PEM_cert_to_DER_cert(mesh.tls(2).cert.read_text())
    one = mesh.node(1, revoked=frozenset({hashlib.sha256(der).hexdigest()}))
    two = mesh.node(2)
    await one.start()
    await two.start()
    await logged(caplog, "is revoked", 2)
    assert one.heard.up == []
    assert two.heard.up == []


async def test_a_peer_that_answers_as_another_node_gets_no_frame(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    two = mesh.node(2)
    three = mesh.node(3)
    await two.start()
    await three.start()
    one = mesh.node(1, addresses={2: mesh.cluster.node(3).peer})
    await one.start()
    await one.heard.until(lambda: 3 in one.heard.up)
    await logged(caplog, "answers as NodeIdentity(node_id=3)")
    assert 2 not in one.heard.up


async def test_another_wire_version_is_not_talked_to(mesh: Mesh) -> None:
    one = mesh.node(1)
    await one.start()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with dialled(one, mesh.tls(2), protocols=("quorumvault-link-2",)):
            pass
    assert refused.value.status == 400


# ---- hostile peers


@pytest.mark.parametrize(
    ("kind", "message", "why"),
    [
        ("bytes", b"", "an empty message"),
        ("bytes", os.urandom(64).replace(b"\1", b"\0").replace(b"\2", b"\0"), "unknown channel"),
        ("bytes", head(1, bytes(5)), "cut short"),
        ("bytes", b"\1\xff\xff\xff\xff" + bytes(100), "at most"),
        ("bytes", bytes(MAX_MESSAGE_BYTES + 1), "not a message"),
        ("text", "hello", "a TEXT message"),
        ("raw", b"\xff" * 100, "not a message"),
    ],
    ids=["empty", "noise", "short", "length", "oversize", "text", "raw"],
)
async def test_garbage_cuts_the_link_and_is_logged(
    mesh: Mesh, kind: str, message, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = mesh.node(1)
    await one.start()
    async with dialled(one, mesh.tls(2), autoclose=False) as websocket:
        await websocket.send_bytes(head(1, b"good") + b"good")
        await one.heard.until(lambda: one.heard.frames == [(2, 1, b"good")])
        if kind == "bytes":
            await websocket.send_bytes(message)
        elif kind == "text":
            await websocket.send_str(message)
        else:
            websocket._response.connection.transport.write(message)
        async with asyncio.timeout(5):
            answer = await websocket.receive()
    assert answer.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)
    await logged(caplog, "link from node 2 cut: ")  # where aiohttp says goodbye itself: after that
    assert why in caplog.text
    assert one.heard.frames == [(2, 1, b"good")]


async def test_a_newer_link_of_a_peer_replaces_its_older_one(mesh: Mesh) -> None:
    one = mesh.node(1)
    await one.start()
    async with dialled(one, mesh.tls(2), autoclose=False) as older:
        await older.send_bytes(head(1, b"a") + b"a")
        await one.heard.until(lambda: len(one.heard.frames) == 1)
        async with dialled(one, mesh.tls(2)) as newer:
            async with asyncio.timeout(5):
                assert (await older.receive()).type in (WSMsgType.CLOSED, WSMsgType.ERROR)
            await newer.send_bytes(head(1, b"b") + b"b")
            await one.heard.until(lambda: len(one.heard.frames) == 2)


# ---- dead peers

STOPPABLE = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from link_mesh import LinkNode
from cluster.certificates import TlsFiles
from cluster.cluster_file import load

async def main():
    root = Path(sys.argv[2])
    tls = TlsFiles(*(root / "tls2" / name for name in ("ca.pem", "cert.pem", "key.pem")))
    node = LinkNode(load(root / "cluster.json"), 2, tls, root / "snapshots2")
    await node.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_stopped_process_is_noticed_and_taken_back(mesh: Mesh) -> None:
    """SIGSTOP: its kernel still accepts bytes, so only missing pongs tell."""
    save(mesh.root / "cluster.json", mesh.cluster)
    mesh.tls(2)
    one = mesh.node(1)
    await one.start()
    loop = asyncio.get_running_loop()
    arguments = [sys.executable, "-c", STOPPABLE, str(Path(__file__).parent), str(mesh.root)]
    with subprocess.Popen(arguments, cwd=Path(__file__).parents[2]) as process:  # noqa: ASYNC220
        try:
            await one.heard.until(lambda: one.heard.up == [2])
            process.send_signal(signal.SIGSTOP)
            stopped = loop.time()
            await one.heard.until(lambda: one.heard.down == [2])
            assert loop.time() - stopped < DEAD_AFTER_S + 1.0
            process.send_signal(signal.SIGCONT)
            await one.heard.until(lambda: one.heard.up == [2, 2])
        finally:
            process.kill()
    await one.heard.until(lambda: one.heard.down == [2, 2])


class Wire:
    """A TCP proxy that can fall silent without closing anything."""

    def __init__(self, address: str) -> None:
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        self.silent = False
        self.connections = 0
        self.tasks: set[asyncio.Task] = set()

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _accept(self, reader, writer) -> None:
        self.connections += 1
        self.tasks.add(asyncio.current_task())
        there, back = await asyncio.open_connection(self.host, self.port)
        try:
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        except OSError:
            pass
        finally:
            for end in (writer, back):
                end.transport.abort()

    async def _carry(self, reader, writer) -> None:
        while data := await reader.read(65536):
            if not self.silent:
                writer.write(data)
                await writer.drain()
        if not self.silent:
            writer.transport.abort()


async def test_a_line_that_falls_silent_is_noticed_without_a_storm(mesh: Mesh) -> None:
    two = mesh.node(2)
    await two.start()
    loop = asyncio.get_running_loop()
    async with Wire(mesh.cluster.node(2).peer) as wire:
        one = mesh.node(1, addresses={2: wire.address})
        await one.start()
        await one.heard.until(lambda: one.heard.up == [2])
        wire.silent = True
        silent = loop.time()
        await one.heard.until(lambda: one.heard.down == [2])
        assert loop.time() - silent < DEAD_AFTER_S + 5.0  # the rest is for a busy machine
        before = wire.connections
        await asyncio.sleep(1.0)  # the length of the observation, not a wait for something
        assert wire.connections - before <= 1
        wire.silent = False
        await one.heard.until(lambda: one.heard.up == [2, 2])
        await one.links.stop()


async def test_a_busy_link_is_not_taken_for_dead(pair: tuple[LinkNode, LinkNode]) -> None:
    one, two = pair
    loop = asyncio.get_running_loop()
    until = loop.time() + DEAD_AFTER_S + 1.0
    while loop.time() < until:
        for _ in range(8):
            one.links.send(2, 1, bytes(MIB))
        await asyncio.sleep(0.01)
        two.heard.frames.clear()
    assert one.heard.down == []
    assert two.heard.down == []


# ---- snapshots


async def fetched(node: LinkNode, name: str, size: int, into: str = "in-1") -> bool:
    done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    node.links.fetch_snapshot(2, name, into, size=size, done=done.set_result)
    async with asyncio.timeout(20):
        return await done


@pytest.mark.parametrize(
    ("name", "into"),
    [("out-1", "in-" + "a" * 130), ("out-1", "../in"), ("out-1\n", "in-1"), ("a/b", "in-1")],
)
async def test_a_name_that_is_no_files_is_answered_like_any_other_failure(
    pair: tuple[LinkNode, LinkNode], name: str, into: str
) -> None:
    assert not await fetched(pair[0], name, 10, into)


async def test_a_fetch_that_fails_in_an_unknown_way_still_reports_back(
    pair: tuple[LinkNode, LinkNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_args: object) -> bool:
        raise LookupError("not foreseen")

    monkeypatch.setattr("cluster.snapshot_stream.SnapshotFetcher.fetch", broken)
    assert not await fetched(pair[0], "out-1", 10)


async def test_a_snapshot_streams_beside_the_link(pair: tuple[LinkNode, LinkNode]) -> None:
    one, two = pair
    data = os.urandom(3 * MIB + 17)
    (two.directory / "out-1").write_bytes(data)
    assert await fetched(one, "out-1", len(data))
    assert (one.directory / "in-1").read_bytes() == data
    (two.directory / "out-empty").write_bytes(b"")
    assert await fetched(one, "out-empty", 0, "in-2")
    assert (one.directory / "in-2").read_bytes() == b""


@pytest.mark.parametrize(
    ("name", "size"), [("out-9", 10), ("out-1", 9), ("out-1", 11), ("private", 10)]
)
async def test_what_is_not_the_announced_snapshot_leaves_no_file(
    pair: tuple[LinkNode, LinkNode], name: str, size: int
) -> None:
    one, two = pair
    (two.directory / "out-1").write_bytes(bytes(10))
    (two.directory / "private").write_bytes(bytes(10))
    assert not await fetched(one, name, size)
    assert list(one.directory.iterdir()) == []


async def test_no_path_reaches_outside_the_snapshot_directory(
    mesh: Mesh, pair: tuple[LinkNode, LinkNode]
) -> None:
    _, two = pair
    (two.directory.parent / "out-secret").write_bytes(b"secret")
    tls = mesh.tls(1)
    context = client_context(tls.ca, tls.cert, tls.key)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        for name in ("..%2Fout-secret", "out-..%2F..%2Fout-secret", "out-%00", "private", "%2e%2e"):
            url = URL(f"https://{mesh.cluster.node(2).peer}{SNAPSHOT_PATH}/{name}", encoded=True)
            async with session.get(url) as response:
                assert response.status == 404, name


def lose_the_peer(_: LinkNode, two: LinkNode) -> None:
    for connection in two._runner.server.connections:
        connection.transport.abort()


def remove_the_file(one: LinkNode, _: LinkNode) -> None:
    """Who needs the room gets it back: no bytes go on coming into a nameless file."""
    (one.directory / "in-1").unlink()


@pytest.mark.parametrize("end", [lose_the_peer, remove_the_file])
async def test_a_fetch_that_cannot_go_on_ends_and_leaves_no_file(
    pair: tuple[LinkNode, LinkNode], end: Callable[[LinkNode, LinkNode], None]
) -> None:
    one, two = pair
    with (two.directory / "out-big").open("wb") as file:
        file.truncate(200 * MIB)
    done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    one.links.fetch_snapshot(2, "out-big", "in-1", size=200 * MIB, done=done.set_result)
    coming = one.directory / "in-1"
    async with asyncio.timeout(20):
        while not (coming.exists() and coming.stat().st_size):  # noqa: ASYNC110 - the witness
            await asyncio.sleep(0.005)
        end(one, two)
        assert await done is False
    assert list(one.directory.iterdir()) == []


async def test_a_link_that_ends_in_a_way_nobody_thought_of_is_dialled_again(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    came_up, broken = OutgoingLink._came_up, iter([True])

    def once(self: OutgoingLink, websocket: aiohttp.ClientWebSocketResponse) -> None:
        if next(broken, False):
            raise OSError(22, "the socket is gone already")
        came_up(self, websocket)

    monkeypatch.setattr(OutgoingLink, "_came_up", once)
    one, two = mesh.node(1), mesh.node(2)
    await one.start()
    await two.start()
    await one.heard.until(lambda: 2 in one.heard.up)
    await two.heard.until(lambda: 1 in two.heard.up)
    assert "the socket is gone already" in caplog.text
