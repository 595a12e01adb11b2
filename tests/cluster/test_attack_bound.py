"""The bound of crypto.md, reached and not passed: evaluations out of forged and equivocated logs.

Each honest ledger gives `limit` shares; an attempt needs three seats, the owned ones included. So
⌊(5-c)·L/(3-c)⌋ attempts can be evaluated with c seats owned: 16, 20 and 30 for L = 10. The liar
here tells every honest node another story and spends each of their shares where it counts most.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from forger import Forger

from chaos.sim import Account, World
from cluster.commands import Charge
from cluster.record import LastProof

LIMIT = 10
TRIES = 60


@pytest.fixture
def account():
    return Account("victim", shards=1)


def attempts(account):
    return [account.attempt(1000 + n) for n in range(TRIES)]


def ask_for_all(forger, honest, account, given):
    """What each node gives now, counted at the last door before its HSM."""
    for node in honest:
        for attempt in attempts(account):
            if forger[node].gives(node, account.record_id, attempt):
                given[attempt].add(node)


def evaluated(given, needed):
    return sum(len(seats) >= needed for seats in given.values())


def stories(honest, needed):
    """Which attempts each node is told: every share that there is, spread as thin as useful."""
    told = {node: [] for node in honest}
    slots = [node for _ in range(LIMIT) for node in honest]
    for number in range(len(slots) // needed):
        for node in slots[number * needed : (number + 1) * needed]:
            told[node].append(number)
    return told


@pytest.mark.parametrize(("owned", "bound"), [(0, 16), (1, 20), (2, 30)])
def test_equivocation_gets_exactly_what_the_honest_ledgers_allow_and_no_more(account, owned, bound):
    world = World(seed=11, shards=1, limit=LIMIT).start()
    account.enrol(world, 4)
    world.run(2)
    liars = [Forger(world, node) for node in range(1, owned + 1)]
    honest = [node for node in world.node_ids if node > owned]
    world.partition(*[[node, *range(1, owned + 1)] for node in honest])
    forger = {
        node: liars[n % owned] if liars else Ghost(world, node) for n, node in enumerate(honest)
    }
    given = {attempt: set() for attempt in attempts(account)}
    everything = attempts(account)
    for node, numbers in stories(honest, 3 - owned).items():
        liar = forger[node]
        record = liar.record(node, account.record_id)
        story = [everything[number] for number in numbers]
        assert liar.install(
            node, {account.record_id: msgspec.structs.replace(record, attempts=tuple(story))}
        )
    ask_for_all(forger, honest, account, given)
    assert evaluated(given, 3 - owned) == bound == (5 - owned) * LIMIT // (3 - owned)
    # And now everything else: more charges, emptied lists, made-up proofs, other eras.
    for node in honest:
        liar = forger[node]
        liar.commit(node, *(Charge(account.record_id, 1, a) for a in everything[40:50]))
        ask_for_all(forger, [node], account, given)
        record = liar.record(node, account.record_id)
        lies = [
            msgspec.structs.replace(record, attempts=tuple(everything[50:60])),
            msgspec.structs.replace(record, era=7, version=9, attempts=tuple(everything[30:40])),
            msgspec.structs.replace(
                record,
                era=8,
                version=10,
                attempts=tuple(everything[20:30]),
                last_proof=LastProof(everything[0], 7, bytes(64)),
            ),
        ]
        for lie in lies:
            assert liar.install(node, {account.record_id: lie})
            ask_for_all(forger, [node], account, given)
    assert evaluated(given, 3 - owned) == bound
    assert Counter(n for seats in given.values() for n in seats) == dict.fromkeys(honest, LIMIT)


class Ghost(Forger):
    """Nobody's seat is owned, yet the log is forged: as `victim`'s neighbour, from outside."""

    def __init__(self, world, victim):
        self.world, self.nodes, self.files = world, world.nodes, 0
        self.owned = victim % 5 + 1

    def install(self, victim, records):
        connected = self.world.connected
        self.world.connected = lambda a, b: True  # the file is fetched over a forged link, too
        try:
            return super().install(victim, records)
        finally:
            self.world.connected = connected
