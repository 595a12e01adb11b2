"""The receiver's half of a snapshot: fetch, check, stage in the other slot, flip.

MsgSnapshot is stepped only when the whole shard stands, checked, in the slot that is not in use.
The flip is one transaction: slot, count, hash, positions, log cleared, and the ledger's Snapshot
rule for every record and for every row without one (I1: a snapshot never replaces a ledger). The
rule is worked out while staging, and again at the flip for rows that moved since.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from cluster import ledger
from cluster.copies import forget_incoming, has_room_for
from cluster.frames import FrameError, SnapshotProgress
from cluster.limits import (
    MAX_STAGED_COUNTER,
    SNAPSHOT_PROGRESS_NS,
    SNAPSHOT_SPACE,
    STAGE_RECORDS_PER_BATCH,
)
from cluster.manifest import Manifest, SnapshotDamagedError, decode_manifest, read
from cluster.membership import foreign_members
from cluster.proposals import NO_NODE
from cluster.record import (
    Record,
    RecordState,
    Rules,
    decode_record,
    is_bound,
    no_records,
    state_of,
)
from cluster.statehash import decode_hash
from cluster.tables import WHOLE_TABLE, log_key, record_prefix, slot_range
from cluster.types import NodeId, RecordId, ShardId, check
from engines.identifiers import shard_of

if TYPE_CHECKING:
    from cluster.core import Core, Group
    from cluster.durability import Durability
    from cluster.frames import State
    from cluster.hashes import Hashes
    from cluster.ledger import LedgerRow
    from cluster.ports import SnapshotFiles, Store

Moved = tuple[RecordId, "LedgerRow", str | None]
Tallies = tuple[dict[RecordId, int], dict[RecordState, int]]
"""Full records with their era, and how many records are in each state."""
"""(record, its row by the Snapshot rule, alarm)."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A checked file and what the ledger makes of it."""

    records: list[tuple[bytes, bytes]]
    rows: list[Moved]
    full: dict[RecordId, int]
    states: dict[RecordState, int]


@dataclass(slots=True)
class _Stage:
    peer: NodeId
    manifest: Manifest
    data: bytes
    message: bytes
    file: str
    parsed: Parsed | None = None
    written: int = -1
    """Records put so far; -1 before the slot was cleared."""
    touched: set[RecordId] = field(default_factory=set)
    """Records whose ledger row may have moved since the file was parsed."""
    stepped: bool = False


