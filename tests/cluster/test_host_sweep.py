"""Random faults from a seed, and I1-I5, I7, I8 checked all along; any seed may be replayed."""

import pytest
from replace_kit import finish, is_done, join

from chaos.sim import MS, Account, World
from cluster.api import Applied, Give, NotAppended


class Witness:
    """Plays clients at random, collects every share given, and remembers what was acknowledged."""

    def __init__(self, world, accounts):
        self.world = world
        self.accounts = accounts
        self.next = dict.fromkeys(range(len(accounts)), 0)
        self.tried = []
        self.shares = {}
        self.charged = {}
        self.refused = set()
        self.versions = {}

    def guess(self):
        world = self.world
        which = world.random.randrange(len(self.accounts))
        account = self.accounts[which]
        node = world.random.choice(world.alive)
        record = node.host.view(account.record_id)[0]
        era = 1 if record is None else record.era
        number = self.next[which]
        self.next[which] += 1
        attempt = account.attempt(number)
        self.tried.append((account, attempt, era))

        def done(result):
            if isinstance(result, NotAppended):
                self.refused.add(attempt)
            elif isinstance(result, Applied) and result.outcome.status == "done":
                self.charged[attempt] = (account, era)

        node.host.propose(account.charge(number, era), timeout_s=4, done=done)
        if number % 4 == 3 and world.random.random() < 0.5:
            proof = account.prove(number, era)
            node.host.propose(proof, timeout_s=4, done=lambda _result: None)

    def look(self):
        """Ask every node for a share of every recent attempt; check what may be checked now."""
        for node in self.world.alive:
            for account, attempt, era in self.tried[-30:]:
                verdict = node.host.share_verdict(account.record_id, era, attempt)
                if isinstance(verdict, Give):
                    record = node.host.view(account.record_id)[0]
                    assert attempt in record.attempts, "I2: a share before the charge"
                    assert attempt in node.host.ledger_row(account.record_id).ids
                    seats = self.shares.setdefault((account.record_id, verdict.era), {})
                    seats.setdefault(attempt, set()).add(node.id)
            for account in self.accounts:
                record = node.host.view(account.record_id)[0]
                if record is not None:
                    known = self.versions.setdefault((account.record_id, record.version), record)
                    assert known == record, "I7, I8: one version, two states"

    def check(self):
        world = self.world
        for attempts in self.shares.values():
            assert len(attempts) <= world.limit, "I1: more than the limit in one era"
            for attempt in attempts:
                assert attempt not in self.refused, "I12: no, and yet a share"
        for attempt, (account, era) in self.charged.items():
            for node in world.alive:
                record = node.host.view(account.record_id)[0]
                row = node.host.ledger_row(account.record_id)
                assert record.era > era or attempt in record.attempts, "I4: a charge got lost"
                assert record.era > era or attempt in row.ids
        assert len(world.state_hashes()) == 1, "I8"


def trouble(world):
    """One random fault, or one healed."""
    choice = world.random.randrange(10)
    down = [node for node in world.nodes.values() if not node.up]
    if choice <= 1 and len(down) < 3:
        world.random.choice(world.alive).crash()
    elif choice <= 3 and down:
        world.random.choice(down).start()
    elif choice == 4:
        sides = list(world.node_ids)
        world.random.shuffle(sides)
        cut = world.random.randrange(1, 5)
        world.partition(sides[:cut], sides[cut:])
    elif choice == 5:
        world.heal()
    elif choice == 6:
        world.random.choice(world.alive).disk_ms = world.random.choice([1, 4, 40, 300])
    elif choice == 7:
        node = world.random.choice(world.alive)
        node.hsm_away = not node.hsm_away
    elif choice == 8:
        if is_done(world):  # one replacement after the other, as the command allows
            join(world, world.random.choice(world.node_ids), crash=False)
    else:
        world.loss = world.random.choice([0.0, 0.0, 0.05])


@pytest.mark.parametrize("seed", range(12))
def test_random_faults_break_no_rule(seed, monkeypatch):
    monkeypatch.setattr("cluster.compaction.LOG_CUT_ENTRIES", 30)
    monkeypatch.setattr("cluster.compaction.LOG_KEEP_ENTRIES", 10)
    world = World(seed, limit=4, grace_s=6.0, delay_ms=(2, 40)).start()
    accounts = [Account(f"user {n}", shard=n % 2).enrol(world, 1 + n) for n in range(4)]
    witness = Witness(world, accounts)
    for step in range(160):
        if world.alive:
            witness.guess()
            witness.look()
        if step % 4 == 0:
            trouble(world)
        world.run(world.random.randrange(10, 200) * MS / 1e9)
    stopped = [node.stopped for node in world.nodes.values() if node.stopped]
    assert not stopped, stopped
    world.loss = 0.0
    world.heal()
    for node in world.nodes.values():
        node.hsm_away, node.disk_ms = False, 4
        if not node.up:
            node.start()
    finish(world, seconds=200)
    world.run(9)
    world.until(world.settled, seconds=120)
    witness.look()
    witness.check()
    assert not [node.stopped for node in world.nodes.values() if node.stopped]
    assert witness.shares
    fresh = Account("afterwards")
    fresh.enrol(world, world.node_ids[2])
