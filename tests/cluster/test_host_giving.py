"""When a node gives its share: charged, applied here, in its durable ledger (I1-I3)."""

from chaos.sim import Account, World
from cluster.api import Give, LaterEra, LedgerFull, NotAGiver, Refused, Wait
from cluster.ledger import LedgerRow, encode_row


def verdict(world, node, account, number, era=1):
    return world.nodes[node].host.share_verdict(account.record_id, era, account.attempt(number))


def charged(world, account, number, node=1, era=1):
    assert world.applied(node, account.charge(number, era)).status == "done"


def test_every_node_gives_after_the_charge_is_applied_and_durable_there():
    world = World().start()
    account = Account("user").enrol(world, 1)
    charged(world, account, 1)
    for node in world.node_ids:
        world.until(lambda n=node: isinstance(verdict(world, n, account, 1), Give))
        assert verdict(world, node, account, 1) == Give(account.registration(0), 1)


def test_no_node_ever_gives_before_its_own_apply_and_its_durable_ledger_row():
    world = World().start()
    account = Account("user").enrol(world, 1)
    results = world.propose(2, account.charge(1))
    given = set()
    while len(given) < 5:
        world.step()
        for node in world.alive:
            if isinstance(verdict(world, node.id, account, 1), Give):
                given.add(node.id)
                record = node.host.view(account.record_id)[0]
                assert account.attempt(1) in record.attempts
                assert account.attempt(1) in node.host.ledger_row(account.record_id).ids
    assert results


def test_a_share_survives_the_power_cut_right_after_it_was_given():
    world = World().start()
    account = Account("user").enrol(world, 1)
    world.propose(2, account.charge(1))
    node = world.nodes[3]
    world.until(lambda: isinstance(verdict(world, 3, account, 1), Give))
    node.crash()
    node.start()
    world.until(lambda: node.host.status().stepping)
    assert account.attempt(1) in node.host.ledger_row(account.record_id).ids
    assert account.attempt(1) in node.host.view(account.record_id)[0].attempts


def test_a_watched_record_becomes_durable_without_waiting():
    world = World(delay_ms=(1, 1), disk_ms=2).start()
    account = Account("user").enrol(world, 1)
    world.run(1)
    leader = world.leader()
    follower = world.nodes[next(n for n in world.node_ids if n != leader)]
    calls = []
    unwatch = follower.host.watch(account.record_id, lambda: calls.append(world.now))
    world.propose(leader, account.charge(1))
    begun = world.now
    world.until(lambda: isinstance(verdict(world, follower.id, account, 1), Give))
    assert world.now - begun < 60_000_000  # the lazy puts alone would take up to 100 ms
    world.run(0.01)
    assert len(calls) >= 2  # after apply and after durability
    unwatch()
    seen = len(calls)
    charged(world, account, 2)
    world.run(1)
    assert len(calls) == seen


def test_want_share_makes_an_applied_row_durable_soon():
    world = World(delay_ms=(1, 1), disk_ms=2).start()
    account = Account("user").enrol(world, 1)
    world.run(1)
    leader = world.leader()
    follower = world.nodes[next(n for n in world.node_ids if n != leader)]
    world.propose(leader, account.charge(1))
    world.until(lambda: follower.host.view(account.record_id)[0].attempts)
    assert verdict(world, follower.id, account, 1) == Wait()
    begun = world.now
    follower.host.want_share(account.record_id)
    world.until(lambda: isinstance(verdict(world, follower.id, account, 1), Give))
    assert world.now - begun < 10_000_000


def test_what_is_asked_too_early_too_late_or_in_vain():
    world = World(limit=2).start()
    account = Account("user").enrol(world, 1)
    assert verdict(world, 1, account, 1) == Wait()
    assert verdict(world, 1, account, 1, era=2) == Wait()
    assert verdict(world, 1, account, 1, era=0) == LaterEra(1)
    charged(world, account, 1)
    charged(world, account, 2)
    assert isinstance(verdict(world, 1, account, 3), Refused)  # full, and this one is not in it
    assert isinstance(verdict(world, 1, Account("nobody"), 1, era=0), Refused)
    assert verdict(world, 1, Account("nobody"), 1, era=1) == Wait()
    assert world.applied(1, account.prove(1)).status == "done"
    assert verdict(world, 1, account, 1) == LaterEra(2)


def test_a_full_ledger_gives_nothing_whatever_the_log_says():
    world = World(limit=2).start()
    account = Account("user").enrol(world, 1)
    charged(world, account, 1)
    world.run(1)
    node = world.nodes[1]
    row = node.host.ledger_row(account.record_id)
    other = [bytes([n]) * 32 for n in range(2)]
    forged = LedgerRow(row.floor, row.current, row.proved, tuple(other))
    node.store.tables["ledger"][account.record_id] = encode_row(forged)
    node.host._core.overlay._recent_rows.clear()
    assert verdict(world, 1, account, 1) == LedgerFull()


def test_a_node_without_its_hsm_is_no_giver_and_the_others_hear_of_it():
    world = World().start()
    account = Account("user").enrol(world, 1)
    charged(world, account, 1)
    world.run(1)
    assert len(world.nodes[1].host.share_givers(0)) == 5
    world.nodes[2].host.set_hsm(working=False)
    assert isinstance(verdict(world, 2, account, 1), NotAGiver)
    world.until(lambda: len(world.nodes[1].host.share_givers(0)) == 4, seconds=2)
    world.nodes[2].host.set_hsm(working=True)
    world.until(lambda: len(world.nodes[1].host.share_givers(0)) == 5, seconds=2)


def test_a_node_that_is_not_heard_for_two_seconds_is_no_giver():
    world = World().start()
    world.run(1)
    givers = world.nodes[1].host.share_givers(0)
    assert givers[0].node_id == 1
    assert givers[0].rtt_ms == 0.0
    assert all(5 < giver.rtt_ms < 40 for giver in givers[1:])
    carry = world.carry
    world.carry = lambda a, b, frame: True if a == 5 else carry(a, b, frame)
    world.run(2.2)
    assert 5 not in [giver.node_id for giver in world.nodes[1].host.share_givers(0)]


def test_a_node_whose_link_is_down_is_no_giver_at_once():
    world = World().start()
    world.run(1)
    world.nodes[5].crash()
    assert 5 not in [giver.node_id for giver in world.nodes[1].host.share_givers(0)]
