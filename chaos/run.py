"""One run of chaos: a vault, its users, a schedule of faults, healing, and the verdict.

The order is the argument: users begin on a whole vault; faults come at their times, each as its
own task, so that one that lasts does not delay the next; then everything is healed, everybody must
be ready and served again, every record is looked at through every node, and only then is the run
judged, by the clients' answers, the share witnesses, the state hashes and the nodes' own ends.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chaos import report as pages
from chaos import verdict
from chaos.checkers import Final as World
from chaos.client import OutOfPatienceError
from chaos.crowd import FINAL_FROM, Crowd
from chaos.driver import DriverError, FaultRefusedError, refuse_unless_possible
from chaos.faults import kind
from chaos.outage import MS, Outages
from chaos.phone import TWINS_FROM
from chaos.plan import MAX_AWAY, taken
from chaos.report import Done, Report
from chaos.witness import Testimony

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chaos.driver import Driver
    from chaos.faults import Planned, Schedule

HEAL_S: Final = 120.0
"""How long all members may take to be ready again: a start reads the whole disk, then elections."""
ROOM_S: Final = 180.0
"""How long a fault waits for nodes that are starting or being replaced."""
SERVED_S: Final = 90.0
"""How long everybody may take to end two operations after that; one may be a lock-out."""


@dataclass(frozen=True)
class Plan:
    """What a run is to do."""

    name: str
    seed: int
    schedule: Schedule
    seconds: float
    wan: str
    clients: int
    shards: int
    limit: int
    careful: bool = False
    """Never take a third node away: for schedules that promise it, whatever the machine does."""


class Run:
    """One run on one driver; `go` does it and returns the report.

    Args:
        driver: started (see `on`); it is stopped by whoever made it.
        plan: what to do.
        say: told what is going on, for people.

    """

    def __init__(
        self, driver: Driver, plan: Plan, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._driver = driver
        self._plan = plan
        self._say = say
        self._done: list[tuple[int, Planned, str]] = []
        """(when in ns, what, what was seen)."""
        self._violations: list[str] = []
        self._stopped_ns = 0
        self.world = World()
        """The last looks and state hashes, once the run is over."""
        self.testimony = Testimony({}, (), {})
        """What the nodes witnessed, once the run is over."""
        self.crowd = Crowd(
            driver.connection_file,
            count=plan.clients,
            seed=plan.seed,
            shards=plan.shards,
            limit=plan.limit,
        )

    @classmethod
    async def on(
        cls, driver: Driver, plan: Plan, say: Callable[[str], None] = lambda _: None
    ) -> Run:
        """Refuse what the ground cannot do, then bring the vault up.

        Raises:
            FaultRefusedError: the schedule has a fault that this ground cannot do.
            DriverError: the vault does not come up.

        """
        refuse_unless_possible(driver, plan.schedule)
        await driver.start()
        return cls(driver, plan, say)

    async def go(self) -> Report:
        """Load, faults, healing, last looks, verdict."""
        async with self.crowd as crowd:
            await crowd.start()
            began = time.monotonic_ns()
            self._say(f"  {self._plan.clients} clients at work; the faults begin")
            await self._play(began)
            ended = time.monotonic_ns()
            healed_s = await self._heal()
            self.world = await self._last_looks()
        self.testimony = await asyncio.to_thread(verdict.testimony_of, self._driver)
        self._say("  judging the history")
        await asyncio.to_thread(self._judge)
        outages = Outages(
            (event for event in crowd.history.events if event.client < FINAL_FROM),
            crowd.shards,
            self._stopped_ns,
        )
        return self._report(began, ended, healed_s, outages)

    # ---------------------------------------------------------------- faults

    async def _play(self, began: int) -> None:
        """Every fault at its time; the load goes on until the end of the plan.

        When the plan is careful, a fault waits (and all that follow with it) while it would take
        away a third node: on a busy machine a start or a replacement may take longer than planned.
        """
        late = 0
        async with asyncio.TaskGroup() as group:
            for planned in self._plan.schedule:
                await _until(began + planned.at_ms * MS + late)
                if self._plan.careful:
                    late += await self._room_for(planned)
                group.create_task(self._one(planned))
            await _until(began + int(self._plan.seconds * 1000) * MS + late)

    async def _room_for(self, planned: Planned) -> int:
        """Wait until at most MAX_AWAY nodes are away with this fault done; how long, in ns."""
        began = time.monotonic_ns()
        while time.monotonic_ns() - began < ROOM_S * 1e9:
            members = self._driver.nodes
            victims = taken(planned.fault, members)
            if victims is None:
                return 0
            away = frozenset(members) - await self._driver.ready()
            if len(away | victims) <= MAX_AWAY:
                break
        else:
            self._violations.append(
                f"liveness: {kind(planned.fault)} at {planned.at_ms} ms waited {ROOM_S:g} s for "
                f"nodes that nothing ailed: {sorted(away)} not ready"
            )
        return time.monotonic_ns() - began

    async def _one(self, planned: Planned) -> None:
        at_ns = time.monotonic_ns()
        try:
            seen = await self._driver.apply(planned.fault)
        except (DriverError, FaultRefusedError) as error:
            seen = f"NOT DONE: {error}"
            self._violations.append(f"driver: {kind(planned.fault)}: {error}")
        self._done.append((at_ns, planned, seen))
        self._say(f"  {planned.at_ms / 1000:6.1f} s {pages.told(planned.fault)}: {seen}")
        self._follow()

    def _follow(self) -> None:
        """Use the members of now: a replaced node has another id and address."""
        found = json.loads(self._driver.connection_file.read_text("utf-8"))
        self.crowd.follow({each["node"]: each["url"] for each in found["endpoints"]})

    # ---------------------------------------------------------------- healing

    async def _heal(self) -> float:
        """Everything ends; everybody must be ready, and everybody served; seconds until ready."""
        began = time.monotonic()
        try:
            await self._driver.heal(HEAL_S)
        except DriverError as error:
            self._violations.append(f"liveness: after healing: {error}")
        healed_s = time.monotonic() - began
        self._follow()
        self._say(f"  healed after {healed_s:.1f} s; everybody is served once more")
        try:
            await self.crowd.everybody(SERVED_S)
        except TimeoutError as error:
            self._violations.append(f"liveness: after healing: {error}")
        self._stopped_ns = time.monotonic_ns()
        await self.crowd.stop()
        self._violations += self.crowd.ended
        return healed_s

    async def _last_looks(self) -> World:
        """Every record through every node, and every node's state hash, without load."""
        try:
            await self.crowd.look_everywhere()
        except OutOfPatienceError as error:
            self._violations.append(f"liveness: last looks: {error}")
        events = self.crowd.history.events
        beyond: dict[int, int] = {}
        for event in events:
            if event.receipt is not None:
                shard, index = event.receipt.shard, event.receipt.index
                beyond[shard] = max(beyond.get(shard, 0), index)
        states, missing = await verdict.states_after(self._driver, beyond)
        if missing:
            self._violations.append(f"I8: no common state hash: {missing}")
        reads = tuple(
            event
            for event in events
            if FINAL_FROM <= event.client < TWINS_FROM and event.phase == "ok"
        )
        return World(reads, tuple(states), frozenset(self._driver.nodes))

    # ---------------------------------------------------------------- judgement

    def _judge(self) -> None:
        history = self.crowd.history.events
        expectations = self.crowd.expectations
        self._violations += verdict.violations(
            history, self.testimony, self.world, expectations, self._plan.limit
        )
        self._violations += verdict.of_nodes(self._driver.deaths, self._driver.logs)
        self._violations += verdict.internal_errors(history)
        if not self.testimony.given:
            self._violations.append("witness: no share was ever given: the run proves nothing")

    def _report(self, began: int, ended: int, healed_s: float, outages: Outages) -> Report:
        plan = self._plan
        done = sorted(self._done, key=lambda each: each[0])
        spans = outages.spans_ms([at for at, _, _ in done], ended + int(healed_s * 1e9))
        figures: dict[str, Any] = pages.counted(self.crowd.history.events, self.testimony)
        return Report(
            name=plan.name,
            seed=plan.seed,
            driver=self._driver.name,
            wan=plan.wan,
            shards=plan.shards,
            limit=plan.limit,
            clients=plan.clients,
            seconds=round((ended - began) / 1e9, 1),
            healed_s=round(healed_s, 1),
            schedule=plan.schedule,
            done=tuple(
                Done((at - began) // MS, planned.fault, seen, span)
                for (at, planned, seen), span in zip(done, spans, strict=True)
            ),
            impossible=dict(self._driver.impossible),
            deaths=tuple(self._driver.deaths),
            violations=tuple(self._violations),
            **figures,
        )

    def write_history(self, path: Path) -> None:
        """Write the history as JSON lines (chaos.history)."""
        self.crowd.history.write(path)


async def _until(ns: int) -> None:
    await asyncio.sleep(max(0.0, (ns - time.monotonic_ns()) / 1e9))
