"""The client listener over a real socket: what bad input gets, and that it changes nothing."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager

import aiohttp
import jwt
import pytest
from aiohttp import web
from bad_keys import LOW_ORDER_KEY, NOT_AN_ELEMENT
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from node_world import CLUSTER_ID, LIMIT, World
from phone import Phone

from engines import _engines, identifiers
from engines.encoding import b64u_decode, b64u_encode
from node.config import Limits
from node.fields import (
    KINDS,
    ActivationBody,
    AttemptBody,
    Binary,
    Counter,
    Flag,
    ProofBody,
    RegistrationBody,
    RegistrationStartBody,
)

ZERO_ID = b64u_encode(bytes(32))
IDENTITY = bytes(32)


@asynccontextmanager
async def listening(world: World, node: int = 1):
    runner = web.ServerRunner(
        web.Server(world.nodes[node].api.serve, access_log=None, auto_decompress=False)
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    await runner.cleanup()


class Edge:
    """One client at one listener, with a good token unless told otherwise."""

    def __init__(self, world: World, session: aiohttp.ClientSession) -> None:
        self.world = world
        self.session = session
        self.token = world.token(time.time())

    async def ask(self, method, path, body=None, *, raw=None, token=..., headers=None):
        sent = dict(headers or {})
        token = self.token if token is ... else token
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        from yarl import URL

        url = URL(path, encoded=True)
        async with self.session.request(method, url, data=data, headers=sent) as answer:
            return answer.status, await answer.json(content_type=None), answer.headers

    async def problem(self, *args, **kwargs):
        status, body, headers = await self.ask(*args, **kwargs)
        assert headers["Content-Type"] == "application/problem+json", body
        assert body["status"] == status
        assert body["type"] == f"urn:quorumvault:problem:{body['code']}"
        assert headers["X-Vault-Node"] == "1"
        assert "Traceback" not in json.dumps(body)
        return body


@pytest.fixture
async def edge(world):
    async with listening(world) as session:
        yield Edge(world, session)


def good_element() -> bytes:
    return _engines.opaque_registration_start(b"x")[1]


def good_record() -> bytes:
    return good_element() + bytes(160)


def good_values(shape) -> dict[str, object]:
    proof_key = _engines.ed25519_public_key(bytes(range(32)))
    known = {
        "request": good_element(),
        "proof_key": proof_key,
        "era": 0,
        "record": good_record(),
        "proof_box": bytes(61),
        "wrapped_key": bytes(60),
        "signature": bytes(64),
        "ke1": _engines.opaque_login_start(b"x")[1],
        "verify": False,
    }
    values = {name: known[name] for name in KINDS[shape]}
    return {k: b64u_encode(v) if isinstance(v, bytes) else v for k, v in values.items()}


CALLS = {
    RegistrationStartBody: ("POST", "/v1/registrations"),
    RegistrationBody: ("PUT", f"/v1/registrations/{ZERO_ID}"),
    ActivationBody: ("POST", f"/v1/registrations/{ZERO_ID}/activation"),
    AttemptBody: ("POST", "/v1/attempts"),
    ProofBody: ("POST", f"/v1/attempts/{ZERO_ID}/proof"),
}
FIELDS = [(shape, name) for shape in CALLS for name in KINDS[shape]]


def spare_bits(text: str) -> str:
    """The same length, one spare bit set; None when the length leaves none."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) | 1]


def wrong_values(kind, good):
    """(why, JSON value) pairs that this kind of field must refuse."""
    yield "null", None
    yield "a list", []
    yield "an object", {}
    match kind:
        case Binary(low, high):
            yield "a number", 7
            yield "true", True
            yield "empty", ""
            yield "too long", b64u_encode(bytes(high + 1))
            if low > 1:
                yield "too short", b64u_encode(bytes(low - 1))
            if low == high:
                yield "one character short", good[:-1]
            yield "padded", good + "="
            yield "padded twice", good + "=="
            yield "not base64url", "+" + good[1:]
            yield "a slash", "/" + good[1:]
            yield "a space inside", " " + good[1:]
            yield "a newline at the end", good[:-1] + "\n"
            yield "not ASCII", "é" + good[1:]
            yield "a lone surrogate", "\ud800" + good[1:]
            if len(good) % 4:
                yield "spare bits", spare_bits(good)
        case Counter():
            yield "text", "0"
            yield "negative", -1
            yield "a fraction", 0.5
            yield "a float", 0.0
            yield "2^53", 2**53
            yield "huge", 10**400
            yield "true", True
        case Flag():
            yield "text", "true"
            yield "a number", 1


