"""A deterministic world for hosts: virtual time, seeded network, disks that lose unsynced writes.

One event heap; every twin of `cluster.ports` schedules into it. The same seed gives the same story.
Nothing sleeps: tests turn the time until a condition holds.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import heapq
import random
import uuid

from cluster.api import Applied, HostStopped, NotAppended, Shape
from cluster.boot import BootRefused, boot
from cluster.commands import Activate, Charge, Delete, Prove, Register
from cluster.host import Host
from cluster.ports import TABLES, Ports
from cluster.stamp import enrolment
from cluster.types import InvariantError
from engines._engines import ed25519_public_key, ed25519_sign
from engines.identifiers import activation_message, prove_message, registration_id

MS = 1_000_000
SECOND = 1_000_000_000
CLUSTER = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


class SimStore:
    """Tables in RAM; a copy of it is what a power cut leaves."""

    def __init__(self, tables=None):
        self.tables = tables or {table: {} for table in TABLES}

    def get(self, table, key):
        return self.tables[table].get(bytes(key))

    def items(self, table, lo, hi):
        rows = self.tables[table]
        keys = sorted(rows)
        for key in keys[bisect.bisect_left(keys, lo) : bisect.bisect_left(keys, hi)]:
            yield key, rows[key]

    @contextlib.contextmanager
    def reading(self):
        yield self.copy()

    def copy(self):
        return SimStore({table: dict(rows) for table, rows in self.tables.items()})

    def apply(self, batch):
        for kind, table, first, second in batch.ops:
            rows = self.tables[table]
            if kind == "put":
                rows[bytes(first)] = bytes(second)
            elif kind == "delete":
                rows.pop(bytes(first), None)
            else:
                for key in [key for key in rows if first <= key < second]:
                    del rows[key]


class SimNode:
    """One machine: its disk, HSM stamp and files survive; its host does not."""

    def __init__(self, world, node_id):
        self.world = world
        self.id = node_id
        self.store = SimStore()
        self.stamp = enrolment(CLUSTER, node_id)
        self.files = {}
        self.host = None
        self.life = 0
        self.stopped = None
        self.hsm_away = False
        self.disk_ms = world.disk_ms
        self.stamp_ms = 4
        self.pending = None
        self.turn_due = False
        self.batches = 0

    # ---- life

    @property
    def up(self):
        return self.host is not None

    def start(self):
        assert not self.up
        self.life += 1
        self.stopped = None
        seed = f"{self.world.seed}/{self.id}/{self.life}"
        self.random = random.Random(seed)
        shape = self.world.shape(self.id)
        state = boot(self.store, self.stamp, shape)
        ports = Ports(
            clock=self,
            disk=self,
            store=self.store,
            worker=self,
            network=SimNetwork(self),
            stamper=SimStamper(self),
            files=SimFiles(self.files),
            random=self.random,
            wake=self.wake,
        )
        self.files.clear()
        self.turn_due = False
        self.pending = None
        self.host = Host(shape, state, ports)
        self.guard(self.host.start)
        self.world.links_changed()
        self._tick()
        return self

    def crash(self):
        """SIGKILL or power cut: the batch in flight is there whole, or not at all."""
        if self.pending is not None and self.world.random.random() < 0.5:
            self.store.apply(self.pending)
        self.pending = None
        self.host = None
        self.life += 1
        self.store = self.store.copy()
        self.world.links_changed()

    def guard(self, call, *args):
        """Whatever leaves the host ends the process."""
        try:
            return call(*args)
        except (HostStopped, InvariantError) as error:
            self.stopped = str(error)
            self.crash()
            return None

    def soon(self, delay_ns, call):
        life = self.life

        def run():
            if self.life == life and self.up:
                self.guard(call)

        self.world.at(delay_ns, run)

    def _tick(self):
        self.host.on_tick()
        self.soon(50 * MS, self._tick)

    def wake(self):
        if not self.turn_due:
            self.turn_due = True
            self.soon(0, self._turn)

    def _turn(self):
        self.turn_due = False
        self.host.turn()

    # ---- Clock, Disk, Worker

    def monotonic_ns(self):
        return self.world.now

    def submit(self, batch, done):
        assert self.pending is None, "one batch in flight"
        self.pending = batch

        def durable():
            self.store.apply(batch)
            self.pending = None
            self.batches += 1
            done()

        self.soon(int(self.disk_ms * MS), durable)

    def run(self, job, done):
        try:
            result = job()
        except Exception as error:  # noqa: BLE001 - the port hands it on
            result = error
        self.soon(5 * MS, lambda: done(result))


class SimNetwork:
    def __init__(self, node):
        self.node = node

    def send(self, to, frame):
        return self.node.world.carry(self.node.id, to, frame)

    def cut(self, peer, reason):
        self.node.world.cuts.append((self.node.id, peer, reason))

    def fetch_snapshot(self, from_node, name, into, *, size, done):
        node, world = self.node, self.node.world
        source = world.nodes[from_node]
        data = source.files.get(name)
        ok = world.connected(node.id, from_node) and data is not None and len(data) <= size

        def finish():
            if ok:
                spoil, world.spoil_once = world.spoil_once, None
                node.files[into] = spoil(data) if spoil else data
            done(ok)

        node.soon(world.fetch_ms * MS, finish)


class SimStamper:
    def __init__(self, node):
        self.node = node

    def write(self, data, done):
        node = self.node

        def finish():
            if not node.hsm_away:
                node.stamp = data
            done(not node.hsm_away)

        node.soon(node.stamp_ms * MS, finish)


class SimFiles:
    def __init__(self, files):
        self.files = files
        self.free = 1 << 40

    def create(self, name):
        return SimWriter(self.files, name)

    def open(self, name):
        if name not in self.files:
            raise FileNotFoundError(name)
        return SimReader(self.files[name])

    def remove(self, name):
        self.files.pop(name, None)

    def names(self):
        return sorted(self.files)

    def free_bytes(self):
        return self.free


class SimWriter:
    def __init__(self, files, name):
        self.files, self.name, self.parts = files, name, []

    def write(self, data):
        self.parts.append(data)

    def close(self):
        self.files[self.name] = b"".join(self.parts)


class SimReader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def read(self, size):
        chunk = self.data[self.at : self.at + size]
        self.at += size
        return chunk

    def close(self):
        pass


class World:
    """Five nodes (or three) and the wires between them."""

    def __init__(
        self, seed=1, *, nodes=5, shards=2, limit=3, grace_s=5.0, delay_ms=(5, 15), disk_ms=4
    ):
        self.seed = seed
        self.random = random.Random(seed)
        self.now = SECOND
        self.shards, self.limit, self.grace_s = shards, limit, grace_s
        self.delay_ms = delay_ms
        self.disk_ms = disk_ms
        self.fetch_ms = 30
        self.spoil_once = None
        self.loss = 0.0
        self.events = []
        self.number = 0
        self.cut_pairs = set()
        self.links = set()
        self.last_arrival = {}
        self.cuts = []
        self.frames = 0
        self.observe = []
        self.node_ids = tuple(range(1, nodes + 1))
        self.nodes = {node: SimNode(self, node) for node in self.node_ids}

    def shape(self, node_id):
        return Shape(
            cluster_id=CLUSTER,
            node_id=node_id,
            seats={node: node for node in self.node_ids},
            shards=self.shards,
            limit=self.limit,
            grace_s=self.grace_s,
            threshold=len(self.node_ids) // 2 + 1,
        )

    # ---- time

    def at(self, delay_ns, call):
        self.number += 1
        heapq.heappush(self.events, (self.now + delay_ns, self.number, call))

    def step(self):
        self.now, _, call = heapq.heappop(self.events)
        call()

    def run(self, seconds):
        end = self.now + int(seconds * SECOND)
        while self.events and self.events[0][0] <= end:
            self.step()
        self.now = end

    def until(self, condition, seconds=60.0, what="condition"):
        end = self.now + int(seconds * SECOND)
        while not condition():
            if not self.events or self.events[0][0] > end:
                raise AssertionError(f"{what} did not come true in {seconds} virtual seconds")
            self.step()

    # ---- wires

    def connected(self, a, b):
        up = self.nodes[a].up and self.nodes[b].up
        return up and (a, b) not in self.cut_pairs

    def links_changed(self):
        for a in self.node_ids:
            for b in self.node_ids:
                if a == b:
                    continue
                lives = (a, self.nodes[a].life, b, self.nodes[b].life)
                want = self.connected(a, b)
                old = {link for link in self.links if link[0] == a and link[2] == b}
                for link in old:
                    if not want or link != lives:
                        self.links.discard(link)
                        if self.nodes[a].up and link[1] == self.nodes[a].life:
                            self.nodes[a].guard(self.nodes[a].host.on_link_down, b)
                if want and lives not in self.links:
                    self.links.add(lives)
                    self.nodes[a].soon(self._delay(), lambda a=a, b=b: self._up(a, b))

    def _up(self, a, b):
        if self.connected(a, b):
            self.nodes[a].host.on_link_up(b)

    def _delay(self):
        low, high = self.delay_ms
        return int((low + (high - low) * self.random.random()) * MS)

    def carry(self, a, b, frame):
        if not self.connected(a, b):
            return False
        if self.loss and self.random.random() < self.loss:
            return True
        self.frames += 1
        for watch in self.observe:
            watch(a, b, frame)
        arrival = max(self.now + self._delay(), self.last_arrival.get((a, b), 0) + 1)
        self.last_arrival[a, b] = arrival
        lives = (self.nodes[a].life, self.nodes[b].life)

        def deliver():
            target = self.nodes[b]
            if (self.nodes[a].life, target.life) == lives and self.connected(a, b):
                target.guard(target.host.on_frame, a, frame)

        self.at(arrival - self.now, deliver)
        return True

    def partition(self, *sides):
        """Only nodes of one side hear each other."""
        self.cut_pairs = {
            (a, b)
            for a in self.node_ids
            for b in self.node_ids
            if a != b and not any(a in side and b in side for side in sides)
        }
        self.links_changed()

    def heal(self):
        self.cut_pairs = set()
        self.links_changed()

    # ---- the cluster

    def start(self):
        for node in self.nodes.values():
            node.start()
        self.until(self.led, what="every shard has a leader")
        return self

    @property
    def alive(self):
        return [node for node in self.nodes.values() if node.up]

    def leader(self, shard=0):
        """The node that leads the shard by its own word in the highest term, or None."""
        best = None
        for node in self.alive:
            report = node.host.status().groups[shard]
            if (
                report.role == "leader"
                and report.stamped
                and (best is None or report.term > best[0])
            ):
                best = (report.term, node.id)
        return None if best is None else best[1]

    def led(self):
        """Every shard has a leader that the living follow."""
        for shard in range(self.shards):
            leader = self.leader(shard)
            if leader is None:
                return False
            known = [node.host.status().groups[shard].leader for node in self.alive]
            if sum(1 for one in known if one == leader) <= len(self.node_ids) // 2:
                return False
        return True

    def settled(self):
        """Every living node applied the same index in every shard."""
        for shard in range(self.shards):
            applied = {node.host.status().groups[shard].applied for node in self.alive}
            last = {node.host.status().groups[shard].last_index for node in self.alive}
            if len(applied | last) != 1:
                return False
        return True

    def state_hashes(self):
        return {
            tuple(records.hash for records in node.host._core.overlay.shards) for node in self.alive
        }

    def propose(self, node, command, *, timeout_s=8.0, shard=None):
        """Propose at a node; returns the list that the result lands in."""
        results = []
        host = self.nodes[node].host
        host.propose(command, timeout_s=timeout_s, shard=shard, done=results.append)
        return results

    def outcome(self, node, command, *, timeout_s=8.0, shard=None):
        """Propose and turn time until the result is there."""
        results = self.propose(node, command, timeout_s=timeout_s, shard=shard)
        self.until(lambda: results, seconds=timeout_s + 2, what="a result")
        return results[0]

    def applied(self, node, command, **kwargs):
        result = self.outcome(node, command, **kwargs)
        assert isinstance(result, Applied), result
        return result.outcome


class Account:
    """A user: makes the commands that its client would."""

    def __init__(self, name, shard=0, shards=2):
        self.seed = hashlib.sha256(name.encode()).digest()
        head = int.from_bytes(self.seed[:8], "big") // shards * shards + shard
        self.record_id = (head % 2**64).to_bytes(8, "big") + self.seed[8:]
        self.request = hashlib.sha256(b"request" + self.seed).digest()
        self.proof_seed = hashlib.sha256(b"proof" + self.seed).digest()
        self.proof_key = ed25519_public_key(self.proof_seed)

    def registration(self, era):
        return registration_id(self.record_id, era, self.request, self.proof_key)

    def register(self, era=0):
        return Register(self.record_id, era, self.request, self.proof_key, b"\x01" * 400)

    def activate(self, era=0):
        registration = self.registration(era)
        message = activation_message(CLUSTER, registration)
        return Activate(self.record_id, registration, ed25519_sign(self.proof_seed, message))

    def attempt(self, number):
        return hashlib.sha256(b"attempt%d" % number + self.seed).digest()

    def charge(self, number, era=1):
        return Charge(self.record_id, era, self.attempt(number))

    def prove(self, number, era=1, birth_era=0):
        registration = self.registration(birth_era)
        message = prove_message(CLUSTER, registration, era, self.attempt(number))
        signature = ed25519_sign(self.proof_seed, message)
        return Prove(self.record_id, registration, era, self.attempt(number), signature)

    def delete(self, era):
        return Delete(self.record_id, era)

    def enrol(self, world, node):
        """Register and activate through one node."""
        assert world.applied(node, self.register()).status == "done"
        assert world.applied(node, self.activate()).status == "done"
        return self


__all__ = [
    "CLUSTER",
    "MS",
    "SECOND",
    "Account",
    "Applied",
    "BootRefused",
    "NotAppended",
    "SimNode",
    "SimStore",
    "World",
]
