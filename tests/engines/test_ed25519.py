"""Ed25519 in the one strict way: what other libraries let pass is refused (I6)."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from engines import _engines

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19
SEED = bytes(range(32))
KEY = _engines.ed25519_public_key(SEED)
MESSAGE = b"prove"
SIGNATURE = _engines.ed25519_sign(SEED, MESSAGE)

SMALL_ORDER_KEYS = {
    "order 1": (1).to_bytes(32, "little"),
    "order 2": (P - 1).to_bytes(32, "little"),
    "order 4": bytes(32),
    "order 4, negative x": bytes(31) + b"\x80",
    "order 8": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "order 8, negative x": bytes.fromhex(
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"
    ),
    "order 8, other y": bytes.fromhex(
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
    ),
    "order 1, not canonical": (P + 1).to_bytes(32, "little"),
    "order 4, not canonical": P.to_bytes(32, "little"),
    "order 1, negative zero": b"\x01" + bytes(30) + b"\x80",
}


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_signatures_are_those_of_other_libraries(seed: bytes, message: bytes) -> None:
    signature = _engines.ed25519_sign(seed, message)
    assert signature == SigningKey(seed).sign(message).signature
    assert signature == Ed25519PrivateKey.from_private_bytes(seed).sign(message)
    key = _engines.ed25519_public_key(seed)
    assert key == bytes(SigningKey(seed).verify_key)
    assert _engines.ed25519_is_usable(key)
    assert _engines.ed25519_verify(key, message, signature)
    assert not _engines.ed25519_verify(key, message + b"\0", signature)


def test_rfc8032_section_7_1_test_1_holds() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = _engines.ed25519_public_key(seed)
    assert key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert _engines.ed25519_sign(seed, b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39"
        "701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


@given(st.integers(0, 64 * 8 - 1))
def test_no_flipped_bit_of_a_signature_passes(bit: int) -> None:
    changed = bytearray(SIGNATURE)
    changed[bit // 8] ^= 1 << bit % 8
    assert not _engines.ed25519_verify(KEY, MESSAGE, bytes(changed))


@pytest.mark.parametrize("key", SMALL_ORDER_KEYS.values(), ids=SMALL_ORDER_KEYS)
def test_a_key_of_small_order_is_unusable_and_verifies_nothing(key: bytes) -> None:
    assert not _engines.ed25519_is_usable(key)
    # R = A = a small point and s = 0 satisfies the loose equation for some messages.
    for message in (bytes((i,)) for i in range(32)):
        for nonce_point in SMALL_ORDER_KEYS.values():
            assert not _engines.ed25519_verify(key, message, nonce_point + bytes(32))


def test_a_nonce_point_of_small_order_is_refused() -> None:
    for nonce_point in SMALL_ORDER_KEYS.values():
        assert not _engines.ed25519_verify(KEY, MESSAGE, nonce_point + SIGNATURE[32:])


def test_a_malleated_signature_is_refused() -> None:
    s = int.from_bytes(SIGNATURE[32:], "little")
    raised = SIGNATURE[:32] + (s + GROUP_ORDER).to_bytes(32, "little")
    assert not _engines.ed25519_verify(KEY, MESSAGE, raised)


@pytest.mark.parametrize("y", range(19))
def test_a_key_that_is_not_canonical_is_unusable(y: int) -> None:
    assert not _engines.ed25519_is_usable((P + y).to_bytes(32, "little"))
    assert not _engines.ed25519_is_usable((P + y + 2**255).to_bytes(32, "little"))


@pytest.mark.parametrize(
    ("key", "signature"),
    [
        (b"", SIGNATURE),
        (KEY[:31], SIGNATURE),
        (KEY + b"\0", SIGNATURE),
        (KEY, b""),
        (KEY, SIGNATURE[:63]),
        (KEY, SIGNATURE + b"\0"),
        (b"\xff" * 32, SIGNATURE),
        (bytes.fromhex("02" + "00" * 31), SIGNATURE),
    ],
)
def test_malformed_input_is_false_and_never_raises(key: bytes, signature: bytes) -> None:
    assert _engines.ed25519_verify(key, MESSAGE, signature) is False


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33), bytes(64)])
def test_a_seed_is_32_bytes(seed: bytes) -> None:
    with pytest.raises(ValueError, match="seed must be 32 bytes"):
        _engines.ed25519_public_key(seed)
    with pytest.raises(ValueError, match="seed must be 32 bytes"):
        _engines.ed25519_sign(seed, b"")


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), b"\xff" * 32])
def test_a_malformed_key_is_unusable(key: bytes) -> None:
    assert not _engines.ed25519_is_usable(key)
