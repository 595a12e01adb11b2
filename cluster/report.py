"""The host's picture of itself for operators, metrics and tests; names and numbers, no secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cluster.api import GroupReport, HostStatus, PeerReport
from cluster.core import LEADER, ROLE_NAMES
from cluster.limits import GIVER_NS, MS
from cluster.types import Index, NodeId, Term

if TYPE_CHECKING:
    from cluster.core import Core, Group, Peer
    from cluster.durability import Durability
    from cluster.hashes import Hashes
    from cluster.record import RecordState
    from cluster.staging import SnapshotStager


def status(
    core: Core,
    durability: Durability,
    hashes: Hashes,
    *,
    stager: SnapshotStager,
    states: list[dict[RecordState, int]],
    proposals: int,
    waiting_for: str,
) -> HostStatus:
    """Everything at one moment."""
    now = core.now()
    return HostStatus(
        node_id=core.shape.node_id,
        revision=core.shape.revision,
        incarnation=durability.incarnation,
        stepping=not waiting_for,
        waiting_for=waiting_for,
        hsm=core.hsm,
        draining=core.draining,
        groups=tuple(
            _group(core, group, hashes, stager, dict(states[group.shard])) for group in core.groups
        ),
        peers=tuple(_peer(core, peer, now) for peer in core.peers.values()),
        hash_agreement=not hashes.doubt,
        alarms=tuple(core.alarms),
        counters=msgspec.structs.replace(core.counters),
        batch_in_flight_ms=durability.age_ms(now),
        proposals=proposals,
        room=core.room,
        slow_disk=core.slow,
        drained=core.drained,
    )


def _group(
    core: Core,
    group: Group,
    hashes: Hashes,
    stager: SnapshotStager,
    states: dict[RecordState, int],
) -> GroupReport:
    lags: dict[NodeId, int] = {}
    if group.role == LEADER:
        progress = core.raft.status(group.shard).progress
        for node, matched, _, _, _ in progress:
            if node != core.shape.node_id:
                lags[NodeId(node)] = max(0, group.last_index - matched)
    point = hashes.last(group.shard)
    return GroupReport(
        shard=group.shard,
        role=ROLE_NAMES[group.role],
        leader=group.leader,
        term=Term(group.term),
        commit=Index(group.commit),
        applied=Index(group.applied),
        first_index=Index(group.truncated_index + 1),
        last_index=Index(group.last_index),
        records=core.overlay.shards[group.shard].count,
        hash_index=Index(0 if point is None else point[0]),
        hash="" if point is None else point[1].hex(),
        stamped=group.is_stamped,
        lags=lags,
        catching_up=stager.active(group.shard),
        voters=group.voters,
        learners=group.learners,
        revision=group.revision,
        ledger_complete=group.durable_ledger,
        leader_changes=group.leader_changes,
        states=states,
    )


def _peer(core: Core, peer: Peer, now: int) -> PeerReport:
    fresh = peer.connected and peer.beat_at is not None and now - peer.beat_at <= GIVER_NS
    shards = sum(1 for shard in range(core.shape.shards) if fresh and peer.gives(shard))
    return PeerReport(
        node_id=peer.node_id,
        seat=peer.seat,
        connected=peer.connected,
        rtt_ms=None if peer.rtt_ns is None else peer.rtt_ns / MS,
        last_contact_ms=None if peer.last_contact is None else (now - peer.last_contact) / MS,
        hsm=fresh and peer.hsm,
        share_giver_shards=shards,
        leads_nothing=peer.leads_nothing,
    )