@pytest.mark.parametrize(("shape", "name"), FIELDS, ids=lambda v: getattr(v, "__name__", v))
async def test_a_field_with_a_wrong_value_is_named_and_nothing_is_proposed(edge, shape, name):
    method, path = CALLS[shape]
    good = good_values(shape)
    for why, value in wrong_values(KINDS[shape][name], good[name]):
        body = await edge.problem(method, path, good | {name: value})
        assert (body["status"], body["code"], body["charged"]) == (400, "malformed", "no"), why
        assert body["detail"].startswith(f"{name}: "), (why, body)
        assert not body["retryable"]
    assert edge.world.log.entries == []


@pytest.mark.parametrize(("shape", "name"), FIELDS, ids=lambda v: getattr(v, "__name__", v))
async def test_a_field_that_is_missing_or_there_twice_is_named(edge, shape, name):
    method, path = CALLS[shape]
    good = good_values(shape)
    if not isinstance(KINDS[shape][name], Flag):
        without = {k: v for k, v in good.items() if k != name}
        body = await edge.problem(method, path, without)
        assert (body["code"], body["detail"]) == ("malformed", f"{name}: is missing")
    twice = json.dumps(good)[:-1] + f", {json.dumps(name)}: {json.dumps(good[name])}}}"
    body = await edge.problem(method, path, raw=twice.encode())
    assert (body["code"], body["charged"]) == ("malformed", "no")
    assert body["detail"].startswith(f"{name}: is there twice")
    assert edge.world.log.entries == []


@pytest.mark.parametrize("shape", CALLS, ids=lambda s: s.__name__)
async def test_an_unknown_field_is_named(edge, shape):
    method, path = CALLS[shape]
    body = await edge.problem(method, path, good_values(shape) | {"password": "hunter2"})
    assert (body["status"], body["code"]) == (400, "malformed")
    assert body["detail"].startswith("password: ")
    assert "hunter2" not in json.dumps(body)


@pytest.mark.parametrize("shape", CALLS, ids=lambda s: s.__name__)
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"{}}",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        '{"ke1": "x"}'.encode("utf-16"),
        b'{"era": NaN}',
        b'{"era": Infinity}',
        b"[" * 4000,
        b'{"a":' * 1300 + b"1" + b"}" * 1300,
        b'{"era": ' + b"9" * 5000 + b"}",
        b"{'ke1': 'x'}",
    ],
    ids=range(15),
)
async def test_a_body_that_is_no_json_object_is_malformed(edge, shape, raw):
    method, path = CALLS[shape]
    body = await edge.problem(method, path, raw=raw)
    assert (body["status"], body["code"], body["charged"]) == (400, "malformed", "no")


@pytest.mark.parametrize("shape", CALLS, ids=lambda s: s.__name__)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413_before_anything_else(edge, shape, chunked):
    method, path = CALLS[shape]

    async def chunks():
        for _ in range(9):
            yield b" " * 1024

    raw = chunks() if chunked else b" " * 8193
    body = await edge.problem(method, path, raw=raw, token=None)
    assert (body["status"], body["code"], body["charged"]) == (413, "too-large", "no")


async def test_a_compressed_body_is_refused(edge):
    body = await edge.problem(
        "POST", "/v1/attempts", raw=b"x", headers={"Content-Encoding": "gzip"}
    )
    assert (body["status"], body["code"]) == (400, "malformed")


