"""Step 5 and 6 of a turn: take every Ready, in the one order that raft-rs and the disk allow.

Per Ready: hard state, snapshot, log entries, committed entries, messages. Between `ready` and
`advance_append_async` nothing else touches the group. A leader's messages go out at once (its own
disk is one vote of the quorum like any other), everything else waits for the batch; and nothing at
all leaves in a (term, vote) that the HSM does not know yet (rule b).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.core import LEADER
from cluster.entries import NORMAL_ENTRY
from cluster.proposals import NO_NODE
from cluster.statehash import encode_hash
from cluster.tables import log_key, log_value
from cluster.types import Index, NodeId, ShardId, check

if TYPE_CHECKING:
    from cluster.core import Group
    from cluster.parts import Parts
    from cluster.talk import Talk
    from engines._engines import Ready


class Readies:
    """Whoever takes Readies knows every part of the host."""

    def __init__(self, parts: Parts, talk: Talk) -> None:
        self._core = parts.core
        self._durability = parts.durability
        self._machine = parts.machine
        self._hashes = parts.hashes
        self._proposals = parts.proposals
        self._routing = parts.routing
        self._sender = parts.sender
        self._stager = parts.stager
        self._reconcile = parts.reconcile
        self._join = parts.join
        self._grace = parts.grace
        self._watchers = parts.watchers
        self._talk = talk

    def take_all(self, now: int) -> None:
        """Step 5 for every shard that has something, then step 6."""
        raft = self._core.raft
        for shard in raft.has_ready():
            self._take(self._core.groups[shard], raft.ready(ShardId(shard)), now)
            raft.advance_append_async(shard)
        self._sender.wanted()
        self._deliver()

    def _take(self, group: Group, ready: Ready, now: int) -> None:
        """One Ready; nothing else touches the group until it is advanced."""
        durability = self._durability
        old_term = group.term
        if ready.hard_state is not None:
            group.term, group.vote, group.commit = ready.hard_state
            durability.dirty.add(group.shard)
        if ready.snapshot is not None:
            self._stager.install(group, ready.snapshot, self._hashes)
            self._reconcile.changed(group)
            self._join.installed(group.shard)
            full, states = self._stager.tallies(group.shard)
            self._machine.full[group.shard] = full
            self._machine.states[group.shard] = states
            self._proposals.jumped(group.shard)
            durability.force()
        if ready.entries:
            self._write_entries(group, ready)
        if ready.committed:
            self._apply(group, ready, now)
        if ready.leader is not None or ready.role is not None or group.term != old_term:
            self._soft_state(group, ready, old_term)
        self._route(group, ready)
        must_sync = ready.must_sync or ready.snapshot is not None
        applied = bool(ready.committed) or ready.snapshot is not None
        durability.took_ready(group, ready.number, must_sync=must_sync, applied=applied)

    def _route(self, group: Group, ready: Ready) -> None:
        """Leader's messages go now if the HSM knows its term; all others wait for the disk."""
        if ready.messages and group.is_stamped:
            self._sender.watch_messages(group, ready.messages)
            for to, message in ready.messages:
                peer = self._core.peers.get(NodeId(to))
                if peer is not None:
                    peer.outbox.add_message(group.shard, message)
        elif ready.messages:
            group.held.extend(ready.messages)
        group.held.extend(ready.persisted_messages)

    def _write_entries(self, group: Group, ready: Ready) -> None:
        log = self._durability.log
        first = ready.entries[0][0]
        if first <= group.last_index:
            log.delete_range(
                "log", log_key(group.shard, first), log_key(group.shard, group.last_index + 1)
            )
        for index, term, kind, data in ready.entries:
            log.put("log", log_key(group.shard, index), log_value(term, kind, data))
            group.log_bytes += len(data)
        group.last_index, group.last_term = ready.entries[-1][0], ready.entries[-1][1]
        self._durability.dirty.add(group.shard)

    def _apply(self, group: Group, ready: Ready, now: int) -> None:
        shard = group.shard
        records = self._core.overlay.shards[shard]
        for index, term, kind, data in ready.committed:
            check(
                index == group.applied + 1,
                f"shard {shard}: entry {index} to apply after {group.applied}",
            )
            if kind == NORMAL_ENTRY:
                if self._machine.apply_entry(shard, Index(index), data):
                    group.erase_index = index
            else:
                self._reconcile.apply(group, index, kind, data)
            group.applied, group.applied_term = index, term
            if self._hashes.due(shard, index):
                self._hashes.reached(shard, index, encode_hash(records.hash), now)
        self._core.counters.entries_applied += len(ready.committed)
        self._routing.applied(shard, group.applied)
        self._durability.dirty.add(shard)

    def _soft_state(self, group: Group, ready: Ready, old_term: int) -> None:
        """Who leads, or in which term, has changed; commands and timers follow."""
        before = (group.leader, old_term)
        if ready.role is not None:
            led = group.role == LEADER
            group.role = ready.role
            if group.role == LEADER and not led:
                self._core.counters.elections_won += 1
            elif led and group.role != LEADER:
                self._sender.not_leader(group.shard)
                self._grace.not_leader(group.shard)
        if ready.leader is not None:
            group.leader = NodeId(ready.leader)
        if group.role != LEADER:
            self._routing.not_leader(group.shard)
        if group.leader != NO_NODE and (group.leader, group.term) != before:
            group.leader_changes += 1
            self._proposals.leader_changed(group.shard, group.leader, group.term)
            self._proposals.wake(group.shard)
            self._core.ports.wake()

    def _deliver(self) -> None:
        """Step 6: those entries are durable on a quorum and here; whoever waits may know."""
        machine = self._machine
        outcomes, machine.outcomes = machine.outcomes, []
        for shard, index, seq, data, outcome in outcomes:
            self._proposals.applied(shard, index, seq, data, outcome)
        touched, machine.touched = machine.touched, []
        self._core.counters.commands_applied = machine.commands_applied
        self._core.counters.lockouts = machine.lockouts
        if touched:
            self._stager.note_touched(touched)
            self._join.note_touched(touched)
            self._watchers.notify(touched)
            if self._watchers.await_any(touched, self._core.overlay.ledger_changed):
                self._durability.force()
        points, self._hashes.outgoing = self._hashes.outgoing, []
        self._talk.tell_hashes(points)
