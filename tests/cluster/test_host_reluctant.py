"""Where everybody who is left would rather not lead, somebody must all the same (liveness).

Who is outdated, short of disk or drained stands for election after all others. If these are all
that there are, they need slots of their own as much as the willing do: with one timeout for all
and links of one length they ask at the same moment, vote for themselves, and do so for ever.
"""

import pytest
from replace_kit import groups

from chaos.sim import World
from cluster.membership import Change, Kind, encode_change
from cluster.room import Room

ALIKE_MS = [(5, 15), (50, 60), (145, 155), (195, 205)]
"""Links of nearly one length, from one city to opposite ends of the earth."""
LEADER_S = 12.0
"""All ordinary slots pass first (2.5 s), then those of the reluctant, once more if two collide."""


def world_of(delay_ms, seed):
    world = World(seed=seed, shards=1, delay_ms=delay_ms).start()
    world.until(world.settled)
    world.run(5)
    return world


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("delay_ms", ALIKE_MS, ids=str)
def test_a_new_book_that_reached_the_leader_alone_does_not_end_elections_with_it(delay_ms, seed):
    world = world_of(delay_ms, seed)
    lead = world.leader()
    gone = next(node for node in world.node_ids if node != lead)
    world.nodes[gone].crash()
    world.replace(gone, tell=[lead])
    world.until(lambda: all(groups(world, node.id)[0].revision == 1 for node in world.alive))
    assert all(node.id == lead or node.host._core.shape.revision == 0 for node in world.alive)
    world.nodes[lead].crash()
    world.until(world.led, seconds=LEADER_S)


@pytest.mark.parametrize("delay_ms", ALIKE_MS, ids=str)
def test_a_forged_revision_does_not_end_elections_with_its_leader(delay_ms):
    world = world_of(delay_ms, 1)
    lead = world.leader()
    forged = encode_change(Change(Kind.ADD_LEARNER, 999, 2**50))
    world.nodes[lead].host._core.raft.propose_conf_change(0, forged)
    world.nodes[lead].wake()
    world.until(lambda: all(groups(world, node.id)[0].revision == 2**50 for node in world.alive))
    world.nodes[lead].crash()
    world.until(world.led, seconds=LEADER_S)


@pytest.mark.parametrize("delay_ms", ALIKE_MS, ids=str)
def test_five_nodes_that_are_short_of_disk_find_a_leader_among_them(delay_ms):
    world = world_of(delay_ms, 1)
    for node in world.alive:
        node.host.set_room(Room.SHORT)
    world.run(5)
    world.nodes[world.leader()].crash()
    world.until(world.led, seconds=LEADER_S)
    assert all(node.host.status().room is Room.SHORT for node in world.alive)