BAD_IDS = {
    "one short": ZERO_ID[:-1],
    "one long": ZERO_ID + "A",
    "padded": ZERO_ID + "=",
    "percent-padded": ZERO_ID + "%3D",
    "spare bits": ZERO_ID[:-1] + "B",
    "standard base64": "+" + ZERO_ID[1:],
    "percent-encoded": "%41" + ZERO_ID[1:],
    "not ASCII": "%C3%A9" + ZERO_ID[1:],
    "hex": "00" * 32,
    "empty": "",
}


@pytest.mark.parametrize("bad", BAD_IDS.values(), ids=BAD_IDS)
async def test_an_id_in_a_url_that_is_not_canonical_is_named(edge, bad):
    for shape, path, name in (
        (RegistrationBody, f"/v1/registrations/{bad}", "registration_id"),
        (ActivationBody, f"/v1/registrations/{bad}/activation", "registration_id"),
        (ProofBody, f"/v1/attempts/{bad}/proof", "attempt_id"),
    ):
        body = await edge.problem(CALLS[shape][0], path, good_values(shape))
        assert (body["status"], body["code"]) == (400, "malformed")
        assert body["detail"].startswith(f"{name}: ")


@pytest.mark.parametrize("element", [IDENTITY, NOT_AN_ELEMENT, b"\xff" * 32])
@pytest.mark.parametrize(
    ("shape", "name", "at"),
    [
        (RegistrationStartBody, "request", 0),
        (RegistrationBody, "request", 0),
        (RegistrationBody, "record", 0),
        (AttemptBody, "ke1", 0),
        (AttemptBody, "ke1", 64),
        (ProofBody, "ke1", 0),
    ],
)
async def test_an_invalid_group_element_is_refused_uncharged(edge, element, shape, name, at):
    method, path = CALLS[shape]
    good = good_values(shape)
    data = bytearray(b64u_decode(good[name]))
    data[at : at + 32] = element
    body = await edge.problem(method, path, good | {name: b64u_encode(bytes(data))})
    assert (body["status"], body["code"], body["charged"]) == (400, "malformed", "no")
    assert body["detail"].startswith(f"{name}: must be a canonical ristretto255 element")
    assert edge.world.log.entries == []


@pytest.mark.parametrize("shape", [RegistrationStartBody, RegistrationBody])
async def test_a_weak_proof_key_is_refused(edge, shape):
    method, path = CALLS[shape]
    good = good_values(shape) | {"proof_key": b64u_encode(LOW_ORDER_KEY)}
    body = await edge.problem(method, path, good)
    assert (body["status"], body["code"]) == (400, "malformed")
    assert body["detail"].startswith("proof_key: ")


# ---------------------------------------------------------------- tokens

DAY = 86_400
TOKENS = {
    "expired": ({"iat": -100, "exp": -1}, 401, "exp"),
    "too long-lived": ({"exp": DAY + 1}, 401, "exp"),
    "from the future": ({"iat": 60}, 401, "iat"),
    "exp before iat": ({"iat": 5, "exp": 4}, 401, "exp"),
    "without exp": ({"exp": None}, 401, "exp"),
    "without iat": ({"iat": None}, 401, "iat"),
    "not valid yet": ({"nbf": 600}, 401, "nbf"),
    "unknown tenant": ({"iss": "nobody"}, 401, "iss"),
    "without tenant": ({"iss": None}, 401, "iss"),
    "another cluster": ({"aud": "other"}, 401, "aud"),
    "without audience": ({"aud": None}, 401, "aud"),
    "without account": ({"sub": None}, 401, "sub"),
    "empty account": ({"sub": ""}, 401, "sub"),
    "account of 256 bytes": ({"sub": "é" * 128}, 401, "sub"),
    "no device": ({"device": None}, 403, "device"),
    "companion": ({"device": "companion"}, 403, "device"),
    "without scope": ({"scope": None}, 403, "scope"),
    "other scope": ({"scope": "vault:other"}, 403, "scope"),
    "a prefix of the scope": ({"scope": "vault:restor"}, 403, "scope"),
}
EVERY_CALL = [*CALLS.values(), ("GET", "/v1/record"), ("DELETE", "/v1/record?era=0")]


