"""What the parts of one host share: its shards, peers, seams and counters. Data, few decisions.

A `Group` mirrors what raft-rs was last told and what the disk and the HSM last confirmed; the three
are kept apart by name, because every rule of the host is about the distance between them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.frames import Outbox, ShardMark
from cluster.limits import MAX_ALARMS, MAX_HELD_MESSAGES
from cluster.proposals import NO_NODE
from cluster.room import Room
from cluster.tables import GroupRow
from cluster.types import NodeId, Seat, ShardId, check

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.api import Counters, Shape
    from cluster.boot import GroupState
    from cluster.overlay import Overlay
    from cluster.ports import Ports
    from engines._engines import MultiRaft

FOLLOWER, CANDIDATE, LEADER, PRE_CANDIDATE = range(4)
ROLE_NAMES = ("follower", "candidate", "leader", "pre-candidate")

TermVote = tuple[int, int]


class Group:
    """One shard's Raft bookkeeping; the records are in the overlay."""

    def __init__(self, state: GroupState) -> None:
        row = state.row
        self.shard: ShardId = state.shard
        # ---- as raft-rs has it
        self.term = row.term
        self.vote = row.vote
        self.commit = row.commit
        self.applied = row.applied
        self.applied_term = row.applied_term
        self.truncated_index = row.truncated_index
        self.truncated_term = row.truncated_term
        self.voters = tuple(NodeId(node) for node in row.voters)
        self.learners = tuple(NodeId(node) for node in row.learners)
        self.revision = row.revision
        """Highest revision of cluster.json that an applied change of members carried."""
        self.ledger = row.ledger
        """This node's ledger of the shard is complete."""
        self.last_index, self.last_term = state.last
        self.log_bytes = sum(len(entry[3]) for entry in state.entries)
        self.role = FOLLOWER
        self.leader = NO_NODE
        self.leader_changes = 0
        """How often this node saw another node lead, or the same one in a later term."""
        # ---- as the disk has it
        self.durable: TermVote = (row.term, row.vote)
        self.durable_applied = row.applied
        self.durable_ledger = row.ledger
        """…and that is on disk: only then may attempt shares be given."""
        self.mark = self.mark_now()
        """The durable mark."""
        self.told = self.mark
        """The mark that the peers were told last."""
        # ---- as the HSM has it
        self.stamped: TermVote = (row.term, row.vote)
        # ---- messages that wait
        self.held: list[tuple[int, bytes]] = []
        """For the batch being made or in flight."""
        self.waiting: deque[tuple[int, bytes]] = deque(maxlen=MAX_HELD_MESSAGES)
        """Durable, but not stamped yet."""
        # ---- erased bytes leave the log
        self.erase_index = row.commit if state.entries else 0
        self.erase_at: int | None = None
        self.committed_at_leader = 0

    @property
    def is_stamped(self) -> bool:
        """The HSM knows the (term, vote) that raft-rs is in; only then may this node speak."""
        return self.stamped == (self.term, self.vote)

    def mark_now(self) -> ShardMark:
        """The mark of what raft-rs has; durable when the batch is."""
        last = self.last_index if self.last_term == self.term else 0
        return ShardMark(self.shard, self.term, last, self.commit)

    def row(self, slot: int, records: int, state_hash: bytes) -> GroupRow:
        """The row for the next batch."""
        check(
            self.truncated_index <= self.applied <= self.commit <= self.last_index,
            f"shard {self.shard}: cut {self.truncated_index} <= applied {self.applied} <= commit"
            f" {self.commit} <= last {self.last_index} does not hold",
        )
        return GroupRow(
            self.term,
            self.vote,
            self.commit,
            self.applied,
            self.applied_term,
            self.truncated_index,
            self.truncated_term,
            self.voters,
            self.learners,
            slot,
            records,
            state_hash,
            self.revision,
            self.ledger,
        )


