"""The admin listener: mutual TLS, role operator; state, who leads, and who the members are.

Nothing here resets a count, unlocks, or reads a password, key or sealed record (I6, I11): there
is no such call on any listener. A peer's certificate is not an operator's. A new cluster file says
who the members are; that it is obeyed one change at a time, and never at the cost of the quorum,
is the leaders' business.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Annotated, Final, assert_never

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from cluster.certificates import CertificateError, OperatorIdentity, peer_identity
from cluster.cluster_file import (
    MAX_FILE_BYTES,
    MAX_NODE_ID,
    MAX_SHARDS,
    ClusterFileError,
    encode,
)
from cluster.handover import (
    HandedOver,
    NotInTime,
    NotLeader,
    NoVoter,
    TransferResult,
    Unwilling,
)
from node.book import Conflict
from node.config import ConfigError
from node.events import BadQuery, query_of
from node.problems import PROBLEM_CONTENT_TYPE, PROBLEM_TYPE_PREFIX
from node.steering import OnItsWayOut

if TYPE_CHECKING:
    from node.book import Book
    from node.events import Events
    from node.reload import Reloader
    from node.report import Reporter
    from node.steering import Steering

BODY_S: Final = 10.0
"""A cluster file has some 3 KiB."""
MAX_CALL_BYTES: Final = 1024
"""The body of any other call has some 30."""
CALLS: Final = (
    "GET /v1/status, GET /v1/events, POST /v1/drain, POST /v1/undrain, POST /v1/leader/transfer, "
    "POST /v1/leader/balance, GET /v1/cluster, PUT /v1/cluster, GET /v1/config, POST /v1/reload"
)


class Transfer(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/leader/transfer; bounded, since events repeat what was asked."""

    shard: Annotated[int, Meta(ge=0, lt=MAX_SHARDS)]
    to: Annotated[int, Meta(ge=1, le=MAX_NODE_ID)]


