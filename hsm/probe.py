"""What must be true of a token before it gives a single share, and once a second ever after.

Start-up: mechanisms, random, a known answer, every key of the seat present once, guarded and equal
to its check value (crypto.md, Keys). Health: the session answers, the token's own objects are still
there and still compute. Session copies alone would go on working with the token gone, so the
health check asks the token's objects (I9).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hsm import stamps
from hsm.errors import KeyMismatch, NodeKeyChanged, SelfTestFailed
from hsm.names import (
    IDENTITY,
    KEY_BYTES,
    NODE,
    SEAL_EPOCH,
    held_names,
    held_subsets,
    oprf_name,
    seal_name,
)
from hsm.prf import (
    AKE_KEY_MESSAGE,
    CHECK_MESSAGE,
    CHECK_VALUE_BYTES,
    DERIVED_KEY_BYTES,
    RECORD_KEY_MESSAGE,
    STATE_KEY_MESSAGE,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pkcs11

    from hsm.token import OpenToken

_TEST_KEY: Final = bytes(range(KEY_BYTES))
_TEST_MESSAGE: Final = b"quorumvault known answer"
_TEST_ANSWER: Final = bytes.fromhex(  # openssl dgst -sha512 -mac HMAC
    "5edaa1a837a070af952fc98c51c936ef7d4948a050cb2f6f05fa4bad600b9524"
    "1c1e840a727cc09de4cad83b15184cf012dff8782ef4d396c660ed94ea00ae54"
)
_RANDOM_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Seat:
    """Which keys a token must hold: seat j of n, any t of which evaluate."""

    seat: int
    seats: int
    threshold: int
    check_values: Mapping[str, bytes]

    def __post_init__(self) -> None:
        for name in self.names:
            if len(self.check_values.get(name, b"")) != CHECK_VALUE_BYTES:
                raise ValueError(
                    f"check value of {name} is absent or not {CHECK_VALUE_BYTES} bytes: "
                    "correct cluster.json"
                )

    @property
    def names(self) -> list[str]:
        """The shared keys of this seat."""
        return held_names(self.seat, self.seats, self.threshold)


@dataclass(frozen=True, slots=True)
class Keys:
    """The seat's keys, ready for use, and the few derived ones that live in memory."""

    oprf: tuple[tuple[bytes, pkcs11.Object], ...]
    """(A as ascending seat bytes, key): six for a seat of five with threshold three."""
    seal: Mapping[int, pkcs11.Object]
    """By epoch."""
    on_token: Mapping[str, pkcs11.Object]
    """By name, `node` among them: the token's own objects, not the session's copies."""
    record_key: bytes = field(repr=False)
    ake_seed: bytes = field(repr=False)
    state_key: bytes = field(repr=False)


def check_device(token: OpenToken) -> None:
    """Mechanisms, random and a known answer.

    Raises:
        MechanismMissing, SelfTestFailed, HsmAway.

    """
    token.check_mechanisms()
    first, second = token.random(_RANDOM_BYTES), token.random(_RANDOM_BYTES)
    if first == second or len(first) != _RANDOM_BYTES:
        raise SelfTestFailed("its random bytes repeat", token.label)
    key = token.import_key("self-test", _TEST_KEY, on_token=False)
    check_answer(token.sign(key, _TEST_MESSAGE), token.label)
    token.tune(key)
    token.destroy(key)


def check_answer(answer: bytes, label: str) -> None:
    """Raises SelfTestFailed unless `answer` is the known HMAC-SHA-512."""
    if not hmac.compare_digest(answer, _TEST_ANSWER):
        raise SelfTestFailed("HMAC-SHA-512 gives a wrong answer", label)


def open_keys(token: OpenToken, seat: Seat) -> Keys:
    """Find each key of the seat once, check it, and copy it into the session.

    Raises:
        KeyMissing, KeyAmbiguous, KeyExposed, KeyMismatch: naming the key.
        HsmAway: the device failed meanwhile.

    """
    found = {name: token.find_key(name) for name in [*seat.names, NODE]}
    for name, key in found.items():
        token.check_guarded(name, key)
    for name in seat.names:
        check_key(token, name, found[name], seat.check_values[name])
    ready = {name: token.session_copy(key) for name, key in found.items()}

    def derive(name: str, message: bytes) -> bytes:
        return token.sign(ready[name], message)[:DERIVED_KEY_BYTES]

    groups = held_subsets(seat.seat, seat.seats, seat.threshold)
    return Keys(
        oprf=tuple((group, ready[oprf_name(group)]) for group in groups),
        seal={SEAL_EPOCH: ready[seal_name(SEAL_EPOCH)]},
        on_token=found,
        record_key=derive(IDENTITY, RECORD_KEY_MESSAGE),
        ake_seed=derive(IDENTITY, AKE_KEY_MESSAGE),
        state_key=derive(NODE, STATE_KEY_MESSAGE),
    )


def check_key(token: OpenToken, name: str, key: pkcs11.Object, expected: bytes) -> None:
    """Raises KeyMismatch naming the key, HsmAway."""
    actual = token.sign(key, CHECK_MESSAGE)[:CHECK_VALUE_BYTES]
    if not hmac.compare_digest(actual, expected):
        raise KeyMismatch(name, f"on token {token.label!r}")


def check_health(token: OpenToken, keys: Keys, seat: Seat) -> None:
    """One round trip to every object of the token; half a millisecond on SoftHSM.

    Raises:
        HsmAway, KeyMismatch, NodeKeyChanged, StampMissing.

    """
    for name in seat.names:
        check_key(token, name, keys.on_token[name], seat.check_values[name])
    state_key = token.sign(keys.on_token[NODE], STATE_KEY_MESSAGE)[:DERIVED_KEY_BYTES]
    if not hmac.compare_digest(state_key, keys.state_key):
        raise NodeKeyChanged(token.label)
    stamps.read(token)
