"""The golden vectors, computed by a real token that holds the vectors' keys."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from uuid import UUID

import pytest

import hsm
from engines import _engines, identifiers
from engines.encoding import enc
from hsm import prf, sealing
from hsm.names import held_names
from hsm.package import Header, close_package

VECTORS = json.loads((Path(__file__).parent.parent / "vectors.json").read_text())
IDS, BLOBS, STATE = VECTORS["ids"], VECTORS["blobs"], VECTORS["state_mac"]
SCHEME = VECTORS["threshold"][0]
SEAL_KEY = bytes.fromhex(BLOBS["seal_key"])
REGISTRATION = bytes.fromhex(SCHEME["registration_id"])
RECORD_ID = bytes.fromhex(IDS["record_id"])
CONTENTS = sealing.SealedContents(
    *(bytes.fromhex(BLOBS[name]) for name in ("record", "proof_box", "wrapped_key"))
)

KEYS = {
    **{f"oprf/{group}": bytes.fromhex(key) for group, key in SCHEME["oprf_keys"].items()},
    "identity": bytes.fromhex(IDS["identity_key"]),
    "seal/1": SEAL_KEY,
}
CHECK_VALUES = {name: prf.check_value(key) for name, key in KEYS.items()}


def with_vector_keys(ground, seat):
    """A token of `seat` with the vectors' keys, the vectors' node key among them."""
    settings = ground.blank()
    seat_key = bytes(32)
    held = {name: KEYS[name] for name in held_names(seat, 5, 3)}
    package = close_package(Header(UUID(IDS["cluster_id"]), seat, 5, 3), seat_key, held)
    words = hsm.ceremony.split_seat_key(seat_key)[:3]
    ground.provision(settings, seat, package=package, words=words, check_values=CHECK_VALUES)

    def give_node_key(token):
        token.destroy(token.find_key("node"))
        token.import_key("node", bytes.fromhex(STATE["node_key"]), on_token=True)

    ground.on_token(settings, give_node_key)
    made = ground.hsm(settings, seat, CHECK_VALUES)
    made.start()
    return made


def test_derived_keys_are_the_vectors(ground):
    made = with_vector_keys(ground, 1)
    assert made.record_key.hex() == IDS["record_key"]
    private, public = _engines.opaque_derive_key_pair(made.ake_seed)
    assert (private.hex(), public.hex()) == (IDS["ake_private_key"], IDS["ake_public_key"])
    record_id = identifiers.record_id(
        made.record_key, UUID(IDS["cluster_id"]), IDS["iss"], IDS["sub"]
    )
    assert record_id == RECORD_ID
    key, value = bytes.fromhex(STATE["key"]), bytes.fromhex(STATE["value"])
    message = enc("state", STATE["table"].encode(), key, value)
    mac = hmac.digest(made.state_key, message, hashlib.sha256)[:16]
    assert mac.hex() == STATE["mac"]


def test_check_values_are_the_vectors():
    assert prf.check_value(KEYS["identity"]).hex() == IDS["kcv_identity"]


@pytest.mark.parametrize("seat", [1, 2, 3, 4, 5])
async def test_each_seats_share_is_the_vectors(ground, seat):
    made = with_vector_keys(ground, seat)
    subset_prfs = await made.subset_prfs(REGISTRATION)
    assert [group for group, _ in subset_prfs] == sorted(group for group, _ in subset_prfs)
    element = bytes.fromhex(SCHEME["element"])
    share = _engines.threshold_share(seat, 5, 3, subset_prfs, element)
    assert share.hex() == SCHEME["shares"][seat - 1]["share"]


async def test_the_token_seals_to_the_vectors_bytes_and_opens_them(ground):
    made = with_vector_keys(ground, 1)
    registration_id = bytes.fromhex(IDS["registration_id"])
    sealed = await made.seal(RECORD_ID, registration_id, CONTENTS)
    assert sealed.hex() == BLOBS["sealed"]
    assert await made.unseal(RECORD_ID, registration_id, sealed) == CONTENTS
