"""The admin listener: mutual TLS, role operator; it shows the node's state and can drain it.

Nothing here resets a count, unlocks, or reads a password, key or sealed record (I6, I11): there
is no such call on any listener. A peer's certificate is not an operator's.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from cluster.certificates import CertificateError, OperatorIdentity, peer_identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.cluster_file import ClusterFile
    from node.health import Health


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
        cluster: ClusterFile,
        node_id: int,
        health: Health,
        *,
        version: str,
        uptime_s: Callable[[], float],
        drain: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._entry = cluster.node(node_id)
        self._health = health
        self._version = version
        self._uptime_s = uptime_s
        self._drain = drain

    async def serve(self, request: web.BaseRequest) -> web.Response:
        """Answer one request of an operator."""
        if not self._is_operator(request):
            return _json(403, {"code": "forbidden", "detail": "an operator's certificate, please"})
        match request.method, request.path:
            case "GET", "/v1/status":
                return web.Response(
                    body=msgspec.json.encode(self.report()), content_type="application/json"
                )
            case "POST", "/v1/drain":
                self._drain()
                return _json(200, {"draining": True})
            case _:
                return _json(404, {"code": "not-found", "detail": "GET /v1/status, POST /v1/drain"})

    def _is_operator(self, request: web.BaseRequest) -> bool:
        channel = request.get_extra_info("ssl_object")
        if not isinstance(channel, ssl.SSLObject):
            return False
        certificate = channel.getpeercert(binary_form=True)
        if certificate is None:
            return False
        try:
            identity = peer_identity(certificate, self._cluster.cluster_id)
        except CertificateError:
            return False
        return isinstance(identity, OperatorIdentity)

    def report(self) -> StatusReport:
        """Everything that an operator may see of this node."""
        picture, checks = self._health.look()
        status, space = picture.status, picture.space
        return StatusReport(
            node=self._entry.id,
            seat=self._entry.seat,
            dc=self._entry.dc,
            cluster_id=str(self._cluster.cluster_id),
            version=self._version,
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


def _json(status: int, document: dict[str, str | bool]) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(document), content_type="application/json"
    )
