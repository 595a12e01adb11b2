"""The admin listener: mutual TLS, role operator; state, drain, and who the members are.

Nothing here resets a count, unlocks, or reads a password, key or sealed record (I6, I11): there
is no such call on any listener. A peer's certificate is not an operator's. A new cluster file says
who the members are; that it is obeyed one change at a time, and never at the cost of the quorum,
is the leaders' business.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from cluster.certificates import CertificateError, OperatorIdentity, peer_identity
from cluster.cluster_file import MAX_FILE_BYTES, ClusterFileError, encode
from node.book import Conflict
from node.problems import PROBLEM_CONTENT_TYPE, PROBLEM_TYPE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from node.book import Book
    from node.health import Health

BODY_S: Final = 10.0
"""A cluster file has some 3 KiB."""
CALLS: Final = "GET /v1/status, POST /v1/drain, GET /v1/cluster, PUT /v1/cluster"


class CheckReport(Struct, frozen=True):
    """One readiness check."""

    ok: bool
    detail: str


class HsmReport(Struct, frozen=True):
    """The HSM."""

    healthy: bool
    reason: str


class GroupLine(Struct, frozen=True):
    """One shard as this node sees it."""

    shard: int
    role: str
    leader: int
    term: int
    commit: int
    applied: int
    last_index: int
    records: int
    hash_index: int
    hash: str
    voters: tuple[int, ...]
    learners: tuple[int, ...]
    revision: int
    ledger_complete: bool


class PeerLine(Struct, frozen=True):
    """One other node as this node sees it."""

    node: int
    seat: int
    connected: bool
    rtt_ms: float | None
    last_contact_ms: float | None
    hsm: bool
    share_giver: bool


class SpaceReport(Struct, frozen=True):
    """Bytes."""

    map_used: int
    map_total: int
    disk_free: int
    disk_total: int


class StatusReport(Struct, frozen=True):
    """GET /v1/status."""

    node: int
    seat: int
    dc: str
    cluster_id: str
    version: str
    revision: int
    ready: bool
    checks: dict[str, CheckReport]
    incarnation: int
    hsm: HsmReport
    draining: bool
    groups: list[GroupLine]
    peers: list[PeerLine]
    hash_agreement: Literal["agrees", "differs"]
    space: SpaceReport
    alarms: list[str]
    uptime_s: float


class Admin:
    """Handlers of the admin listener."""

    def __init__(
        self,
        book: Book,
        node_id: int,
        health: Health,
        *,
        version: str,
        uptime_s: Callable[[], float],
        drain: Callable[[], None],
    ) -> None:
        self._book = book
        self._cluster_id = book.current.cluster_id
        self._entry = book.current.node(node_id)
        self._health = health
        self._version = version
        self._uptime_s = uptime_s
        self._drain = drain

    async def serve(self, request: web.BaseRequest) -> web.Response:
        """Answer one request of an operator."""
        if not self._is_operator(request):
            return _problem(403, "forbidden", "an operator's certificate, please")
        match request.method, request.path:
            case "GET", "/v1/status":
                return web.Response(
                    body=msgspec.json.encode(self.report()), content_type="application/json"
                )
            case "POST", "/v1/drain":
                self._drain()
                return _json(200, {"draining": True})
            case "GET", "/v1/cluster":
                return web.Response(
                    body=encode(self._book.current), content_type="application/json"
                )
            case "PUT", "/v1/cluster":
                return await self._put_cluster(request)
            case _:
                return _problem(404, "not-found", f"the calls are {CALLS}")

    async def _put_cluster(self, request: web.BaseRequest) -> web.Response:
        try:
            async with asyncio.timeout(BODY_S):
                body = await _body(request)
        except TimeoutError:
            return _problem(400, "malformed", f"the body did not arrive within {BODY_S:.0f} s")
        if body is None:
            return _problem(413, "too-large", f"a cluster file has at most {MAX_FILE_BYTES} bytes")
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

    def _is_operator(self, request: web.BaseRequest) -> bool:
        channel = request.get_extra_info("ssl_object")
        if not isinstance(channel, ssl.SSLObject):
            return False
        certificate = channel.getpeercert(binary_form=True)
        if certificate is None:
            return False
        try:
            identity = peer_identity(certificate, self._cluster_id)
        except CertificateError:
            return False
        return isinstance(identity, OperatorIdentity)

    def report(self) -> StatusReport:
        """Everything that an operator may see of this node."""
        picture, checks = self._health.look_again()
        status, space = picture.status, picture.space
        return StatusReport(
            node=self._entry.id,
            seat=self._entry.seat,
            dc=self._entry.dc,
            cluster_id=str(self._cluster_id),
            version=self._version,
            revision=self._book.current.revision,
            ready=all(check.ok for check in checks),
            checks={check.name: CheckReport(check.ok, check.detail) for check in checks},
            incarnation=status.incarnation,
            hsm=HsmReport(picture.hsm, picture.hsm_reason),
            draining=picture.draining,
            groups=[
                GroupLine(
                    shard=group.shard,
                    role=group.role,
                    leader=group.leader,
                    term=group.term,
                    commit=group.commit,
                    applied=group.applied,
                    last_index=group.last_index,
                    records=group.records,
                    hash_index=group.hash_index,
                    hash=group.hash,
                    voters=group.voters,
                    learners=group.learners,
                    revision=group.revision,
                    ledger_complete=group.ledger_complete,
                )
                for group in status.groups
            ],
            peers=[
                PeerLine(
                    node=peer.node_id,
                    seat=peer.seat,
                    connected=peer.connected,
                    rtt_ms=peer.rtt_ms,
                    last_contact_ms=peer.last_contact_ms,
                    hsm=peer.hsm,
                    share_giver=peer.share_giver_shards > 0,
                )
                for peer in status.peers
            ],
            hash_agreement="agrees" if status.hash_agreement else "differs",
            space=SpaceReport(space.map_used, space.map_total, space.disk_free, space.disk_total),
            alarms=list(status.alarms),
            uptime_s=round(self._uptime_s(), 1),
        )


async def _body(request: web.BaseRequest) -> bytes | None:
    """The whole body; None when it is too large."""
    read = bytearray()
    while chunk := await request.content.readany():
        read += chunk
        if len(read) > MAX_FILE_BYTES:
            return None
    return bytes(read)


def _json(status: int, document: dict[str, str | bool | int]) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(document), content_type="application/json"
    )


def _problem(status: int, code: str, detail: str) -> web.Response:
    """An RFC 9457 problem, as on the client listener."""
    document = {
        "type": PROBLEM_TYPE_PREFIX + code,
        "status": status,
        "code": code,
        "detail": detail,
    }
    return web.Response(
        status=status, body=msgspec.json.encode(document), content_type=PROBLEM_CONTENT_TYPE
    )
