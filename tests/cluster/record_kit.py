"""Hands for the tests of record and ledger: people with proof keys, and short ways to commands."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from uuid import UUID

from cluster.commands import Activate, Charge, Delete, Expire, Prove, Register, Status
from cluster.record import Record, Rules, apply
from engines._engines import ed25519_public_key, ed25519_sign
from engines.identifiers import activation_message, prove_message, registration_id

S = Status
CLUSTER = UUID("00112233-4455-6677-8899-aabbccddeeff")
OTHER_CLUSTER = UUID("ffeeddcc-bbaa-9988-7766-554433221100")
LIMIT = 10
RULES = Rules(CLUSTER, LIMIT)
ID = bytes(range(32))
OTHER_ID = bytes(range(1, 33))
WEAK_KEY = b"\x01" + bytes(31)
BAD_SIGNATURE = bytes(64)


def h(*parts: object) -> bytes:
    """Any 32 bytes, the same for the same parts."""
    return hashlib.sha256(repr(parts).encode()).digest()


def att(n: object) -> bytes:
    return h("attempt", n)


@cache
def public_key(seed: bytes) -> bytes:
    return ed25519_public_key(seed)


@cache
def sign(seed: bytes, message: bytes) -> bytes:
    return ed25519_sign(seed, message)


@dataclass(frozen=True)
class Phone:
    """One registration as its client made it, for one record and birth era."""

    name: str
    era: int = 0
    sealed: bytes = b"\x01" + bytes(339)
    record_id: bytes = ID

    @cached_property
    def seed(self) -> bytes:
        return h("seed", self.name)

    @cached_property
    def key(self) -> bytes:
        return public_key(self.seed)

    @cached_property
    def request(self) -> bytes:
        return h("request", self.name)

    @cached_property
    def id(self) -> bytes:
        return registration_id(self.record_id, self.era, self.request, self.key)

    def register(self) -> Register:
        return Register(self.record_id, self.era, self.request, self.key, self.sealed)

    def activate(self, cluster: UUID = CLUSTER) -> Activate:
        signature = sign(self.seed, activation_message(cluster, self.id))
        return Activate(self.record_id, self.id, signature)

    def prove(self, era: int, attempt: bytes, cluster: UUID = CLUSTER) -> Prove:
        signature = sign(self.seed, prove_message(cluster, self.id, era, attempt))
        return Prove(self.record_id, self.id, era, attempt, signature)


def charge(era: int, n: object, record_id: bytes = ID) -> Charge:
    return Charge(record_id, era, n if isinstance(n, bytes) else att(n))


def expire(era: int) -> Expire:
    return Expire(ID, era)


def delete(era: int) -> Delete:
    return Delete(ID, era)


def run(*commands: object, record: Record | None = None, rules: Rules = RULES) -> Record | None:
    """The record after these commands, whatever their outcomes."""
    for command in commands:
        record, _ = apply(rules, record, command)
    return record


A = Phone("a")
B = Phone("b", era=1)


def active(*charges: object) -> Record:
    """Phone A active in era 1, with these attempts charged."""
    record = run(A.register(), A.activate(), *(charge(1, n) for n in charges))
    assert record is not None
    return record


FULL = range(LIMIT)


def pending_b(*charges):
    return run(B.register(), record=active(*charges))


def proven():
    """A active in era 2, attempt 0 of era 1 being the last proof, attempt 1 listed."""
    return run(charge(1, 0), A.prove(1, att(0)), charge(2, 1), record=active())


def locked():
    return run(expire(1), record=active(*FULL))


def locked_with_pending():
    return run(B.register(), expire(1), record=active(*FULL))


def tombstone():
    return run(delete(1), record=active(1))
