"""Figure 8 of the Raft paper: an old term's entry on a majority is not committed by being there.

A leader of a later term finds an entry of an earlier one on a majority. Counting it as committed
would be wrong: a node with a still later entry can be elected and replace it. It is committed only
under an entry of the leader's own term. Roles are given as they fall: `first` leads first, and so
on.
"""

import pytest
from curtain import Truth, judge
from raft_world import APPEND
from stage import Stage

from chaos.sim import Account

BIG = 45
"""Registrations in one entry: more than one Raft message may hold, so that what is appended after
it travels in a message of its own."""


class Figure8:
    """The play up to (c): the old entry is on `first`, `mate`, `third`; `rival` has a newer one."""

    def __init__(self, seed):
        stage = self.stage = Stage(seed)
        stage.user("somebody")
        stage.run(1)
        self.first, self.mate = stage.leader(), stage.followers[0]
        # (a) The first leader's entry reaches its mate and nobody else.
        stage.isolate(self.first, self.mate)
        self.accounts = [Account(f"user {n}", 0, 1) for n in range(BIG)]
        self.old = [stage.send(self.first, a.register(), timeout_s=3) for a in self.accounts]
        before = stage.group(self.first).last_index
        stage.until(lambda: stage.group(self.mate).last_index == before + 1, 3, "the old entry")
        stage.run(0.1)
        self.index = before + 1
        self.old_term = stage.group(self.first).term
        for node in (self.first, self.mate):
            stage.kill(node)
        # (b) Of the others one is elected, and what it appends reaches nobody.
        stage.withhold(lambda _a, _b, message: message[0] == APPEND)
        stage.until(stage.leader, 10, "the second leader")
        self.rival = stage.leader()
        self.rival_term = stage.group(self.rival).term
        stage.until(
            lambda: stage.nodes[self.rival].running._core.groups[0].mark.last_index == self.index,
            3,
            "its entry on its disk",
        )
        self.third, self.fourth = stage.others(self.first, self.mate, self.rival)
        for node in (self.rival, self.third, self.fourth):
            stage.kill(node)
        stage.edits.clear()
        # (c) First, mate and third elect a leader; its own entry does not reach the third.
        self.hold_back = True
        stage.withhold(
            lambda a, b, message: (
                self.hold_back
                and (a, b) in ((self.first, self.third), (self.mate, self.third))
                and message[0] == APPEND
                and message[4] >= self.index
                and stage.group(b).last_index >= self.index
            )
        )
        stage.heal()
        stage.bring_back(self.first, self.mate, self.third)
        stage.until(lambda: stage.leader() in (self.first, self.mate), 15, "the third leader")
        self.again = stage.leader()
        stage.until(lambda: stage.group(self.third).last_index == self.index, 5, "a majority")
        stage.run(0.3)


@pytest.mark.parametrize("seed", range(3))
def test_an_old_terms_entry_on_a_majority_is_not_committed_and_may_be_replaced(seed):
    play = Figure8(seed)
    stage = play.stage
    # The old entry is on three of five disks, and yet no node has applied it.
    holders = [play.first, play.mate, play.third]
    for node in holders:
        assert stage.group(node).last_index >= play.index
        assert stage.group(node).commit < play.index
        assert stage.record(node, play.accounts[0]) is None
    # (d) The leader and its mate fall; the rival, whose entry is newer, replaces the old one.
    for node in (play.first, play.mate):
        stage.kill(node)
    stage.bring_back(play.rival, play.fourth)
    stage.until(lambda: stage.leader() == play.rival, 15, "the rival leads")
    stage.until(lambda: stage.group(play.rival).commit > play.index, 5, "its own entry commits")
    assert stage.group(play.rival).term > play.rival_term > play.old_term
    truth = judge(stage)
    for account in play.accounts:
        assert account.record_id not in truth.records
    assert {call.status for call in play.old} == {None}
    assert all(stage.record(node, play.accounts[0]) is None for node in stage.node_ids)


@pytest.mark.parametrize("seed", range(3))
def test_under_an_entry_of_the_new_term_the_old_one_is_committed_for_good(seed):
    play = Figure8(seed)
    stage = play.stage
    # (e) The leader's own entry reaches the third as well.
    play.hold_back = False
    stage.until(lambda: stage.group(play.again).commit > play.index, 5, "both commit")
    for node in (play.first, play.mate):
        stage.kill(node)
    stage.bring_back(play.rival, play.fourth)
    stage.until(stage.led, 15, "a leader")
    assert stage.leader() == play.third
    truth = judge(stage)
    assert all(account.record_id in truth.records for account in play.accounts)


def test_who_was_told_nothing_may_send_the_replaced_command_again():
    play = Figure8(7)
    stage = play.stage
    for node in (play.first, play.mate):
        stage.kill(node)
    stage.bring_back(play.rival, play.fourth)
    stage.until(lambda: stage.leader() == play.rival, 15, "the rival leads")
    calls = [stage.send(play.fourth, account.register()) for account in play.accounts]
    assert set(stage.answered(*calls)) == {"done"}
    judge(stage)
    assert Truth(stage).records[play.accounts[0].record_id].version == 1
