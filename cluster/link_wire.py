"""What travels on a peer link: frames of two channels, several to a message, nothing else.

A message is `(u8 channel ‖ u32be length ‖ payload)…`; all frames queued in one turn of the loop
share one message, one TLS record and one system call. Whatever does not parse exactly is a broken
or hostile peer: the link is cut (I9).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from cluster.limits import MAX_FRAME_BYTES, MIB
from cluster.types import check

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST_CHANNEL: Final = 0x01
"""Raft host to Raft host."""
SERVICE_CHANNEL: Final = 0x02
"""Node to node: share requests and answers."""
CHANNELS: Final = (HOST_CHANNEL, SERVICE_CHANNEL)

LINK_PATH: Final = "/peer/link"
SNAPSHOT_PATH: Final = "/peer/snapshots"
SUBPROTOCOL: Final = "quorumvault-link-1"
"""Both ends must name it: two programs that frame differently never talk."""

MAX_MESSAGE_BYTES: Final = 32 * MIB
LINK_BUFFER_BYTES: Final = 32 * MIB
MESSAGE_BYTES: Final = 256 * 1024
"""A message is closed when it reaches this; a slow line then shows progress often enough."""

_HEAD = struct.Struct(">BI")
HEAD_BYTES: Final = _HEAD.size

check(MESSAGE_BYTES + MAX_FRAME_BYTES + HEAD_BYTES < MAX_MESSAGE_BYTES, "link: a frame must fit")
check(MAX_FRAME_BYTES + HEAD_BYTES < LINK_BUFFER_BYTES, "link: a frame must fit the buffer")


class WireError(Exception):
    """The peer sent something that is no message of ours."""


def head(channel: int, payload: bytes) -> bytes:
    """The five bytes before a payload."""
    return _HEAD.pack(channel, len(payload))


def frames(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(channel, payload) of every frame, in order.

    Raises:
        WireError: empty, cut short, too large, or an unknown channel.

    """
    if not message:
        raise WireError("an empty message")
    place, end = 0, len(message)
    while place < end:
        if end - place < HEAD_BYTES:
            raise WireError("a frame cut short in its head")
        channel, length = _HEAD.unpack_from(message, place)
        place += HEAD_BYTES
        if channel not in CHANNELS:
            raise WireError(f"a frame of unknown channel {channel}")
        if length > MAX_FRAME_BYTES:
            raise WireError(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES} are allowed")
        if length > end - place:
            raise WireError("a frame cut short")
        yield channel, message[place : place + length]
        place += length
