"""The proof: cheap refusals first, one decision in the log, the same answer again."""

from __future__ import annotations

import pytest
from node_world import CLUSTER_ID, LIMIT
from phone import Phone
from test_attempts import refused

from cluster.commands import Prove
from engines import _engines, identifiers
from node import proofs
from node.fields import ProofBody
from node.problems import Charged, Code


@pytest.fixture
async def proven(phone):
    """An attempt of the right password, not proven yet: (answer, seed, ke1)."""
    await phone.register()
    state, ke1 = phone.guess()
    answer = await phone.attempt(ke1)
    _, seed = phone.opened(state, answer)
    return answer, seed, ke1


def proposals(world) -> int:
    return sum(isinstance(c, Prove) for c, _ in world.log.entries)


async def test_a_lost_answer_may_be_asked_again_at_any_node(phone, proven):
    answer, seed, ke1 = proven
    body = phone.proof(answer, seed, ke1)
    answers = [await phone.prove(body, n) for n in (1, 2, 3, 4, 5)]
    assert len({a.wrapped_key for a in answers}) == 1
    assert {a.receipt.version for a in answers} == {answers[0].receipt.version}


async def test_a_recorded_proof_resets_nothing_in_a_later_era(phone, proven):
    answer, seed, ke1 = proven
    body = phone.proof(answer, seed, ke1)
    await phone.prove(body)
    for n in range(3):
        await phone.attempt(phone.guess(b"wrong %d" % n)[1])
    await phone.prove(body, 2)  # still the last proof: the same answer, no reset
    assert (await phone.look()).guesses_remaining == LIMIT - 3
    await phone.recover(3)
    problem = await refused(phone.prove(body, 4))
    assert (problem.code, problem.charged) == (Code.SUPERSEDED, Charged.NO)
    await phone.attempt(phone.guess(b"wrong")[1])
    assert (await phone.look()).guesses_remaining == LIMIT - 1


async def test_a_wrong_signature_reaches_neither_log_nor_hsm(phone, world, proven):
    answer, seed, ke1 = proven
    registration_id = (await phone.look()).registration_id
    assert registration_id == answer.registration_id
    attempt_id = identifiers.attempt_id(phone.record_id, ke1)
    good = phone.proof(answer, seed, ke1)
    rid = world.nodes[1].host.records[phone.record_id].active.registration_id
    wrong_messages = [
        identifiers.prove_message(CLUSTER_ID, rid, answer.era, bytes(32)),
        identifiers.prove_message(CLUSTER_ID, rid, answer.era + 1, attempt_id),
        identifiers.prove_message(CLUSTER_ID, bytes(32), answer.era, attempt_id),
        identifiers.activation_message(CLUSTER_ID, rid),
    ]
    world.nodes[1].device.calls.clear()
    for message in wrong_messages:
        signature = _engines.ed25519_sign(seed, message)
        problem = await refused(phone.prove(ProofBody(ke1, good.era, signature)))
        assert (problem.code, problem.status, problem.charged) == (
            Code.PROOF_REJECTED,
            403,
            Charged.NO,
        )
        assert problem.detail.startswith("signature: ")
    assert proposals(world) == 0
    assert world.nodes[1].device.calls == []


async def test_another_era_is_superseded(phone, world, proven):
    answer, seed, ke1 = proven
    good = phone.proof(answer, seed, ke1)
    problem = await refused(phone.prove(ProofBody(ke1, good.era + 1, good.signature)))
    assert problem.code is Code.SUPERSEDED
    assert proposals(world) == 0


async def test_an_attempt_id_of_another_ke1_or_account_is_named(phone, world, proven):
    answer, seed, ke1 = proven
    body = phone.proof(answer, seed, ke1)
    problem = await refused(proofs.prove(phone.parts(1), phone.record_id, bytes(32), body))
    assert (problem.code, problem.detail[:11]) == (Code.MALFORMED, "attempt_id:")
    bob = Phone(world, "bob")
    attempt_id = identifiers.attempt_id(phone.record_id, ke1)
    problem = await refused(proofs.prove(bob.parts(1), bob.record_id, attempt_id, body))
    assert problem.code is Code.MALFORMED


async def test_an_attempt_that_was_never_charged_costs_one_barrier_and_no_hsm(phone, world):
    made = await phone.register()
    _, ke1 = phone.guess()
    era = (await phone.look()).era
    attempt_id = identifiers.attempt_id(phone.record_id, ke1)
    message = identifiers.prove_message(CLUSTER_ID, made.registration_id, era, attempt_id)
    body = ProofBody(ke1, era, _engines.ed25519_sign(made.seed, message))
    host, device = world.nodes[1].host, world.nodes[1].device
    host.proposed.clear()
    device.calls.clear()
    problem = await refused(phone.prove(body))
    assert (problem.code, problem.charged) == (Code.SUPERSEDED, Charged.NO)
    assert [type(c).__name__ for c in host.proposed] == ["Barrier"]
    assert device.calls == []


async def test_a_node_that_lags_looks_again_behind_a_barrier(phone, world):
    await phone.register()
    world.nodes[5].host.held = True
    state, ke1 = phone.guess()
    answer = await phone.attempt(ke1, 1)
    _, seed = phone.opened(state, answer)
    world.nodes[5].host.held = False  # it catches up when the Barrier comes
    released = await phone.prove(phone.proof(answer, seed, ke1), 5)
    assert released.registration_id == answer.registration_id


async def test_the_own_hsm_away_proposes_nothing(phone, world, proven):
    answer, seed, ke1 = proven
    world.nodes[2].device.healthy = False
    problem = await refused(phone.prove(phone.proof(answer, seed, ke1), 2))
    assert problem.code is Code.HSM_UNAVAILABLE
    assert proposals(world) == 0


async def test_an_hsm_lost_after_the_proof_leaves_the_answer_to_any_other_node(
    phone, world, proven
):
    answer, seed, ke1 = proven
    body = phone.proof(answer, seed, ke1)
    world.nodes[2].device.break_seals = True
    assert (await refused(phone.prove(body, 2))).code is Code.HSM_UNAVAILABLE
    assert proposals(world) == 1
    assert (await phone.prove(body, 3)).registration_id == answer.registration_id


async def test_a_proof_without_quorum_is_refused_and_safe_to_repeat(phone, world, proven):
    answer, seed, ke1 = proven
    body = phone.proof(answer, seed, ke1)
    world.quorum = False
    problem = await refused(phone.prove(body))
    assert (problem.code, problem.charged) == (Code.NO_QUORUM, Charged.NO)
    world.quorum = True
    await phone.prove(body)
