"""The console's part of the ops listener: its files, its two pictures, its stream. It only reads.

Whoever reaches the ops listener sees it: names and addresses of nodes, states, counts and reasons,
never an account, a record or a key (I11). A web page elsewhere does not reach it through somebody's
browser: its own name, made to mean this node (DNS rebinding), is none that the console answers to.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from node import console_files
from node.console_files import HEADERS

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from msgspec import Struct

    from node.console_state import Surveyor, View
    from node.console_stream import Streams
    from node.ops import Ops

ROOT: Final = "/console/"
NOT_OURS: Final = (
    "the console answers to an address, localhost, a name without dots and the names in the "
    "cluster file: open it by one of them\n"
)


class Inside:
    """The whole ops listener: the console, and everything else as `Ops` answers it."""

    def __init__(
        self,
        ops: Ops,
        surveyor: Surveyor,
        own_view: Callable[[], View],
        streams: Streams,
        hosts: Callable[[], Container[str]],
    ) -> None:
        self._ops = ops
        self._surveyor = surveyor
        self._own_view = own_view
        self._streams = streams
        self._hosts = hosts
        self._files = console_files.load()

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path = request.path
        if path in ("/", ROOT.rstrip("/")):
            return web.Response(status=302, headers=HEADERS | {"Location": ROOT})
        if not path.startswith(ROOT):
            return await self._ops.serve(request)
        if not _is_ours(request.headers.get("Host", ""), self._hosts()):
            return web.Response(status=421, text=NOT_OURS, headers=HEADERS)
        streams = path == f"{ROOT}events"
        if request.method != "GET" and (streams or request.method != "HEAD"):
            return web.Response(status=405, text="GET only\n", headers=HEADERS | {"Allow": "GET"})
        if streams:
            return await self._streams.serve(request)
        match path.removeprefix(ROOT):
            case "node.json":
                return _json(self._own_view())
            case "state.json":
                return _json(await self._surveyor.state())
            case name:
                return console_files.answer(self._files, name, request)


def _is_ours(host: str, named: Container[str]) -> bool:
    """No public name is, unless the cluster file has it."""
    name, _, port = host.rpartition(":")
    name = (name if name and port.isdecimal() else host).lower()
    if name in named or "." not in name.removesuffix(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _json(document: Struct) -> web.Response:
    body = msgspec.json.encode(document)
    return web.Response(body=body, content_type="application/json", headers=HEADERS)
