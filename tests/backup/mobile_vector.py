"""One whole registration and recovery with nothing left to chance: the numbers of docs/mobile.md.

The arithmetic is that of tests/engines/sodium_client.py (libsodium and OpenSSL, none of the code
under test), and the vault's side is written here from RFC 9807; test_mobile_page.py holds the
results against the page and against the product. Printed by `python tests/backup/mobile_vector.py`
with tests/engines on the path.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass
from typing import Any

import sodium_client as sodium

Section = dict[str, bytes]

PASSWORD = "correct horse battery stäple"
CLUSTER = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
BIRTH_ERA = 4
ATTEMPT_ERA = 5
"""Activation makes the era one greater."""

WIDTH = 64
"""Hex digits in a line of the page."""


def drawn(name: str, size: int = 32) -> bytes:
    """What a client would draw at random: here the hash of its name."""
    return hashlib.sha512(name.encode("ascii")).digest()[:size]


def scalar(name: str) -> bytes:
    """A scalar, drawn likewise."""
    return sodium.reduce_wide(drawn(name, 64))


def mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-512."""
    return hmac.digest(key, message, "sha512")


def u64(value: int) -> bytes:
    """Eight bytes, big-endian."""
    return value.to_bytes(8, "big")


@functools.cache
def sections() -> dict[str, Section]:
    """Every section of the page's vector, in its order."""
    given = _given()
    server = _server(given)
    registration = _registration(given, server)
    boxes = _boxes(given, registration)
    login = _login(given, server, registration)
    opening = _opening(given, login, registration)
    proof = _proof(given, registration, login)
    return {
        "given": given,
        "server": server,
        "registration": registration,
        "boxes": boxes,
        "login": login,
        "opening": opening,
        "proof": proof,
    }


@functools.cache
def values() -> Section:
    """All values by name; no name is there twice."""
    merged: Section = {}
    for section in sections().values():
        if merged.keys() & section.keys():
            raise ValueError("a name is there twice")
        merged |= section
    return merged


def _given() -> Section:
    return {
        "password": PASSWORD.encode(),
        "cluster_id": CLUSTER.bytes,
        "record_id": drawn("record id"),
        "backup_key": drawn("backup key"),
        "proof_seed": drawn("proof seed"),
        "registration_blind": scalar("registration blind"),
        "envelope_nonce": drawn("envelope nonce"),
        "proof_box_nonce": drawn("proof box nonce", 12),
        "wrapped_key_nonce": drawn("wrapped key nonce", 12),
        "login_blind": scalar("login blind"),
        "client_nonce": drawn("client nonce"),
        "client_keyshare_seed": drawn("client keyshare seed"),
    }


def _server(given: Section) -> Section:
    """What the vault has and draws; a client never sees the first three and the seed."""
    private, public = sodium.derive_dh_key_pair(drawn("server key seed"))
    request = sodium.oprf_blind(given["password"], given["registration_blind"])
    key = scalar("oprf key")
    return {
        "oprf_key": key,
        "server_private_key": private,
        "server_public_key": public,
        "server_keyshare_seed": drawn("server keyshare seed"),
        "masking_nonce": drawn("masking nonce"),
        "server_nonce": drawn("server nonce"),
        "evaluated": sodium.multiply(key, request),
        "response": sodium.multiply(key, request) + public,
    }


def _stretched(password: bytes, blind: bytes, evaluated: bytes, before: str) -> Section:
    """From the evaluated element to the randomized password."""
    inverse = sodium._call("crypto_core_ristretto255_scalar_invert", blind)
    output = sodium.oprf_finalize(password, blind, evaluated)
    stretched = sodium.PROFILE_KSF(output)
    return {
        f"{before}unblinded": sodium.multiply(inverse, evaluated),
        f"{before}oprf_output": output,
        f"{before}stretched": stretched,
        f"{before}randomized_password": mac(b"", output + stretched),
    }


def _registration(given: Section, server: Section) -> Section:
    password, blind = given["password"], given["registration_blind"]
    uniform = sodium.expand_message_xmd(password, b"HashToGroup-" + sodium.OPRF_CONTEXT)
    request = sodium.oprf_blind(password, blind)
    out = {
        "uniform_bytes": uniform,
        "password_element": sodium.hash_to_group(password),
        "request": request,
        "proof_key": sodium.proof_public_key(given["proof_seed"]),
    }
    out["registration_id_input"] = sodium.encode(
        "registration-id", given["record_id"], u64(BIRTH_ERA), request, out["proof_key"]
    )
    out["registration_id"] = hashlib.sha256(out["registration_id_input"]).digest()
    out |= _stretched(password, blind, server["response"][:32], "")
    randomized, nonce = out["randomized_password"], given["envelope_nonce"]
    seed = sodium.hkdf_expand(randomized, nonce + b"PrivateKey", 32)
    private, public = sodium.derive_dh_key_pair(seed)
    cleartext = b"".join(
        (server["server_public_key"], b"\0\x20", server["server_public_key"], b"\0\x20", public)
    )
    auth_key = sodium.hkdf_expand(randomized, nonce + b"AuthKey", 64)
    return out | {
        "masking_key": sodium.hkdf_expand(randomized, b"MaskingKey", 64),
        "auth_key": auth_key,
        "export_key": sodium.hkdf_expand(randomized, nonce + b"ExportKey", 64),
        "client_key_seed": seed,
        "client_private_key": private,
        "client_public_key": public,
        "cleartext_credentials": cleartext,
        "auth_tag": mac(auth_key, nonce + cleartext),
        "record": sodium.registration_finish(
            sodium.RegistrationState(blind), password, server["response"], envelope_nonce=nonce
        ).record,
    }


