"""What one owned node says, and what a client does not believe on its word alone."""

from __future__ import annotations

import json

import pytest
from client import Client
from honest_vault import HonestVault, Reply, problem

from quorumvault import errors

KEY = b"K" * 32


@pytest.fixture
def vault(tmp_path):
    vault = HonestVault()
    Client(vault, tmp_path / "old-phone.json").register(b"right", KEY)
    vault.calls.clear()
    return vault


def proofs(vault):
    return [c for c in vault.calls if c.path.endswith("/proof")]


def looks(vault):
    return [c for c in vault.calls if c.path == "/v1/record"]


def owned(node, path, **lie):
    """One node changes these fields of one answer."""

    def interfere(call, answer):
        reply = answer()
        mine = call.node == node and call.path == path and reply.status == 200
        return reply.but(**lie) if mine else reply

    return interfere


# ---------------------------------------------------------------- the era of a proof


@pytest.mark.parametrize("pinned", [True, False])
def test_a_proof_is_not_signed_for_an_era_that_another_data_center_does_not_know(
    vault, tmp_path, pinned
):
    phone = Client(vault, tmp_path / "s", nodes=(5, 1, 2, 3, 4), pinned=pinned)
    vault.interfere = owned(5, "/v1/attempts", era=vault.era + 1)
    with pytest.raises(errors.Tampered, match="era") as caught:
        phone.recover(b"right")
    assert caught.value.charged == "yes"
    assert proofs(vault) == []
    assert phone.state.attempt.opened is None
    vault.interfere = None
    assert phone.recover(b"right") == KEY
    assert len({c.body["ke1"] for c in vault.calls if c.path == "/v1/attempts"}) == 1


def test_an_era_that_another_data_center_has_left_behind_is_superseded_and_not_signed(
    vault, tmp_path
):
    other, once = Client(vault, None), []

    def overtaken(call, answer):
        reply = answer()
        if call.path == "/v1/attempts" and not once:
            once.append(None)
            other.recover(b"right")
            vault.calls.clear()
        return reply

    vault.interfere = overtaken
    phone = Client(vault, tmp_path / "s")
    with pytest.raises(errors.Superseded, match="type the password again") as caught:
        phone.recover(b"right")
    assert caught.value.charged == "yes"
    assert proofs(vault) == []
    assert phone.state.attempt is None


@pytest.mark.parametrize("pinned", [True, False])
def test_the_era_is_looked_up_once_in_another_data_center_and_costs_no_guess(
    vault, tmp_path, pinned
):
    assert Client(vault, tmp_path / "s", pinned=pinned).recover(b"right") == KEY
    (look,) = looks(vault)
    (attempt,) = [c for c in vault.calls if c.path == "/v1/attempts"]
    assert look.node != attempt.node
    assert len(vault.evaluated) == 1


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("answer", [None, (503, "no-quorum"), (401, "token")])
def test_a_client_that_gets_an_answer_from_one_data_center_only_still_gets_its_key(
    vault, tmp_path, pinned, answer
):
    def alone(call, honest):
        if call.node == 5:
            return honest()
        return None if answer is None else problem(*answer)

    vault.interfere = alone
    phone = Client(vault, tmp_path / "s", nodes=(5, 1, 2, 3, 4), pinned=pinned)
    assert phone.recover(b"right") == KEY
    assert not phone.pauses  # it asked, and did not wait


def test_while_the_nearest_other_data_center_is_silent_the_next_is_asked(vault, tmp_path):
    liar = owned(5, "/v1/attempts", era=vault.era + 1)
    vault.interfere = lambda call, answer: None if call.node in {1, 2} else liar(call, answer)
    with pytest.raises(errors.Tampered, match="era"):
        Client(vault, tmp_path / "s", nodes=(5, 1, 2, 3, 4), pinned=True).recover(b"right")
    assert proofs(vault) == []


def test_a_proof_that_was_signed_already_is_repeated_without_another_look(vault, tmp_path):
    vault.interfere = lambda call, answer: None if call.path.endswith("/proof") else answer()
    phone = Client(vault, tmp_path / "s")
    with pytest.raises(errors.Unavailable):
        phone.recover(b"right")
    vault.interfere = None
    vault.calls.clear()
    assert phone.recover(b"right") == KEY
    assert looks(vault) == []


# ---------------------------------------------------------------- one node in several places


class Relayed(Client):
    """A phone with plain URLs on a network that leads some of them to the owned node."""

    def endpoint(self, node):
        return super().endpoint(None)

    def leads_to(self, node):
        return 5 if self.evil and node in {3, 4} else node


def posing(vault, phone):
    """From the PUT on node 5 answers for 3, 4 and 5, each time as another seat; 1, 2 are cut."""
    phone.evil, kept = False, {}

    def interfere(call, answer):
        phone.evil = phone.evil or call.method == "PUT"
        if not phone.evil:
            return None if call.node in {3, 4} else answer()
        if call.node != 5:
            return None
        reply = answer()
        if call.path == "/v1/vault":
            kept["seat"] = kept.get("seat", 2) + 1
            rows = [{"id": 1, "seat": 1, "dc": "x"}, {"id": 2, "seat": 2, "dc": "x"}]
            return reply.but(nodes=[*rows, {"id": 5, "seat": kept["seat"], "dc": "x"}])
        return reply

    vault.interfere = interfere


def test_one_node_that_poses_as_three_data_centers_confirms_nothing(tmp_path):
    vault = HonestVault()
    phone = Relayed(vault, tmp_path / "s", nodes=(1, 2, 5, 3, 4))
    posing(vault, phone)
    with pytest.raises((errors.Unavailable, errors.Tampered)):
        phone.register(b"right", KEY)
    assert vault.record.active is None


