"""The frames of a manifest as types, and as msgpack arrays of exactly these fields.

Sizes and counts fit a signed 64-bit integer. A path is raw bytes, a component each: what the
system that was backed up has, valid UTF-8 or not.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from quorumvault.backup.keys import BACKUP_ID_BYTES, CHUNK_ID_BYTES, MAX_GENERATION
from quorumvault.backup.objects import CONTENT_BYTES

__all__ = [
    "MAX_COMPONENT_BYTES",
    "MAX_DEPTH",
    "MAX_FRAME_BYTES",
    "MAX_PARTS",
    "MAX_PATH_BYTES",
    "Chunk",
    "End",
    "File",
    "Folder",
    "Frame",
    "Head",
    "Part",
    "Parts",
    "Path",
    "check_path",
    "decode_frame",
    "encode_frame",
    "kept_time",
]

MAX_FRAME_BYTES: Final = 65_536
MAX_PARTS: Final = 1_024  # of one frame
MAX_COMPONENT_BYTES: Final = 1_024  # NAME_MAX is 255 bytes, or 255 UTF-16 units (765 bytes)
MAX_DEPTH: Final = 512
MAX_PATH_BYTES: Final = 32_768  # all components; so that a frame holds it
MAX_TOOL_CHARACTERS: Final = 128

_INT64: Final = 2**63 - 1

Count: TypeAlias = Annotated[int, Meta(ge=0, le=_INT64)]
Time: TypeAlias = Annotated[int, Meta(ge=-_INT64 - 1, le=_INT64)]
Mode: TypeAlias = Annotated[int, Meta(ge=0, le=0o7777)]
Length: TypeAlias = Annotated[int, Meta(ge=1, le=CONTENT_BYTES)]
Path: TypeAlias = tuple[bytes, ...]
Part: TypeAlias = tuple[Count, Count, Length]
_Path: TypeAlias = Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=MAX_DEPTH)]


class Head(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """First: which backup this is, and who made it when (seconds since 1970, UTC)."""

    generation: Annotated[int, Meta(ge=1, le=MAX_GENERATION)]
    backup_id: Annotated[bytes, Meta(min_length=BACKUP_ID_BYTES, max_length=BACKUP_ID_BYTES)]
    created_s: Count
    tool: Annotated[str, Meta(max_length=MAX_TOOL_CHARACTERS)]


class Chunk(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """Introduces a chunk of `length` bytes of content; numbered 0, 1, 2 … as they come."""

    id: Annotated[bytes, Meta(min_length=CHUNK_ID_BYTES, max_length=CHUNK_ID_BYTES)]
    length: Length


class Folder(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """A folder; what is in it comes after it."""

    path: _Path
    mtime_ns: Time
    mode: Mode


class File(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """A file of `size` bytes; frames with its parts follow."""

    path: _Path
    size: Count
    mtime_ns: Time
    mode: Mode


class Parts(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """Where the next bytes of the file are: (chunk number, offset in its content, length) each."""

    parts: Annotated[tuple[Part, ...], Meta(min_length=1, max_length=MAX_PARTS)]


class End(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """Last: how many files, folders, bytes of all files together, and chunks there were."""

    files: Count
    folders: Count
    bytes: Count
    chunks: Count


Frame: TypeAlias = Head | Chunk | Folder | File | Parts | End

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Frame)


def encode_frame(frame: Frame) -> bytes:
    """The frame's bytes; raises ValueError for one that `decode_frame` would refuse."""
    data = _encoder.encode(frame)
    decode_frame(data)
    return data


def decode_frame(data: bytes | bytearray | memoryview) -> Frame:
    """One frame.

    Raises:
        ValueError: unknown, too long, with a field too many or of another kind, or a path that
            none can have. The text quotes nothing of it.

    """
    if len(data) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(data):,} bytes, the limit is {MAX_FRAME_BYTES:,}")
    try:
        frame: Frame = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("a frame that the format does not know") from error
    if isinstance(frame, Folder | File):
        check_path(frame.path)
    return frame


def kept_time(mtime_ns: int) -> int:
    """The time as a frame can hold it: the years 1677 to 2262.

    Disks have others: NTFS begins in 1601, Btrfs and memory end nowhere.
    """
    return max(-_INT64 - 1, min(_INT64, mtime_ns))


def check_path(path: Path) -> None:
    """Refuse what is no path inside a backup.

    Raises:
        ValueError: no component, too many or too long ones, or one that is empty, `.`, `..` or
            holds `/` or a zero byte.

    """
    if not 1 <= len(path) <= MAX_DEPTH:
        raise ValueError(f"a path of {len(path)} components; 1 to {MAX_DEPTH} are possible")
    for name in path:
        if name in {b"", b".", b".."} or b"/" in name or b"\0" in name:
            raise ValueError("a path with a component that none can have")
        if len(name) > MAX_COMPONENT_BYTES:
            raise ValueError(f"a path with a component of more than {MAX_COMPONENT_BYTES:,} bytes")
    if sum(map(len, path)) > MAX_PATH_BYTES:
        raise ValueError(f"a path of more than {MAX_PATH_BYTES:,} bytes")
