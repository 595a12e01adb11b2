"""Sealed bytes open to what was sealed, for this record and registration, and to nothing else."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.encoding import enc
from hsm import prf, sealing
from hsm.errors import SealBroken

KEY = bytes(range(64))
RECORD_ID, REGISTRATION_ID = b"i" * 32, b"r" * 32
CONTENTS = sealing.SealedContents(b"R" * 192, b"P" * 61, b"W" * 61)

with_key = partial(prf.prf, KEY)
contents = st.builds(
    sealing.SealedContents,
    record=st.binary(min_size=192, max_size=192),
    proof_box=st.binary(min_size=61, max_size=61),
    wrapped_key=st.binary(min_size=1, max_size=1024),
)


@given(contents)
def test_what_is_sealed_opens(given_contents):
    sealed = sealing.seal(with_key, 1, RECORD_ID, REGISTRATION_ID, given_contents)
    assert sealing.MIN_SEALED_BYTES <= len(sealed) <= sealing.MAX_SEALED_BYTES
    assert sealing.unseal(with_key, RECORD_ID, REGISTRATION_ID, sealed) == given_contents
    assert sealed == sealing.seal(with_key, 1, RECORD_ID, REGISTRATION_ID, given_contents)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_any_changed_byte_is_noticed(position, difference):
    sealed = bytearray(sealing.seal(with_key, 1, RECORD_ID, REGISTRATION_ID, CONTENTS))
    sealed[position % len(sealed)] ^= difference
    with pytest.raises(SealBroken):
        sealing.unseal(with_key, RECORD_ID, REGISTRATION_ID, bytes(sealed))


@pytest.mark.parametrize(
    ("key", "record_id", "registration_id"),
    [
        (bytes(64), RECORD_ID, REGISTRATION_ID),
        (KEY, b"x" * 32, REGISTRATION_ID),
        (KEY, RECORD_ID, b"x" * 32),
        (KEY, REGISTRATION_ID, RECORD_ID),
    ],
    ids=["another key", "another record", "another registration", "ids exchanged"],
)
def test_it_opens_only_where_it_belongs(key, record_id, registration_id):
    sealed = sealing.seal(with_key, 1, RECORD_ID, REGISTRATION_ID, CONTENTS)
    with pytest.raises(SealBroken):
        sealing.unseal(partial(prf.prf, key), record_id, registration_id, sealed)


@pytest.mark.parametrize("length", [0, 1, 4, 36, 37, sealing.MIN_SEALED_BYTES - 1, 1333])
def test_a_wrong_length_is_refused_before_the_key_is_used(length):
    def never(_message):
        raise AssertionError("the key was used")

    with pytest.raises(SealBroken, match=f"{length} bytes"):
        sealing.unseal(never, RECORD_ID, REGISTRATION_ID, b"\x01" * length)


@pytest.mark.parametrize(
    "field",
    [{"record": b""}, {"proof_box": b"x" * 60}, {"wrapped_key": b""}, {"wrapped_key": b"x" * 1025}],
)
def test_contents_have_exact_lengths(field):
    good = {"record": b"R" * 192, "proof_box": b"P" * 61, "wrapped_key": b"W"}
    with pytest.raises(ValueError, match=next(iter(field))):
        sealing.SealedContents(**{**good, **field})


@pytest.mark.parametrize("plaintext", [b"", b"x" * 254, b"x" * 255, b"x" * 253 + b"\0\2" + b"x"])
def test_inner_lengths_must_add_up(plaintext):
    with pytest.raises(SealBroken, match="inner lengths"):
        sealing.unpack(plaintext)


def test_contents_are_not_shown():
    assert "R" * 8 not in repr(CONTENTS)


def test_the_salt_is_bound_to_the_plaintext():
    sealed = sealing.seal(with_key, 1, RECORD_ID, REGISTRATION_ID, CONTENTS)
    message = enc("seal-salt", RECORD_ID, REGISTRATION_ID, sealing.pack(CONTENTS))
    assert sealed[5:37] == with_key(message)[:32]
