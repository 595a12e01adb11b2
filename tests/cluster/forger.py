"""An owned data center in the simulated world: it speaks as its node and says what it likes.

`Forger` puts a mute puppet in the node's place and hits one honest host at a time with frames under
the node's name: entries behind that host's own log, committed at once, or a snapshot of records
that never were. Each victim may be told another story; none of them can tell.
"""

from __future__ import annotations

import hashlib

from raft_world import (
    APPEND,
    HEARTBEAT,
    SNAPSHOT,
    wire_entry,
    wire_message,
    wire_snapshot,
)

from chaos.sim import CLUSTER
from cluster.api import Give
from cluster.commands import encode_command
from cluster.entries import encode_entry
from cluster.frames import Frame, Hello, RaftMessages, Welcome, decode_frame, encode_frame
from cluster.manifest import Manifest, encode_manifest
from cluster.record import encode_record
from cluster.statehash import EMPTY_HASH, add, encode_hash
from engines.encoding import u32

INCARNATION = 1_000_000
"""Above any that the real node had: the others believe the newest."""


class Puppet:
    """What stands where the owned node's host stood: it hears everything and does nothing."""

    def __init__(self):
        self.heard = []

    def on_frame(self, sender, payload):
        self.heard.extend((sender, item) for item in decode_frame(payload).items)

    def __getattr__(self, name):
        return lambda *_arguments, **_named: None


class Forger:
    """Node `owned`, in the hands of somebody else."""

    def __init__(self, world, owned):
        self.world, self.owned = world, owned
        self.nodes = world.nodes
        node = self.nodes[owned]
        node.crash()
        node.host = self.puppet = Puppet()
        world.links_changed()
        world.run(0.1)
        self.files = 0

    def say(self, victim, *items):
        frame = encode_frame(Frame(INCARNATION, list(items)))
        hello = encode_frame(Frame(INCARNATION, [Hello(CLUSTER.bytes, INCARNATION, bytes(16))]))
        for payload in (hello, frame):
            node = self.nodes[victim]
            if node.up:
                node.guard(node.host.on_frame, self.owned, payload)
                self.world.run(0.02)

    def raft(self, victim, kind, **fields):
        self.say(
            victim, RaftMessages([(0, wire_message(kind, sender=self.owned, to=victim, **fields))])
        )

    def group(self, victim):
        return self.nodes[victim].host.status().groups[0]

    def end(self, victim):
        """(term to speak in, last index, its term): the next term, so that nobody else leads."""
        group = self.group(victim)
        raft = self.nodes[victim].host._core.raft
        return group.term + 1, group.last_index, raft.term_at(0, group.last_index)

    def log(self, victim, *entries, wait=0.3):
        """Put raw entries behind the victim's log, committed; back when they are durable there."""
        term, last, last_term = self.end(victim)
        wired = [wire_entry(last + 1 + n, term, data) for n, data in enumerate(entries)]
        self.raft(
            victim, APPEND, term=term, index=last, log_term=last_term, commit=last + len(entries),
            entries=wired,
        )  # fmt: skip
        self.world.run(wait)

    def commit(self, victim, *commands):
        """Have the victim apply these commands."""
        sent = [(self.owned, 1, n, encode_command(command)) for n, command in enumerate(commands)]
        before = self.group(victim).applied
        self.log(victim, encode_entry(sent))
        if self.nodes[victim].up:
            assert self.group(victim).applied > before

    def install(self, victim, records, *, voters=None, learners=(), revision=0):
        """Have the victim replace the shard by `records`; True when it did."""
        term, last, _ = self.end(victim)
        index, state, data = last + 100, EMPTY_HASH, b""
        for record_id, record in sorted(records.items()):
            value = encode_record(record)
            state = add(state, record_id, value)
            data += record_id + u32(len(value)) + value
        self.files += 1
        name = f"out-0-{self.files}"
        self.nodes[self.owned].files[name] = data
        said = Manifest(
            name, 0, index, term, len(data), hashlib.sha256(data).digest(), len(records),
            encode_hash(state), revision,
        )  # fmt: skip
        voters = list(self.world.node_ids if voters is None else voters)
        self.raft(
            victim, SNAPSHOT, term=term,
            snapshot=wire_snapshot(index, term, voters, encode_manifest(said), learners),
        )  # fmt: skip
        self.world.run(1)
        return self.nodes[victim].up and self.group(victim).applied >= index

    def heartbeat(self, victim, commit):
        term, _, _ = self.end(victim)
        self.raft(victim, HEARTBEAT, term=term, commit=commit)

    def welcome(self, victim, marks):
        """Answer the Hello of a victim that just started with marks of our own making."""
        self.world.until(lambda: self._greeted(victim), what="its Hello")
        hello = self._greeted(victim)
        answer = Welcome(hello.nonce, True, hello.incarnation - 1, marks)
        frame = encode_frame(Frame(INCARNATION, [answer]))
        node = self.nodes[victim]
        node.guard(node.host.on_frame, self.owned, frame)
        self.world.run(1)

    def refuse(self, victim):
        """Tell a running victim that we have seen a later life of it."""
        host = self.nodes[victim].host
        later = host.status().incarnation + 1
        self.say(victim, Welcome(host._parts.nonce, False, later, []))

    def _greeted(self, victim):
        """The Hello of its present life, if it was heard."""
        life = self.nodes[victim].host.status().incarnation
        for sender, item in self.puppet.heard:
            if sender == victim and isinstance(item, Hello) and item.incarnation == life:
                return item
        return None

    def record(self, victim, record_id):
        return self.nodes[victim].host.view(record_id)[0]

    def gives(self, victim, record_id, attempt_id):
        """Whether the victim would hand out its share, in whatever era its record is now."""
        record = self.record(victim, record_id)
        era = 0 if record is None else record.era
        return isinstance(self.nodes[victim].host.share_verdict(record_id, era, attempt_id), Give)

    def alarms(self, victim):
        return "\n".join(self.nodes[victim].host.status().alarms)
