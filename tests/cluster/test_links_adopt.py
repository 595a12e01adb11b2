"""A newer cluster file while links are up: the replaced node is out at once, the new one is in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from link_mesh import LinkNode, Mesh, free_ports

from cluster.certificates import client_context
from cluster.cluster_file import ClusterFile, NodeEntry, replaced
from cluster.link_wire import LINK_PATH, SNAPSHOT_PATH
from cluster.types import InvariantError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    made = Mesh(tmp_path)
    yield made
    await made.stop()


@pytest.fixture
async def three(mesh: Mesh) -> list[LinkNode]:
    """Nodes 1, 2 and 3, all linked."""
    nodes = [mesh.node(number) for number in (1, 2, 3)]
    for node in nodes:
        await node.start()
    for node in nodes:
        await node.heard.until(lambda node=node: len(node.heard.up) == 2)
    return nodes


def with_four(cluster: ClusterFile, *, old: int = 3, new: int = 4) -> ClusterFile:
    """`old` replaced by `new`, at free ports."""
    ports = [f"127.0.0.1:{port}" for port in free_ports(4)]
    return replaced(cluster, old, NodeEntry(new, cluster.node(old).seat, "dc", *ports))


async def logged(caplog: pytest.LogCaptureFixture, what: str) -> None:
    async with asyncio.timeout(10):
        while what not in caplog.text:  # noqa: ASYNC110 - the log is the witness
            await asyncio.sleep(0.01)


async def test_the_replaced_node_is_cut_at_once_and_never_heard_again(
    three: list[LinkNode], mesh: Mesh
) -> None:
    one, two, _old = three
    newer = with_four(mesh.cluster)
    one.links.adopt(newer)
    assert one.heard.down == [3]  # from inside the call: nothing is sent to it any more
    assert not one.links.send(3, 1, b"x")
    assert [report.peer for report in one.links.report()] == [2, 4]
    two.links.adopt(newer)
    context = client_context(mesh.tls(3).ca, mesh.tls(3).cert, mesh.tls(3).key)
    for path in (LINK_PATH, f"{SNAPSHOT_PATH}/out-1"):
        connector = aiohttp.TCPConnector(ssl=context)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"https://{mesh.cluster.node(1).peer}{path}") as response,
        ):
            assert response.status == 410
            assert "node 3 was replaced by node 4" in await response.text()


async def test_a_link_with_the_replaced_node_gives_no_frame_after_the_adoption(
    three: list[LinkNode], mesh: Mesh
) -> None:
    one, _, old = three
    for number in range(50):
        old.links.send(1, 1, bytes([number]))
    one.links.adopt(with_four(mesh.cluster))
    before = len(one.heard.frames)
    await old.heard.until(lambda: 1 in old.heard.down)
    assert len(one.heard.frames) == before


async def test_a_link_that_is_just_being_made_is_not_kept_over_the_adoption(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was admitted before and is open after: nobody would have cut it."""
    one, old = mesh.node(1), mesh.node(3)
    prepare = web.WebSocketResponse.prepare

    async def and_adopt(self: web.WebSocketResponse, request: web.BaseRequest) -> object:
        made = await prepare(self, request)
        one.links.adopt(with_four(mesh.cluster))
        return made

    monkeypatch.setattr(web.WebSocketResponse, "prepare", and_adopt)
    await one.start()
    await old.start()
    await old.heard.until(lambda: 1 in old.heard.up)
    old.links.send(1, 1, b"an ask")
    await old.heard.until(lambda: 1 in old.heard.down)
    assert one.heard.frames == []


async def test_the_new_node_is_dialled_and_heard(three: list[LinkNode], mesh: Mesh) -> None:
    one, two, old = three
    await old.stop()
    newer = mesh.cluster = with_four(mesh.cluster)
    one.links.adopt(newer)
    two.links.adopt(newer)
    four = mesh.node(4)
    await four.start()
    await four.heard.until(lambda: set(four.heard.up) == {1, 2})
    await one.heard.until(lambda: 4 in one.heard.up)
    assert four.links.send(1, 1, b"hello")
    await one.heard.until(lambda: (4, 1, b"hello") in one.heard.frames)
    assert one.links.send(4, 1, b"welcome")
    await four.heard.until(lambda: (1, 1, b"welcome") in four.heard.frames)


