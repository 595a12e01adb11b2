"""One account with cheap passwords and exact eyes: guesses, proofs, and what every node says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sodium_client as opaque
from plain_client import Answer, PlainClient, Registration, b64, unb64

if TYPE_CHECKING:
    from harness import Vault5

KSF = opaque.identity_ksf
"""Argon2 is not what these tests are about."""


@dataclass(frozen=True)
class Look:
    """What GET /v1/record says, but for the receipt's index, which every look moves."""

    state: str
    era: int
    version: int
    guesses_remaining: int | None
    registration_id: str | None
    content: str | None
    pending: str | None


@dataclass
class Guess:
    """One typed password, its KE1, and what came of it."""

    login: opaque.LoginState
    password: bytes
    answer: dict[str, Any] | None = None
    proof: tuple[str, dict[str, Any]] | None = None
    opened: opaque.Login | None = None

    @property
    def body(self) -> dict[str, str]:
        return {"ke1": b64(self.login.ke1)}


class Account:
    """An account of its own; `nodes` are those that are up."""

    def __init__(self, vault: Vault5, name: str, nodes: list[int] | None = None) -> None:
        self.vault = vault
        self.nodes = nodes or vault.ids
        self.client = PlainClient(vault.ca_file, vault.token(f"{name}-{os.urandom(4).hex()}"))

    def url(self, node: int) -> str:
        return self.vault.url(node)

    def look(self, node: int) -> Look:
        seen = self.client.record(self.url(node))
        pending = seen["pending"]
        return Look(
            seen["state"],
            seen["era"],
            seen["receipt"]["version"],
            seen.get("guesses_remaining"),
            seen.get("registration_id"),
            seen.get("content"),
            pending and pending["registration_id"],
        )

    def seen(self) -> Look:
        """What all nodes agree on."""
        looks = {node: self.look(node) for node in self.nodes}
        states = [look.state for look in looks.values()]
        if set(states) == {"exhausted", "locked"} and states == sorted(states):
            return self.seen()  # its grace ended between two looks; a lock is final, so once
        assert len(set(looks.values())) == 1, looks
        return looks[self.nodes[0]]

    def prepare(self, node: int, password: bytes, key: bytes) -> Registration:
        return self.client.prepare(self.url(node), password, key, ksf=KSF)

    def register(self, node: int, password: bytes, key: bytes) -> Registration:
        return self.client.register(self.url(node), password, key, ksf=KSF)

    def recover(self, node: int, password: bytes) -> bytes:
        return self.client.recover(self.url(node), password, ksf=KSF)

    def guess(self, node: int, password: bytes) -> Guess:
        """Type a password once and send it; it has to be charged."""
        guess = Guess(opaque.login_start(password), password)
        answer = self.attempt(node, guess)
        assert answer.status == 200, answer
        assert answer.body["replayed"] is False
        return guess

    def attempt(self, node: int, guess: Guess) -> Answer:
        answer = self.client.ask(self.url(node), "POST", "/v1/attempts", guess.body)
        if answer.status == 200:
            guess.answer = answer.body
        return answer

    def sign(self, node: int, guess: Guess) -> tuple[str, dict[str, Any]]:
        """Open the answer of a guess; path and body of its proof."""
        guess.opened, path, body = self.client.prove(
            self.url(node), guess.login, guess.password, guess.answer, ksf=KSF
        )
        guess.proof = path, body
        return guess.proof

    def prove(self, node: int, guess: Guess) -> Answer:
        path, body = guess.proof or self.sign(node, guess)
        return self.client.ask(self.url(node), "POST", path, body)

    def key_in(self, guess: Guess, answer: Answer) -> bytes:
        """The backup key that a proof's answer carries."""
        assert answer.status == 200, answer
        return opaque.open_backup_key(
            guess.opened.export_key,
            unb64(answer.body["registration_id"]),
            unb64(answer.body["wrapped_key"]),
        )

    def close(self) -> None:
        self.client.close()