def relative(changes: dict[str, object], now: float) -> dict[str, object]:
    times = {"iat", "exp", "nbf"}
    return {k: int(now) + v if k in times and isinstance(v, int) else v for k, v in changes.items()}


@pytest.mark.parametrize("case", TOKENS)
async def test_a_bad_token_is_refused_on_every_call_and_names_the_claim(edge, case):
    changes, status, claim = TOKENS[case]
    now = time.time()
    token = edge.world.token(now, **relative(changes, now))
    for method, path in EVERY_CALL:
        body = await edge.problem(method, path, token=token)
        assert (body["status"], body["charged"]) == (status, "no")
        assert body["detail"].startswith(f"{claim}: "), body
        assert "alice" not in json.dumps(body)
    assert edge.world.log.entries == []


async def test_a_call_without_a_token_is_401_and_says_how(edge):
    for method, path in EVERY_CALL:
        status, body, headers = await edge.ask(method, path, token=None)
        assert (status, body["code"]) == (401, "token")
        assert headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer a b", "Bearer a.b.c", "x" * 5000],
)
async def test_an_authorization_that_is_no_token_is_401(edge, authorization):
    body = await edge.problem(
        "GET", "/v1/record", token=None, headers={"Authorization": authorization}
    )
    assert (body["status"], body["code"]) == (401, "token")


async def test_the_algorithm_is_the_keys_and_never_the_headers(edge):
    now = int(time.time())
    claims = jwt.decode(edge.token, options={"verify_signature": False})
    pem = edge.world.public_pem()
    from jwt.algorithms import HMACAlgorithm

    forged = [
        jwt.encode(claims, None, algorithm="none"),
        jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm="EdDSA"),
    ]
    # The public key as an HMAC secret: the classic confusion, which PyJWT itself refuses to make.
    signer = jwt.PyJWS()
    signer.unregister_algorithm("HS256")

    class Careless(HMACAlgorithm):
        def prepare_key(self, key):
            return key

    signer.register_algorithm("HS256", Careless(HMACAlgorithm.SHA256))
    forged.append(signer.encode(json.dumps(claims).encode(), pem, algorithm="HS256"))
    for token in forged:
        body = await edge.problem("GET", "/v1/record", token=token)
        assert (body["status"], body["code"]) == (401, "token"), body
    header, payload, signature = edge.token.split(".")
    changed = b64u_encode(json.dumps(claims | {"sub": "bob", "iat": now}).encode())
    body = await edge.problem("GET", "/v1/record", token=f"{header}.{changed}.{signature}")
    assert body["detail"].startswith("signature: ")
    body = await edge.problem("GET", "/v1/record", token=f"{header}.{payload}.")
    assert body["status"] == 401


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("vault:restore", {"/v1/attempts", f"/v1/attempts/{ZERO_ID}/proof", "/v1/record"}),
        (
            "vault:manage",
            {
                "/v1/registrations",
                f"/v1/registrations/{ZERO_ID}",
                f"/v1/registrations/{ZERO_ID}/activation",
                "/v1/record",
                "/v1/record?era=0",
            },
        ),
    ],
)
async def test_each_scope_opens_its_own_calls_only(edge, scope, allowed):
    token = edge.world.token(time.time(), scope=scope)
    for method, path in EVERY_CALL:
        status, _, _ = await edge.ask(method, path, token=token)
        assert (status == 403) == (path not in allowed), path


# ---------------------------------------------------------------- the rest of the edge


async def test_the_open_documents_need_no_token(edge):
    status, vault, headers = await edge.ask("GET", "/v1/vault", token=None)
    assert status == 200
    assert vault["cluster_id"] == str(CLUSTER_ID)
    assert vault["suite"] == "OPAQUE-3DH-ristretto255-SHA512"
    assert vault["ksf"] == "argon2id-v19-t3-m65536-p4"
    assert (vault["node"], vault["limit"], len(vault["nodes"])) == (1, LIMIT, 5)
    assert headers["X-Vault-Node"] == "1"
    status, document, _ = await edge.ask("GET", "/openapi.json", token=None)
    assert (status, document["openapi"]) == (200, "3.1.0")
    assert len(document["paths"]) == 7


