"""The parts of one host and how they are put together; each part's file says what it is for.

Who needs few parts is handed those; who goes through all of them (`talk`, `readies`, `ticking`) is
handed this. Nothing is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.api import Counters
from cluster.compaction import Compaction
from cluster.core import Core, Group, Peer
from cluster.durability import Durability
from cluster.elections import Slots
from cluster.grace import Grace
from cluster.hashes import Hashes
from cluster.leadership import Leadership
from cluster.ledger_giver import LedgerGiver
from cluster.ledger_join import LedgerJoin
from cluster.machine import Machine
from cluster.marks import Gate, Memory
from cluster.overlay import Overlay, ShardRecords
from cluster.proposals import Proposals
from cluster.raft_start import raft_from
from cluster.reconcile import Reconcile
from cluster.record import Rules
from cluster.routing import Routing
from cluster.sending import SnapshotSender
from cluster.staging import SnapshotStager
from cluster.standing import Standing
from cluster.statehash import decode_hash
from cluster.transfers import Transfers
from cluster.watchers import Watchers

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.api import Shape
    from cluster.boot import BootState
    from cluster.ports import Ports
    from cluster.types import RecordId

NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything of one host but its conversations, its Readies and its turn."""

    core: Core
    rules: Rules
    nonce: bytes
    """Of this boot: a second process of the same incarnation has another one."""
    memory: Memory
    gate: Gate
    hashes: Hashes
    standing: Standing
    machine: Machine
    durability: Durability
    proposals: Proposals
    routing: Routing
    watchers: Watchers
    slots: Slots
    leadership: Leadership
    transfers: Transfers
    grace: Grace
    sender: SnapshotSender
    stager: SnapshotStager
    compaction: Compaction
    reconcile: Reconcile
    ledger_giver: LedgerGiver
    join: LedgerJoin


def make_parts(
    shape: Shape,
    state: BootState,
    ports: Ports,
    later: Callable[[Callable[[], None]], None],
    on_durable: Callable[[list[RecordId]], None],
) -> Parts:
    """Make them out of what `boot` read.

    Args:
        shape: the book, as this node sees it.
        state: what the disk had.
        ports: disk, HSM, network, time and randomness.
        later: runs a call on the loop thread after the present one.
        on_durable: called after every batch with the ledger rows that became durable.

    """
    core = _core(shape, state, ports, later)
    rules = Rules(shape.cluster_id, shape.limit)
    memory = Memory(core.peers, state.marks, shape.shards)
    durability = Durability(core, memory, on_durable)
    durability.incarnation = state.incarnation
    nonce = ports.random.randbytes(NONCE_BYTES)
    gate = Gate(nonce, [group.mark for group in core.groups], shape.majority - 1, core.peers)
    hashes = Hashes(core.peers, shape.shards)
    machine = _machine(core, rules, state)
    proposals = Proposals(shape.shards, later)
    sender = SnapshotSender(core)
    return Parts(
        core=core,
        rules=rules,
        nonce=nonce,
        memory=memory,
        gate=gate,
        hashes=hashes,
        standing=Standing(core, hashes, gate),
        machine=machine,
        durability=durability,
        proposals=proposals,
        routing=Routing(core, proposals, state.incarnation),
        watchers=Watchers(later),
        slots=Slots(core.raft, shape.seats[shape.node_id], shape.shards, ports.random),
        leadership=Leadership(core),
        transfers=Transfers(core),
        grace=Grace(shape.grace_s, machine, shape.shards),
        sender=sender,
        stager=SnapshotStager(core, rules, durability),
        compaction=Compaction(core, durability, sender),
        reconcile=Reconcile(core, sender),
        ledger_giver=LedgerGiver(core),
        join=LedgerJoin(core, rules, durability),
    )


def _core(
    shape: Shape, state: BootState, ports: Ports, later: Callable[[Callable[[], None]], None]
) -> Core:
    records = [
        ShardRecords(group.shard, group.row.slot, group.row.records, decode_hash(group.row.hash))
        for group in state.groups
    ]
    return Core(
        shape,
        ports,
        raft_from(shape.node_id, state.groups),
        [Group(group) for group in state.groups],
        {n: Peer(n, seat) for n, seat in sorted(shape.seats.items()) if n != shape.node_id},
        Overlay(ports.store, records, state.ledger_rows, state.ledger_hash),
        Counters(),
        later,
    )


def _machine(core: Core, rules: Rules, state: BootState) -> Machine:
    machine = Machine(rules, core.overlay, core.shape.node_id, core.ledger_refused)
    machine.incarnation = state.incarnation
    machine.full = [dict(group.full) for group in state.groups]
    machine.states = [dict(group.states) for group in state.groups]
    return machine
