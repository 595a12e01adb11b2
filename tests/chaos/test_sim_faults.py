"""What the simulator's faults do to one node: a disk that fills up, an HSM that is slow or goes."""

from dataclasses import dataclass, field
from functools import partial

import pytest

from chaos import faults as f
from chaos.sim import Account, World
from chaos.sim.desk import Desk
from chaos.sim.guard import Guard
from chaos.sim.inject import Injector
from chaos.sim.node import NO_SPACE
from chaos.sim.reference import Reference
from chaos.sim.shares import Shares
from chaos.sim.space import TOTAL
from chaos.sim.trace import Trace
from chaos.sim.units import CLUSTER, MS, SECOND
from cluster.marks import Gate
from cluster.record import Rules
from cluster.room import FULL_BYTES, SHORT_BYTES, Room
from cluster.talk import Talk
from cluster.types import ShardId

SALT = 7


@dataclass
class Bench:
    """A world with every check and everything that hurts it, and one account."""

    world: World = field(default_factory=lambda: World(shards=1))
    broken: list[str] = field(default_factory=list)

    def __post_init__(self):
        world, broken = self.world, self.broken.append
        trace = Trace(world)
        reference = Reference(world, Rules(CLUSTER, world.limit), broken)
        guard = Guard(world, reference, trace, broken)
        self.injector = Injector(world, guard, trace, broken)
        self.desk = Desk(world, guard, reference, Shares(reference, world.limit, broken))
        world.start()
        self.account = Account("user", shards=1).enrol(world, world.leader())
        world.run(1)
        self.follower = next(n for n in world.nodes.values() if n.id != world.leader())

    def do(self, *faults):
        for fault in faults:
            self.injector.do(fault, SALT)

    def guess(self, node, number=1):
        """Ask; returns where the replies go."""
        replies = []
        attempt = self.account.attempt(number)
        run = partial(self.desk.attempt, self.account.record_id, attempt)
        self.desk.ask(node.id, run, replies.append)
        return replies


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    assert not bench.broken


def room(node):
    return node.running.status().room


def test_a_disk_that_fills_slowly_makes_its_node_step_aside_and_come_back(bench):
    node = bench.follower
    life = node.life
    for free, expected in (
        (SHORT_BYTES - 1, Room.SHORT),
        (FULL_BYTES - 1, Room.FULL),
        (FULL_BYTES + 1, Room.FULL),
        (SHORT_BYTES - 1, Room.SHORT),
        (TOTAL, Room.ENOUGH),
    ):
        node.space.free = free
        bench.world.run(0.2)
        assert room(node) is expected
    assert node.life == life


def test_a_commit_without_a_byte_left_ends_the_node_which_waits_for_room_and_starts(bench):
    node = bench.follower
    node.space.free = 0
    bench.guess(node)
    bench.world.until(lambda: not node.up, 5)
    assert node.stopped == NO_SPACE
    bench.world.run(5)  # its supervisor starts it: it waits
    assert not node.up
    bench.do(f.DiskFreed(node.id))
    bench.world.until(lambda: node.up and node.running.status().stepping, 5)
    bench.world.until(bench.world.settled, 5)


def test_a_full_disk_takes_no_snapshot_file(bench):
    node = bench.follower
    node.space.free = 10
    got = []
    peer = bench.world.leader()
    bench.world.machines[peer].files["whole"] = b"x" * 11
    network = node.running._core.ports.network
    network.fetch_snapshot(peer, "whole", "in", size=11, done=got.append)
    bench.world.run(1)
    assert got == [False]
    with pytest.raises(OSError, match="No space left"):
        node.running._core.ports.files.create("own").write(b"x" * 11)


def test_a_node_whose_own_leftover_copies_fill_its_disk_starts_and_loses_them(bench):
    node = bench.follower
    node.space.free = 2 * FULL_BYTES
    node.files["out-1"] = bytes(2 * FULL_BYTES)
    bench.guess(node)
    bench.world.until(lambda: not node.up, 5)
    assert node.stopped == NO_SPACE
    assert node.files, "they outlive the process"
    bench.world.until(lambda: node.up and node.running.status().stepping, 5)
    assert not node.files
    bench.world.until(bench.world.settled, 5)