async def test_both_sides_say_why_a_node_is_not_known_yet(
    three: list[LinkNode], mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    """Node 1 was away when the file was handed out; the newcomer's own log tells what to do."""
    _, two, old = three
    await old.stop()
    mesh.cluster = with_four(mesh.cluster)
    two.links.adopt(mesh.cluster)
    four = mesh.node(4)
    await four.start()
    await four.heard.until(lambda: 2 in four.heard.up)
    why = "node 4 is no peer of node 1, which has revision 0 of the cluster file"
    await logged(caplog, f"link to node 1: refused by it: {why}")
    await logged(caplog, f"peer listener: refused 127.0.0.1: {why}")
    assert "run 'quorumvault member sync'" in caplog.text
    assert four.heard.replaced == []


async def test_a_replaced_node_hears_it_from_as_many_as_cannot_all_lie(
    three: list[LinkNode], mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, old = three
    newer = with_four(mesh.cluster)
    one.links.adopt(newer)
    await logged(caplog, "link to node 1: refused by it: node 3 was replaced by node 4")
    assert old.heard.replaced == []  # one of three (threshold two) may be anybody's
    two.links.adopt(newer)
    await old.heard.until(lambda: bool(old.heard.replaced))
    assert "shut this one down and destroy its HSM keys" in old.heard.replaced[0]


async def test_the_word_of_one_peer_at_two_addresses_counts_once(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever redirects a peer's address to a node of his own is still that one node."""
    newer = with_four(mesh.cluster)
    one = mesh.node(1)
    await one.start()
    one.links.adopt(newer)
    old = mesh.node(3, addresses={2: mesh.cluster.node(1).peer})
    await old.start()
    await logged(caplog, "link to node 2: https://")
    await logged(caplog, "link to node 1: refused by it: node 3 was replaced by node 4")
    assert "answers as NodeIdentity(node_id=1)" in caplog.text
    assert old.heard.replaced == []


async def test_a_peers_reason_is_one_short_printable_line(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    from aiohttp import web

    hostile = mesh.node(2)

    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=403, body=b"a\x1b[31m\n\nb" + b"c" * 100_000)

    application = web.Application()
    application.add_routes([web.get(LINK_PATH, refuse)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    host, _, port = mesh.cluster.node(2).peer.rpartition(":")
    context = hostile.links.server_context
    await web.TCPSite(runner, host, int(port), ssl_context=context).start()
    one = mesh.node(1)
    await one.start()
    await logged(caplog, "link to node 2: refused by it: a[31m bccc")
    line = next(text for text in caplog.messages if "refused by it: a" in text)
    assert len(line) < 600
    await runner.cleanup()


async def test_what_does_not_go_on_from_the_present_file_is_never_adopted(mesh: Mesh) -> None:
    one = mesh.node(1)
    newer = with_four(mesh.cluster)
    one.links.adopt(newer)
    for wrong in (mesh.cluster, with_four(mesh.cluster, old=2), with_four(newer, old=1, new=5)):
        with pytest.raises(InvariantError, match="does not go on from the present one"):
            one.links.adopt(wrong)


async def test_an_override_of_an_address_holds_for_the_replacement(mesh: Mesh) -> None:
    """Where a seat is reached only through a tunnel, that does not change with who has the seat."""
    newer = with_four(mesh.cluster)
    assert mesh.node(1, addresses={3: "127.0.0.1:9"}).links._addresses[3] == "127.0.0.1:9"
    one = mesh.nodes[1]
    one.links.adopt(newer)
    assert one.links._addresses == {2: newer.node(2).peer, 4: "127.0.0.1:9"}
    own = mesh.node(2, addresses={3: "127.0.0.1:9", 4: "127.0.0.1:10"})
    own.links.adopt(newer)
    assert own.links._addresses == {1: newer.node(1).peer, 4: "127.0.0.1:10"}
