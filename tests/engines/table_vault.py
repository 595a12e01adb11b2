"""Five seats on a table: the vault's evaluation without nodes, for tests of the engines.

Everything goes through `engines._engines`; the subset keys lie openly in one dict, which is
exactly what the real vault never has.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
from dataclasses import dataclass, field, replace

from engines import _engines
from engines.encoding import enc

CLUSTER_ID = bytes(range(16))
REGISTRATION_ID = bytes(range(32))


def prf(key: bytes, label: str, *fields: bytes) -> bytes:
    return hmac.digest(key, enc(label, *fields), "sha512")


def subset_keys(n: int, t: int, name: str = "keys") -> dict[bytes, bytes]:
    sets = (bytes(seats) for seats in itertools.combinations(range(1, n + 1), n - t + 1))
    return {seats: hashlib.sha512(name.encode() + seats).digest() for seats in sets}


@dataclass(frozen=True)
class TableVault:
    n: int = 5
    t: int = 3
    keys: dict[bytes, bytes] = field(default_factory=lambda: subset_keys(5, 3))
    registration_id: bytes = REGISTRATION_ID

    @property
    def seats(self) -> range:
        return range(1, self.n + 1)

    @property
    def ake(self) -> tuple[bytes, bytes]:
        return _engines.opaque_derive_key_pair(bytes(range(32)))

    def with_key(self, seats: bytes, key: bytes) -> TableVault:
        return replace(self, keys=self.keys | {seats: key})

    def held_by(self, seat: int) -> dict[bytes, bytes]:
        return {seats: key for seats, key in self.keys.items() if seat in seats}

    def subset_prfs(self, seat: int) -> list[tuple[bytes, bytes]]:
        held = self.held_by(seat)
        return [(seats, prf(held[seats], "oprf-subset", self.registration_id)) for seats in held]

    def share(self, seat: int, element: bytes) -> bytes:
        return _engines.threshold_share(seat, self.n, self.t, self.subset_prfs(seat), element)

    def shares(self, element: bytes) -> list[tuple[int, bytes]]:
        return [(seat, self.share(seat, element)) for seat in self.seats]

    def proven(self, seat: int, element: bytes) -> tuple[bytes, bytes, bytes]:
        return _engines.threshold_share_proven(
            CLUSTER_ID,
            self.registration_id,
            seat,
            self.n,
            self.t,
            self.subset_prfs(seat),
            element,
        )

    def evaluate(self, element: bytes, seats: tuple[int, ...] = (1, 3, 5)) -> bytes:
        return _engines.threshold_combine([(seat, self.share(seat, element)) for seat in seats])

    def registration_response(self, request: bytes) -> bytes:
        return _engines.opaque_registration_response(self.evaluate(request), self.ake[1])

    def ke2(self, ke1: bytes, record: bytes, seats: tuple[int, ...] = (2, 3, 4)) -> bytes:
        return _engines.opaque_ke2(ke1, record, self.evaluate(ke1[:32], seats), *self.ake)
