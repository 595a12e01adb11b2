"""Commands: where they may be proposed, and what their fate is called (I4, I5, I12)."""

import pytest

from chaos.sim import Account, World
from cluster.api import Applied, NotAppended, Unknown
from cluster.commands import (
    Barrier,
    BarrierOutcome,
    Expire,
    decode_command,
    encode_command,
)
from cluster.frames import Accepted, Forward, Frame, Nack, RaftMessages, decode_frame, encode_frame
from cluster.limits import MAX_OPEN_COMMANDS
from cluster.proposals import Proposals
from cluster.types import ShardId


def test_a_command_proposed_at_any_node_is_applied_at_every_node():
    world = World().start()
    for node in world.node_ids:
        account = Account(f"user {node}").enrol(world, node)
        assert world.applied(node, account.charge(1)).status == "done"
        world.until(
            lambda a=account: all(
                (record := n.host.view(a.record_id)[0]) is not None and record.attempts
                for n in world.alive
            )
        )
    world.until(world.settled)
    assert len(world.state_hashes()) == 1


def test_three_nodes_of_three_work_too():
    world = World(nodes=3).start()
    Account("small").enrol(world, 2)


def test_two_nodes_may_be_dead():
    world = World().start()
    account = Account("user").enrol(world, 1)
    dead = [node for node in world.node_ids if node not in (1, 2, 3)]
    for node in dead:
        world.nodes[node].crash()
    world.until(world.led)
    assert world.applied(1, account.charge(1)).status == "done"


def test_with_three_nodes_dead_nothing_is_applied_and_afterwards_it_goes_on():
    world = World().start()
    account = Account("user").enrol(world, 1)
    leader = world.leader()
    survivors = [leader, next(node for node in world.node_ids if node != leader)]
    for node in world.node_ids:
        if node not in survivors:
            world.nodes[node].crash()
    result = world.outcome(leader, account.charge(1), timeout_s=5)
    assert isinstance(result, Unknown)  # it stands in the leader's log and may yet be applied
    for node in world.node_ids:
        if node not in survivors:
            world.nodes[node].start()
    world.until(world.led)
    assert world.applied(survivors[1], account.charge(1)).status in ("done", "replayed")


def test_a_command_that_no_leader_took_was_provably_not_appended():
    world = World().start()
    world.partition([1], [2, 3, 4, 5])
    world.run(5)
    result = world.outcome(1, Account("user").charge(1), timeout_s=3)
    assert isinstance(result, NotAppended)


def test_a_command_sent_to_a_leader_that_died_is_unknown_until_applied():
    world = World().start()
    account = Account("user").enrol(world, 1)
    leader = world.leader()
    follower = next(node for node in world.node_ids if node != leader)
    host = world.nodes[follower].host
    sent = host.status().counters.forwards_sent
    results = world.propose(follower, account.charge(1), timeout_s=2)
    world.until(lambda: host.status().counters.forwards_sent > sent)
    others = [node for node in world.node_ids if node != follower]
    for node in others:
        world.nodes[node].crash()
    world.until(lambda: results)
    assert isinstance(results[0], Unknown)
    assert results[0].sends >= 1


def test_a_command_survives_the_death_of_its_leader():
    world = World().start()
    account = Account("user").enrol(world, 1)
    leader = world.leader()
    follower = next(node for node in world.node_ids if node != leader)
    results = world.propose(follower, account.charge(1))
    world.run(0.001)
    world.nodes[leader].crash()
    world.until(lambda: results, seconds=10)
    assert isinstance(results[0], Applied)
    world.until(world.settled)
    records = [node.host.view(account.record_id)[0] for node in world.alive]
    assert all(record.attempts == (account.attempt(1),) for record in records)


def test_the_same_attempt_sent_by_every_node_at_once_is_charged_once():
    world = World().start()
    account = Account("user").enrol(world, 1)
    results = [world.propose(node, account.charge(1)) for node in world.node_ids for _ in range(4)]
    world.until(lambda: all(results))
    statuses = sorted(str(result[0].outcome.status) for result in results)
    assert statuses == ["done"] + ["replayed"] * 19
    assert len(world.nodes[1].host.view(account.record_id)[0].attempts) == 1


def test_a_forward_delivered_twice_applies_once():
    world = World().start()
    account = Account("user").enrol(world, 1)
    leader = world.leader()
    follower = next(node for node in world.node_ids if node != leader)
    copies = []
    world.observe.append(
        lambda a, b, frame: (
            copies.append(frame) if (a, b) == (follower, leader) and b"charge" in frame else None
        )
    )
    assert world.applied(follower, account.charge(1)).status == "done"
    for frame in copies * 3:
        world.nodes[leader].host.on_frame(follower, frame)
    world.run(2)
    assert world.nodes[leader].host.view(account.record_id)[0].attempts == (account.attempt(1),)


