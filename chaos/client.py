"""A client that remembers everything that the vault told it.

Whole registrations, logins, wrong guesses and looks, through any node, with real OPAQUE messages;
only Argon2id is left out (a client's own cost, not the vault's), so that one machine can press
five nodes. What fails is asked again with the same bytes at another node, as the SDK does. A
client is alone on its account, so every answer can be held against what must be true.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import ssl
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import jwt
import msgspec

from chaos.expectation import Expectation
from chaos.history import Event, History, Op, Phase, Seen
from engines import identifiers
from engines._engines import (
    OpaqueOpenError,
    ed25519_public_key,
    ed25519_sign,
    opaque_login_finish,
    opaque_login_start,
    opaque_registration_finish,
    opaque_registration_start,
)
from engines.encoding import b64u_decode, b64u_encode
from quorumvault import _boxes

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping
    from uuid import UUID

REQUEST_S: Final = 30.0
"""A node ends every request within 24 s."""
PATIENCE_S: Final = 60.0
"""How long an operation is asked again; beyond it the vault counts as gone."""
BACKOFF_S: Final = 0.05
TOKEN_S: Final = 3600
SPARE_GUESSES: Final = 3
"""A client that must not be locked out stops guessing so far below the limit."""


class OutOfPatienceError(Exception):
    """An operation did not succeed at any node for so long."""


class RefusedError(Exception):
    """The vault refused for good what it must accept."""


@dataclass(frozen=True)
class Reply:
    """What came back of one send; status 0: nothing did."""

    node: int
    status: int
    body: Mapping[str, Any]
    left: bool
    """False when no connection was made: the request never left this machine."""

    @property
    def ok(self) -> bool:
        """True for a success."""
        return self.status == 200

    @property
    def code(self) -> str:
        """The problem's code; `unreachable` or `lost` when nothing came back."""
        if self.status == 0:
            return "lost" if self.left else "unreachable"
        return str(self.body.get("code", ""))

    @property
    def charged(self) -> str:
        """Whether this send charged, as far as its sender can know."""
        if self.status == 0:
            return "unknown" if self.left else "no"
        return "" if self.ok else str(self.body.get("charged", ""))

    @property
    def again(self) -> bool:
        """True when the same bytes may be sent again."""
        return self.status == 0 or bool(self.body.get("retryable", False))


@dataclass
class Endpoints:
    """A vault as its connection file describes it, and the HTTP connections to it."""

    name: str
    cluster_id: UUID
    limit: int
    urls: dict[int, str]
    iss: str
    alg: str
    key: str
    session: aiohttp.ClientSession
    token_age_s: int = 0
    """Tokens were issued so long ago, and end so much later than now."""

    @classmethod
    async def connect(
        cls,
        connection_file: Path,
        *,
        limit: int = 10,
        request_s: float = REQUEST_S,
        token_age_s: int = 0,
    ) -> Self:
        """Read a connection file (design section 8) of a vault with this limit of guesses."""
        text = await asyncio.to_thread(connection_file.read_bytes)
        found = json.loads(text)
        tenant = found["tenant"]
        context = ssl.create_default_context(cafile=found["ca_file"])
        return cls(
            name=found["name"],
            cluster_id=uuid.UUID(found["cluster_id"]),
            limit=limit,
            urls={each["node"]: each["url"] for each in found["endpoints"]},
            iss=tenant["iss"],
            alg=tenant["alg"],
            key=await asyncio.to_thread(Path(tenant["private_key_file"]).read_text),
            session=aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=0),
                timeout=aiohttp.ClientTimeout(total=request_s),
            ),
            token_age_s=token_age_s,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    def token(self, account: str) -> str:
        """A token as the app's own server would issue it."""
        now = int(time.time())
        claims = {
            "iss": self.iss,
            "sub": account,
            "aud": self.name,
            "iat": now - self.token_age_s,
            "exp": now + TOKEN_S + self.token_age_s,
            "scope": "vault:restore vault:manage",
            "device": "primary",
        }
        return jwt.encode(claims, self.key, algorithm=self.alg)


@dataclass(frozen=True)
class Guess:
    """One typed password: OPAQUE client state, KE1 and the attempt's id."""

    password: bytes
    state: bytes
    ke1: bytes
    attempt_id: str

    def opens(self, answer: Mapping[str, Any]) -> bytes | None:
        """The export key when the answer's KE2 opens under the password."""
        ke2 = b64u_decode(answer["ke2"])
        try:
            return opaque_login_finish(self.state, self.password, ke2, hazmat_identity_ksf=True)[0]
        except OpaqueOpenError:
            return None


