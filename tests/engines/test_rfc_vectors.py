"""RFC 9807 and RFC 9497 vectors through the independent client and the public functions.

The server's fixed-nonce form is not in the Python interface; the crate's own tests hold it to
the same vectors. Here the independent client is held to them, so that its word counts.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sodium_client

from engines import _engines

VECTORS = json.loads((Path(__file__).parents[1] / "rfc-vectors.json").read_text())
REAL = [vector for vector in VECTORS["rfc9807"] if vector["config"]["Fake"] == "False"]
OPRF = [(suite, vector) for suite in VECTORS["rfc9497"] for vector in suite["vectors"]]
H = bytes.fromhex


def evaluate(key: bytes, blinded: bytes) -> bytes:
    """The scheme 1 of 1, whose only PRF is the key itself: an ordinary OPRF."""
    return _engines.threshold_share(1, 1, 1, [(b"\x01", key + bytes(32))], blinded)


def setting_of(vector: dict) -> sodium_client.Setting:
    inputs = vector["inputs"]
    identity = {name: H(inputs[name]) for name in inputs if name.endswith("_identity")}
    return sodium_client.Setting(H(vector["config"]["Context"]), **identity)


@pytest.mark.parametrize(("suite", "vector"), OPRF, ids=range(len(OPRF)))
def test_rfc9497_vectors_hold(suite: dict, vector: dict) -> None:
    key, _ = sodium_client.derive_key_pair(H(suite["seed"]), H(suite["keyInfo"]))
    assert key.hex() == suite["skSm"]
    message, blind = H(vector["Input"]), H(vector["Blind"])
    assert sodium_client.oprf_blind(message, blind).hex() == vector["BlindedElement"]
    evaluated = evaluate(key, H(vector["BlindedElement"]))
    assert evaluated.hex() == vector["EvaluationElement"]
    assert sodium_client.oprf_finalize(message, blind, evaluated).hex() == vector["Output"]


@pytest.mark.parametrize("vector", REAL, ids=range(len(REAL)))
def test_rfc9807_registration_holds(vector: dict) -> None:
    inputs, outputs = vector["inputs"], vector["outputs"]
    password = H(inputs["password"])
    state, request = sodium_client.registration_start(
        password, blind=H(inputs["blind_registration"])
    )
    assert request.hex() == outputs["registration_request"]
    evaluated = evaluate(H(vector["intermediates"]["oprf_key"]), request)
    response = _engines.opaque_registration_response(evaluated, H(inputs["server_public_key"]))
    assert response.hex() == outputs["registration_response"]
    made = sodium_client.registration_finish(
        state,
        password,
        response,
        ksf=sodium_client.identity_ksf,
        setting=setting_of(vector),
        envelope_nonce=H(inputs["envelope_nonce"]),
    )
    assert made.record.hex() == outputs["registration_upload"]
    assert made.export_key.hex() == outputs["export_key"]


@pytest.mark.parametrize("vector", REAL, ids=range(len(REAL)))
def test_rfc9807_login_holds(vector: dict) -> None:
    inputs, outputs = vector["inputs"], vector["outputs"]
    password = H(inputs["password"])
    state = sodium_client.login_start(
        password,
        blind=H(inputs["blind_login"]),
        client_nonce=H(inputs["client_nonce"]),
        keyshare_seed=H(inputs["client_keyshare_seed"]),
    )
    assert state.ke1.hex() == outputs["KE1"]
    opened = sodium_client.login_finish(
        state,
        password,
        H(outputs["KE2"]),
        ksf=sodium_client.identity_ksf,
        setting=setting_of(vector),
    )
    assert opened.export_key.hex() == outputs["export_key"]
    assert opened.session_key.hex() == outputs["session_key"]
    assert opened.ke3.hex() == outputs["KE3"]
    assert opened.server_public_key.hex() == inputs["server_public_key"]


def test_key_pairs_are_derived_alike_by_both() -> None:
    for seed in (bytes(32), b"\xff" * 32, bytes(range(32))):
        assert _engines.opaque_derive_key_pair(seed) == sodium_client.derive_dh_key_pair(seed)