class Peer:
    """One other node: its link, what it said of itself, what waits for it."""

    def __init__(self, node_id: NodeId, seat: Seat) -> None:
        self.node_id = node_id
        self.seat = seat
        self.outbox = Outbox()
        self.untold: dict[int, ShardMark] = {}
        """Our marks, by shard, that go with the next frame to it."""
        self.inbox: deque[bytes] = deque()
        self.inbox_bytes = 0
        self.connected = False
        self.connected_since = 0
        self.welcomed = False
        """It answered our Hello on this link."""
        self.incarnation = 0
        """Of its accepted Hello; frames of any other are dropped."""
        self.last_contact: int | None = None
        self.rtt_ns: int | None = None
        self.beat_at: int | None = None
        self.hsm = False
        self.revision = 0
        """Of the book that it follows, as its last beat says."""
        self.leads_nothing = False
        """Its last beat says so, for whatever reason."""
        self.giver = b""
        self.ledger = b""

    def gives(self, shard: int) -> bool:
        """Its last beat says that it is a share-giver of the shard."""
        return _bit(self.giver, shard)

    def has_ledger(self, shard: int) -> bool:
        """Its last beat says that its ledger of the shard is complete."""
        return _bit(self.ledger, shard)


def _bit(bits: bytes, shard: int) -> bool:
    byte = shard >> 3
    return byte < len(bits) and bool(bits[byte] >> (shard & 7) & 1)


@dataclass(slots=True)
class Core:
    """The host's shared state."""

    shape: Shape
    ports: Ports
    raft: MultiRaft
    groups: list[Group]
    peers: dict[NodeId, Peer]
    overlay: Overlay
    counters: Counters
    later: Callable[[Callable[[], None]], None]
    """Run on the loop thread after the present call."""
    hsm: bool = True
    draining: bool = False
    """On its way out."""
    drained: bool = False
    """An operator had it step aside; it stays."""
    stopped: bool = False
    """Nothing is sent or called back any more."""
    room: Room = Room.ENOUGH
    """What the disk has left: SHORT leads nothing, FULL takes no entries."""
    contradicted: dict[ShardId, int] = field(default_factory=dict)
    """Shards of which somebody, as a leader, had a log that lacks what is committed here, and the
    commit index then."""
    incoming: dict[str, int] = field(default_factory=dict)
    """Bytes of each file on its way in, until it is gone: together they must fit (`copies`)."""
    slow_until: int = 0
    """Until then the disk counts as slow."""
    alarms: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_ALARMS))

    @property
    def slow(self) -> bool:
        """A batch took very long, now or a little while ago."""
        return self.now() < self.slow_until

    @property
    def unsettled(self) -> list[ShardId]:
        """Contradicted shards whose log has not gone on since.

        One peer's word may be a lie; a leader whose log goes on from here proves that it was.
        """
        known = self.contradicted.items()
        return [shard for shard, commit in known if self.groups[shard].commit <= commit]

    def outdated(self, group: Group) -> bool:
        """The shard has seen a newer book than this node's: who leads by it, leaves members out.

        By shard: the revision is an owned leader's word, and it must not reach other shards.
        """
        return group.revision > self.shape.revision

    @property
    def aside(self) -> bool:
        """This node leads nothing if it can help it, and does not stand for election."""
        return self.draining or self.drained or self.room is not Room.ENOUGH or self.slow

    def now(self) -> int:
        """Monotonic nanoseconds."""
        return self.ports.clock.monotonic_ns()

    def ledger_refused(self, shard: ShardId, why: str) -> None:
        """This node's ledger did not follow what the log allowed: an alarm, of no named record.

        With a complete ledger no honest log leads there, so it is counted too: somebody may have
        got more guesses than the limit elsewhere.
        """
        self.alarm(f"shard {shard}: the ledger of this node refused what the log allowed: {why}")
        self.counters.budget_violations += self.groups[shard].ledger

    def alarm(self, text: str) -> None:
        """Say what an operator must see; repeated texts are kept once."""
        if text not in self.alarms:
            self.alarms.append(text)

    def alarm_over(self, beginning: str) -> None:
        """What an alarm of this beginning said is so no longer."""
        for text in [each for each in self.alarms if each.startswith(beginning)]:
            self.alarms.remove(text)