class SnapshotStager:
    """At most one snapshot per shard on its way in."""

    def __init__(self, core: Core, rules: Rules, durability: Durability) -> None:
        self._core = core
        self._rules = rules
        self._durability = durability
        self._stages: dict[ShardId, _Stage] = {}
        self._installed: dict[ShardId, Tallies] = {}
        self._next_progress = 0
        self._files = 0
        """So far: what is dropped and offered again has another file."""

    def active(self, shard: ShardId) -> bool:
        """A snapshot of this shard is being fetched or staged."""
        return shard in self._stages

    # ---- arriving

    def offered(self, peer: NodeId, group: Group, data: bytes, message: bytes) -> None:
        """A leader sent MsgSnapshot; fetch its file first.

        Whoever sends one in a higher term is this node's leader from then on, by raft's own rule;
        in the present term only the leader that is known here may.

        Raises:
            FrameError: the manifest is not one, or not of this message (the link is cut).

        """
        try:
            manifest = decode_manifest(data)
        except SnapshotDamagedError as error:
            raise FrameError(str(error)) from error
        _, _, _, sent_in, index, term, _ = self._core.raft.peek(message)
        if (manifest.shard, manifest.index, manifest.term) != (group.shard, index, term):
            raise FrameError("it sent a snapshot whose manifest is of another shard or position")
        if not self._may_offer(peer, group, sent_in) or self._foreign(
            peer, group, manifest, message
        ):
            return
        if index <= self._core.raft.status(group.shard).commit:
            self._decline(group.shard, manifest, message)
            return
        stage = self._stages.get(group.shard)
        if stage is not None and stage.data == data:
            stage.message = message  # the same offer, perhaps in a later message
            return
        if stage is not None:
            # Another leader, or the same one anew: nobody serves the old file any more.
            self._drop(group.shard, stage, "a newer one was offered")
        if not has_room_for(self._core, manifest.size):
            if not self._core.incoming:  # else there may be when those are here
                self._core.alarm(
                    f"shard {group.shard}: no room for a snapshot of {manifest.size} bytes: make"
                    f" {SNAPSHOT_SPACE} times as much free"
                )
            self._tell(group.shard, peer, manifest, "failed")
            return
        self._files += 1
        stage = _Stage(peer, manifest, data, message, f"in-{self._files}-{manifest.name}")
        # The worker reads the durable ledger: what is not durable yet it does not see.
        stage.touched.update(self._core.overlay.ledger_changed)
        self._stages[group.shard] = stage
        self._core.incoming[stage.file] = manifest.size
        self._core.ports.network.fetch_snapshot(
            peer,
            manifest.name,
            stage.file,
            size=manifest.size,
            done=lambda ok: self._fetched(group.shard, stage, ok=ok),
        )

    def _may_offer(self, peer: NodeId, group: Group, term: int) -> bool:
        status = self._core.raft.status(group.shard)
        led = term == status.term and status.leader not in (NO_NODE, peer)
        if led:
            self._core.alarm(
                f"shard {group.shard}: node {peer} offered a snapshot in term {term}, which"
                f" node {status.leader} leads: not taken"
            )
        return term >= status.term and not led

    def _foreign(self, peer: NodeId, group: Group, manifest: Manifest, message: bytes) -> bool:
        """True, and an alarm, when this node's own book rules the snapshot's members out."""
        shape = self._core.shape
        voters, learners = (tuple(map(NodeId, ids)) for ids in self._core.raft.members_of(message))
        votes = shape.node_id in group.voters
        why = foreign_members(shape, voters, learners, manifest.revision, votes=votes)
        if why is not None:
            self._core.alarm(
                f"shard {group.shard}: node {peer} offered a snapshot with members by revision"
                f" {manifest.revision} of cluster.json, and this node's own, of revision"
                f" {shape.revision}, rules them out ({why}): not taken"
            )
            self._tell(group.shard, peer, manifest, "failed")
        return why is not None

    def _decline(self, shard: ShardId, manifest: Manifest, message: bytes) -> None:
        """It brings nothing new; raft-rs, which declines it, tells the leader where this node is.

        It would take one of another term at its very commit index, which no honest leader can have.
        """
        known = self._core.raft.term_at(shard, manifest.index)
        if known is not None and known != manifest.term:
            raise FrameError("it sent a snapshot that contradicts what is committed here")
        self._core.raft.step_snapshot(shard, message)

    def _fetched(self, shard: ShardId, stage: _Stage, *, ok: bool) -> None:
        core = self._core
        if self._stages.get(shard) is not stage:
            core.ports.files.remove(stage.file)  # dropped meanwhile
            return
        if not ok:
            self._drop(shard, stage, "it could not be fetched")
            return
        store, files = core.ports.store, core.ports.files
        shards = core.shape.shards

        def parsed(result: Parsed | Exception) -> None:
            if isinstance(result, (SnapshotDamagedError, msgspec.DecodeError, OSError)):
                self._drop(shard, stage, str(result))
            elif isinstance(result, Exception):
                raise result
            else:
                stage.parsed = result
            core.ports.wake()

        core.ports.worker.run(lambda: _parse(store, files, self._rules, shards, stage), parsed)

    def _drop(self, shard: ShardId, stage: _Stage, why: str) -> None:
        """Forget a stage; what it put into the slot goes too."""
        if self._stages.get(shard) is not stage:
            return
        del self._stages[shard]
        core = self._core
        core.counters.snapshots_failed += 1
        core.alarm(f"shard {shard}: the snapshot of node {stage.peer} was dropped: {why}")
        if stage.written >= 0:
            slot = core.overlay.shards[shard].slot ^ 1
            self._durability.log.delete_range("records", *slot_range(shard, slot))
        forget_incoming(core, stage.file)
        self._tell(shard, stage.peer, stage.manifest, "failed")

    def make_room(self) -> None:
        """The disk is nearly full: nothing comes in, so what is half here goes."""
        for shard, stage in list(self._stages.items()):
            if not stage.stepped:
                self._drop(shard, stage, "the disk is nearly full")

    def _tell(self, shard: ShardId, leader: NodeId, manifest: Manifest, state: State) -> None:
        peer = self._core.peers.get(leader)
        if peer is not None and peer.connected:
            peer.outbox.add(SnapshotProgress(shard, manifest.name, state), 96)

    def on_time(self, now: int) -> None:
        """The leader hears every second that it goes on."""
        if self._stages and now >= self._next_progress:
            self._next_progress = now + SNAPSHOT_PROGRESS_NS
            for shard, stage in self._stages.items():
                self._tell(shard, stage.peer, stage.manifest, "going")

    # ---- staging

    def note_touched(self, records: list[RecordId]) -> None:
        """Rows of these records may have moved while a snapshot is on its way in."""
        for record_id in records:
            stage = self._stages.get(ShardId(shard_of(record_id, self._core.shape.shards)))
            if stage is not None:
                stage.touched.add(record_id)

    def pump(self) -> None:
        """Before the Readies of a turn, with no batch in flight: the next piece of each stage."""
        for shard, stage in list(self._stages.items()):
            if stage.parsed is None or stage.stepped:
                continue
            if stage.written < len(stage.parsed.records):
                self._write(shard, stage, stage.parsed)
            elif stage.manifest.index <= self._core.raft.status(shard).commit:
                self._drop(shard, stage, "the log got there first")
            elif self._core.raft.step_snapshot(shard, stage.message):
                stage.stepped = True
            else:
                self._drop(shard, stage, "raft declined it")

    def _write(self, shard: ShardId, stage: _Stage, parsed: Parsed) -> None:
        slot = self._core.overlay.shards[shard].slot ^ 1
        log = self._durability.log
        if stage.written < 0:
            log.delete_range("records", *slot_range(shard, slot))
            stage.written = 0
        prefix = record_prefix(shard, slot)
        end = stage.written + STAGE_RECORDS_PER_BATCH
        for record_id, value in parsed.records[stage.written : end]:
            log.put("records", prefix + record_id, value)
        stage.written = min(end, len(parsed.records))
        self._durability.force()

    # ---- the flip

    def install(self, group: Group, data: bytes, hashes: Hashes) -> None:
        """A Ready brought the staged snapshot: everything changes in this batch."""
        shard = group.shard
        stage = self._stages.pop(shard, None)
        check(
            stage is not None and stage.stepped and stage.data == data,
            f"shard {shard}: raft installs a snapshot that was not staged",
        )
        if stage is None or stage.parsed is None:
            return
        manifest, parsed = stage.manifest, stage.parsed
        records = self._core.overlay.shards[shard]
        old_slot = records.slot
        self._core.overlay.flip(shard, manifest.records, decode_hash(manifest.hash))
        self._flip_ledger(stage, parsed)
        log = self._durability.log
        log.delete_range("log", log_key(shard, 0), log_key(ShardId(shard + 1), 0))
        log.delete_range("records", *slot_range(shard, old_slot))
        group.applied = group.last_index = group.truncated_index = manifest.index
        group.applied_term = group.last_term = group.truncated_term = manifest.term
        group.commit = max(group.commit, manifest.index)
        group.log_bytes = 0
        group.erase_index = 0
        status = self._core.raft.status(shard)
        group.voters = tuple(NodeId(node) for node in status.voters)
        group.learners = tuple(NodeId(node) for node in status.learners)
        group.revision = max(group.revision, manifest.revision)
        self._durability.dirty.add(shard)
        hashes.forget(shard)
        self._installed[shard] = parsed.full, parsed.states
        self._core.counters.snapshots_installed += 1
        forget_incoming(self._core, stage.file)
        self._tell(shard, stage.peer, manifest, "done")

    def tallies(self, shard: ShardId) -> Tallies:
        """Full records, and records by state, of the snapshot installed last; taken once."""
        return self._installed.pop(shard, ({}, no_records()))

    def _flip_ledger(self, stage: _Stage, parsed: Parsed) -> None:
        overlay = self._core.overlay
        shard = ShardId(stage.manifest.shard)
        for record_id, row, alarm in parsed.rows:
            if record_id in stage.touched:
                continue
            stored = overlay.row(record_id)
            overlay.put_row(record_id, row, None if stored is None else stored[1])
            self._say(shard, alarm)
        if not stage.touched:
            return
        values = dict(parsed.records)
        shards = self._core.shape.shards
        for record_id in sorted(stage.touched):
            if shard_of(record_id, shards) != shard:
                continue
            value = values.get(record_id)
            record = None if value is None else decode_record(value)
            stored = overlay.row(record_id)
            before, old = (None, None) if stored is None else stored
            after, why = ledger.on_snapshot(self._rules, record_id, before, record)
            if after is not before and after is not None:
                overlay.put_row(record_id, after, old)
            self._say(shard, None if why is None else why.text)

    def _say(self, shard: ShardId, alarm: str | None) -> None:
        if alarm is not None:
            self._core.ledger_refused(shard, f"{alarm} (from a snapshot)")