async def test_an_unknown_path_is_404_and_a_known_one_with_another_method_405(edge):
    for path in ("/", "/v2/vault", "/v1/vault/", "/v1/attempts/x/y/z", "/v1/record/x"):
        assert (await edge.problem("GET", path))["status"] == 404
    for method, path in (("PUT", "/v1/attempts"), ("POST", "/v1/record"), ("POST", "/v1/vault")):
        status, body, headers = await edge.ask(method, path)
        assert (status, body["code"]) == (405, "method-not-allowed")
        assert method not in headers["Allow"]


@pytest.mark.parametrize(
    "query",
    ["", "?", "?era", "?era=", "?era=-1", "?era=01", "?era=1&era=1", "?era=1&x=1", "?ERA=1",
     "?era=9007199254740992", "?era=1.0", "?era=%31", "?era=+1", "?era=" + "9" * 5000],
)  # fmt: skip
async def test_a_delete_needs_exactly_one_canonical_era(edge, query):
    body = await edge.problem("DELETE", f"/v1/record{query}")
    assert (body["status"], body["code"]) == (400, "malformed")
    assert edge.world.log.entries == []


async def test_a_query_or_a_body_that_a_call_does_not_have_is_refused(edge):
    for method, path in (("GET", "/v1/record?x=1"), ("POST", "/v1/attempts?x=1")):
        assert (await edge.problem(method, path))["code"] == "malformed"
    assert (await edge.problem("GET", "/v1/record", raw=b"{}"))["code"] == "malformed"
    assert (await edge.problem("GET", "/v1/vault?x=1", token=None))["code"] == "malformed"


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2_3", True), ("x" * 65, False), ("a b", False), ("", False)]
)
async def test_a_decent_request_id_comes_back_and_another_is_replaced(edge, given, kept):
    _, _, headers = await edge.ask("GET", "/v1/record", headers={"X-Request-Id": given})
    assert (headers["X-Request-Id"] == given) is kept
    assert headers["X-Request-Id"]


async def test_a_draining_node_takes_nothing_new_and_charges_nothing(edge):
    edge.world.nodes[1].assembly.gate.draining = True
    status, body, headers = await edge.ask("POST", "/v1/attempts", good_values(AttemptBody))
    assert (status, body["code"], body["charged"]) == (503, "draining", "no")
    assert int(headers["Retry-After"]) >= 1
    assert headers["Connection"] == "close"


@pytest.mark.parametrize("trouble", ["disk_short", "disk_slow"])
async def test_a_node_in_trouble_with_its_disk_turns_away_and_charges_nothing(edge, trouble):
    setattr(edge.world.nodes[1].assembly.gate, trouble, True)
    body = await edge.problem("POST", "/v1/attempts", good_values(AttemptBody))
    assert (body["status"], body["code"], body["charged"]) == (429, "busy", "no")


