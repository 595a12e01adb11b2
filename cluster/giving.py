"""May this node give its share for an attempt? It keeps I1, I2, I3 and I9.

Only when the record applied here lists the attempt in the era asked for, this node's ledger has it
too and that very ledger row is durable here, and nothing about this node is in doubt. What is not
so yet is `Wait`; what can never be is refused at once, so that nobody waits in vain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import ledger
from cluster.api import (
    Give,
    Giver,
    LaterEra,
    LedgerFull,
    Refused,
    ShareVerdict,
    Wait,
)
from cluster.ledger import ShareRefusal
from cluster.limits import GIVER_NS
from cluster.types import AttemptId, Era, RecordId, RegistrationId, ShardId

if TYPE_CHECKING:
    from cluster.core import Core, Peer
    from cluster.record import Record, Rules


def giver_bits(core: Core, *, doubt: bool) -> bytes:
    """For the beat: the shards of which this node is a share-giver."""
    bits = bytearray((core.shape.shards + 7) // 8)
    if core.hsm and not doubt:
        for group in core.groups:
            if core.shape.node_id in group.voters and group.durable_ledger:
                bits[group.shard >> 3] |= 1 << (group.shard & 7)
    return bytes(bits)


def ledger_bits(core: Core) -> bytes:
    """For the beat: the shards of which this node's ledger is complete."""
    bits = bytearray((core.shape.shards + 7) // 8)
    for group in core.groups:
        if group.durable_ledger:
            bits[group.shard >> 3] |= 1 << (group.shard & 7)
    return bytes(bits)


def heard_giver(core: Core, peer: Peer, shard: ShardId, now: int) -> bool:
    """The peer's beat of the last 2 s says that it gives, and it is a voter as applied here."""
    return (
        peer.connected
        and peer.beat_at is not None
        and now - peer.beat_at <= GIVER_NS
        and peer.gives(shard)
        and peer.node_id in core.groups[shard].voters
    )


def givers(core: Core, shard: ShardId, *, self_gives: bool) -> list[Giver]:
    """The share-givers of a shard, nearest first, one per seat."""
    now = core.now()
    found: list[Giver] = []
    if self_gives:
        found.append(Giver(core.shape.node_id, core.shape.seats[core.shape.node_id], 0.0))
    for peer in core.peers.values():
        if heard_giver(core, peer, shard, now):
            rtt_ms = float("inf") if peer.rtt_ns is None else peer.rtt_ns / 1e6
            found.append(Giver(peer.node_id, peer.seat, rtt_ms))
    found.sort(key=lambda giver: (giver.rtt_ms, giver.seat))
    seats: set[int] = set()
    nearest: list[Giver] = []
    for giver in found:
        if giver.seat not in seats:
            seats.add(giver.seat)
            nearest.append(giver)
    return nearest


def verdict(
    core: Core, rules: Rules, shard: ShardId, record_id: RecordId, era: Era, attempt_id: AttemptId
) -> ShareVerdict:
    """Decide for one attempt; the caller has made sure that this node is a giver."""
    stored = core.overlay.record(shard, record_id)
    record = None if stored is None else stored[0]
    known_era = 0 if record is None else record.era
    if known_era < era:
        return Wait()
    if known_era > era:
        return LaterEra(Era(known_era))
    if record is None or record.active is None:
        return Refused("nothing is registered in this era")
    if attempt_id not in record.attempts:
        if len(record.attempts) >= rules.limit:
            return Refused("the list is full without this attempt")
        return Wait()
    return _by_ledger(core, rules, record, record_id, attempt_id)


def _by_ledger(
    core: Core, rules: Rules, record: Record, record_id: RecordId, attempt_id: AttemptId
) -> ShareVerdict:
    if record.active is None:
        return Refused(ShareRefusal.NOT_ACTIVE)
    registration = record.active.registration_id
    applied = core.overlay.row(record_id)
    row = None if applied is None else applied[0]
    refusal = ledger.may_share(rules, row, record, registration, attempt_id)
    if refusal is ShareRefusal.LEDGER_FULL:
        return LedgerFull()
    if refusal is not None:
        return Refused(refusal)
    durable = core.overlay.durable_row(record_id)
    if ledger.may_share(rules, durable, record, registration, attempt_id) is not None:
        return Wait()
    return Give(RegistrationId(registration), Era(record.era))
