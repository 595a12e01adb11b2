"""What a client does to register, and what it refuses to believe."""

from __future__ import annotations

import json

import pytest
from client import Client, Killed
from honest_vault import HonestVault, Reply, problem

from engines import _engines
from engines.encoding import b64u_encode
from quorumvault import errors
from quorumvault._core import random_key


@pytest.fixture
def vault():
    return HonestVault()


@pytest.fixture
def phone(vault, tmp_path):
    return Client(vault, tmp_path / "state.json")


def starts(vault):
    return [c.node for c in vault.calls if c.method == "POST" and c.path == "/v1/registrations"]


def test_a_registered_key_comes_back_with_the_password_alone(vault, phone, tmp_path):
    registered = phone.register(b"right", b"K" * 32)
    assert registered.confirmed
    assert registered.doubts == ()
    assert Client(vault, tmp_path / "new-phone.json").recover(b"right") == b"K" * 32


def test_a_registration_starts_at_three_different_data_centers(vault, phone):
    phone.register()
    assert len(starts(vault)) == 3
    assert len(set(starts(vault))) == 3


def test_the_pending_content_is_compared_at_three_seats_before_and_after_activation(vault, phone):
    phone.register()
    kinds = [(c.method, c.path.split("/")[-1]) for c in vault.calls]
    activation = kinds.index(("POST", "activation"))
    looks = [i for i, kind in enumerate(kinds) if kind == ("GET", "record")]
    assert sum(i < activation for i in looks) == 3
    assert sum(i > activation for i in looks) == 3


def test_a_key_of_any_allowed_length_comes_back(phone):
    phone.register(key=b"x" * 995)
    assert phone.recover() == b"x" * 995


def test_registering_again_replaces_key_and_password(phone):
    phone.register(b"old", b"1" * 32)
    phone.register(b"new", b"2" * 32)
    assert phone.recover(b"new") == b"2" * 32
    with pytest.raises(errors.WrongPassword):
        phone.recover(b"old")


def test_two_endpoints_are_too_few_to_register(vault, tmp_path):
    with pytest.raises(errors.Refused, match="3 data centers"):
        Client(vault, tmp_path / "s", nodes=(1, 2)).register()
    assert starts(vault) == []


def test_three_endpoints_of_two_nodes_are_too_few(vault, tmp_path):
    with pytest.raises(errors.Refused, match="lead to 2 data centers"):
        Client(vault, tmp_path / "s", nodes=(1, 2, 2)).register()


def test_with_two_data_centers_down_it_registers_but_is_unconfirmed(vault, phone):
    vault.down = {2, 4}
    registered = phone.register()
    assert not registered.confirmed
    assert "fewer than four" in registered.doubts[0]
    assert phone.state.unconfirmed is not None


@pytest.mark.parametrize("pinned", [True, False])
def test_an_unconfirmed_registration_is_confirmed_by_an_attempt_through_other_seats(
    vault, phone, pinned
):
    phone.pinned = pinned
    vault.down = {1, 2}
    phone.register()
    vault.down = set()
    assert phone.recover() == b"k" * 32
    attempts = [c for c in vault.calls if c.path == "/v1/attempts"]
    assert attempts[0].node in {1, 2}
    assert attempts[0].body["verify"] is True
    assert phone.state.unconfirmed is None


@pytest.mark.parametrize("pinned", [True, False])
def test_an_attempt_through_the_same_three_seats_gives_the_key_but_confirms_nothing(
    vault, phone, pinned
):
    phone.pinned = pinned
    vault.down = {1, 2}
    phone.register()
    assert phone.recover() == b"k" * 32
    assert phone.state.unconfirmed is not None


def test_a_seat_without_its_hsm_leaves_the_registration_unconfirmed(vault, phone):
    vault.hsm_away = {2}
    registered = phone.register()
    assert not registered.confirmed
    assert any("HSM is away" in doubt for doubt in registered.doubts)


def at_node(node, path, change, *, method="POST", times=99):
    left = [times]

    def interfere(call, answer):
        if (call.node, call.method, call.path) == (node, method, path) and left[0]:
            left[0] -= 1
            return change(call, answer)
        return answer()

    return interfere


OTHER = b64u_encode(b"\x07" * 32)


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        ({"record_id": OTHER}, "does not recompute"),
        ({"registration_id": OTHER}, "does not recompute"),
        ({"era": 5}, "does not recompute"),
        ({"response": b64u_encode(b"\x01" * 64)}, "another OPAQUE public key"),
        ({"response": "short"}, "malformed"),
        ({"verified": "yes"}, "malformed"),
        ({"era": -1}, "malformed"),
    ],
)
def test_a_start_that_one_node_falsifies_is_tampered_and_nothing_is_stored(vault, phone, lie, says):
    vault.interfere = at_node(2, "/v1/registrations", lambda _, answer: answer().but(**lie))
    with pytest.raises(errors.Tampered, match=says):
        phone.register()
    assert vault.record is None
    assert phone.state.registration is None


