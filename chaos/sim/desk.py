"""What a node does for a client, over the real host: the API of design section 7 in callbacks.

It models `node/` (replica, attempts, evaluation, shares, proofs) closely enough that what clients
are told, whom a node asks for shares and how often it proposes are the same; bodies, TLS and OPAQUE
are left out. Shares are given where `host.share_verdict` says `Give`, and witnessed there. Whatever
a dead process had promised its clients ends as `info`: nobody can say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.history import Seen
from chaos.sim.collecting import THRESHOLD
from chaos.sim.guessing import Guessing
from chaos.sim.proving import Proving
from chaos.sim.reply import FULL, LOST, UNREACHABLE, Reply, not_applied
from chaos.sim.units import CLUSTER, MS
from cluster.api import Applied, Give, NotAppended
from cluster.commands import (
    Activate,
    ActivateOutcome,
    Barrier,
    Delete,
    DeleteOutcome,
    Prove,
    Register,
    RegisterOutcome,
    Status,
    encode_command,
)
from cluster.record import state_of
from cluster.types import AttemptId, Era, NodeId, RecordId, ShardId
from engines.encoding import b64u_encode
from engines.identifiers import shard_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.sim.guard import Guard
    from chaos.sim.node import SimNode
    from chaos.sim.reference import Reference
    from chaos.sim.shares import Shares
    from chaos.sim.world import World
    from cluster.api import Proposal, ProposalResult, ShareVerdict
    from cluster.commands import Command
    from cluster.host import Host

PROPOSE_S = 8.0


class Request:
    """One request at one node, until it is answered, its node dies, or its client goes away."""

    def __init__(self, desk: Desk, node: SimNode, done: Callable[[Reply], None]) -> None:
        self.desk, self.node = desk, node
        self._done: Callable[[Reply], None] | None = done
        self._proposal: Proposal | None = None
        desk.open.setdefault(node.id, []).append(self)

    @property
    def over(self) -> bool:
        """Answered or abandoned."""
        return self._done is None

    @property
    def host(self) -> Host:
        """The node's; requests end with their process."""
        return self.node.running

    def answer(self, reply: Reply) -> None:
        """Once; the client hears of it a moment later."""
        done = self._close()
        if done is not None:
            self.desk.world.at(self.desk.latency_ns(), lambda: done(reply))

    def abandon(self) -> None:
        """The client went away: what was charged stays charged."""
        self._close()

    def _close(self) -> Callable[[Reply], None] | None:
        done, self._done = self._done, None
        if done is not None:
            self.desk.open[self.node.id].remove(self)
        if self._proposal is not None:
            self._proposal.cancel()
        return done

    def propose(
        self, command: Command, then: Callable[[ProposalResult], None], shard: ShardId | None = None
    ) -> None:
        """Have a command applied; every result is held against the agreed log."""
        host, node = self.host, self.node
        incarnation = host.status().incarnation

        def told(result: ProposalResult) -> None:
            seq = waiter.command.seq
            if isinstance(result, NotAppended) and not isinstance(command, Barrier) and seq:
                self.desk.reference.not_appended((node.id, incarnation, seq))
            if isinstance(result, Applied) and not isinstance(command, Barrier):
                self.desk.guard.look(node)
                self.desk.reference.answered(
                    node.id, result.shard, result.index, encode_command(command), result.outcome
                )
            if not self.over:
                then(result)

        waiter = host.propose(command, timeout_s=PROPOSE_S, done=told, shard=shard)
        self._proposal = waiter


