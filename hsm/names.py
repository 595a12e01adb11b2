"""Which keys exist, who holds them and what they are called (crypto.md, Keys).

`oprf/<A>` for every set A of n-t+1 seats, held by the seats in A; `identity` and `seal/<epoch>`
by all; `node` made inside one HSM and never anywhere else. Names are what cluster.json and every
message use; on a token each carries the prefix below, so that a shared device shows whose they are.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final

KEY_BYTES: Final = 64
IDENTITY: Final = "identity"
NODE: Final = "node"
SEAL_EPOCH: Final = 1
LABEL_PREFIX: Final = "quorumvault/"
MAX_SEATS: Final = 9
"""A set of seats is written as digits in a key's name."""


def check_scheme(seats: int, threshold: int) -> None:
    """Refuse a scheme that the names cannot express or that protects nothing.

    Raises:
        ValueError: unless 2 ≤ threshold ≤ seats ≤ 9.

    """
    if not 2 <= threshold <= seats <= MAX_SEATS:
        raise ValueError(f"{threshold} of {seats} seats: need 2 ≤ threshold ≤ seats ≤ {MAX_SEATS}")


def subsets(seats: int, threshold: int) -> list[bytes]:
    """All sets A of seats-threshold+1 seats, each as ascending seat bytes, in order."""
    check_scheme(seats, threshold)
    return [bytes(group) for group in combinations(range(1, seats + 1), seats - threshold + 1)]


def held_subsets(seat: int, seats: int, threshold: int) -> list[bytes]:
    """The sets that contain `seat`: six for a seat of five with threshold three."""
    if not 1 <= seat <= seats:
        raise ValueError(f"seat {seat}: must be 1…{seats}")
    return [group for group in subsets(seats, threshold) if seat in group]


def oprf_name(group: bytes) -> str:
    """`oprf/124` for the seats 1, 2 and 4."""
    return "oprf/" + "".join(str(seat) for seat in group)


def seal_name(epoch: int) -> str:
    """`seal/1` for the first epoch."""
    return f"seal/{epoch}"


def shared_names(seats: int, threshold: int) -> list[str]:
    """Every key that the ceremony draws, in order."""
    oprf = [oprf_name(group) for group in subsets(seats, threshold)]
    return [*oprf, IDENTITY, seal_name(SEAL_EPOCH)]


def held_names(seat: int, seats: int, threshold: int) -> list[str]:
    """The shared keys of one seat, in order: what its package holds."""
    oprf = [oprf_name(group) for group in held_subsets(seat, seats, threshold)]
    return [*oprf, IDENTITY, seal_name(SEAL_EPOCH)]
