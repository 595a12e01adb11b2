"""Raft's safety under random schedules: lost, repeated and reordered messages, crashes with and
without their last batch, slow disks, cuts, compaction, snapshots and changes of members.

The world checks at every step: one leader per term, one entry per applied index, nothing applied
twice. Each schedule ends by healing everything: then all logs match and the cluster goes on.
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raft_world import LEADER, MAX_TICKS, NODES, SHARD, Node, World

from engines._engines import ProposalDropped, encode_conf_change

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NETWORK = 2_000


class Adversary:
    """Takes one small step at a time; `pick` decides which."""

    def __init__(self, pick: Callable[[int], int]) -> None:
        self.pick = pick
        self.world = World(max_committed_per_ready=512, max_size_per_msg=512, max_inflight=4)
        self.sent = 0

    def node(self) -> Node | None:
        up = self.world.up()
        return up[self.pick(len(up))] if up else None

    def some(self) -> list[Node]:
        """Most of the nodes that are up."""
        mask = self.pick(32) | self.pick(32)
        return [node for node in self.world.up() if mask >> (node.id - 1) & 1]

    def step(self) -> None:
        deeds = [self.turn] * 6 + [self.tick] * 8 + [self.disk] * 6 + [self.deliver] * 12
        deeds += [self.propose] * 4 + [self.lose, self.repeat, self.crash, self.cut]
        deeds += [self.restart] * 3
        deeds += [self.isolate, *[self.heal] * 4, *[self.compact] * 2, *[self.offer] * 3]
        deeds += [self.snapshot_lost, self.transfer, self.members]
        deeds[self.pick(len(deeds))]()

    def tick(self) -> None:
        for node in self.some():
            node.tick()

    def turn(self) -> None:
        for node in self.some():
            node.work_on_readies()

    def disk(self) -> None:
        for node in self.some():
            node.finish_disk()

    def deliver(self) -> None:
        for _ in range(1 + self.pick(24)):
            if self.world.network:
                near = min(len(self.world.network), 1 + self.pick(6))
                self.world.deliver(self.world.network.pop(self.pick(near)))

    def lose(self) -> None:
        if self.world.network:
            self.world.network.pop(self.pick(len(self.world.network)))
        del self.world.network[:-MAX_NETWORK]

    def repeat(self) -> None:
        if self.world.network:
            packet = self.world.network[self.pick(len(self.world.network))]
            self.world.network.append(packet)

    def propose(self) -> None:
        leading = [node for node in self.world.up() if node.roles[SHARD] == LEADER]
        if leading:
            self.sent += 1
            leading[self.pick(len(leading))].queue.append((SHARD, b"command %d" % self.sent))

    def crash(self) -> None:
        node = self.node()
        if node and len(self.world.up()) > 2:
            node.crash(batch_was_durable=bool(self.pick(2)))

    def restart(self) -> None:
        down = [node for node in self.world.nodes.values() if not node.up]
        if down:
            down[self.pick(len(down))].start()

    def cut(self) -> None:
        self.world.cut.add((1 + self.pick(5), 1 + self.pick(5)))

    def isolate(self) -> None:
        self.world.isolate(1 + self.pick(5))

    def heal(self) -> None:
        self.world.heal()

    def compact(self) -> None:
        for node in self.some():
            if node.batch is None:
                node.compact(max(0, node.disks[SHARD].applied - self.pick(4)))

    def offer(self) -> None:
        for node in self.some():
            self.offer_on(node)

    def offer_on(self, node: Node) -> None:
        # Only a leader: a follower may have a later snapshot in flight, its disk is behind then.
        leads = node.raft.status(SHARD).role == LEADER
        if leads and node.disks[SHARD].applied > 0:
            node.offer_snapshot()
        node.raft.snapshots_wanted()

    def snapshot_lost(self) -> None:
        node = self.node()
        if node:
            node.raft.report_snapshot(SHARD, 1 + self.pick(5), ok=bool(self.pick(2)))
            node.raft.report_unreachable(SHARD, 1 + self.pick(5))

    def transfer(self) -> None:
        node = self.node()
        if node:
            node.raft.transfer_leader(SHARD, 1 + self.pick(5))

    def members(self) -> None:
        """Demote or promote one node, never leaving fewer than three voters."""
        node = self.node()
        if node is None or node.raft.status(SHARD).role != LEADER:
            return
        status, other = node.raft.status(SHARD), 1 + self.pick(5)
        kind = 0 if other in status.learners or len(status.voters) < 4 else 2
        try:
            node.raft.propose_conf_change(SHARD, encode_conf_change([(kind, other)]))
        except ProposalDropped:
            return

    def make_whole(self) -> None:
        """Everyone back, nothing lost: the cluster must go on and agree."""
        world = self.world
        world.heal()
        for node in world.nodes.values():
            if not node.up:
                node.start()
            node.finish_disk()
        for round_number in range(20 * MAX_TICKS):
            world.run()
            leader = world.leader()
            if leader is None:
                continue
            leader.raft.snapshots_wanted()
            if round_number % 10 == 0:
                self.offer_on(leader)
                for node, _, _, _, state in leader.raft.status(SHARD).progress:
                    if state == 2:
                        leader.raft.report_snapshot(SHARD, node, ok=False)
            if self.agreed(leader):
                break
        else:
            raise AssertionError("the healed cluster never agreed")
        world.check_logs_match()

    def agreed(self, leader: Node) -> bool:
        term = leader.raft.status(SHARD).term
        commit = leader.raft.status(SHARD).commit
        if leader.raft.term_at(SHARD, commit) != term:
            return False
        disks = [node.disks[SHARD] for node in self.world.nodes.values()]
        return all(disk.applied == commit and disk.state == disks[0].state for disk in disks)


@pytest.mark.parametrize("seed", range(24))
def test_safety_holds_through_a_long_random_schedule(seed):
    chance = random.Random(seed)
    adversary = Adversary(chance.randrange)
    for _ in range(20_000):
        adversary.step()
    adversary.make_whole()
    assert len(adversary.world.leaders) > 1
    assert len(adversary.world.applied) > 20


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schedule=st.binary(min_size=200, max_size=4_000), elect=st.booleans())
def test_safety_holds_through_any_schedule(schedule, elect):
    stream = iter(schedule)
    adversary = Adversary(lambda bound: next(stream) % bound)
    if elect:
        adversary.world.run_until_leader()
    with contextlib.suppress(StopIteration):
        while True:
            adversary.step()
    adversary.make_whole()


def test_a_cluster_that_loses_two_nodes_at_any_moment_keeps_what_was_committed():
    for lost in ((1, 2), (2, 3), (4, 5), (1, 5)):
        world = World()
        world.run_until_leader()
        for at in range(10):
            world.propose(b"%d" % at)
        for node in lost:
            world[node].crash()
        left = next(node for node in NODES if node not in lost)
        world.run_until_leader()
        world.propose(b"after")
        assert world.state(left) == [*(b"%d" % at for at in range(10)), b"after"]
