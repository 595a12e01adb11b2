"""What one log entry holds: the commands of one turn, each with the node that proposed it.

The version is the first byte that a reader sees; a node that meets an unknown version or command
in its log stops, since it cannot know the state any more (design section 5).
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from cluster.commands import Barrier, decode_command
from cluster.decoding import Decoder
from engines.identifiers import shard_of

NORMAL_ENTRY: Final = 0
"""The engine's kind of an entry that holds commands; the others change members."""
ENTRY_VERSION: Final = 1

Sent = tuple[int, int, int, bytes]
"""(origin node, its incarnation, its sequence number, encoded command)."""


class EntryData(
    Struct, frozen=True, array_like=True, tag=ENTRY_VERSION, forbid_unknown_fields=True
):
    """The data of one normal entry; a new leader's own entry is empty instead."""

    commands: list[Sent]


_encoder = msgspec.msgpack.Encoder()
_decoder = Decoder(EntryData)


def encode_entry(commands: list[Sent]) -> bytes:
    """The bytes that the leader appends."""
    return _encoder.encode(EntryData(commands))


def decode_entry(data: bytes) -> list[Sent]:
    """The commands in their order; none for a new leader's empty entry.

    Raises:
        msgspec.DecodeError: malformed or of an unknown version; the node stops.

    """
    return _decoder.decode(data).commands if data else []


def check_entry(shard: int, shards: int, data: bytes) -> None:
    """Refuse an entry that `cluster.machine` could not apply; to be asked before it is appended.

    Raises:
        msgspec.DecodeError: malformed, of an unknown version, or with a command that is unknown or
            of another shard.

    """
    for _, _, _, encoded in decode_entry(data):
        command = decode_command(encoded)
        if not isinstance(command, Barrier) and shard_of(command.record_id, shards) != shard:
            raise msgspec.ValidationError("an entry holds a command of another shard")
