"""Streaming authenticated encryption: Google Tink's AES-GCM-HKDF-Streaming, byte for byte.

Segments of 1 MiB, each sealed under a key of its own stream and a nonce that holds the segment's
number and whether it is the last. So any segment that is changed, cut off, exchanged, repeated or
appended does not open. The associated data go into the key. Tink's Python package seals from and
to streams only, one thread and one copy too many; the wire is the same (tests ask Tink), and the
cipher is that of `cryptography`.

    stream  = 40 ‖ salt[32] ‖ prefix[7] ‖ segment 0 ‖ segment 1 …
    key     = HKDF-SHA-256(ikm = key, salt, info = associated data, 32)
    segment = AES-256-GCM(key, nonce = prefix ‖ u32be number ‖ u8 last, no associated data)

With its tag a segment has 1,048,576 bytes, the first 40 fewer, the last as few as the tag. An
empty plaintext is one empty segment; one that ends with a full segment has no empty one after it.

Errors here are `ValueError`s that know no names; objects.py and manifest.py turn them into
`Damaged`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from quorumvault.backup.keys import Octets

__all__ = [
    "HEADER_BYTES",
    "SEGMENT_BYTES",
    "TAG_BYTES",
    "Opener",
    "Sealer",
    "open_",
    "open_into",
    "opened_length",
    "seal",
    "seal_into",
    "sealed_length",
]

SEGMENT_BYTES: Final = 1_048_576
TAG_BYTES: Final = 16
SALT_BYTES: Final = 32
PREFIX_BYTES: Final = 7
HEADER_BYTES: Final = 1 + SALT_BYTES + PREFIX_BYTES
FIRST_PLAIN_BYTES: Final = SEGMENT_BYTES - HEADER_BYTES - TAG_BYTES
PLAIN_BYTES: Final = SEGMENT_BYTES - TAG_BYTES
MAX_SEGMENTS: Final = 2**32  # the number in the nonce has four bytes: 4 PiB


def sealed_length(length: int) -> int:
    """How many bytes a plaintext of `length` bytes has when sealed."""
    segments = 1 + max(0, -(-(length - FIRST_PLAIN_BYTES) // PLAIN_BYTES))
    return HEADER_BYTES + length + segments * TAG_BYTES


def opened_length(sealed: int) -> int:
    """How many bytes of plaintext a stream of `sealed` bytes holds.

    Raises:
        ValueError: no stream has this length.

    """
    segments = max(1, -(-sealed // SEGMENT_BYTES))
    length = sealed - HEADER_BYTES - segments * TAG_BYTES
    if length < 0 or sealed_length(length) != sealed:
        raise ValueError(f"no sealed stream has {sealed:,} bytes")
    return length


def seal(key: bytes, aad: bytes, plaintext: Octets) -> bytes:
    """The sealed stream of `plaintext`, under a fresh salt; `key` has 32 bytes."""
    out = bytearray(sealed_length(len(plaintext)))
    seal_into(key, aad, (plaintext,), out)
    return bytes(out)


def open_(key: bytes, aad: bytes, sealed: Octets) -> bytes:
    """The plaintext of a whole sealed stream.

    Raises:
        ValueError: it is not what was sealed with this key and these associated data.

    """
    out = bytearray(opened_length(len(sealed)))
    open_into(key, aad, sealed, out)
    return bytes(out)


def seal_into(key: bytes, aad: bytes, parts: Sequence[Octets], out: bytearray | memoryview) -> None:
    """Seal the parts, one after another, into `out`, which has exactly the sealed length."""
    header = _fresh_header()
    cipher = _cipher(key, aad, header)
    with memoryview(out) as view:
        view[:HEADER_BYTES] = header
        position, number = HEADER_BYTES, 0
        for segment, last in _segments(parts):
            end = position + len(segment) + TAG_BYTES
            cipher.encrypt_into(
                _nonce(header, number, last=last), segment, None, view[position:end]
            )
            position, number = end, number + 1
        if position != len(view):
            raise ValueError(f"the sealed stream has {position:,} bytes, not {len(view):,}")


def open_into(key: bytes, aad: bytes, sealed: Octets, out: bytearray | memoryview) -> None:
    """Open a whole stream into `out`, which has exactly the opened length.

    Raises:
        ValueError: it is not what was sealed with this key and these associated data. What `out`
            holds then is not to be used.

    """
    if opened_length(len(sealed)) != len(out):
        raise ValueError(f"the stream holds {opened_length(len(sealed)):,} bytes, not {len(out):,}")
    with memoryview(sealed) as source, memoryview(out) as view:
        header = bytes(source[:HEADER_BYTES])
        cipher = _cipher(key, aad, header)
        start, position, number = HEADER_BYTES, 0, 0
        while start < len(source):
            end = min(len(source), (number + 1) * SEGMENT_BYTES)
            until = position + end - start - TAG_BYTES
            nonce = _nonce(header, number, last=end == len(source))
            try:
                cipher.decrypt_into(nonce, source[start:end], None, view[position:until])
            except InvalidTag:
                raise _broken(number) from None
            start, position, number = end, until, number + 1


class _Segmenter(ABC):
    """Gathers bytes until a segment is full, and hands it on when more comes after it."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._number = 0
        self._finished = False

    def _gather(self, data: Octets) -> bytes:
        self._check_open()
        pieces = []
        with memoryview(data) as view:
            position = 0
            while position < len(view):
                room = self._room() - len(self._pending)
                if not room:
                    pieces.append(self._take(last=False))
                    continue
                self._pending += view[position : position + room]
                position += room
        return b"".join(pieces)

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError("the stream is finished")

    @abstractmethod
    def _room(self) -> int:
        """How many bytes the segment at hand has when it is full."""

    @abstractmethod
    def _take(self, *, last: bool) -> bytes:
        """What the pending bytes become; they are used up."""


