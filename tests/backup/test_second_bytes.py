"""The second client against the vector of docs/mobile.md, in the order that the page gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import second_bytes as second
from second_bytes import NotOpened

PAGE = (Path(__file__).parents[2] / "docs/mobile.md").read_text(encoding="utf-8")
V = {
    name: bytes.fromhex("".join(lines.split()))
    for name, lines in re.findall(r"^(\w+) \(\d+\)\n((?:  [0-9a-f]+\n)+)", PAGE, re.MULTILINE)
}
CLUSTER = "00112233-4455-6677-8899-aabbccddeeff"
PASSWORD, RID, KE1, KE2 = V["password"], V["registration_id"], V["ke1"], V["ke2"]


def open_ke2(ke1: bytes = KE1, ke2: bytes = KE2, password: bytes = PASSWORD) -> second.Opened:
    return second.open_ke2(password, V["login_blind"], V["client_secret"], ke1, ke2)


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_the_second_client_registers_as_the_page_does() -> None:
    assert second.hash_to_group(PASSWORD) == V["password_element"]
    request = second.blinded(PASSWORD, V["registration_blind"])
    proof_key = second.sign_key(V["proof_seed"])
    assert (request, proof_key) == (V["request"], V["proof_key"])
    assert second.registration_id(V["record_id"], 4, request, proof_key) == RID
    sealed = second.finish_registration(
        password=PASSWORD,
        blind=V["registration_blind"],
        response=V["response"],
        registration=RID,
        backup_key=V["backup_key"],
        proof_seed=V["proof_seed"],
        envelope_nonce=V["envelope_nonce"],
        box_nonces=(V["proof_box_nonce"], V["wrapped_key_nonce"]),
    )
    assert sealed == second.Sealed(
        V["record"], V["proof_box"], V["wrapped_key"], V["content"], V["export_key"]
    )
    signature = second.activation_signature(V["proof_seed"], CLUSTER, RID)
    assert signature == V["activation_signature"]


def test_the_second_client_recovers_as_the_page_does() -> None:
    made = second.make_ke1(PASSWORD, V["login_blind"], V["client_nonce"], V["client_keyshare_seed"])
    assert made == (KE1, V["client_secret"])
    attempt = second.attempt_id(V["record_id"], KE1)
    assert attempt == V["attempt_id"]
    opened = open_ke2()
    assert opened == second.Opened(V["server_public_key"], V["login_export_key"])
    seed = second.open_box(opened.export_key, "proof", V["proof_box"], RID)
    assert seed == V["proof_seed"]
    assert second.proof_signature(seed, CLUSTER, RID, 5, attempt) == V["prove_signature"]
    key = second.open_box(opened.export_key, "key", V["wrapped_key"], RID)
    assert key == V["backup_key"]
    assert second.hkdf(key, second.enc("backup-key-id"), 16) == V["key_id"]


@pytest.mark.parametrize(
    "at", [0, 32, 64, 96, 128, 192, 224, 256, 319], ids=lambda at: f"byte {at}"
)
def test_a_changed_byte_in_any_part_of_ke2_does_not_open(at: int) -> None:
    with pytest.raises(NotOpened):
        open_ke2(ke2=changed(KE2, at))


def test_a_ke2_for_another_ke1_does_not_open() -> None:
    """What is changed is the nonce: the evaluation is right, only the transcript is not."""
    with pytest.raises(NotOpened, match="MAC"):
        open_ke2(ke1=changed(KE1, 40))


def test_another_password_does_not_open() -> None:
    with pytest.raises(NotOpened, match="tag"):
        open_ke2(password=PASSWORD + b" ")


@pytest.mark.parametrize("part", [slice(0, 32), slice(224, 256)], ids=["evaluated", "keyshare"])
@pytest.mark.parametrize("value", [bytes(32), b"\xff" * 32], ids=["identity", "not canonical"])
def test_an_element_that_is_none_does_not_open(part: slice, value: bytes) -> None:
    with pytest.raises(NotOpened, match="no element"):
        open_ke2(ke2=KE2[: part.start] + value + KE2[part.stop :])


def test_a_reflected_request_does_not_open() -> None:
    with pytest.raises(NotOpened, match="reflected"):
        open_ke2(ke2=KE1[:32] + KE2[32:])


@pytest.mark.parametrize(("what", "box"), [("proof", "proof_box"), ("key", "wrapped_key")])
def test_a_box_opens_only_whole_and_for_its_own_registration(what: str, box: str) -> None:
    for at in range(len(V[box])):
        with pytest.raises(NotOpened):
            second.open_box(V["export_key"], what, changed(V[box], at), RID)
    for other in (V[box][:28], V[box][:-1], V[box] + b"\0", b""):
        with pytest.raises(NotOpened):
            second.open_box(V["export_key"], what, other, RID)
    with pytest.raises(NotOpened):
        second.open_box(V["export_key"], what, V[box], changed(RID, 0))


@pytest.mark.parametrize(
    "text",
    ["AAE=", "AA+/", "AA E", "AAF", "AA\n", "A", "AAEA", "AÄE", "", None, 7],
    ids=repr,
)
def test_base64url_that_is_not_the_canonical_one_of_two_bytes_is_refused(text: object) -> None:
    assert second.from_text("AAE", 2) == b"\0\1"
    with pytest.raises(NotOpened):
        second.from_text(text, 2)
