"""The container ground: the deployment itself (deploy/docker-compose.yml) under Docker's commands.

A node is killed, frozen, stopped and started as a container; its interface on the mesh is taken
away and given back, while clients still reach it by its port on loopback; packets are dropped in
its network namespace; its token directory is gone from its volume. What a container cannot do
honestly is refused, with the ground that can. A node that ends by itself is seen in Docker's own
events, whatever we do meanwhile; nothing excuses it, since no fault of this ground may end a node.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from chaos import faults as f
from chaos.container_wires import Wires, why_no_cut
from chaos.containers import PROJECT, SEATS, Stack
from chaos.driver import Death, DriverError, FaultRefusedError, refusals, tag
from chaos.operating import Operator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from chaos.faults import Fault

READY_S: Final = 1.0
"""A node that does not answer so long is not ready."""
ANSWER_S: Final = 5.0
START_S: Final = 60.0
POLL_S: Final = 0.1
STOP_S: Final = 30
"""stop_grace_period of the compose file: a drain lasts 10 s at most (drain_s)."""
KILLED: Final = 137
"""Exit code of a container whose process got SIGKILL."""
TERMINATED: Final = 143
"""The same of SIGTERM, before the node has begun to listen to it: Python is still importing."""
FREEZE_TRIES: Final = 5
FREEZE_FAILED: Final = "unable to freeze"
PROCESS: Final = "the driver 'process' does it"
SIMULATOR: Final = "the simulator does it"
NEVER: Final[dict[type[msgspec.Struct], str]] = {
    f.BadWire: f"TCP itself neither loses, doubles nor reorders; {SIMULATOR}",
    f.SlowWire: f"delays need the kernel's netem, which many lack; {PROCESS}",
    f.DiskSlow: f"a volume has no switch for it; {PROCESS}",
    f.DiskFull: f"a volume has no size of its own; {PROCESS}",
    f.DiskFreed: f"a volume has no size of its own; {PROCESS}",
    f.DiskFails: f"a volume has no switch for it; {PROCESS}",
    f.TornWrite: f"a container cannot tear its own disk's sectors; {SIMULATOR}",
    f.DiskCopied: f"what is on a volume is left alone; {PROCESS}",
    f.DiskRestored: f"what is on a volume is left alone; {PROCESS}",
    f.ByteFlipped: f"what is on a volume is left alone; {PROCESS}",
    f.HsmSlow: f"SoftHSM has no switch for it; {SIMULATOR}",
    f.ClockJump: f"containers share the machine's clock; {PROCESS}",
    f.ClockDrift: f"containers share the machine's clock; {PROCESS}",
    f.ClockStrobe: f"containers share the machine's clock; {PROCESS}",
    f.Replace: f"the compose file has five nodes and no sixth; {PROCESS}",
}
NEEDS_RULES: Final = (f.Cut, f.Partition, f.Flap, f.ResetLinks)


class _Ended(msgspec.Struct, frozen=True):
    """What Docker tells of a container that ended; more fields than these."""

    name: str
    exit_code: str = msgspec.field(name="exitCode")


class DockerDriver:
    """Five node containers; see `chaos.driver.Driver`.

    Args:
        root: an empty or new folder that gets connection file, witnesses and logs.
        shards: Raft groups.
        limit: guesses per registration.
        grace_s: seconds of grace after the last guess.
        say: told what is going on, for people.

    """

    name = "docker"

    def __init__(
        self,
        root: Path,
        *,
        shards: int = 3,
        limit: int = 10,
        grace_s: int = 5,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._stack = Stack(root, shards=shards, limit=limit, grace_s=grace_s)
        self._wires = Wires(self._stack)
        self._say = say
        self.impossible: Mapping[str, str] = _impossible()
        self._turns: dict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._ours: Counter[tuple[int, int]] = Counter()
        """Ends of nodes, with the exit code, that are our doing and not told of by Docker yet."""
        self._frozen: set[int] = set()
        self._unplugged: set[int] = set()
        self._tokenless: set[int] = set()
        self._operator = Operator(lambda: self.connection_file)
        self._deaths: list[Death] = []
        self._events: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    # ---------------------------------------------------------------- what it is

    @property
    def stack(self) -> Stack:
        """The containers; for tests that look closer than a run does."""
        return self._stack

    @property
    def nodes(self) -> tuple[int, ...]:
        """Ids of the members, running or not."""
        return SEATS

    @property
    def connection_file(self) -> Path:
        """The vault's connection file, by the ports on loopback."""
        return self._stack.connection_file

    @property
    def witnesses(self) -> Sequence[Path]:
        """Witness files of all nodes."""
        return [self._stack.witness(seat) for seat in SEATS]

    @property
    def logs(self) -> Mapping[int, Path]:
        """Each node's log as of now. Docker is asked for it: not for the event loop's thread."""
        return self._stack.take_logs()

    @property
    def deaths(self) -> Sequence[Death]:
        """Who ended by itself so far."""
        return self._deaths

    # ---------------------------------------------------------------- start and stop

    async def start(self) -> None:
        """Bring the stack up and wait until every node is ready."""
        await self._stack.refuse_if_taken()
        self._events = await asyncio.create_subprocess_exec(
            "docker", "events", "--filter", f"label=com.docker.compose.project={PROJECT}",
            "--filter", "event=die", "--format", "{{json .Actor.Attributes}}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        self._watch = asyncio.create_task(self._follow(self._events))
        self._say("bringing five containers up (the first time there is an image to build)")
        await self._stack.up()
        await self._until_ready(START_S)

    async def stop(self) -> None:
        """Remove everything that was started here; the logs are kept."""
        if self._events is not None and self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(ProcessLookupError):
                self._events.kill()
            await self._events.wait()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._stack.down()

    async def _follow(self, events: asyncio.subprocess.Process) -> None:
        """Note every node that ends and that we did not end."""
        if events.stdout is None:
            raise DriverError("docker events has no output")
        async for line in events.stdout:
            ended = msgspec.json.decode(line, type=_Ended)
            seat, code = self._stack.seat(ended.name), int(ended.exit_code)
            if seat is None:
                continue
            if self._ours[seat, code] > 0:
                self._ours[seat, code] -= 1
                continue
            now = time.monotonic_ns()
            last = await asyncio.to_thread(self._stack.last_line, seat)
            self._deaths.append(Death(now, seat, code, last, ""))

    def _watched(self) -> None:
        """Nothing is proven of nodes that end once nobody looks any more.

        Raises:
            DriverError: Docker's events ended.

        """
        if self._watch is None or self._watch.done():
            raise DriverError("`docker events` ended: who ended by itself is not known any more")

    # ---------------------------------------------------------------- readiness

    async def ready(self) -> frozenset[int]:
        """The members that say now that they can serve."""
        timeout = aiohttp.ClientTimeout(total=READY_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            found = await asyncio.gather(*(self._is_ready(session, seat) for seat in SEATS))
        return frozenset(seat for seat, able in zip(SEATS, found, strict=True) if able)

    async def _is_ready(self, session: aiohttp.ClientSession, seat: int) -> bool:
        try:
            async with session.get(self._stack.ready_url(seat)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _answers(self, seat: int) -> str:
        """Whether those outside the mesh still reach a node."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as session,
                session.get(self._stack.ready_url(seat)) as answer,
            ):
                return f"its ops port answers {answer.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"its ops port does not answer ({type(error).__name__})"

    async def _until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while missing := set(SEATS) - await self.ready():
            if time.monotonic() > deadline:
                lines = [
                    f"node {seat}: {await asyncio.to_thread(self._stack.last_line, seat)}"
                    for seat in sorted(missing)
                ]
                raise DriverError(f"not ready after {timeout_s:.0f} s: {'; '.join(lines)}")
            await asyncio.sleep(POLL_S)

    # ---------------------------------------------------------------- faults

    async def apply(self, fault: Fault) -> str:
        """Do the fault; see `chaos.driver.Driver.apply`."""
        kind = tag(type(fault))
        for refusal in refusals(self, [kind]):
            raise FaultRefusedError(refusal)
        match fault:
            case f.Heal():
                return await self._heal_all()
            case f.Cut(sender, receiver):
                await self._wires.cut(sender, receiver)
                return f"nothing passes from {sender} to {receiver}"
            case f.Partition(sides):
                before = self._wires.dropped
                cut = await self._wires.sides(f.placed(sides, SEATS))
                return f"{cut} directions cut, {self._wires.dropped - before} packets were dropped"
        number = fault.node  # type: ignore[union-attr]  # BadWire and SlowWire are refused above
        if number not in SEATS:
            raise DriverError(f"{kind}: there is no node {number}")
        async with self._turns[number]:
            return await self._to_one(fault)

    async def _to_one(self, fault: Fault) -> str:  # noqa: C901, PLR0912 - one case per kind
        match fault:
            case f.Kill(node):
                return await self._kill(node)
            case f.Start(node):
                return await self._begin(node)
            case f.Stop(node):
                return await self._drain(node)
            case f.RestartLoop(node, times, every_ms):
                for _ in range(times):
                    await self._kill(node)
                    await self._begin(node)
                    await asyncio.sleep(every_ms / 1000)
                return f"killed and started {times} times"
            case f.Pause(node):
                return await self._freeze(node)
            case f.Resume(node):
                await self._thaw(node)
                return "goes on"
            case f.Flap(node, times, every_ms):
                for turn in range(2 * times):
                    await self._wires.isolate(node, cut=turn % 2 == 0)
                    await asyncio.sleep(every_ms / 1000)
                return f"cut off and back {times} times"
            case f.ResetLinks(node):
                return f"{await self._wires.reset(node)} connections reset"
            case f.Unplug(node):
                await self._stack.unplug(node)
                self._unplugged.add(node)
                return f"no interface on the mesh; {await self._answers(node)}"
            case f.Plug(node):
                await self._plug(node)
                return "interface is back"
            case f.HsmGone(node):
                await self._stack.move_tokens(node, away=True)
                self._tokenless.add(node)
                return "token directory taken away"
            case f.HsmBack(node):
                await self._hsm_back(node)
                return "token directory is back"
            case f.Drain() | f.Undrain() | f.Transfer():
                return await self._operator.do(fault)
            case _:
                raise FaultRefusedError(f"driver {self.name!r} cannot do {tag(type(fault))}")

    async def _kill(self, node: int) -> str:
        if not await self._stack.running(node):
            return "it was down already"
        await self._thaw(node)
        with self._ending(node, KILLED):
            await self._stack.do("kill", node)
        await self._stack.do("wait", node)
        return "SIGKILL"

    async def _drain(self, node: int) -> str:
        """SIGTERM, and wait until it has drained and ended; one that starts has nothing to drain.

        Raises:
            DriverError: it did not end in time, or not with 0.

        """
        if not await self._stack.running(node):
            return "it was down already"
        began = time.monotonic()
        codes = {0} if node in await self.ready() else {0, TERMINATED}
        with self._ending(node, *codes):
            await self._stack.do("stop", node, "--time", str(STOP_S), timeout_s=2.0 * STOP_S)
            code = int(await self._stack.inspect(node, ".State.ExitCode"))
            if code not in codes:
                raise DriverError(f"node {node} was asked to stop and ended with exit code {code}")
        for other in codes - {code}:
            self._ours[node, other] -= 1
        how = "drained and ended" if code == 0 else "it was still starting, and ended"
        return f"{how} after {time.monotonic() - began:.1f} s"

    @contextlib.contextmanager
    def _ending(self, node: int, *codes: int) -> Iterator[None]:
        """We are about to end a node, with one of these exit codes; if not, its end is not ours."""
        self._ours.update((node, code) for code in codes)
        try:
            yield
        except DriverError:
            self._ours.subtract((node, code) for code in codes)
            raise

    async def _begin(self, node: int) -> str:
        if await self._stack.running(node):
            return "it runs already"
        await self._stack.do("start", node)
        if tag(f.Cut) not in self.impossible:
            await self._wires.again(node)  # it has a new namespace, long before it listens
        return "started"

    async def _freeze(self, node: int) -> str:
        """The container runtime gives up when a busy machine does not freeze a process at once."""
        for tries in range(1, FREEZE_TRIES + 1):
            try:
                await self._stack.do("pause", node)
            except DriverError as error:
                if FREEZE_FAILED not in str(error) or tries == FREEZE_TRIES:
                    raise
            else:
                break
        self._frozen.add(node)
        return "frozen"

    async def _thaw(self, node: int) -> None:
        if node in self._frozen:
            await self._stack.do("unpause", node)
            self._frozen.discard(node)

    async def _plug(self, node: int) -> None:
        if node in self._unplugged:
            await self._stack.plug(node)
            self._unplugged.discard(node)

    async def _hsm_back(self, node: int) -> None:
        if node in self._tokenless:
            await self._stack.move_tokens(node, away=False)
            self._tokenless.discard(node)

    # ---------------------------------------------------------------- healing

    async def _heal_all(self) -> str:
        """End every fault and start who is down; does not wait until they are ready."""
        self._watched()
        await self._wires.whole()
        started = []
        for node in SEATS:
            async with self._turns[node]:
                await self._thaw(node)
                await self._plug(node)
                await self._hsm_back(node)
                if await self._begin(node) == "started":
                    started.append(node)
                else:
                    await self._operator.undrain(node)
        return f"started {started}" if started else "everybody runs"

    async def heal(self, timeout_s: float) -> None:
        """End every fault, start who is down, wait until every member is ready."""
        await self._heal_all()
        await self._until_ready(timeout_s)


def _impossible() -> dict[str, str]:
    """What cannot be done with these containers, and why."""
    found = {tag(kind): reason for kind, reason in NEVER.items()}
    if reason := why_no_cut():
        found |= {tag(kind): f"{reason}; {PROCESS}" for kind in NEEDS_RULES}
    return found