def test_a_lost_acceptance_leads_to_a_second_send_that_is_counted():
    world = World().start()
    account = Account("user").enrol(world, 1)
    leader = world.leader()
    follower = next(node for node in world.node_ids if node != leader)
    world.cut_pairs = {(follower, leader)}  # silently: links stay up, frames of this way vanish
    carry = world.carry
    world.carry = lambda a, b, frame: (a, b) == (follower, leader) or carry(a, b, frame)
    results = world.propose(follower, account.charge(1))
    world.run(0.5)
    world.cut_pairs = set()
    world.carry = carry
    world.until(lambda: results)
    assert results[0].sends == 2
    assert results[0].outcome.status == "done"


def inject(world, node, sender, *items):
    incarnation = world.nodes[sender].host.status().incarnation
    world.nodes[node].host.on_frame(sender, encode_frame(Frame(incarnation, list(items))))


@pytest.mark.parametrize(
    "command",
    [
        b"",
        b"\xc1",
        encode_command(Account("user").charge(1))[:-1],
        encode_command(Account("in another shard", shard=1).charge(1)),
        encode_command(Expire(Account("user").record_id, 1)),
        b"\x00" * 5000,
    ],
    ids=["empty", "no msgpack", "cut off", "other shard", "expire of a follower", "too long"],
)
def test_a_bad_forwarded_command_is_refused_and_never_logged(command):
    world = World().start()
    leader = world.leader()
    follower = next(node for node in world.node_ids if node != leader)
    last = world.nodes[leader].host.status().groups[0].last_index
    answers = []
    world.observe.append(
        lambda a, b, frame: (
            answers.extend(decode_frame(frame).items) if (a, b) == (leader, follower) else None
        )
    )
    inject(world, leader, follower, Forward(0, [(999, 1, command)]))
    world.run(1)
    nacks = [item for item in answers if isinstance(item, Nack)]
    assert [nack.reason for nack in nacks] == ["malformed"]
    assert world.nodes[leader].host.status().groups[0].last_index == last
    assert len(world.alive) == 5


def raft_message(kind, sender, to, term, commit):
    """A raft-rs message in protobuf; every number here is one byte long."""
    return bytes((8, kind, 16, to, 24, sender, 32, term, 48, 5, 64, commit))


@pytest.mark.parametrize(
    "make",
    [
        lambda _to, _sender, _third: b"\xff\xff",
        lambda to, _sender, third: raft_message(8, third, to, 9, 100),
        lambda _to, sender, third: raft_message(8, sender, third, 9, 100),
    ],
    ids=["no message", "a commit beyond the log, in another's name", "one to another"],
)
def test_a_raft_message_that_is_none_or_of_another_cuts_the_link_and_stops_nobody(make):
    world = World().start()
    to, sender, third = [node for node in world.node_ids if node != world.leader()][:3]
    before = world.nodes[to].host.status().groups[0].term
    inject(world, to, sender, RaftMessages([(0, make(to, sender, third))]))
    world.run(1)
    assert [(cut[0], cut[1]) for cut in world.cuts] == [(to, sender)]
    assert len(world.alive) == 5
    assert world.nodes[to].host.status().groups[0].term == before


def test_a_follower_refuses_a_forward_and_names_the_leader():
    world = World().start()
    world.run(1)  # every follower has heard of the leader
    leader = world.leader()
    one, other = [node for node in world.node_ids if node != leader][:2]
    answers = []
    world.observe.append(
        lambda a, b, frame: (
            answers.extend(decode_frame(frame).items) if (a, b) == (one, other) else None
        )
    )
    data = encode_command(Account("user").charge(1))
    inject(world, one, other, Forward(0, [(999, 1, data)]))
    world.run(1)
    nacks = [item for item in answers if isinstance(item, Nack)]
    assert [(nack.reason, nack.hint) for nack in nacks] == [("not-leader", leader)]
    assert not [item for item in answers if isinstance(item, Accepted)]


def test_more_open_commands_than_the_bound_are_busy_and_not_appended():
    world = World().start()
    account = Account("user").enrol(world, 1)
    results = [world.propose(1, account.charge(1)) for _ in range(MAX_OPEN_COMMANDS + 10)]
    world.until(lambda: all(results))
    refused = [r[0] for r in results if isinstance(r[0], NotAppended)]
    assert len(refused) == 10
    assert {result.reason for result in refused} == {"busy"}


def test_readers_of_one_turn_share_one_barrier():
    world = World().start()
    world.run(2)
    before = world.nodes[1].host.status().groups[1].last_index
    results = [world.propose(1, Barrier(), shard=1) for _ in range(50)]
    world.until(lambda: all(results))
    assert all(isinstance(result[0], Applied) for result in results)
    assert len({result[0].index for result in results}) == 1
    assert world.nodes[1].host.status().groups[1].last_index == before + 1


def test_a_barrier_does_not_pass_without_a_quorum():
    world = World().start()
    leader = world.leader()
    world.partition([leader], [node for node in world.node_ids if node != leader])
    result = world.outcome(leader, Barrier(), shard=0, timeout_s=3)
    assert not isinstance(result, Applied)