def test_one_node_behind_three_addresses_is_one_data_center(tmp_path):
    vault = HonestVault()
    phone = Relayed(vault, tmp_path / "s", nodes=(5, 3, 4))
    phone.evil = True
    seat = iter((5, 3, 4))

    def interfere(call, answer):
        if call.path != "/v1/vault":
            return answer()
        return answer().but(nodes=[{"id": 5, "seat": next(seat), "dc": "x"}])

    vault.interfere = interfere
    with pytest.raises(errors.Tampered, match="another seat"):
        phone.register(b"right", KEY)
    assert vault.record is None


def test_data_centers_that_disagree_on_who_sits_where_confirm_nothing(tmp_path):
    vault = HonestVault()
    phone = Client(vault, tmp_path / "s", nodes=(1, 2, 3))

    def other_table(call, answer):
        reply = answer()
        if call.node == 3 and call.path == "/v1/vault":
            rows = [
                r | {"seat": {1: 2, 2: 1}.get(r["id"], r["seat"])} for r in reply.json()["nodes"]
            ]
            return reply.but(nodes=rows)
        return reply

    vault.interfere = other_table
    with pytest.raises(errors.Tampered, match="which node sits in which"):
        phone.register(b"right", KEY)
    assert vault.record is None


# ---------------------------------------------------------------- an unconfirmed registration


def unconfirmed_phone(vault, path, *, pinned):
    vault.down = {3, 4}
    phone = Client(vault, path, pinned=pinned)
    assert not phone.register(b"right", KEY).confirmed
    vault.down = set()
    return phone


@pytest.mark.parametrize("pinned", [True, False])
def test_a_node_of_the_start_cannot_confirm_it_by_saying_verified(tmp_path, pinned):
    vault = HonestVault()
    unconfirmed_phone(vault, tmp_path / "s", pinned=pinned)
    vault.interfere = owned(5, "/v1/attempts", verified=True)
    phone = Client(vault, tmp_path / "s", nodes=(5,), pinned=pinned)
    assert phone.recover(b"right") == KEY
    assert phone.state.unconfirmed is not None


@pytest.mark.parametrize("nodes", [(5,), (5, 1)])
def test_a_node_of_the_start_cannot_confirm_it_by_moving_to_another_seat(tmp_path, nodes):
    vault = HonestVault()
    unconfirmed_phone(vault, tmp_path / "s", pinned=False)
    rows = [{"id": n, "seat": {5: 3, 3: 5}.get(n, n), "dc": "x"} for n in range(1, 6)]
    vault.interfere = owned(5, "/v1/vault", nodes=rows)
    phone = Client(vault, tmp_path / "s", nodes=nodes)
    assert phone.recover(b"right") == KEY
    assert phone.state.unconfirmed is not None


def test_an_attempt_through_a_seat_that_took_no_part_confirms(tmp_path):
    vault = HonestVault()
    unconfirmed_phone(vault, tmp_path / "s", pinned=False)
    phone = Client(vault, tmp_path / "s", nodes=(3, 1))
    assert phone.recover(b"right") == KEY
    assert phone.state.unconfirmed is None


def test_a_seat_that_nobody_else_vouches_for_confirms_nothing(tmp_path):
    vault = HonestVault()
    unconfirmed_phone(vault, tmp_path / "s", pinned=False)
    phone = Client(vault, tmp_path / "s", nodes=(3,))
    assert phone.recover(b"right") == KEY
    assert phone.state.unconfirmed is not None


# ---------------------------------------------------------------- refusals


@pytest.fixture
def exhausted(tmp_path):
    vault = HonestVault(limit=1)
    Client(vault, tmp_path / "old").register(b"right", KEY)
    with pytest.raises(errors.WrongPassword):
        Client(vault, tmp_path / "wrong").recover(b"wrong")
    return vault


@pytest.mark.parametrize("lie", [(423, "locked"), (404, "not-registered")])
@pytest.mark.parametrize("nodes", [(1, 2, 3), (2, 1, 3), (1, 2), (2, 1)])
def test_two_different_refusals_are_no_agreement(exhausted, tmp_path, lie, nodes):
    def liar(call, answer):
        mine = call.node == 2 and call.path == "/v1/attempts"
        return problem(*lie) if mine else answer()

    exhausted.interfere = liar
    with pytest.raises(errors.Exhausted):
        Client(exhausted, tmp_path / "s", nodes=nodes).recover(b"right")


def test_the_same_node_behind_two_addresses_does_not_agree_with_itself(vault, tmp_path):
    def liar(call, answer):
        mine = call.node == 5 and call.path == "/v1/attempts"
        return problem(423, "locked") if mine else answer()

    vault.interfere = liar
    assert Client(vault, tmp_path / "s", nodes=(5, 5, 1)).recover(b"right") == KEY


def test_a_wrong_password_that_one_node_told_twice_is_not_called_verified(vault, tmp_path):
    with pytest.raises(errors.WrongPassword) as caught:
        Client(vault, tmp_path / "s", nodes=(5, 5)).recover(b"wrong")
    assert not caught.value.verified


def test_content_that_one_of_three_nodes_lies_about_is_never_confirmed(tmp_path):
    vault = HonestVault()

    def no_content(call, answer):
        reply = answer()
        if call.node != 2 or call.path != "/v1/record":
            return reply
        fields = reply.json() | {"content": None}
        return Reply(200, json.dumps(fields).encode())

    vault.interfere = no_content
    assert not Client(vault, tmp_path / "s", nodes=(1, 2, 3)).register().confirmed