class Desk:
    """All front desks of a world."""

    def __init__(self, world: World, guard: Guard, reference: Reference, shares: Shares) -> None:
        self.world = world
        self.guard = guard
        self.reference = reference
        self.shares = shares
        self.open: dict[NodeId, list[Request]] = {}
        world.lives.append(self._life)

    def _life(self, node: SimNode, what: str) -> None:
        if what == "ended":
            for request in list(self.open.get(node.id, ())):
                request.answer(LOST)

    def latency_ns(self) -> int:
        """Between client and node, one way."""
        return int((1 + 20 * self.world.random.random()) * MS)

    def ask(
        self, at: NodeId, run: Callable[[Request], None], done: Callable[[Reply], None]
    ) -> Request | None:
        """A client's request arrives at a node; None when nothing answers there."""
        node = self.world.machines[at]
        if not node.up:
            self.world.at(self.latency_ns(), lambda: done(UNREACHABLE))
            return None
        request = Request(self, node, done)

        def arrived() -> None:
            if not request.over:
                run(request)

        node.soon(self.latency_ns(), arrived)
        return request

    def post(self, a: NodeId, b: NodeId, call: Callable[[], object]) -> None:
        """A small message between nodes; lost where there is no connection."""
        world = self.world
        lives = (world.machines[a].life, world.machines[b].life)

        def arrived() -> None:
            source, target = world.machines[a], world.machines[b]
            cut = a != b and ((a, b) in world.stalled or not world.connected(a, b))
            if not cut and target.up and (source.life, target.life) == lives:
                target.call(call)

        if a == b:
            world.at(0, arrived)
        elif world.connected(a, b):
            low, high = world.delay_ms
            world.at(int((low + (high - low) * world.random.random()) * MS), arrived)

    def shard(self, record_id: bytes) -> ShardId:
        """The record's."""
        return ShardId(shard_of(record_id, self.world.shards))

    def few_givers(self, request: Request, record_id: bytes) -> bool:
        """Its own HSM is away, or fewer than three share-givers are known there."""
        givers = request.host.share_givers(self.shard(record_id))
        return not request.node.hsm.healthy or len(givers) < THRESHOLD

    # ---- the calls

    def start(self, record_id: RecordId, request: Request) -> None:
        """Begin a registration: the era behind a Barrier."""
        if self.few_givers(request, record_id):
            request.answer(FULL)
            return

        def then(result: ProposalResult) -> None:
            if not isinstance(result, Applied):
                request.answer(not_applied(result))
                return
            record, _ = request.host.view(record_id)
            request.answer(Reply("ok", era=0 if record is None else record.era))

        request.propose(Barrier(), then, self.shard(record_id))

    def change(self, command: Register | Activate | Delete, request: Request) -> None:
        """Register, Activate or Delete."""

        def then(result: ProposalResult) -> None:
            if not isinstance(result, Applied):
                request.answer(not_applied(result))
                return
            outcome = result.outcome
            good = outcome.status in (Status.DONE, Status.SAME)
            if not isinstance(outcome, (RegisterOutcome, ActivateOutcome, DeleteOutcome)):
                raise TypeError(f"{command} came out as {outcome}")
            receipt = self.receipt(result, outcome.version)
            code = "proof-rejected" if outcome.status is Status.REJECTED else str(outcome.status)
            state = {RegisterOutcome: "pending", ActivateOutcome: "active", DeleteOutcome: "none"}
            said = outcome.state if isinstance(outcome, RegisterOutcome) else state[type(outcome)]
            request.answer(
                Reply("ok", state=said, receipt=receipt) if good else Reply("fail", code=code)
            )

        request.propose(command, then)

    def observe(self, record_id: RecordId, request: Request) -> None:
        """Look, behind a Barrier."""

        def then(result: ProposalResult) -> None:
            if not isinstance(result, Applied):
                request.answer(not_applied(result))
                return
            record, index = request.host.view(record_id)
            standing = state_of(record, self.world.limit)
            active = record.active if record is not None else None
            pending = record.pending if record is not None else None
            version = 0 if record is None else record.version
            receipt = Seen(str(CLUSTER), result.shard, index, version, 0)
            request.answer(
                Reply(
                    "ok",
                    registration_id="" if active is None else b64u_encode(active.registration_id),
                    era=0 if record is None else record.era,
                    guesses_remaining=standing.guesses_remaining,
                    state=str(standing.state),
                    pending="" if pending is None else b64u_encode(pending.registration_id),
                    receipt=receipt,
                )
            )

        request.propose(Barrier(), then, self.shard(record_id))

    def prove(self, command: Prove, request: Request) -> None:
        """A proof: looked at here first, decided in the log."""
        Proving(self, request, command).look(again=True)

    def prove_unseen(self, command: Prove, request: Request) -> None:
        """A proof that no honest node would propose any more: only the log decides."""
        Proving(self, request, command).propose()

    def attempt(self, record_id: RecordId, attempt: AttemptId, request: Request) -> None:
        """One guess: charge, evaluate, answer."""
        Guessing(self, request, record_id, attempt).begin()

    @staticmethod
    def receipt(result: Applied, version: int) -> Seen:
        """Of an applied outcome."""
        return Seen(str(CLUSTER), result.shard, result.index, version, 0)

    # ---- shares

    def share(
        self, node: SimNode, record_id: RecordId, era: Era, attempt: AttemptId
    ) -> ShareVerdict:
        """The node's verdict; `Give` is held against the rules at once.

        Whoever then has the share made calls `made`.
        """
        verdict = node.running.share_verdict(record_id, era, attempt)
        if isinstance(verdict, Give):
            self.guard.look(node)
            self.shares.right(node, record_id, attempt, verdict)
        return verdict

    def made(self, node: SimNode, attempt: AttemptId, verdict: Give) -> None:
        """The HSM made the share of this verdict: the witness counts it."""
        seat = int(self.world.shape(node.id).seats[node.id])
        self.shares.gave(seat, attempt, verdict)