@dataclass
class Client:
    """One account and its only client; one operation at a time."""

    vault: Endpoints
    number: int
    history: History
    random: random.Random
    account: str
    expect: Expectation = field(init=False)
    record_id: bytes = b""

    def __post_init__(self) -> None:
        self.expect = Expectation(self.account, self.vault.limit)
        self._token = self.vault.token(self.account)

    # ---------------------------------------------------------------- one send

    async def send(
        self,
        node: int,
        op: Op,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> Reply:
        """Send one request to one node; both its events go into the history."""
        self._note(node, op, "invoke", facts)
        try:
            async with self.vault.session.request(
                method,
                self.vault.urls[node] + path,
                json=body,
                headers={"Authorization": f"Bearer {self._token}"},
            ) as answer:
                found = msgspec.json.decode(await answer.read())
                reply = Reply(node, answer.status, found, left=True)
        except aiohttp.ClientConnectorError:
            reply = Reply(node, 0, {}, left=False)
        except (aiohttp.ClientError, TimeoutError, OSError):
            reply = Reply(node, 0, {}, left=True)
        self._note(node, op, _phase(op, reply), facts, reply)
        return reply

    def _note(
        self, node: int, op: Op, phase: Phase, facts: Mapping[str, Any], reply: Reply | None = None
    ) -> None:
        known = dict(facts)
        if reply is not None:
            body = reply.body
            names = (
                "registration_id",
                "era",
                "attempt_id",
                "guesses_remaining",
                "state",
                "replayed",
            )
            known |= {name: body[name] for name in names if name in body}
            known |= {"charged": reply.charged, "code": reply.code}
            if op == "observe" and reply.ok:
                known["pending"] = (body["pending"] or {}).get("registration_id", "")
            if "wrapped_key" in body:
                known["wrapped"] = _named(b64u_decode(body["wrapped_key"]))
            if "receipt" in body:
                known["receipt"] = msgspec.convert(body["receipt"], Seen)
        self.history.add(
            Event(self.history.now_ns(), self.number, node, op, phase, self.account, **known)
        )

    def any_node(self) -> int:
        """Where the next request goes."""
        return self.random.choice(list(self.vault.urls))

    async def until_ok(
        self,
        op: Op,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> Reply:
        """Send the same request, at any node, until it succeeds.

        Raises:
            RefusedError: it was refused for good.
            OutOfPatienceError: no node took it.

        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            reply = await self.send(self.any_node(), op, method, path, body, **facts)
            if reply.ok:
                return reply
            await self._may_go_on(op, reply, deadline)

    async def _may_go_on(self, op: Op, reply: Reply, deadline: float) -> None:
        """Wait a moment before the next send, or say why there is none."""
        if not reply.again:
            what = f"{op} at node {reply.node}: {reply.status} {dict(reply.body)}"
            self.expect.refused(what)
            raise RefusedError(what)
        if time.monotonic() > deadline:
            raise OutOfPatienceError(f"{op} of {self.account}: {reply.status} {dict(reply.body)}")
        await asyncio.sleep(BACKOFF_S)

    # ---------------------------------------------------------------- whole operations

    async def register(self, password: bytes, *, key_bytes: int = 32) -> None:
        """Make a new key and put it under a password; the old one is gone then."""
        seed, backup_key = os.urandom(32), os.urandom(key_bytes)
        state, request = opaque_registration_start(password)
        start = {
            "request": b64u_encode(request),
            "proof_key": b64u_encode(ed25519_public_key(seed)),
        }
        begun = (await self.until_ok("register", "POST", "/v1/registrations", start)).body
        self.record_id, era = b64u_decode(begun["record_id"]), begun["era"]
        registration = identifiers.registration_id(
            self.record_id, era, request, ed25519_public_key(seed)
        )
        record, export_key, _ = opaque_registration_finish(
            state, password, b64u_decode(begun["response"]), hazmat_identity_ksf=True
        )
        named = b64u_encode(registration)
        wrapped = _boxes.seal_backup_key(export_key, registration, backup_key)
        upload = start | {
            "era": era,
            "record": b64u_encode(record),
            "proof_box": b64u_encode(_boxes.seal_proof_seed(export_key, registration, seed)),
            "wrapped_key": b64u_encode(wrapped),
        }
        path = f"/v1/registrations/{named}"
        facts = {"registration_id": named, "era": era, "wrapped": _named(wrapped)}
        await self.until_ok("register", "PUT", path, upload, **facts)
        message = identifiers.activation_message(self.vault.cluster_id, registration)
        signature = {"signature": b64u_encode(ed25519_sign(seed, message))}
        await self.until_ok(
            "activate", "POST", f"{path}/activation", signature, registration_id=named, era=era
        )
        self.expect.activated(named, era, password, backup_key)

    def guess(self, password: bytes) -> Guess:
        """Type a password: a new attempt, not sent yet."""
        state, ke1 = opaque_login_start(password)
        name = b64u_encode(identifiers.attempt_id(self.record_id, ke1))
        return Guess(password, state, ke1, name)

    async def attempt(self, node: int, guess: Guess, *, alone: bool = True) -> Reply:
        """Send an attempt once.

        `alone` says that no other send for this account is under way, so counts are exact.
        """
        reply = await self.send(
            node,
            "attempt",
            "POST",
            "/v1/attempts",
            {"ke1": b64u_encode(guess.ke1)},
            attempt_id=guess.attempt_id,
        )
        if alone:
            replayed = reply.body["replayed"] if reply.ok else None
            self.expect.attempted(guess.attempt_id, reply.charged, replayed=replayed)
            self.expect.shown(
                reply.body.get("guesses_remaining"), reply.body.get("era"), f"node {node}"
            )
        return reply

    async def answered(self, guess: Guess) -> Mapping[str, Any]:
        """Send an attempt, at any node, until it is answered."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            reply = await self.attempt(self.any_node(), guess)
            if reply.ok:
                return reply.body
            await self._may_go_on("attempt", reply, deadline)

    async def login(self) -> None:
        """Recover the key with the right password, and hold it against the acknowledged one."""
        guess = self.guess(self.expect.password)
        answer = await self.answered(guess)
        export_key = guess.opens(answer)
        if export_key is None:
            self.expect.refused(f"the right password does not open {guess.attempt_id[:12]}")
            raise RefusedError("the right password does not open the vault's answer")
        await self.prove(guess, answer, export_key)

    async def prove(self, guess: Guess, answer: Mapping[str, Any], export_key: bytes) -> None:
        """Prove an answered attempt and take the key."""
        path, proof, facts = self.proof(guess, answer, export_key)
        reply = await self.until_ok("prove", "POST", path, proof, **facts)
        self.take(answer, export_key, reply)

    def proof(
        self, guess: Guess, answer: Mapping[str, Any], export_key: bytes
    ) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """The request that proves an answered attempt: path, body, and facts for the history."""
        registration = b64u_decode(answer["registration_id"])
        seed = _boxes.open_proof_seed(export_key, registration, b64u_decode(answer["proof_box"]))
        era = answer["era"]
        message = identifiers.prove_message(
            self.vault.cluster_id, registration, era, b64u_decode(guess.attempt_id)
        )
        proof = {
            "ke1": b64u_encode(guess.ke1),
            "era": era,
            "signature": b64u_encode(ed25519_sign(seed, message)),
        }
        path = f"/v1/attempts/{guess.attempt_id}/proof"
        facts = {
            "attempt_id": guess.attempt_id,
            "registration_id": answer["registration_id"],
            "era": era,
        }
        return path, proof, facts

    def take(self, answer: Mapping[str, Any], export_key: bytes, reply: Reply) -> None:
        """A proof was acknowledged: take the key and hold it against the acknowledged one."""
        self.expect.proven()
        registration = b64u_decode(answer["registration_id"])
        wrapped = b64u_decode(reply.body["wrapped_key"])
        self.expect.released(
            _boxes.open_backup_key(export_key, registration, wrapped), f"node {reply.node}"
        )

    async def guess_wrong(self) -> None:
        """Spend one guess, at one node, sent once: lost is lost."""
        guess = self.guess(b"wrong " + os.urandom(8))
        reply = await self.attempt(self.any_node(), guess)
        if reply.ok and guess.opens(reply.body) is not None:
            self.expect.refused("a wrong password opened the record")

    async def observe(self, node: int | None = None) -> Mapping[str, Any]:
        """Look at the record, at `node` or anywhere."""
        reply = await self.look(node)
        body = reply.body
        self.expect.shown(body.get("guesses_remaining"), body["era"], f"node {reply.node}")
        return body

    async def look(self, node: int | None) -> Reply:
        """The record as `node` or anybody tells it, held against nothing.

        Raises:
            RefusedError: `node` did not tell.

        """
        if node is None:
            return await self.until_ok("observe", "GET", "/v1/record")
        reply = await self.send(node, "observe", "GET", "/v1/record")
        if not reply.ok:
            raise RefusedError(f"observe at node {node}: {reply.status} {dict(reply.body)}")
        return reply

    @property
    def may_guess(self) -> bool:
        """True while a wrong guess cannot lock the account."""
        return self.expect.book.most < self.vault.limit - SPARE_GUESSES


def _named(wrapped: bytes) -> str:
    """A wrapped key's name in the history."""
    return hashlib.sha256(wrapped).hexdigest()[:32]


def _phase(op: Op, reply: Reply) -> Phase:
    """Done, not done, or nobody knows."""
    if reply.ok:
        return "ok"
    if not reply.left or op == "observe":
        return "fail"
    if op == "attempt" and reply.status:
        return "fail" if reply.charged == "no" else "info"
    return "fail" if 400 <= reply.status < 500 else "info"