def _boxes(given: Section, made: Section) -> Section:
    export_key, registration = made["export_key"], made["registration_id"]
    extracted = mac(b"", export_key)
    box = sodium.seal_proof_seed(
        export_key, registration, given["proof_seed"], nonce=given["proof_box_nonce"]
    )
    wrapped = sodium.seal_backup_key(
        export_key, registration, given["backup_key"], nonce=given["wrapped_key_nonce"]
    )
    return {
        "proof_box_key": sodium.hkdf_expand(extracted, sodium.encode("wrap-proof"), 32),
        "proof_box_aad": sodium.encode("proof-aad", registration),
        "proof_box": box,
        "wrapped_key_key": sodium.hkdf_expand(extracted, sodium.encode("wrap-key"), 32),
        "wrapped_key_aad": sodium.encode("wrap-aad", registration),
        "wrapped_key": wrapped,
        "content": sodium.content_hash(registration, made["record"], box, wrapped),
        "activation_message": sodium.encode("activate", CLUSTER.bytes, registration),
        "activation_signature": sodium.sign_activation(
            given["proof_seed"], CLUSTER.bytes, registration
        ),
        "key_id": sodium.hkdf_expand(
            mac(b"", given["backup_key"]), sodium.encode("backup-key-id"), 16
        ),
    }


def _login_state(given: Section) -> sodium.LoginState:
    return sodium.login_start(
        given["password"],
        blind=given["login_blind"],
        client_nonce=given["client_nonce"],
        keyshare_seed=given["client_keyshare_seed"],
    )


def _login(given: Section, server: Section, made: Section) -> Section:
    """KE1, and the vault's KE2 for it."""
    state = _login_state(given)
    evaluated = sodium.multiply(server["oprf_key"], state.ke1[:32])
    pad = sodium.hkdf_expand(
        made["masking_key"], server["masking_nonce"] + b"CredentialResponsePad", 128
    )
    clear = server["server_public_key"] + made["record"][96:]
    masked = bytes(a ^ b for a, b in zip(pad, clear, strict=True))
    ephemeral, keyshare = sodium.derive_dh_key_pair(server["server_keyshare_seed"])
    inner = evaluated + server["masking_nonce"] + masked + server["server_nonce"] + keyshare
    preamble = b"".join(
        (
            b"OPAQUEv1-",
            b"\0\0",
            b"\0\x20",
            made["client_public_key"],
            state.ke1,
            b"\0\x20",
            server["server_public_key"],
            inner,
        )
    )
    transcript = hashlib.sha512(preamble).digest()
    # The vault's own three products: the client's differ in who holds the private half.
    shared = b"".join(
        (
            sodium.multiply(ephemeral, state.ke1[64:]),
            sodium.multiply(server["server_private_key"], state.ke1[64:]),
            sodium.multiply(ephemeral, made["client_public_key"]),
        )
    )
    prk = mac(b"", shared)
    handshake = sodium._expand_label(prk, b"HandshakeSecret", transcript)
    mac_key = sodium._expand_label(handshake, b"ServerMAC", b"")
    return {
        "client_secret": state.client_secret,
        "client_keyshare": state.ke1[64:],
        "login_request": state.ke1[:32],
        "ke1": state.ke1,
        "attempt_id_input": sodium.encode("attempt-id", given["record_id"], state.ke1),
        "attempt_id": sodium.attempt_id(given["record_id"], state.ke1),
        "login_evaluated": evaluated,
        "credential_response_pad": pad,
        "masked_response": masked,
        "server_keyshare": keyshare,
        "preamble": preamble,
        "transcript_hash": transcript,
        "shared_secrets": shared,
        "handshake_prk": prk,
        "handshake_secret": handshake,
        "server_mac_key": mac_key,
        "server_mac": mac(mac_key, transcript),
        "ke2": inner + mac(mac_key, transcript),
    }


def _opening(given: Section, login: Section, made: Section) -> Section:
    """What the client computes from KE2; export_key must be the registration's."""
    state = _login_state(given)
    out = _stretched(given["password"], given["login_blind"], login["ke2"][:32], "login_")
    opened = sodium.login_finish(state, given["password"], login["ke2"])
    if opened.export_key != made["export_key"]:
        raise ValueError("the login opens with another export_key")
    return out | {"login_export_key": opened.export_key}


def _proof(given: Section, made: Section, login: Section) -> Section:
    fields = (given["cluster_id"], made["registration_id"], u64(ATTEMPT_ERA), login["attempt_id"])
    return {
        "prove_message": sodium.encode("prove", *fields),
        "prove_signature": sodium.sign_prove(
            given["proof_seed"],
            CLUSTER.bytes,
            made["registration_id"],
            ATTEMPT_ERA,
            login["attempt_id"],
        ),
    }


