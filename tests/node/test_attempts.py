"""One guess after the other: charged first, evaluated after, answered honestly."""

from __future__ import annotations

import asyncio

import pytest
from node_world import LIMIT, until
from phone import KEY

from cluster.api import Applied, NotAppended, Unknown
from cluster.commands import Charge, ChargeOutcome, Status
from cluster.types import Index, ShardId
from engines._engines import OpaqueOpenError
from engines.encoding import b64u_encode
from node import evaluation
from node.problems import Charged, Code, Problem


async def refused(awaitable) -> Problem:
    with pytest.raises(Problem) as raised:
        await awaitable
    return raised.value


async def test_the_right_password_gets_the_key_back_through_every_node(phone):
    await phone.register(1)
    for node in (1, 2, 3, 4, 5):
        assert await phone.recover(node) == KEY


async def test_a_wrong_password_is_counted_and_opens_nothing(phone):
    await phone.register()
    state, ke1 = phone.guess(b"wrong")
    answer = await phone.attempt(ke1, 3)
    assert (answer.guesses_remaining, answer.replayed) == (LIMIT - 1, False)
    with pytest.raises(OpaqueOpenError):
        phone.opened(state, answer, b"wrong")
    for node in (1, 2, 3, 4, 5):
        assert (await phone.look(node)).guesses_remaining == LIMIT - 1


async def test_a_proof_empties_the_list(phone):
    await phone.register()
    await phone.attempt(phone.guess(b"wrong")[1])
    await phone.recover(2)
    assert (await phone.look()).guesses_remaining == LIMIT


async def test_the_same_ke1_sent_to_all_nodes_is_charged_once_and_evaluates_to_one_element(
    phone, world
):
    await phone.register()
    _, ke1 = phone.guess()
    answers = await asyncio.gather(*(phone.attempt(ke1, n % 5 + 1) for n in range(40)))
    assert [a.replayed for a in answers].count(False) == 1
    assert {a.guesses_remaining for a in answers} == {LIMIT - 1}
    combined = [w for w in world.all_witnessed() if w["kind"] == "evaluation" and w["attempt_id"]]
    assert len(combined) == 40
    assert len({w["element_sha256"] for w in combined}) == 1


async def test_a_hundred_concurrent_guesses_are_evaluated_exactly_limit_times(phone, world):
    await phone.register()
    guesses = [phone.guess(b"wrong %d" % n)[1] for n in range(100)]
    results = await asyncio.gather(
        *(phone.attempt(ke1, n % 5 + 1) for n, ke1 in enumerate(guesses)), return_exceptions=True
    )
    problems = [r for r in results if isinstance(r, Problem)]
    assert len(results) - len(problems) == LIMIT
    assert {(p.code, p.charged, p.guesses_remaining) for p in problems} == {
        (Code.EXHAUSTED, Charged.NO, 0)
    }
    given = {}
    for line in world.all_witnessed():
        if line["kind"] == "attempt" and line["result"] == "given":
            given.setdefault(line["attempt_id"], set()).add(line["seat"])
    assert sum(len(seats) >= 3 for seats in given.values()) == LIMIT
    assert (await phone.look(4)).state == "exhausted"


async def test_the_right_password_on_the_last_guess_may_be_asked_again_and_proven(phone):
    await phone.register()
    for n in range(LIMIT - 1):
        await phone.attempt(phone.guess(b"wrong %d" % n)[1], n % 5 + 1)
    state, ke1 = phone.guess()
    await phone.attempt(ke1, 1)
    again = await phone.attempt(ke1, 2)
    assert (again.replayed, again.guesses_remaining) == (True, 0)
    _, seed = phone.opened(state, again)
    await phone.prove(phone.proof(again, seed, ke1), 3)
    assert (await phone.look()).guesses_remaining == LIMIT


async def test_no_share_is_asked_of_the_hsm_before_the_charge_is_applied(phone, world):
    await phone.register()
    for node in world.nodes.values():
        node.device.calls.clear()
        node.host.held = True
    _, ke1 = phone.guess()
    task = asyncio.create_task(phone.attempt(ke1, 1))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not any("subset_prfs" in node.device.calls for node in world.nodes.values())
    for node in world.nodes.values():
        node.host.held = False
        node.host.catch_up()
    assert not (await task).replayed


async def test_fewer_than_three_share_givers_spend_nothing(phone, world):
    await phone.register()
    for node in (3, 4, 5):
        world.nodes[node].device.healthy = False
    before = len(world.log.entries)
    problem = await refused(phone.attempt(phone.guess()[1], 1))
    assert (problem.code, problem.charged) == (Code.HSM_UNAVAILABLE, Charged.NO)
    assert len(world.log.entries) == before


async def test_the_own_hsm_away_spends_nothing(phone, world):
    await phone.register()
    world.nodes[1].device.healthy = False
    problem = await refused(phone.attempt(phone.guess()[1], 1))
    assert (problem.code, problem.charged) == (Code.HSM_UNAVAILABLE, Charged.NO)
    assert (await phone.look(2)).guesses_remaining == LIMIT


