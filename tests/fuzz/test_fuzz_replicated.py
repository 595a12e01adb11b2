"""What peers, logs, snapshots and the store hand to `cluster`: refused as documented, or taken.

What is stored or hashed (records, ledger rows) must also be canonical: one value, one encoding.
"""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from fuzz_kit import decoded, foreign_msgpack, fuzz, spoiled, valid
from hypothesis import given
from hypothesis import strategies as st
from record_kit import (
    ID,
    RULES,
    Phone,
    active,
    att,
    charge,
    delete,
    expire,
    locked,
    locked_with_pending,
    proven,
    run,
    tombstone,
)

from cluster import (
    commands,
    entries,
    frames,
    ledger,
    link_wire,
    manifest,
    membership,
    record,
    stamp,
    tables,
)
from cluster.limits import MAX_FRAME_BYTES
from cluster.manifest import Manifest, SnapshotDamagedError
from cluster.statehash import EMPTY_HASH, StateHash, add, decode_hash, encode_hash
from cluster.store_format import ALL_TABLES, Macs, StoreDamagedError, StoreError, check_format
from engines.encoding import u32
from node import share_messages


def row_after(*steps: Any) -> bytes:
    """The ledger row that a true history leaves."""
    state, row = None, None
    for command in steps:
        state, outcome = record.apply(RULES, state, command)
        row, _ = ledger.after(RULES, command.record_id, row, command, outcome)
    return ledger.encode_row(row)


A, B = Phone("a"), Phone("b", 1)
PENDING_TOO = run(B.register(), record=active(1, 2))
RECORDS = [
    record.encode_record(each)
    for each in (
        active(), active(1), active(*range(10)), PENDING_TOO, proven(), locked(),
        locked_with_pending(), tombstone(),
    )
]  # fmt: skip
BEGUN = (A.register(), A.activate())
ROWS = [
    row_after(*BEGUN),
    row_after(*BEGUN, *(charge(1, n) for n in range(10))),
    row_after(*BEGUN, charge(1, 1), A.prove(1, att(1)), charge(2, 2)),
    row_after(*BEGUN, delete(1)),
    row_after(*BEGUN, *(charge(1, n) for n in range(10)), expire(1)),
]
WIRE = msgspec.DecodeError


@dataclass(frozen=True)
class Codec:
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    refusals: Any
    whole: st.SearchStrategy[bytes]
    canonical: bool = False


def _typed(kind: Any, encode: Callable[[Any], bytes]) -> st.SearchStrategy[bytes]:
    return valid(kind).map(encode)


def _messages(message: Any) -> bytes:
    return share_messages.encode_frame([message])


