"""One run: a plan played in a world under all checks, healed, read out and judged.

`run_seed` is what the command line, the soak and the bug bank call. A run is over at the first rule
that a check sees broken; a run that ends well is judged once more by `chaos.checkers` over the
clients' history and the shares that were given.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from chaos.checkers import Final as FinalState
from chaos.checkers import NodeState, judge
from chaos.sim.clients import Clients
from chaos.sim.curious import Curious
from chaos.sim.desk import Desk
from chaos.sim.guard import Guard
from chaos.sim.inject import Injector
from chaos.sim.plan import Plan, Settings, draw
from chaos.sim.reference import Reference
from chaos.sim.shares import Shares
from chaos.sim.totals import Totals
from chaos.sim.trace import Trace
from chaos.sim.units import CLUSTER, MS, SECOND
from chaos.sim.world import World
from chaos.witness import gathered
from cluster import compaction
from cluster.boot import BootRefused
from cluster.record import Rules
from cluster.types import NodeId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chaos.history import History

HEALING_S: Final = 120
"""Virtual: a healed vault must lead, agree and finish what is under way within it."""
READS_S: Final = 30
LOG_CUT_ENTRIES: Final = 40
LOG_KEEP_ENTRIES: Final = 10
"""Short logs, so that whoever was away for seconds needs a snapshot."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one run."""

    plan: Plan
    broken: list[str]
    """Each begins with the name of the check; empty when every rule held."""
    at_ms: int
    """Since the load began, when the first rule was broken."""
    trace_hash: str
    """Hex SHA-256 over every event."""
    trace: list[str]
    """The last lines, in words."""
    totals: Totals
    history: History
    """What the clients were told."""

    @property
    def rule(self) -> str:
        """The name of the check that failed first, or empty."""
        return self.broken[0].split(":", 1)[0] if self.broken else ""


def run_seed(seed: int, settings: Settings | None = None) -> Verdict:
    """Draw the plan of a seed and play it. The same seed, the same trace hash."""
    return run_plan(draw(seed, settings or Settings()))


def run_plan(plan: Plan) -> Verdict:
    """Play a plan."""
    with _short_logs():
        return _Run(plan).verdict()


