"""Words in which a schedule reads like prose: who is killed when, who hears whom, who asks what.

A `Stage` is the simulated world with clients who remember what they were told, a witness of every
share given, and watchers that hold at every step: no node votes twice in a term, no term has two
leaders, no index holds two entries. What must be true when the curtain falls is in `curtain`.
"""

from dataclasses import dataclass, field

from raft_world import APPEND, HEARTBEAT, SNAPSHOT, VOTE, VOTE_RESPONSE

from chaos.sim import Account, Killed, World
from cluster.api import Applied, Give, NotAppended, Unknown, Wait
from cluster.commands import Barrier, encode_command
from cluster.frames import Frame, RaftMessages, decode_frame, encode_frame
from cluster.ports import Batch

LOST, THERE = "lost", "there"
"""What became of the batch that was with the disk when a process ended."""
REJECT_FIELD = 10


@dataclass
class Call:
    """One command of one client at one node, and what came of it."""

    node: int
    command: object
    shard: int
    results: list = field(default_factory=list)

    @property
    def result(self):
        return self.results[0] if self.results else None

    @property
    def status(self):
        """done, replayed, …; `unknown`; `not appended`; or None while it is open."""
        match self.result:
            case Applied(outcome=outcome):
                return str(getattr(outcome, "status", "done"))
            case Unknown():
                return "unknown"
            case NotAppended():
                return "not appended"
        return None


