"""The console's picture of the whole cluster: every node's own word, asked for by one of them.

It asks the ops addresses of its cluster file and nothing else: no redirect is followed, no proxy
used, no name looked at that a client sent. What comes back is foreign (`node.foreign`): too much,
too late, or no report of that node is a reason, never an exception. One round at a time, shared
by whoever asks meanwhile.
"""

# ruff: noqa: TC001 - msgspec reads the annotations at run time

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import TYPE_CHECKING, Final, Literal

import aiohttp
from msgspec import Struct

from cluster.link_ask import why_not
from cluster.types import check
from node.counts import Counts
from node.foreign import Unintelligible, cut, decode
from node.report import StatusReport
from node.verdict import judge
from node.verdict_links import Place, Silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.cluster_file import ClusterFile, NodeEntry
    from node.book import Book

ASK_S: Final = 1.0
"""For one node's whole answer; two round trips of the longest links are 0.8 s."""
FRESH_S: Final = 0.5
"""How old a picture may be: pages ask every two seconds, and there may be many."""
MAX_ANSWER_BYTES: Final = 1 << 20
"""256 shards make some 200 KiB."""
OK: Final = 200
VIEW_PATH: Final = "/console/node.json"

check(FRESH_S < ASK_S, "console: a picture must not be older than a round takes")


class View(Struct, frozen=True):
    """GET /console/node.json: one node by its own word."""

    status: StatusReport
    counts: Counts
    name: str
    """The cluster's."""


class NodeState(Struct, frozen=True):
    """One node; `view` is null and `reason` says why when it does not answer."""

    node: int
    seat: int
    dc: str
    reachable: bool
    reason: str
    view: View | None


class ShardState(Struct, frozen=True):
    """One shard; `leader` is null when nobody leads."""

    shard: int
    leader: int | None
    term: int
    commit: int
    applied_min: int
    agree: Literal["agrees", "differs", "unknown"]


class State(Struct, frozen=True):
    """GET /console/state.json."""

    name: str
    cluster_id: str
    asked_by: int
    """The node that asked the others."""
    t: str
    verdict: Literal["healthy", "degraded", "no-quorum"]
    why: list[str]
    failures_tolerated: int
    threshold: int
    nodes: list[NodeState]
    shards: list[ShardState]


class Surveyor:
    """Asks all nodes for one; used on the loop. `close` it at the end."""

    def __init__(
        self,
        book: Book,
        node_id: int,
        own_view: Callable[[], View],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book = book
        self._node_id = node_id
        self._own_view = own_view
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._round: asyncio.Task[State] | None = None
        self._taken_at = float("-inf")

    async def state(self) -> State:
        """The cluster at most FRESH_S ago; whoever asks during a round gets that one."""
        task = self._round
        if task is None or (task.done() and self._clock() - self._taken_at >= FRESH_S):
            task = self._round = asyncio.create_task(self._survey(), name="console survey")
        return await asyncio.shield(task)  # who hangs up does not end it for the others

    async def close(self) -> None:
        """Ask nobody any more."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.wait((self._round,))
        if self._session is not None:
            await self._session.close()

    async def _survey(self) -> State:
        try:
            cluster = self._book.current
            answers = await asyncio.gather(*(self._ask(cluster, each) for each in cluster.nodes))
            return _state(cluster, self._node_id, answers)
        finally:
            self._taken_at = self._clock()

    async def _ask(self, cluster: ClusterFile, entry: NodeEntry) -> View | Silent:
        if entry.id == self._node_id:
            return self._own_view()
        try:
            view = decode(await self._fetch(f"http://{entry.ops}{VIEW_PATH}"), View)
        except Unintelligible as error:
            return Silent(str(error))
        except TimeoutError:
            return Silent(f"no answer from {entry.ops} within {ASK_S:.0f} s")
        except aiohttp.ClientConnectorError as error:
            return Silent(f"{entry.ops}: {cut(why_not(error))}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Silent(f"{entry.ops} answers no HTTP of ours ({type(error).__name__})")
        if view.status.cluster_id != str(cluster.cluster_id):
            return Silent(f"a node of another vault answers at {entry.ops}")
        if view.status.node != entry.id:
            return Silent(f"node {view.status.node} answers at {entry.ops}")
        return view

    async def _fetch(self, url: str) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,  # a small answer stays small
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                trust_env=False,
                connector=aiohttp.TCPConnector(force_close=True),
            )
        async with (
            asyncio.timeout(ASK_S),
            self._session.get(url, allow_redirects=False, timeout=NO_OTHER) as answer,
        ):
            if answer.status != OK:
                raise Unintelligible(f"it answers with HTTP status {answer.status}")
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise Unintelligible(f"it answers more than {MAX_ANSWER_BYTES} bytes")
        return bytes(body)


NO_OTHER: Final = aiohttp.ClientTimeout(total=None)
"""Ours is around it."""


def _state(cluster: ClusterFile, node_id: int, answers: list[View | Silent]) -> State:
    places = [Place(entry.id, entry.seat, entry.dc) for entry in cluster.nodes]
    found = judge(
        places,
        {
            place.node: each if isinstance(each, Silent) else each.status
            for place, each in zip(places, answers, strict=True)
        },
    )
    return State(
        name=cluster.name,
        cluster_id=str(cluster.cluster_id),
        asked_by=node_id,
        t=dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        verdict=found.verdict,
        why=found.why,
        failures_tolerated=found.failures_tolerated,
        threshold=cluster.threshold,
        nodes=[
            NodeState(
                node=place.node,
                seat=place.seat,
                dc=place.dc,
                reachable=isinstance(each, View),
                reason=each.reason if isinstance(each, Silent) else "",
                view=each if isinstance(each, View) else None,
            )
            for place, each in zip(places, answers, strict=True)
        ],
        shards=[
            ShardState(
                shard=line.shard,
                leader=line.leader,
                term=line.term,
                commit=line.commit,
                applied_min=line.applied_min,
                agree=line.state_hash,
            )
            for line in found.shards
        ],
    )
