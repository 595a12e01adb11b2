"""Host frames: what one node tells another in one piece, one frame per peer and turn.

A frame is msgpack by msgspec: a version, the sender's incarnation, and items of a closed union.
Anything unknown is refused whole, and the caller cuts the link: two versions that do not know each
other must not half-understand each other. The sender is who the link's certificate says, never
what a frame says.
"""

# ruff: noqa: TC001 - msgspec reads the annotations at run time

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from cluster.commands import Id32
from cluster.decoding import Decoder
from cluster.limits import (
    FRAME_BYTES,
    MAX_ENTRY_COMMANDS,
    MAX_FRAME_BYTES,
    MAX_FRAME_ITEMS,
    MAX_ITEM_MESSAGES,
    MAX_OPEN_COMMANDS,
)

FRAME_VERSION: Final = 1
U64 = Annotated[int, Meta(ge=0, le=2**63 - 1)]
ShardNumber = Annotated[int, Meta(ge=0, lt=256)]
Nonce = Annotated[bytes, Meta(min_length=16, max_length=16)]
Name = Annotated[str, Meta(max_length=64, pattern=r"\A[a-z0-9][a-z0-9-]*\Z")]
"""A snapshot's: a plain file name also with a prefix before it."""


Refusal = Literal["not-leader", "dropped", "busy", "malformed"]
"""Why a command was not appended."""


State = Literal["going", "failed", "done"]
"""Of a snapshot on its way in."""


