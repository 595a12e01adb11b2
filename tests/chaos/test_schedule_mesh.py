"""Meshes with holes: a leader in bounded time, and then no more elections (I8, liveness).

The known cases: one link gone (Cloudflare's outage of 2020 around etcd), chains, bridges and rings,
where nobody hears everybody. Pre-vote and check-quorum must find one leader that a majority hears,
and those who do not hear it must not depose it for that.
"""

import itertools

import pytest
from curtain import judge
from stage import Stage

from cluster.api import Applied, NotAppended

LEADER_S = 8.0
SPREAD_S = 40.0
"""After so long leadership has been handed to the seat that is meant to have it, if it can."""
QUIET_S = 40.0
"""For so long no term may change once a leader stands."""

MESHES = {
    "a chain": [(1, 2), (2, 3), (3, 4), (4, 5)],
    "a ring": [(1, 2), (2, 3), (3, 4), (4, 5), (5, 1)],
    "two triangles that share a node": [(1, 2), (1, 3), (2, 3), (3, 4), (3, 5), (4, 5)],
    "two pairs and a bridge": [(1, 2), (1, 3), (2, 3), (3, 4), (4, 5)],
    "a star": [(1, 2), (1, 3), (1, 4), (1, 5)],
    "all but one link": [pair for pair in itertools.combinations(range(1, 6), 2) if pair != (1, 2)],
}

LEADERS = {
    "a chain": (1, 2, 3, 5),
    "a ring": (1, 3),
    "two triangles that share a node": (1, 3, 4),
    "two pairs and a bridge": (1, 3, 5),
    "a star": (1, 2),
    "all but one link": (1, 3),
}
"""Who leads when the links go, in each: one of every kind of place, and seat 1, where leadership of
this shard is meant to be."""


def neighbours(edges, node):
    return {a + b - node for a, b in edges if node in (a, b)}


def lead_from(stage, node):
    """Have `node` lead, by a transfer as an operator's drain would make it."""
    if stage.leader() != node:
        stage.run(0.5)
        stage.host(stage.leader())._core.raft.transfer_leader(0, node)
        stage.until(lambda: stage.leader() == node, 5, "the transfer")
    stage.until(lambda: all(stage.group(n.id).leader == node for n in stage.alive), 5)


def supported(stage, edges):
    """A leader that, with those whom it can reach, is a majority."""
    leader = stage.leader()
    if leader is None:
        return False
    hear = [n for n in neighbours(edges, leader) if stage.group(n).leader == leader]
    return len(hear) + 1 > len(stage.node_ids) // 2


@pytest.mark.parametrize(
    ("mesh", "leader"), [(mesh, leader) for mesh in MESHES for leader in LEADERS[mesh]]
)
def test_a_mesh_with_holes_has_one_leader_in_bounded_time_and_keeps_it(mesh, leader):
    edges = MESHES[mesh]
    stage = Stage()
    account = stage.user("a user")
    lead_from(stage, leader)
    able = len(neighbours(edges, leader)) >= 2
    term = stage.group(leader).term
    stage.mesh(*edges)
    if able:  # whoever keeps a majority keeps the lead
        stage.run(LEADER_S)
        assert stage.leader() == leader
    else:
        stage.run(2)
        stage.until(lambda: supported(stage, edges), LEADER_S, "a leader with a majority")
    stage.run(1)
    assert max(stage.terms()) <= term + (0 if able else 3)
    stage.run(SPREAD_S)
    stage.until(lambda: supported(stage, edges), LEADER_S, "a leader with a majority")
    found, terms = stage.leader(), stage.terms()
    stage.run(QUIET_S)
    assert (stage.leader(), stage.terms()) == (found, terms)
    # Whoever hears the leader serves; the others say honestly that they cannot.
    calls = {n: stage.guess(n, account, n, timeout_s=3) for n in (1, 3, 5)}
    stage.answered(*calls.values())
    for node, call in calls.items():
        served = node == found or node in neighbours(edges, found)
        assert isinstance(call.result, Applied if served else NotAppended), (node, call)
    judge(stage)


