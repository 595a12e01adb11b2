"""docs/mobile.md says what is true: its numbers are those of the code, its vector opens in ours.

The vector is computed by mobile_vector.py over libsodium and OpenSSL; here the product's own client
takes it, step by step, and whole: the SDK, resumed with the page's attempt, sends the page's proof.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import mobile_vector as vector
import msgspec
import pytest
import sodium_client as sodium

from engines import _engines, identifiers
from engines.encoding import b64u_encode, enc
from node import answers, fields, listener, problems, tokens
from node.config import Limits
from quorumvault import _asking, _boxes, _core, _recovery, _state, _transport, _wire, _witness
from quorumvault._patience import DEFAULT_TIMEOUT_S
from quorumvault._registration import THRESHOLD_SEATS
from quorumvault.backup import digits, keys, strength
from quorumvault.vault import MAX_PASSWORD_BYTES

PAGE = (Path(__file__).parents[2] / "docs/mobile.md").read_text(encoding="utf-8")
PROSE = " ".join(PAGE.split())
"""Without its line breaks."""
V = vector.values()
RID = V["registration_id"]
CALLS = vector.exchanges()
PASSWORD = V["password"]


def fences(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)


def table(header: str) -> list[list[str]]:
    """The rows of the table with this header, cell by cell."""
    lines = PAGE.splitlines()
    at = lines.index(header) + 2
    rows = []
    while lines[at].startswith("|"):
        rows.append([cell.strip() for cell in lines[at].strip("|").split(" | ")])
        at += 1
    return rows


def named(cell: str) -> str:
    """The first name in code type in a cell."""
    found = re.search(r"`([^`]+)`", cell)
    assert found, cell
    return found[1]


# ------------------------------------------------------------------ the page and the vector


def test_the_page_shows_the_vector_as_it_is_computed():
    shown = fences("text")
    for title, section in vector.sections().items():
        assert vector.shown(section) in shown, title


def test_the_page_shows_every_call_with_the_vectors_bytes():
    assert fences("http") == [vector.shown_exchange(each) for each in CALLS.values()]


def test_every_call_of_the_page_is_one_that_the_node_takes():
    shapes = {
        "Started": fields.RegistrationStartBody,
        "Stored": fields.RegistrationBody,
        "Activated": fields.ActivationBody,
        "Attempted": fields.AttemptBody,
        "Proven": fields.ProofBody,
    }
    for name, shape in shapes.items():
        body = CALLS[name].body
        decoded = dataclasses.asdict(fields.decode_body(shape, json.dumps(body).encode()))
        sent = {n: b64u_encode(v) if isinstance(v, bytes) else v for n, v in decoded.items()}
        assert sent == {"verify": False} | body if name == "Attempted" else sent == body
    assert not [name for name, call in CALLS.items() if call.body and name not in shapes]


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("Hello", answers.VaultAnswer),
        ("Started", answers.RegistrationStartAnswer),
        ("Stored", answers.RegistrationAnswer),
        ("Activated", answers.ActivationAnswer),
        ("RecordSeen", answers.RecordAnswer),
        ("Attempted", answers.AttemptAnswer),
        ("Proven", answers.ProofAnswer),
        ("Deleted", answers.DeletionAnswer),
    ],
)
def test_every_answer_of_the_page_is_one_that_the_node_gives_and_the_sdk_takes(name, ours):
    answer = CALLS[name].answer
    assert answer.keys() == {each.encode_name for each in msgspec.structs.fields(ours)}
    assert json.loads(msgspec.json.encode(msgspec.convert(answer, ours))) == answer
    theirs = getattr(_wire, "Stored" if name == "Activated" else name)
    _wire.decode_answer(theirs, json.dumps(answer).encode(), "the page")


def test_each_call_of_the_page_has_its_heading():
    for call in CALLS.values():
        method, path = call.line.split(" ")
        path = path.replace(b64u_encode(RID), "{registration_id}")
        path = path.replace(b64u_encode(V["attempt_id"]), "{attempt_id}").replace("era=6", "era=N")
        assert f"### {method} {path}\n" in PAGE


# ------------------------------------------------------------------ the product takes the vector


def test_identifiers_and_contents_are_the_products():
    fields_ = (V["record_id"], vector.BIRTH_ERA, V["request"], V["proof_key"])
    assert identifiers.registration_id(*fields_) == RID
    assert identifiers.attempt_id(V["record_id"], V["ke1"]) == V["attempt_id"]
    assert identifiers.content(RID, V["record"], V["proof_box"], V["wrapped_key"]) == V["content"]
    assert identifiers.activation_message(vector.CLUSTER, RID) == V["activation_message"]
    assert V["prove_message"] == identifiers.prove_message(
        vector.CLUSTER, RID, vector.ATTEMPT_ERA, V["attempt_id"]
    )


@pytest.mark.parametrize("name", ["activation", "prove"])
def test_signatures_are_the_products_and_pass_its_strict_check(name):
    message, signature = V[f"{name}_message"], V[f"{name}_signature"]
    assert _engines.ed25519_public_key(V["proof_seed"]) == V["proof_key"]
    assert _engines.ed25519_sign(V["proof_seed"], message) == signature
    assert _engines.ed25519_verify(V["proof_key"], message, signature)


def test_the_product_seals_the_vectors_boxes(monkeypatch):
    nonces = iter([V["proof_box_nonce"], V["wrapped_key_nonce"]])
    monkeypatch.setattr("os.urandom", lambda _: next(nonces))
    export_key = V["export_key"]
    assert _boxes.seal_proof_seed(export_key, RID, V["proof_seed"]) == V["proof_box"]
    assert _boxes.seal_backup_key(export_key, RID, V["backup_key"]) == V["wrapped_key"]


def test_the_product_blinds_a_password_as_the_page_says():
    state, request = _engines.opaque_registration_start(PASSWORD)
    assert sodium.multiply(state[:32], V["password_element"]) == request
    state, ke1 = _engines.opaque_login_start(PASSWORD)
    assert sodium.multiply(state[:32], V["password_element"]) == ke1[:32]
    assert sodium.multiply_base(state[128:160]) == ke1[64:]


def test_the_product_finishes_the_registration_as_the_page_says():
    state = V["registration_blind"] + V["request"]
    record, export_key, server_key = _engines.opaque_registration_finish(
        state, PASSWORD, V["response"]
    )
    assert server_key == V["server_public_key"]
    assert record[32:96] == V["masking_key"]
    # Its envelope nonce is its own: with that one the page's formulas give the same bytes.
    ours = sodium.registration_finish(
        sodium.RegistrationState(V["registration_blind"]),
        PASSWORD,
        V["response"],
        envelope_nonce=record[96:128],
    )
    assert (ours.record, ours.export_key) == (record, export_key)


def client_state() -> bytes:
    """The product's own form of an open login: blind, KE1, key share's secret, nonce."""
    return V["login_blind"] + V["ke1"] + V["client_secret"] + V["client_nonce"]


def test_the_product_opens_the_vectors_ke2():
    opened = _engines.opaque_login_finish(client_state(), PASSWORD, V["ke2"])
    assert opened == (V["export_key"], V["server_public_key"])


@pytest.mark.parametrize("place", [0, 40, 64, 191, 192, 224, 319])
def test_a_changed_byte_of_ke2_opens_nowhere(place):
    changed = bytearray(V["ke2"])
    changed[place] ^= 1
    with pytest.raises((_engines.OpaqueOpenError, ValueError)):
        _engines.opaque_login_finish(client_state(), PASSWORD, bytes(changed))


def test_the_products_vault_answers_a_ke2_that_the_page_opens():
    ke2 = _engines.opaque_ke2(
        V["ke1"],
        V["record"],
        V["login_evaluated"],
        V["server_private_key"],
        V["server_public_key"],
    )
    state = sodium.LoginState(V["login_blind"], V["client_secret"], V["ke1"])
    assert sodium.login_finish(state, PASSWORD, ke2).export_key == V["export_key"]


def test_what_both_ways_lead_to_is_the_same():
    for name in ("unblinded", "oprf_output", "stretched", "randomized_password", "export_key"):
        assert V[f"login_{name}"] == V[name]


def test_the_sdk_resumed_with_the_pages_attempt_sends_the_pages_proof_and_gets_the_key():
    attempt = _state.OpenAttempt(
        _wire.Ke1(V["ke1"]), _wire.Octets(client_state()), charged="unknown"
    )
    session = _core.Session((_core.Endpoint("https://one"),), _state.State(attempt=attempt))
    sent: dict[str, dict] = {}

    def answer(request: _core.Request) -> _core.Answer:
        line = f"{request.method} {request.path}"
        call = next(each for each in CALLS.values() if each.line == line)
        if request.body is not None:
            sent[request.path.rpartition("/")[2]] = json.loads(request.body)
        body = json.dumps(call.answer).encode()
        return _core.Answer(0, 1, vector.CLUSTER, 200, body, None, 0.0)

    def perform(effect: _core.Effect) -> object:
        if isinstance(effect, _core.Gather):
            return [answer(each.request) for each in effect.sends]
        return effect.run() if isinstance(effect, _core.Compute) else None

    def driven(flow):
        effect = next(flow)
        while True:
            try:
                effect = flow.send(perform(effect))
            except StopIteration as done:
                return done.value

    assert driven(_recovery.recover(session, PASSWORD)) == V["backup_key"]
    assert sent == {"attempts": CALLS["Attempted"].body, "proof": CALLS["Proven"].body}
    assert session.memory.attempt is None


def test_the_backups_names_and_digits_are_the_products():
    of = keys.Keys.of(V["backup_key"])
    assert of.key_id == V["key_id"]
    assert f"`{of.folder}`" in PAGE
    assert digits.show_digits(V["backup_key"]) in fences("text")


# ------------------------------------------------------------------ the page's tables


def test_the_vectors_of_enc_are_the_products():
    shown = next(each for each in fences("text") if each.startswith('enc("wrap-proof")'))
    parts = re.split(r"^enc\(.*\)$", shown, flags=re.MULTILINE)[1:]
    told = ["".join(part.split()) for part in parts]
    made = [enc("wrap-proof"), enc("activate", vector.CLUSTER.bytes, bytes(range(32)))]
    assert told == [each.hex() for each in made]


def test_the_page_tells_the_size_of_every_value():
    sizes = {
        "request": identifiers.REQUEST_BYTES,
        "proof_key": identifiers.PROOF_KEY_BYTES,
        "response": identifiers.RESPONSE_BYTES,
        "record": identifiers.RECORD_BYTES,
        "proof_box": identifiers.PROOF_BOX_BYTES,
        "wrapped_key": len(V["wrapped_key"]),
        "ke1": identifiers.KE1_BYTES,
        "ke2": identifiers.KE2_BYTES,
        "signature": identifiers.SIGNATURE_BYTES,
        "record_id": identifiers.ID_BYTES,
    }
    rows = table("| value | bytes | base64url characters |")
    assert rows.pop(6) == ["`wrapped_key`, longest", str(identifiers.MAX_WRAPPED_KEY_BYTES), "1366"]
    assert {named(row[0]): int(row[1]) for row in rows} == sizes
    for row in rows:
        assert len(b64u_encode(bytes(int(row[1])))) == int(row[2])
    assert len(b64u_encode(bytes(identifiers.MAX_WRAPPED_KEY_BYTES))) == 1366


def test_every_part_of_a_message_is_where_the_page_says():
    ends: dict[str, int] = {}
    for message, offset, size, part in table("| message | offset | bytes | part |"):
        whole, at = named(message), int(offset)
        assert at == ends.get(whole, 0)
        ends[whole] = at + int(size)
        if part.startswith("`"):
            assert V[whole][at : at + int(size)] == V[named(part)]
        elif part.startswith("version"):
            assert V[whole][at] == int(part.split()[1], 16) == _boxes.VERSION[0]
    assert ends == {whole: len(V[whole]) for whole in ends}
    assert len(ends) == 6


def test_time_outs_and_limits_on_the_page_are_the_sdks_and_the_nodes():
    assert dict(table("| what | value |")) == {
        "to connect (TCP and TLS)": f"{_transport.CONNECT_TIMEOUT_S:g} s",
        "answer to `GET /v1/vault`": f"{_core.HELLO_PATIENCE_S:g} s",
        "answer to any other call": f"{_core.CALL_PATIENCE_S:g} s",
        "answer of the second data center on the era": f"{_witness.PATIENCE_S:g} s",
        "whole operation, with all retries": f"{DEFAULT_TIMEOUT_S:g} s",
        "first wait between rounds over all nodes": f"{_core.FIRST_WAIT_S:g} s",
        "longest wait; each is twice the one before": f"{_core.LONGEST_WAIT_S:g} s",
        "random lengthening of a wait, at most": f"{_transport.JITTER:.0%}".replace("%", " %"),
        "largest answer that is read": f"{_wire.MAX_ANSWER_BYTES:,} bytes",
        "idle connection is closed by the node": f"{listener.KEEPALIVE_S:g} s",
        "requests of an account at a node in a minute": f"{Limits().account_per_minute}",
    }


def test_other_figures_in_the_pages_prose_are_the_codes():
    for figure in (
        f"1 to {MAX_PASSWORD_BYTES:,} of them",
        f"at most {tokens.MAX_TOKEN_BYTES:,} characters",
        f"at most {tokens.MAX_LIFETIME_S:,} later",
        f"1-{tokens.MAX_SUB_BYTES} bytes of UTF-8",
        f"`{tokens.PRIMARY_DEVICE}`; companion",
        f"body at most {Limits().body_bytes:,} bytes",
        f"({len(sodium.OPRF_CONTEXT)} bytes)",
        f"({len(V['preamble'])} bytes)",
        f"fewer than {_boxes.OVERHEAD_BYTES} bytes",
        f"`{_wire.SUITE}` and `{_wire.KSF}`",
        f"at least {strength.MIN_CHARACTERS} characters that zxcvbn rates {strength.MIN_SCORE} or",
    ):
        assert figure in PROSE, figure
    assert THRESHOLD_SEATS == 3, "the page says three data centers"
    for scope in tokens.Scope:
        assert f"`{scope}`" in PAGE


def test_the_ksf_on_the_page_is_the_products():
    told = "Argon2id version 0x13, 3 passes, 65,536 KiB, 4 lanes, salt 16 zero bytes,"
    told += " output 64 bytes"
    assert f"| key stretching (KSF) | {told} |" in PAGE
    # The product opens the vector, which was stretched with just these.
    stretch = sodium.argon2id(iterations=3, memory_kib=65_536, lanes=4)
    assert stretch(V["oprf_output"]) == V["stretched"]


def test_the_page_says_what_to_do_about_every_refusal():
    rows = table("| code | status | what the app does | tell the user |")
    assert {named(row[0]): int(row[1]) for row in rows} == {
        str(code): kind.status for code, kind in problems.KINDS.items()
    }
    for code, _, does, user in rows:
        kind = problems.KINDS[problems.Code(named(code))]
        assert does.startswith("temporary") == kind.retryable
        assert user


def test_the_page_believes_a_single_node_as_the_sdk_does():
    told = "Believed from one node: `token`, `forbidden`, `malformed`, `too-large`"
    assert told in PROSE
    assert set(re.findall(r"`([^`]+)`", told)) == _core.SURE
    order = re.search(r"believe the mildest \(([^)]+), from mild to grave\)", PROSE)
    assert order
    assert tuple(re.findall(r"`([^`]+)`", order[1])) == _asking._GRAVE
