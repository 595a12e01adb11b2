"""What a node asks of its Raft host: results, verdicts, status, and the host itself as a Protocol.

The node and the runtime are written against `VaultHost`; `cluster.host.Host` is the one that
exists. Everything is called on the loop thread; every callback comes on it, never from inside the
call that registered it. I12 lives in the difference of `NotAppended` and `Unknown`.
"""

# ruff: noqa: TC001, TC003 - msgspec reads the annotations at run time

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from cluster import book
from cluster.cluster_file import ClusterFile
from cluster.commands import Command, Outcome
from cluster.handover import TransferResult
from cluster.ledger import LedgerRow
from cluster.record import Record, RecordState
from cluster.room import Room
from cluster.types import (
    AttemptId,
    Era,
    Index,
    NodeId,
    RecordId,
    RegistrationId,
    Seat,
    ShardId,
    Term,
)


class HostStopped(Exception):  # noqa: N818 - it says what happened, and the node ends with it
    """The host met something that it must not survive; the process exits non-zero, one line."""


class Shape(Struct, frozen=True, forbid_unknown_fields=True):
    """What the host needs of cluster.json ("the book"), and who it is."""

    cluster_id: UUID
    node_id: NodeId
    seats: Mapping[NodeId, Seat]
    """The members, one per seat: what the configuration of every shard is to become."""
    shards: int
    limit: int
    grace_s: float
    threshold: int
    founders: tuple[NodeId, ...]
    """The members at the creation, ascending: the voters that every shard began with."""
    retired: Mapping[NodeId, NodeId]
    """Every replaced node, and who took its seat from it. None of them ever comes back."""
    revision: int
    """Of the book: +1 with each replacement."""

    @classmethod
    def of(cls, cluster: ClusterFile, node_id: NodeId) -> Shape:
        """The shape of a cluster file as node `node_id` sees it.

        A retired node gets one too: with it, boot refuses and a running host stops, and both say
        who replaced it.

        Raises:
            ClusterFileError: no node has, or ever had, this id.

        """
        retired = {
            gone: successor
            for gone in sorted(cluster.retired_ids())
            if (successor := cluster.successor(gone)) is not None
        }
        if node_id not in retired:
            cluster.node(node_id)
        return cls(
            cluster_id=cluster.cluster_id,
            node_id=node_id,
            seats={entry.id: entry.seat for entry in cluster.nodes},
            shards=cluster.shards,
            limit=cluster.limit,
            grace_s=float(cluster.grace_s),
            threshold=cluster.threshold,
            founders=cluster.founders(),
            retired=retired,
            revision=cluster.revision,
        )

    @property
    def majority(self) -> int:
        """More than half of the seats."""
        return len(self.seats) // 2 + 1

    def retirement(self) -> str | None:
        """The one line with which this node ends if the book retired it; None if it is a member."""
        successor = self.retired.get(self.node_id)
        if successor is None:
            return None
        return book.retirement(self.node_id, successor, self.revision)


class Applied(Struct, frozen=True):
    """The command was applied here; `outcome` is of its own index."""

    outcome: Outcome
    shard: ShardId
    index: Index
    sends: int
    """How often the command was sent towards a log; after more than one, `replayed` is unknown."""
    jumped: bool
    """A snapshot jumped over an earlier send: `replayed` is unknown."""


class NotAppended(Struct, frozen=True):
    """It provably is in no log and never will be: charged `no`. `busy` means 429."""

    reason: str


class Unknown(Struct, frozen=True):
    """It was sent and its fate is not known here: charged `unknown`."""

    reason: str
    sends: int


ProposalResult = Applied | NotAppended | Unknown


class Proposal(Protocol):
    """A command under way."""

    def cancel(self) -> None:
        """Nobody waits any more: `done` is not called, nothing more is sent."""
        ...


class Give(Struct, frozen=True):
    """Compute the share, for exactly this registration and era."""

    registration_id: RegistrationId
    era: Era