def test_a_cancelled_command_never_calls_back():
    world = World().start()
    calls = []
    proposal = world.nodes[1].host.propose(
        Account("user").charge(1), timeout_s=5, done=calls.append
    )
    proposal.cancel()
    world.run(7)
    assert calls == []
    assert world.nodes[1].host.status().proposals == 0


def test_done_is_never_called_from_inside_propose():
    world = World().start()
    host = world.nodes[1].host
    host.drain(lambda: None)
    results = []
    host.propose(Account("user").charge(1), timeout_s=5, done=results.append)
    assert results == []
    world.run(0.1)
    assert results == [NotAppended("draining")]


def test_a_draining_node_hands_over_everything_that_it_leads():
    world = World(shards=4).start()
    leader = world.leader(0)
    done = []
    world.nodes[leader].host.drain(lambda: done.append(world.now))
    begun = world.now
    world.until(lambda: done)
    assert done[0] - begun < 2_000_000_000
    assert all(world.leader(shard) != leader for shard in range(4))
    other = next(node for node in world.node_ids if node != leader)
    Account("afterwards", shards=4).enrol(world, other)


def test_an_unknown_frame_cuts_the_link_and_stops_nobody():
    world = World().start()
    for payload in (b"", b"\xc1", b"\x93\x02\x01\x90", b"\x93\x01\x01\x91\x92\xcc\xff\x00"):
        world.nodes[1].host.on_frame(2, payload)
        world.run(0.1)
    assert [(node, peer) for node, peer, _ in world.cuts] == [(1, 2)] * 4
    assert len(world.alive) == 5


def test_a_raft_message_in_anothers_name_cuts_the_link():
    world = World().start()
    leader = world.leader()
    target, sender = [node for node in world.node_ids if node != leader][:2]
    stolen = []
    world.observe.append(
        lambda a, b, frame: (
            stolen.extend(
                item for item in decode_frame(frame).items if isinstance(item, RaftMessages)
            )
            if (a, b) == (leader, target)
            else None
        )
    )
    world.until(lambda: stolen)
    inject(world, target, sender, stolen[0])
    world.run(0.1)
    assert [(node, peer) for node, peer, _ in world.cuts] == [(target, sender)]


def test_every_command_travels_as_it_was_encoded():
    command = Account("user").charge(1)
    assert decode_command(encode_command(command)) == command


def test_the_same_seed_tells_the_same_story():
    def story(seed):
        world = World(seed, disk_ms=3).start()
        account = Account("user").enrol(world, 2)
        world.applied(4, account.charge(1))
        return world.now, world.frames, [n.host.status().groups for n in world.alive]

    assert story(7) == story(7)
    assert story(7) != story(8)


def test_a_refusal_by_another_than_the_leader_asked_is_not_believed():
    """I12: `no` is said only on the word of whoever could have appended the command."""
    world = World().start()
    account = Account("user").enrol(world, 1)
    leader = world.leader()
    proposer, liar = [node for node in world.node_ids if node != leader][:2]
    lie = Nack(0, "busy", 0, [(seq, send) for seq in range(1, 100) for send in (1, 2)])
    world.observe.append(
        lambda a, b, _: inject(world, proposer, liar, lie) if a == proposer else None
    )
    outcome = world.applied(proposer, account.charge(1))
    assert outcome.status == "done"


def test_commands_that_ended_at_their_deadline_make_room_for_new_ones():
    later = []
    proposals = Proposals(1, later.append)
    for era in range(3):
        results = []
        for _ in range(MAX_OPEN_COMMANDS):
            proposals.add(ShardId(0), b"x", 100 + era, results.append, is_barrier=False)
        proposals.on_time(100 + era)
        for call in later:
            call()
        later.clear()
        assert results == [NotAppended("no leader took it in time")] * MAX_OPEN_COMMANDS
        assert len(proposals) == 0


def test_readers_of_a_barrier_end_each_at_its_own_deadline():
    later, results = [], []
    proposals = Proposals(1, later.append)
    for deadline in (100, 200):
        proposals.add(ShardId(0), b"b", deadline, results.append, is_barrier=True)
    for now, ended, still_open in ((100, 1, 1), (200, 2, 0)):
        proposals.on_time(now)
        for call in later:
            call()
        later.clear()
        assert len(results) == ended
        assert len(proposals) == still_open


def test_another_command_under_ones_number_is_not_ones_outcome():
    later, results = [], []
    proposals = Proposals(1, later.append)
    mine = encode_command(Account("user").charge(1))
    proposals.add(ShardId(0), mine, 100, results.append, is_barrier=False)
    (command,) = proposals.take(ShardId(0), 0)
    proposals.sent(command, 2, 0)
    outcome = BarrierOutcome()
    proposals.applied(ShardId(0), 7, command.seq, encode_command(Barrier()), outcome)
    assert not later
    proposals.applied(ShardId(0), 8, command.seq, mine, outcome)
    for call in later:
        call()
    assert [result.index for result in results] == [8]
