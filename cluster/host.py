"""The host of all Raft groups of one node: one turn after the other, in the order that is safe.

`turn` is raft-host.md's "One turn" and reads like it: step, tick, (batch in flight: stop here),
propose, take every Ready, send and deliver, make the batch durable. Everything runs on one loop
thread; disk, HSM, network, time and randomness are handed in (`cluster.ports`). Whatever leaves a
method as an exception ends the process: a host that is wrong about something must not go on (I9).
The parts: `talk` (frames and peers), `readies` (step 5), `durability` (batches, stamp), `machine`
(apply), `proposals` and `routing` (commands), `sending` and `staging` (snapshots), `compaction`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import book, giving
from cluster.api import Counters, HostStatus, HostStopped, NotAGiver, ProposalResult, Shape
from cluster.commands import Barrier, Command, Expire, encode_command
from cluster.compaction import Compaction
from cluster.core import LEADER, Core, Group, Peer
from cluster.durability import Durability
from cluster.elections import Slots
from cluster.giving import giver_bits, ledger_bits
from cluster.grace import Grace
from cluster.hashes import Hashes
from cluster.leadership import Leadership
from cluster.ledger_giver import LedgerGiver
from cluster.ledger_join import LedgerJoin
from cluster.limits import (
    GRACE_PERIOD_NS,
    HASH_PERIOD_NS,
    PROPOSER_DEADLINE_S,
    RECONCILE_NS,
    SECOND,
    SLOW_DISK_MS,
    SLOW_DISK_NS,
)
from cluster.machine import Machine
from cluster.marks import Gate, Memory
from cluster.overlay import Overlay, ShardRecords
from cluster.proposals import Proposals, Waiter
from cluster.raft_start import raft_from
from cluster.readies import Readies
from cluster.reconcile import Reconcile
from cluster.record import Record, Rules
from cluster.report import status
from cluster.room import Room
from cluster.routing import Routing
from cluster.sending import SnapshotSender
from cluster.staging import SnapshotStager
from cluster.statehash import decode_hash, encode_hash
from cluster.tables import META_IDENTITY, Identity, encode_row, slot_range
from cluster.talk import Talk
from cluster.types import AttemptId, Era, Index, NodeId, RecordId, ShardId, check
from cluster.watchers import Watchers
from engines.identifiers import shard_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.api import Giver, ShareVerdict
    from cluster.boot import BootState
    from cluster.ledger import LedgerRow
    from cluster.ports import Ports

NONCE_BYTES = 16


class Host:
    """See `cluster.api.VaultHost` for what each public method promises."""

    def __init__(self, shape: Shape, state: BootState, ports: Ports) -> None:
        self._shape = shape
        self._boot: BootState | None = state
        self._incarnation = state.incarnation
        raft = raft_from(shape.node_id, state.groups)
        groups = [Group(group) for group in state.groups]
        overlay = Overlay(
            ports.store,
            [
                ShardRecords(g.shard, g.row.slot, g.row.records, decode_hash(g.row.hash))
                for g in state.groups
            ],
            state.ledger_rows,
            state.ledger_hash,
        )
        peers = {n: Peer(n, s) for n, s in sorted(shape.seats.items()) if n != shape.node_id}
        core = Core(shape, ports, raft, groups, peers, overlay, Counters(), self._call_later)
        self._core = core
        self._rules = Rules(shape.cluster_id, shape.limit)
        self._later: list[Callable[[], None]] = []
        self._machine = Machine(self._rules, overlay, shape.node_id, core.alarm)
        self._machine.incarnation = state.incarnation
        self._machine.full = [dict(group.full) for group in state.groups]
        self._memory = Memory(peers, state.marks, shape.shards)
        self._durability = Durability(core, self._memory, self._on_durable)
        self._durability.incarnation = state.incarnation
        nonce = ports.random.randbytes(NONCE_BYTES)
        marks = [group.mark for group in groups]
        self._gate = Gate(nonce, marks, shape.majority - 1, peers)
        self._hashes = Hashes(peers, shape.shards)
        self._proposals = Proposals(shape.shards, self._call_later)
        self._routing = Routing(core, self._proposals, state.incarnation)
        self._slots = Slots(raft, shape.seats[shape.node_id], shape.shards, ports.random)
        self._grace = Grace(shape.grace_s, self._machine, shape.shards)
        self._leadership = Leadership(core)
        self._sender = SnapshotSender(core)
        self._stager = SnapshotStager(core, self._rules, self._durability)
        self._reconcile = Reconcile(core, self._sender)
        self._ledger_giver = LedgerGiver(core)
        self._join = LedgerJoin(core, self._rules, self._durability)
        self._compaction = Compaction(core, self._durability, self._sender)
        self._talk = Talk(core, self, nonce, state.incarnation)
        self._watchers = Watchers(self._call_later)
        self._readies = Readies(
            core,
            self._durability,
            self._machine,
            self._hashes,
            self._proposals,
            self._routing,
            self._sender,
            self._stager,
            self._reconcile,
            self._join,
            self._grace,
            self._watchers,
            self._talk,
        )
        self._started = False
        self._speaking = False
        self._stopped = False
        self._tick_due = False
        self._next_hash = self._next_grace = self._next_second = self._next_reconcile = 0
        self._last_grace = 0

    # ------------------------------------------------------------ start

    def start(self) -> None:
        """Write the incarnation, stamp it, then speak (rule a)."""
        boot, self._boot = self._boot, None  # it holds every log entry; raft-rs has them now
        check(boot is not None and not self._started, "host: start is called once")
        self._started = True
        if boot is None:
            return
        for name in self._core.ports.files.names():
            self._core.ports.files.remove(name)
        for each in self._core.groups:
            self._reconcile.compare(each)
        log = self._durability.log
        for group in boot.groups:
            if group.leftovers:
                log.delete_range("records", *slot_range(group.shard, group.row.slot ^ 1))
        if boot.founding:
            self._durability.dirty = {group.shard for group in self._core.groups}
        if not boot.incarnation_on_disk:
            shape = self._shape
            identity = Identity(
                shape.cluster_id.bytes, shape.node_id, shape.shards, shape.limit, boot.incarnation
            )
            log.put("meta", META_IDENTITY, encode_row(identity))
        self._durability.force()
        self._durability.finish(self._core.now())

    def _on_durable(self, rows: list[RecordId]) -> None:
        """A batch is durable; the first one lets this boot be stamped."""
        if not self._speaking:
            self._stamp_incarnation()
        self._watchers.notify(rows)

    def _stamp_incarnation(self) -> None:
        def stamped(ok: bool) -> None:  # noqa: FBT001 - the port's callback
            if ok and not self._speaking:
                self._speaking = True
                self._talk.greet_all()
                self._flush(marks=True)

        self._durability.write_stamp(stamped)

    # ------------------------------------------------------------ driver

    def on_frame(self, sender: NodeId, payload: bytes) -> None:
        """One whole frame from the authenticated peer; dropped before this boot is stamped."""
        if self._speaking and not self._stopped:
            self._talk.receive(sender, payload)
            self._core.ports.wake()

    def on_link_up(self, peer: NodeId) -> None:
        """Greet; what was sent over the lost link and not accepted goes again."""
        self._talk.up(peer, speaking=self._speaking)
        self._proposals.reconnected(peer)
        for group in self._core.groups:
            if group.leader == peer:
                self._proposals.wake(group.shard)
        self._core.ports.wake()

    def on_link_down(self, peer: NodeId) -> None:
        """Tell Raft, and the snapshot on its way there."""
        self._talk.down(peer)
        if self._gate.open:
            for group in self._core.groups:
                if group.role == LEADER:
                    self._core.raft.report_unreachable(group.shard, peer)
        self._sender.lost(peer)
        self._join.lost(peer)
        self._core.ports.wake()

    def on_tick(self) -> None:
        """One tick is due; a missed one is gone."""
        self._tick_due = True
        self._core.ports.wake()

    def turn(self) -> None:
        """One turn, in the order of raft-host.md."""
        if self._stopped:
            return
        core = self._core
        core.counters.turns += 1
        now = core.now()
        ticked = self._tick_due
        if self._speaking:
            more = self._talk.step(now, stepping=self._gate.open)
            if self._tick_due:
                self._tick_due = False
                self._tick(now)
            if self._gate.open:
                self._routing.dispatch(now)
            if self._gate.open and not self._durability.busy:
                if core.room is not Room.FULL:
                    self._stager.pump()
                    self._stager.note_touched(self._join.pump())
                self._routing.append()
                self._readies.take_all(now)
                self._durability.finish(now)
                more = more or (not self._durability.busy and bool(core.raft.has_ready()))
            if more:
                core.ports.wake()
        elif self._tick_due:
            self._tick_due = False
            self._before_speaking(now)
        self._flush(marks=ticked)
        self._run_later()

    def _before_speaking(self, now: int) -> None:
        self._proposals.on_time(now)
        self._leadership.on_time(now)
        if self._durability.stamp_due(now):
            self._stamp_incarnation()

    def _flush(self, *, marks: bool) -> None:
        if self._speaking and not self._stopped:
            self._talk.flush(marks=marks)

    # ------------------------------------------------------------ tick

    def _tick(self, now: int) -> None:
        core = self._core
        core.counters.ticks += 1
        self._watch_disk(now)
        self._gate.on_time(now)
        if self._gate.open:
            self._hold()
            core.raft.tick_all()
            for group in core.groups:
                reluctant = core.aside or not core.hsm or group.stamped != group.durable
                self._slots.apply(group.shard, group.term, reluctant=reluctant)
        self._proposals.on_time(now)
        self._leadership.on_time(now)
        self._talk.beat(now, giver_bits(core, doubt=self._in_doubt()), ledger_bits(core))
        if self._durability.stamp_due(now):
            self._durability.stamp()
        if self._gate.open:
            self._sender.on_time(now)
            self._stager.on_time(now)
            self._join.on_time(now)
            if now >= self._next_reconcile:
                self._next_reconcile = now + RECONCILE_NS
                self._reconcile.on_time(now)
                self._ledger_giver.on_time(now)
            if now >= self._next_grace:
                self._count_grace(now)
            if now >= self._next_second:
                self._next_second = now + SECOND
                for alarm in self._hashes.on_time(now):
                    core.alarm(alarm)
                self._settle()
                self._compaction.on_time(now)
            if now >= self._next_hash:
                self._next_hash = now + HASH_PERIOD_NS
                self._hash_points(now)

    def _watch_disk(self, now: int) -> None:
        """Whose disk is slow leads nothing for a while: what it leads would wait for it."""
        if self._durability.age_ms(now) >= SLOW_DISK_MS:
            self._core.slow_until = now + SLOW_DISK_NS

    def _hold(self) -> None:
        """Who cannot stamp a vote (rule b), or write what it would win, does not campaign."""
        unable = not self._core.hsm or self._core.room is Room.FULL
        for group in self._core.groups:
            self._slots.hold(group.shard, silent=unable or group.stamped != group.durable)

    def _in_doubt(self) -> bool:
        full = self._core.room is Room.FULL  # it lags on purpose
        return self._hashes.doubt or bool(self._core.unsettled) or not self._gate.open or full

    def _settle(self) -> None:
        """Have the log of a contradicted shard go on, also in silence."""
        for shard in self._core.unsettled:
            self.propose(
                Barrier(), timeout_s=PROPOSER_DEADLINE_S, done=lambda _result: None, shard=shard
            )

    def _count_grace(self, now: int) -> None:
        elapsed = min(now - self._last_grace, 2 * GRACE_PERIOD_NS) if self._last_grace else 0
        self._last_grace = now
        self._next_grace = now + GRACE_PERIOD_NS
        for group in self._core.groups:
            if group.role != LEADER or not self._machine.full[group.shard]:
                continue
            if len(self.share_givers(group.shard)) < self._shape.threshold:
                continue
            for record_id, era in self._grace.pass_time(group.shard, elapsed):
                self.propose(
                    Expire(record_id, era), timeout_s=PROPOSER_DEADLINE_S, done=lambda _result: None
                )

    def _hash_points(self, now: int) -> None:
        """The leader names a point per shard; the others compare when they are there."""
        for group in self._core.groups:
            if group.role == LEADER:
                state = encode_hash(self._core.overlay.shards[group.shard].hash)
                self._hashes.reached(group.shard, group.applied, state, now)

    # ------------------------------------------------------------ callbacks

    def _call_later(self, call: Callable[[], None]) -> None:
        self._later.append(call)
        self._core.ports.wake()

    def _run_later(self) -> None:
        later, self._later = self._later, []
        for call in later:
            call()

    # ------------------------------------------------------------ node

    def propose(
        self,
        command: Command,
        *,
        timeout_s: float,
        done: Callable[[ProposalResult], None],
        shard: ShardId | None = None,
    ) -> Waiter:
        """Have `command` applied; `shard` for Barrier only."""
        is_barrier = isinstance(command, Barrier)
        if isinstance(command, Barrier):
            check(shard is not None, "host: a Barrier needs its shard")
            target = shard if shard is not None else ShardId(0)
        else:
            target = ShardId(shard_of(command.record_id, self._shape.shards))
        self._core.ports.wake()
        if self._core.draining or self._stopped:
            return self._proposals.refuse(done, "draining")
        if self._core.room is Room.FULL:  # what it proposed, it would not see applied
            return self._proposals.refuse(done, "disk-full")
        self._core.counters.proposals += 1
        self._core.counters.barriers += is_barrier
        deadline = self._core.now() + int(min(timeout_s, PROPOSER_DEADLINE_S) * SECOND)
        return self._proposals.add(
            target, encode_command(command), deadline, done, is_barrier=is_barrier
        )

    def view(self, record_id: RecordId) -> tuple[Record | None, Index]:
        """The record as applied here, and the shard's applied index."""
        shard = ShardId(shard_of(record_id, self._shape.shards))
        stored = self._core.overlay.record(shard, record_id)
        return (None if stored is None else stored[0]), Index(self._core.groups[shard].applied)

    def ledger_row(self, record_id: RecordId) -> LedgerRow | None:
        """This node's durable ledger row."""
        return self._core.overlay.durable_row(record_id)

    def share_verdict(self, record_id: RecordId, era: Era, attempt_id: AttemptId) -> ShareVerdict:
        """May this node give its share for the attempt, now?"""
        shard = ShardId(shard_of(record_id, self._shape.shards))
        if not self._gives(shard):
            return NotAGiver(self._why_no_giver())
        return giving.verdict(self._core, self._rules, shard, record_id, era, attempt_id)

    def _gives(self, shard: ShardId) -> bool:
        group = self._core.groups[shard]
        voter = self._shape.node_id in group.voters and group.durable_ledger
        return voter and self._core.hsm and not self._in_doubt() and not self._stopped

    def _why_no_giver(self) -> str:
        if not self._core.hsm:
            return "the HSM is away"
        if self._hashes.doubt or self._core.unsettled:
            return "its state is contradicted"
        if self._core.room is Room.FULL:
            return "its disk is full"
        return self._gate.waiting_for or "not a voter of the shard with a complete ledger"

    def want_share(self, record_id: RecordId) -> None:
        """Make its ledger row durable with the next turn, if it is not."""
        if record_id in self._core.overlay.ledger_changed and not self._durability.busy:
            self._durability.force()
            self._core.ports.wake()

    def watch(self, record_id: RecordId, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after each apply to the record, and after durability."""
        return self._watchers.watch(record_id, callback)

    def share_givers(self, shard: ShardId) -> list[Giver]:
        """Nearest first."""
        return giving.givers(self._core, shard, self_gives=self._gives(shard))

    def set_hsm(self, *, working: bool) -> None:
        """The HSM came or went; when it came, what waits for the stamp is tried."""
        self._core.hsm = working
        self._hold()
        if working and self._started and not self._stopped:
            if self._speaking:
                self._durability.stamp()
            elif self._durability.stamp_due(self._core.now() + SECOND):
                self._stamp_incarnation()
        self._core.ports.wake()

    def set_room(self, room: Room) -> None:
        """The disk has room again, is short of it, or nearly full."""
        if room is not self._core.room:
            self._core.room = room
            self._hold()
            self._core.ports.wake()

    def adopt(self, shape: Shape) -> None:
        """Go on with a newer book."""
        if not book.is_newer(self._shape, shape):
            return
        retirement = shape.retirement()
        if retirement is not None:
            raise HostStopped(retirement)
        core = self._core
        went, came = book.went_and_came(self._shape, shape)
        for node in went:
            self.on_link_down(node)
            del core.peers[node]
        for node in came:
            core.peers[node] = Peer(node, shape.seats[node])
        self._shape = core.shape = shape
        self._memory.adopt(core.peers)
        self._gate.adopt(core.peers)
        self._hashes.adopt(core.peers)
        self._next_reconcile = 0
        core.ports.wake()

    def status(self) -> HostStatus:
        """A consistent picture."""
        return status(
            self._core,
            self._durability,
            self._hashes,
            stager=self._stager,
            proposals=len(self._proposals),
            waiting_for=self._waiting_for(),
        )

    def _waiting_for(self) -> str:
        if not self._speaking:
            return "the HSM to stamp this start"
        return self._gate.waiting_for

    def drain(self, done: Callable[[], None]) -> None:
        """Refuse new proposals, hand leadership over."""
        self._core.draining = True
        self._leadership.drain(done)
        self._core.ports.wake()

    def stop(self) -> None:
        """Nothing more is sent or called back."""
        self._stopped = True
        self._later.clear()

    # ------------------------------------------------------------ called by the links

    @property
    def memory(self) -> Memory:
        """What this node remembers of the others."""
        return self._memory

    @property
    def gate(self) -> Gate:
        """Closed until the others returned our marks."""
        return self._gate

    @property
    def hashes(self) -> Hashes:
        """State-hash comparison."""
        return self._hashes

    @property
    def routing(self) -> Routing:
        """Commands between nodes."""
        return self._routing

    @property
    def sender(self) -> SnapshotSender:
        """Snapshots on their way out."""
        return self._sender

    @property
    def stager(self) -> SnapshotStager:
        """Snapshots on their way in."""
        return self._stager

    @property
    def ledger_giver(self) -> LedgerGiver:
        """Ledger rows on their way out, to a node that joins."""
        return self._ledger_giver

    @property
    def join(self) -> LedgerJoin:
        """Ledger rows on their way in, of a node that joins."""
        return self._join