class Wait(Struct, frozen=True):
    """Not charged here yet, or charged and not durable: ask again after `watch` fires."""


class LaterEra(Struct, frozen=True):
    """The record is beyond the era asked for."""

    era: Era


class LedgerFull(Struct, frozen=True):
    """This node's ledger gives no more shares for this registration before a proof."""


class NotAGiver(Struct, frozen=True):
    """This node is no share-giver of the shard now."""

    reason: str


class Refused(Struct, frozen=True):
    """Never, for this attempt."""

    reason: str


ShareVerdict = Give | Wait | LaterEra | LedgerFull | NotAGiver | Refused


class Giver(Struct, frozen=True):
    """A share-giver heard within 2 s (this node itself with rtt 0)."""

    node_id: NodeId
    seat: Seat
    rtt_ms: float


class GroupReport(Struct, frozen=True):
    """One shard as this node sees it."""

    shard: ShardId
    role: str
    """follower | candidate | leader | pre-candidate."""
    leader: NodeId
    """0: none known."""
    term: Term
    commit: Index
    applied: Index
    first_index: Index
    last_index: Index
    records: int
    hash_index: Index
    hash: str
    """Hex state hash at `hash_index`, the last exchanged point."""
    stamped: bool
    """The HSM stamp covers this shard's (term, vote)."""
    lags: Mapping[NodeId, int]
    """Leader only: entries that each peer is behind."""
    catching_up: bool
    """A snapshot is being fetched or staged."""
    voters: tuple[NodeId, ...]
    """As applied here, ascending."""
    learners: tuple[NodeId, ...]
    revision: int
    """Highest revision of cluster.json that an applied change of members carried; 0: none yet."""
    ledger_complete: bool
    """This node may give attempt shares here: a founder, or its ledger was merged, durably."""
    leader_changes: int = 0
    """Since start, as seen here."""
    states: Mapping[RecordState, int] = {}
    """Records by state, as applied here; those without a registration are `none`."""


class PeerReport(Struct, frozen=True):
    """One other node as this node sees it."""

    node_id: NodeId
    seat: Seat
    connected: bool
    rtt_ms: float | None
    last_contact_ms: float | None
    hsm: bool
    share_giver_shards: int
    leads_nothing: bool
    """If it can help it: on its way out, short of disk space, or its disk is slow."""


class Counters(Struct):
    """Since start; for metrics."""

    turns: int = 0
    batches: int = 0
    entries_applied: int = 0
    commands_applied: int = 0
    proposals: int = 0
    forwards_sent: int = 0
    forwards_received: int = 0
    nacks_sent: int = 0
    nacks_received: int = 0
    resends: int = 0
    frames_sent: int = 0
    frames_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    frames_dropped: int = 0
    ticks: int = 0
    stamps: int = 0
    stamp_failures: int = 0
    snapshots_built: int = 0
    snapshots_installed: int = 0
    snapshots_failed: int = 0
    elections_won: int = 0
    barriers: int = 0
    lockouts: int = 0
    """Records that ended as locked, as applied here."""
    budget_violations: int = 0
    """Moves of the log that this node's complete ledger refused. Anything but 0 is an alarm."""


class HostStatus(Struct, frozen=True):
    """Everything that admin, console, metrics and tests may see. No secrets in it."""

    node_id: NodeId
    revision: int
    """Of the cluster.json that this node has adopted."""
    incarnation: int
    stepping: bool
    """False until two other voters returned this node's marks, and while not stamped."""
    waiting_for: str
    """Why `stepping` is False, or empty."""
    hsm: bool
    draining: bool
    groups: tuple[GroupReport, ...]
    peers: tuple[PeerReport, ...]
    hash_agreement: bool
    alarms: tuple[str, ...]
    """Newest last, at most 32."""
    counters: Counters
    batch_in_flight_ms: float
    """Age of the batch on disk now; 0.0 when none. Not ready at 2,000, exit at 30,000."""
    proposals: int
    """Commands of this node whose fate is open."""
    room: Room = Room.ENOUGH
    """What the disk has left, as it was told last."""
    slow_disk: bool = False
    """A batch takes over 2 s, or did in the last 10 s."""
    drained: bool = False
    """An operator had this node step aside: it leads nothing if it can help it."""


