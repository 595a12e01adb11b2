"""Clients: they register, guess, prove, look and delete at random nodes, and write a history.

A lane is one client with one operation open at a time. Its work is a generator: it yields what to
ask and gets the reply. Retries go to other nodes with the very same attempt, registration or
signature, as the SDK's do; a client that loses patience goes away and counts its operation as
unknown.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from chaos.history import Event, History, Op
from chaos.sim.plan import Job
from chaos.sim.reply import LOST, Reply
from chaos.sim.units import CLUSTER, MS, SECOND
from cluster.commands import Activate, Delete, Prove, Register
from cluster.types import AttemptId, Era, NodeId, RecordId, RegistrationId
from engines._engines import ed25519_public_key, ed25519_sign
from engines.encoding import b64u_encode
from engines.identifiers import activation_message, prove_message, registration_id

if TYPE_CHECKING:
    from chaos.sim.desk import Desk, Request
    from chaos.sim.inject import Injector
    from chaos.sim.plan import Plan
    from chaos.sim.shares import Shares
    from chaos.sim.trace import Trace
    from chaos.sim.world import World

SIDE_LANES = 1_000
"""Clients from here on ask once only: they are the many senders of one attempt."""
FINAL_LANES = 1_000_000
"""Clients from here on read once, at the end."""
FINAL_PATIENCE_MS = 20_000
PAUSE_NS = 20 * MS
LATEST_CHANGES = 16
"""So many of an account's changes are asked again."""
BRINK = 0.2
"""Of the grace: a leader needs about so long to see that it is over and to have the lock."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of the API."""

    op: Op
    account: Someone
    run: Callable[[Request], None]
    facts: dict[str, Any]
    """Fields of the invoke's event."""


Work = Generator[tuple[Ask, int], Reply, None]
"""Yields (what, which node of the job's), gets the reply."""


@dataclass(slots=True)
class Someone:
    """One account, and what its owner's devices know."""

    name: str
    record_id: RecordId
    attempts: list[AttemptId] = field(default_factory=list)
    """Every attempt that was ever made for it, newest last."""
    changes: list[Ask] = field(default_factory=list)
    """Every registration, activation, proof and deletion that was ever asked, newest last."""


@dataclass(frozen=True, slots=True)
class Secret:
    """What one registration was made with."""

    seed: bytes
    request: bytes
    proof_seed: bytes
    sealed: bytes


