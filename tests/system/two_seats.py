"""Everything that can be computed from the state of some seats, by another library than ours.

r_A, k_j and the evaluation as crypto.md writes them, with libsodium and Python's integers. `guess`
is the whole arsenal against one registration: the true evaluation if three seats' sets are known,
and otherwise everything that could stand in for what is missing.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import sodium_client as opaque

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ORDER = 2**252 + 27742317777372353535851937790883648493
SEATS, THRESHOLD = 5, 3
ALL_SETS = [bytes(each) for each in combinations(range(1, SEATS + 1), SEATS - THRESHOLD + 1)]


def subset_scalar(prf: bytes) -> int:
    """r_A."""
    return int.from_bytes(opaque.reduce_wide(prf), "little")


def times(scalar: int, element: bytes) -> bytes | None:
    """scalar·element; None for the identity."""
    scalar %= ORDER
    return None if scalar == 0 else opaque.multiply(scalar.to_bytes(32, "little"), element)


def value_at(group: bytes, seat: int) -> int:
    """f_A(seat): degree 2, 1 at 0, 0 at the seats outside A."""
    value = 1
    for outside in set(range(1, SEATS + 1)) - set(group):
        value = value * (outside - seat) * pow(outside, -1, ORDER) % ORDER
    return value


def share_of(seat: int, known: Mapping[bytes, int], missing: int = 0) -> int:
    """k_seat as far as known, `missing` standing in for each r_A that is not."""
    total = 0
    for group in ALL_SETS:
        if seat in group:
            total += value_at(group, seat) * known.get(group, missing)
    return total % ORDER


def at_zero(shares: Mapping[int, int]) -> int:
    """Lagrange at 0 over however many shares."""
    total = 0
    for seat, share in shares.items():
        weight = 1
        for other in shares:
            if other != seat:
                weight = weight * other * pow(other - seat, -1, ORDER) % ORDER
        total += weight * share
    return total % ORDER


def keys(known: Mapping[bytes, int]) -> Iterator[int]:
    """Every candidate for the OPRF key that these r_A allow to compute."""
    total = sum(known.values())
    stand_ins = [0, 1, ORDER - 1, total, -total, *known.values(), *(-r for r in known.values())]
    for missing in stand_ins:
        count = len(ALL_SETS) - len(known)
        yield total + count * missing
        shares = {seat: share_of(seat, known, missing) for seat in range(1, SEATS + 1)}
        for size in range(1, SEATS + 1):
            for chosen in combinations(shares, size):
                yield at_zero({seat: shares[seat] for seat in chosen})


def opens(
    record: bytes, server_key: bytes, password: bytes, blind: bytes, evaluated: bytes
) -> bool:
    """Whether this evaluation and password open the envelope of an unsealed OPAQUE record."""
    public, nonce, tag = record[:32], record[96:128], record[128:]
    randomized = opaque._randomized_password(password, blind, evaluated, opaque.identity_ksf)
    auth_key, *_ = opaque._envelope_keys(randomized, nonce)
    return tag == opaque._mac(auth_key, nonce + opaque._cleartext(opaque.VAULT, server_key, public))


def guess(known: Mapping[bytes, int], record: bytes, server_key: bytes, password: bytes) -> bool:
    """Try one password offline with everything that `known` allows."""
    blind = (1).to_bytes(32, "little")
    element = opaque.oprf_blind(password, blind)
    for key in {key % ORDER for key in keys(known)} - {0}:
        evaluated = times(key, element)
        if evaluated is not None and opens(record, server_key, password, blind, evaluated):
            return True
    return False
