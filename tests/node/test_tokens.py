"""Tokens of every algorithm, several keys of one tenant, and what is remembered."""

from __future__ import annotations

import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from node.config import Tenant
from node.problems import Code, Problem
from node.tokens import MAX_TOKEN_BYTES, Scope, Tokens

NOW = 1_800_000_000.0
ED = ed25519.Ed25519PrivateKey.generate()
ED2 = ed25519.Ed25519PrivateKey.generate()
EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
BOTH = frozenset({Scope.RESTORE, Scope.MANAGE})


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def tokens(*tenants: Tenant, clock=None) -> Tokens:
    made = []

    def record_id(iss, sub):
        made.append((iss, sub))
        return f"{iss}/{sub}".encode()

    verifier = Tokens(tenants, "vault", record_id, clock or Clock())
    verifier.made = made
    return verifier


def sign(key, alg, headers=None, **changes) -> str:
    claims = {
        "iss": "demo",
        "sub": "alice",
        "aud": "vault",
        "iat": int(NOW),
        "exp": int(NOW) + 60,
        "scope": "vault:restore",
        "device": "primary",
        "unknown": {"claims": ["are", "ignored"]},
    } | changes
    return jwt.encode(claims, key, algorithm=alg, headers=headers)


def tenant(key, alg, kid=None, iss="demo") -> Tenant:
    return Tenant(iss, alg, key.public_key(), kid)


def refused(verifier, token) -> Problem:
    with pytest.raises(Problem) as raised:
        verifier.caller(f"Bearer {token}", BOTH)
    return raised.value


@pytest.mark.parametrize(("key", "alg"), [(ED, "EdDSA"), (EC, "ES256"), (RSA, "RS256")])
def test_each_algorithm_verifies_under_its_own_key(key, alg):
    caller = tokens(tenant(key, alg)).caller(f"Bearer {sign(key, alg)}", BOTH)
    assert caller.record_id == b"demo/alice"
    assert "alice" not in repr(caller)


def test_an_account_is_its_tenant_and_its_name_whatever_else_the_token_claims():
    verifier = tokens(tenant(ED, "EdDSA"))
    others = {"jti": "7", "nickname": "al", "azp": "app", "nonce": "n", "sid": "s", "email": "a@b"}
    named = {
        verifier.caller(f"Bearer {sign(ED, 'EdDSA', **more)}", BOTH).record_id
        for more in ({}, others, {"aud": ["vault", "other"]}, {"exp": int(NOW) + 90})
    }
    assert named == {b"demo/alice"}


@pytest.mark.parametrize(("key", "alg"), [(ED, "EdDSA"), (EC, "ES256"), (RSA, "RS256")])
@pytest.mark.parametrize(("held", "held_alg"), [(ED, "EdDSA"), (EC, "ES256"), (RSA, "RS256")])
def test_another_algorithm_than_the_keys_is_refused(key, alg, held, held_alg):
    if alg == held_alg:
        return
    problem = refused(tokens(tenant(held, held_alg)), sign(key, alg))
    assert (problem.code, problem.detail[:5]) == (Code.TOKEN, "alg: ")


def test_kid_picks_among_the_tenants_own_keys():
    verifier = tokens(tenant(ED, "EdDSA", "a"), tenant(ED2, "EdDSA", "b"))
    for key, kid in ((ED, "a"), (ED2, "b"), (ED, None), (ED2, None)):
        headers = {"kid": kid} if kid else None
        verifier.caller(f"Bearer {sign(key, 'EdDSA', headers)}", BOTH)
    assert refused(verifier, sign(ED, "EdDSA", {"kid": "b"})).detail.startswith("signature: ")
    assert refused(verifier, sign(ED, "EdDSA", {"kid": "c"})).detail.startswith("kid: ")


