"""enc in Python, in Rust and in the independent client: one function, written three times."""

from __future__ import annotations

import pytest
import sodium_client
from hypothesis import given
from hypothesis import strategies as st

from engines import _engines, encoding

LABELS = st.text(st.characters(max_codepoint=127), max_size=240)
FIELDS = st.lists(st.binary(max_size=300), max_size=40)


@given(LABELS, FIELDS)
def test_python_and_rust_and_the_independent_client_encode_alike(
    label: str, fields: list[bytes]
) -> None:
    expected = encoding.enc(label, *fields)
    assert _engines.enc(label, fields) == expected
    assert sodium_client.encode(label, *fields) == expected


@given(LABELS, FIELDS, LABELS, FIELDS)
def test_different_input_never_encodes_alike(
    label: str, fields: list[bytes], other_label: str, other_fields: list[bytes]
) -> None:
    same_input = (label, fields) == (other_label, other_fields)
    same_bytes = _engines.enc(label, fields) == _engines.enc(other_label, other_fields)
    assert same_input == same_bytes


@pytest.mark.parametrize("count", [0, 1, 254, 255])
def test_up_to_255_fields_are_encoded_alike(count: int) -> None:
    fields = [bytes((i,)) for i in range(count)]
    assert _engines.enc("many", fields) == encoding.enc("many", *fields)


@pytest.mark.parametrize(
    ("label", "fields"),
    [
        ("x" * 241, []),
        ("x", [b""] * 256),
        ("é", []),
        ("\x80", [b"field"]),
        ("\ud800", []),
    ],
    ids=["label too long", "256 fields", "not ASCII", "above ASCII", "lone surrogate"],
)
def test_both_halves_refuse_what_does_not_fit(label: str, fields: list[bytes]) -> None:
    with pytest.raises(ValueError):
        encoding.enc(label, *fields)
    with pytest.raises(ValueError):
        _engines.enc(label, fields)


@given(st.binary(max_size=80))
def test_base64url_comes_back_as_it_went(data: bytes) -> None:
    text = encoding.b64u_encode(data)
    assert encoding.b64u_decode(text) == data
    assert encoding.b64u_decode(text, len(data)) == data
    with pytest.raises(ValueError):
        encoding.b64u_decode(text, len(data) + 1)


@pytest.mark.parametrize(
    "text",
    ["AA==", "AA=", "AB", "AAB", "A", "AAAAA", "A+/A", "AA A", "AA\n", "AAé", "=", "AA.A"],
)
def test_base64url_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        encoding.b64u_decode(text)
