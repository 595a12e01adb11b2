"""One typed password, one guess: what a client does to get its key back, and what it believes."""

from __future__ import annotations

import contextlib
import re

import pytest
from client import Client, Killed
from honest_vault import HonestVault, problem

from engines import _engines
from engines.encoding import b64u_decode, b64u_encode
from quorumvault import errors

KEY = b"K" * 32


@pytest.fixture
def vault(tmp_path):
    vault = HonestVault()
    Client(vault, tmp_path / "old-phone.json").register(b"right", KEY)
    vault.calls.clear()
    return vault


@pytest.fixture
def phone(vault, tmp_path):
    return Client(vault, tmp_path / "state.json")


def attempts(vault):
    return [c for c in vault.calls if c.path == "/v1/attempts"]


def ke1s(vault):
    return {c.body["ke1"] for c in attempts(vault)}


def test_the_right_password_gives_the_key_through_every_single_endpoint(vault):
    for node in range(1, 6):
        assert Client(vault, None, nodes=(node,)).recover(b"right") == KEY


def test_a_right_password_resets_the_count(phone):
    with pytest.raises(errors.WrongPassword):
        phone.recover(b"wrong")
    assert phone.status().guesses_remaining == 9
    phone.recover(b"right")
    assert phone.status().guesses_remaining == 10


def test_a_wrong_password_costs_one_guess_and_says_how_many_remain(vault, phone):
    for remaining in range(9, -1, -1):
        with pytest.raises(errors.WrongPassword) as caught:
            phone.recover(b"wrong")
        assert caught.value.remaining == remaining
        assert caught.value.charged == "yes"
        assert caught.value.verified
    with pytest.raises(errors.Exhausted):
        phone.recover(b"right")
    vault.expire()
    with pytest.raises(errors.Locked):
        phone.recover(b"right")
    assert len({attempt for attempt, _, _ in vault.evaluated}) == 10


def test_a_password_is_called_wrong_only_after_a_second_data_center_verified(vault, phone):
    with pytest.raises(errors.WrongPassword):
        phone.recover(b"wrong")
    first, second = attempts(vault)
    assert first.node != second.node
    assert first.body["ke1"] == second.body["ke1"]
    assert "verify" not in first.body
    assert second.body["verify"] is True


def test_a_faulty_share_is_not_taken_for_a_wrong_password(vault, phone):
    vault.bad_shares = {2}
    assert phone.recover(b"right") == KEY
    assert len(ke1s(vault)) == 1


def test_with_three_data_centers_up_the_verdict_says_that_it_is_unverified(vault, phone):
    vault.down = {4, 5}
    with pytest.raises(errors.WrongPassword) as caught:
        phone.recover(b"wrong")
    assert not caught.value.verified


def test_without_a_second_data_center_to_ask_a_password_is_not_called_wrong(vault, tmp_path):
    phone = Client(vault, tmp_path / "s", nodes=(1, 2))

    def only_node_1(call, answer):
        return answer() if call.node == 1 else None

    vault.interfere = only_node_1
    with pytest.raises(errors.Unavailable) as caught:
        phone.recover(b"wrong")
    assert caught.value.charged == "yes"
    vault.interfere = None
    with pytest.raises(errors.WrongPassword) as wrong:
        phone.recover(b"wrong")
    assert wrong.value.remaining == 9  # the first typing's attempt is finished, no second one made


def test_an_unregistered_account_is_said_so_by_two_nodes(phone):
    phone.delete()
    phone.vault.calls.clear()
    with pytest.raises(errors.NotRegistered):
        phone.recover()
    assert len({c.node for c in attempts(phone.vault)}) == 2
    assert phone.state.attempt is None


@pytest.mark.parametrize("lie", [(404, "not-registered"), (423, "locked"), (423, "exhausted")])
def test_one_node_alone_cannot_make_a_client_believe_that_the_key_is_gone(vault, phone, lie):
    def deny(call, answer):
        liar = call.node == 1 and call.path == "/v1/attempts"
        return problem(*lie) if liar else answer()

    vault.interfere = deny
    assert phone.recover() == KEY


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("step", ["attempt", "proof"])
@pytest.mark.parametrize("times", [1, 2, 4])
def test_lost_messages_are_repeated_with_the_same_bytes_and_counted_once(
    vault, phone, lost, step, times
):
    left = [times]

    def lose(call, answer):
        is_step = call.path.endswith("/proof") if step == "proof" else call.path == "/v1/attempts"
        if not is_step or not left[0]:
            return answer()
        left[0] -= 1
        if lost == "answer":
            answer()
        return None

    vault.interfere = lose
    assert phone.recover() == KEY
    assert len(ke1s(vault)) == 1
    proofs = {str(c.body) for c in vault.calls if c.path.endswith("/proof")}
    assert len(proofs) == 1
    assert phone.status().guesses_remaining == 10


