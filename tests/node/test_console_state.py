"""The cluster's picture, made from answers that may be anything; every one over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
from contextlib import AsyncExitStack
from types import SimpleNamespace

import five_reports as f
import msgspec
import pytest
from node_world import World, until

from node import console_state
from node.console_state import MAX_ANSWER_BYTES, Surveyor, View
from node.counts import Counts

NOTHING = Counts(attempts=0, lockouts=0, requests=0, errors=0)


def view(node: int, cluster_id: str, **changes) -> View:
    return View(f.changed(f.report(node), cluster_id=cluster_id, **changes), NOTHING, "table")


def http(body: bytes, *head: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *head]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Stand:
    """Five ops addresses: node 1 asks; the others answer what a test says."""

    def __init__(self, closing: AsyncExitStack, cluster) -> None:
        self._closing = closing
        self._cluster = cluster
        self.cluster_id = str(cluster.cluster_id)
        self.addresses = {}
        self.asked = dict.fromkeys(f.DCS, 0)
        self.heads = {}

    async def serve(self, node: int, answer) -> str:
        """`answer`: the bytes of a whole answer, or a function that writes it."""

        async def one(reader, writer):
            try:
                self.heads[node] = await reader.readuntil(b"\r\n\r\n")
                self.asked[node] += 1
                if callable(answer):
                    await answer(writer)
                else:
                    writer.write(answer)
                    await writer.drain()
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(one, "127.0.0.1", 0)
        self._closing.callback(server.close)
        self.addresses[node] = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return self.addresses[node]

    async def serve_all(self) -> None:
        for node in f.DCS:
            await self.serve(node, http(msgspec.json.encode(view(node, self.cluster_id))))

    def surveyor(self) -> Surveyor:
        nodes = tuple(
            msgspec.structs.replace(entry, ops=self.addresses.get(entry.id, entry.ops))
            for entry in self._cluster.nodes
        )
        book = SimpleNamespace(current=msgspec.structs.replace(self._cluster, nodes=nodes))
        made = Surveyor(book, 1, lambda: view(1, self.cluster_id), clock=lambda: 0.0)
        self._closing.push_async_callback(made.close)
        return made


@pytest.fixture
async def stand(world: World, monkeypatch):
    # Whoever answers has time for it, also here on a busy machine.
    monkeypatch.setattr(console_state, "ASK_S", 30.0)
    async with AsyncExitStack() as closing:
        made = Stand(closing, world.cluster)
        await made.serve_all()
        yield made


async def test_five_that_answer_are_a_healthy_cluster(stand):
    found = await stand.surveyor().state()
    assert (found.verdict, found.failures_tolerated, found.threshold) == ("healthy", 2, 3)
    assert [node.reachable for node in found.nodes] == [True] * 5
    assert [line.leader for line in found.shards] == [1, 2, 3]
    assert (found.asked_by, found.why) == (1, [])
    assert stand.asked == {1: 0, 2: 1, 3: 1, 4: 1, 5: 1}  # itself without a socket
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found


async def test_who_asks_at_the_same_time_shares_a_round_and_who_hangs_up_does_not_end_it(stand):
    surveyor = stand.surveyor()
    first = asyncio.ensure_future(surveyor.state())
    others = [asyncio.ensure_future(surveyor.state()) for _ in range(20)]
    await asyncio.sleep(0)
    first.cancel()
    found = await asyncio.gather(*others)
    assert {id(each) for each in found} == {id(found[0])}
    assert stand.asked[2] == 1
    assert await surveyor.state() is found[0]  # still fresh
    assert stand.asked[2] == 1


async def test_a_picture_is_taken_again_when_it_is_old(stand, monkeypatch):
    monkeypatch.setattr(console_state, "FRESH_S", 0.0)
    surveyor = stand.surveyor()
    await surveyor.state()
    await surveyor.state()
    assert stand.asked[2] == 2


async def endless(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
    for _ in range(10_000):
        writer.write(b"[" * 65_536)
        await writer.drain()


async def trickle(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(100):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.1)


async def mute(writer):
    await asyncio.sleep(10)


async def hang_up(writer):
    writer.close()


def deep(stand):
    return http(b'{"status":' * 200_000)


def bomb(stand):
    return http(gzip.compress(b" " * 50_000_000), "Content-Encoding: gzip")


def wrong_vault(stand):
    return http(msgspec.json.encode(view(4, "00000000-0000-0000-0000-00000000dead")))


def wrong_node(stand):
    return http(msgspec.json.encode(view(2, stand.cluster_id)))


def huge_number(stand):
    plain = msgspec.to_builtins(view(4, stand.cluster_id))
    plain["status"]["groups"][0]["term"] = 10**18
    return http(msgspec.json.encode(plain))


def half_a_report(stand):
    plain = msgspec.to_builtins(view(4, stand.cluster_id))
    del plain["status"]["groups"]
    return http(msgspec.json.encode(plain))


def no_group(stand):
    plain = msgspec.to_builtins(view(4, stand.cluster_id))
    plain["status"]["groups"] = [{"shard": {"a": 1}}]
    return http(msgspec.json.encode(plain))


HOSTILE = {
    "endless": (lambda stand: endless, "more than 1048576 bytes"),
    "slow": (lambda stand: trickle, "no answer"),
    "mute": (lambda stand: mute, "no answer"),
    "hangs up": (lambda stand: hang_up, "no HTTP of ours"),
    "no HTTP": (lambda stand: b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP of ours"),
    "a header without end": (
        lambda stand: b"HTTP/1.1 200 OK\r\nX: " + b"x" * 900_000, "no HTTP of ours",
    ),
    "no JSON": (lambda stand: http(b"<html>"), "no JSON"),
    "no UTF-8": (lambda stand: http(b'{"name": "\xff"}'), "no JSON"),
    "nothing": (lambda stand: http(b""), "no JSON"),
    "deep": (deep, "no JSON|more than"),
    "a list": (lambda stand: http(b"[]"), "no status"),
    "compressed": (bomb, "no JSON"),
    "another vault": (wrong_vault, "another vault"),
    "another node": (wrong_node, "node 2 answers at"),
    "a number beyond all": (huge_number, "number out of range"),
    "half a report": (half_a_report, "no status"),
    "a group that is none": (no_group, "no status"),
    "500": (lambda stand: http(b"", status="500 No"), "HTTP status 500"),
    "404, an older node": (lambda stand: http(b"", status="404 No"), "HTTP status 404"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_broken_answer_is_a_reason_and_never_an_exception(stand, case, monkeypatch):
    make, reason = HOSTILE[case]
    if reason == "no answer":
        monkeypatch.setattr(console_state, "ASK_S", 3.0)
    await stand.serve(4, make(stand))
    found = await stand.surveyor().state()
    node = found.nodes[3]
    assert (node.reachable, node.view) == (False, None)
    assert re.search(reason, node.reason), node.reason
    assert len(node.reason) < 300
    assert (found.verdict, found.failures_tolerated) == ("degraded", 1)
    assert [each.reachable for each in found.nodes] == [True, True, True, False, True]
    assert MAX_ANSWER_BYTES == 1_048_576


async def test_a_closed_port_says_so(stand):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        stand.addresses[4] = f"127.0.0.1:{taken.getsockname()[1]}"
        found = await stand.surveyor().state()
    assert found.nodes[3].reason == f"{stand.addresses[4]}: Connection refused"


@pytest.mark.parametrize("status", ["301 Gone there", "302 Found", "307 There", "308 There"])
async def test_a_redirect_is_not_followed(stand, status):
    stand.asked[9] = 0
    trap = await stand.serve(9, http(msgspec.json.encode(view(4, stand.cluster_id))))
    await stand.serve(4, http(b"", f"Location: http://{trap}/", status=status))
    found = await stand.surveyor().state()
    assert f"HTTP status {status[:3]}" in found.nodes[3].reason
    assert stand.asked[9] == 0


async def test_no_proxy_is_asked_no_cookie_kept_and_nothing_of_ours_told(stand, monkeypatch):
    stand.asked[9] = 0
    trap = await stand.serve(9, http(b""))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{trap}")
    monkeypatch.setattr(console_state, "FRESH_S", 0.0)
    told = http(msgspec.json.encode(view(2, stand.cluster_id)), "Set-Cookie: a=b")
    await stand.serve(2, told)
    surveyor = stand.surveyor()
    await surveyor.state()
    found = await surveyor.state()
    assert found.verdict == "healthy"
    assert stand.asked[9] == 0
    head = stand.heads[2].lower()
    assert b"cookie" not in head
    assert b"authorization" not in head
    assert head.startswith(b"get /console/node.json http/1.1")


async def test_foreign_texts_are_cut_and_stay_texts(stand):
    nasty = "<script>alert(1)</script>\n\x1b[31m" + "x" * 5_000
    await stand.serve(4, http(msgspec.json.encode(view(4, stand.cluster_id, alarms=[nasty]))))
    found = await stand.surveyor().state()
    (alarm,) = found.nodes[3].view.status.alarms
    assert alarm.startswith("<script>alert(1)</script> ")
    assert (len(alarm), alarm.isprintable()) == (256, True)
    assert all(len(line) <= 200 and line.isprintable() for line in found.why)


async def test_all_silent_is_a_picture_too(stand, monkeypatch):
    monkeypatch.setattr(console_state, "ASK_S", 1.0)
    for node in (2, 3, 4, 5):
        await stand.serve(node, mute)
    found = await stand.surveyor().state()
    assert (found.verdict, found.failures_tolerated) == ("no-quorum", 0)
    assert [each.reachable for each in found.nodes] == [True, False, False, False, False]


async def test_a_surveyor_that_is_closed_in_a_round_leaves_nothing_open(stand):
    await stand.serve(4, mute)
    surveyor = stand.surveyor()
    asking = asyncio.ensure_future(surveyor.state())
    await until(lambda: stand.asked[4])
    await surveyor.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
