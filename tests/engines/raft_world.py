"""Five nodes in memory that drive MultiRaft in the exact order of raft-host.md, one turn at a time.

No clock, thread or chance: the test decides when a node turns, when its disk is done and which
message arrives. The world checks Raft's safety at every step: one leader per term, one entry per
applied index, nothing applied twice, and logs that match.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from engines._engines import MultiRaft, ProposalDropped

Entry = tuple[int, int, int, bytes]

SHARD = 3
NODES = (1, 2, 3, 4, 5)
MIN_TICKS, GAP_TICKS, MAX_TICKS = 16, 8, 64
CONFIG = {
    "heartbeat_tick": 4,
    "election_tick": 12,
    "min_election_tick": MIN_TICKS,
    "max_election_tick": MAX_TICKS,
    "max_size_per_msg": 16 * 1024,
    "max_inflight": 256,
    "max_uncommitted": 8 * 1024 * 1024,
    "max_committed_per_ready": 1024 * 1024,
}
FOLLOWER, CANDIDATE, LEADER, PRE_CANDIDATE = range(4)
HEARTBEAT, VOTE, VOTE_RESPONSE, SNAPSHOT = 8, 5, 6, 7
APPEND, APPEND_RESPONSE, PRE_VOTE, TIMEOUT_NOW = 3, 4, 17, 14


@dataclass
class Disk:
    """One shard as stored."""

    voters: list[int]
    learners: list[int] = field(default_factory=list)
    term: int = 0
    vote: int = 0
    commit: int = 0
    applied: int = 0
    truncated_index: int = 0
    truncated_term: int = 0
    entries: list[Entry] = field(default_factory=list)
    state: list[tuple[int, bytes]] = field(default_factory=list)

    def last(self) -> int:
        return self.truncated_index + len(self.entries)

    def term_of(self, index: int) -> int:
        if index == self.truncated_index:
            return self.truncated_term
        return self.entries[index - self.truncated_index - 1][1]

    def append(self, entries: list[Entry]) -> None:
        keep = entries[0][0] - self.truncated_index - 1
        assert 0 <= keep <= len(self.entries)
        self.entries[keep:] = entries

    def cut(self, index: int) -> None:
        if index > self.truncated_index:
            term = self.term_of(index)
            del self.entries[: index - self.truncated_index]
            self.truncated_index, self.truncated_term = index, term

    def copied(self) -> Disk:
        twin = copy.copy(self)
        twin.entries, twin.state = list(self.entries), list(self.state)
        twin.voters, twin.learners = list(self.voters), list(self.learners)
        return twin


@dataclass
class Batch:
    disks: dict[int, Disk]
    held: list[tuple[int, int, bytes]]
    readies: list[tuple[int, int, int]]


@dataclass(frozen=True)
class Packet:
    sender: int
    to: int
    shard: int
    message: bytes


class Node:
    def __init__(self, world: World, node_id: int, disks: dict[int, Disk]) -> None:
        self.world, self.id, self.disks = world, node_id, disks
        self.queue: list[tuple[int, bytes]] = []
        self.start()

    def start(self) -> None:
        self.raft = MultiRaft(self.id, **{**CONFIG, **self.world.config})
        self.up = True
        self.work = {shard: disk.copied() for shard, disk in self.disks.items()}
        self.batch: Batch | None = None
        self.staged: dict[int, bytes] = {}
        self.roles = dict.fromkeys(self.disks, FOLLOWER)
        self.snapshots_taken: list[bool] = []
        self.queue.clear()
        for shard, disk in self.disks.items():
            self.raft.add_group(
                shard,
                term=disk.term,
                vote=disk.vote,
                commit=disk.commit,
                applied=disk.applied,
                truncated_index=disk.truncated_index,
                truncated_term=disk.truncated_term,
                voters=disk.voters,
                learners=disk.learners,
                entries=disk.entries,
            )

    def crash(self, *, batch_was_durable: bool = False) -> None:
        if batch_was_durable and self.batch is not None:
            self.disks = self.batch.disks
        self.up = False
        del self.raft

    # -------------------------------------------------------------- one turn

    def receive(self, packet: Packet) -> None:
        staged = self.raft.step_frame(packet.sender, [(packet.shard, packet.message)])
        for shard, manifest, message in staged:
            assert manifest in self.world.files
            taken = self.raft.step_snapshot(shard, message)
            self.snapshots_taken.append(taken)
            if taken:
                self.staged[shard] = manifest
                self.world.installed.append((packet.sender, shard, self.id))
            else:
                self.world.declined.append((packet.sender, shard, self.id))

    def set_slots(self) -> None:
        for shard in self.disks:
            slot = (self.id + shard + self.raft.status(shard).term) % 5
            self.raft.set_election_timeout(shard, MIN_TICKS + GAP_TICKS * slot)

    def tick(self) -> None:
        self.set_slots()
        self.raft.tick_all()

    def work_on_readies(self) -> None:
        """Steps 3 to 7: nothing while a batch is in flight."""
        if self.batch is not None:
            return
        for shard, data in self.queue:
            try:
                self.world.proposed[shard, self.raft.propose(shard, data)] = data
            except ProposalDropped:
                self.world.dropped.append(data)
        self.queue.clear()
        batch = Batch({}, [], [])
        for shard in self.raft.has_ready():
            self.take_ready(shard, batch)
        if batch.readies:
            batch.disks = {shard: disk.copied() for shard, disk in self.work.items()}
            self.batch = batch

    def take_ready(self, shard: int, batch: Batch) -> None:
        ready, disk = self.raft.ready(shard), self.work[shard]
        if ready.snapshot is not None:
            assert self.staged.pop(shard) == ready.snapshot
            self.work[shard] = disk = self.install(disk, self.world.files[ready.snapshot])
        if ready.entries:
            disk.append(ready.entries)
        if ready.hard_state is not None:
            disk.term, disk.vote, disk.commit = ready.hard_state
        for entry in ready.committed:
            self.apply(shard, disk, entry)
        if ready.role is not None:
            self.roles[shard] = ready.role
            if ready.role == LEADER:
                term = self.raft.status(shard).term
                assert self.world.leaders.setdefault((shard, term), self.id) == self.id
        assert disk.truncated_index <= disk.applied <= disk.commit <= disk.last()
        self.raft.advance_append_async(shard)
        self.world.send(self.id, shard, ready.messages)
        batch.held += [(shard, to, message) for to, message in ready.persisted_messages]
        batch.readies.append((shard, ready.number, disk.applied))

    def install(self, old: Disk, image: Disk) -> Disk:
        assert image.applied >= old.commit
        new = image.copied()
        new.entries, new.commit = [], image.applied
        new.truncated_index = image.applied
        new.truncated_term = image.term_of(image.applied)
        new.term, new.vote = old.term, old.vote
        return new

    def apply(self, shard: int, disk: Disk, entry: Entry) -> None:
        index, term, kind, data = entry
        assert index == disk.applied + 1
        assert self.world.applied.setdefault((shard, index), (term, kind, data)) == entry[1:]
        if kind != 0:
            disk.voters, disk.learners = self.raft.apply_conf_change(shard, kind, data)
        elif data:
            disk.state.append((index, data))
        disk.applied = index

    def finish_disk(self) -> None:
        """Step 9: the batch is durable."""
        if self.batch is None:
            return
        batch, self.batch = self.batch, None
        self.disks = batch.disks
        for shard, number, _ in batch.readies:
            self.raft.on_persist_ready(shard, number)
        for shard, _, applied in batch.readies:
            self.raft.advance_apply_to(shard, applied)
        for shard, to, message in batch.held:
            self.world.send(self.id, shard, [(to, message)])

    def turn(self) -> None:
        self.work_on_readies()
        self.finish_disk()

    # -------------------------------------------------------------- the host's other duties

    def compact(self, index: int, shard: int = SHARD) -> None:
        assert self.batch is None
        self.raft.compact(shard, index)
        self.disks[shard].cut(index)
        self.work[shard].cut(index)

    def offer_snapshot(self, shard: int = SHARD) -> int:
        disk = self.disks[shard].copied()
        manifest = b"manifest %d of node %d at %d" % (len(self.world.files), self.id, disk.applied)
        self.world.files[manifest] = disk
        term = disk.term_of(disk.applied)
        self.raft.set_snapshot(shard, manifest, disk.applied, term, disk.voters, disk.learners)
        return disk.applied


class World:
    def __init__(
        self,
        nodes: tuple[int, ...] = NODES,
        shards: tuple[int, ...] = (SHARD,),
        **config: int,
    ) -> None:
        self.config = config
        self.voters = list(nodes)
        self.shards = shards
        self.leaders: dict[tuple[int, int], int] = {}
        self.applied: dict[tuple[int, int], tuple[int, int, bytes]] = {}
        self.proposed: dict[tuple[int, tuple[int, int]], bytes] = {}
        self.dropped: list[bytes] = []
        self.files: dict[bytes, Disk] = {}
        self.installed: list[tuple[int, int, int]] = []
        self.declined: list[tuple[int, int, int]] = []
        self.network: list[Packet] = []
        self.trace: list[Packet] = []
        self.cut: set[tuple[int, int]] = set()
        self.nodes: dict[int, Node] = {}
        for node in nodes:
            self.add_node(node)

    def add_node(self, node: int) -> Node:
        disks = {shard: Disk(voters=list(self.voters)) for shard in self.shards}
        self.nodes[node] = Node(self, node, disks)
        return self.nodes[node]

    def __getitem__(self, node: int) -> Node:
        return self.nodes[node]

    def send(self, sender: int, shard: int, messages: list[tuple[int, bytes]]) -> None:
        for to, message in messages:
            packet = Packet(sender, to, shard, message)
            self.trace.append(packet)
            self.network.append(packet)

    def isolate(self, node: int) -> None:
        self.cut |= {(node, other) for other in self.nodes}
        self.cut |= {(other, node) for other in self.nodes}

    def heal(self) -> None:
        self.cut.clear()

    def deliver(self, packet: Packet) -> None:
        node = self.nodes.get(packet.to)
        if node is None or not node.up or (packet.sender, packet.to) in self.cut:
            return
        node.receive(packet)

    def up(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.up]

    def settle(self) -> None:
        """Turn every node and deliver every message until nothing is left to do."""
        while self.network or any(
            node.queue or node.raft.has_ready() or node.batch for node in self.up()
        ):
            packets, self.network = self.network, []
            for packet in packets:
                self.deliver(packet)
            for node in self.up():
                node.turn()

    def run(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            for node in self.up():
                node.tick()
            self.settle()

    def run_until_leader(self, shard: int = SHARD, limit: int = 400) -> Node:
        for _ in range(limit):
            self.run()
            leader = self.leader(shard)
            if leader is not None:
                return leader
        raise AssertionError(f"no leader of shard {shard} after {limit} ticks")

    def leader(self, shard: int = SHARD) -> Node | None:
        """The leader of the highest term whose peers can hear it."""
        leading = [node for node in self.up() if node.raft.status(shard).role == LEADER]
        leading = [node for node in leading if (node.id, node.id) not in self.cut]
        return max(leading, key=lambda node: node.raft.status(shard).term, default=None)

    def propose(self, data: bytes, shard: int = SHARD) -> None:
        leader = self.leader(shard)
        assert leader is not None
        leader.queue.append((shard, data))
        self.settle()

    def state(self, node: int, shard: int = SHARD) -> list[bytes]:
        return [data for _, data in self.nodes[node].disks[shard].state]

    def check_logs_match(self) -> None:
        """Same index and term: same entry, and the same entries before it."""
        for shard in self.shards:
            disks = [node.disks[shard] for node in self.nodes.values()]
            for one in disks:
                for other in disks:
                    low = max(one.truncated_index, other.truncated_index)
                    mine = one.entries[low - one.truncated_index :]
                    theirs = other.entries[low - other.truncated_index :]
                    same = [a[1] == b[1] for a, b in zip(mine, theirs, strict=False)]
                    until = max((at + 1 for at, equal in enumerate(same) if equal), default=0)
                    assert mine[:until] == theirs[:until]


# ------------------------------------------------------------------ messages made by hand


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(tag: int, value: int) -> bytes:
    return varint(tag << 3) + varint(value) if value else b""


def blob(tag: int, value: bytes) -> bytes:
    return varint(tag << 3 | 2) + varint(len(value)) + value


def wire_entry(index: int, term: int, data: bytes = b"", kind: int = 0) -> bytes:
    return number(1, kind) + number(2, term) + number(3, index) + blob(4, data)


def wire_snapshot(
    index: int,
    term: int,
    voters: list[int],
    data: bytes = b"manifest",
    learners: tuple[int, ...] = (),
) -> bytes:
    conf = b"".join(varint(1 << 3) + varint(voter) for voter in voters)
    conf += b"".join(varint(2 << 3) + varint(learner) for learner in learners)
    return blob(1, data) + blob(2, blob(1, conf) + number(2, index) + number(3, term))


def wire_message(
    kind: int,
    *,
    sender: int = 2,
    to: int = 1,
    term: int = 1,
    log_term: int = 0,
    index: int = 0,
    commit: int = 0,
    entries: list[bytes] | None = None,
    snapshot: bytes | None = None,
    reject_hint: int = 0,
    request_snapshot: int = 0,
    extra: bytes = b"",
) -> bytes:
    """A raft-proto Message (eraftpb.proto), field by field."""
    out = number(1, kind) + number(2, to) + number(3, sender) + number(4, term)
    out += number(5, log_term) + number(6, index)
    out += b"".join(blob(7, entry) for entry in entries or [])
    out += number(8, commit)
    if snapshot is not None:
        out += blob(9, snapshot)
    return out + number(11, reject_hint) + number(13, request_snapshot) + extra