def recover_effects(vault) -> int:
    trial = Client(vault, None)
    trial.recover()
    return trial.effects


@pytest.mark.parametrize("before", [True, False])
def test_killed_at_any_moment_the_same_password_costs_one_guess_in_all(vault, tmp_path, before):
    for step in range(recover_effects(vault)):
        phone = Client(vault, tmp_path / f"{before}-{step}", kill_at=step, kill_before=before)
        vault.calls.clear()
        with pytest.raises(Killed):
            phone.recover()
        sent = len(ke1s(vault))
        state = phone.state.attempt
        assert phone.recover() == KEY
        # Only a call whose goodbye alone was lost starts a second attempt.
        assert len(ke1s(vault)) <= 1 + (sent == 1 and state is None)
        assert phone.state.attempt is None


@pytest.mark.parametrize("before", [True, False])
def test_killed_at_any_moment_with_a_wrong_password_the_right_one_still_works(
    vault, tmp_path, before
):
    for step in range(7):
        phone = Client(vault, tmp_path / f"{before}-{step}", kill_at=step, kill_before=before)
        with contextlib.suppress(Killed, errors.WrongPassword):
            phone.recover(b"wrong")
        assert phone.recover(b"right") == KEY


@pytest.mark.parametrize("before", [True, False])
def test_killed_at_any_moment_the_same_wrong_password_costs_one_guess_in_all(tmp_path, before):
    costs = set()
    for step in range(9):
        vault = HonestVault()
        Client(vault, None).register(b"right", KEY)
        phone = Client(vault, tmp_path / f"{before}-{step}", kill_at=step, kill_before=before)
        over = False
        try:
            phone.recover(b"wrong")
        except Killed:
            over = phone.state.attempt is None and bool(vault.evaluated)  # only the goodbye is lost
        except errors.WrongPassword:
            continue
        with pytest.raises(errors.WrongPassword) as caught:
            phone.recover(b"wrong")
        assert caught.value.remaining == 9 - over
        assert caught.value.charged == "yes"
        assert phone.state.attempt is None
        with pytest.raises(errors.WrongPassword) as caught:
            phone.recover(b"wrong")  # typed once more, when all is known: another guess
        assert caught.value.remaining == 8 - over
        costs.add(over)
    assert False in costs


def test_an_unknown_outcome_of_one_password_does_not_stand_for_another(vault, phone):
    lost = {"on": True}

    def lose(call, answer):
        reply = answer()
        return None if call.path == "/v1/attempts" and lost["on"] else reply

    vault.interfere = lose
    with pytest.raises(errors.Unavailable) as away:
        phone.recover(b"wrong")
    assert away.value.charged == "unknown"
    lost["on"] = False
    with pytest.raises(errors.WrongPassword) as caught:
        phone.recover(b"another")
    assert caught.value.remaining == 8
    assert phone.recover(b"right") == KEY


def test_a_guess_that_never_arrived_is_not_sent_when_another_password_is_typed(vault, phone):
    vault.interfere = lambda call, answer: None if call.path == "/v1/attempts" else answer()
    with pytest.raises(errors.Unavailable) as away:
        phone.recover(b"wrong")
    assert away.value.charged == "unknown"
    vault.interfere = None
    with pytest.raises(errors.WrongPassword) as caught:
        phone.recover(b"another")
    assert caught.value.remaining == 9
    assert phone.recover(b"right") == KEY


def test_no_secret_is_in_the_state_file_at_any_moment(vault, tmp_path, monkeypatch):
    exported = []

    def spy(*args, **options):
        keys = _engines.opaque_login_finish(*args, **options)
        exported.append(keys[0])
        return keys

    monkeypatch.setattr("quorumvault._recovery.opaque_login_finish", spy)
    for step in range(recover_effects(vault)):
        phone = Client(vault, tmp_path / f"{step}", kill_at=step)
        with pytest.raises(Killed):
            phone.recover()
        text = phone.path.read_bytes() if phone.path.exists() else b""
        for secret in (b"right", KEY, *exported):
            assert secret not in text
            assert b64u_encode(secret).encode() not in text
    assert exported


def test_a_kill_after_the_proof_was_counted_still_gives_the_key_without_another_guess(vault, phone):
    def no_goodbye(call, answer):
        if call.path.endswith("/proof"):
            answer()
            raise Killed
        return answer()

    vault.interfere = no_goodbye
    with pytest.raises(Killed):
        phone.recover()
    vault.interfere = None
    charged = len(vault.evaluated)
    assert phone.recover() == KEY
    assert len(vault.evaluated) == charged


