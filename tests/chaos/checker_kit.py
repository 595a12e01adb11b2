"""Histories for the checkers: written by hand, or lived at random through the real `apply`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from chaos import witness
from chaos.history import Event, Seen
from chaos.sim.account import Account
from chaos.sim.units import CLUSTER
from cluster.commands import Expire, Status
from cluster.record import Rules, apply, state_of
from engines.encoding import b64u_decode, b64u_encode

LIMIT = 3


def name(text):
    return b64u_encode(hashlib.sha256(text.encode()).digest())


def hexed(text):
    return b64u_decode(text).hex()


def seen(version, index=None):
    return Seen("cluster", 0, version if index is None else index, version, 0)


class Story:
    """A history as it is told: who asked what, and what came of it."""

    def __init__(self):
        self.events = []
        self.open = {}
        self.shares = []
        self.elements = []

    def call(self, client, op, node=1, account="alice", **facts):
        event = Event(len(self.events), client, node, op, "invoke", account, **facts)
        self.events.append(event)
        self.open[client] = event
        return self

    def reply(self, client, phase="ok", **facts):
        asked = self.open.pop(client)
        known = {
            "registration_id": asked.registration_id,
            "era": asked.era,
            "attempt_id": asked.attempt_id,
            **facts,
        }
        place = len(self.events)
        event = Event(place, client, asked.node, asked.op, phase, asked.account, **known)
        self.events.append(event)
        return self

    def did(self, op, asked, answered, client=1, phase="ok", **where):
        return self.call(client, op, **where, **asked).reply(client, phase, **answered)

    # ---- what clients do

    def enrolled(self, registration="key", era=0, version=0, **where):
        """Start, put, activate; the record is at version + 2 and era + 1."""
        named = {"registration_id": name(registration), "era": era}
        self.did("register", {}, named, **where)
        put = {**named, "wrapped": "key of " + registration}
        pending = {"state": "pending", "receipt": seen(version + 1)}
        self.did("register", put, pending, **where)
        active = {"state": "active", "receipt": seen(version + 2)}
        return self.did("activate", named, active, **where)

    def guessed(self, attempt, remaining, version, era=1, replayed=False, registration="key", **w):
        answer = {
            "registration_id": name(registration),
            "era": era,
            "guesses_remaining": remaining,
            "replayed": replayed,
            "receipt": seen(version),
        }
        return self.did("attempt", {"attempt_id": name(attempt)}, answer, **w)

    def proved(self, attempt, version, era=1, registration="key", wrapped=None, **where):
        asked = {"attempt_id": name(attempt), "era": era, "registration_id": name(registration)}
        wrapped = wrapped or "key of " + registration
        return self.did("prove", asked, {"receipt": seen(version), "wrapped": wrapped}, **where)

    def looked(self, state, remaining, era, version, registration="key", pending="", **where):
        answer = {
            "state": state,
            "guesses_remaining": remaining,
            "era": era,
            "receipt": seen(version),
            "registration_id": name(registration) if registration else "",
            "pending": name(pending) if pending else "",
        }
        return self.did("observe", {}, answer, **where)

    def refused(self, attempt, code, charged="no", phase="fail", **where):
        asked = {"attempt_id": name(attempt)}
        return self.did("attempt", asked, {"code": code, "charged": charged}, phase=phase, **where)

    def deleted(self, era, version, **where):
        return self.did(
            "delete", {"era": era}, {"receipt": seen(version), "state": "none"}, **where
        )

    # ---- what nodes witness

    def gave(self, attempt, *seats, era=1, registration="key", element=None):
        what = witness.Attempt(hexed(name(registration)), era, hexed(name(attempt)))
        self.shares += [(what, seat) for seat in seats or (1, 2, 3)]
        self.elements += [(what, element or attempt)]
        return self

    @property
    def testimony(self):
        return witness.gathered(self.shares, self.elements)


# ---------------------------------------------------------------- lived at random


@dataclass
class Flight:
    """A command on its way: asked by a client, not yet (or never) answered."""

    client: int
    op: str
    asked: dict[str, Any]
    command: Any = None
    make: Any = None
    answer: tuple[str, dict[str, Any]] | None = None
    gone: bool = False
    """The client has stopped waiting."""
    rounds: int = 0
    registration: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class Life:
    """One account, several clients, the real `apply`, and a wire that delays, doubles and loses."""

    def __init__(self, random, clients=3, limit=LIMIT):
        self.random = random
        self.rules = Rules(CLUSTER, limit)
        self.story = Story()
        self.clients = range(1, clients + 1)
        self.phones = [Account("alice"), Account("alice's other phone")]
        self.phones[1].record_id = self.phones[0].record_id
        self.record = None
        self.index = 0
        self.flights = []
        self.late = []
        self.known = {0: 0}
        """Birth era and phone of what clients may activate; eras they know."""
        self.eras = [0]
        self.put = []
        self.charged = []

    def run(self, steps):
        for _ in range(steps):
            self.random.choice(
                [
                    self.ask,
                    self.ask,
                    self.apply_one,
                    self.apply_one,
                    self.answer_one,
                    self.answer_one,
                    self.lose_one,
                    self.disturb,
                ]
            )()
        while self.flights:
            if not self.answer_one() and not self.apply_one():
                break
        self.look_finally()
        return self.story

    # ---- clients

    def ask(self):
        idle = [client for client in self.clients if client not in self.story.open]
        if not idle:
            return
        client = self.random.choice(idle)
        op = self.random.choice(
            ["start", "register", "activate", "activate", "delete", "observe", "prove"]
            + ["attempt"] * 6
        )
        flight = getattr(self, "ask_" + op)(client)
        if flight is None:
            return
        self.story.call(client, flight.op, **flight.asked)
        self.flights.append(flight)

    def ask_start(self, client):
        return Flight(client, "register", {})

    def ask_observe(self, client):
        return Flight(client, "observe", {})

    def ask_register(self, client):
        phone = self.random.choice(self.phones)
        era = self.random.choice(self.eras[-2:])
        registration = b64u_encode(phone.registration(era))
        asked = {"registration_id": registration, "era": era, "wrapped": registration}
        self.put.append((phone, era))
        return Flight(client, "register", asked, phone.register(era))

    def ask_activate(self, client):
        if not self.put:
            return None
        phone, era = self.random.choice(self.put[-3:])
        asked = {"registration_id": b64u_encode(phone.registration(era)), "era": era}
        return Flight(client, "activate", asked, phone.activate(era))

    def ask_attempt(self, client):
        open_now = self.record is not None and self.record.active is not None
        if not open_now and self.random.random() < 0.8:
            return None
        phone = self.phones[0]
        number = self.random.randrange(12)
        asked = {"attempt_id": b64u_encode(phone.attempt(number))}
        era = 0 if self.record is None else self.record.era
        return Flight(
            client,
            "attempt",
            asked,
            phone.charge(number, era),
            lambda era: phone.charge(number, era),
        )

    def ask_prove(self, client):
        if not self.charged:
            return None
        number_id, registration, era = self.random.choice(self.charged[-4:])
        phone, birth = next(
            (phone, birth) for phone, birth in self.put if phone.registration(birth) == registration
        )
        number = next(n for n in range(12) if self.phones[0].attempt(n) == number_id)
        twin = Account("alice")
        twin.seed, twin.proof_seed, twin.proof_key = phone.seed, phone.proof_seed, phone.proof_key
        twin.request, twin.record_id = phone.request, phone.record_id
        twin.attempt = self.phones[0].attempt
        asked = {
            "attempt_id": b64u_encode(number_id),
            "era": era,
            "registration_id": b64u_encode(registration),
        }
        assert number_id == twin.attempt(number)
        return Flight(client, "prove", asked, twin.prove(number, era, birth))

    def ask_delete(self, client):
        if self.random.random() < 0.9:
            return None
        era = self.random.choice(self.eras[-2:])
        return Flight(client, "delete", {"era": era}, self.phones[0].delete(era))

    # ---- the log

    def apply_one(self):
        waiting = [each for each in self.flights if each.answer is None]
        if not waiting:
            return False
        flight = self.random.choice(waiting)
        self.index += 1
        if flight.command is None:
            flight.answer = self.look(flight.op)
            return True
        outcome = self.applied(flight.command)
        if self.random.random() < 0.1 and flight.op != "attempt":
            return True  # a snapshot jumped over the outcome: it is proposed again
        if self.random.random() < 0.2:
            self.late.append(flight.command)
        flight.answer = self.told(flight, outcome)
        if flight.gone and flight.answer is not None:
            self.flights.remove(flight)
        return True

    def applied(self, command):
        self.record, outcome = apply(self.rules, self.record, command)
        if self.record is not None and self.record.era not in self.eras:
            self.eras.append(self.record.era)
        return outcome

    def look(self, op):
        era = 0 if self.record is None else self.record.era
        if op == "register":
            return "ok", {
                "era": era,
                "registration_id": b64u_encode(self.phones[0].registration(era)),
            }
        standing = state_of(self.record, self.rules.limit)
        active = None if self.record is None else self.record.active
        pending = None if self.record is None else self.record.pending
        version = 0 if self.record is None else self.record.version
        return "ok", {
            "era": era,
            "state": str(standing.state),
            "guesses_remaining": standing.guesses_remaining,
            "registration_id": b64u_encode(active.registration_id) if active else "",
            "pending": b64u_encode(pending.registration_id) if pending else "",
            "receipt": seen(version, self.index),
        }

    def told(self, flight, outcome):
        good = {"receipt": seen(outcome.version, self.index)}
        status = outcome.status
        if flight.op == "attempt":
            return self.told_of_attempt(flight, outcome, good)
        if status in (Status.DONE, Status.SAME):
            if flight.op == "register":
                good["state"] = outcome.state
            if flight.op == "prove":
                good["wrapped"] = b64u_encode(outcome.grant.registration_id)
            return "ok", good
        return "fail", {"code": str(status)}

    def told_of_attempt(self, flight, outcome, good):
        if outcome.status is Status.STALE:
            flight.rounds += 1
            if flight.rounds > 2:
                return "fail", {"code": "busy", "charged": "no"}
            flight.command = flight.make(outcome.era)
            return None
        if outcome.grant is None:
            return "fail", {"code": str(outcome.status), "charged": "no"}
        grant = outcome.grant
        self.charged.append((outcome.attempt_id, grant.registration_id, grant.era))
        what = witness.Attempt(grant.registration_id.hex(), grant.era, outcome.attempt_id.hex())
        seats = self.random.sample(range(1, 6), self.random.choice([5, 4, 3, 3, 2]))
        self.story.shares += [(what, seat) for seat in seats]
        if len(seats) < 3 and outcome.status is Status.DONE:
            return "info", {"charged": "yes", "code": "hsm-unavailable"}
        if len(seats) < 3:
            return "fail", {"charged": "no", "code": "hsm-unavailable"}
        return "ok", good | {
            "registration_id": b64u_encode(grant.registration_id),
            "era": grant.era,
            "guesses_remaining": outcome.guesses_remaining,
            "replayed": outcome.status is Status.REPLAYED,
        }

    # ---- answers

    def answer_one(self):
        ready = [each for each in self.flights if each.answer is not None and not each.gone]
        if not ready:
            return False
        flight = self.random.choice(ready)
        self.flights.remove(flight)
        phase, facts = flight.answer
        self.story.reply(flight.client, phase, **facts)
        return True

    def lose_one(self):
        """A client stops waiting; what it asked may still come true."""
        waiting = [each for each in self.flights if not each.gone]
        if not waiting or self.random.random() < 0.5:
            return
        flight = self.random.choice(waiting)
        flight.gone = True
        phase = "fail" if flight.op == "observe" else "info"
        self.story.reply(flight.client, phase, code="lost", charged="unknown")
        if flight.answer is not None or flight.command is None:
            self.flights.remove(flight)

    def disturb(self):
        """The grace ends, or an old copy of a command comes late."""
        if self.late and self.random.random() < 0.5:
            self.applied(self.late.pop(self.random.randrange(len(self.late))))
        elif self.record is not None:
            self.applied(Expire(self.phones[0].record_id, self.record.era))

    def look_finally(self):
        for client in self.clients:
            if client not in self.story.open:
                self.index += 1
                self.story.call(client, "observe", node=client)
                self.story.reply(client, *self.look("observe")[:1], **self.look("observe")[1])
