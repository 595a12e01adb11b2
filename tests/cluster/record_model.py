"""A second opinion: design section 5's table written down again, naively, from the page alone.

It shares no code with `cluster.record`: plain dictionaries, its own encoding and hashing, and
another Ed25519 (pyca/cryptography). Outcomes are plain dictionaries too, compared field by field.
"""

from __future__ import annotations

import copy
import hashlib
import struct
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SMALL_ORDER = {b"\x01" + bytes(31), bytes(32), b"\xec" + b"\xff" * 30 + b"\x7f"}


def encode(label: str, *fields: bytes) -> bytes:
    text = b"quorumvault/v1/" + label.encode()
    out = struct.pack(">B", len(text)) + text + struct.pack(">B", len(fields))
    for field in fields:
        out += struct.pack(">I", len(field)) + field
    return out


def reg_id(record_id: bytes, era: int, request: bytes, key: bytes) -> bytes:
    fields = (record_id, struct.pack(">Q", era), request, key)
    return hashlib.sha256(encode("registration-id", *fields)).digest()


@cache
def verifies(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Model:
    """One account."""

    def __init__(self, cluster: bytes, limit: int) -> None:
        self.cluster = cluster
        self.limit = limit
        self.era = 0
        self.version = 0
        self.active: dict[str, Any] | None = None
        self.pending: dict[str, Any] | None = None
        self.list: list[bytes] = []
        self.last: dict[str, Any] | None = None
        self.locked = False

    def snapshot(self) -> dict[str, Any]:
        """Everything but the constants."""
        state = copy.deepcopy(self.__dict__)
        del state["cluster"], state["limit"]
        return state

    def do(self, kind: str, c: Any) -> dict[str, Any]:
        before = self.snapshot()
        said: dict[str, Any] = getattr(self, kind.lower())(c)
        if self.snapshot() != before:
            self.version += 1
        return {"era": self.era, "version": self.version, **said}

    def remaining(self) -> int:
        return 0 if self.active is None else max(0, self.limit - len(self.list))

    def register(self, c: Any) -> dict[str, Any]:
        rid = reg_id(c.record_id, c.era, c.request, c.proof_key)
        said = {"registration_id": rid, "state": ""}
        if c.proof_key in SMALL_ORDER:
            return {**said, "status": "rejected"}
        for where in ("active", "pending"):
            there = getattr(self, where)
            if there and there["id"] == rid:
                if there["sealed"] == c.sealed:
                    return {**said, "status": "same", "state": where}
                return {**said, "status": "conflict"}
        if c.era != self.era:
            return {**said, "status": "stale"}
        self.pending = {
            "id": rid,
            "birth": c.era,
            "request": c.request,
            "key": c.proof_key,
            "sealed": c.sealed,
        }
        return {**said, "status": "done", "state": "pending"}

    def activate(self, c: Any) -> dict[str, Any]:
        nothing = {
            "registration_id": c.registration_id,
            "birth_era": 0,
            "request": b"",
            "proof_key": b"",
        }
        if self.active and self.active["id"] == c.registration_id:
            return {**self.said_of_active(), "status": "same"}
        if not self.pending or self.pending["id"] != c.registration_id:
            return {**nothing, "status": "conflict"}
        message = encode("activate", self.cluster, c.registration_id)
        if not verifies(self.pending["key"], message, c.signature):
            return {**nothing, "status": "rejected"}
        self.active, self.pending = self.pending, None
        self.list, self.last, self.locked = [], None, False
        self.era += 1
        return {**self.said_of_active(), "status": "done"}

    def said_of_active(self) -> dict[str, Any]:
        assert self.active
        return {
            "registration_id": self.active["id"],
            "birth_era": self.active["birth"],
            "request": self.active["request"],
            "proof_key": self.active["key"],
        }

    def grant(self, era: int) -> tuple[bytes, int, bytes, bytes]:
        assert self.active
        return (self.active["id"], era, self.active["key"], self.active["sealed"])

    def charge(self, c: Any) -> dict[str, Any]:
        status, grant = self.charge_status(c), None
        if status == "done":
            self.list.append(c.attempt_id)
        if status in ("done", "replayed"):
            grant = self.grant(self.era)
        return {
            "status": status,
            "attempt_id": c.attempt_id,
            "guesses_remaining": self.remaining(),
            "grant": grant,
        }

    def charge_status(self, c: Any) -> str:
        if c.attempt_id in self.list:
            return "replayed"
        if self.last and self.last["attempt"] == c.attempt_id:
            return "superseded"
        if c.era != self.era:
            return "stale"
        if not self.active and not self.locked:
            return "not-registered"
        if self.locked:
            return "locked"
        if len(self.list) == self.limit:
            return "exhausted"
        return "done"

    def prove(self, c: Any) -> dict[str, Any]:
        status = self.prove_status(c)
        grant = self.grant(c.era) if status in ("done", "same") else None
        if status == "done":
            self.list = []
            self.era += 1
            self.last = {
                "attempt": c.attempt_id,
                "era": c.era,
                "signature": c.signature,
                "registration": c.registration_id,
            }
        return {
            "status": status,
            "attempt_id": c.attempt_id,
            "guesses_remaining": self.remaining(),
            "signature": c.signature,
            "grant": grant,
        }

    def prove_status(self, c: Any) -> str:
        era = struct.pack(">Q", c.era)
        message = encode("prove", self.cluster, c.registration_id, era, c.attempt_id)
        good = bool(self.active) and verifies(self.active["key"], message, c.signature)
        last = self.last
        if (
            last
            and last["attempt"] == c.attempt_id
            and last["era"] == c.era
            and last["registration"] == c.registration_id
            and good
        ):
            return "same"
        if not self.active or self.active["id"] != c.registration_id:
            return "superseded"
        if c.era != self.era:
            return "superseded"
        if c.attempt_id not in self.list:
            return "superseded"
        return "done" if good else "rejected"

    def expire(self, c: Any) -> dict[str, Any]:
        if c.era != self.era or not self.active or len(self.list) != self.limit:
            return {"status": "same", "registration_id": b""}
        ended = self.active["id"]
        self.active, self.list, self.last, self.locked = None, [], None, True
        self.era += 1
        return {"status": "done", "registration_id": ended}

    def delete(self, c: Any) -> dict[str, Any]:
        anything = self.active or self.pending or self.locked
        if c.era != self.era:
            return {"status": "stale" if anything else "same"}
        if not anything:
            return {"status": "same"}
        self.active = self.pending = self.last = None
        self.list, self.locked = [], False
        self.era += 1
        return {"status": "done"}