class Admin:
    """Handlers of the admin listener."""

    def __init__(
        self,
        book: Book,
        reporter: Reporter,
        steering: Steering,
        reloader: Reloader,
        events: Events,
    ) -> None:
        self._book = book
        self._cluster_id = book.current.cluster_id
        self._reporter = reporter
        self._steering = steering
        self._reloader = reloader
        self._events = events

    async def serve(self, request: web.BaseRequest) -> web.Response:
        """Answer one request of an operator."""
        if "Origin" in request.headers:  # a web page has an operator's browser, and certificate
            return _problem(403, "forbidden", "no browsers here; use 'quorumvault'")
        operator = self._operator(request)
        if operator is None:
            return _problem(403, "forbidden", "an operator's certificate, please")
        match request.method, request.path:
            case "GET", path:
                return self._show(path, request)
            case "POST", "/v1/drain":
                leads = self._steering.drain(operator)
                return _json(200, {"draining": True, "leads": leads})
            case "POST", "/v1/undrain":
                return self._undrain(operator)
            case "POST", "/v1/leader/transfer":
                return await self._transfer(request, operator)
            case "POST", "/v1/leader/balance":
                asked = [int(shard) for shard in self._steering.balance(operator)]
                return _json(200, {"asked": asked})
            case "PUT", "/v1/cluster":
                return await self._put_cluster(request)
            case "POST", "/v1/reload":
                return await self._reload(operator)
            case _:
                return _unknown()

    def _show(self, path: str, request: web.BaseRequest) -> web.Response:
        """What only reads."""
        match path:
            case "/v1/status":
                body = msgspec.json.encode(self._reporter.report())
            case "/v1/events":
                try:
                    query = query_of(list(request.query.items()))
                except BadQuery as bad:
                    return _problem(400, "malformed", str(bad))
                body = msgspec.json.encode(self._events.page(query))
            case "/v1/cluster":
                body = encode(self._book.current)
            case "/v1/config":
                body = msgspec.json.encode({"settings": self._reloader.running.loaded.settings})
            case _:
                return _unknown()
        return web.Response(body=body, content_type="application/json")

    def _undrain(self, operator: str) -> web.Response:
        try:
            self._steering.undrain(operator)
        except OnItsWayOut as late:
            return _problem(409, "conflict", str(late))
        return _json(200, {"draining": False})

    async def _transfer(self, request: web.BaseRequest, operator: str) -> web.Response:
        body = await _body(request, MAX_CALL_BYTES)
        if isinstance(body, web.Response):
            return body
        try:
            wish = msgspec.json.decode(body, type=Transfer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _problem(400, "malformed", 'send {"shard": number, "to": node id} as JSON')
        result = await self._steering.transfer(operator, wish.shard, wish.to)
        return _transferred(wish, result)

    async def _reload(self, operator: str) -> web.Response:
        try:
            done = await self._reloader.reload(f"operator {operator}")
        except ConfigError as error:
            return _problem(422, "bad-configuration", str(error))
        names = {"changed": done.changed, "needs_restart": done.needs_restart}
        return web.Response(body=msgspec.json.encode(names), content_type="application/json")

    async def _put_cluster(self, request: web.BaseRequest) -> web.Response:
        body = await _body(request, MAX_FILE_BYTES)
        if isinstance(body, web.Response):
            return body
        try:
            changed = await self._book.take(body)
        except Conflict as conflict:
            return _problem(409, "conflict", str(conflict))
        except ClusterFileError as error:
            # What the operator sent, or this node's own disk: the line tells which.
            mine = isinstance(error.__cause__, OSError)
            return _problem(503 if mine else 400, "disk" if mine else "malformed", str(error))
        answer = _json(200, {"revision": self._book.current.revision, "changed": changed})
        if changed:
            # The operator hears of it first: this node may be the one that was replaced.
            try:
                await answer.prepare(request)
                await answer.write_eof()
            finally:  # also when he has hung up
                self._book.obey_now()
        return answer

    def _operator(self, request: web.BaseRequest) -> str | None:
        """The operator's name; None for everybody else."""
        channel = request.get_extra_info("ssl_object")
        if not isinstance(channel, ssl.SSLObject):
            return None
        certificate = channel.getpeercert(binary_form=True)
        if certificate is None:
            return None
        try:
            identity = peer_identity(certificate, self._cluster_id)
        except CertificateError:
            return None
        return identity.name if isinstance(identity, OperatorIdentity) else None


def _unknown() -> web.Response:
    return _problem(404, "not-found", f"the calls are {CALLS}")


def _transferred(wish: Transfer, result: TransferResult) -> web.Response:
    match result:
        case HandedOver(leader):
            return _json(200, {"shard": wish.shard, "leader": leader})
        case NotLeader(leader):
            who = f"node {leader} does; ask that one" if leader else "no leader is known; wait"
            detail = f"this node does not lead shard {wish.shard}: {who}"
            return _problem(409, "not-leader", detail, leader=leader)
        case NoVoter(reason):
            return _problem(400, "malformed", reason)
        case Unwilling(reason):
            return _problem(409, "unwilling", f"{reason}; name another node, or mend it first")
        case NotInTime(leader):
            led = f"node {leader} leads it" if leader else "no leader is known"
            what = f"node {wish.to} was asked and does not lead shard {wish.shard}"
            return _problem(503, "no-quorum", f"{what}: {led}; look at its links and its HSM")
        case _:
            assert_never(result)


async def _body(request: web.BaseRequest, limit: int) -> bytes | web.Response:
    """The whole body of at most `limit` bytes, or the problem with it."""
    read = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while chunk := await request.content.readany():
                read += chunk
                if len(read) > limit:
                    return _problem(413, "too-large", f"this call takes at most {limit} bytes")
    except TimeoutError:
        return _problem(400, "malformed", f"the body did not arrive within {BODY_S:.0f} s")
    return bytes(read)


def _json(status: int, document: dict[str, str | bool | int | list[int]]) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(document), content_type="application/json"
    )


def _problem(status: int, code: str, detail: str, **more: int) -> web.Response:
    """An RFC 9457 problem, as on the client listener."""
    document = {
        "type": PROBLEM_TYPE_PREFIX + code,
        "status": status,
        "code": code,
        "detail": detail,
        **more,
    }
    return web.Response(
        status=status, body=msgspec.json.encode(document), content_type=PROBLEM_CONTENT_TYPE
    )
