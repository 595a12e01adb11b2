"""What may enter the log: every command comes back from its bytes, every damage is refused."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from record_kit import ID, A, att, charge, delete, expire

from cluster.commands import (
    MAX_COMMAND_BYTES,
    Activate,
    Barrier,
    Charge,
    Prove,
    Register,
    Status,
    decode_command,
    encode_command,
)
from cluster.record import Rules, apply
from cluster.types import MAX_COUNTER

COMMANDS = [
    A.register(),
    A.activate(),
    charge(1, 1),
    A.prove(1, att(1)),
    expire(1),
    delete(1),
    Barrier(),
]
NAMES = [type(command).__name__ for command in COMMANDS]


def raw(command):
    return msgspec.msgpack.decode(encode_command(command))


def damaged(command):
    """Each field gone, of another type, of another size, out of range; and one too many."""
    value = raw(command)
    for i, item in enumerate(value):
        yield value[:i] + value[i + 1 :]
        others = (None, "text", 1.5, -1, MAX_COUNTER, True, b"", {}, [])
        for bad in others:
            yield [*value[:i], bad, *value[i + 1 :]]
        if isinstance(item, bytes):
            sizes = (308, 1333) if len(item) > 64 else (len(item) - 1, len(item) + 1)
            for size in sizes:
                yield [*value[:i], bytes(size), *value[i + 1 :]]
    yield [*value, 0]
    yield [*value, None]
    yield dict.fromkeys(map(str, value))


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_a_command_comes_back_from_its_bytes(command):
    assert decode_command(encode_command(command)) == command


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_a_command_damaged_in_any_field_is_refused(command):
    for value in damaged(command):
        with pytest.raises(msgspec.DecodeError):
            decode_command(msgspec.msgpack.encode(value))


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_a_command_cut_or_extended_is_refused(command):
    data = encode_command(command)
    for cut in range(len(data)):
        with pytest.raises(msgspec.DecodeError):
            decode_command(data[:cut])
    with pytest.raises(msgspec.DecodeError):
        decode_command(data + b"\x00")


@pytest.mark.parametrize("tag", ["reset", "Charge", "", 1, None, b"charge"])
def test_an_unknown_command_is_refused(tag):
    with pytest.raises(msgspec.DecodeError):
        decode_command(msgspec.msgpack.encode([tag, *raw(charge(1, 1))[1:]]))


def test_the_largest_command_is_within_the_bound_and_anything_longer_refused_unread():
    top = MAX_COUNTER - 1
    data = encode_command(Register(ID, top, A.request, A.key, bytes(1332)))
    assert len(data) <= MAX_COMMAND_BYTES
    assert decode_command(data).era == top
    with pytest.raises(msgspec.DecodeError, match="at most"):
        decode_command(data + bytes(MAX_COMMAND_BYTES))


def test_the_golden_signatures_activate_and_prove():
    """vectors.json was made by unrelated code: its registration lives through the machine."""
    path = Path(__file__).parents[1] / "vectors.json"
    vectors = json.loads(path.read_text())
    v = {k: x for k, x in vectors["ids"].items() if isinstance(x, str)}
    rules = Rules(UUID(v["cluster_id"]), 10)
    record_id, reg_id, attempt = (
        bytes.fromhex(v[name]) for name in ("record_id", "registration_id", "attempt_id")
    )
    request, key = bytes.fromhex(v["request"]), bytes.fromhex(v["proof_key"])
    signatures = {
        k: bytes.fromhex(str(x)) for k, x in vectors["signatures"].items() if len(str(x)) == 128
    }
    birth, proof_era = vectors["ids"]["era"], vectors["signatures"]["prove_era"]
    assert proof_era == birth + 1

    record = None
    for era in range(birth):  # other registrations, deleted again, bring the record to era 7
        filler = Register(record_id, era, request, key, bytes(320))
        record, _ = apply(rules, record, filler)
        record, _ = apply(rules, record, type(delete(0))(record_id, era))
    for command in (
        Register(record_id, birth, request, key, bytes(320)),
        Activate(record_id, reg_id, signatures["activate"]),
        Charge(record_id, proof_era, attempt),
        Prove(record_id, reg_id, proof_era, attempt, signatures["prove"]),
    ):
        record, outcome = apply(rules, record, command)
        assert outcome.status is Status.DONE
    assert record.active.registration_id == reg_id
    assert record.era == proof_era + 1