def _hash(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def secret(seed: int, account: int, number: int) -> Secret:
    """A new registration's."""
    base = _hash("registration", seed, account, number)
    sealed = b"\x01" + _hash(base, "sealed") * 12 + base
    return Secret(base, _hash(base, "request"), _hash(base, "proof"), sealed)


class Clients:
    """All of them."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        desk: Desk,
        shares: Shares,
        injector: Injector,
        trace: Trace,
    ) -> None:
        self.world, self.plan, self.desk, self.shares = world, plan, desk, shares
        self._injector = injector
        self.trace = trace
        self.history = History()
        self.accounts = [
            self._someone(number, world.shards) for number in range(plan.settings.accounts)
        ]
        self.secrets: dict[RegistrationId, Secret] = {}
        self.outcomes: dict[str, int] = {}
        self._lanes: dict[int, _Lane] = {}
        self._works: dict[str, Callable[[Job, _Lane], Work]] = {
            "enrol": self._enrol,
            "login": self._login,
            "guess": self._guess,
            "late": self._late,
            "alias": self._alias,
            "forge": self._forge,
            "observe": self._observe,
            "delete": self._delete,
            "again": self._again,
            "brink": self._brink,
        }
        self.running = 0
        self._over = False

    def _someone(self, number: int, shards: int) -> Someone:
        base = _hash("account", self.plan.seed, number)
        head = int.from_bytes(base[:8], "big") // shards * shards + number % shards
        return Someone(f"user {number}", RecordId((head % 2**64).to_bytes(8, "big") + base[8:]))

    def begin(self, job: Job) -> None:
        """Its time has come; a client that is busy does it next."""
        if job.work == "everywhere":
            attempt = self.new_attempt(job)
            for place in range(len(job.nodes)):
                lane = _Lane(self, SIDE_LANES + job.number * 8 + place)
                lane.add(job, partial(self._once, job, attempt, place))
            return
        lane = self._lanes.setdefault(job.client, _Lane(self, job.client))
        lane.add(job, partial(self._works[job.work], job, lane))

    def read(self, seat: NodeId, account: int, number: int) -> None:
        """A final read, at one node only."""
        job = Job(0, FINAL_LANES + number, account, "observe", number, (seat,), FINAL_PATIENCE_MS)
        self.begin(job)

    def reads(self) -> tuple[Event, ...]:
        """What the final reads were told."""
        events = self.history.events
        return tuple(e for e in events if e.client >= FINAL_LANES and e.phase != "invoke")

    def stop(self) -> None:
        """Nothing new is begun."""
        self._over = True
        for lane in self._lanes.values():
            lane.queue.clear()

    def count(self, op: str, reply: Reply) -> None:
        """For the totals."""
        name = f"{op} {reply.phase}{f' {reply.code}' if reply.code else ''}"
        self.outcomes[name] = self.outcomes.get(name, 0) + 1

    def member(self, seat: NodeId) -> NodeId:
        """Who sits there now."""
        return self._injector.member(seat).id

    # ---- what can be asked

    def new_attempt(self, job: Job, *more: int) -> AttemptId:
        """A guess that nobody made before; a job that makes several numbers them."""
        attempt = AttemptId(_hash("attempt", self.plan.seed, job.number, *more))
        self.accounts[job.account].attempts.append(attempt)
        return attempt

    def attempt(self, who: Someone, attempt: AttemptId) -> Ask:
        """Send a guess."""
        run = partial(self.desk.attempt, who.record_id, attempt)
        return Ask("attempt", who, run, {"attempt_id": b64u_encode(attempt)})

    def observe(self, who: Someone) -> Ask:
        """Look."""
        return Ask("observe", who, partial(self.desk.observe, who.record_id), {})

    def _change(self, op: Op, who: Someone, command: Any, **facts: Any) -> Ask:
        ask = Ask(op, who, partial(self.desk.change, command), facts)
        who.changes.append(ask)
        return ask

    # ---- what clients do

    def _enrol(self, job: Job, lane: _Lane) -> Work:
        del lane
        who = self.accounts[job.account]
        made = secret(self.plan.seed, job.account, job.number)
        proof_key = ed25519_public_key(made.proof_seed)
        start = Ask("register", who, partial(self.desk.start, who.record_id), {})
        reply = yield from _until_ok(job, start)
        if reply.phase != "ok" or reply.era is None:
            return
        era = Era(reply.era)
        name = RegistrationId(registration_id(who.record_id, era, made.request, proof_key))
        self.secrets[name] = made
        command = Register(who.record_id, era, made.request, proof_key, made.sealed)
        facts = {"registration_id": b64u_encode(name), "era": era}
        put = self._change("register", who, command, **facts, wrapped=made.sealed[-16:].hex())
        reply = yield from _until_ok(job, put)
        if reply.phase != "ok":
            return
        signature = ed25519_sign(made.proof_seed, activation_message(CLUSTER, name))
        activate = self._change("activate", who, Activate(who.record_id, name, signature), **facts)
        yield from _until_ok(job, activate)

    def _guess(self, job: Job, lane: _Lane) -> Work:
        del lane
        who = self.accounts[job.account]
        yield from _until_ok(job, self.attempt(who, self.new_attempt(job)))

    def _login(self, job: Job, lane: _Lane) -> Work:
        del lane
        yield from self._proven(job, forged=False)

    def _forge(self, job: Job, lane: _Lane) -> Work:
        del lane
        yield from self._proven(job, forged=True)

    def _proven(self, job: Job, *, forged: bool) -> Work:
        who = self.accounts[job.account]
        attempt = self.new_attempt(job)
        reply = yield from _until_ok(job, self.attempt(who, attempt))
        proof = self._proof(who, attempt, reply, forged=forged)
        if proof is not None:
            yield from _until_ok(job, proof)

    def _proof(self, who: Someone, attempt: AttemptId, reply: Reply, *, forged: bool) -> Ask | None:
        """The proof of an attempt that opened."""
        if reply.grant is None:
            return None
        name, era = RegistrationId(reply.grant.registration_id), Era(reply.grant.era)
        made = self.secrets[name]
        message = prove_message(CLUSTER, name, era + 1 if forged else era, attempt)
        signature = ed25519_sign(made.proof_seed, message)
        if not forged:
            self.shares.proven(name, era)
        command = Prove(who.record_id, name, era, attempt, signature)
        facts: dict[str, Any] = {
            "registration_id": b64u_encode(name),
            "era": era,
            "attempt_id": b64u_encode(attempt),
        }
        if forged:
            facts["forged"] = True
        unseen = Ask("prove", who, partial(self.desk.prove_unseen, command), facts)
        if forged and attempt[0] % 2:
            return unseen
        if not forged:
            who.changes.append(unseen)
        return Ask("prove", who, partial(self.desk.prove, command), facts)

    def _late(self, job: Job, lane: _Lane) -> Work:
        """An attempt of before, once more."""
        del lane
        who = self.accounts[job.account]
        if who.attempts:
            attempt = who.attempts[_hash("late", job.number)[0] % len(who.attempts)]
            yield from _until_ok(job, self.attempt(who, attempt))

    def _alias(self, job: Job, lane: _Lane) -> Work:
        """Another account's attempt under this record: a guess like any other, here."""
        del lane
        other = self.accounts[(job.account + 1) % len(self.accounts)]
        if other.attempts:
            who, attempt = self.accounts[job.account], other.attempts[-1]
            if attempt not in who.attempts:
                who.attempts.append(attempt)
            yield from _until_ok(job, self.attempt(who, attempt))

    def _observe(self, job: Job, lane: _Lane) -> Work:
        del lane
        yield from _until_ok(job, self.observe(self.accounts[job.account]))

    def _delete(self, job: Job, lane: _Lane) -> Work:
        del lane
        who = self.accounts[job.account]
        reply = yield from _until_ok(job, self.observe(who))
        if reply.phase == "ok" and reply.era is not None:
            command = Delete(who.record_id, Era(reply.era))
            yield from _until_ok(job, self._change("delete", who, command, era=reply.era))

    def _again(self, job: Job, lane: _Lane) -> Work:
        """A duplicate of any change that anybody asked for, however long ago."""
        del lane
        changes = self.accounts[job.account].changes[-LATEST_CHANGES:]
        if changes:
            yield from _until_ok(job, changes[_hash("again", job.number)[0] % len(changes)])

    def _brink(self, job: Job, lane: _Lane) -> Work:
        """The last guess is right, and its proof comes just when its grace is over."""
        who = self.accounts[job.account]
        for place in range(self.world.limit):
            attempt = self.new_attempt(job, place)
            reply = yield from _until_ok(job, self.attempt(who, attempt))
            if reply.phase == "ok" and reply.guesses_remaining == 0:
                proof = self._proof(who, attempt, reply, forged=False)
                share = _hash("brink", job.number)[0] / 255
                wait = int(self.world.grace_s * (1 + BRINK * share) * SECOND)
                if proof is not None:
                    self.world.at(wait, partial(self._later, job, lane, proof))
                return

    def _later(self, job: Job, lane: _Lane, ask: Ask) -> None:
        if not self._over:
            lane.add(job, partial(self._only, job, ask))

    def _only(self, job: Job, ask: Ask) -> Work:
        yield from _until_ok(job, ask)

    def _once(self, job: Job, attempt: AttemptId, place: int) -> Work:
        yield self.attempt(self.accounts[job.account], attempt), place


def _until_ok(job: Job, ask: Ask) -> Generator[tuple[Ask, int], Reply, Reply]:
    """Ask one node after the other until one of them knows."""
    reply = LOST
    for place in range(len(job.nodes)):
        reply = yield ask, place
        if reply.phase == "ok" or (reply.phase == "fail" and reply.code not in _ELSEWHERE):
            break
    return reply


_ELSEWHERE = {"unreachable", "no-quorum", "hsm-unavailable", "busy", "ledger-full"}
"""Refusals that speak of the node: the next one may answer."""


class _Lane:
    """One client."""

    def __init__(self, clients: Clients, number: int) -> None:
        self._clients = clients
        self._number = number
        self.queue: deque[tuple[Job, Callable[[], Work]]] = deque()
        self._work: Work | None = None

    def add(self, job: Job, begin: Callable[[], Work]) -> None:
        """Do it, or do it next."""
        self.queue.append((job, begin))
        if self._work is None:
            self._next()

    def _next(self) -> None:
        while self._work is None and self.queue:
            job, begin = self.queue.popleft()
            self._work = begin()
            self._clients.running += 1
            self._go(job, None)

    def _go(self, job: Job, reply: Reply | None) -> None:
        work = self._work
        if work is None:
            return
        try:
            ask, place = next(work) if reply is None else work.send(reply)
        except StopIteration:
            self._work = None
            self._clients.running -= 1
            self._clients.world.at(PAUSE_NS, self._next)
            return
        self._ask(job, ask, self._clients.member(job.nodes[place]))

    def _ask(self, job: Job, ask: Ask, node: NodeId) -> None:
        clients = self._clients
        self._note(ask, node, Reply("info"), invoke=True)
        told = False

        def done(reply: Reply) -> None:
            nonlocal told
            if told:
                return
            told = True
            if reply is _IMPATIENT and request is not None:
                request.abandon()
            self._note(ask, node, reply, invoke=False)
            clients.count(ask.op, reply)
            self._go(job, reply)

        request = clients.desk.ask(node, ask.run, done)
        clients.world.at(job.patience_ms * MS, partial(done, _IMPATIENT))

    def _note(self, ask: Ask, node: NodeId, reply: Reply, *, invoke: bool) -> None:
        clients = self._clients
        facts = dict(ask.facts)
        if not invoke:
            names = ("registration_id", "era", "charged", "guesses_remaining", "state")
            more = ("receipt", "code", "replayed", "pending", "wrapped")
            known = {name: getattr(reply, name) for name in (*names, *more)}
            facts |= {name: value for name, value in known.items() if value not in (None, "")}
            if reply.pending is not None:
                facts["pending"] = reply.pending
        clients.history.add(
            Event(
                clients.world.now,
                self._number,
                node,
                ask.op,
                "invoke" if invoke else reply.phase,
                ask.account.name,
                **facts,
            )
        )
        what = "asks" if invoke else f"is told {reply.phase} {reply.code} {reply.charged}".rstrip()
        clients.trace.say(0, f"client {self._number} {what}: {ask.op} {ask.account.name} at {node}")


_IMPATIENT = Reply("info", "gave-up", charged="unknown")
