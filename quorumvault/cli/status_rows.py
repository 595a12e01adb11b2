"""What ``cluster status`` shows of each node, from the reports of all (pure).

A row has numbers; `status_table` makes text of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from node.foreign import cut
from node.verdict_links import Silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from node.report import StatusReport
    from node.verdict import NodeLine, Overview

MAX_VERSION = 40
"""Characters of a version that are shown."""


@dataclass(frozen=True)
class Row:
    """One node. What it says of itself is None where it says nothing."""

    node: int
    seat: int
    dc: str
    state: str
    """ready, drained, not ready, cut off, or no answer."""
    leads: int
    voter_in: int | None
    """Shards in which it has a vote."""
    lag: int | None
    heard_ms: float | None
    """Since another node that answers heard it last; None: none has."""
    fsync_p99_ms: float | None
    rtt_min_ms: float | None
    rtt_max_ms: float | None
    """To its peers, as it measures."""
    hsm: str
    certificate_days: int | None
    """Of its certificate that ends first."""
    alarms: list[str]
    state_hash: str
    room: str
    disk_free: int | None
    version: str
    uptime_s: float | None
    problem: str

    def to_dict(self) -> dict[str, Any]:
        """For ``-o json``."""
        return asdict(self)


def rows(overview: Overview, reports: Mapping[int, StatusReport | Silent]) -> list[Row]:
    """One for every node of the overview, in its order."""
    answering = {node: r for node, r in reports.items() if not isinstance(r, Silent)}
    return [_row(line, answering, len(overview.nodes)) for line in overview.nodes]


def _row(line: NodeLine, answering: Mapping[int, StatusReport], members: int) -> Row:
    heard = [
        peer.last_contact_ms
        for node, report in answering.items()
        if node != line.node
        for peer in report.peers
        if peer.node == line.node and peer.last_contact_ms is not None
    ]
    report = answering.get(line.node)
    rtts = [] if report is None else [p.rtt_ms for p in report.peers if p.rtt_ms is not None]
    days = [] if report is None else [each.days_left for each in report.certificates]
    return Row(
        node=line.node,
        seat=line.seat,
        dc=line.dc,
        state=_state(line, report, members),
        leads=line.leads,
        voter_in=None if report is None else sum(line.node in g.voters for g in report.groups),
        lag=line.lag,
        heard_ms=min(heard, default=None),
        fsync_p99_ms=None if report is None else report.fsync_p99_ms,
        rtt_min_ms=min(rtts, default=None),
        rtt_max_ms=max(rtts, default=None),
        hsm=line.hsm,
        certificate_days=min(days, default=None),
        alarms=[] if report is None else list(report.alarms),
        state_hash=line.state_hash,
        room="unknown" if report is None else report.room,
        disk_free=None if report is None else report.space.disk_free,
        version="" if report is None else cut(report.version, MAX_VERSION),
        uptime_s=None if report is None else report.uptime_s,
        problem=line.problem,
    )


def _state(line: NodeLine, report: StatusReport | None, members: int) -> str:
    """One word for an operator: the one that decides what to do."""
    if report is None:
        return "no answer"
    connected = sum(peer.connected for peer in report.peers)
    if 1 + connected < members // 2 + 1:
        return "cut off"
    if report.draining:
        return "drained"
    return "ready" if line.ready else "not ready"
