"""How every scenario ends: the vault is healed, and then everything is demanded of it.

The committed log, as the watchers of `stage` saw it applied, is replayed from its first entry. All
nodes hold exactly the replayed records (I5, I7, I8). Whatever a client was told stands in the log
at the index that it was told (I4), and what it was told was not appended is not there (I12). Shares
were given only for what the log charges, for at most `limit` attempts between two proofs (I1, I2).
And the vault lives: a fresh account is registered, guessed at and evaluated.
"""

from chaos.sim import CLUSTER
from cluster.api import Applied, NotAppended
from cluster.commands import Barrier, Charge, Status, decode_command, encode_command
from cluster.entries import decode_entry
from cluster.record import Rules, apply
from cluster.tables import FIRST_INDEX

LEADER_S = 10.0
"""Virtual seconds to a leader that everybody follows, once nothing is broken any more."""

LAZY_S = 0.3
"""What was applied is durable, ledger included, so much later."""


def judge(stage, *, fresh="the next one"):
    """Heal everything, then demand everything."""
    stage.calm()
    for node in stage.nodes.values():
        node.hsm_away, node.disk_ms, node.stamp_ms = False, stage.disk_ms, 4
    stage.bring_back()
    stage.until(lambda: stage.led() and everybody_follows(stage), LEADER_S, "a leader for all")
    lives(stage, fresh)
    stage.until(stage.settled, what="equal logs")
    stage.run(LAZY_S)
    assert not [node.stopped for node in stage.nodes.values() if node.stopped]
    assert not stage.cuts
    for node in stage.alive:
        stage.ask_shares(node, again=True)
    truth = Truth(stage)
    truth.is_what_all_nodes_hold()
    truth.has_everything_acknowledged()
    truth.has_nothing_refused()
    truth.covers_every_share()
    return truth


def everybody_follows(stage):
    for shard in range(stage.shards):
        leader = stage.leader(shard)
        if any(stage.group(node.id, shard).leader != leader for node in stage.alive):
            return False
    return True


def lives(stage, name):
    """A fresh account is registered at one node, guessed at another, and evaluated."""
    for shard in range(stage.shards):
        account = stage.user(f"{name}, shard {shard}", shard=shard, node=stage.node_ids[shard])
        call = stage.guess(stage.node_ids[-1], account, 1)
        stage.answered(call)
        assert call.status == "done"
        stage.until(lambda a=account: len(stage.gave(a, 1)) >= 3, 5, "three shares")


class Truth:
    """The committed log, replayed."""

    def __init__(self, stage):
        self.stage = stage
        self.records = {}
        self.outcomes = {}
        """(shard, index) -> [(command, outcome)]."""
        rules = Rules(CLUSTER, stage.limit)
        for shard, index in sorted(stage.log):
            first = index == FIRST_INDEX + 1 or stage.book.revision > 0  # members change in between
            assert first or (shard, index - 1) in stage.log, "an entry that nobody applied"
            happened = self.outcomes.setdefault((shard, index), [])
            for _, _, _, data in decode_entry(stage.log[shard, index]):
                command = decode_command(data)
                if isinstance(command, Barrier):
                    happened.append((command, None))
                    continue
                before = self.records.get(command.record_id)
                after, outcome = apply(rules, before, command)
                self.records[command.record_id] = after
                happened.append((command, outcome))

    def charged(self):
        """(record, registration, era, attempt) of every charge that had effect, in order."""
        return [
            (command.record_id, outcome.grant.registration_id, outcome.era, command.attempt_id)
            for happened in self.outcomes.values()
            for command, outcome in happened
            if isinstance(command, Charge) and outcome.status is Status.DONE
        ]

    def count(self, account):
        """Attempts that stand on the account's list."""
        return len(self.records[account.record_id].attempts)

    def is_what_all_nodes_hold(self):
        assert len(self.stage.state_hashes()) == 1, "I8: the state hashes differ"
        for node in self.stage.alive:
            for record_id, record in self.records.items():
                assert node.running.view(record_id)[0] == record, "I7, I8: not the replayed record"
                row = node.running.ledger_row(record_id)
                if record is not None and record.active is not None:
                    assert set(record.attempts) <= set(row.ids), "a ledger lacks a charge"

    def has_everything_acknowledged(self):
        for call in self.stage.calls:
            if isinstance(call.result, Applied):
                outcome = None if isinstance(call.command, Barrier) else call.result.outcome
                happened = self.outcomes.get((call.result.shard, call.result.index), [])
                assert (call.command, outcome) in happened, f"I4: lost {call}"

    def has_nothing_refused(self):
        """A command whose every send was refused stands nowhere."""
        logged = {
            encode_command(command)
            for happened in self.outcomes.values()
            for command, _ in happened
            if not isinstance(command, Barrier)
        }
        sent = {}
        for call in self.stage.calls:
            sent.setdefault(encode_command(call.command), []).append(call)
        for data, calls in sent.items():
            if all(isinstance(call.result, NotAppended) for call in calls):
                assert data not in logged, f"I12: it was said to be in no log: {calls}"

    def covers_every_share(self):
        charged = self.charged()
        assert len(set(charged)) == len(charged), "I5: one attempt charged twice in an era"
        eras = {}
        for record, registration, era, _ in charged:
            eras[record, registration, era] = eras.get((record, registration, era), 0) + 1
        assert all(count <= self.stage.limit for count in eras.values()), "I1: over the limit"
        free = set(self.stage.shares) - set(charged)
        assert not free, f"I2: a share for what was never charged: {free}"
