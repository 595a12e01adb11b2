"""Golden vectors made by unrelated code (crypto.md): both our halves and the independent client."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from pathlib import Path
from uuid import UUID

import pytest
import sodium_client
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from table_vault import TableVault, prf

from engines import _engines, encoding, identifiers

VECTORS = json.loads((Path(__file__).parents[1] / "vectors.json").read_text())
IDS, SIGNATURES, BLOBS = VECTORS["ids"], VECTORS["signatures"], VECTORS["blobs"]
CLUSTER = UUID(IDS["cluster_id"])
H = bytes.fromhex
ENCODERS = {
    "python": encoding.enc,
    "rust": lambda label, *fields: _engines.enc(label, fields),
    "independent": sodium_client.encode,
}


def ids(name: str) -> bytes:
    return H(IDS[name])


def vault_of(case: dict) -> TableVault:
    if "oprf_keys" in case:
        keys = {bytes(map(int, seats)): H(key) for seats, key in case["oprf_keys"].items()}
    else:  # the rule that the file states for n = 7
        keys = {}
        for chosen in itertools.combinations(range(1, 8), 4):
            seed = "quorumvault vectors oprf 7 " + "".join(map(str, chosen))
            keys[bytes(chosen)] = hashlib.shake_256(seed.encode()).digest(64)
    return TableVault(case["n"], case["t"], keys, H(case["registration_id"]))


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("case", VECTORS["enc"], ids=lambda case: case["label"])
def test_enc_gives_the_golden_bytes(encoder, case) -> None:
    assert encoder(case["label"], *map(H, case["fields"])).hex() == case["out"]


def test_keys_derived_from_the_identity_key_are_the_golden_ones() -> None:
    identity = ids("identity_key")
    assert prf(identity, "kcv")[:8] == ids("kcv_identity")
    assert prf(identity, "record-key")[:32] == ids("record_key")
    seed = prf(identity, "ake-key")[:32]
    pair = (ids("ake_private_key"), ids("ake_public_key"))
    assert _engines.opaque_derive_key_pair(seed) == pair
    assert sodium_client.derive_dh_key_pair(seed) == pair


def test_identifiers_are_the_golden_ones() -> None:
    record = identifiers.record_id(ids("record_key"), CLUSTER, IDS["iss"], IDS["sub"])
    assert record == ids("record_id")
    assert identifiers.shard_of(record, 16) == IDS["shard_of_16"]
    binding = (record, IDS["era"], ids("request"), ids("proof_key"))
    assert identifiers.registration_id(*binding) == ids("registration_id")
    assert sodium_client.registration_id(*binding) == ids("registration_id")
    assert identifiers.attempt_id(record, ids("ke1")) == ids("attempt_id")
    assert sodium_client.attempt_id(record, ids("ke1")) == ids("attempt_id")


def test_signatures_are_the_golden_ones() -> None:
    seed, key = ids("proof_seed"), ids("proof_key")
    registration, attempt, era = (
        ids("registration_id"),
        ids("attempt_id"),
        SIGNATURES["prove_era"],
    )
    activate = identifiers.activation_message(CLUSTER, registration)
    prove = identifiers.prove_message(CLUSTER, registration, era, attempt)
    assert _engines.ed25519_public_key(seed) == key == sodium_client.proof_public_key(seed)
    assert _engines.ed25519_is_usable(key)
    for message, name in ((activate, "activate"), (prove, "prove")):
        signature = H(SIGNATURES[name])
        assert _engines.ed25519_sign(seed, message) == signature
        assert _engines.ed25519_verify(key, message, signature)
    other = sodium_client.sign_activation(seed, CLUSTER.bytes, registration)
    assert other == H(SIGNATURES["activate"])
    other = sodium_client.sign_prove(seed, CLUSTER.bytes, registration, era, attempt)
    assert other == H(SIGNATURES["prove"])
    assert not _engines.ed25519_verify(key, activate, H(SIGNATURES["prove"]))


@pytest.mark.parametrize(
    "case", VECTORS["threshold"], ids=lambda case: f"{case['t']} of {case['n']}"
)
def test_shares_points_and_evaluation_are_the_golden_ones(case) -> None:
    vault, element = vault_of(case), H(case["element"])
    for expected in case["shares"]:
        seat = expected["seat"]
        assert vault.share(seat, element).hex() == expected["share"]
        share, point, proof = _engines.threshold_share_proven(
            CLUSTER.bytes,
            vault.registration_id,
            seat,
            vault.n,
            vault.t,
            vault.subset_prfs(seat),
            element,
        )
        assert (share.hex(), point.hex()) == (expected["share"], expected["point"])
        assert _engines.threshold_verify(
            CLUSTER.bytes, vault.registration_id, seat, element, share, point, proof
        )
    for seats in itertools.combinations(vault.seats, vault.t):
        assert vault.evaluate(element, seats).hex() == case["evaluation"]


def test_the_golden_proof_verifies() -> None:
    case = VECTORS["threshold"][0]
    seat = case["shares"][1]
    assert _engines.threshold_verify(
        CLUSTER.bytes,
        H(case["registration_id"]),
        2,
        H(case["element"]),
        H(seat["share"]),
        H(seat["point"]),
        H(case["dleq_seat_2"]["proof"]),
    )


def test_client_boxes_are_the_golden_ones() -> None:
    export_key, registration = H(BLOBS["export_key"]), ids("registration_id")
    proof_box, wrapped_key = H(BLOBS["proof_box"]), H(BLOBS["wrapped_key"])
    assert len(proof_box) == identifiers.PROOF_BOX_BYTES
    made = sodium_client.seal_proof_seed(
        export_key, registration, ids("proof_seed"), nonce=H(BLOBS["proof_nonce"])
    )
    assert made == proof_box
    made = sodium_client.seal_backup_key(
        export_key, registration, H(BLOBS["backup_key"]), nonce=H(BLOBS["wrap_nonce"])
    )
    assert made == wrapped_key
    opened = sodium_client.open_proof_seed(export_key, registration, proof_box)
    assert opened == ids("proof_seed")
    opened = sodium_client.open_backup_key(export_key, registration, wrapped_key)
    assert opened == H(BLOBS["backup_key"])
    for box, unlock in (
        (proof_box, sodium_client.open_proof_seed),
        (wrapped_key, sodium_client.open_backup_key),
    ):
        with pytest.raises(sodium_client.DoesNotOpenError):
            unlock(export_key, bytes(32), box)


def test_the_sealed_registration_is_the_golden_one() -> None:
    record_id, registration = ids("record_id"), ids("registration_id")
    wrapped = H(BLOBS["wrapped_key"])
    plain = H(BLOBS["record"]) + H(BLOBS["proof_box"]) + encoding.u16(len(wrapped)) + wrapped
    seal = H(BLOBS["seal_key"])
    salt = prf(seal, "seal-salt", record_id, registration, plain)[:32]
    material = prf(seal, "seal", salt, record_id, registration)
    epoch = H(BLOBS["sealed"])[1:5]
    aad = encoding.enc("seal-aad", b"\x01", epoch, record_id, registration)
    box = AESGCM(material[:32]).encrypt(material[32:44], plain, aad)
    assert b"\x01" + epoch + salt + box == H(BLOBS["sealed"])


def test_content_is_the_golden_hash() -> None:
    fields = tuple(H(BLOBS[name]) for name in ("record", "proof_box", "wrapped_key"))
    assert identifiers.content(ids("registration_id"), *fields).hex() == BLOBS["content"]
    assert sodium_client.content_hash(ids("registration_id"), *fields).hex() == BLOBS["content"]


def test_the_mac_of_a_stored_value_is_the_golden_one() -> None:
    case = VECTORS["state_mac"]
    key = prf(H(case["node_key"]), "state-key")[:32]
    message = encoding.enc("state", case["table"].encode(), H(case["key"]), H(case["value"]))
    assert hmac.digest(key, message, "sha256")[:16].hex() == case["mac"]