class VaultHost(Protocol):
    """The host of all Raft groups of one node."""

    # ---- driver (runtime): after any of these the driver sees to it that `turn` runs soon.
    def start(self) -> None:
        """Begin: write the incarnation, stamp it, then speak. Call once."""
        ...

    def on_frame(self, sender: NodeId, payload: bytes) -> None:
        """One whole host frame from the authenticated peer."""
        ...

    def on_link_up(self, peer: NodeId) -> None:
        """Our link to `peer` can carry frames."""
        ...

    def on_link_down(self, peer: NodeId) -> None:
        """Our link to `peer` is gone."""
        ...

    def on_tick(self) -> None:
        """Every 50 ms; missed ones are dropped."""
        ...

    def turn(self) -> None:
        """One turn of raft-host.md. The host calls `wake` (handed in) whenever it wants one."""
        ...

    # ---- node
    def propose(
        self,
        command: Command,
        *,
        timeout_s: float,
        done: Callable[[ProposalResult], None],
        shard: ShardId | None = None,
    ) -> Proposal:
        """Have `command` applied; `shard` for Barrier only, others go where record_id says."""
        ...

    def view(self, record_id: RecordId) -> tuple[Record | None, Index]:
        """The record as applied here, and the shard's applied index."""
        ...

    def ledger_row(self, record_id: RecordId) -> LedgerRow | None:
        """This node's durable ledger row."""
        ...

    def share_verdict(self, record_id: RecordId, era: Era, attempt_id: AttemptId) -> ShareVerdict:
        """May this node give its share for the attempt, now? (I1, I2, I3)."""
        ...

    def want_share(self, record_id: RecordId) -> None:
        """Somebody waits for a share of this record: make its ledger row durable soon."""
        ...

    def watch(self, record_id: RecordId, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each apply to the record, and after durability; returns the off."""
        ...

    def share_givers(self, shard: ShardId) -> list[Giver]:
        """Nearest first, this node included if it is one."""
        ...

    def set_hsm(self, *, working: bool) -> None:
        """The HSM came or went (health check of the node)."""
        ...

    def set_room(self, room: Room) -> None:
        """The disk has room again, is short of it, or nearly full."""
        ...

    def adopt(self, shape: Shape) -> None:
        """Go on with a newer book: peers of new members come, those of retired ones go.

        Call it when links to the new members may come up (before the first `on_link_up` of one)
        and the links of the retired ones are cut. The same book again changes nothing.

        Raises:
            HostStopped: the book retired this very node.
            InvariantError: another vault or node, an older book, or a different one of the same
                revision: check with `cluster_file.extends` before.

        """
        ...

    def status(self) -> HostStatus:
        """A consistent picture; cheap enough for once a second."""
        ...

    def drain(self, done: Callable[[], None]) -> None:
        """Refuse new proposals, hand leadership over; `done` when nothing is led, or at 5 s."""
        ...

    def set_drained(self, *, drained: bool) -> None:
        """Lead nothing, or lead again; all else goes on: votes, shares, proposals of this node.

        A shard that nobody else would lead stays.
        """
        ...

    def transfer(self, shard: int, to: int, done: Callable[[TransferResult], None]) -> None:
        """Have node `to` lead the shard that this node leads; `done` within 5 s."""
        ...

    def balance(self) -> list[ShardId]:
        """Ask the preferred seat of each shard led here to lead it; the shards asked for."""
        ...

    def stop(self) -> None:
        """Nothing more is sent or called back."""
        ...
