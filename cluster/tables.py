"""Keys and row types of the six tables; the only place that knows how durable bytes are laid out.

meta holds who this directory is and the ledger's totals; group one row per shard with everything
that must change together (hard state, applied, ConfState, state hash), so that commit and applied
are never torn apart (I8); log, records, ledger and marks are one row per thing. Rows are msgpack
with a version tag; the store adds and checks a MAC over table, key and value.
"""

# ruff: noqa: TC001 - msgspec reads the annotations at run time

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from cluster.decoding import Decoder
from cluster.frames import ShardMark
from cluster.statehash import EMPTY_HASH, encode_hash
from cluster.types import NodeId, ShardId
from engines.encoding import u8, u16, u64

META_IDENTITY: Final = b"identity"
META_LEDGER: Final = b"ledger"
RECORD_KEY_PREFIX_BYTES: Final = 3
FIRST_INDEX: Final = 1
FIRST_TERM: Final = 1
"""Every node starts as if entry 1 of term 1, holding the founding ConfState, were applied and cut
from the log. Five empty directories agree without a word; and a node that joins later knows the
ConfState that the log from entry 2 on goes on from."""


class Identity(Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """Whose directory this is, and the latest incarnation that wrote to it."""

    cluster_id: bytes
    node_id: int
    shards: int
    limit: int
    incarnation: int


class LedgerTotals(Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """Row count and hash over the whole ledger table, checked at boot."""

    rows: int
    hash: bytes


class GroupRow(Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """One shard's durable Raft state and the state of its records, in one row."""

    term: int
    vote: int
    commit: int
    applied: int
    applied_term: int
    truncated_index: int
    truncated_term: int
    voters: tuple[int, ...]
    learners: tuple[int, ...]
    slot: int
    """Which of the two record slots is the shard's; the other one is for staging a snapshot."""
    records: int
    hash: bytes
    revision: int = 0
    """Highest revision of cluster.json that an applied change of members carried."""
    ledger: bool = True
    """The ledger of this shard is complete: a founder's always, a joiner's once it is merged."""


class MarkRow(Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """What this node remembers of another one."""

    incarnation: int
    nonce: bytes
    marks: tuple[ShardMark, ...]


_encoder = msgspec.msgpack.Encoder()
_identity = Decoder(Identity)
_totals = Decoder(LedgerTotals)
_group = Decoder(GroupRow)
_mark = Decoder(MarkRow)

encode_row = _encoder.encode
decode_identity = _identity.decode
decode_totals = _totals.decode
decode_group = _group.decode
decode_marks = _mark.decode


def founding_group(voters: tuple[int, ...], *, ledger: bool = True) -> GroupRow:
    """The row of a shard in an empty directory; see FIRST_INDEX for why it is not all zeros.

    `voters` are the founders, also in the directory of a node that joins later (`ledger` false):
    it is none of them, so it cannot campaign, and the log or a snapshot tells it of itself.
    """
    return GroupRow(
        term=FIRST_TERM,
        vote=0,
        commit=FIRST_INDEX,
        applied=FIRST_INDEX,
        applied_term=FIRST_TERM,
        truncated_index=FIRST_INDEX,
        truncated_term=FIRST_TERM,
        voters=voters,
        learners=(),
        slot=0,
        records=0,
        hash=encode_hash(EMPTY_HASH),
        ledger=ledger,
    )


def group_key(shard: ShardId) -> bytes:
    """Key in `group`."""
    return u16(shard)


def log_key(shard: ShardId, index: int) -> bytes:
    """Key in `log`."""
    return u16(shard) + u64(index)


def log_value(term: int, kind: int, data: bytes) -> bytes:
    """Value in `log`."""
    return u64(term) + u8(kind) + data


def split_log_value(value: bytes) -> tuple[int, int, bytes]:
    """(term, kind, data)."""
    return int.from_bytes(value[:8], "big"), value[8], value[9:]


def record_prefix(shard: ShardId, slot: int) -> bytes:
    """First bytes of every key in `records` of one shard and slot."""
    return u16(shard) + u8(slot)


def slot_range(shard: ShardId, slot: int) -> tuple[bytes, bytes]:
    """(lo, hi) of one slot of a shard in `records`."""
    prefix = record_prefix(shard, slot)
    return prefix, u16(shard) + u8(slot + 1)


def marks_key(node: NodeId) -> bytes:
    """Key in `marks`."""
    return u64(node)


WHOLE_TABLE: Final = (b"", b"\xff" * 48)
"""(lo, hi) beyond every key of any table."""