async def test_an_account_over_its_minute_is_told_when_to_come_again(tmp_path):
    world = World(tmp_path, limits=Limits(account_per_minute=3))
    async with listening(world) as session:
        edge = Edge(world, session)
        statuses = [(await edge.ask("GET", "/v1/record"))[0] for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        _, body, headers = await edge.ask("GET", "/v1/record")
        assert (body["code"], body["charged"], body["retryable"]) == ("busy", "no", True)
        assert 1 <= int(headers["Retry-After"]) <= 20
        other = world.token(time.time(), sub="bob")
        assert (await edge.ask("GET", "/v1/record", token=other))[0] == 200
    world.close()


async def test_a_node_whose_slots_are_taken_answers_busy(tmp_path):
    world = World(tmp_path, limits=Limits(concurrent_requests=1, account_per_minute=0))
    async with listening(world) as session:
        edge = Edge(world, session)
        with world.nodes[1].assembly.slots:
            body = await edge.problem("POST", "/v1/attempts", good_values(AttemptBody))
        assert (body["status"], body["code"], body["charged"]) == (429, "busy", "no")
        assert (await edge.ask("GET", "/v1/record"))[0] == 200
    world.close()


async def test_bodies_that_never_end_take_no_slot_from_others(tmp_path):
    world = World(tmp_path, limits=Limits(concurrent_requests=1, account_per_minute=0))
    async with listening(world) as session:
        edge = Edge(world, session)
        sent, never = asyncio.Event(), asyncio.Event()

        async def endless():
            yield b"{"
            sent.set()
            await never.wait()

        slow = asyncio.create_task(edge.ask("POST", "/v1/attempts", raw=endless(), token=None))
        await sent.wait()
        assert (await edge.ask("GET", "/v1/record"))[0] == 200
        slow.cancel()
    world.close()


async def test_a_failure_inside_is_a_plain_500_with_an_honest_charge(edge, monkeypatch):
    def broken(*_args):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(edge.world.nodes[1].host, "share_givers", broken)
    body = await edge.problem("POST", "/v1/attempts", good_values(AttemptBody))
    assert (body["status"], body["code"], body["charged"]) == (500, "internal", "unknown")
    assert "secret" not in json.dumps(body)


async def test_the_whole_life_of_an_account_over_http(edge, world):
    phone = Phone(world)
    made = await phone.prepare()
    registration = f"/v1/registrations/{b64u_encode(made.registration_id)}"
    body = {
        name: b64u_encode(value) if isinstance(value, bytes) else value
        for name in KINDS[RegistrationBody]
        for value in [getattr(made.body, name)]
    }
    for _ in range(2):
        status, answer, _ = await edge.ask("PUT", registration, body)
        assert (status, answer["state"]) == (200, "pending")
    other = body | {"wrapped_key": b64u_encode(b"other")}
    assert (await edge.problem("PUT", registration, other))["code"] == "conflict"
    message = identifiers.activation_message(CLUSTER_ID, made.registration_id)
    signature = b64u_encode(_engines.ed25519_sign(made.seed, message))
    wrong = {"signature": b64u_encode(bytes(64))}
    assert (await edge.problem("POST", f"{registration}/activation", wrong))[
        "code"
    ] == "proof-rejected"
    for _ in range(2):
        status, answer, _ = await edge.ask(
            "POST", f"{registration}/activation", {"signature": signature}
        )
        assert (status, answer["state"]) == (200, "active")
    status, record, _ = await edge.ask("GET", "/v1/record")
    assert (record["state"], record["guesses_remaining"], record["pending"]) == (
        "active",
        LIMIT,
        None,
    )
    content = identifiers.content(
        made.registration_id, made.body.record, made.body.proof_box, made.body.wrapped_key
    )
    assert record["content"] == b64u_encode(content)
    _state, ke1 = phone.guess()
    status, answer, _ = await edge.ask("POST", "/v1/attempts", {"ke1": b64u_encode(ke1)})
    assert (status, answer["guesses_remaining"], answer["limit"]) == (200, LIMIT - 1, LIMIT)
    attempt_id = answer["attempt_id"]
    proof = identifiers.prove_message(
        CLUSTER_ID, made.registration_id, answer["era"], b64u_decode(attempt_id)
    )
    body = {
        "ke1": b64u_encode(ke1),
        "era": answer["era"],
        "signature": b64u_encode(_engines.ed25519_sign(made.seed, proof)),
    }
    status, released, _ = await edge.ask("POST", f"/v1/attempts/{attempt_id}/proof", body)
    assert released["wrapped_key"] == b64u_encode(made.body.wrapped_key)
    _, record, _ = await edge.ask("GET", "/v1/record")
    stale = await edge.problem("DELETE", f"/v1/record?era={record['era'] - 1}")
    assert stale["code"] == "stale"
    status, gone, _ = await edge.ask("DELETE", f"/v1/record?era={record['era']}")
    assert (status, gone["state"]) == (200, "none")
    _, record, _ = await edge.ask("GET", "/v1/record")
    assert record["state"] == "none"
    assert "guesses_remaining" not in record
    gone = await edge.problem("POST", "/v1/attempts", {"ke1": b64u_encode(ke1)})
    assert (gone["code"], gone["charged"]) == ("not-registered", "no")
