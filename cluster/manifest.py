"""A snapshot: one shard's records in a file, and the manifest that raft-rs carries in its place.

The file is record after record (id, length, canonical bytes), copied in one read transaction
together with index, term, ConfState and state hash; the manifest binds it by size and SHA-256. It
holds no MACs and no ledger: those are each node's own.
"""

# ruff: noqa: TC001, TC003 - msgspec reads the annotations at run time

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta, Struct

from cluster import statehash
from cluster.commands import Id32
from cluster.decoding import Decoder
from cluster.frames import U64, Name
from cluster.limits import MAX_SNAPSHOT_BYTES, MIB, SNAPSHOT_SPACE
from cluster.record import MAX_RECORD_BYTES
from cluster.statehash import EMPTY_HASH
from cluster.tables import RECORD_KEY_PREFIX_BYTES, GroupRow, decode_group, group_key, slot_range
from engines.encoding import u32

if TYPE_CHECKING:
    from cluster.ports import ReadView, SnapshotFiles, Store
    from cluster.types import ShardId

ID_BYTES: Final = 32
LENGTH_BYTES: Final = 4
READ_BYTES: Final = MIB


class Manifest(Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """What a MsgSnapshot says of its file."""

    name: Name
    shard: U64
    index: U64
    term: U64
    size: Annotated[int, Meta(ge=0, le=MAX_SNAPSHOT_BYTES)]
    sha256: Id32
    records: U64
    hash: Id32
    revision: U64 = 0
    """Of the members, which raft-rs carries beside it."""


class SnapshotDamagedError(Exception):
    """The file is not what its manifest says."""


class NoRoomError(Exception):
    """An own file would take more of the disk than it may; `size`: where it ended, in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"{size} bytes or more, and there is no room: make {SNAPSHOT_SPACE} times as much free"
        )
        self.size = size


_encoder = msgspec.msgpack.Encoder()
_decoder = Decoder(Manifest)
encode_manifest = _encoder.encode


def decode_manifest(data: bytes) -> Manifest:
    """Decode and validate.

    Raises:
        SnapshotDamagedError: not a manifest of this version.

    """
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise SnapshotDamagedError(f"manifest not understood: {error}") from error


def build(
    store: Store, files: SnapshotFiles, shard: ShardId, name: str
) -> tuple[Manifest, GroupRow]:
    """Copy one shard into file `name`; runs on a worker thread, in one read transaction."""
    with store.reading() as view:
        row = group_row(view, shard)
        stored = view.items("records", *slot_range(shard, row.slot))
        pairs = ((key[RECORD_KEY_PREFIX_BYTES:], value) for key, value in stored)
        size, sha256, records = write_pairs(files, name, pairs, MAX_SNAPSHOT_BYTES)
    if size > MAX_SNAPSHOT_BYTES:
        raise SnapshotDamagedError(
            f"shard {shard} holds more than the {MAX_SNAPSHOT_BYTES} bytes that a snapshot may"
            " have: move to a cluster with more shards"
        )
    if records != row.records:
        raise SnapshotDamagedError(f"shard {shard}: {records} records, {row.records} expected")
    manifest = Manifest(
        name,
        shard,
        row.applied,
        row.applied_term,
        size,
        sha256,
        records,
        row.hash,
        row.revision,
    )
    return manifest, row


def read(files: SnapshotFiles, name: str, manifest: Manifest) -> list[tuple[bytes, bytes]]:
    """All (record_id, value) of a fetched file, checked against size, digest, count and hash.

    Raises:
        SnapshotDamagedError: any of them differs.

    """
    records, size, sha256 = read_pairs(
        files, name, manifest.size, MAX_RECORD_BYTES, manifest.records
    )
    state = EMPTY_HASH
    for record_id, value in records:
        state = statehash.add(state, record_id, value)
    found = (size, sha256, len(records), statehash.encode_hash(state))
    if found != (manifest.size, manifest.sha256, manifest.records, manifest.hash):
        raise SnapshotDamagedError(f"snapshot {manifest.name} is not what its manifest says")
    return records


def group_row(view: ReadView, shard: ShardId) -> GroupRow:
    """The shard's row of the same read transaction.

    Raises:
        SnapshotDamagedError: there is none.

    """
    stored = view.get("group", group_key(shard))
    if stored is None:
        raise SnapshotDamagedError(f"shard {shard} has no group row")
    return decode_group(stored)


# ------------------------------------------------------------------ files of (id, bytes)


def write_pairs(
    files: SnapshotFiles, name: str, pairs: Iterable[tuple[bytes, bytes]], limit: int
) -> tuple[int, bytes, int]:
    """Write them one after the other; (bytes, SHA-256, pairs) of the file.

    It ends behind the pair that makes it longer than `limit` bytes: such a file is of no use.

    Raises:
        NoRoomError: it would take more than its part of what is free.

    """
    room = files.free_bytes() // SNAPSHOT_SPACE
    digest, size, count = hashlib.sha256(), 0, 0
    writer = files.create(name)
    try:
        for key, value in pairs:
            chunk = _packed(key, value)
            digest.update(chunk)
            writer.write(chunk)
            size += len(chunk)
            count += 1
            if size > limit:
                break
            if size > room:
                raise NoRoomError(size)
    finally:
        writer.close()
    return size, digest.digest(), count


def read_pairs(
    files: SnapshotFiles, name: str, limit: int, longest: int, most: int
) -> tuple[list[tuple[bytes, bytes]], int, bytes]:
    """(pairs, bytes, SHA-256) of a file; raises as `split` does, and at the pair after `most`."""
    digest, size = hashlib.sha256(), 0
    pairs: list[tuple[bytes, bytes]] = []
    for key, value in split(files, name, limit, longest):
        if len(pairs) >= most:
            raise SnapshotDamagedError(f"snapshot file {name} has more than {most} records")
        chunk = _packed(key, value)
        digest.update(chunk)
        size += len(chunk)
        pairs.append((key, value))
    return pairs, size, digest.digest()


def _packed(key: bytes, value: bytes) -> bytes:
    return key + u32(len(value)) + value


def split(
    files: SnapshotFiles, name: str, limit: int, longest: int
) -> Iterator[tuple[bytes, bytes]]:
    """(id, value) of a file of at most `limit` bytes, with values of at most `longest`.

    Raises:
        SnapshotDamagedError: it is longer, has a longer value, or ends within one.

    """
    head = ID_BYTES + LENGTH_BYTES
    reader = files.open(name)
    try:
        buffer, total = b"", 0
        while chunk := reader.read(READ_BYTES):
            total += len(chunk)
            if total > limit:
                raise SnapshotDamagedError(f"snapshot file {name} is longer than announced")
            buffer += chunk
            at = 0
            while len(buffer) - at >= head:
                length = int.from_bytes(buffer[at + ID_BYTES : at + head], "big")
                if length > longest:
                    raise SnapshotDamagedError(f"snapshot file {name} has a record of {length} B")
                if len(buffer) - at < head + length:
                    break
                end = at + head + length
                yield buffer[at : at + ID_BYTES], buffer[at + head : end]
                at = end
            buffer = buffer[at:]
        if buffer:
            raise SnapshotDamagedError(f"snapshot file {name} ends within a record")
    finally:
        reader.close()