class Stage(World):
    """Five nodes, one shard, frames that outlive their sender, and everybody watched."""

    def __init__(self, seed=1, *, shards=1, limit=3, **world):
        super().__init__(seed, shards=shards, limit=limit, **world)
        self.late_frames = True
        self.calls = []
        self.asked = []
        """(account, attempt, era) that somebody wants evaluated."""
        self.shares = {}
        """(record, registration, era, attempt) -> nodes that gave."""
        self.log = {}
        """(shard, index) -> the entry that every node applies there."""
        self.votes = {}
        self.leaders = {}
        self.wires = []
        """Rules (sender, receiver, frame) -> the frame vanishes."""
        self.edits = []
        """Rules (sender, receiver, shard, peeked, message) -> the Raft message vanishes."""
        self._hosts = {}
        self._given = {}
        self.moments.append(self._watch)
        for node in self.nodes.values():
            node.start()
        self._elect_somebody(seed)

    def _elect_somebody(self, seed):
        """Who leads first follows from the seed; nobody need wait for a first time-out."""
        self.until(lambda: all(node.running.status().stepping for node in self.alive))
        first = self.node_ids[seed % len(self.node_ids)]
        for shard in range(self.shards):
            self.host(first)._core.raft.campaign(shard)
        self.until(self.led, what="a leader")

    # ---- who is who

    @property
    def followers(self):
        leader = self.leader()
        return [node.id for node in self.alive if node.id != leader]

    def others(self, *nodes):
        return [node for node in self.node_ids if node not in nodes]

    def host(self, node):
        return self.machines[node].running

    def group(self, node, shard=0):
        return self.host(node).status().groups[shard]

    def terms(self, shard=0):
        return [self.group(node.id, shard).term for node in self.alive]

    # ---- clients

    def user(self, name, *, node=None, shard=0):
        """An account with an active registration."""
        account = Account(name, shard, self.shards)
        for command in (account.register(), account.activate()):
            call = self.send(node or self.leader(shard), command)
            self.answered(call)
            assert call.status == "done", call
        return account

    def send(self, node, command, *, shard=0, timeout_s=8.0):
        """A client sends a command to a node, and remembers it."""
        call = Call(node, command, shard)
        self.calls.append(call)
        target = shard if isinstance(command, Barrier) else None
        self.host(node).propose(
            command, timeout_s=timeout_s, shard=target, done=call.results.append
        )
        return call

    def guess(self, node, account, number, era=1, **kwargs):
        """Charge an attempt, and ask every node for its share of it."""
        ask = (account, account.attempt(number), era)
        if ask not in self.asked:
            self.asked.append(ask)
        return self.send(node, account.charge(number, era), **kwargs)

    def answered(self, *calls, seconds=12.0):
        """Turn the time until every call has its result."""
        self.until(lambda: all(call.results for call in calls), seconds, "an answer")
        return [call.status for call in calls]

    def guess_everywhere(self, account, number, era=1):
        """The same attempt again at every living node, as a client would that got no answer."""
        calls = [self.guess(node.id, account, number, era) for node in self.alive]
        return self.answered(*calls)

    def record(self, node, account):
        return self.host(node).view(account.record_id)[0]

    def gave(self, account, number, era=1):
        """The nodes that gave a share of the attempt."""
        return set().union(
            *(
                nodes
                for (record, _, its_era, attempt), nodes in self.shares.items()
                if (record, its_era, attempt) == (account.record_id, era, account.attempt(number))
            )
        )

    # ---- processes

    def kill(self, node, batch=LOST):
        """SIGKILL now; the batch that is with the disk is lost or there."""
        machine = self.nodes[node]
        if machine.pending is not None and batch == THERE:
            machine.store.apply(machine.pending)
        machine.pending = None
        machine.crash()

    def power_cut(self, batch=LOST):
        """Everybody at once."""
        for node in self.node_ids:
            if self.nodes[node].up:
                self.kill(node, batch)

    def bring_back(self, *nodes):
        """Start whoever of them is down; all if nobody is named."""
        for node in nodes or self.node_ids:
            if not self.nodes[node].up:
                self.nodes[node].start()

    def when(self, node, moment, about=lambda _what: True, *, then):
        """Once, as soon as `node` is at `moment` of something `about` is true of: call `then`."""

        def watch(machine, seen, what):
            if machine.id == node and seen == moment and about(what):
                self.moments.remove(watch)
                then()

        self.moments.append(watch)

    def die_here(self, node, batch=LOST):
        """For `when`: the process ends in the middle of what it does."""

        def die():
            machine = self.nodes[node]
            if machine.pending is not None and batch == THERE:
                machine.store.apply(machine.pending)
            machine.pending = None
            raise Killed

        return die

    def soon_after(self, call):
        """For `when`, about another node than the one that is in the middle of something."""
        return lambda: self.at(0, call)

    # ---- wires

    def carry(self, a, b, frame):
        if any(rule(a, b, frame) for rule in self.wires):
            return self.connected(a, b)
        if self.edits:
            frame = self._edited(a, b, frame)
        return super().carry(a, b, frame)

    def isolate(self, *nodes):
        """These nodes hear each other and nobody else; clients still reach everybody."""
        self.partition(nodes, self.others(*nodes))

    def mesh(self, *edges):
        """Only these pairs have a link."""
        open_pairs = {pair for a, b in edges for pair in ((a, b), (b, a))}
        pairs = {(a, b) for a in self.node_ids for b in self.node_ids if a != b}
        self.cut_pairs = pairs - open_pairs
        self.links_changed()

    def deaf(self, node):
        """It sends and nothing reaches it; links stay up and frames vanish."""
        self.wires.append(lambda _a, b, _frame: b == node)

    def mute(self, node):
        """It hears everything and nobody hears it."""
        self.wires.append(lambda a, _b, _frame: a == node)

    def withhold(self, rule):
        """Raft messages of which `rule(sender, receiver, peeked)` is true vanish from frames."""
        self.edits.append(rule)

    def calm(self):
        """Every wire carries everything again."""
        self.wires.clear()
        self.edits.clear()
        self.loss = self.double = self.reorder = 0.0
        self.heal()

    def _edited(self, a, b, payload):
        frame = decode_frame(payload)
        items = []
        for item in frame.items:
            if isinstance(item, RaftMessages):
                kept = [
                    (shard, message)
                    for shard, message in item.messages
                    if not any(rule(a, b, self.peek(a, message)) for rule in self.edits)
                ]
                items.append(RaftMessages(kept))
            else:
                items.append(item)
        return encode_frame(Frame(frame.incarnation, items))

    def peek(self, node, message):
        """(kind, from, to, term, index, log term, commit)."""
        return self.host(node)._core.raft.peek(message)

    # ---- watchers

    def _watch(self, node, moment, what):
        host = node.running
        if self._hosts.get(node.id) is not host:
            self._hosts[node.id] = host
            self._given[node.id] = set()
            host._parts.machine.apply_entry = self._compared(host._parts.machine.apply_entry)
        if moment == "sent":
            self._watch_votes(node.id, what)
        elif moment in ("turned", "durable"):
            self.ask_shares(node)

    def _compared(self, apply_entry):
        def compared(shard, index, data):
            known = self.log.setdefault((shard, index), data)
            assert known == data, f"I8: two entries at index {index} of shard {shard}"
            return apply_entry(shard, index, data)

        return compared

    def ask_shares(self, node, *, again=False):
        """Whoever may give its share of an attempt that was asked for gives it, at once."""
        answered = set() if again else self._given[node.id]
        for number, (account, attempt, era) in enumerate(self.asked):
            if number in answered:
                continue
            verdict = node.running.share_verdict(account.record_id, era, attempt)
            if isinstance(verdict, Wait):
                node.running.want_share(account.record_id)
            elif isinstance(verdict, Give):
                answered.add(number)
                row = node.running.ledger_row(account.record_id)
                assert attempt in row.ids, "I1: a share before this node's ledger is durable"
                key = (account.record_id, verdict.registration_id, verdict.era, attempt)
                self.shares.setdefault(key, set()).add(node.id)

    def _watch_votes(self, sender, payload):
        for item in decode_frame(payload).items:
            if not isinstance(item, RaftMessages):
                continue
            for shard, message in item.messages:
                kind, _, to, term, *_ = self.peek(sender, message)
                if kind == VOTE:
                    self._voted(shard, term, sender, sender)
                elif kind == VOTE_RESPONSE and not rejects(message):
                    self._voted(shard, term, sender, to)
                elif kind in (APPEND, HEARTBEAT, SNAPSHOT):
                    known = self.leaders.setdefault((shard, term), sender)
                    assert known == sender, f"I8: {known} and {sender} both lead term {term}"

    def _voted(self, shard, term, voter, candidate):
        known = self.votes.setdefault((shard, term, voter), candidate)
        assert known == candidate, (
            f"I8: in term {term} node {voter} voted for {known} and {candidate}"
        )


def rejects(message):
    """Whether a Raft message says no: field 10 of eraftpb.Message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 0:
            value, at = _varint(message, at)
            if tag >> 3 == REJECT_FIELD:
                return value != 0
        else:
            size, at = _varint(message, at)
            at += size
    return False


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def mentions(needle, *tables):
    """For `when`: a frame that holds these bytes, or a batch that writes them to the tables."""

    def about(what):
        if isinstance(what, Batch):
            return any(op[1] in tables and (needle in op[2] or needle in op[3]) for op in what.ops)
        return needle in what

    return about


def same(command):
    """The bytes of a command, as they travel."""
    return encode_command(command)
