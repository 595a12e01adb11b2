"""What clients hand to a node (bodies, ids, queries, tokens) and what a node hands to a client."""

from __future__ import annotations

import base64
import json
from dataclasses import fields as dataclass_fields
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fuzz_kit import decoded, foreign_json, fuzz, judged, spoiled, twisted, valid
from hypothesis import given
from hypothesis import strategies as st

from engines import _engines
from engines.encoding import b64u_decode, b64u_encode
from node import fields
from node.config import Tenant
from node.problems import Problem
from node.tokens import Scope, Tokens
from quorumvault import _wire
from quorumvault.errors import Tampered

# ------------------------------------------------------------------ requests

ELEMENTS = [_engines.opaque_login_start(b"%d" % n)[1][:32] for n in range(3)]
KEYS = [_engines.ed25519_public_key(bytes([n] * 32)) for n in range(3)]


def _bytes(kind: fields.Binary) -> st.SearchStrategy[bytes]:
    """Mostly what the field wants; sometimes of the right length only."""
    raw = st.binary(min_size=kind.low, max_size=min(kind.high, kind.low + 40))
    element = st.sampled_from(ELEMENTS)
    wanted = {
        fields._element: element,
        fields._ke1: st.builds(lambda a, n, b: a + n + b, element, st.just(bytes(32)), element),
        fields._record: st.builds(lambda a: a + bytes(160), element),
        fields._proof_key: st.sampled_from(KEYS),
    }.get(kind.inspect, raw)
    return st.one_of(wanted, wanted, wanted, raw)


def _field(kind: fields.Kind) -> st.SearchStrategy[Any]:
    match kind:
        case fields.Binary():
            return _bytes(kind).map(b64u_encode)
        case fields.Counter():
            return st.integers(0, 2**53 - 1)
        case fields.Flag():
            return st.booleans()


