"""A full list is locked when its grace is over, counted while it could be answered (I3)."""

from chaos.sim import SECOND, Account, World
from cluster.api import Give


def full(world, name="user", node=1):
    account = Account(name).enrol(world, node)
    for number in range(world.limit):
        assert world.applied(node, account.charge(number)).status == "done"
    return account


def locked(world, account):
    return all(
        (record := node.host.view(account.record_id)[0]) is not None and record.locked
        for node in world.alive
    )


def test_a_full_list_is_locked_after_its_grace_and_not_before():
    world = World(grace_s=5.0).start()
    account = full(world)
    begun = world.now
    world.until(lambda: locked(world, account), seconds=10)
    assert 4.5 * SECOND <= world.now - begun <= 6 * SECOND
    assert world.applied(3, account.charge(9, era=2)).status == "locked"


def test_the_last_guess_may_still_be_proven_within_the_grace():
    world = World(grace_s=5.0).start()
    account = full(world)
    world.run(3)
    assert world.applied(2, account.prove(world.limit - 1)).status == "done"
    world.run(10)
    assert not world.nodes[1].host.view(account.record_id)[0].locked
    assert world.applied(2, account.charge(5, era=2)).status == "done"


def test_grace_is_not_counted_while_fewer_than_three_can_answer():
    world = World(grace_s=5.0).start()
    account = full(world)
    away = [node for node in world.alive if node.id != world.leader()][:3]
    for node in away:
        node.host.set_hsm(working=False)
    world.run(30)
    assert not world.nodes[1].host.view(account.record_id)[0].locked
    for node in away:
        node.host.set_hsm(working=True)
    world.until(lambda: locked(world, account), seconds=10)


def test_within_the_grace_a_listed_attempt_is_still_answered():
    world = World(grace_s=5.0).start()
    account = full(world)
    world.run(1)
    for node in world.alive:
        verdict = node.host.share_verdict(account.record_id, 1, account.attempt(0))
        assert isinstance(verdict, Give)


def test_a_new_leader_counts_the_grace_anew_and_locks():
    world = World(grace_s=5.0).start()
    account = full(world)
    world.run(3)
    world.nodes[world.leader()].crash()
    world.until(world.led)
    begun = world.now
    world.until(lambda: locked(world, account), seconds=10)
    assert world.now - begun >= 4 * SECOND


def test_full_lists_are_known_again_after_a_restart_of_everyone():
    world = World(grace_s=3.0).start()
    account = full(world)
    for node in world.nodes.values():
        node.crash()
    for node in world.nodes.values():
        node.start()
    world.until(world.led)
    world.until(lambda: locked(world, account), seconds=15)


def test_a_lock_survives_snapshots_failover_and_restart():
    world = World(grace_s=2.0).start()
    account = full(world)
    world.until(lambda: locked(world, account), seconds=10)
    for _ in range(3):
        leader = world.leader()
        world.nodes[leader].crash()
        world.until(world.led)
        world.nodes[leader].start()
        world.until(world.settled)
        assert locked(world, account)
        assert world.applied(leader, account.charge(7, era=2)).status == "locked"