@contextmanager
def _short_logs() -> Iterator[None]:
    """The product's own constants, for the length of one run."""
    names = {"LOG_CUT_ENTRIES": LOG_CUT_ENTRIES, "LOG_KEEP_ENTRIES": LOG_KEEP_ENTRIES}
    before = {name: getattr(compaction, name) for name in names}
    for name, value in names.items():
        setattr(compaction, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(compaction, name, value)


class _Run:
    """Everything of one run."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._settings = settings = plan.settings
        self.broken: list[str] = []
        self._world = world = World(
            plan.seed,
            shards=settings.shards,
            limit=settings.limit,
            grace_s=settings.grace_s,
            delay_ms=plan.delay_ms,
        )
        world.late_frames = bool(plan.seed % 2)
        self._trace = Trace(world)
        rules = Rules(CLUSTER, settings.limit)
        self._reference = Reference(world, rules, self._break)
        self._guard = Guard(world, self._reference, self._trace, self._break)
        self._shares = Shares(self._reference, settings.limit, self._break)
        self._desk = Desk(world, self._guard, self._reference, self._shares)
        self._injector = Injector(world, self._guard, self._trace, self._break)
        self._clients = Clients(world, plan, self._desk, self._shares, self._injector, self._trace)
        self._start = 0
        self._at_ms = 0

    def _break(self, what: str) -> None:
        if not self.broken:
            self._at_ms = (self._world.now - self._start) // MS
        if len(self.broken) < 10:
            self.broken.append(what)
            self._trace.say(0, f"BROKEN {what}")

    def verdict(self) -> Verdict:
        """Play, heal, read, judge."""
        began = time.process_time()
        self._play()
        world = self._world
        reference, clients = self._reference, self._clients
        totals = Totals(
            seeds=1,
            cluster_seconds=world.now / SECOND,
            cpu_seconds=time.process_time() - began,
            faults=dict(sorted(self._injector.done.items())),
            operations=dict(sorted(clients.outcomes.items())),
            attempts=len(reference.charged),
            evaluations=self._shares.evaluations,
            restarts=self._injector.restarts,
            refusals=self._injector.refusals,
            replacements=self._injector.replacements,
            elections=self._guard.elections,
            snapshots=self._guard.snapshots,
            entries=sum(reference.last),
            frames=world.frames,
        )
        return Verdict(
            plan=self._plan,
            broken=self.broken,
            at_ms=self._at_ms,
            trace_hash=self._trace.digest(),
            trace=self._trace.lines(),
            totals=totals,
            history=clients.history,
        )

    def _play(self) -> None:
        world = self._world
        try:
            for node in world.nodes.values():
                node.start()
        except BootRefused as refusal:
            self._break(f"good-disk-refused: an empty one: {refusal}")
        self._turn(world.led, 30, "an untouched cluster does not elect leaders")
        if self._plan.curious:
            Curious(world, self._desk, self._clients.accounts)
        self._start = world.now
        for job in self._plan.jobs:
            world.at(job.at_ms * MS, partial(self._clients.begin, job))
        last = 0
        for place, planned in enumerate(self._plan.faults):
            last = max(last, planned.at_ms)
            world.at(planned.at_ms * MS, partial(self._injector.do, planned.fault, place))
        end = max(last, *(job.at_ms for job in self._plan.jobs), 0) * MS
        self._turn(lambda: world.now >= self._start + end, end / SECOND + 1, "")
        self._clients.stop()
        self._injector.heal()
        self._turn(self._quiet, HEALING_S, "a healed vault does not come to rest")
        self._read_out()

    def _turn(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Turn the time until the condition holds, or a rule is broken."""
        world = self._world
        end = world.now + int(seconds * SECOND)
        steps = 0
        while not self.broken:
            steps += 1
            if steps % 16 == 0 and condition():
                return
            if not world.events or world.events[0][0] > end:
                if what and not condition():
                    self._break(f"liveness: {what} within {seconds:g} s: {self._standing()}")
                return
            world.step()

    def _quiet(self) -> bool:
        world = self._world
        return (
            self._clients.running == 0
            and not self._injector.unfinished()
            and world.led()
            and world.settled()
        )

    def _standing(self) -> str:
        """Who is where, for a failure's sentence."""
        words = [f"{self._clients.running} clients wait"]
        for node in self._world.nodes.values():
            if node.host is None:
                words.append(f"node {node.id} down ({node.stopped or 'not started'})")
                continue
            status = node.host.status()
            words += [
                f"node {node.id}, shard {group.shard}: {group.role} of {group.leader} in term"
                f" {group.term}, {group.applied}/{group.commit}/{group.last_index}"
                f" {status.waiting_for}"
                for group in status.groups
            ]
        return "; ".join(words)

    # ---- at the end

    def _read_out(self) -> None:
        """Every member reads every account; a new account can be made; all judges agree."""
        if self.broken:
            return
        world, clients = self._world, self._clients
        members = [node.id for node in world.nodes.values() if node.up]
        number = 0
        for node in members:
            seat = NodeId(int(world.shape(node).seats[node]))
            for account in range(len(clients.accounts)):
                clients.read(seat, account, number)
                number += 1
        self._turn(lambda: clients.running == 0, READS_S, "final reads are not answered")
        reads = clients.reads()
        for read in reads:
            if read.phase != "ok":
                self._break(f"liveness: a final read is not answered: {read}")
        if self.broken:
            return
        states = [
            NodeState(node, group.shard, group.applied, hex(records.hash))
            for node in members
            for group, records in zip(
                world.nodes[node].running._core.groups,  # noqa: SLF001
                world.nodes[node].running._core.overlay.shards,  # noqa: SLF001
                strict=True,
            )
        ]
        final = FinalState(reads, tuple(states), frozenset(members))
        found = judge(
            clients.history.events, gathered(self._shares.given), final, self._settings.limit
        )
        for finding in found:
            self._break(f"{finding.check}: {finding}")
