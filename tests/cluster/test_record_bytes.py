"""The stored bytes of a record: canonical, small, and every damage refused."""

from __future__ import annotations

import msgspec
import pytest
from record_kit import A, Phone, active, att, h, proven, run

from cluster.record import (
    MAX_LIMIT,
    MAX_RECORD_BYTES,
    RECORD_OVERHEAD_BYTES,
    LastProof,
    Record,
    Registration,
    decode_record,
    encode_record,
)
from cluster.types import MAX_COUNTER


def test_a_record_without_open_attempts_is_small_beside_its_sealed_registration():
    big = MAX_COUNTER - 1
    sealed = bytes(1332)
    registration = Registration(A.id, big - 3, A.request, A.key, sealed)
    record = Record(
        big, big - 1, registration, None, (), LastProof(att(1), big - 2, bytes(64)), False
    )
    data = encode_record(record)
    assert decode_record(data) == record
    assert len(data) - len(sealed) <= RECORD_OVERHEAD_BYTES


def test_the_largest_record_is_within_the_bound():
    big = MAX_COUNTER - 1
    a = Registration(h(1), big - 3, h(2), h(3), bytes(1332))
    b = Registration(h(4), big - 1, h(5), h(6), bytes(1332))
    attempts = tuple(att(n) for n in range(MAX_LIMIT))
    record = Record(big, big - 1, a, b, attempts, LastProof(att("p"), big - 2, bytes(64)), False)
    data = encode_record(record)
    assert len(data) <= MAX_RECORD_BYTES
    assert decode_record(data) == record
    with pytest.raises(msgspec.DecodeError, match="at most"):
        decode_record(data + bytes(MAX_RECORD_BYTES))


def raw(record):
    return msgspec.msgpack.decode(encode_record(record))


def packed(value):
    return msgspec.msgpack.encode(value)


SAMPLE = run(Phone("b", era=2).register(), record=proven())
WRONG = {
    "nil": None,
    "text": "text",
    "float": 1.5,
    "bool": True,
    "negative": -1,
    "too large": MAX_COUNTER,
    "bytes": b"12",
    "map": {},
    "nested": [[[]]],
}


def paths(value, here=()):
    """Every place of a raw record: each field of each nested array."""
    for i, item in enumerate(value):
        yield (*here, i)
        if isinstance(item, list):
            yield from paths(item, (*here, i))


def at(value, path):
    for i in path:
        value = value[i]
    return value


def put(value, path, new):
    copy = [*value]
    copy[path[0]] = new if len(path) == 1 else put(copy[path[0]], path[1:], new)
    return copy


PLACES = list(paths(raw(SAMPLE)))
OPTIONAL = {(3,), (4,), (6,)}  # none is a value here, judged by the rules of a record
RIGHT = {("bool", (7,)), *(("nil", path) for path in OPTIONAL)}


@pytest.mark.parametrize(
    ("wrong", "path"),
    [(wrong, path) for wrong in WRONG for path in PLACES if (wrong, path) not in RIGHT],
    ids=str,
)
def test_a_field_of_the_wrong_type_is_refused(wrong, path):
    assert at(raw(SAMPLE), path) != WRONG[wrong] or wrong == "bool"
    with pytest.raises(msgspec.DecodeError):
        decode_record(packed(put(raw(SAMPLE), path, WRONG[wrong])))


@pytest.mark.parametrize("path", [(), (3,), (4,), (6,)], ids=str)
def test_a_missing_or_an_extra_field_is_refused(path):
    whole = raw(SAMPLE)
    fields = at(whole, path)
    for damaged in (
        *(fields[:i] + fields[i + 1 :] for i in range(len(fields))),
        [*fields, 0],
        [*fields, None],
        [],
    ):
        with pytest.raises(msgspec.DecodeError):
            decode_record(packed(put(whole, path, damaged) if path else damaged))


@pytest.mark.parametrize(
    "path", [p for p in PLACES if isinstance(at(raw(SAMPLE), p), bytes)], ids=str
)
def test_bytes_too_long_or_too_short_are_refused(path):
    good = at(raw(SAMPLE), path)
    sealed = len(good) > 64
    for size in (0, 308, 1333) if sealed else (0, len(good) - 1, len(good) + 1):
        with pytest.raises(msgspec.DecodeError):
            decode_record(packed(put(raw(SAMPLE), path, bytes(size))))


@pytest.mark.parametrize("tag", [0, 2, "record", None])
def test_another_format_version_is_refused(tag):
    with pytest.raises(msgspec.DecodeError):
        decode_record(packed(put(raw(SAMPLE), (0,), tag)))


def test_truncated_or_trailing_bytes_are_refused():
    data = encode_record(SAMPLE)
    for cut in range(len(data)):
        with pytest.raises(msgspec.DecodeError):
            decode_record(data[:cut])
    with pytest.raises(msgspec.DecodeError):
        decode_record(data + b"\x00")


def test_an_encoding_that_is_not_canonical_is_refused():
    data = encode_record(SAMPLE)
    assert data[2] == SAMPLE.version
    longer = data[:2] + b"\xcc" + data[2:]  # the same version as a two-byte integer
    with pytest.raises(msgspec.ValidationError, match="canonical"):
        decode_record(longer)
    as_array16 = b"\xdc\x00" + bytes([data[0] & 0x0F]) + data[1:]
    with pytest.raises(msgspec.ValidationError, match="canonical"):
        decode_record(as_array16)


def test_too_many_listed_attempts_are_refused():
    many = tuple(att(n) for n in range(MAX_LIMIT + 1))
    with pytest.raises(msgspec.DecodeError):
        decode_record(encode_record(msgspec.structs.replace(active(), attempts=many)))


PROOF = SAMPLE.last_proof


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": SAMPLE.era}, "no more versions"),
        ({"active": None}, "without an active"),
        ({"active": None, "attempts": ()}, "without an active"),
        ({"active": None, "last_proof": None}, "without an active"),
        ({"locked": True}, "locked and has an active"),
        ({"era": 0, "pending": None, "last_proof": None}, "own era or a later"),
        ({"pending": msgspec.structs.replace(SAMPLE.pending, birth_era=3)}, "from a later era"),
        ({"pending": SAMPLE.active}, "both active and pending"),
        ({"attempts": (att(1), att(1))}, "twice"),
        ({"attempts": (PROOF.attempt_id,)}, "attempt of its last proof"),
        ({"last_proof": msgspec.structs.replace(PROOF, era=2)}, "did not end the era"),
        ({"last_proof": msgspec.structs.replace(PROOF, era=0)}, "did not end the era"),
        (
            {"active": msgspec.structs.replace(SAMPLE.active, birth_era=1)},
            "before its registration was active",
        ),
    ],
)
def test_a_state_that_no_command_leads_to_is_refused(changes, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        decode_record(encode_record(msgspec.structs.replace(SAMPLE, **changes)))


def test_apply_gives_the_same_bytes_for_the_same_commands():
    first, second = (
        encode_record(run(Phone("b", era=2).register(), record=proven())) for _ in "12"
    )
    assert first == second