async def test_two_data_centers_gone_are_enough_left_to_evaluate(phone, world):
    await phone.register()
    for node in (2, 3):
        world.nodes[node].device.healthy = False
    assert await phone.recover(1) == KEY


async def test_peers_behind_cut_links_are_replaced_by_the_next_nearest(phone, world):
    await phone.register()
    world.nodes[1].cut = {2, 3}
    assert await phone.recover(1) == KEY
    world.nodes[1].cut = {2, 3, 4}
    problem = await refused(phone.attempt(phone.guess()[1], 1))
    assert (problem.code, problem.charged) == (Code.HSM_UNAVAILABLE, Charged.YES)
    assert problem.guesses_remaining == LIMIT - 1


async def test_a_peer_that_hangs_is_hedged(phone, world):
    await phone.register()
    world.nodes[2].host.held = True
    assert await phone.recover(1) == KEY
    assert world.nodes[1].assembly.metrics.hedges._value.get() >= 1


async def test_full_ledgers_are_named(phone, world):
    await phone.register()
    for node in (2, 3, 4, 5):
        world.nodes[node].host.full_ledger = True
    problem = await refused(phone.attempt(phone.guess()[1], 1))
    assert (problem.code, problem.charged) == (Code.LEDGER_FULL, Charged.YES)


async def test_a_stale_era_hint_is_corrected_by_the_outcome(phone, world):
    await phone.register()
    world.nodes[1].host.held = True
    await phone.recover(2)  # the record moves on, unseen at node 1
    _, ke1 = phone.guess()
    task = asyncio.create_task(phone.attempt(ke1, 1))
    await asyncio.sleep(0)
    world.nodes[1].host.held = False
    world.nodes[1].host.catch_up()
    answer = await task
    assert (answer.replayed, answer.guesses_remaining) == (False, LIMIT - 1)
    assert [c.era for c in world.nodes[1].host.proposed if isinstance(c, Charge)] == [1, 2]


async def test_a_proven_attempt_sent_again_is_superseded(phone):
    await phone.register()
    state, ke1 = phone.guess()
    answer = await phone.attempt(ke1)
    _, seed = phone.opened(state, answer)
    await phone.prove(phone.proof(answer, seed, ke1))
    problem = await refused(phone.attempt(ke1, 2))
    assert (problem.code, problem.charged) == (Code.SUPERSEDED, Charged.NO)


async def test_a_peer_in_a_later_era_than_the_outcome_supersedes_and_tells_the_charge(phone, world):
    await phone.register()
    _, ke1 = phone.guess()
    record_id = phone.record_id
    record = world.nodes[2].host.records[record_id]
    task = asyncio.create_task(phone.attempt(ke1, 1))
    await asyncio.sleep(0)
    for node in (2, 3, 4, 5):
        world.nodes[node].host.held = True
        world.nodes[node].host.records[record_id] = type(record)(
            record.version + 1, record.era + 1, record.active, None, (), None, False
        )
    problem = await refused(task)
    assert (problem.code, problem.charged) == (Code.SUPERSEDED, Charged.YES)


def outcome(status: Status) -> ChargeOutcome:
    return ChargeOutcome(status, b"a" * 32, 7, 9, 0, None)


def applied(status: Status, sends: int = 1, *, jumped: bool = False) -> Applied:
    return Applied(outcome(status), ShardId(0), Index(3), sends, jumped)


NO, YES, UNKNOWN = Charged.NO, Charged.YES, Charged.UNKNOWN
LOST = Unknown("the deadline is over", sends=1)


@pytest.mark.parametrize(
    ("results", "code", "charged"),
    [
        ([NotAppended("no leader took it in time")], Code.NO_QUORUM, NO),
        ([NotAppended("busy")], Code.BUSY, NO),
        ([NotAppended("draining")], Code.DRAINING, NO),
        ([LOST], Code.NO_QUORUM, UNKNOWN),
        ([applied(Status.EXHAUSTED)], Code.EXHAUSTED, NO),
        ([applied(Status.EXHAUSTED, sends=2)], Code.EXHAUSTED, NO),
        ([applied(Status.EXHAUSTED, sends=2, jumped=True)], Code.EXHAUSTED, UNKNOWN),
        ([applied(Status.LOCKED)], Code.LOCKED, NO),
        ([applied(Status.NOT_REGISTERED)], Code.NOT_REGISTERED, NO),
        ([applied(Status.SUPERSEDED)], Code.SUPERSEDED, NO),
        ([applied(Status.SUPERSEDED, jumped=True)], Code.SUPERSEDED, UNKNOWN),
        ([applied(Status.STALE), LOST], Code.NO_QUORUM, UNKNOWN),
        ([applied(Status.STALE), NotAppended("busy")], Code.BUSY, NO),
        ([applied(Status.STALE, jumped=True), NotAppended("busy")], Code.BUSY, UNKNOWN),
        ([applied(Status.STALE, jumped=True), applied(Status.LOCKED)], Code.LOCKED, UNKNOWN),
        ([applied(Status.STALE)] * 6, Code.BUSY, NO),
    ],
)
async def test_every_fate_of_a_charge_is_told_honestly(phone, world, results, code, charged):
    await phone.register()
    world.nodes[1].host.scripted = list(results)
    problem = await refused(phone.attempt(phone.guess()[1], 1))
    assert (problem.code, problem.charged) == (code, charged)


