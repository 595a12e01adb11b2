"""Asking every listener of every node at once, for `doctor --online` and `debug bundle`.

One GET each, without proxies and redirects, with a limit on its time and its size. A node that is
slow, broken or hostile costs its own answer and nothing else. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import email.utils
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from cluster.link_ask import certified_get, why_not
from node.foreign import cut
from quorumvault.cli.admin import Access
from quorumvault.cli.exits import Exit, Failure
from quorumvault.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MOST_BYTES: Final = 4 << 20
"""A status of 256 shards has some 200 KiB, a page of metrics some 100."""
MOST_S: Final = 10.0
"""Of one answer: a node that takes longer serves nobody."""
MAX_REASON: Final = 200
_CHUNK: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Member:
    """One node, and where its listeners are as the connection file has it."""

    node: int
    seat: int
    dc: str
    client: str
    admin: str
    ops: str | None
    """None: the connection file does not tell."""

    @property
    def name(self) -> str:
        """For people."""
        return f"node {self.node} ({self.dc})"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a connection file names, and the operator's way in."""

    name: str
    members: tuple[Member, ...]
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    is_cut: bool
    """It had more than was taken."""
    seconds: float
    clock_ahead_s: float | None
    """How far the answerer's clock is ahead of ours at least, by its Date; behind: negative."""
    certificate: bytes | None
    """DER; None without TLS."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nothing came back, and why."""

    reason: str


def read(path: Path) -> Cluster:
    """The nodes of a connection file.

    Raises:
        Failure: the file is missing, malformed or has no admin access.

    """
    access = Access.from_connection(path)
    try:
        connection = msgspec.json.decode(path.read_bytes(), type=Connection)
    except msgspec.MsgspecError as error:
        raise Failure(f"{path} is not a connection file ({error})", Exit.USAGE) from error
    members = tuple(
        Member(each.node, each.seat, each.dc, each.url, access.urls[str(each.node)], each.ops_url)
        for each in connection.endpoints
    )
    return Cluster(connection.name, members, access.context)


def ask_all(
    context: ssl.SSLContext,
    urls: Sequence[str],
    *,
    most_bytes: int = MOST_BYTES,
    most_s: float = MOST_S,
) -> list[Answer | NoAnswer]:
    """GET each URL, all at once; the answers in the same order."""

    async def run() -> list[Answer | NoAnswer]:
        return await asyncio.gather(*(_ask(context, each, most_bytes, most_s) for each in urls))

    return asyncio.run(run())


async def _ask(
    context: ssl.SSLContext, url: str, most_bytes: int, most_s: float
) -> Answer | NoAnswer:
    begun, wall = time.monotonic(), time.time()
    body = bytearray()
    try:
        async with asyncio.timeout(most_s), certified_get(context, url) as (certificate, response):
            waited = time.monotonic() - begun
            ahead = _ahead(response.headers.get("Date", ""), wall, wall + waited)
            async for chunk in response.content.iter_chunked(_CHUNK):
                body += chunk
                if len(body) > most_bytes:
                    break
            return Answer(
                status=response.status,
                body=bytes(body[:most_bytes]),
                is_cut=len(body) > most_bytes,
                seconds=time.monotonic() - begun,
                clock_ahead_s=ahead,
                certificate=certificate,
            )
    except TimeoutError:
        return NoAnswer(f"no answer within {most_s:.0f} s")
    except (aiohttp.ClientError, OSError) as error:
        return NoAnswer(cut(why_not(error), MAX_REASON))
    except ValueError as error:
        return NoAnswer(cut(str(error) or type(error).__name__, MAX_REASON))


def _ahead(date: str, begun: float, ended: float) -> float | None:
    """It was written between the two, in whole seconds; 0.0: it may have been."""
    try:
        written = email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(written - ended, 0.0) + min(written + 1.0 - begun, 0.0)