# ------------------------------------------------------------------ the same as HTTP and JSON


@dataclass(frozen=True)
class Exchange:
    """One call of the page: what is sent, what comes back."""

    line: str
    """Method and path."""
    body: dict[str, Any] | None
    answer: dict[str, Any]


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _receipt(index: int, version: int) -> dict[str, Any]:
    return {
        "cluster_id": str(CLUSTER),
        "shard": 11,
        "index": index,
        "version": version,
        "restore_epoch": 0,
    }


@functools.cache
def exchanges() -> dict[str, Exchange]:
    """Every call of a registration and a recovery, in order, by the name of its answer."""
    all_ = values()
    text = {name: b64(value) for name, value in all_.items()}
    registration, attempt = text["registration_id"], text["attempt_id"]
    start = {"request": text["request"], "proof_key": text["proof_key"]}
    boxes = {name: text[name] for name in ("record", "proof_box", "wrapped_key")}
    nodes = [{"id": seat, "seat": seat, "dc": f"dc{seat}"} for seat in range(1, 6)]
    standing = {"state": "active", "pending": None, "era": ATTEMPT_ERA, "limit": 10}
    return {
        "Hello": Exchange(
            "GET /v1/vault",
            None,
            {
                "cluster_id": str(CLUSTER),
                "name": "demo",
                "opaque_public_key": text["server_public_key"],
                "suite": "OPAQUE-3DH-ristretto255-SHA512",
                "ksf": "argon2id-v19-t3-m65536-p4",
                "limit": 10,
                "node": 1,
                "nodes": nodes,
            },
        ),
        "Started": Exchange(
            "POST /v1/registrations",
            start,
            {
                "record_id": text["record_id"],
                "registration_id": registration,
                "era": BIRTH_ERA,
                "response": text["response"],
                "verified": True,
            },
        ),
        "Stored": Exchange(
            f"PUT /v1/registrations/{registration}",
            {**start, "era": BIRTH_ERA, **boxes},
            {"state": "pending", "registration_id": registration, "receipt": _receipt(310, 8)},
        ),
        "Activated": Exchange(
            f"POST /v1/registrations/{registration}/activation",
            {"signature": text["activation_signature"]},
            {"state": "active", "registration_id": registration, "receipt": _receipt(314, 9)},
        ),
        "RecordSeen": Exchange(
            "GET /v1/record",
            None,
            {
                **standing,
                "receipt": _receipt(316, 9),
                "registration_id": registration,
                "content": text["content"],
                "guesses_remaining": 10,
            },
        ),
        "Attempted": Exchange(
            "POST /v1/attempts",
            {"ke1": text["ke1"]},
            {
                "record_id": text["record_id"],
                "attempt_id": attempt,
                "registration_id": registration,
                "era": ATTEMPT_ERA,
                "ke2": text["ke2"],
                "proof_box": text["proof_box"],
                "guesses_remaining": 9,
                "limit": 10,
                "replayed": False,
                "verified": False,
                "receipt": _receipt(402, 10),
            },
        ),
        "Proven": Exchange(
            f"POST /v1/attempts/{attempt}/proof",
            {"ke1": text["ke1"], "era": ATTEMPT_ERA, "signature": text["prove_signature"]},
            {
                "wrapped_key": text["wrapped_key"],
                "registration_id": registration,
                "receipt": _receipt(404, 11),
            },
        ),
        "Deleted": Exchange(
            "DELETE /v1/record?era=6", None, {"state": "none", "receipt": _receipt(409, 12)}
        ),
    }


def shown_exchange(exchange: Exchange) -> str:
    """A call as the page shows it."""
    sent = "" if exchange.body is None else f"{_document(exchange.body)}\n"
    return f"{exchange.line}\n{sent}→ 200\n{_document(exchange.answer)}"


def _document(fields: dict[str, Any]) -> str:
    """JSON with a line for each field, and for each row of a list."""
    lines = []
    for name, value in fields.items():
        told = json.dumps(value)
        if isinstance(value, list):
            told = "[\n  " + ",\n  ".join(json.dumps(each) for each in value) + "]"
        lines.append(f" {json.dumps(name)}: {told}")
    return "{\n" + ",\n".join(lines) + "}"


# ------------------------------------------------------------------ as the page shows it


def shown(section: Section) -> str:
    """A section as the page shows it: name, length, and hex in lines of 32 bytes."""
    lines = []
    for name, value in section.items():
        lines.append(f"{name} ({len(value)})")
        digits = value.hex()
        lines += [f"  {digits[at : at + WIDTH]}" for at in range(0, len(digits), WIDTH)]
    return "\n".join(lines)


if __name__ == "__main__":
    for title, part in sections().items():
        print(f"### {title}\n\n```text\n{shown(part)}\n```\n")  # noqa: T201
    for name, each in exchanges().items():
        print(f"### {name}\n\n```http\n{shown_exchange(each)}\n```\n")  # noqa: T201