@pytest.mark.parametrize(
    ("sends", "jumped", "replayed", "charged"),
    [
        (1, False, False, YES),
        (2, False, False, YES),
        (1, False, True, NO),
        (2, False, True, UNKNOWN),
        (1, True, True, UNKNOWN),
    ],
)
async def test_a_charge_without_enough_shares_still_says_whether_it_was_spent(
    phone, world, sends, jumped, replayed, charged
):
    await phone.register()
    _, ke1 = phone.guess()
    if replayed:
        await phone.attempt(ke1, 5)
    host = world.nodes[1].host
    host.sends, host.jumped = sends, jumped
    world.nodes[1].cut = {2, 3, 4}
    problem = await refused(phone.attempt(ke1, 1))
    assert (problem.code, problem.charged) == (Code.HSM_UNAVAILABLE, charged)


async def test_a_seal_that_does_not_open_fails_closed(phone, world):
    await phone.register()
    world.nodes[1].device.break_seals = True
    problem = await refused(phone.attempt(phone.guess()[1], 1))
    assert (problem.code, problem.charged) == (Code.HSM_UNAVAILABLE, Charged.YES)
    assert world.nodes[1].assembly.metrics.broken_seals._value.get() == 1


async def test_verify_with_five_seats_answers_verified(phone):
    await phone.register()
    state, ke1 = phone.guess()
    answer = await phone.attempt(ke1, 1, verify=True)
    assert answer.verified
    phone.opened(state, answer)


async def test_verify_with_three_seats_says_so(phone, world):
    await phone.register()
    for node in (4, 5):
        world.nodes[node].device.healthy = False
    answer = await phone.attempt(phone.guess()[1], 1, verify=True)
    assert not answer.verified


async def test_verify_names_one_liar_of_five_and_answers_from_the_others(phone, world):
    await phone.register()
    world.nodes[4].device.lie = True
    state, ke1 = phone.guess()
    answer = await phone.attempt(ke1, 1, verify=True)
    assert answer.verified
    phone.opened(state, answer)
    metrics = world.nodes[1].assembly.metrics
    assert metrics.wrong_shares.labels("4")._value.get() == 1


async def test_verify_with_a_liar_among_four_fails_closed(phone, world):
    await phone.register()
    world.nodes[5].device.healthy = False
    world.nodes[2].device.lie = True
    problem = await refused(phone.attempt(phone.guess()[1], 1, verify=True))
    assert (problem.code, problem.charged) == (Code.HSM_UNAVAILABLE, Charged.YES)
    assert world.nodes[1].assembly.metrics.disagreements._value.get() == 1


async def test_without_verify_a_liar_only_breaks_what_it_touches(phone, world):
    await phone.register()
    world.nodes[2].device.lie = True
    state, ke1 = phone.guess()
    answer = await phone.attempt(ke1, 1)
    with pytest.raises(OpaqueOpenError):
        phone.opened(state, answer)
    again = await phone.attempt(ke1, 4, verify=True)
    phone.opened(state, again)
    assert again.replayed


async def test_a_client_that_goes_away_leaves_nothing_waiting_and_stays_charged(phone, world):
    await phone.register()
    for node in (2, 3, 4, 5):
        world.nodes[node].host.held = True
    task = asyncio.create_task(phone.attempt(phone.guess()[1], 1))
    await until(lambda: world.nodes[2].assembly.exchange._tasks)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not any(n.assembly.exchange._tasks for n in world.nodes.values()))
    for node in (2, 3, 4, 5):
        world.nodes[node].host.held = False
        world.nodes[node].host.catch_up()
    assert (await phone.look(2)).guesses_remaining == LIMIT - 1


async def test_the_collection_gives_up_when_its_time_is_over(phone, world, monkeypatch):
    monkeypatch.setattr(evaluation, "COLLECT_S", 0.05)
    await phone.register()
    for node in (2, 3, 4, 5):
        world.nodes[node].host.held = True
    problem = await refused(phone.attempt(phone.guess()[1], 1))
    assert (problem.code, problem.charged) == (Code.HSM_UNAVAILABLE, Charged.YES)


async def test_answers_carry_the_receipt_of_the_outcome(phone, world):
    await phone.register()
    answer = await phone.attempt(phone.guess()[1], 2)
    receipt = answer.receipt
    assert receipt.index == len(world.log.entries)
    assert receipt.cluster_id == "00112233-4455-6677-8899-aabbccddeeff"
    assert (receipt.version, receipt.restore_epoch) == (3, 0)
    assert answer.record_id == b64u_encode(phone.record_id)
