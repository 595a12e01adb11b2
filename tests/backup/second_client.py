"""A whole client of the vault, written from docs/mobile.md alone: register, recover, look, delete.

It is the second of its kind: where it and the SDK read and write the same record, the page has
told everything. Its state is one sealed file, saved before each step that must not be forgotten.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import second_bytes as qv
from second_bytes import NotOpened, from_text, to_text
from second_state import Json, State, shaped
from second_wire import (
    ABOUT_THE_RECORD,
    Charges,
    Failed,
    Refused,
    Superseded,
    Tampered,
    Unavailable,
    Wire,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from second_wire import Node

Fields = dict[str, type]
WITNESS_S = 2.0

STARTED: Fields = {"record_id": str, "registration_id": str, "response": str}
STARTED |= {"era": int, "verified": bool}
STORED: Fields = {"state": str, "registration_id": str}
LOOK: Fields = {"state": str, "era": int, "limit": int}
ATTEMPTED: Fields = dict.fromkeys(("record_id", "attempt_id", "registration_id"), str)
ATTEMPTED |= {"ke2": str, "proof_box": str, "era": int, "guesses_remaining": int}
ATTEMPTED |= {"replayed": bool, "verified": bool}
PROVEN: Fields = {"wrapped_key": str, "registration_id": str}
DELETED: Fields = {"state": str}


class WrongPassword(Failed):
    """The password opens nothing; `certain` when two data centers have evaluated it."""

    def __init__(self, guesses_remaining: int, *, certain: bool) -> None:
        super().__init__(f"{guesses_remaining} guesses remain")
        self.guesses_remaining = guesses_remaining
        self.certain = certain


class SecondClient:
    """One account at one vault.

    `state` is a file; `keys` stands for the phone's key store: "state" has the 32 bytes that seal
    the file, "backup" gets the backup key.
    """

    def __init__(
        self,
        urls: Sequence[str],
        ca_file: str,
        token: Callable[[], str],
        state: Path,
        keys: dict[str, bytes],
    ) -> None:
        self.keys = keys
        self.state = State(state, keys.setdefault("state", os.urandom(32)))
        self.wire = Wire(urls, ca_file, token, self.state.get, self.state["nodes"])

    # ---- what the app calls

    def status(self) -> Json:
        return self._ask(LOOK, "GET", "/v1/record")[0]

    def register(self, password: str, backup_key: bytes) -> None:
        """A first key, a new password for the same key, or a new key."""
        if "registration" in self.state:
            raise Failed("an unfinished registration: finish or drop it first")
        typed = _typed(password)
        self.keys["backup"] = backup_key
        seed, blind = os.urandom(32), qv.random_scalar()
        request, proof_key = qv.blinded(typed, blind), qv.sign_key(seed)
        start = {"request": to_text(request), "proof_key": to_text(proof_key)}
        answer, seats, verified = self._start(start, request, proof_key)
        registration = from_text(answer["registration_id"], 32)
        try:
            sealed = qv.finish_registration(
                password=typed,
                blind=blind,
                response=from_text(answer["response"], 64),
                registration=registration,
                backup_key=backup_key,
                proof_seed=seed,
                envelope_nonce=os.urandom(32),
                box_nonces=(os.urandom(12), os.urandom(12)),
            )
        except NotOpened as error:
            raise Tampered(f"the registration's answer: {error}") from error
        put = start | {
            "era": answer["era"],
            "record": to_text(sealed.record),
            "proof_box": to_text(sealed.proof_box),
            "wrapped_key": to_text(sealed.wrapped_key),
        }
        signature = qv.activation_signature(seed, self.state["cluster_id"], registration)
        self.state.save(
            registration={
                "id": answer["registration_id"],
                "content": to_text(sealed.content),
                "put": json.dumps(put),
                "activation": json.dumps({"signature": to_text(signature)}),
                "seats": seats,
                "verified": verified,
            }
        )
        self.finish_registration()

    def finish_registration(self) -> None:
        """From the PUT on; all of it may be repeated."""
        ours = self.state["registration"]
        path = f"/v1/registrations/{ours['id']}"
        try:
            told = self._ask(STORED, "PUT", path, ours["put"])[0]
            if told["state"] != "active":
                if self._confirmed(ours, pending=True) < 2:
                    raise Unavailable("fewer than two data centers tell what they keep")
                told = self._ask(STORED, "POST", f"{path}/activation", ours["activation"])[0]
            if (told["state"], told["registration_id"]) != ("active", ours["id"]):
                raise Tampered("the activation's answer is about something else")
            sure = self._confirmed(ours, pending=False)
        except Superseded:
            self.state.save(registration=None)
            raise
        except Refused as refusal:
            if refusal.code in ABOUT_THE_RECORD:
                self.state.save(registration=None)
            raise
        certain = sure == 3 and ours["verified"]
        unconfirmed = None if certain else ours["seats"]
        self.state.save(registration=None, own=ours["id"], unconfirmed=unconfirmed)

    def drop_registration(self) -> None:
        self.state.save(registration=None)

    def recover(self, password: str) -> bytes:
        """The backup key, also in the key store; one typed password is one guess at most."""
        typed = _typed(password)
        attempt = self.state.get("attempt")
        if attempt and qv.blinded(typed, bytes.fromhex(attempt["blind"])) != _ke1(attempt)[:32]:
            attempt = None
        if attempt is None:
            blind = qv.random_scalar()
            ke1, secret = qv.make_ke1(typed, blind, os.urandom(32), os.urandom(32))
            attempt = {"ke1": to_text(ke1), "blind": blind.hex(), "secret": secret.hex()}
            self.state.save(attempt=attempt | {"charged": "no"})
        if "proof" not in self.state["attempt"]:
            opened = self._guess(typed)
        else:
            opened = _open(typed, attempt, attempt["ke2"])
        return self._prove(opened)

    def delete(self) -> None:
        """Look, then delete that era; it may be repeated."""
        self._ask(DELETED, "DELETE", f"/v1/record?era={self.status()['era']}")
        self.state.save(own=None, unconfirmed=None, registration=None, attempt=None)

    # ---- asking

    def _met(self, answer: Json, node: Node, newest: Json | None, fields: Fields) -> Json:
        shaped(answer, fields | {"receipt": dict} if "response" not in fields else fields)
        if "receipt" in answer:
            if answer["receipt"].get("cluster_id") != node.cluster_id:
                raise Tampered("a receipt of another vault")
            self.state.check_receipt(answer["receipt"], newest)
        return answer

    def _ask(
        self, fields: Fields, method: str, path: str, body: str | None = None, **how: Any
    ) -> tuple[Json, Node]:
        newest = self.state.get("receipt")
        answer, node = self.wire.ask(method, path, _bytes(body), **how)
        return self._met(answer, node, newest, fields), node

    def _ask_three(
        self,
        fields: Fields,
        method: str,
        path: str,
        body: str | None = None,
        *,
        rounds: int | None = None,
    ) -> list[tuple[Json, Node]]:
        newest = self.state.get("receipt")
        answers = self.wire.ask_three(method, path, _bytes(body), rounds=rounds)
        return [(self._met(answer, node, newest, fields), node) for answer, node in answers]

    # ---- registration

    def _start(self, start: Json, request: bytes, proof_key: bytes) -> tuple[Json, list[int], bool]:
        for _ in range(2):
            told = self._ask_three(STARTED, "POST", "/v1/registrations", json.dumps(start))
            for answer, node in told:
                self._check_start(answer, node, request, proof_key)
            facts = {(answer["record_id"], answer["response"]) for answer, _ in told}
            if len(facts) > 1:
                raise Tampered("three data centers give different answers")
            if len({answer["era"] for answer, _ in told}) == 1:
                first, node = told[0]
                self.state.pin(
                    cluster_id=node.cluster_id,
                    opaque_public_key=node.vault["opaque_public_key"],
                    record_id=first["record_id"],
                )
                verified = all(answer["verified"] for answer, _ in told)
                return first, [node.seat for _, node in told], verified
        raise Superseded("the record changes while we register")

    def _check_start(self, answer: Json, node: Node, request: bytes, proof_key: bytes) -> None:
        try:
            record_id = from_text(answer["record_id"], 32)
            right = qv.registration_id(record_id, answer["era"], request, proof_key)
            if from_text(answer["registration_id"], 32) != right:
                raise Tampered("registration_id is not that of this request")
            response = from_text(answer["response"], 64)
            if response[32:] != from_text(node.vault["opaque_public_key"], 32):
                raise Tampered("the response has another OPAQUE key")
        except NotOpened as error:
            raise Tampered(f"the registration's answer: {error}") from error
        self.state.check_pin("record_id", answer["record_id"])

    def _confirmed(self, ours: Json, *, pending: bool) -> int:
        """How many data centers keep what we sent, byte for byte."""
        confirmed = 0
        for look, _ in self._ask_three(LOOK, "GET", "/v1/record", rounds=3):
            shown = look
            if pending and look.get("registration_id") != ours["id"]:
                shown = look.get("pending") or {}
            if shown.get("registration_id") != ours["id"]:
                raise Superseded("another registration is there, or none")
            told = shown.get("content")
            if told not in (None, ours["content"]):
                raise Tampered("a data center keeps other bytes than we sent")
            confirmed += told is not None
        return confirmed

    # ---- recovery

    def _attempt(self, *, verify: bool, charges: Charges, **how: Any) -> tuple[Json, Node]:
        attempt = self.state["attempt"]
        body = {"ke1": attempt["ke1"]} | ({"verify": True} if verify else {})
        try:
            answer, node = self._ask(
                ATTEMPTED, "POST", "/v1/attempts", json.dumps(body), charges=charges, **how
            )
        except (Unavailable, Refused) as error:
            final = isinstance(error, Refused) and error.code in ABOUT_THE_RECORD
            gone = final or charges.worst == "no"
            self.state.save(attempt=None if gone else attempt | {"charged": charges.worst})
            raise
        self.state.save(attempt=attempt | {"charged": charges.worst})
        try:
            right = qv.attempt_id(from_text(answer["record_id"], 32), _ke1(attempt))
            if from_text(answer["attempt_id"], 32) != right:
                raise Tampered("attempt_id is not that of this KE1")
            for name, length in (("registration_id", 32), ("ke2", 320), ("proof_box", 61)):
                from_text(answer[name], length)
        except NotOpened as error:
            raise Tampered(f"the attempt's answer: {error}") from error
        self.state.check_pin("record_id", answer["record_id"])
        return answer, node

    def _guess(self, typed: bytes) -> qv.Opened:
        """One KE1, opened and signed for; the attempt in the state has the proof afterwards."""
        doubted = self.state.get("unconfirmed") or []
        fresh = [node for node in range(1, 6) if node not in doubted] if doubted else []
        charges = Charges(self.state["attempt"]["charged"])
        answer, node = self._attempt(verify=bool(doubted), charges=charges, first=fresh)
        try:
            opened = _open(typed, self.state["attempt"], answer["ke2"])
        except NotOpened:
            if len(self.wire.urls) == 1:
                self.state.save(attempt=None)
                raise WrongPassword(answer["guesses_remaining"], certain=False) from None
            answer, node = self._attempt(verify=True, charges=charges, without=[node.seat])
            try:
                opened = _open(typed, self.state["attempt"], answer["ke2"])
            except NotOpened:
                self.state.save(attempt=None)
                raise WrongPassword(
                    answer["guesses_remaining"], certain=answer["verified"]
                ) from None
        if to_text(opened.server_key) != node.vault["opaque_public_key"]:
            raise Tampered("somebody answers in the vault's place")
        registration = from_text(answer["registration_id"], 32)
        try:
            box = from_text(answer["proof_box"], 61)
            seed = qv.open_box(opened.export_key, "proof", box, registration)
        except NotOpened as error:
            raise Tampered(str(error)) from error
        self._compare(answer, self._witness([node.seat]))
        self.state.pin(
            cluster_id=node.cluster_id,
            opaque_public_key=node.vault["opaque_public_key"],
            record_id=answer["record_id"],
        )
        attempt = from_text(answer["attempt_id"], 32)
        signature = qv.proof_signature(
            seed, self.state["cluster_id"], registration, answer["era"], attempt
        )
        kept = ("registration_id", "attempt_id", "era", "ke2")
        proof = {
            "ke1": self.state["attempt"]["ke1"],
            "era": answer["era"],
            "signature": to_text(signature),
        }
        signed = {name: answer[name] for name in kept} | {"proof": json.dumps(proof)}
        self.state.save(attempt=self.state["attempt"] | signed | {"seat": node.seat})
        return opened

    def _witness(self, without: list[int]) -> Json | None:
        try:
            return self._ask(
                LOOK, "GET", "/v1/record", without=without, rounds=1, within_s=WITNESS_S
            )[0]
        except (Unavailable, Refused):
            return None

    def _compare(self, answer: Json, witness: Json | None) -> None:
        if witness is None:
            return
        if witness["era"] > answer["era"]:
            self.state.save(attempt=None)
            raise Superseded("the record changed meanwhile; type the password again")
        same = witness.get("registration_id") == answer["registration_id"]
        if witness["era"] < answer["era"] or not same:
            raise Tampered("the attempt's era or registration is nobody else's")

    def _prove(self, opened: qv.Opened) -> bytes:
        attempt = self.state["attempt"]
        path = f"/v1/attempts/{attempt['attempt_id']}/proof"
        try:
            answer = self._ask(PROVEN, "POST", path, attempt["proof"])[0]
        except Refused as refusal:
            if refusal.code in ABOUT_THE_RECORD:
                self.state.save(attempt=None)
            raise
        if answer["registration_id"] != attempt["registration_id"]:
            raise Tampered("the proof's answer is about another registration")
        registration = from_text(answer["registration_id"], 32)
        try:
            box = from_text(answer["wrapped_key"], range(30, 1025))
            key = qv.open_box(opened.export_key, "key", box, registration)
        except NotOpened as error:
            raise Tampered(str(error)) from error
        self.keys["backup"] = key
        doubted = self.state.get("unconfirmed")
        settled = doubted is None or attempt["seat"] not in doubted
        self.state.save(attempt=None, unconfirmed=None if settled else doubted)
        return key


def _bytes(body: str | None) -> bytes | None:
    return None if body is None else body.encode()


def _typed(password: str) -> bytes:
    try:
        typed = password.encode()
    except UnicodeEncodeError as error:
        raise Failed("the password is no valid Unicode") from error
    if not 1 <= len(typed) <= 4096:
        raise Failed("a password has 1 to 4,096 bytes")
    return typed


def _ke1(attempt: Json) -> bytes:
    return from_text(attempt["ke1"], 96)


def _open(typed: bytes, attempt: Json, ke2: object) -> qv.Opened:
    blind, secret = bytes.fromhex(attempt["blind"]), bytes.fromhex(attempt["secret"])
    return qv.open_ke2(typed, blind, secret, _ke1(attempt), from_text(ke2, 320))
