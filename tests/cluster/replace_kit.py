"""What an operator and the tests of replacement do to a simulated world."""

from chaos.sim import SECOND
from cluster.api import Give
from cluster.commands import Barrier


def groups(world, node):
    return world.nodes[node].host.status().groups


def is_done(world):
    """Every living member sees exactly the book's voters, with complete ledgers."""
    for node in world.alive:
        for group in node.host.status().groups:
            fulfilled = group.voters == world.node_ids and not group.learners
            if not (fulfilled and group.ledger_complete):
                return False
    return True


def finish(world, seconds=60):
    """Turn the time until the book is fulfilled, and a little longer."""
    end = world.now + seconds * SECOND
    while not is_done(world):
        assert world.now < end, f"the book is not fulfilled within {seconds} virtual seconds"
        world.run(0.25)
    world.until(world.led)
    world.run(2.5)


def join(world, old, *, crash=True):
    if crash and world.nodes[old].up:
        world.nodes[old].crash()
    new = world.replace(old)
    world.nodes[new].start()
    return new


def busy(world, node, count=40, shard=0):
    for _ in range(count):
        world.outcome(node, Barrier(), shard=shard)


def gives(world, node, account, number, era=1):
    verdict = world.nodes[node].host.share_verdict(account.record_id, era, account.attempt(number))
    return isinstance(verdict, Give)


def lead(world, node):
    """Have `node` lead every shard."""
    for shard in range(world.shards):
        leader = world.leader(shard)
        if leader not in (None, node):
            world.nodes[leader].host._core.raft.transfer_leader(shard, node)
            world.nodes[leader].host._core.ports.wake()
    world.until(lambda: all(world.leader(s) == node for s in range(world.shards)), seconds=20)


def refuse_rows(world, *, none=False):
    """No ledger file arrives."""
    world.refuse_file = None if none else lambda _from, name: name.startswith("out-ledger-")
