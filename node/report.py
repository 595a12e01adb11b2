"""What one node says of itself to operators: names, numbers and reasons, no secrets, no accounts.

A picture of the moment: the host's own report, the named checks, and what only the process knows
(its certificates, its timings, its limits).
"""

# ruff: noqa: TC001 - msgspec reads the annotations at run time

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from node import certificates_left
from node.certificates_left import CertificateLine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cluster.links import LinkReport
    from node.book import Book
    from node.health import Health
    from node.reload import Reloader
    from node.timings import Timings

MAX_ERROR: Final = 200
"""Characters of a link's error that are shown: a peer may have had a say in it."""


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
    lags: dict[int, int]
    """Leader only: entries that each other node is behind."""


class PeerLine(Struct, frozen=True):
    """One other node as this node sees it."""

    node: int
    seat: int
    connected: bool
    rtt_ms: float | None
    last_contact_ms: float | None
    hsm: bool
    share_giver: bool
    dc: str
    last_error: str
    """Why this node's link to it is down; empty: it is up, or was not tried yet."""


class SpaceReport(Struct, frozen=True):
    """Bytes."""

    map_used: int
    map_total: int
    disk_free: int
    disk_total: int


class LimitsReport(Struct, frozen=True):
    """How much this node takes on."""

    concurrent_requests: int
    account_per_minute: int
    """0: no limit."""
    body_bytes: int


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
    certificates: list[CertificateLine]
    fsync_p99_ms: float | None
    """Of the last 1,000 batches; null before the first."""
    loop_lag_ms: float
    """The worst of the last 10 s."""
    log_level: str
    limits: LimitsReport
    room: str
    """Disk space: enough, short or full."""
    failed_reload: str = ""
    """Why the last reload was refused; empty when it was not, or there was none."""
    leaving: bool = False
    """It was told to stop, and will be gone in a moment."""
    events: int = 0
    """Sequence number of the newest event (GET /v1/events)."""


class Reporter:
    """Makes the reports of one node."""

    def __init__(
        self,
        book: Book,
        reloader: Reloader,
        health: Health,
        timings: Timings,
        *,
        version: str,
        uptime_s: Callable[[], float],
        links: Callable[[], Sequence[LinkReport]],
        events: Callable[[], int],
    ) -> None:
        self._book = book
        self._entry = book.current.node(reloader.running.loaded.config.node_id)
        self._reloader = reloader
        self._health = health
        self._timings = timings
        self._version = version
        self._uptime_s = uptime_s
        self._links = links
        self._events = events

    def report(self) -> StatusReport:
        """Everything that an operator may see of this node."""
        picture, checks = self._health.look_again()
        status, space, running = picture.status, picture.space, self._reloader.running
        config, limits = running.loaded.config, running.loaded.config.limits
        places = {entry.id: entry.dc for entry in self._book.current.nodes}
        errors = {link.peer: link.last_error for link in self._links()}
        return StatusReport(
            node=self._entry.id,
            seat=self._entry.seat,
            dc=self._entry.dc,
            cluster_id=str(self._book.current.cluster_id),
            version=self._version,
            revision=self._book.current.revision,
            ready=all(check.ok for check in checks),
            checks={check.name: CheckReport(check.ok, check.detail) for check in checks},
            incarnation=status.incarnation,
            hsm=HsmReport(picture.hsm, picture.hsm_reason),
            draining=picture.draining or picture.drained,
            leaving=picture.draining,
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
                    lags={int(node): lag for node, lag in group.lags.items()},
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
                    dc=places.get(peer.node_id, ""),
                    last_error=errors.get(peer.node_id, "")[:MAX_ERROR],
                )
                for peer in status.peers
            ],
            hash_agreement="agrees" if status.hash_agreement else "differs",
            space=SpaceReport(space.map_used, space.map_total, space.disk_free, space.disk_total),
            alarms=[*status.alarms, *self._reloader.alarms],
            uptime_s=round(self._uptime_s(), 1),
            certificates=certificates_left.lines(running.pair.held, dt.datetime.now(dt.UTC)),
            fsync_p99_ms=self._timings.fsync_p99_ms(),
            loop_lag_ms=self._timings.loop_lag_ms(),
            log_level=config.log_level,
            limits=LimitsReport(
                limits.concurrent_requests, limits.account_per_minute, limits.body_bytes
            ),
            room=status.room.value,
            failed_reload=self._reloader.failed,
            events=self._events(),
        )