def test_a_hub_that_is_behind_cannot_lead_and_one_link_ends_the_wait():
    """Only the hub hears a majority, but others, who hear only it, have committed more than it has.

    Raft has no leader for such a mesh, whoever tries: nothing may be answered, terms must stand
    still meanwhile, and the first link that comes back must end it.
    """
    stage = Stage()
    account = stage.user("a user")
    leader = stage.leader()
    hub, far, *ahead = stage.followers
    stage.isolate(hub, far)
    assert stage.answered(stage.guess(leader, account, 1)) == ["done"]
    stage.until(lambda: all(stage.record(node, account).attempts for node in ahead))
    stage.kill(leader)
    star = [(hub, node) for node in stage.others(hub)]
    stage.mesh(*star)
    stage.run(5)
    terms = stage.terms()
    calls = [stage.guess(node, account, 2, timeout_s=3) for node in stage.others(leader)]
    stage.answered(*calls)
    assert {type(call.result) for call in calls} == {NotAppended}
    stage.run(QUIET_S)
    assert stage.terms() == terms
    assert stage.leader() is None
    stage.mesh(*star, (ahead[0], ahead[1]))
    stage.until(stage.leader, LEADER_S, "a leader over the new link")
    judge(stage)


@pytest.mark.parametrize("every_ms", [150, 400, 1000])
def test_a_link_that_flaps_between_leader_and_follower_costs_no_election(every_ms):
    stage = Stage()
    account = stage.user("a user")
    leader, odd = stage.leader(), stage.followers[0]
    term = stage.group(leader).term
    for n in range(20_000 // every_ms):
        stage.cut_pairs = set() if n % 2 else {(leader, odd), (odd, leader)}
        stage.links_changed()
        stage.run(every_ms / 1000)
    assert (stage.leader(), stage.group(leader).term) == (leader, term)
    stage.heal()
    assert stage.answered(stage.guess(odd, account, 1)) == ["done"]
    judge(stage)


@pytest.mark.parametrize("every_ms", [200, 700])
def test_a_leader_that_flaps_is_replaced_or_serves_and_terms_do_not_run_away(every_ms):
    stage = Stage(delay_ms=(2, 40))
    account = stage.user("a user")
    odd = stage.leader()
    term = stage.group(odd).term
    rest = stage.others(odd)
    calls = []
    for n in range(20_000 // every_ms):
        if n % 2:
            stage.heal()
        else:
            stage.partition([odd], rest)
        if n % 5 == 0:
            calls.append(stage.guess(rest[n % 4], account, n % 2))
        stage.run(every_ms / 1000)
    stage.answered(*calls)
    assert max(stage.terms()) <= term + 4
    assert {"done", "replayed"} >= {call.status for call in calls}
    judge(stage)


def test_partitions_that_wander_leave_a_leader_each_time_a_majority_stands():
    stage = Stage()
    account = stage.user("a user")
    for number, left in enumerate(itertools.combinations(range(1, 6), 2)):
        stage.partition(left, stage.others(*left))
        right = stage.others(*left)
        stage.until(lambda right=right: stage.leader() in right, LEADER_S, "a leader")
        call = stage.guess(right[number % 3], account, number % 3)
        assert stage.answered(call)[0] in ("done", "replayed")
    truth = judge(stage)
    assert truth.count(account) == 3
    assert len(set(stage.leaders.values())) >= 2


def test_in_a_ring_of_one_way_links_nobody_leads_and_terms_stand_still():
    stage = Stage()
    account = stage.user("a user")
    ring = {(n, n % 5 + 1) for n in range(1, 6)}
    stage.wires.append(lambda a, b, _frame: (a, b) not in ring)
    stage.run(5)
    term = max(stage.terms())
    calls = [stage.guess(node, account, 1, timeout_s=3) for node in stage.node_ids]
    stage.answered(*calls)
    assert not any(isinstance(call.result, Applied) for call in calls)
    stage.run(QUIET_S)
    assert max(stage.terms()) == term
    judge(stage)
