"""`Vault` and `AsyncVault` over real TLS sockets."""

from __future__ import annotations

import jwt
import pytest
from honest_vault import CLUSTER, problem

import quorumvault
from cluster.certificates import create_authority, operator_uri
from quorumvault import AsyncVault, Endpoint, Vault, errors

QUICK = {"hazmat_identity_ksf": True}


def open_vault(served, *, kind=Vault, nodes=(1, 2, 3, 4, 5), **options):
    arguments = {
        "ca_file": served.ca,
        "token": "a-token",
        "state_file": served.folder / "state.json",
        "timeout_s": 20.0,
    }
    return kind([served.urls[n] for n in nodes], **(arguments | QUICK | options))


async def test_the_async_client_registers_and_recovers(served):
    async with open_vault(served, kind=AsyncVault) as vault:
        registered = await vault.register("pässword")
        assert registered.confirmed
        assert len(registered.backup_key) == 32
        assert await vault.recover("pässword") == registered.backup_key
        assert (await vault.status()).guesses_remaining == 10
        await vault.delete()
        assert (await vault.status()).state == "none"


def test_the_blocking_twin_does_the_same(served):
    with open_vault(served) as vault:
        key = vault.register("right", b"K" * 16).backup_key
        assert vault.recover("right") == key == b"K" * 16
        with pytest.raises(errors.WrongPassword):
            vault.recover("wrong")
        assert vault.status().guesses_remaining == 9
        assert vault.resume_registration() is None
        assert not vault.abandon_registration()
        vault.delete()
    vault.close()  # twice is fine


async def test_the_blocking_twin_works_inside_a_running_loop(served):
    with open_vault(served) as vault:
        assert vault.status().state == "none"


def test_the_real_password_hash_is_used_unless_told_otherwise(served):
    with open_vault(served, hazmat_identity_ksf=False) as vault:
        key = vault.register("right").backup_key
        assert vault.recover("right") == key
    other = served.folder / "other.json"
    with open_vault(served, state_file=other) as vault, pytest.raises(errors.WrongPassword):
        vault.recover("right")


def test_a_connection_file_is_enough(served):
    path = served.connection_file()
    with Vault.from_connection(path, "alice", state_file=None, **QUICK) as vault:
        assert vault.register("right").confirmed
    token = next(t for t in served.tokens if t).removeprefix("Bearer ")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("demo", "alice", "test")
    assert claims["device"] == "primary"
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": "k1", "typ": "JWT"}


def test_killed_nodes_are_passed_over(served):
    with open_vault(served) as vault:
        key = vault.register("right").backup_key
        served.kill(1)
        served.kill(2)
        assert vault.recover("right") == key


def test_data_centers_that_hang_when_asked_for_the_era_leave_time_for_the_proof(served):
    with open_vault(served) as vault:
        key = vault.register("right").backup_key
    served.hanging_path = "/v1/record"
    with open_vault(served, timeout_s=6.0) as vault:
        assert vault.recover("right") == key


def test_with_every_node_gone_it_says_unreachable_and_not_charged(served):
    with open_vault(served, timeout_s=5.0) as vault:
        for node in range(1, 6):
            served.kill(node)
        with pytest.raises(errors.Unavailable) as caught:
            vault.recover("right")
    assert caught.value.reason == "unreachable"
    assert caught.value.charged == "no"


def test_an_authority_that_is_not_the_pinned_one_is_never_spoken_to(served):
    other = served.folder / "other-ca.pem"
    other.write_bytes(create_authority("test").cert_pem)
    with (
        open_vault(served, ca_file=other) as vault,
        pytest.raises(errors.Unavailable, match="certificate"),
    ):
        vault.status()
    assert served.tokens == []


@pytest.mark.parametrize(
    "uri",
    [operator_uri(CLUSTER, "eve"), f"quorumvault://{'f' * 8}-ffff-4fff-8fff-{'f' * 12}/node/1"],
)
def test_a_certificate_of_no_node_of_this_cluster_gets_no_token(unstarted, uri):
    unstarted.uris[1] = uri
    unstarted.start()
    with (
        open_vault(unstarted, nodes=(1,), cluster_id=CLUSTER) as vault,
        pytest.raises(errors.Unavailable, match="certificate"),
    ):
        vault.status()
    assert unstarted.tokens == []


def test_an_endpoint_pinned_to_another_node_gets_no_token(served):
    with (
        Vault(
            [Endpoint(served.urls[2], node=1)],
            ca_file=served.ca,
            token="a-token",
            state_file=None,
        ) as vault,
        pytest.raises(errors.Unavailable, match="expected was node 1"),
    ):
        vault.status()
    assert served.tokens == []