def test_slow_hsms_delay_an_evaluation_and_change_nothing_else(bench):
    quick = bench.guess(bench.follower)
    bench.world.until(lambda: quick, 5)
    bench.do(*(f.HsmSlow(node, 700) for node in bench.world.node_ids))
    began = bench.world.now
    slow = bench.guess(bench.follower, 2)
    bench.world.until(lambda: slow, 10)
    assert (quick[0].phase, slow[0].phase) == ("ok", "ok")
    assert bench.world.now - began >= 700 * MS


def test_an_hsm_that_goes_while_it_evaluates_gives_nothing_and_the_guess_stays_charged(bench):
    node = bench.follower
    bench.do(*(f.HsmSlow(each, 700) for each in bench.world.node_ids))
    replies = bench.guess(node)
    bench.world.until(
        lambda: (
            bench.account.attempt(1)
            in bench.world.nodes[1].running.view(bench.account.record_id)[0].attempts
        ),
        5,
    )
    bench.do(*(f.HsmGone(each) for each in bench.world.node_ids))
    bench.world.until(lambda: replies, 10)
    assert replies[0].code == "hsm-unavailable"
    assert replies[0].charged == "yes"
    assert bench.desk.shares.evaluations == 0
    bench.do(f.Heal())
    bench.world.run(2)
    again = bench.guess(node)
    bench.world.until(lambda: again, 10)
    assert (again[0].phase, again[0].charged) == ("ok", "no")
    assert bench.world.now < 60 * SECOND


def aged(bench, *nodes):
    """An image of each, and then something that they acknowledge and the image lacks."""
    bench.do(*(f.DiskCopied(node) for node in nodes))
    replies = bench.guess(bench.world.nodes[bench.world.leader()])
    bench.world.until(lambda: replies, 5)
    bench.world.run(0.2)


@pytest.mark.parametrize("count", [1, 2])
def test_an_old_disk_that_somebody_remembers_is_refused_however_soon_it_comes_back(bench, count):
    nodes = [n for n in bench.world.node_ids if n != bench.world.leader()][:count]
    aged(bench, *nodes)
    bench.do(*(f.DiskRestored(node) for node in nodes))
    bench.world.until(lambda: bench.injector.lost == set(nodes), 5)
    assert all("rolled back" in bench.world.nodes[node].stopped for node in nodes)


def test_an_image_of_this_very_moment_comes_back_and_nothing_is_lost(bench):
    nodes = bench.world.node_ids[:2]
    faults = [make(node) for make in (f.DiskCopied, f.DiskRestored) for node in nodes]
    bench.do(*faults)
    world = bench.world
    world.until(lambda: len(world.alive) == 5 and world.led() and world.settled(), 20)
    world.until(lambda: len(world.nodes[nodes[0]].running.share_givers(ShardId(0))) == 5, 10)
    replies = bench.guess(world.nodes[nodes[0]])
    world.until(lambda: replies, 10)
    assert replies[0].phase == "ok"


def test_an_old_disk_that_is_let_in_is_noticed(monkeypatch):
    bench = Bench()
    aged(bench, bench.follower.id)
    monkeypatch.setattr(Gate, "_check", lambda *_: None)
    monkeypatch.setattr(Talk, "_raft", lambda *_: None)  # nor does rule (d) stop it
    bench.do(f.DiskRestored(bench.follower.id))
    bench.world.run(5)
    assert any(each.startswith("old-disk-runs") for each in bench.broken)


def test_an_incarnation_that_has_spoken_is_never_used_again(bench):
    node = bench.follower
    stamp = node.stamp
    for hsm in (node.stamp, stamp):  # the second time it has forgotten that there was a first
        node.crash()
        node.stamp = hsm
        node.start()
        bench.world.run(2)
    assert bench.broken[0] == f"incarnation-again: node {node.id} has spoken as 2 before"
    bench.broken.clear()


def test_a_commit_that_only_a_killed_node_knew_counts_when_it_starts_again():
    """Its last batch was on the disk and nobody had seen it: a share for it looked uncharged."""
    world = World(seed=3, shards=1, limit=3)
    broken = []
    reference = Reference(world, Rules(CLUSTER, 3), broken.append)
    Guard(world, reference, Trace(world), broken.append)
    world.start()
    account = Account("user", shards=1).enrol(world, 2)
    world.until(world.settled)
    unwatched, world.moments[:] = world.moments[:], []
    assert world.applied(2, account.charge(1)).status == "done"
    world.until(world.settled)
    world.run(1)  # the commit goes to disk with the next batch
    before = reference.last[0]
    world.nodes[3].crash()
    world.moments[:] = unwatched
    world.nodes[3].start()
    assert reference.last[0] > before
    assert not broken