def test_no_quorum_says_that_nothing_was_counted_and_keeps_no_attempt(vault, phone):
    vault.down = {1, 2, 3}
    with pytest.raises(errors.Unavailable) as caught:
        phone.recover()
    assert caught.value.charged == "no"
    assert caught.value.reason == "no-quorum"
    assert phone.state.attempt is None
    vault.down = set()
    assert phone.recover() == KEY


@pytest.mark.parametrize(
    ("says", "combined"),
    [
        (["no", "no"], "no"),
        (["unknown", "no"], "unknown"),
        (["no", "yes"], "yes"),
        (["yes", "unknown"], "yes"),
    ],
)
def test_the_charge_of_all_sends_is_combined_yes_over_unknown_over_no(vault, phone, says, combined):
    def refuse(call, answer):
        if call.path != "/v1/attempts":
            return answer()
        return problem(503, "no-quorum", says[call.node % 2])

    vault.interfere = refuse
    with pytest.raises(errors.Unavailable) as caught:
        phone.recover()
    assert caught.value.charged == combined
    assert (phone.state.attempt is None) == (combined == "no")


def test_a_lost_answer_leaves_the_charge_unknown(vault, phone):
    vault.interfere = lambda call, answer: None if call.path == "/v1/attempts" else answer()
    with pytest.raises(errors.Unavailable) as caught:
        phone.recover()
    assert caught.value.charged == "unknown"
    assert phone.state.attempt is not None


def test_retry_after_is_honoured(vault, phone):
    left = [5]

    def busy(call, answer):
        if call.path == "/v1/attempts" and left[0]:
            left[0] -= 1
            return problem(429, "busy", retry_after=4.0)
        return answer()

    vault.interfere = busy
    assert phone.recover() == KEY
    assert phone.pauses
    assert max(phone.pauses) > 3.5


def test_superseded_means_type_the_password_again(vault, phone):
    vault.interfere = lambda call, answer: (
        problem(409, "superseded", "yes") if call.path == "/v1/attempts" else answer()
    )
    with pytest.raises(errors.Superseded, match="type the password again") as caught:
        phone.recover()
    assert caught.value.charged == "yes"
    assert len(attempts(vault)) == 1
    assert phone.state.attempt is None


def test_a_proof_that_another_device_overtook_is_superseded(vault, phone):
    other = Client(vault, None)
    once = []

    def overtaken(call, answer):
        if call.path.endswith("/proof") and not once:
            once.append(None)
            other.recover()
        return answer()

    vault.interfere = overtaken
    with pytest.raises(errors.Superseded):
        phone.recover()
    assert phone.recover() == KEY


OTHER = b64u_encode(b"\x07" * 32)


@pytest.mark.parametrize(
    "lie",
    [
        {"attempt_id": OTHER},
        {"record_id": OTHER},
        {"registration_id": OTHER},
        {"proof_box": b64u_encode(b"\x01" + b"\x00" * 60)},
        {"ke2": b64u_encode(b"\x01" * 319)},
        {"era": 2**53},
        {"guesses_remaining": -1},
        {"receipt": None},
    ],
)
def test_a_falsified_attempt_answer_is_tampered_and_signs_nothing(vault, phone, lie):
    vault.interfere = lambda call, answer: (
        answer().but(**lie) if call.path == "/v1/attempts" else answer()
    )
    with pytest.raises(errors.Tampered):
        phone.recover()
    assert not [c for c in vault.calls if c.path.endswith("/proof")]


@pytest.mark.parametrize(
    "lie", [{"wrapped_key": b64u_encode(b"\x01" + b"\x00" * 60)}, {"registration_id": OTHER}]
)
def test_a_falsified_proof_answer_is_tampered(vault, phone, lie):
    vault.interfere = lambda call, answer: (
        answer().but(**lie) if call.path.endswith("/proof") else answer()
    )
    with pytest.raises(errors.Tampered):
        phone.recover()


def test_one_ke1_is_signed_for_one_era_only(vault, tmp_path):
    """A liar names a later era: whatever follows, no second signature for this KE1 exists."""
    phone = Client(vault, tmp_path / "s", nodes=(5,))  # no other data center tells the era

    def later(call, answer):
        if call.path == "/v1/attempts":
            return answer().but(era=answer().json()["era"] + 1)
        return answer()

    vault.interfere = later
    with pytest.raises(errors.Superseded):
        phone.recover()
    signed = {}
    for call in (c for c in vault.calls if c.path.endswith("/proof")):
        signed.setdefault(call.body["ke1"], set()).add(call.body["era"])
    assert all(len(eras) == 1 for eras in signed.values())


