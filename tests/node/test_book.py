"""A node's cluster file only goes on, is on disk before it is obeyed, and no peer changes it."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

import aiohttp
import msgspec
import pytest
from aiohttp import web
from table_cluster import CLUSTER_ID, FOUNDING, place

from cluster.certificates import (
    TlsFiles,
    client_context,
    create_authority,
    issue,
    node_uri,
    operator_uri,
    server_context,
)
from cluster.cluster_file import (
    MAX_FILE_BYTES,
    ClusterFile,
    ClusterFileError,
    encode,
    load,
    replaced,
    save,
)
from node.admin import Admin
from node.book import Book, Conflict, Standing, standing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


ONE = replaced(FOUNDING, 4, place(6, 4))
TWO = replaced(ONE, 5, place(7, 5))
OTHERWISE = replaced(FOUNDING, 3, place(6, 3))
FOREIGN = msgspec.structs.replace(TWO, limit=100)  # ten times the guesses, if a node took it


@pytest.mark.parametrize(
    ("ours", "offered", "said"),
    [
        (FOUNDING, FOUNDING, Standing.SAME),
        (FOUNDING, ONE, Standing.NEWER),
        (FOUNDING, TWO, Standing.NEWER),
        (ONE, TWO, Standing.NEWER),
        (ONE, FOUNDING, Standing.OLDER),
        (TWO, FOUNDING, Standing.OLDER),
        (ONE, OTHERWISE, Standing.PARTED),
        (TWO, OTHERWISE, Standing.PARTED),
        (OTHERWISE, TWO, Standing.PARTED),
        (FOUNDING, FOREIGN, Standing.FOREIGN),
    ],
)
def test_only_what_goes_on_from_the_present_file_is_newer(ours, offered, said) -> None:
    assert standing(ours, offered) is said


@dataclass
class Desk:
    """A book on disk, and what the node was told to obey."""

    path: Path
    obeyed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        save(self.path, FOUNDING)
        self.book = Book(FOUNDING, self.path, self.obey)

    def obey(self, cluster: ClusterFile) -> None:
        assert load(self.path) == cluster  # on disk before it is obeyed
        self.obeyed.append(cluster.revision)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "node").mkdir()
    return Desk(tmp_path / "node" / "cluster.json")


async def test_a_newer_file_is_kept_first_and_then_obeyed(desk: Desk) -> None:
    assert await desk.book.take(encode(TWO))
    assert load(desk.path) == TWO
    assert desk.obeyed == []
    desk.book.obey_now()
    assert desk.obeyed == [2]
    assert not await desk.book.take(encode(TWO))


@pytest.mark.parametrize("offered", [FOUNDING, OTHERWISE, FOREIGN])
async def test_what_does_not_go_on_changes_nothing(desk: Desk, offered: ClusterFile) -> None:
    await desk.book.take(encode(ONE))
    before = desk.path.read_bytes()
    with pytest.raises((Conflict, ClusterFileError)) as refused:
        await desk.book.take(encode(offered))
    assert "\n" not in str(refused.value)
    assert desk.path.read_bytes() == before
    assert desk.book.current == ONE


async def test_a_file_that_cannot_be_written_is_not_obeyed(desk: Desk) -> None:
    desk.path.unlink()
    desk.path.mkdir()  # nobody, not even root, replaces a directory by a file
    with pytest.raises(ClusterFileError, match="cannot be written"):
        await desk.book.take(encode(ONE))
    assert desk.book.current == FOUNDING
    assert desk.obeyed == []


# ---- over the admin listener


@dataclass
class Listener:
    """A real admin listener on loopback."""

    desk: Desk
    url: str
    folder: Path

    def session(self, who: str = "operator") -> aiohttp.ClientSession:
        folder = self.folder / who
        context = client_context(self.folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))

    async def put(self, data: bytes, who: str = "operator") -> tuple[int, dict]:
        async with (
            self.session(who) as session,
            session.put(f"{self.url}/v1/cluster", data=io.BytesIO(data)) as answer,
        ):
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def listener(desk: Desk, tmp_path: Path) -> AsyncIterator[Listener]:
    authority = create_authority("table")
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem)
    uris = {
        "node": node_uri(CLUSTER_ID, 1),
        "peer": node_uri(CLUSTER_ID, 2),
        "operator": operator_uri(CLUSTER_ID, "ada"),
        "stranger": operator_uri(UUID(int=7), "ada"),
    }
    for who, uri in uris.items():
        issued = issue(
            authority, uri=uri, hosts=["127.0.0.1"], days=1, server=who == "node", client=True
        )
        (tmp_path / who).mkdir(exist_ok=True)
        (tmp_path / who / "cert.pem").write_bytes(issued.cert_pem)
        (tmp_path / who / "key.pem").write_bytes(issued.key_pem)
    admin = Admin(desk.book, reporter=None, steering=None, reloader=None, events=None)
    files = TlsFiles(
        tmp_path / "ca.pem", tmp_path / "node" / "cert.pem", tmp_path / "node" / "key.pem"
    )
    runner = web.ServerRunner(web.Server(admin.serve, access_log=None))
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    context = server_context(files, require_client=True)
    await web.SockSite(runner, listening, ssl_context=context).start()
    yield Listener(desk, f"https://127.0.0.1:{listening.getsockname()[1]}", tmp_path)
    await runner.cleanup()


async def test_an_operator_reads_and_replaces_the_file(listener: Listener) -> None:
    async with (
        listener.session() as session,
        session.get(f"{listener.url}/v1/cluster") as answer,
    ):
        assert (answer.status, await answer.read()) == (200, encode(FOUNDING))
    assert await listener.put(encode(ONE)) == (200, {"revision": 1, "changed": True})
    assert listener.desk.obeyed == [1]
    assert await listener.put(encode(ONE)) == (200, {"revision": 1, "changed": False})
    assert listener.desk.obeyed == [1]
    assert load(listener.desk.path) == ONE


async def test_the_operator_is_answered_before_the_replaced_node_ends(listener: Listener) -> None:
    def end(cluster: ClusterFile) -> None:
        raise SystemError(f"the process ends here, revision {cluster.revision}")

    listener.desk.book._obey = end
    assert await listener.put(encode(ONE)) == (200, {"revision": 1, "changed": True})


async def test_an_operator_who_hangs_up_does_not_keep_a_node_from_obeying(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is on disk: without this the node would call it the same one ever after."""

    async def hung_up(*_: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(web.Response, "prepare", hung_up)
        with pytest.raises(aiohttp.ClientError):
            await listener.put(encode(ONE))
    assert load(listener.desk.path) == ONE
    assert listener.desk.obeyed == [1]


@pytest.mark.parametrize(
    ("offered", "why"),
    [(FOUNDING, "older revision 0"), (OTHERWISE, "does not go on"), (FOREIGN, "another vault's")],
)
async def test_a_conflict_is_409_and_says_what_to_do(
    listener: Listener, offered: ClusterFile, why: str
) -> None:
    await listener.put(encode(ONE))
    status, problem = await listener.put(encode(offered))
    assert (status, problem["code"]) == (409, "conflict")
    assert problem["type"] == "urn:quorumvault:problem:conflict"
    assert why in problem["detail"]
    assert listener.desk.obeyed == [1]


@pytest.mark.parametrize("who", ["peer", "stranger"])
async def test_nobody_but_an_operator_sees_or_replaces_it(listener: Listener, who: str) -> None:
    assert (await listener.put(encode(ONE), who))[0] == 403
    async with (
        listener.session(who) as session,
        session.get(f"{listener.url}/v1/cluster") as answer,
    ):
        assert answer.status == 403
    assert load(listener.desk.path) == FOUNDING


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"{}", 400),
        (b"\xff" * 100, 400),
        (b"[" * 100_000, 400),
        (b" " * (MAX_FILE_BYTES + 1), 413),
        (json.dumps({"version": 1, "reset": True}).encode(), 400),
    ],
)
async def test_what_is_no_cluster_file_is_refused(
    listener: Listener, data: bytes, status: int
) -> None:
    assert (await listener.put(data))[0] == status
    assert load(listener.desk.path) == FOUNDING


