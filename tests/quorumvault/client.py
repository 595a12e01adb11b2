"""Runs the client's flows against the honest vault, in virtual time, with a kill at any effect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from honest_vault import CLUSTER, SEATS, HonestVault

from quorumvault import _record, _recovery, _registration
from quorumvault._core import (
    Answer,
    Compute,
    Endpoint,
    Gather,
    Meanwhile,
    Pause,
    Save,
    Session,
    Silence,
    concluded,
)
from quorumvault._state import State, StateFile

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE_S = 30.0


class Killed(BaseException):
    """The process is gone; only the state file is left."""


@dataclass
class Client:
    """One phone. Every call is a new process: only the state file connects them."""

    vault: HonestVault
    path: Path | None
    nodes: tuple[int, ...] = SEATS
    kill_at: int | None = None
    kill_before: bool = False
    pinned: bool = False
    effects: int = 0
    pauses: list[float] = field(default_factory=list)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.store = StateFile(self.path)

    def register(self, password: bytes = b"right", key: bytes = b"k" * 32):
        return self.run(lambda s: _registration.register(s, password, key))

    def resume(self):
        return self.run(_registration.resume)

    def abandon(self):
        return self.run(_registration.abandon)

    def recover(self, password: bytes = b"right") -> bytes:
        return self.run(lambda s: _recovery.recover(s, password))

    def status(self):
        return self.run(_record.status)

    def delete(self, only: bytes | None = None) -> None:
        self.run(lambda s: _record.delete(s, only))

    @property
    def state(self) -> State:
        return self.store.load()

    def endpoint(self, node: int | None) -> Endpoint:
        return Endpoint(f"https://node-{node}", node=node, seat=node if self.pinned else None)

    def leads_to(self, node: int) -> int:
        """Which node answers at this node's address."""
        return node

    def run(self, make):
        endpoints = tuple(self.endpoint(n) for n in self.nodes)
        session = Session(endpoints, State(), hazmat_identity_ksf=True)
        session.begin(self.store.load())
        self.effects = 0
        deadline = self.now + DEADLINE_S
        flow = concluded(session, make(session))
        try:
            effect = next(flow)
            while True:
                self._maybe_kill(before=True)
                result, error = None, None
                try:
                    result = self._perform(effect, deadline)
                except Exception as raised:  # noqa: BLE001 - it is the flow's to judge
                    error = raised
                self._maybe_kill(before=False)
                self.effects += 1
                effect = flow.send(result) if error is None else flow.throw(error)
        except StopIteration as done:
            return done.value

    def _maybe_kill(self, *, before: bool) -> None:
        if self.effects == self.kill_at and before == self.kill_before:
            self.kill_at = None
            raise Killed

    def _perform(self, effect, deadline: float):
        match effect:
            case Gather():
                replies = []
                for send in effect.sends:
                    replies.append(self._send(send))
                    good = sum(isinstance(r, Answer) and r.status == 200 for r in replies)
                    if good >= effect.enough:
                        break
                return replies
            case Compute():
                return effect.run()
            case Meanwhile():
                replies = self._perform(effect.gather, deadline)
                return self._perform(effect.compute, deadline), replies
            case Save():
                return self.store.save(effect.state)
            case Pause():
                self.pauses.append(effect.seconds)
                if self.now + effect.seconds >= deadline:
                    return None
                self.now += effect.seconds
                return self.now

    def _send(self, send):
        node, request = self.leads_to(self.nodes[send.place]), send.request
        self.now += 0.01
        down = node in self.vault.down
        reply = self.vault.serve(node, request.method, request.path, request.body)
        if reply is None:
            return Silence(send.place, "connection lost", self.now, sent=not down)
        return Answer(
            send.place, node, CLUSTER, reply.status, reply.body, reply.retry_after, self.now
        )
