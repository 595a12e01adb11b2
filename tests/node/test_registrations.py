"""Registering at one node or many: nothing resets a count, nothing gives a second budget."""

from __future__ import annotations

import os

import pytest
from node_world import LIMIT
from phone import KEY, Phone
from test_attempts import refused

from cluster.commands import Charge
from engines import _engines, identifiers
from engines.encoding import b64u_encode
from node import registrations, shares
from node.fields import ActivationBody, RegistrationStartBody
from node.problems import Charged, Code


async def test_a_start_at_every_node_gives_the_same_answer_and_stores_nothing(phone):
    seed = bytes(range(32))
    _, request = _engines.opaque_registration_start(b"pw")
    body = RegistrationStartBody(request, _engines.ed25519_public_key(seed))
    answers = [
        await registrations.start(phone.parts(n), phone.record_id, body) for n in range(1, 6)
    ]
    assert len(set(answers)) == 1
    assert answers[0].verified
    assert (await phone.look()).state == "none"


async def test_a_start_with_three_seats_is_unverified_and_with_two_refused(phone, world):
    world.nodes[4].device.healthy = world.nodes[5].device.healthy = False
    _, _, answer = await phone.start(1, b"pw", os.urandom(32))
    assert not answer.verified
    world.nodes[3].device.healthy = False
    problem = await refused(phone.start(1, b"pw", os.urandom(32)))
    assert problem.code is Code.HSM_UNAVAILABLE


async def test_a_start_without_quorum_is_refused(phone, world):
    world.quorum = False
    problem = await refused(phone.start(1, b"pw", os.urandom(32)))
    assert (problem.code, problem.charged) == (Code.NO_QUORUM, Charged.NO)


async def test_a_share_with_another_key_is_named_at_the_start(phone, world):
    world.nodes[3].device.lie = True  # consistently: its proof verifies, its point does not fit
    await phone.register(1)
    world.nodes[3].device.lie = False
    assert await phone.recover(2) == KEY
    assert world.nodes[1].assembly.metrics.wrong_shares.labels("3")._value.get() == 1


async def test_a_share_whose_proof_does_not_verify_is_not_used(phone, world, monkeypatch):
    honest = shares.threshold_share_proven

    def tampered(cluster_id, registration_id, seat, *rest):
        share, point, proof = honest(cluster_id, registration_id, seat, *rest)
        return (share, share if seat in (2, 3) else point, proof)

    monkeypatch.setattr(shares, "threshold_share_proven", tampered)
    _, _, answer = await phone.start(1, b"pw", os.urandom(32))
    assert not answer.verified  # three honest ones are left
    wrong = world.nodes[1].assembly.metrics.wrong_shares
    assert [wrong.labels(seat)._value.get() for seat in "12345"] == [0, 1, 1, 0, 0]


async def test_a_put_says_what_became_of_it_however_often_it_is_sent(phone):
    made = await phone.prepare()
    assert [(await phone.put(made, n)).state for n in (1, 2, 5)] == ["pending"] * 3
    await phone.activate(made)
    assert (await phone.put(made, 3)).state == "active"
    assert (await phone.activate(made, 4)).state == "active"


async def test_the_old_key_is_usable_until_activation_and_gone_after(phone):
    await phone.register(1, b"old")
    new = await phone.prepare(2, b"new")
    await phone.put(new, 2)
    assert (await phone.look()).pending.registration_id == b64u_encode(new.registration_id)
    assert await phone.recover(3, b"old") == KEY
    assert (await phone.put(new, 4)).state == "pending"
    await phone.activate(new, 5)
    assert await phone.recover(1, b"new") == KEY
    with pytest.raises(_engines.OpaqueOpenError):
        await phone.recover(2, b"old")


async def test_a_repeated_step_of_a_registration_never_resets_the_count(phone):
    made = await phone.register()
    for n in range(3):
        await phone.attempt(phone.guess(b"wrong %d" % n)[1])
    for node in (1, 2, 3):
        await phone.put(made, node)
        await phone.activate(made, node)
    assert (await phone.look(5)).guesses_remaining == LIMIT - 3


async def test_an_old_registrations_messages_change_nothing_after_a_replacement(phone):
    old = await phone.register(1, b"old")
    new = await phone.register(2, b"new")
    await phone.attempt(phone.guess(b"wrong")[1])
    assert (await refused(phone.put(old, 3))).code is Code.STALE
    assert (await refused(phone.activate(old, 3))).code is Code.CONFLICT
    record = await phone.look()
    assert record.registration_id == b64u_encode(new.registration_id)
    assert record.guesses_remaining == LIMIT - 1


async def test_an_old_registrations_messages_change_nothing_after_deletion(phone):
    old = await phone.register()
    era = (await phone.look()).era
    await phone.delete(era)
    assert (await refused(phone.put(old))).code is Code.STALE
    assert (await refused(phone.activate(old))).code is Code.CONFLICT
    assert (await phone.delete(era)).state == "none"
    assert (await phone.look()).state == "none"


async def test_an_id_that_does_not_recompute_is_refused_before_the_hsm(phone, world):
    made = await phone.prepare()
    world.nodes[1].device.calls.clear()
    made.registration_id = bytes(32)
    problem = await refused(phone.put(made))
    assert problem.code is Code.MALFORMED
    assert problem.detail.startswith("registration_id: ")
    assert world.nodes[1].device.calls == []


async def test_another_accounts_registration_is_refused(phone, world):
    made = await phone.prepare()
    problem = await refused(Phone(world, "bob").put(made))
    assert (problem.code, problem.detail[:16]) == (Code.MALFORMED, "registration_id:")


async def test_an_activation_with_a_wrong_signature_proposes_nothing(phone, world):
    made = await phone.prepare()
    await phone.put(made)
    before = len(world.log.entries)
    other = identifiers.activation_message(phone.parts(1).cluster.cluster_id, bytes(32))
    for signature in (bytes(64), _engines.ed25519_sign(made.seed, other)):
        problem = await refused(
            registrations.activate(
                phone.parts(1), phone.record_id, made.registration_id, ActivationBody(signature)
            )
        )
        assert (problem.code, problem.status) == (Code.PROOF_REJECTED, 403)
    assert len(world.log.entries) == before


async def test_a_put_without_the_own_hsm_proposes_nothing(phone, world):
    made = await phone.prepare()
    world.nodes[2].device.healthy = False
    before = len(world.log.entries)
    assert (await refused(phone.put(made, 2))).code is Code.HSM_UNAVAILABLE
    assert len(world.log.entries) == before


async def test_an_exhausted_account_registers_anew_with_a_full_list(phone, world):
    await phone.register()
    for n in range(LIMIT):
        await phone.attempt(phone.guess(b"wrong %d" % n)[1])
    await phone.register(2, b"new")
    assert (await phone.look()).guesses_remaining == LIMIT
    assert await phone.recover(3, b"new") == KEY
    assert sum(isinstance(c, Charge) for c, _ in world.log.entries) == LIMIT + 1


async def test_content_is_absent_while_the_hsm_is_away(phone, world):
    from msgspec import UNSET

    await phone.register()
    seen = await phone.look(2)
    world.nodes[2].device.healthy = False
    unseen = await phone.look(2)
    assert seen.content is not UNSET
    assert unseen.content is UNSET
    assert unseen.registration_id == seen.registration_id


@pytest.mark.parametrize("node", [1, 4])
async def test_a_read_waits_for_a_barrier(phone, world, node):
    await phone.register(2)
    world.nodes[node].host.proposed.clear()
    await phone.look(node)
    assert [type(c).__name__ for c in world.nodes[node].host.proposed] == ["Barrier"]