def test_a_node_that_evaluates_under_its_own_key_is_exposed_by_the_other_two(vault, phone):
    evil = HonestVault()
    evil.record_id = vault.record_id
    evil.ake_private, evil.ake_public = vault.ake_private, vault.ake_public

    def answer_alone(call, _answer):
        return evil._start(call)

    vault.interfere = at_node(3, "/v1/registrations", answer_alone)
    with pytest.raises(errors.Tampered, match="evaluated the same registration differently"):
        phone.register()


def test_when_only_the_era_differs_the_start_is_made_once_more(vault, phone):
    phone.register(b"old")
    moved = []

    def move_on(_call, answer):
        if not moved:
            moved.append(Client(vault, None).recover(b"old"))
        return answer()

    vault.interfere = at_node(3, "/v1/registrations", move_on)
    assert phone.register(b"new").confirmed
    assert len(starts(vault)) == 9


def test_an_era_that_keeps_moving_is_a_conflict_and_stores_nothing(vault, phone):
    phone.register(b"old")
    before = vault.record

    def move_on(_call, answer):
        Client(vault, None).recover(b"old")
        return answer()

    vault.interfere = at_node(3, "/v1/registrations", move_on)
    with pytest.raises(errors.Conflict):
        phone.register(b"new")
    assert vault.record.active == before.active
    assert vault.record.pending is None


@pytest.mark.parametrize("phase", ["before", "after"])
def test_other_content_at_one_seat_is_tampered(vault, phone, phase):
    def other_content(_call, answer):
        reply = answer()
        fields = reply.json()
        if phase == "before" and fields["pending"]:
            fields["pending"]["content"] = OTHER
        if phase == "after" and "content" in fields:
            fields["content"] = OTHER
        return Reply(200, json.dumps(fields).encode())

    vault.interfere = at_node(2, "/v1/record", other_content, method="GET")
    with pytest.raises(errors.Tampered, match="other bytes"):
        phone.register()
    assert (vault.record.active is None) == (phase == "before")


def test_a_replaced_pending_registration_is_superseded_and_never_activated(vault, phone, tmp_path):
    other = Client(vault, tmp_path / "other")
    once = []

    def other_device_first(_call, answer):
        if not once:
            once.append(None)
            other.register(b"theirs", b"T" * 32)
        return answer()

    vault.interfere = at_node(1, "/v1/record", other_device_first, method="GET")
    with pytest.raises((errors.Superseded, errors.Conflict)):
        phone.register(b"mine", b"M" * 32)
    assert phone.state.registration is None
    assert other.recover(b"theirs") == b"T" * 32


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("lie", ["another", "none", "refusal"])
def test_one_liar_who_shows_another_registration_makes_nobody_forget_theirs(
    vault, phone, phase, lie
):
    def lies(_call, answer):
        reply = answer()
        fields = reply.json()
        if (phase == "after") != (fields["pending"] is None):
            return reply
        if lie == "refusal":
            return problem(409, "conflict")
        fields["pending"] = None
        fields.pop("registration_id", None)
        if lie == "another":
            fields["registration_id"] = OTHER
        return Reply(200, json.dumps(fields).encode())

    vault.interfere = at_node(2, "/v1/record", lies, method="GET")
    with pytest.raises(errors.Tampered):
        phone.register()
    vault.interfere = None
    assert phone.resume().confirmed
    assert phone.status().mine


def test_one_liar_who_calls_the_registration_stale_is_not_believed(vault, phone):
    def stale(call, answer):
        return problem(409, "stale") if call.node == 1 and call.method == "PUT" else answer()

    vault.interfere = stale
    assert phone.register().confirmed


def test_an_interrupted_registration_blocks_another_until_resumed_or_abandoned(phone):
    phone.kill_at, phone.kill_before = 4, False
    with pytest.raises(Killed):
        phone.register(b"first", b"1" * 32)
    assert phone.state.registration is not None
    with pytest.raises(errors.Unfinished):
        phone.register(b"second", b"2" * 32)
    assert phone.abandon()
    assert not phone.abandon()
    phone.register(b"second", b"2" * 32)
    assert phone.recover(b"second") == b"2" * 32