def test_a_tenant_cannot_speak_for_another():
    verifier = tokens(tenant(ED, "EdDSA"), tenant(ED2, "EdDSA", iss="other"))
    assert refused(verifier, sign(ED2, "EdDSA")).detail.startswith("signature: ")
    assert verifier.caller(f"Bearer {sign(ED2, 'EdDSA', iss='other')}", BOTH).iss == "other"


def test_a_critical_header_is_refused():
    token = sign(ED, "EdDSA", {"crit": ["b64"], "b64": True})
    assert refused(tokens(tenant(ED, "EdDSA")), token).code is Code.TOKEN


def test_a_token_of_exactly_24_hours_is_the_longest():
    verifier = tokens(tenant(ED, "EdDSA"))
    verifier.caller(f"Bearer {sign(ED, 'EdDSA', exp=int(NOW) + 86_400)}", BOTH)
    too_long = sign(ED, "EdDSA", exp=int(NOW) + 86_401)
    assert refused(verifier, too_long).detail.startswith("exp: ")


def test_an_issuers_clock_may_be_ten_seconds_ahead():
    verifier = tokens(tenant(ED, "EdDSA"))
    verifier.caller(f"Bearer {sign(ED, 'EdDSA', iat=int(NOW) + 10)}", BOTH)
    assert refused(verifier, sign(ED, "EdDSA", iat=int(NOW) + 11)).detail.startswith("iat: ")


def test_a_remembered_token_is_verified_once_and_expires_all_the_same():
    clock = Clock()
    verifier = tokens(tenant(ED, "EdDSA"), clock=clock)
    token = sign(ED, "EdDSA")
    for _ in range(3):
        verifier.caller(f"Bearer {token}", BOTH)
    assert verifier.made == [("demo", "alice")]
    clock.now = NOW + 60
    assert refused(verifier, token).detail.startswith("exp: ")


def test_a_remembered_token_still_needs_the_scope():
    verifier = tokens(tenant(ED, "EdDSA"))
    token = sign(ED, "EdDSA")
    verifier.caller(f"Bearer {token}", BOTH)
    with pytest.raises(Problem) as raised:
        verifier.caller(f"Bearer {token}", frozenset({Scope.MANAGE}))
    assert raised.value.status == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"iat": "now"},
        {"exp": True},
        {"exp": -1},
        {"exp": 1e300},
        {"aud": ["vault", 7]},
        {"aud": {}},
        {"sub": 7},
        {"sub": "\ud800"},
        {"iss": ["demo"]},
        {"scope": ["vault:restore"]},
        {"device": ["primary"]},
        {"device": True},
    ],
)
def test_a_claim_of_the_wrong_type_is_refused_and_named(changes):
    problem = refused(tokens(tenant(ED, "EdDSA")), _raw(changes))
    assert problem.status in (401, 403)
    assert problem.detail.split(":")[0] in {*changes, "token"}


def _raw(changes) -> str:
    """Signed without PyJWT's own checks of claims."""
    import json

    claims = jwt.decode(sign(ED, "EdDSA"), options={"verify_signature": False}) | changes
    return jwt.PyJWS().encode(json.dumps(claims).encode(), ED, algorithm="EdDSA")


@pytest.mark.parametrize("aud", ["vault", ["vault"], ["other", "vault"]])
def test_the_audience_may_be_a_list_with_this_cluster(aud):
    tokens(tenant(ED, "EdDSA")).caller(f"Bearer {sign(ED, 'EdDSA', aud=aud)}", BOTH)


def test_a_token_over_the_limit_is_refused_unread():
    problem = refused(tokens(tenant(ED, "EdDSA")), sign(ED, "EdDSA", pad="x" * MAX_TOKEN_BYTES))
    assert problem.detail.startswith("token: is over")


def test_the_clock_is_the_wall_clock_by_default():
    verifier = Tokens([tenant(ED, "EdDSA")], "vault", lambda _iss, _sub: b"")
    now = int(time.time())
    token = sign(ED, "EdDSA", iat=now, exp=now + 5)
    assert verifier.caller(f"bearer {token}", BOTH).sub == "alice"