def bodies(shape: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({n: _field(k) for n, k in fields.KINDS[shape].items()})


@pytest.mark.parametrize("shape", fields.KINDS, ids=lambda shape: shape.__name__)
@fuzz(90)
@given(data=st.data())
def test_a_body_is_refused_with_400_or_says_itself_again(shape, data):
    raw = data.draw(foreign_json(bodies(shape)))
    body, problem = judged(lambda d: fields.decode_body(shape, d), Problem, raw)
    if problem is not None:
        assert problem.status == 400
        json.loads(problem.body())
        assert len(problem.detail) < 200
        return
    said = json.loads(raw)
    for each in dataclass_fields(body):
        value = getattr(body, each.name)
        text = b64u_encode(value) if isinstance(value, bytes) else value
        assert said.get(each.name, False) == text
    assert set(said) <= set(fields.KINDS[shape])


@fuzz(180)
@given(st.one_of(st.text(max_size=60), st.binary(max_size=40).map(b64u_encode)), st.integers(0, 40))
def test_base64url_is_canonical_or_refused(text, exact):
    value = decoded(lambda t: b64u_decode(t, exact), ValueError, text)
    assert value is None or (len(value) == exact and b64u_encode(value) == text)


@fuzz(90)
@given(st.one_of(st.text(max_size=60), st.binary(min_size=31, max_size=33).map(b64u_encode)))
def test_an_id_in_a_path_is_canonical_or_refused_with_400(text):
    value = decoded(lambda t: fields.decode_id("registration_id", t), Problem, text)
    assert value is None or b64u_encode(value) == text


QUERY = st.text(alphabet="era=&0123456789+-%. \0é", max_size=30)


@fuzz(180)
@given(st.one_of(QUERY, st.integers(-5, 2**54).map(lambda n: f"era={n}"), st.text(max_size=20)))
def test_a_query_is_one_decimal_or_refused_with_400(text):
    found = decoded(lambda t: fields.decode_query(t, ["era"]), Problem, text)
    assert found is None or text == f"era={found['era']}"


# ------------------------------------------------------------------ tokens

NOW = 1_800_000_000
ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
EC = ec.derive_private_key(7, ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
SIGNERS = {"EdDSA": ED, "ES256": EC, "RS256": RSA}
BOTH = frozenset({Scope.RESTORE, Scope.MANAGE})
TENANTS = [Tenant(alg, alg, key.public_key(), None) for alg, key in SIGNERS.items()]


def new_tokens() -> Tokens:
    return Tokens(TENANTS, "vault", lambda iss, sub: f"{iss}/{sub}".encode(), lambda: NOW)


CLAIMS = st.fixed_dictionaries(
    {
        "iss": st.sampled_from(list(SIGNERS)),
        "sub": st.text(min_size=1, max_size=20),
        "aud": st.sampled_from(["vault", ["vault"], ["vault", "other"]]),
        "iat": st.integers(NOW - 50, NOW),
        "exp": st.integers(NOW + 1, NOW + 600),
        "scope": st.sampled_from(["vault:restore", "vault:manage vault:restore", "x"]),
        "device": st.just("primary"),
    },
    optional={"nbf": st.just(NOW), "kid": st.text(max_size=5), "x": st.just([1])},
)


def part(tree: Any) -> str:
    text = json.dumps(tree, default=lambda value: value.decode("latin-1")).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def signed(claims: Any, header: Any, alg: str) -> str:
    """A JWT whose signature is good whatever header and claims say."""
    message = f"{part(header)}.{part(claims)}"
    algorithm = jwt.get_algorithm_by_name(alg)
    signature = algorithm.sign(message.encode(), SIGNERS[alg])
    return message + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


HEADERS = st.fixed_dictionaries(
    {"alg": st.sampled_from([*SIGNERS, "none", "HS256"]), "typ": st.just("JWT")},
    optional={"kid": st.text(max_size=5), "crit": st.just(["b64"]), "b64": st.booleans()},
)
SIGNED = st.builds(
    signed,
    st.one_of(CLAIMS, twisted(CLAIMS)),
    st.one_of(HEADERS, twisted(HEADERS)),
    st.sampled_from(list(SIGNERS)),
)


def _spoiled_text(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return spoiled(texts.map(str.encode)).map(lambda d: d.decode("latin-1"))


AUTHORIZATIONS = st.one_of(
    st.text(max_size=100),
    SIGNED.map("Bearer {}".format),
    SIGNED.map("Bearer {}".format),
    _spoiled_text(SIGNED.map("Bearer {}".format)),
    st.just("Bearer " + "e30." * 1000),
    st.just("Bearer " + part([]) + "." + part({}) + ".x"),
    st.just("Bearer \udcff.\udcff.\udcff"),
)


@fuzz(150)
@given(AUTHORIZATIONS)
def test_a_token_is_refused_or_verifies_with_the_tenants_own_key(authorization):
    tokens = new_tokens()
    caller, problem = judged(lambda text: tokens.caller(text, BOTH), Problem, authorization)
    if problem is not None:
        assert problem.status in (401, 403)
        json.loads(problem.body())
        return
    token = authorization.partition(" ")[2]
    claims = jwt.decode(
        token,
        SIGNERS[caller.iss].public_key(),
        algorithms=[caller.iss],  # each tenant here is called after its one algorithm
        audience="vault",
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    assert (claims["iss"], claims["sub"]) == (caller.iss, caller.sub)
    assert claims["device"] == "primary"
    assert claims["iat"] <= NOW + 10
    assert NOW < claims["exp"] <= claims["iat"] + 86_400


def test_the_public_key_is_no_secret_to_sign_with():
    """The oldest trick: HS256 with the public key's own bytes."""
    for tenant in TENANTS:
        for encoding in (Encoding.PEM, Encoding.DER):
            key = tenant.key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
            message = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'iss': tenant.iss})}"
            signature = jwt.get_algorithm_by_name("HS512").sign(message.encode(), key)
            token = f"{message}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
            with pytest.raises(Problem, match="alg"):
                new_tokens().caller(f"Bearer {token}", BOTH)


# ------------------------------------------------------------------ the SDK's side

ANSWERS = [
    _wire.Hello, _wire.Started, _wire.Stored, _wire.Attempted, _wire.Proven, _wire.RecordSeen,
    _wire.Deleted,
]  # fmt: skip


def _plain(value: Any) -> Any:
    return json.loads(_wire.encode(value))


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
@fuzz(60)
@given(data=st.data())
def test_an_answer_is_tampered_or_understood(kind, data):
    foreign = data.draw(foreign_json(valid(kind).map(_plain)))
    answer = decoded(lambda text: _wire.decode_answer(kind, text, "node 1"), Tampered, foreign)
    if answer is not None:
        assert _wire.decode(kind, _wire.encode(answer)) == answer


@fuzz(90)
@given(foreign_json(valid(_wire.Problem).map(_plain)))
def test_a_problem_is_read_or_is_one_without_a_code(foreign):
    problem = decoded(_wire.decode_problem, (), foreign)
    assert problem.charged in ("yes", "no", "unknown")


# ------------------------------------------------------------------ the crate's own messages

CRATE = {
    "a KE2": (
        lambda state, d: _engines.opaque_login_finish(state, b"p", d, hazmat_identity_ksf=True),
        320,
    ),
    "a registration response": (
        lambda state, d: _engines.opaque_registration_finish(
            state, b"p", d, hazmat_identity_ksf=True
        ),
        64,
    ),
}


@pytest.mark.parametrize("name", CRATE)
@fuzz(60)
@given(data=st.data())
def test_what_a_server_answers_to_opaque_never_panics_the_client(name, data):
    finish, size = CRATE[name]
    start = _engines.opaque_login_start if size == 320 else _engines.opaque_registration_start
    state, _ = start(b"p")
    element = st.sampled_from(ELEMENTS)
    whole = st.builds(
        lambda e, rest: e + rest, element, st.binary(min_size=size - 32, max_size=size - 32)
    )
    foreign = data.draw(st.one_of(whole, spoiled(whole), st.binary(max_size=size + 2)))
    decoded(lambda d: finish(state, d), (ValueError, _engines.OpaqueOpenError), foreign)
