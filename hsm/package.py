"""The seat package: one seat's keys under that seat's own fresh key (crypto.md, Ceremony).

file = "QVPK" ‖ u8 version ‖ cluster_id[16] ‖ u8 seat ‖ u8 seats ‖ u8 threshold ‖ nonce[12] ‖
AES-256-GCM(u8 count ‖ (u8 length ‖ name ‖ key[64])…). The whole clear header is bound into the
box, so a package of another cluster or seat is refused before and after it is opened.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engines.encoding import enc, u8
from hsm.errors import PackageBroken, WordsWrong
from hsm.names import KEY_BYTES, check_scheme, held_names

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC: Final = b"QVPK"
VERSION: Final = 1
SEAT_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEADER_BYTES: Final = len(MAGIC) + 1 + 16 + 3
MAX_PACKAGE_BYTES: Final = 64 * 1024
"""Nine seats with the largest sets stay below 10 KB; anything larger is another file."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a package says of itself in the clear."""

    cluster_id: UUID
    seat: int
    seats: int
    threshold: int

    def pack(self) -> bytes:
        """The clear bytes before the nonce."""
        numbers = u8(self.seat) + u8(self.seats) + u8(self.threshold)
        return MAGIC + u8(VERSION) + self.cluster_id.bytes + numbers


def read_header(package: bytes) -> Header:
    """What the package is for; raises PackageBroken when it is none."""
    if not package.startswith(MAGIC):
        raise PackageBroken("this file is no seat package: give the one that the ceremony wrote")
    if package[len(MAGIC)] != VERSION if len(package) > len(MAGIC) else True:
        raise PackageBroken("its format is unknown: use the release that wrote it, or a newer one")
    if not _HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES < len(package) <= MAX_PACKAGE_BYTES:
        raise PackageBroken(f"{len(package)} bytes: the file is cut or not one: copy it again")
    seat, seats, threshold = package[_HEADER_BYTES - 3 : _HEADER_BYTES]
    try:
        check_scheme(seats, threshold)
        held_names(seat, seats, threshold)
    except ValueError as error:
        raise PackageBroken(f"its header is damaged ({error}): copy it again") from error
    return Header(UUID(bytes=package[5:21]), seat, seats, threshold)


def close_package(header: Header, seat_key: bytes, keys: Mapping[str, bytes]) -> bytes:
    """Encrypt one seat's keys (64 bytes each, by name) under its seat key (32 bytes)."""
    clear = header.pack()
    body = bytearray(u8(len(keys)))
    for name, key in keys.items():
        body += u8(len(name)) + name.encode("ascii") + key
    nonce = secrets.token_bytes(_NONCE_BYTES)
    box = AESGCM(seat_key).encrypt(nonce, body, _aad(clear))
    wipe(body)
    return clear + nonce + box


def open_package(package: bytes, seat_key: bytes) -> dict[str, bytes]:
    """The keys of a package by name: exactly those that its seat holds.

    Raises:
        PackageBroken: no package, or not the keys of its seat.
        WordsWrong: the seat key does not open it.

    """
    header = read_header(package)
    clear = package[:_HEADER_BYTES]
    nonce = package[_HEADER_BYTES : _HEADER_BYTES + _NONCE_BYTES]
    try:
        body = AESGCM(seat_key).decrypt(nonce, package[_HEADER_BYTES + _NONCE_BYTES :], _aad(clear))
    except InvalidTag as error:
        raise WordsWrong(
            f"they do not open the package of seat {header.seat}: give three shares of this seat "
            "from the same ceremony, and an undamaged package"
        ) from error
    keys = _parse(body)
    if list(keys) != held_names(header.seat, header.seats, header.threshold):
        raise PackageBroken(f"it does not hold exactly the keys of seat {header.seat}")
    return keys


def wipe(buffer: bytearray) -> None:
    """Overwrite a secret; best effort, since Python and libraries may have copied it."""
    for position in range(len(buffer)):
        buffer[position] = 0


def _parse(body: bytes) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    position = 1
    try:
        for _ in range(body[0]):
            length = body[position]
            name = body[position + 1 : position + 1 + length].decode("ascii")
            position += 1 + length
            keys[name] = body[position : position + KEY_BYTES]
            position += KEY_BYTES
    except (IndexError, UnicodeDecodeError) as error:
        raise PackageBroken("its contents are damaged") from error
    if position != len(body) or any(len(key) != KEY_BYTES for key in keys.values()):
        raise PackageBroken("its contents are damaged")
    return keys


def _aad(header: bytes) -> bytes:
    return enc("seat-package", header)