def register_effects(tmp_path) -> int:
    trial = Client(HonestVault(), tmp_path / "trial")
    trial.register()
    return trial.effects


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("old", [False, True])
def test_killed_at_any_moment_it_resumes_the_same_registration(tmp_path, before, old):
    for step in range(register_effects(tmp_path)):
        vault = HonestVault()
        phone = Client(vault, tmp_path / f"{old}-{before}-{step}")
        if old:
            phone.register(b"old", b"O" * 32)
        phone.kill_at, phone.kill_before = step, before
        with pytest.raises(Killed):
            phone.register(b"new", b"N" * 32)
        puts = {json.dumps(c.body) for c in vault.calls if c.method == "PUT"}
        resumed = phone.resume()
        again = {json.dumps(c.body) for c in vault.calls if c.method == "PUT"}
        assert len(again) <= 1 + old  # never a second registration of the password
        assert puts <= again
        if resumed is not None:
            assert resumed.backup_key is None
            assert resumed.confirmed
            assert phone.recover(b"new") == b"N" * 32
        elif vault.record is None:
            assert phone.register(b"new").confirmed
        elif vault.record.active.birth_era == (1 if old else 0):
            assert phone.recover(b"new") == b"N" * 32  # only the goodbye was lost
        else:
            assert phone.recover(b"old") == b"O" * 32
        assert phone.state.registration is None


@pytest.mark.parametrize("before", [True, False])
def test_killed_at_any_moment_the_status_knows_whether_the_new_registration_came_through(
    tmp_path, before
):
    for step in range(register_effects(tmp_path)):
        phone = Client(HonestVault(), tmp_path / f"{before}-{step}")
        phone.register(b"old", b"O" * 32)
        old = phone.status().registration_id
        phone.kill_at, phone.kill_before = step, before
        with pytest.raises(Killed):
            phone.register(b"new", b"N" * 32)
        phone.resume()
        seen = phone.status()
        assert seen.mine  # nobody else registered
        right = b"old" if seen.registration_id == old else b"new"
        assert phone.recover(right) == (b"O" if right == b"old" else b"N") * 32


def test_a_registration_of_another_phone_is_not_mine(vault, phone, tmp_path):
    assert not phone.status().mine
    phone.register()
    assert phone.status().mine
    other = Client(vault, tmp_path / "another-phone")
    assert not other.status().mine
    other.register(b"another", b"A" * 32)
    assert (other.status().mine, phone.status().mine) == (True, False)
    other.delete()
    assert not other.status().mine


def writes(call) -> bool:
    return call.path != "/v1/vault" and (call.method != "GET")


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("which", range(5))
def test_a_lost_message_at_any_step_is_repeated_elsewhere_and_counts_once(
    vault, phone, lost, which
):
    seen = [0]

    def lose(call, answer):
        if not writes(call):
            return answer()
        seen[0] += 1
        if seen[0] - 1 != which:
            return answer()
        if lost == "answer":
            answer()
        return None

    vault.interfere = lose
    assert phone.register().confirmed
    assert vault.record.version == 2  # one pending, one active, whatever was repeated


def test_an_old_pending_that_the_vault_has_moved_past_is_dropped_not_forced(vault, tmp_path):
    phone, other = Client(vault, tmp_path / "a"), Client(vault, tmp_path / "b")
    phone.kill_at, phone.kill_before = 4, False
    with pytest.raises(Killed):
        phone.register(b"mine")
    other.register(b"theirs", b"T" * 32)
    with pytest.raises(errors.Conflict):
        phone.resume()
    assert phone.state.registration is None
    assert other.recover(b"theirs") == b"T" * 32


def test_no_secret_is_ever_in_the_state_file(tmp_path, monkeypatch):
    password, key = b"canary-password", b"canary-backup-key-of-32-bytes..."
    secrets = [password, key]

    def spy_seed():
        secrets.append(random_key())
        return secrets[-1]

    def spy_finish(*args, **options):
        keys = _engines.opaque_registration_finish(*args, **options)
        secrets.append(keys[1])
        return keys

    monkeypatch.setattr("quorumvault._registration.random_key", spy_seed)
    monkeypatch.setattr("quorumvault._registration.opaque_registration_finish", spy_finish)
    for step in range(register_effects(tmp_path)):
        phone = Client(HonestVault(), tmp_path / f"state-{step}", kill_at=step)
        with pytest.raises(Killed):
            phone.register(password, key)
        if not phone.path.exists():
            continue
        text = phone.path.read_bytes()
        assert phone.path.stat().st_mode & 0o777 == 0o600
        for secret in secrets:
            assert secret not in text
            assert b64u_encode(secret).encode() not in text
    assert len(secrets) > 4