def test_a_vault_that_shows_another_opaque_key_is_refused_before_a_password_is_used(vault, phone):
    phone.recover()
    vault.calls.clear()
    vault.ake_public = HonestVault().ake_public
    with pytest.raises(errors.Tampered, match="OPAQUE public key"):
        phone.recover()
    assert attempts(vault) == []


@pytest.mark.parametrize("field", ["index", "version"])
@pytest.mark.parametrize("call_path", ["/v1/attempts", "/v1/record", "proof"])
def test_a_receipt_that_goes_back_is_a_rollback(vault, phone, field, call_path):
    phone.register(b"right", KEY)
    phone.recover()

    def older(call, answer):
        reply = answer()
        if call.path.endswith(call_path):
            receipt = reply.json()["receipt"]
            return reply.but(receipt=receipt | {field: 0})
        return reply

    vault.interfere = older
    call = phone.status if call_path == "/v1/record" else phone.recover
    with pytest.raises(errors.RollbackDetected, match=field):
        call()


def test_a_receipt_of_another_cluster_is_tampered(vault, phone):
    lie = {"cluster_id": "ffffffff-ffff-ffff-ffff-ffffffffffff"}
    vault.interfere = lambda call, answer: (
        answer().but(receipt=answer().json()["receipt"] | lie)
        if call.path == "/v1/record"
        else answer()
    )
    with pytest.raises(errors.Tampered, match="another cluster"):
        phone.status()


@pytest.mark.parametrize(
    ("call", "charged"),
    [("status", "no"), ("delete", "no"), ("register", "no"), ("recover", "yes")],
)
def test_a_state_file_of_another_account_is_named_as_that(
    vault, phone, tmp_path, monkeypatch, call, charged
):
    phone.recover()
    monkeypatch.setattr("honest_vault.SHARD", 3)
    vault.record_id, vault.record = b"\x01" * 32, None
    Client(vault, tmp_path / "of-this-account").register()
    with pytest.raises(errors.Tampered, match="belongs to another account; use one") as caught:
        getattr(phone, call)()
    assert caught.value.charged == charged
    if call == "status":
        assert re.search("from shard 3, but .* in shard 7", str(caught.value))


def test_a_version_that_goes_back_may_be_another_accounts(vault, phone):
    phone.recover()
    vault.record = None
    with pytest.raises(errors.RollbackDetected, match=r"version.* belongs to another account"):
        phone.status()


def test_the_last_receipt_survives_the_process(vault, phone):
    phone.recover()
    last = phone.state.receipt.index
    vault.index = last - 5
    with pytest.raises(errors.RollbackDetected):
        phone.status()


def test_a_token_that_is_refused_is_not_tried_elsewhere(vault, phone):
    vault.interfere = lambda call, answer: (
        problem(401, "token") if call.path == "/v1/attempts" else answer()
    )
    with pytest.raises(errors.Denied):
        phone.recover()
    assert len(attempts(vault)) == 1


def test_a_proxy_page_counts_as_silence_of_unknown_charge(vault, phone):
    vault.interfere = lambda call, answer: (
        problem(502, "") if call.path == "/v1/attempts" and call.node == 1 else answer()
    )
    assert phone.recover() == KEY


def test_deleting_leaves_nothing_and_may_be_repeated(phone):
    phone.delete()
    phone.delete()
    assert phone.status().state == "none"


def test_a_delete_of_one_registration_spares_any_other(vault, phone, tmp_path):
    mine = phone.status().registration_id
    Client(vault, tmp_path / "another-phone").register(b"another", b"A" * 32)
    with pytest.raises(errors.Conflict, match="another registration"):
        phone.delete(only=mine)
    assert phone.status().state == "active"
    phone.delete(only=phone.status().registration_id)
    assert phone.status().state == "none"


def test_a_lost_answer_to_a_delete_is_repeated_without_harm(vault, phone):
    left = [1]

    def lose(call, answer):
        if call.method == "DELETE" and left[0]:
            left[0] -= 1
            answer()
            return None
        return answer()

    vault.interfere = lose
    phone.delete()
    assert phone.status().state == "none"


def test_the_proof_carries_a_signature_only_the_password_could_make(vault, phone):
    phone.recover()
    proof = next(c for c in vault.calls if c.path.endswith("/proof"))
    assert set(proof.body) == {"ke1", "era", "signature"}
    assert len(b64u_decode(proof.body["signature"])) == 64
