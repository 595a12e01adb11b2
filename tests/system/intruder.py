"""Whoever owns one data center: a peer with that node's real certificate, port and words.

It listens where the stopped node listened (answers come over the other nodes' own links) and says
on the service and host channels whatever a test likes. `Intruder` blocks; its links live on a loop
thread of their own.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web
from harness import wait_until

from cluster import cluster_file
from cluster.certificates import TlsFiles
from cluster.frames import Frame, Hello, RaftMessages, Welcome, decode_frame, encode_frame
from cluster.link_wire import HOST_CHANNEL, SERVICE_CHANNEL
from cluster.links import Links
from cluster.snapshot_files import SnapshotDirectory
from node import share_messages
from node.share_messages import AttemptAsk, RegistrationAsk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from harness import Vault5

    from cluster.frames import Item
    from node.share_messages import Answer

INCARNATION = 1_000_000
"""Above any that the real node had: the others believe the newest."""
ANSWER_S = 20.0


class Intruder:
    """Node `node_id` as its owner would like it to be."""

    def __init__(self, vault: Vault5, node_id: int, folder: Path) -> None:
        self.cluster = cluster_file.load(vault.root / "cluster" / "cluster.json")
        self.node_id = node_id
        own = vault.root / "cluster" / "nodes" / str(node_id)
        self.tls = TlsFiles(vault.root / "cluster" / "ca.pem", own / "cert.pem", own / "key.pem")
        folder.mkdir()
        self.files = SnapshotDirectory(folder)
        self.peers = [entry.id for entry in self.cluster.nodes if entry.id != node_id]
        self.up: set[int] = set()
        self.cuts: dict[int, int] = defaultdict(int)
        """How often a link to the node was lost."""
        self.items: dict[int, list[Item]] = defaultdict(list)
        self.on_raft: Callable[[int, RaftMessages], None] | None = None
        """On the loop thread."""
        self._answers: dict[tuple[int, int], asyncio.Future[Answer]] = {}
        self._numbers = itertools.count(1)
        self._incarnation = INCARNATION
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.call(self._start())
        wait_until(lambda: self.up == set(self.peers), "linked with everybody")
        wait_until(lambda: all(self.items[node] for node in self.peers), "heard everybody")

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _start(self) -> None:
        self.links = Links(self.cluster, self.node_id, self.tls, self.files)
        app = web.Application()
        app.add_routes(self.links.routes())
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.2)
        await self._runner.setup()
        host, port = cluster_file.split_address(self.cluster.node(self.node_id).peer)
        site = web.TCPSite(self._runner, host, port, ssl_context=self.links.server_context)
        await site.start()
        self.links.start(self)

    async def _stop(self) -> None:
        await self.links.stop()
        await self._runner.cleanup()

    def close(self) -> None:
        """Give the port back; may be repeated."""
        if self._loop.is_closed():
            return
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what the links tell (cluster.links.LinkEvents)

    def on_link_up(self, peer: int) -> None:
        self.up.add(peer)

    def on_link_down(self, peer: int) -> None:
        self.up.discard(peer)
        self.cuts[peer] += 1

    def on_replaced(self, why: str) -> None:
        raise AssertionError(f"nobody replaces the intruder: {why}")

    def on_link_frame(self, peer: int, channel: int, payload: bytes) -> None:
        if channel == SERVICE_CHANNEL:
            for message in share_messages.decode_frame(payload):
                waiting = self._answers.pop((peer, message.ask), None)
                if waiting is not None:
                    waiting.set_result(message)
            return
        for item in decode_frame(payload).items:
            self.items[peer].append(item)
            if isinstance(item, RaftMessages) and self.on_raft is not None:
                self.on_raft(peer, item)

    # ---- the service channel

    def ask(self, nodes: Sequence[int], make: Callable[[int], AttemptAsk | RegistrationAsk]) -> Any:
        """Ask several nodes the same at once; their answers by node."""
        return self.call(self._ask_each([(node, make) for node in nodes]))

    def ask_one_each(
        self, asks: Sequence[tuple[int, Callable[[int], AttemptAsk | RegistrationAsk]]]
    ) -> list[Answer]:
        """Many asks at once; the answers in their order."""
        return self.call(self._ask_many(asks))

    async def _ask_each(self, asks: Any) -> dict[int, Answer]:
        answers = await self._ask_many(asks)
        return {node: answer for (node, _), answer in zip(asks, answers, strict=True)}

    async def _ask_many(self, asks: Any) -> list[Answer]:
        waiting = []
        for node, make in asks:
            number = next(self._numbers)
            future: asyncio.Future[Answer] = self._loop.create_future()
            self._answers[node, number] = future
            frame = share_messages.encode_frame([make(number)])
            assert self.links.send(node, SERVICE_CHANNEL, frame)
            waiting.append(future)
        async with asyncio.timeout(ANSWER_S):
            return list(await asyncio.gather(*waiting))

    def send(self, node: int, channel: int, payload: bytes) -> None:
        """One frame, whatever it is."""

        async def queue() -> bool:
            return self.links.send(node, channel, payload)

        assert self.call(queue())

    # ---- the host channel

    def greet(self) -> None:
        """Be believed: a Hello of a newer life than the real node's, to all."""
        self._incarnation += 1
        hello = Hello(self.cluster.cluster_id.bytes, self._incarnation, bytes(16))
        before = {node: self._welcomes(node) for node in self.peers}
        for node in self.peers:
            self.say(node, hello)
        wait_until(
            lambda: all(self._welcomes(node) > before[node] for node in self.peers),
            "welcomed by everybody",
        )
        for node in self.peers:
            welcome = [item for item in self.items[node] if isinstance(item, Welcome)][-1]
            assert welcome.accepted

    def _welcomes(self, node: int) -> int:
        return sum(isinstance(item, Welcome) for item in list(self.items[node]))

    def frame(self, *items: Item) -> bytes:
        return encode_frame(Frame(self._incarnation, list(items)))

    def say(self, node: int, *items: Item) -> None:
        """Host items in one frame, as this life."""
        self.send(node, HOST_CHANNEL, self.frame(*items))

    def heard(self, node: int, kind: type[Any]) -> list[Any]:
        return [item for item in list(self.items[node]) if isinstance(item, kind)]

    def until_cut(self, node: int, before: int) -> None:
        """The node has cut the link since it had been lost `before` times; and takes a new one."""
        wait_until(lambda: self.cuts[node] > before, f"node {node} cuts the link")
        wait_until(lambda: node in self.up, f"node {node} takes a new link")

    def until_heard(self) -> None:
        """Everybody dials us, too: answers can come again."""
        heard = {node: len(self.items[node]) for node in self.peers}
        wait_until(lambda: all(len(self.items[n]) > heard[n] for n in self.peers), "heard again")