def _parse(store: Store, files: SnapshotFiles, rules: Rules, shards: int, stage: _Stage) -> Parsed:
    """Check the file and work out the ledger's moves; runs on a worker thread."""
    shard = stage.manifest.shard
    pairs = read(files, stage.file, stage.manifest)
    rows: list[Moved] = []
    full: dict[RecordId, int] = {}
    states = no_records()
    with store.reading() as view:
        own = {
            RecordId(key): value
            for key, value in view.items("ledger", *WHOLE_TABLE)
            if shard_of(key, shards) == shard
        }
        for raw_id, value in pairs:
            record_id = RecordId(raw_id)
            record = decode_record(value)
            if shard_of(record_id, shards) != shard or not is_bound(record_id, record):
                raise SnapshotDamagedError("a record of another shard, or one that is not bound")
            if max(record.version, record.era) > MAX_STAGED_COUNTER:
                raise SnapshotDamagedError("a record that was changed more often than any can be")
            if record.active is not None and len(record.attempts) >= rules.limit:
                full[record_id] = record.era
            states[state_of(record, rules.limit).state] += 1
            _move(rules, rows, record_id, own.pop(record_id, None), record)
        for record_id, value in own.items():
            _move(rules, rows, record_id, value, None)
    return Parsed(pairs, rows, full, states)


def _move(
    rules: Rules,
    rows: list[Moved],
    record_id: RecordId,
    stored: bytes | None,
    record: Record | None,
) -> None:
    before = None if stored is None else ledger.decode_row(stored)
    after, alarm = ledger.on_snapshot(rules, record_id, before, record)
    if after is not None and (after is not before or alarm is not None):
        rows.append((record_id, after, None if alarm is None else alarm.text))
