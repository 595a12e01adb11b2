"""Answers of an earlier term that arrive in a later one: they count for nothing (I8)."""

from __future__ import annotations

from raft_world import (
    APPEND_RESPONSE,
    CANDIDATE,
    LEADER,
    SHARD,
    VOTE_RESPONSE,
    Node,
    Packet,
    World,
    wire_message,
)

PRE_VOTE_RESPONSE = 18


def answer(node: Node, sender: int, kind: int, term: int, index: int = 0) -> None:
    message = wire_message(kind, sender=sender, to=node.id, term=term, index=index)
    node.receive(Packet(sender, node.id, SHARD, message))
    node.turn()


def candidate() -> tuple[Node, list[int], int]:
    """A node that asks for votes in a term that is not the first, two others, and its term."""
    world = World()
    first = world.run_until_leader()
    first.crash()
    node, *others = world.up()
    voters = [other.id for other in others[:2]]
    node.raft.campaign(SHARD)
    node.turn()
    term = node.raft.status(SHARD).term + 1
    for voter in voters:
        answer(node, voter, PRE_VOTE_RESPONSE, term)
    assert (node.raft.status(SHARD).role, node.raft.status(SHARD).term) == (CANDIDATE, term)
    return node, voters, term


def test_votes_of_an_earlier_term_elect_nobody():
    node, voters, term = candidate()
    for voter in voters:
        answer(node, voter, VOTE_RESPONSE, term - 1)
    assert node.raft.status(SHARD).role == CANDIDATE
    for voter in voters:
        answer(node, voter, VOTE_RESPONSE, term)
    assert node.raft.status(SHARD).role == LEADER


def test_acknowledgements_of_an_earlier_term_move_nothing():
    node, voters, term = candidate()
    for voter in voters:
        answer(node, voter, VOTE_RESPONSE, term)
    status = node.raft.status(SHARD)
    assert status.role == LEADER

    def matched() -> dict[int, int]:
        return {peer: index for peer, index, *_ in node.raft.status(SHARD).progress}

    for voter in voters:
        answer(node, voter, APPEND_RESPONSE, term - 1, status.last_index)
    assert [matched()[voter] for voter in voters] == [0, 0]
    assert node.raft.status(SHARD).commit == status.commit
    for voter in voters:
        answer(node, voter, APPEND_RESPONSE, term, status.last_index)
    assert [matched()[voter] for voter in voters] == [status.last_index] * 2
    assert node.raft.status(SHARD).commit == status.last_index