class Sealer(_Segmenter):
    """Seals a stream whose length is not known before; holds at most one segment of it."""

    def __init__(self, key: bytes, aad: bytes) -> None:
        super().__init__()
        self._header = _fresh_header()
        self._cipher = _cipher(key, aad, self._header)

    def write(self, plaintext: Octets) -> bytes:
        """The next sealed bytes, often none: a segment leaves when more comes after it."""
        return self._gather(plaintext)

    def finish(self) -> bytes:
        """The last sealed bytes; nothing can be written after."""
        self._check_open()
        self._finished = True
        return self._take(last=True)

    def _room(self) -> int:
        return PLAIN_BYTES if self._number else FIRST_PLAIN_BYTES

    def _take(self, *, last: bool) -> bytes:
        nonce = _nonce(self._header, self._number, last=last)
        sealed = self._cipher.encrypt(nonce, self._pending, None)
        self._pending = bytearray()
        self._number += 1
        return self._header + sealed if self._number == 1 else sealed


class Opener(_Segmenter):
    """Opens a stream as it comes; holds at most one segment of it.

    What `feed` returns is authentic and in its place, but only `finish` shows that the stream was
    not cut off.
    """

    def __init__(self, key: bytes, aad: bytes) -> None:
        super().__init__()
        self._key = key
        self._aad = aad
        self._header = b""
        self._cipher: AESGCM | None = None

    def feed(self, sealed: Octets) -> bytes:
        """The next bytes of plaintext, often none: a segment opens when more comes after it.

        Raises:
            ValueError: it is not what was sealed with this key and these associated data.

        """
        return self._gather(sealed)

    def finish(self) -> bytes:
        """The last bytes of plaintext.

        Raises:
            ValueError: the stream was cut off, or changed in its last segment.

        """
        self._check_open()
        self._finished = True
        if self._cipher is None and len(self._pending) == HEADER_BYTES:
            self._take_header()
        if self._number and len(self._pending) <= TAG_BYTES:
            raise ValueError("the sealed stream ends with an empty segment")
        return self._take(last=True)

    def _room(self) -> int:
        if self._cipher is None:
            return HEADER_BYTES
        return SEGMENT_BYTES if self._number else SEGMENT_BYTES - HEADER_BYTES

    def _take(self, *, last: bool) -> bytes:
        if self._cipher is None:
            if last:
                raise ValueError("the sealed stream ends in its header")
            self._take_header()
            return b""
        nonce = _nonce(self._header, self._number, last=last)
        try:
            plaintext = self._cipher.decrypt(nonce, self._pending, None)
        except InvalidTag:
            raise _broken(self._number) from None
        self._pending = bytearray()
        self._number += 1
        return plaintext

    def _take_header(self) -> None:
        self._header = bytes(self._pending)
        self._cipher = _cipher(self._key, self._aad, self._header)
        self._pending = bytearray()


def _segments(parts: Sequence[Octets]) -> Iterator[tuple[Octets, bool]]:
    """The plaintext's segments and whether each is the last; copied only where parts meet."""
    left = sum(len(part) for part in parts)
    room = FIRST_PLAIN_BYTES
    pieces: list[memoryview] = []
    for part in parts:
        view = memoryview(part)
        while view:
            piece = view[:room]
            pieces.append(piece)
            view = view[len(piece) :]
            left -= len(piece)
            room -= len(piece)
            if left and not room:
                yield _joined(pieces), False
                pieces, room = [], PLAIN_BYTES
    yield _joined(pieces), True


def _joined(pieces: list[memoryview]) -> Octets:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _fresh_header() -> bytes:
    return bytes((HEADER_BYTES,)) + os.urandom(SALT_BYTES + PREFIX_BYTES)


def _cipher(key: bytes, aad: bytes, header: bytes) -> AESGCM:
    if len(key) != 32:
        raise ValueError(f"a stream's key has 32 bytes, not {len(key)}")
    if header[0] != HEADER_BYTES:
        raise ValueError("the sealed stream does not start with its header's length")
    salt = header[1 : 1 + SALT_BYTES]
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=aad).derive(key))


def _nonce(header: bytes, number: int, *, last: bool) -> bytes:
    if number >= MAX_SEGMENTS:
        raise ValueError(f"a sealed stream has at most {MAX_SEGMENTS:,} segments")
    return header[1 + SALT_BYTES :] + number.to_bytes(4, "big") + bytes((last,))


def _broken(number: int) -> ValueError:
    return ValueError(f"segment {number} is not what was sealed there")
