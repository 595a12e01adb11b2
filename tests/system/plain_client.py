"""The vault's API by hand: plain HTTPS, another OPAQUE implementation, own encoding.

It uses nothing of the packages under test (tests/engines/sodium_client.py is written from the RFC
and crypto.md alone), so that the API is what the pages say and not what our SDK happens to do.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import select
import ssl
import time
import uuid
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import sodium_client as opaque


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def code(self) -> str:
        return str(self.body.get("code", ""))


class RefusedError(Exception):
    """The vault answered with a problem."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.body}")
        self.answer = answer


IDLE_S = 20.0
"""A connection that was idle for so long is opened anew: a node ends it after 75 s."""


class Http:
    """One keep-alive connection to one node."""

    def __init__(self, url: str, ca_file: str, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        self._place = (parts.hostname or "", parts.port or 443)
        self._context = ssl.create_default_context(cafile=ca_file)
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPSConnection | None = None
        self._used_at = 0.0

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | bytes | None = None,
        token: str | None = None,
    ) -> Answer:
        if time.monotonic() - self._used_at > IDLE_S or self._dropped():
            self.close()
        self._used_at = time.monotonic()
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(
                *self._place, context=self._context, timeout=self._timeout_s
            )
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        data = body
        if isinstance(body, dict):
            data = json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        try:
            self._connection.request(method, path, data, headers)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        found = json.loads(text) if text else {}
        return Answer(response.status, found, {k.lower(): v for k, v in response.getheaders()})

    def _dropped(self) -> bool:
        """The node ended since: a kept connection on which something is to be read, its end."""
        sock = None if self._connection is None else self._connection.sock
        return sock is not None and bool(select.select([sock], [], [], 0)[0])

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass
class Registration:
    """Everything that a registration made, to be sent again by a test."""

    record_id: bytes
    registration_id: bytes
    era: int
    start: dict[str, str]
    upload: dict[str, Any]
    activation: dict[str, str]
    content: bytes
    verified: bool


class PlainClient:
    """One account; every call names the URL of the node that it goes to."""

    def __init__(self, ca_file: str, token: str) -> None:
        self.ca_file = ca_file
        self.token = token
        self._nodes: dict[str, Http] = {}

    def close(self) -> None:
        for node in self._nodes.values():
            node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, url: str, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        """Send one request; whatever comes back is the answer."""
        node = self._nodes.setdefault(url, Http(url, self.ca_file))
        return node.call(method, path, body, self.token)

    def must(
        self, url: str, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Send one request that has to succeed."""
        answer = self.ask(url, method, path, body)
        if answer.status != 200:
            raise RefusedError(answer)
        return answer.body

    def cluster_id(self, url: str) -> bytes:
        return uuid.UUID(self.must(url, "GET", "/v1/vault")["cluster_id"]).bytes

    def prepare(
        self, url: str, password: bytes, backup_key: bytes, *, ksf: opaque.Ksf = opaque.PROFILE_KSF
    ) -> Registration:
        """Start a registration and make the messages of its other two steps."""
        seed = os.urandom(32)
        proof_key = opaque.proof_public_key(seed)
        state, request = opaque.registration_start(password)
        start = {"request": b64(request), "proof_key": b64(proof_key)}
        answer = self.must(url, "POST", "/v1/registrations", start)
        record_id, era = unb64(answer["record_id"]), answer["era"]
        registration = opaque.registration_id(record_id, era, request, proof_key)
        assert b64(registration) == answer["registration_id"]
        made = opaque.registration_finish(state, password, unb64(answer["response"]), ksf=ksf)
        box = opaque.seal_proof_seed(made.export_key, registration, seed)
        wrapped = opaque.seal_backup_key(made.export_key, registration, backup_key)
        upload = start | {
            "era": era,
            "record": b64(made.record),
            "proof_box": b64(box),
            "wrapped_key": b64(wrapped),
        }
        signature = opaque.sign_activation(seed, self.cluster_id(url), registration)
        return Registration(
            record_id,
            registration,
            era,
            start,
            upload,
            {"signature": b64(signature)},
            opaque.content_hash(registration, made.record, box, wrapped),
            answer["verified"],
        )

    def put(self, url: str, made: Registration) -> Answer:
        path = f"/v1/registrations/{b64(made.registration_id)}"
        return self.ask(url, "PUT", path, made.upload)

    def activate(self, url: str, made: Registration) -> Answer:
        path = f"/v1/registrations/{b64(made.registration_id)}/activation"
        return self.ask(url, "POST", path, made.activation)

    def register(
        self, url: str, password: bytes, backup_key: bytes, *, ksf: opaque.Ksf = opaque.PROFILE_KSF
    ) -> Registration:
        """All three steps at one node."""
        made = self.prepare(url, password, backup_key, ksf=ksf)
        for answer, state in (
            (self.put(url, made), "pending"),
            (self.activate(url, made), "active"),
        ):
            if answer.status != 200:
                raise RefusedError(answer)
            assert answer.body["state"] == state
        return made

    def attempt(self, url: str, ke1: bytes, *, verify: bool = False) -> Answer:
        body: dict[str, Any] = {"ke1": b64(ke1)}
        if verify:
            body["verify"] = True
        return self.ask(url, "POST", "/v1/attempts", body)

    def prove(
        self,
        url: str,
        login: opaque.LoginState,
        password: bytes,
        attempt: dict[str, Any],
        *,
        ksf: opaque.Ksf = opaque.PROFILE_KSF,
    ) -> tuple[opaque.Login, str, dict[str, Any]]:
        """Open an attempt's answer; the login, and path and body of its proof."""  # fmt: skip
        opened = opaque.login_finish(login, password, unb64(attempt["ke2"]), ksf=ksf)
        registration = unb64(attempt["registration_id"])
        seed = opaque.open_proof_seed(opened.export_key, registration, unb64(attempt["proof_box"]))
        attempt_id = opaque.attempt_id(unb64(attempt["record_id"]), login.ke1)
        assert b64(attempt_id) == attempt["attempt_id"]
        signature = opaque.sign_prove(
            seed, self.cluster_id(url), registration, attempt["era"], attempt_id
        )
        body = {"ke1": b64(login.ke1), "era": attempt["era"], "signature": b64(signature)}
        return opened, f"/v1/attempts/{b64(attempt_id)}/proof", body

    def recover(self, url: str, password: bytes, *, ksf: opaque.Ksf = opaque.PROFILE_KSF) -> bytes:
        """A whole login at one node.

        Raises:
            RefusedError: the vault said no.
            opaque.DoesNotOpenError: the password is wrong.

        """
        login = opaque.login_start(password)
        answer = self.attempt(url, login.ke1)
        if answer.status != 200:
            raise RefusedError(answer)
        opened, path, body = self.prove(url, login, password, answer.body, ksf=ksf)
        released = self.must(url, "POST", path, body)
        return opaque.open_backup_key(
            opened.export_key, unb64(released["registration_id"]), unb64(released["wrapped_key"])
        )

    def record(self, url: str) -> dict[str, Any]:
        return self.must(url, "GET", "/v1/record")
