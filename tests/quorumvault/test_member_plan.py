"""What a replacement does to the quorum, told before anything is changed."""

from __future__ import annotations

import pytest
from table_cluster import FOUNDING, place

from cluster.cluster_file import replaced
from quorumvault.cli import member_plan as plan

NEXT = replaced(FOUNDING, 4, place(6, 4))
ALL = (1, 2, 3, 4, 5)


def group(shard: int, node: int, *, leader: int, voters, learners=(), complete=ALL) -> dict:
    return {
        "shard": shard,
        "role": "leader" if node == leader else "follower",
        "term": 3,
        "applied": 10,
        "voters": list(voters),
        "learners": list(learners),
        "ledger_complete": node in complete,
    }


def statuses(nodes, *, leader=1, voters=ALL, learners=(), complete=ALL, no_hsm=()) -> dict:
    return {
        node: {
            "hsm": {"healthy": node not in no_hsm},
            "groups": [
                group(
                    shard, node, leader=leader, voters=voters, learners=learners, complete=complete
                )
                for shard in range(2)
            ],
        }
        for node in nodes
    }


def cost(seen: dict, old: int = 4) -> str | None:
    return plan.cost(FOUNDING, plan.shards_of(seen), old, plan.up(seen))


@pytest.mark.parametrize("there", [ALL, (1, 2, 3, 5), (1, 2, 3, 4), (1, 2, 3)])
def test_a_node_is_replaced_while_three_others_are_up(there) -> None:
    assert cost(statuses(there)) is None


@pytest.mark.parametrize("there", [(1, 2, 4), (1, 2), (1,)])
def test_it_is_refused_when_the_rest_would_be_no_quorum(there) -> None:
    why = cost(statuses(there))
    assert why is not None
    assert f"{len(set(there) - {4})} of 4 voters of shard 0 would be up and 3 are needed" in why
    assert "bring back node" in why
    assert "4" not in why.rpartition("bring back node")[2]


def test_a_node_without_its_hsm_is_not_up() -> None:
    why = cost(statuses(ALL, no_hsm=(2, 3)))
    assert why is not None
    assert "bring back node 2, 3 first" in why


def test_it_is_refused_when_nothing_is_known() -> None:
    assert "no node answers" in (cost({}) or "")


def test_it_is_refused_while_a_shard_has_no_leader() -> None:
    assert "no leader now" in (cost(statuses(ALL, leader=0)) or "")


def test_it_is_refused_when_too_few_ledgers_would_be_left_to_make_the_new_one() -> None:
    """Nodes 5 and 6 are voters, but only a complete ledger gives shares and rows."""
    why = cost(statuses(ALL, complete=(1, 2, 4)))
    assert why is not None
    assert "2 nodes with a complete ledger of shard 0" in why


def test_one_bad_shard_of_many_is_enough_to_refuse() -> None:
    seen = statuses((1, 2, 3, 4))
    for node, status in seen.items():
        status["groups"][1]["voters"] = [1, 4, 5, 6]
        status["groups"][1]["role"] = "leader" if node == 1 else "follower"
    assert "of shard 1" in (cost(seen) or "")


@pytest.mark.parametrize(
    ("there", "may_fail"),
    [
        (ALL, [2, 1, 1, 2]),  # a node that still works is replaced: one less to lose meanwhile
        ((1, 2, 3, 5), [1, 1, 1, 2]),  # it is lost: never worse than it was
        ((1, 2, 3), [0, 0, 0, 1]),
        ((1, 2, 4), [0, -1, -1, 0]),
    ],
)
def test_the_steps_tell_how_many_more_may_fail(there, may_fail) -> None:
    steps = plan.steps(ALL, 4, 6, there)
    assert [step.may_fail for step in steps] == may_fail
    assert [step.quorum for step in steps] == [3, 3, 3, 3]
    assert [step.voters for step in steps] == [
        [1, 2, 3, 4, 5], [1, 2, 3, 5], [1, 2, 3, 5], [1, 2, 3, 5, 6]
    ]  # fmt: skip


def test_the_leaders_own_view_counts_and_the_higher_terms() -> None:
    seen = statuses((1, 2, 3))
    for shard in range(2):
        seen[2]["groups"][shard] |= {"role": "leader", "term": 4, "voters": [1, 2, 3, 5]}
    shards = plan.shards_of(seen)
    assert shards[0].leader == 2
    assert shards[0].voters == {1, 2, 3, 5}


def test_a_replacement_is_finished_when_the_voters_are_the_members() -> None:
    def unfinished(cluster, **seen):
        return plan.unfinished(cluster, plan.shards_of(statuses((1, 2, 3, 5), **seen)))

    assert unfinished(FOUNDING) is None
    assert unfinished(NEXT, voters=(1, 2, 3, 5, 6)) is None
    for voters, learners in ((ALL, ()), ((1, 2, 3, 5), ()), ((1, 2, 3, 5), (6,))):
        why = unfinished(NEXT, voters=voters, learners=learners)
        assert why == "the replacement of node 4 is not finished in 2 of 2 shards"


def test_progress_is_done_only_when_every_shard_has_the_voter_and_its_whole_ledger() -> None:
    def seen(nodes, **options):
        return plan.progress(NEXT, plan.shards_of(statuses(nodes, **options)), 4, 6)

    assert not seen((1, 2, 3, 5)).done
    assert not seen((1, 2, 3, 5, 6), voters=(1, 2, 3, 5), learners=(6,)).done
    voter = (1, 2, 3, 5, 6)
    assert not seen((1, 2, 3, 5), voters=voter).done  # it does not answer: nobody knows
    assert not seen(voter, voters=voter, complete=(1, 2, 3, 5)).done
    assert seen(voter, voters=voter, complete=voter).done
    assert not plan.progress(NEXT, {}, 4, 6).done
