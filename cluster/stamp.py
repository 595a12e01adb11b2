"""The stamp: what the HSM remembers of this node's disk, so that an older disk is noticed.

Rule (a): every boot takes the next incarnation. Rule (b): before any message that a new (term,
vote) allows is sent, all shards' (term, vote, applied) are in the HSM. A directory that is behind
its stamp was rolled back, and a node that voted once in a term must not vote there again (I8, I9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from cluster.decoding import Decoder
from cluster.next_step import replace_node

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from cluster.types import NodeId


class Stamped(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One shard as it was durable when the stamp was written."""

    term: int
    vote: int
    applied: int


class Stamp(Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """The HSM's data object; `shards` is empty at enrolment (incarnation 0)."""

    cluster_id: bytes
    node_id: int
    incarnation: int
    shards: tuple[Stamped, ...]


class StampError(Exception):
    """The HSM's stamp is none of ours; one line with the next step."""


_encoder = msgspec.msgpack.Encoder()
_decoder = Decoder(Stamp)


def enrolment(cluster_id: UUID, node_id: NodeId) -> bytes:
    """The stamp of a node that never ran: allows one empty directory, once."""
    return encode_stamp(cluster_id.bytes, node_id, 0, ())


def encode_stamp(
    cluster_id: bytes, node_id: NodeId, incarnation: int, shards: Sequence[Stamped]
) -> bytes:
    """At most some 30 bytes a shard."""
    return _encoder.encode(Stamp(cluster_id, node_id, incarnation, tuple(shards)))


def decode_stamp(data: bytes) -> Stamp:
    """Read what the HSM keeps.

    Raises:
        StampError: not a stamp of this version.

    """
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise StampError(
            f"the HSM's stamp is not one of this version ({error}): check the token's label, or"
            f" {replace_node()}"
        ) from error