class ShardMark(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a node made durable in one shard: it must never come back with less."""

    shard: ShardNumber
    term: U64
    last_index: U64
    """Last index of an entry of this very term; 0 when there is none yet."""
    commit: U64


class Hello(Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """First item on a link, repeated until welcomed: who is booted here."""

    cluster_id: Annotated[bytes, Meta(min_length=16, max_length=16)]
    incarnation: U64
    nonce: Nonce


class Welcome(Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """Answer to Hello: what the sender remembers of the one who said it."""

    nonce: Nonce
    """The Hello's."""
    accepted: bool
    """False: a later incarnation, or the same with another nonce, was seen before."""
    incarnation: U64
    """The highest known before this Hello; 0 for none."""
    marks: Annotated[list[ShardMark], Meta(max_length=256)]
    voter: bool = True
    """The sender is a voter of every shard: only then its memory opens a gate. One that just
    joined has nothing to remember yet."""


class RaftMessages(Struct, frozen=True, array_like=True, tag=3, forbid_unknown_fields=True):
    """(shard, raft-rs message) pairs, in order."""

    messages: Annotated[list[tuple[ShardNumber, bytes]], Meta(max_length=MAX_ITEM_MESSAGES)]


class Forward(Struct, frozen=True, array_like=True, tag=4, forbid_unknown_fields=True):
    """Commands of the sending node (it is their origin) for the leader of `shard`."""

    shard: ShardNumber
    commands: Annotated[list[tuple[U64, U64, bytes]], Meta(max_length=MAX_OPEN_COMMANDS)]
    """(seq, number of the send, command)."""


class Nack(Struct, frozen=True, array_like=True, tag=5, forbid_unknown_fields=True):
    """These sends were not appended and never will be."""

    shard: ShardNumber
    reason: Refusal
    """A closed set: it reaches clients in an error's detail."""
    hint: U64
    """The leader that the sender knows, or 0."""
    sends: Annotated[list[tuple[U64, U64]], Meta(max_length=MAX_OPEN_COMMANDS)]
    """(seq, number of the send)."""


class Accepted(Struct, frozen=True, array_like=True, tag=6, forbid_unknown_fields=True):
    """These were appended to the leader's log; their fate is known by applying it."""

    shard: ShardNumber
    term: U64
    index: U64
    seqs: Annotated[list[U64], Meta(max_length=MAX_ENTRY_COMMANDS)]


class Marks(Struct, frozen=True, array_like=True, tag=7, forbid_unknown_fields=True):
    """The sender's durable marks of changed shards."""

    marks: Annotated[list[ShardMark], Meta(max_length=256)]


class HashPoint(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A shard's state hash at one index."""

    shard: ShardNumber
    index: U64
    hash: Id32


class Hashes(Struct, frozen=True, array_like=True, tag=8, forbid_unknown_fields=True):
    """The sender's hash points."""

    points: Annotated[list[HashPoint], Meta(max_length=4096)]


class Beat(Struct, frozen=True, array_like=True, tag=9, forbid_unknown_fields=True):
    """Every 500 ms: how the sender is, and a ping."""

    sent_ns: U64
    """The sender's own clock; comes back in Pong."""
    hsm: bool
    leads_nothing: bool
    """If it can help it: on its way out, short of disk space, or its disk is slow."""
    giver: Annotated[bytes, Meta(max_length=32)]
    """Bit shard%8 of byte shard//8: share-giver of that shard."""
    ledger: Annotated[bytes, Meta(max_length=32)] = b""
    """Likewise: the sender's ledger of that shard is complete."""
    revision: U64 = 0
    """Of the cluster.json that the sender follows."""


class Pong(Struct, frozen=True, array_like=True, tag=10, forbid_unknown_fields=True):
    """Answer to a Beat, for the round-trip time."""

    sent_ns: U64


class SnapshotProgress(Struct, frozen=True, array_like=True, tag=11, forbid_unknown_fields=True):
    """From the receiver of a snapshot to its leader."""

    shard: ShardNumber
    name: Name
    state: State


class LedgerAsk(Struct, frozen=True, array_like=True, tag=12, forbid_unknown_fields=True):
    """From a node that joined: your ledger rows of this shard, if your ledger is complete."""

    shard: ShardNumber


class LedgerOffer(Struct, frozen=True, array_like=True, tag=13, forbid_unknown_fields=True):
    """Answer to a LedgerAsk: a file of rows, to be fetched like a snapshot."""

    shard: ShardNumber
    name: Name
    index: U64
    """The sender's durable applied index, of the same read transaction as the rows."""
    size: U64
    sha256: Id32


Item = (
    Hello
    | Welcome
    | RaftMessages
    | Forward
    | Nack
    | Accepted
    | Marks
    | Hashes
    | Beat
    | Pong
    | SnapshotProgress
    | LedgerAsk
    | LedgerOffer
)


class Frame(Struct, frozen=True, array_like=True, tag=FRAME_VERSION, forbid_unknown_fields=True):
    """One frame. `incarnation` is the sender's: frames of an earlier life are dropped."""

    incarnation: U64
    items: Annotated[list[Item], Meta(max_length=MAX_FRAME_ITEMS)]


class FrameError(Exception):
    """A peer sent what this version does not know; the link is cut."""


_encoder = msgspec.msgpack.Encoder()
_decoder = Decoder(Frame)


def encode_frame(frame: Frame) -> bytes:
    """The bytes of one frame."""
    return _encoder.encode(frame)


def decode_frame(payload: bytes) -> Frame:
    """Decode and validate.

    Raises:
        FrameError: too long, malformed, unknown version or item, or greeting twice: each greeting
            is answered with everything that is remembered, so a frame full of them would weigh
            thousands of times its size.

    """
    if len(payload) > MAX_FRAME_BYTES:
        raise FrameError(f"frame of {len(payload)} bytes; at most {MAX_FRAME_BYTES}")
    try:
        frame = _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise FrameError(f"frame not understood: {error}") from error
    for greeting in (Hello, Welcome):
        if sum(1 for item in frame.items if isinstance(item, greeting)) > 1:
            raise FrameError("it greets more than once in one frame")
    return frame


class Outbox:
    """What goes to one peer with the next flush, in frames of about FRAME_BYTES."""

    __slots__ = ("_bytes", "_closed", "_greetings", "_items", "_messages")

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._messages: list[tuple[int, bytes]] = []
        self._bytes = 0
        self._closed: list[list[Item]] = []
        self._greetings: dict[type[Hello | Welcome], int] = {}
        """Where in the open frame they are."""

    def greet(self, greeting: Hello | Welcome, size: int = 64) -> None:
        """Append a greeting, or put it in place of an older one: a frame has one of each."""
        kind = type(greeting)
        if kind in self._greetings:
            self._items[self._greetings[kind]] = greeting
            return
        self._seal_messages()
        self._greetings[kind] = len(self._items)
        self.add(greeting, size)

    def add(self, item: Item, size: int = 64) -> None:
        """Append an item of about `size` bytes."""
        self._seal_messages()
        self._items.append(item)
        self._count(size)

    def add_message(self, shard: int, message: bytes) -> None:
        """Append a Raft message; neighbours share one item."""
        self._messages.append((shard, message))
        if len(self._messages) >= MAX_ITEM_MESSAGES:
            self._seal_messages()
        self._count(len(message) + 8)

    def __bool__(self) -> bool:
        """Something is to be sent."""
        return bool(self._bytes or self._closed)

    def take(self, incarnation: int) -> list[bytes]:
        """The frames to send now, emptied."""
        if not self:
            return []
        self._close()
        frames = [encode_frame(Frame(incarnation, items)) for items in self._closed]
        self._closed = []
        return frames

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes >= FRAME_BYTES or len(self._items) >= MAX_FRAME_ITEMS // 2:
            self._close()

    def _seal_messages(self) -> None:
        if self._messages:
            self._items.append(RaftMessages(self._messages))
            self._messages = []

    def _close(self) -> None:
        self._seal_messages()
        if self._items:
            self._closed.append(self._items)
            self._items = []
        self._greetings.clear()
        self._bytes = 0