def test_a_node_that_claims_another_id_than_its_certificate_is_not_used(unstarted):
    unstarted.uris[1] = unstarted.uris[2]
    unstarted.start()
    with (
        open_vault(unstarted, nodes=(1,)) as vault,
        pytest.raises(errors.Tampered, match="contradicts its certificate"),
    ):
        vault.status()
    assert unstarted.tokens == [None]


def test_the_greeting_carries_no_token(served):
    with open_vault(served) as vault:
        vault.status()
    assert None in served.tokens
    assert "Bearer a-token" in served.tokens


def test_an_endless_answer_is_cut_off(served):
    served.bodies = dict.fromkeys(range(1, 6), b"x" * 1_000_000)
    with (
        open_vault(served, nodes=(1,), timeout_s=6.0) as vault,
        pytest.raises(errors.Unavailable, match="connection lost"),
    ):
        vault.status()


def test_answers_lost_on_the_wire_are_repeated(served):
    left = [3]

    def lose(call, answer):
        reply = answer()
        if call.path != "/v1/vault" and left[0]:
            left[0] -= 1
            return None
        return reply

    served.vault.interfere = lose
    with open_vault(served) as vault:
        assert vault.register("right").confirmed


def test_hanging_nodes_end_with_the_deadline(served):
    served.hanging_path = "/v1/record"
    with (
        open_vault(served, timeout_s=1.5) as vault,
        pytest.raises(errors.Unavailable) as caught,
    ):
        vault.status()
    assert caught.value.reason == "timeout"


def test_busy_nodes_name_their_retry_after(served):
    served.vault.interfere = lambda call, answer: (
        answer() if call.path == "/v1/vault" else problem(429, "busy", retry_after=30)
    )
    with (
        open_vault(served, timeout_s=5.0) as vault,
        pytest.raises(errors.Unavailable) as caught,
    ):
        vault.status()
    assert caught.value.reason == "busy"
    assert 20 < caught.value.retry_after <= 30


def test_pins_given_to_the_client_must_fit_the_state_file(served):
    with open_vault(served) as vault:
        vault.register("right")
    with (
        open_vault(served, opaque_public_key=b"\x01" * 32) as vault,
        pytest.raises(errors.StateFileError, match="OPAQUE public key"),
    ):
        vault.status()


def test_a_pinned_opaque_key_is_checked_before_the_password_is_used(served):
    pinned = {"opaque_public_key": b"\x01" * 32, "state_file": None}
    with open_vault(served, **pinned) as vault, pytest.raises(errors.Tampered):
        vault.register("right")
    assert served.tokens == [None] * len(served.tokens)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda v: v.register(""), "password"),
        (lambda v: v.register("x" * 5000), "password"),
        (lambda v: v.register("x", b""), "backup key"),
        (lambda v: v.register("x", b"k" * 996), "backup key"),
        (lambda v: v.recover(""), "password"),
    ],
)
def test_impossible_arguments_are_refused_before_anything_is_sent(served, call, says):
    with open_vault(served) as vault, pytest.raises(ValueError, match=says):
        call(vault)
    assert served.tokens == []


@pytest.mark.parametrize("call", [lambda v, p: v.register(p), lambda v, p: v.recover(p)])
def test_a_password_that_has_no_utf_8_is_in_no_part_of_the_error(served, call):
    # str.encode raises an error that holds all of it, and reports of crashes show that.
    with open_vault(served) as vault, pytest.raises(ValueError, match="half a character") as caught:
        call(vault, "canary\udce4")
    error = caught.value
    while error is not None:
        assert "canary" not in repr(error) + repr(vars(error))
        assert not isinstance(error, UnicodeError)
        error = error.__cause__ or error.__context__
    assert served.tokens == []


def test_plain_http_is_refused(served):
    with pytest.raises(ValueError, match="https"):
        Vault(["http://127.0.0.1:1"], ca_file=served.ca, token="t", state_file=None)


def test_a_missing_authority_names_the_file(tmp_path):
    with pytest.raises(errors.VaultError, match=r"nowhere\.pem"):
        Vault(["https://127.0.0.1:1"], ca_file=tmp_path / "nowhere.pem", token="t", state_file=None)


def test_everything_public_is_there_and_typed():
    assert all(hasattr(quorumvault, name) for name in quorumvault.__all__)
    methods = {n for n in vars(AsyncVault) if not n.startswith("_")}
    assert methods == {n for n in vars(Vault) if not n.startswith("_")}


def test_nothing_secret_shows_in_a_repr(served):
    with open_vault(served) as vault:
        registered = vault.register("canary-password", b"canary-key")
        assert "canary" not in repr(registered) + repr(vault)
