"""The ceremony: one air-gapped machine draws every shared key (crypto.md, Keys).

Each seat's keys go into a package under a fresh seat key, each seat key into five SLIP-39 shares of
which exactly three open it, without a passphrase: a wrong one would silently give another secret.
What leaves the machine is packages, words for the custodians, check values and the OPAQUE public
key; no data center's package alone, and no two, can evaluate a guess.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import shamir_mnemonic
from shamir_mnemonic.share import Share

from engines import _engines
from hsm.errors import WordsWrong
from hsm.names import IDENTITY, KEY_BYTES, check_scheme, held_names, shared_names
from hsm.package import SEAT_KEY_BYTES, Header, close_package, wipe
from hsm.prf import AKE_KEY_MESSAGE, DERIVED_KEY_BYTES, check_value, prf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

CUSTODIANS: Final = 5
WORDS_NEEDED: Final = 3
"""Of a seat's five custodians, exactly three open its package."""
WORDS_PER_SHARE: Final = 33


@dataclass(frozen=True, slots=True)
class Ceremony:
    """What a ceremony gives: public values, encrypted packages, and the custodians' words."""

    cluster_id: UUID
    seats: int
    threshold: int
    check_values: dict[str, bytes]
    """By key name, 8 bytes each: for cluster.json."""
    opaque_public_key: bytes
    """32 bytes: for cluster.json and every client."""
    packages: dict[int, bytes] = field(repr=False)
    """By seat: a file, useless without its words."""
    shares: dict[int, list[str]] = field(repr=False)
    """By seat: five mnemonics of 33 words. Secret: print, hand out, wipe."""


def draw(cluster_id: UUID, seats: int = 5, threshold: int = 3) -> Ceremony:
    """Draw all shared keys of a new cluster.

    Raises:
        ValueError: unless 2 ≤ threshold ≤ seats ≤ 9.

    """
    check_scheme(seats, threshold)
    names = shared_names(seats, threshold)
    keys = {name: bytearray(secrets.token_bytes(KEY_BYTES)) for name in names}
    try:
        ake_seed = prf(keys[IDENTITY], AKE_KEY_MESSAGE)[:DERIVED_KEY_BYTES]
        _, public_key = _engines.opaque_derive_key_pair(ake_seed)
        packages: dict[int, bytes] = {}
        shares: dict[int, list[str]] = {}
        for seat in range(1, seats + 1):
            seat_key = secrets.token_bytes(SEAT_KEY_BYTES)
            held = {name: bytes(keys[name]) for name in held_names(seat, seats, threshold)}
            header = Header(cluster_id, seat, seats, threshold)
            packages[seat] = close_package(header, seat_key, held)
            shares[seat] = split_seat_key(seat_key)
        return Ceremony(
            cluster_id=cluster_id,
            seats=seats,
            threshold=threshold,
            check_values={name: check_value(key) for name, key in keys.items()},
            opaque_public_key=public_key,
            packages=packages,
            shares=shares,
        )
    finally:
        for key in keys.values():
            wipe(key)


def split_seat_key(seat_key: bytes) -> list[str]:
    """Five SLIP-39 mnemonics of 33 words; exactly three give the 32 bytes back."""
    groups = [(WORDS_NEEDED, CUSTODIANS)]
    return shamir_mnemonic.generate_mnemonics(1, groups, seat_key)[0]


def join_seat_key(mnemonics: Sequence[str]) -> bytes:
    """The seat key of exactly three different mnemonics of one seat.

    Raises:
        WordsWrong: says which share is mistyped, or why they do not belong together.

    """
    if len(mnemonics) != WORDS_NEEDED:
        raise WordsWrong(f"{len(mnemonics)} shares given: exactly {WORDS_NEEDED} are needed")
    positions: set[int] = set()
    for number, mnemonic in enumerate(mnemonics, start=1):
        words = mnemonic.split()
        if len(words) != WORDS_PER_SHARE:
            raise WordsWrong(
                f"share {number} has {len(words)} words: each has {WORDS_PER_SHARE}, read it again"
            )
        try:
            positions.add(Share.from_mnemonic(" ".join(words).lower()).index)
        except shamir_mnemonic.MnemonicError:
            raise WordsWrong(
                f"share {number} is mistyped (unknown word or checksum): read it again"
            ) from None
    if len(positions) != WORDS_NEEDED:
        raise WordsWrong("a share is given twice: give three different custodians' words")
    try:
        joined = [" ".join(mnemonic.split()).lower() for mnemonic in mnemonics]
        seat_key: bytes = shamir_mnemonic.combine_mnemonics(joined)
    except shamir_mnemonic.MnemonicError:
        raise WordsWrong("the shares are not of one seat and one ceremony") from None
    if len(seat_key) != SEAT_KEY_BYTES:
        raise WordsWrong("they are not the shares of a seat key")
    return seat_key
