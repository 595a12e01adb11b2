"""The incremental hash of a shard: independent of order, sensitive to every byte."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.statehash import EMPTY_HASH, add, decode_hash, encode_hash, remove, replace
from cluster.types import InvariantError

ids = st.binary(min_size=32, max_size=32)
shards = st.dictionaries(ids, st.binary(max_size=80), max_size=8)


def whole(shard):
    state = EMPTY_HASH
    for record_id, value in shard.items():
        state = add(state, record_id, value)
    return state


@settings(deadline=None, database=None)
@given(shards, st.randoms())
def test_the_hash_is_the_sum_of_its_records_in_any_order(shard, random):
    items = list(shard.items())
    random.shuffle(items)
    total = sum(int.from_bytes(hashlib.sha256(k + v).digest(), "big") for k, v in items)
    assert encode_hash(whole(dict(items))) == (total % 2**256).to_bytes(32, "big")


@settings(deadline=None, database=None)
@given(shards, ids, st.none() | st.binary(max_size=80), st.none() | st.binary(max_size=80))
def test_replace_leads_where_counting_anew_leads(shard, record_id, old, new):
    def holding(value):
        rest = {k: v for k, v in shard.items() if k != record_id}
        return whole(rest if value is None else {**rest, record_id: value})

    assert replace(holding(old), record_id, old, new) == holding(new)


def test_remove_undoes_add_across_zero():
    first, second = bytes(32), bytes(31) + b"\x01"
    state = add(EMPTY_HASH, first, b"v")
    assert remove(remove(add(state, second, b"w"), first, b"v"), second, b"w") == EMPTY_HASH
    below = remove(EMPTY_HASH, first, b"v")
    assert add(below, first, b"v") == EMPTY_HASH
    assert len(encode_hash(below)) == 32


def test_one_changed_byte_of_value_or_id_changes_the_hash():
    state = add(EMPTY_HASH, bytes(32), b"value")
    assert state != add(EMPTY_HASH, bytes(32), b"valuf")
    assert state != add(EMPTY_HASH, bytes(31) + b"\x01", b"value")


@pytest.mark.parametrize("record_id", [b"", bytes(31), bytes(33)])
def test_an_id_of_another_length_stops_the_node(record_id):
    with pytest.raises(InvariantError, match="32 bytes"):
        add(EMPTY_HASH, record_id, b"")


def test_a_stored_hash_comes_back_and_has_32_bytes():
    state = add(EMPTY_HASH, bytes(32), b"value")
    assert decode_hash(encode_hash(state)) == state
    for size in (0, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            decode_hash(bytes(size))
