"""Read a data directory and the HSM's stamp, and decide whether this node may start (I8, I9).

Everything durable is read once: identity, every group row and log, every record and ledger row
(counts and hashes are recomputed and compared), and what is remembered of the peers. Refused in
one line: an empty directory under a used enrolment, a directory older than its stamp, a foreign
one, and anything that does not add up. Writes nothing: the first batch is the host's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from cluster import ledger, statehash
from cluster.next_step import for_node, replace_node
from cluster.ports import TABLES
from cluster.record import RecordState, decode_record, no_records, state_of
from cluster.stamp import Stamp, StampError, decode_stamp
from cluster.statehash import EMPTY_HASH, StateHash
from cluster.tables import (
    META_IDENTITY,
    META_LEDGER,
    RECORD_KEY_PREFIX_BYTES,
    WHOLE_TABLE,
    GroupRow,
    Identity,
    MarkRow,
    decode_group,
    decode_identity,
    decode_marks,
    decode_totals,
    founding_group,
    group_key,
    log_key,
    slot_range,
    split_log_value,
)
from cluster.types import NodeId, RecordId, ShardId
from engines.identifiers import shard_of

if TYPE_CHECKING:
    from cluster.api import Shape
    from cluster.ports import ReadView, Table
    from engines._engines import Entry


class BootRefused(Exception):  # noqa: N818 - it says what happened, and the node ends with it
    """This directory must not run; one line: what is wrong and the next step."""


class _Lost(Exception):  # noqa: N818 - as above
    """The directory must never be used again; `boot` adds the next step."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """One shard as stored."""

    shard: ShardId
    row: GroupRow
    entries: tuple[Entry, ...]
    full: dict[RecordId, int]
    """Records whose list is full, with their era."""
    states: dict[RecordState, int]
    """How many records are in each state."""
    leftovers: bool
    """The staging slot holds records of an install that was not finished."""

    @property
    def last(self) -> tuple[int, int]:
        """(index, term) of the last log entry."""
        if self.entries:
            return self.entries[-1][0], self.entries[-1][1]
        return self.row.truncated_index, self.row.truncated_term


@dataclass(frozen=True, slots=True)
class BootState:
    """What the host starts from."""

    founding: bool
    """The directory is empty and the enrolment unused: the host writes it first."""
    incarnation: int
    """This boot's: the stamp's + 1."""
    incarnation_on_disk: bool
    """An earlier try of this very boot wrote it already."""
    groups: tuple[GroupState, ...]
    ledger_rows: int
    ledger_hash: StateHash
    marks: dict[NodeId, MarkRow]


def boot(store: ReadView, stamp_data: bytes, shape: Shape) -> BootState:
    """Read and check everything.

    Args:
        store: the opened store of this node.
        stamp_data: what the HSM keeps for this node.
        shape: the cluster, and who this node is.

    Raises:
        BootRefused: with the line to print; the node must not start.

    """
    retirement = shape.retirement()
    if retirement is not None:
        raise BootRefused(retirement)
    try:
        stamp = decode_stamp(stamp_data)
    except StampError as error:
        raise BootRefused(for_node(str(error), shape.node_id)) from error
    if stamp.cluster_id != shape.cluster_id.bytes or stamp.node_id != shape.node_id:
        raise BootRefused(
            f"the HSM is enrolled for node {stamp.node_id} of another cluster or another node than"
            f" {shape.node_id}: check node_id and the token's label"
        )
    try:
        stored = store.get("meta", META_IDENTITY)
        if stored is None:
            return _found(store, stamp, shape)
        return _resume(store, stamp, shape, decode_identity(stored))
    except msgspec.DecodeError as error:
        raise BootRefused(
            f"the data directory does not decode ({error}): {replace_node(shape.node_id)}"
        ) from error
    except _Lost as lost:
        raise BootRefused(f"{lost}: {replace_node(shape.node_id)}") from lost


def _found(store: ReadView, stamp: Stamp, shape: Shape) -> BootState:
    """An empty directory: allowed only to a node that never ran."""
    if any(_some(store, table) for table in TABLES):
        raise _Lost("the data directory has contents but no identity")
    if stamp.incarnation != 0:
        raise _Lost(
            f"the data directory is empty, but node {shape.node_id} has run before (incarnation"
            f" {stamp.incarnation}): mount its disk if that is missing; if it is lost, so are its"
            " votes and its ledger"
        )
    row = founding_group(shape.founders, ledger=shape.node_id in shape.founders)
    return BootState(
        founding=True,
        incarnation=1,
        incarnation_on_disk=False,
        groups=tuple(
            GroupState(ShardId(shard), row, (), {}, no_records(), leftovers=False)
            for shard in range(shape.shards)
        ),
        ledger_rows=0,
        ledger_hash=EMPTY_HASH,
        marks={},
    )


def _some(store: ReadView, table: Table) -> bool:
    return next(iter(store.items(table, *WHOLE_TABLE)), None) is not None


def _resume(store: ReadView, stamp: Stamp, shape: Shape, identity: Identity) -> BootState:
    _check_identity(identity, stamp, shape)
    groups = tuple(_group(store, shape, ShardId(shard)) for shard in range(shape.shards))
    _check_stamp(groups, stamp)
    rows, rows_hash = _ledger(store)
    return BootState(
        founding=False,
        incarnation=stamp.incarnation + 1,
        incarnation_on_disk=identity.incarnation == stamp.incarnation + 1,
        groups=groups,
        ledger_rows=rows,
        ledger_hash=rows_hash,
        marks={
            NodeId(int.from_bytes(key, "big")): decode_marks(value)
            for key, value in store.items("marks", *WHOLE_TABLE)
        },
    )


def _check_identity(identity: Identity, stamp: Stamp, shape: Shape) -> None:
    if identity.cluster_id != shape.cluster_id.bytes:
        raise BootRefused("the data directory belongs to another cluster: check data_dir")
    if identity.node_id != shape.node_id:
        raise BootRefused(
            f"the data directory belongs to node {identity.node_id}, not {shape.node_id}: check"
            " data_dir and node_id"
        )
    if (identity.shards, identity.limit) != (shape.shards, shape.limit):
        raise BootRefused(
            f"the data directory was made for {identity.shards} shards and limit {identity.limit},"
            f" cluster.json says {shape.shards} and {shape.limit}: bring back the old cluster.json"
        )
    if identity.incarnation < stamp.incarnation:
        raise _Lost(
            f"the data directory is older than the HSM's stamp (incarnation"
            f" {identity.incarnation} < {stamp.incarnation}): it is an old copy: put the"
            " right one back; if that is lost"
        )
    if identity.incarnation > stamp.incarnation + 1:
        raise BootRefused(
            f"the HSM's stamp is older than the data directory (incarnation {stamp.incarnation} <"
            f" {identity.incarnation}): this is not the token it ran with; insert that one"
        )


def _check_stamp(groups: tuple[GroupState, ...], stamp: Stamp) -> None:
    """Rule (b)."""
    if stamp.shards and len(stamp.shards) != len(groups):
        raise BootRefused("the HSM's stamp has another number of shards: check the token's label")
    for group, stamped in zip(groups, stamp.shards, strict=False):
        row = group.row
        newer_term = stamped.term < row.term
        same_vote = stamped.term == row.term and stamped.vote in (0, row.vote)
        if not (newer_term or same_vote) or row.applied < stamped.applied:
            raise _Lost(
                f"the data directory is older than the HSM's stamp (shard {group.shard}: term"
                f" {row.term} vote {row.vote} applied {row.applied}, stamped {stamped.term}"
                f" {stamped.vote} {stamped.applied}): it is an old copy: put the"
                " right one back; if that is lost"
            )


def _group(store: ReadView, shape: Shape, shard: ShardId) -> GroupState:
    stored = store.get("group", group_key(shard))
    if stored is None:
        raise _Lost(f"shard {shard} has no group row: the data directory is damaged")
    row = decode_group(stored)
    entries = _entries(store, shard, row)
    last = entries[-1][0] if entries else row.truncated_index
    if not row.truncated_index <= row.applied <= row.commit <= last:
        raise _Lost(
            f"shard {shard}: cut {row.truncated_index}, applied {row.applied}, commit {row.commit},"
            f" last {last} are out of order: the data directory is damaged"
        )
    full, states = _records(store, shape, shard, row)
    other = next(iter(store.items("records", *slot_range(shard, row.slot ^ 1))), None)
    return GroupState(shard, row, entries, full, states, leftovers=other is not None)


def _entries(store: ReadView, shard: ShardId, row: GroupRow) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    expected = row.truncated_index + 1
    for key, value in store.items("log", log_key(shard, 0), log_key(ShardId(shard + 1), 0)):
        index = int.from_bytes(key[2:], "big")
        if index != expected:
            raise _Lost(
                f"shard {shard}: log entry {expected} is missing: the data directory is damaged"
            )
        term, kind, data = split_log_value(value)
        entries.append((index, term, kind, data))
        expected += 1
    return tuple(entries)


def _records(
    store: ReadView, shape: Shape, shard: ShardId, row: GroupRow
) -> tuple[dict[RecordId, int], dict[RecordState, int]]:
    """Recompute count and state hash; list the full records, and count all by their state."""
    count, state, full, states = 0, EMPTY_HASH, {}, no_records()
    for key, value in store.items("records", *slot_range(shard, row.slot)):
        record_id = RecordId(key[RECORD_KEY_PREFIX_BYTES:])
        if shard_of(record_id, shape.shards) != shard:
            raise _Lost(
                f"shard {shard} holds a record of another shard: the data directory is damaged"
            )
        record = decode_record(value)
        state = statehash.add(state, record_id, value)
        count += 1
        states[state_of(record, shape.limit).state] += 1
        if record.active is not None and len(record.attempts) >= shape.limit:
            full[record_id] = record.era
    if count != row.records or statehash.encode_hash(state) != row.hash:
        raise _Lost(
            f"shard {shard}: {count} records do not match their stored count {row.records} and"
            " state hash: the data directory is damaged"
        )
    return full, states


def _ledger(store: ReadView) -> tuple[int, StateHash]:
    rows, state = 0, EMPTY_HASH
    for key, value in store.items("ledger", *WHOLE_TABLE):
        ledger.decode_row(value)
        state = statehash.add(state, key, value)
        rows += 1
    stored = store.get("meta", META_LEDGER)
    expected = (0, EMPTY_HASH)
    if stored is not None:
        totals = decode_totals(stored)
        expected = (totals.rows, statehash.decode_hash(totals.hash))
    if (rows, state) != expected:
        raise _Lost(
            f"the ledger's {rows} rows do not match their stored count {expected[0]} and hash: the"
            " data directory is damaged"
        )
    return rows, state
