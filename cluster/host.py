"""The host of all Raft groups of one node: one turn after the other, in the order that is safe.

`turn` is raft-host.md's "One turn" and reads like it: step, tick, (batch in flight: stop here),
propose, take every Ready, send and deliver, make the batch durable. Everything runs on one loop
thread; disk, HSM, network, time and randomness are handed in (`cluster.ports`). Whatever leaves a
method as an exception ends the process: a host that is wrong about something must not go on (I9).
The parts: `talk` (frames and peers), `readies` (step 5), `durability` (batches, stamp), `machine`
(apply), `proposals` and `routing` (commands), `sending` and `staging` (snapshots), `compaction`;
`parts` puts them together, and `ticking` is step 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import book, giving
from cluster.api import HostStatus, HostStopped, NotAGiver, ProposalResult, Shape
from cluster.commands import Barrier, Command, encode_command
from cluster.core import LEADER, Peer
from cluster.limits import PROPOSER_DEADLINE_S, SECOND
from cluster.membership import OLD_BOOK
from cluster.parts import make_parts
from cluster.readies import Readies
from cluster.report import status
from cluster.room import Room
from cluster.tables import META_IDENTITY, Identity, encode_row, slot_range
from cluster.talk import Talk
from cluster.ticking import Ticking
from cluster.types import AttemptId, Era, Index, NodeId, RecordId, ShardId, check
from engines.identifiers import shard_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.api import Giver, ShareVerdict
    from cluster.boot import BootState
    from cluster.handover import TransferResult
    from cluster.ledger import LedgerRow
    from cluster.ports import Ports
    from cluster.proposals import Waiter
    from cluster.record import Record


class Host:
    """See `cluster.api.VaultHost` for what each public method promises."""

    def __init__(self, shape: Shape, state: BootState, ports: Ports) -> None:
        self._boot: BootState | None = state
        self._later: list[Callable[[], None]] = []
        self._parts = make_parts(shape, state, ports, self._call_later, self._on_durable)
        self._core = self._parts.core
        self._talk = Talk(self._parts)
        self._readies = Readies(self._parts, self._talk)
        self._ticking = Ticking(self._parts, self._talk, self.propose)
        self._started = False
        self._speaking = False
        self._tick_due = False

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
            self._parts.reconcile.compare(each)
        log = self._parts.durability.log
        for group in boot.groups:
            if group.leftovers:
                log.delete_range("records", *slot_range(group.shard, group.row.slot ^ 1))
        if boot.founding:
            self._parts.durability.dirty = {group.shard for group in self._core.groups}
        if not boot.incarnation_on_disk:
            shape = self._core.shape
            identity = Identity(
                shape.cluster_id.bytes, shape.node_id, shape.shards, shape.limit, boot.incarnation
            )
            log.put("meta", META_IDENTITY, encode_row(identity))
        self._parts.durability.force()
        self._parts.durability.finish(self._core.now())

    def _on_durable(self, rows: list[RecordId]) -> None:
        """A batch is durable; the first one lets this boot be stamped."""
        if not self._speaking:
            self._stamp_incarnation()
        self._parts.watchers.notify(rows)

    def _stamp_incarnation(self) -> None:
        def stamped(ok: bool) -> None:  # noqa: FBT001 - the port's callback
            if ok and not self._speaking:
                self._speaking = True
                self._talk.greet_all()
                self._flush(marks=True)

        self._parts.durability.write_stamp(stamped)

    # ------------------------------------------------------------ driver

    def on_frame(self, sender: NodeId, payload: bytes) -> None:
        """One whole frame from the authenticated peer; dropped before this boot is stamped."""
        if self._speaking and not self._core.stopped:
            self._talk.receive(sender, payload)
            self._core.ports.wake()

    def on_link_up(self, peer: NodeId) -> None:
        """Greet; what was sent over the lost link and not accepted goes again."""
        self._talk.up(peer, speaking=self._speaking)
        self._parts.proposals.reconnected(peer)
        for group in self._core.groups:
            if group.leader == peer:
                self._parts.proposals.wake(group.shard)
        self._core.ports.wake()

    def on_link_down(self, peer: NodeId) -> None:
        """Tell Raft, and the snapshot on its way there."""
        self._talk.down(peer)
        if self._parts.gate.open:
            for group in self._core.groups:
                if group.role == LEADER:
                    self._core.raft.report_unreachable(group.shard, peer)
        self._parts.sender.lost(peer)
        self._parts.join.lost(peer)
        self._core.ports.wake()

    def on_tick(self) -> None:
        """One tick is due; a missed one is gone."""
        self._tick_due = True
        self._core.ports.wake()

    def turn(self) -> None:
        """One turn, in the order of raft-host.md."""
        core, parts = self._core, self._parts
        if core.stopped:
            return
        core.counters.turns += 1
        now = core.now()
        ticked, self._tick_due = self._tick_due, False
        if self._speaking:
            more = self._talk.step(now, stepping=parts.gate.open)
            if ticked:
                self._ticking.tick(now)
            if parts.gate.open:
                parts.routing.dispatch(now)
                if not parts.durability.busy:
                    more = self._take_batch(now) or more
            if more:
                core.ports.wake()
        elif ticked:
            self._before_speaking(now)
        self._flush(marks=ticked)
        self._run_later()

    def _take_batch(self, now: int) -> bool:
        """Steps 4 to 8: propose, take every Ready, send, deliver, and hand the batch to the disk.

        True when there is more of it at once.
        """
        parts = self._parts
        if self._core.room is not Room.FULL:
            parts.stager.pump()
            parts.stager.note_touched(parts.join.pump())
        parts.routing.append()
        self._readies.take_all(now)
        parts.durability.finish(now)
        return not parts.durability.busy and bool(self._core.raft.has_ready())

    def _before_speaking(self, now: int) -> None:
        self._parts.proposals.on_time(now)
        self._parts.leadership.on_time(now)
        if self._parts.durability.stamp_due(now):
            self._stamp_incarnation()

    def _flush(self, *, marks: bool) -> None:
        if self._speaking and not self._core.stopped:
            self._talk.flush(marks=marks)

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
            target = ShardId(shard_of(command.record_id, self._core.shape.shards))
        self._core.ports.wake()
        if self._core.draining or self._core.stopped:
            return self._parts.proposals.refuse(done, "draining")
        if self._core.room is Room.FULL:  # what it proposed, it would not see applied
            return self._parts.proposals.refuse(done, "disk-full")
        self._core.counters.proposals += 1
        self._core.counters.barriers += is_barrier
        deadline = self._core.now() + int(min(timeout_s, PROPOSER_DEADLINE_S) * SECOND)
        return self._parts.proposals.add(
            target, encode_command(command), deadline, done, is_barrier=is_barrier
        )

    def view(self, record_id: RecordId) -> tuple[Record | None, Index]:
        """The record as applied here, and the shard's applied index."""
        shard = ShardId(shard_of(record_id, self._core.shape.shards))
        stored = self._core.overlay.record(shard, record_id)
        return (None if stored is None else stored[0]), Index(self._core.groups[shard].applied)

    def ledger_row(self, record_id: RecordId) -> LedgerRow | None:
        """This node's durable ledger row."""
        return self._core.overlay.durable_row(record_id)

    def share_verdict(self, record_id: RecordId, era: Era, attempt_id: AttemptId) -> ShareVerdict:
        """May this node give its share for the attempt, now?"""
        shard = ShardId(shard_of(record_id, self._core.shape.shards))
        if not self._parts.standing.gives(shard):
            return NotAGiver(self._parts.standing.why_not())
        return giving.verdict(self._core, self._parts.rules, shard, record_id, era, attempt_id)

    def want_share(self, record_id: RecordId) -> None:
        """Make its ledger row durable with the next turn, if it is not."""
        if record_id in self._core.overlay.ledger_changed and not self._parts.durability.busy:
            self._parts.durability.force()
            self._core.ports.wake()

    def watch(self, record_id: RecordId, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after each apply to the record, and after durability."""
        return self._parts.watchers.watch(record_id, callback)

    def share_givers(self, shard: ShardId) -> list[Giver]:
        """Nearest first."""
        return giving.givers(self._core, shard, self_gives=self._parts.standing.gives(shard))

    def set_hsm(self, *, working: bool) -> None:
        """The HSM came or went; when it came, what waits for the stamp is tried."""
        self._core.hsm = working
        self._ticking.hold()
        if working and self._started and not self._core.stopped:
            if self._speaking:
                self._parts.durability.stamp()
            elif self._parts.durability.stamp_due(self._core.now() + SECOND):
                self._stamp_incarnation()
        self._core.ports.wake()

    def set_room(self, room: Room) -> None:
        """The disk has room again, is short of it, or nearly full."""
        if room is not self._core.room:
            self._core.room = room
            self._ticking.hold()
            if room is Room.FULL:
                self._parts.stager.make_room()
                self._parts.join.make_room()
            self._core.ports.wake()

    def adopt(self, shape: Shape) -> None:
        """Go on with a newer book."""
        if not book.is_newer(self._core.shape, shape):
            return
        retirement = shape.retirement()
        if retirement is not None:
            raise HostStopped(retirement)
        core = self._core
        went, came = book.went_and_came(self._core.shape, shape)
        for node in went:
            self.on_link_down(node)
            del core.peers[node]
        for node in came:
            core.peers[node] = Peer(node, shape.seats[node])
        core.shape = shape
        core.alarm_over(OLD_BOOK)
        self._parts.memory.adopt(core.peers)
        self._parts.gate.adopt(core.peers)
        self._parts.hashes.adopt(core.peers)
        self._ticking.reconcile_soon()
        core.ports.wake()

    def status(self) -> HostStatus:
        """A consistent picture."""
        return status(
            self._core,
            self._parts.durability,
            self._parts.hashes,
            stager=self._parts.stager,
            states=self._parts.machine.states,
            proposals=len(self._parts.proposals),
            waiting_for=self._waiting_for(),
        )

    def _waiting_for(self) -> str:
        if not self._speaking:
            return "the HSM to stamp this start"
        return self._parts.gate.waiting_for

    def drain(self, done: Callable[[], None]) -> None:
        """Refuse new proposals, hand leadership over."""
        self._core.draining = True
        self._parts.leadership.drain(done)
        self._core.ports.wake()

    def set_drained(self, *, drained: bool) -> None:
        """Step aside and stay, or lead again."""
        self._core.drained = drained
        self._core.ports.wake()

    def transfer(self, shard: int, to: int, done: Callable[[TransferResult], None]) -> None:
        """Have another node lead a shard."""
        self._parts.transfers.ask(shard, to, done)
        self._core.ports.wake()

    def balance(self) -> list[ShardId]:
        """Ask the preferred seats to lead."""
        asked = self._parts.leadership.balance()
        self._core.ports.wake()
        return asked

    def stop(self) -> None:
        """Nothing more is sent or called back."""
        self._core.stopped = True
        self._later.clear()