async def test_a_disk_that_takes_no_file_is_the_nodes_trouble_not_the_operators(
    listener: Listener,
) -> None:
    listener.desk.path.unlink()
    listener.desk.path.mkdir()
    status, problem = await listener.put(encode(ONE))
    assert (status, problem["code"]) == (503, "disk")
    assert "cannot be written" in problem["detail"]


@pytest.mark.parametrize("path", ["/v1/unlock", "/v1/reset", "/v1/records", "/v1/ledger"])
async def test_no_call_resets_or_reads_a_record(listener: Listener, path: str) -> None:
    async with listener.session() as session:
        for method in ("GET", "POST", "PUT", "DELETE"):
            async with session.request(method, listener.url + path) as answer:
                assert answer.status == 404
                assert "PUT /v1/cluster" in (await answer.json(content_type=None))["detail"]


async def test_an_operator_who_hangs_up_does_not_let_an_older_file_come_to_lie_over_a_newer_one(
    tmp_path, monkeypatch
):
    path = tmp_path / "cluster.json"
    save(path, FOUNDING)
    slow = threading.Event()

    def save_slowly(target, cluster):
        if cluster == ONE:
            slow.wait(10)
        save(target, cluster)

    monkeypatch.setattr("node.book.save", save_slowly)
    obeyed: list[int] = []
    book = Book(FOUNDING, path, lambda cluster: obeyed.append(cluster.revision))
    first = asyncio.create_task(book.take(encode(ONE)))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(book.take(encode(TWO)))
    await asyncio.sleep(0)
    slow.set()
    assert await second
    assert load(path) == TWO == book.current
    assert obeyed[0] == 1, "what was kept for him is obeyed, though he heard nothing of it"