row = tables.encode_row
CODECS = {
    "a peer frame": Codec(
        frames.decode_frame, frames.encode_frame, frames.FrameError,
        _typed(frames.Frame, frames.encode_frame),
    ),
    "a service frame": Codec(
        share_messages.decode_frame, share_messages.encode_frame, WIRE,
        _typed(share_messages.Message, _messages),
    ),
    "a command": Codec(
        commands.decode_command, commands.encode_command, WIRE,
        _typed(commands.Command, commands.encode_command),
    ),
    "a log entry": Codec(
        entries.decode_entry, entries.encode_entry, WIRE,
        _typed(list[entries.Sent], entries.encode_entry),
    ),
    "a manifest": Codec(
        manifest.decode_manifest, manifest.encode_manifest, SnapshotDamagedError,
        _typed(Manifest, manifest.encode_manifest),
    ),
    "a stamp": Codec(
        stamp.decode_stamp, msgspec.msgpack.encode, stamp.StampError,
        _typed(stamp.Stamp, msgspec.msgpack.encode),
    ),
    "an identity row": Codec(tables.decode_identity, row, WIRE, _typed(tables.Identity, row)),
    "a ledger totals row": Codec(tables.decode_totals, row, WIRE, _typed(tables.LedgerTotals, row)),
    "a group row": Codec(tables.decode_group, row, WIRE, _typed(tables.GroupRow, row)),
    "a marks row": Codec(tables.decode_marks, row, WIRE, _typed(tables.MarkRow, row)),
    "a record": Codec(
        record.decode_record, record.encode_record, WIRE, st.sampled_from(RECORDS), canonical=True
    ),
    "a record of any fields": Codec(
        record.decode_record, record.encode_record, WIRE,
        _typed(record.Record, record.encode_record), canonical=True,
    ),
    "a ledger row": Codec(
        ledger.decode_row, ledger.encode_row, WIRE, st.sampled_from(ROWS), canonical=True
    ),
    "a ledger row of any fields": Codec(
        ledger.decode_row, ledger.encode_row, WIRE, _typed(ledger.LedgerRow, ledger.encode_row),
        canonical=True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CODECS)
@fuzz(72)
@given(data=st.data())
def test_a_decoder_of_the_cluster_refuses_or_understands_to_the_last_byte(name, data):
    codec = CODECS[name]
    foreign = data.draw(foreign_msgpack(codec.whole))
    value = decoded(codec.decode, codec.refusals, foreign)
    if value is None or not foreign:  # an empty entry is a new leader's
        return
    again = codec.encode(value)
    assert codec.encode(codec.decode(again)) == again
    if codec.canonical:
        assert again == foreign


@pytest.mark.parametrize("name", CODECS)
def test_what_is_encoded_here_is_decoded_here(name):
    """The control: the examples are no idle talk."""
    codec = CODECS[name]
    taken = []

    @fuzz(60)
    @given(codec.whole)
    def each(whole):
        value = decoded(codec.decode, codec.refusals, whole)
        if value is not None:
            assert codec.encode(value) == whole
            taken.append(value)

    each()
    assert taken or "of any fields" in name


BOMBS = {
    "an array of four billion": b"\xdd" + b"\xff" * 4,
    "a map of four billion": b"\xdf" + b"\xff" * 4,
    "bytes of four billion": b"\xc6" + b"\xff" * 4,
    "text of four billion": b"\xdb" + b"\xff" * 4,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
@pytest.mark.parametrize("name", CODECS)
def test_a_length_that_lies_costs_no_memory(name, bomb):
    codec = CODECS[name]
    # Where a valid encoding has its second value, and as the whole of it.
    for data in (bomb, b"\x92\x01" + bomb, b"\x93\x01\x01" + bomb, b"\x98\x01\x01" + bomb):
        tracemalloc.start()
        try:
            assert decoded(codec.decode, codec.refusals, data) is None
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


NOT_UTF8 = b"\xa5\xa5oing"


@pytest.mark.parametrize(
    ("decode", "refusal", "data"),
    [
        (frames.decode_frame, frames.FrameError, b"\x93\x01\x01\x91\x94\x0b\x00\xa1a" + NOT_UTF8),
        (frames.decode_frame, frames.FrameError, b"\x93\x01\x01\x91\x95\x05\x00" + NOT_UTF8),
        (share_messages.decode_frame, WIRE, b"\x92\x01\x91\x94\xa8declined\x01" + NOT_UTF8),
        (manifest.decode_manifest, SnapshotDamagedError, b"\x99\x01" + NOT_UTF8),
    ],
    ids=["a snapshot's state", "a refusal's reason", "a decline's reason", "a snapshot's name"],
)
def test_text_that_is_not_utf8_is_refused_like_any_other_malformed_frame(decode, refusal, data):
    """It was another exception than the documented one, and ended every node that read it."""
    with pytest.raises(refusal):
        decode(data)


# ------------------------------------------------------------------ plain layouts


@fuzz(60)
@given(st.one_of(st.binary(max_size=64), st.binary(min_size=32, max_size=32)))
def test_a_state_hash_is_thirty_two_bytes_or_refused(data):
    value = decoded(decode_hash, ValueError, data)
    assert (value is not None) == (len(data) == 32)
    assert value is None or encode_hash(value) == data


FRAMES = st.lists(
    st.tuples(st.sampled_from(link_wire.CHANNELS), st.binary(max_size=50)), min_size=1, max_size=4
)


def joined(pairs: list[tuple[int, bytes]]) -> bytes:
    return b"".join(link_wire.head(channel, payload) + payload for channel, payload in pairs)


@fuzz(180)
@given(st.one_of(FRAMES.map(joined), st.binary(max_size=60), spoiled(FRAMES.map(joined))))
def test_a_link_message_is_whole_frames_or_refused(data):
    pairs = decoded(lambda d: list(link_wire.frames(d)), link_wire.WireError, data)
    assert pairs is None or joined(pairs) == data


@pytest.mark.parametrize("length", [MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_a_link_frame_beyond_the_limit_is_refused_before_it_is_read(length):
    data = b"\x01" + u32(length) + b"x"
    assert decoded(lambda d: list(link_wire.frames(d)), link_wire.WireError, data) is None


class OneFile:
    """`SnapshotFiles` with one file, given out in small pieces."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def open(self, name: str) -> OneFile:
        return self

    def read(self, size: int) -> bytes:
        chunk = self.data[self.at : self.at + min(size, 97)]
        self.at += len(chunk)
        return chunk

    def close(self) -> None:
        pass


def snapshot(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(record_id + u32(len(value)) + value for record_id, value in pairs)


def described(data: bytes, pairs: list[tuple[bytes, bytes]], **lies: Any) -> Manifest:
    state: StateHash = EMPTY_HASH
    for record_id, value in pairs:
        state = add(state, record_id, value)
    said = Manifest(
        "out-0-1", 0, 9, 2, len(data), hashlib.sha256(data).digest(), len(pairs), encode_hash(state)
    )
    return msgspec.structs.replace(said, **lies)


PAIRS = st.lists(
    st.tuples(st.binary(min_size=32, max_size=32), st.sampled_from(RECORDS)), max_size=4
)


@fuzz(120)
@given(PAIRS, st.data())
def test_a_snapshot_file_is_what_its_manifest_says_or_refused(pairs, data):
    file = snapshot(pairs)
    said = described(file, pairs)
    assert manifest.read(OneFile(file), "in", said) == pairs
    foreign = data.draw(spoiled(st.just(file)))
    if foreign == file:
        return
    with pytest.raises(SnapshotDamagedError):
        manifest.read(OneFile(foreign), "in", said)
    # Its own manifest may be forged as well: then it splits into the same bytes, or not at all.
    for lies in ({}, {"size": 0}, {"records": 0}, {"hash": bytes(32)}, {"sha256": bytes(32)}):
        forged = described(foreign, pairs, **lies)
        found = decoded(lambda _f, m=forged: manifest.read(OneFile(foreign), "in", m),
                        SnapshotDamagedError, foreign)  # fmt: skip
        assert found is None or (snapshot(found) == foreign and not lies)


MACS = Macs(bytes(32))


@fuzz(120)
@given(st.sampled_from(ALL_TABLES), st.binary(max_size=43), st.binary(max_size=80), st.data())
def test_a_stored_value_opens_only_as_it_was_written(table, key, value, data):
    stored = MACS.mac(table, key, value) + value
    assert MACS.open(table, key, stored) == value
    foreign = data.draw(spoiled(st.just(stored)) | st.binary(max_size=40))
    if foreign != stored:
        with pytest.raises(StoreDamagedError, match="not what was written"):
            MACS.open(table, key, foreign)
    if data.draw(st.booleans()):
        with pytest.raises(StoreDamagedError):
            MACS.open(table, key + b"\0", stored)


@fuzz(60)
@given(st.one_of(st.none(), st.binary(max_size=60)))
def test_a_store_of_another_format_is_told_apart(stored):
    with pytest.raises(StoreError):
        check_format(MACS, stored, "here")


def test_the_record_of_one_account_is_not_bound_to_another():
    for stored in RECORDS:
        found = record.decode_record(stored)
        assert record.is_bound(ID, found)
        bare = found.active is None and found.pending is None
        assert record.is_bound(bytes(32), found) == bare


CHANGES = st.builds(
    lambda kind, node, revision: membership.encode_change(
        membership.Change(membership.Kind(kind), node, revision)
    ),
    st.sampled_from([kind.value for kind in membership.Kind]),
    st.integers(1, 2**53 - 1),
    st.integers(0, 2**53 - 1),
)


@fuzz(150)
@given(st.integers(1, 2), st.one_of(CHANGES, spoiled(CHANGES), st.binary(max_size=40)))
def test_a_change_of_members_in_a_forged_log_is_one_of_ours_or_none(kind, data):
    change = decoded(lambda each: membership.decode_change(kind, each), (), data)
    if change is not None:
        again = membership.encode_change(change)
        assert membership.decode_change(2, again) == change


@fuzz(60)
@given(CHANGES)
def test_a_change_of_members_is_decoded_as_it_was_made(data):
    change = membership.decode_change(2, data)
    assert change is not None
    assert membership.encode_change(change) == data
