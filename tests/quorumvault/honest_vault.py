"""A small honest vault for client tests, after crypto.md and design section 7, with real crypto.

Five seats hold real subset keys and evaluate by threshold; what a record becomes is decided by the
product's own state machine. What is missing is Raft: one log, in memory, serves all five nodes.
Sealing is left out (nobody here looks at disks): `sealed` is the plaintext, framed.
`interfere` lets a test stand between the client and one node.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from cluster.commands import Activate, Charge, Delete, Expire, Prove, Register, Status
from cluster.record import Rules, apply, state_of
from engines import _engines, identifiers
from engines.encoding import b64u_decode, b64u_encode, enc
from quorumvault._wire import KSF, SUITE

if TYPE_CHECKING:
    from collections.abc import Callable

CLUSTER = UUID("00112233-4455-6677-8899-aabbccddeeff")
SEATS = (1, 2, 3, 4, 5)
THRESHOLD = 3
SHARD = 7


@dataclass
class Reply:
    status: int
    body: bytes
    retry_after: float | None = None

    def json(self) -> dict:
        return json.loads(self.body)

    def but(self, **changes: object) -> Reply:
        """The same answer with some fields changed: what a liar sends."""
        return Reply(self.status, json.dumps(self.json() | changes).encode())


def problem(status: int, code: str, charged: str = "no", retry_after: float | None = None) -> Reply:
    text = {"code": code, "detail": f"because {code}", "charged": charged}
    return Reply(status, json.dumps(text).encode(), retry_after)


@dataclass
class Call:
    node: int
    method: str
    path: str
    body: dict


@dataclass
class HonestVault:
    limit: int = 10
    account: str = "alice"
    down: set[int] = field(default_factory=set)
    hsm_away: set[int] = field(default_factory=set)
    bad_shares: set[int] = field(default_factory=set)
    interfere: Callable[[Call, Callable[[], Reply]], Reply | None] | None = None
    calls: list[Call] = field(default_factory=list)
    evaluated: list[tuple[bytes, int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rules = Rules(CLUSTER, self.limit)
        sets = itertools.combinations(SEATS, len(SEATS) - THRESHOLD + 1)
        self.oprf = {bytes(seats): os.urandom(64) for seats in sets}
        self.ake_private, self.ake_public = _engines.opaque_derive_key_pair(os.urandom(32))
        self.record_id = identifiers.record_id(os.urandom(32), CLUSTER, "demo", self.account)
        self.record = None
        self.index = 0

    # ------------------------------------------------------------ the wire

    def serve(self, node: int, method: str, path: str, body: bytes | None) -> Reply | None:
        """One call at one node; None when no answer comes."""
        call = Call(node, method, path, json.loads(body) if body else {})
        if node in self.down:
            return None
        self.calls.append(call)

        def answer() -> Reply:
            return self._answer(call)

        return answer() if self.interfere is None else self.interfere(call, answer)

    def _answer(self, call: Call) -> Reply:
        if len(SEATS) - len(self.down) < THRESHOLD and call.path != "/v1/vault":
            return problem(503, "no-quorum")
        match call.method, call.path.split("?")[0].split("/")[2:]:
            case "GET", ["vault"]:
                return self._hello(call.node)
            case "POST", ["registrations"]:
                return self._start(call)
            case "PUT", ["registrations", _]:
                return self._put(call)
            case "POST", ["registrations", rid, "activation"]:
                return self._activate(b64u_decode(rid, 32), call)
            case "POST", ["attempts"]:
                return self._attempt(call)
            case "POST", ["attempts", attempt, "proof"]:
                return self._proof(b64u_decode(attempt, 32), call)
            case "GET", ["record"]:
                return self._look(call.node)
            case "DELETE", ["record"]:
                return self._delete(int(call.path.split("era=")[1]))
        return problem(404, "malformed")

    def _ok(self, **fields: object) -> Reply:
        plain = {k: b64u_encode(v) if isinstance(v, bytes) else v for k, v in fields.items()}
        return Reply(200, json.dumps(plain).encode())

    def _receipt(self) -> dict:
        return {
            "cluster_id": str(CLUSTER),
            "shard": SHARD,
            "index": self.index,
            "version": self.record.version if self.record else 0,
            "restore_epoch": 0,
        }

    def _commit(self, command):
        self.index += 1
        self.record, outcome = apply(self.rules, self.record, command)
        return outcome

    def expire(self) -> None:
        """The grace is over."""
        self._commit(Expire(self.record_id, self.record.era))

    @property
    def era(self) -> int:
        return self.record.era if self.record else 0

    # ------------------------------------------------------------ evaluation

    def _subsets(self, seat: int, rid: bytes) -> list[tuple[bytes, bytes]]:
        message = enc("oprf-subset", rid)
        return [
            (seats, hmac.digest(key, message, hashlib.sha512))
            for seats, key in self.oprf.items()
            if seat in seats
        ]

    def _givers(self, node: int, count: int) -> list[int]:
        up = [s for s in SEATS if s not in self.down | self.hsm_away]
        return sorted(up, key=lambda seat: (seat - node) % 5)[:count]

    def _evaluate(self, node: int, rid: bytes, element: bytes, *, verify: bool):
        """(evaluation, verified) by the shares of the node and the next seats."""
        seats = self._givers(node, 5 if verify else 3)
        if len(seats) < THRESHOLD:
            return None
        shares = []
        for seat in seats:
            share = _engines.threshold_share(seat, 5, 3, self._subsets(seat, rid), element)
            if seat in self.bad_shares:
                share = _engines.opaque_registration_start(os.urandom(8))[1]
            shares.append((seat, share))
        if verify and len(shares) > THRESHOLD:
            evaluation, _ = _engines.threshold_liars(THRESHOLD, shares)
            return None if evaluation is None else (evaluation, True)
        return _engines.threshold_combine(shares[:THRESHOLD]), False

    # ------------------------------------------------------------ the calls

    def _hello(self, node: int) -> Reply:
        rows = [{"id": s, "seat": s, "dc": f"dc-{s}"} for s in SEATS]
        return self._ok(
            cluster_id=str(CLUSTER),
            name="test",
            opaque_public_key=self.ake_public,
            suite=SUITE,
            ksf=KSF,
            limit=self.limit,
            node=node,
            nodes=rows,
        )

    def _start(self, call: Call) -> Reply:
        request = b64u_decode(call.body["request"], 32)
        proof_key = b64u_decode(call.body["proof_key"], 32)
        rid = identifiers.registration_id(self.record_id, self.era, request, proof_key)
        honest, self.bad_shares = self.bad_shares, set()  # a start's shares are proven
        made = self._evaluate(call.node, rid, request, verify=True)
        self.bad_shares = honest
        if made is None:
            return problem(503, "hsm-unavailable")
        evaluation, verified = made
        return self._ok(
            record_id=self.record_id,
            registration_id=rid,
            era=self.era,
            response=_engines.opaque_registration_response(evaluation, self.ake_public),
            verified=verified,
        )

    def _put(self, call: Call) -> Reply:
        body = {k: v if k == "era" else b64u_decode(v) for k, v in call.body.items()}
        sealed = body["record"] + body["proof_box"] + body["wrapped_key"]
        outcome = self._commit(
            Register(self.record_id, body["era"], body["request"], body["proof_key"], sealed)
        )
        if outcome.status not in {Status.DONE, Status.SAME}:
            return problem(409, outcome.status.value)
        return self._ok(
            state=outcome.state,
            registration_id=outcome.registration_id,
            receipt=self._receipt(),
        )

    def _activate(self, rid: bytes, call: Call) -> Reply:
        signature = b64u_decode(call.body["signature"], 64)
        outcome = self._commit(Activate(self.record_id, rid, signature))
        if outcome.status is Status.REJECTED:
            return problem(403, "proof-rejected")
        if outcome.status is Status.CONFLICT:
            return problem(409, "conflict")
        return self._ok(state="active", registration_id=rid, receipt=self._receipt())

    def _attempt(self, call: Call) -> Reply:
        if len(self._givers(call.node, 3)) < THRESHOLD:
            return problem(503, "hsm-unavailable")
        ke1 = b64u_decode(call.body["ke1"], 96)
        attempt = identifiers.attempt_id(self.record_id, ke1)
        outcome = self._commit(Charge(self.record_id, self.era, attempt))
        refused = {
            Status.NOT_REGISTERED: (404, "not-registered"),
            Status.LOCKED: (423, "locked"),
            Status.EXHAUSTED: (423, "exhausted"),
            Status.SUPERSEDED: (409, "superseded"),
        }.get(outcome.status)
        if refused is not None:
            return problem(*refused)
        grant = outcome.grant
        record, proof_box, _ = open_sealed(grant.sealed)
        verify = bool(call.body.get("verify"))
        made = self._evaluate(call.node, grant.registration_id, ke1[:32], verify=verify)
        if made is None:
            return problem(503, "hsm-unavailable", "yes")
        self.evaluated.append((attempt, grant.era, made[0]))
        return self._ok(
            record_id=self.record_id,
            attempt_id=attempt,
            registration_id=grant.registration_id,
            era=grant.era,
            ke2=_engines.opaque_ke2(ke1, record, made[0], self.ake_private, self.ake_public),
            proof_box=proof_box,
            guesses_remaining=outcome.guesses_remaining,
            limit=self.limit,
            replayed=outcome.status is Status.REPLAYED,
            verified=made[1],
            receipt=self._receipt(),
        )

    def _proof(self, attempt: bytes, call: Call) -> Reply:
        if identifiers.attempt_id(self.record_id, b64u_decode(call.body["ke1"], 96)) != attempt:
            return problem(400, "malformed")
        active = self.record.active if self.record else None
        if active is None:
            return problem(409, "superseded", "yes")
        outcome = self._commit(
            Prove(
                self.record_id,
                active.registration_id,
                call.body["era"],
                attempt,
                b64u_decode(call.body["signature"], 64),
            )
        )
        if outcome.status is Status.REJECTED:
            return problem(403, "proof-rejected", "yes")
        if outcome.grant is None:
            return problem(409, "superseded", "yes")
        return self._ok(
            wrapped_key=open_sealed(outcome.grant.sealed)[2],
            registration_id=outcome.grant.registration_id,
            receipt=self._receipt(),
        )

    def _look(self, node: int) -> Reply:
        self.index += 1
        standing = state_of(self.record, self.limit)
        fields: dict = {"state": standing.state.value, "era": self.era, "limit": self.limit}
        if standing.guesses_remaining is not None:
            fields["guesses_remaining"] = standing.guesses_remaining
        fields["pending"] = None
        if self.record and self.record.active:
            fields |= self._described(node, self.record.active)
        if self.record and self.record.pending:
            fields["pending"] = self._described(node, self.record.pending)
        return self._ok(**fields, receipt=self._receipt())

    def _described(self, node: int, registration) -> dict:
        rid = registration.registration_id
        described = {"registration_id": b64u_encode(rid)}
        if node not in self.hsm_away:
            kept = identifiers.content(rid, *open_sealed(registration.sealed))
            described["content"] = b64u_encode(kept)
        return described

    def _delete(self, era: int) -> Reply:
        outcome = self._commit(Delete(self.record_id, era))
        if outcome.status is Status.STALE:
            return problem(409, "stale")
        return self._ok(state="none", receipt=self._receipt())


def open_sealed(sealed: bytes) -> tuple[bytes, bytes, bytes]:
    return sealed[:192], sealed[192:253], sealed[253:]
