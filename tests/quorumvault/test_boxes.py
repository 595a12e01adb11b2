"""proof_box and wrapped key, held to the golden vectors and against every changed byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quorumvault import _boxes

VECTORS = json.loads((Path(__file__).parents[1] / "vectors.json").read_text())
BLOBS = {name: bytes.fromhex(value) for name, value in VECTORS["blobs"].items()}
RID = bytes.fromhex(VECTORS["ids"]["registration_id"])
SEED = bytes.fromhex(VECTORS["ids"]["proof_seed"])
EXPORT = BLOBS["export_key"]


def test_the_golden_boxes_open():
    assert _boxes.open_proof_seed(EXPORT, RID, BLOBS["proof_box"]) == SEED
    assert _boxes.open_backup_key(EXPORT, RID, BLOBS["wrapped_key"]) == BLOBS["backup_key"]


def test_the_same_nonces_give_the_golden_bytes(monkeypatch):
    nonces = iter([BLOBS["proof_nonce"], BLOBS["wrap_nonce"]])
    monkeypatch.setattr("os.urandom", lambda _: next(nonces))
    assert _boxes.seal_proof_seed(EXPORT, RID, SEED) == BLOBS["proof_box"]
    assert _boxes.seal_backup_key(EXPORT, RID, BLOBS["backup_key"]) == BLOBS["wrapped_key"]


def test_no_changed_byte_opens():
    box = BLOBS["proof_box"]
    for place in range(len(box)):
        changed = bytearray(box)
        changed[place] ^= 1
        with pytest.raises(ValueError, match="box"):
            _boxes.open_proof_seed(EXPORT, RID, bytes(changed))


@pytest.mark.parametrize(("export_key", "registration"), [(bytes(64), RID), (EXPORT, bytes(32))])
def test_another_key_or_registration_opens_nothing(export_key, registration):
    with pytest.raises(ValueError, match="not sealed under this key"):
        _boxes.open_backup_key(export_key, registration, BLOBS["wrapped_key"])


def test_one_box_is_not_taken_for_the_other():
    with pytest.raises(ValueError, match="not sealed"):
        _boxes.open_backup_key(EXPORT, RID, BLOBS["proof_box"])


@pytest.mark.parametrize("size", [0, 996])
def test_a_backup_key_of_impossible_length_is_refused(size):
    with pytest.raises(ValueError, match="1-995"):
        _boxes.seal_backup_key(EXPORT, RID, bytes(size))


def test_every_box_has_its_own_nonce():
    boxes = {_boxes.seal_backup_key(EXPORT, RID, b"k") for _ in range(50)}
    assert len({box[1:13] for box in boxes}) == 50
