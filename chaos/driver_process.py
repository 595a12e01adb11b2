"""The process ground: five real node processes on this machine, and real faults for each of them.

SIGKILL, SIGSTOP, cuts in the TCP proxies between nodes, disks that are really full or really old,
token directories that are really gone, wall clocks that really jump. What is only needed for some
kinds (mounts, preloaded libraries) is set up only when a schedule has them. The node itself knows
nothing of any of it. A node that ends by itself is noted, with the fault that explains it if one
does; it is started again by the fault's end or by healing, as an operator or a supervisor would.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import shutil
import signal
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from chaos import faults as f
from chaos import replacing
from chaos.disk_shim import DiskShim, DiskShimError, build
from chaos.driver import Death, DriverError, FaultRefusedError, refusals, tag
from chaos.operating import Operator
from chaos.process_clock import SOURCE as CLOCK_SOURCE
from chaos.process_clock import WallClock, ahead_s
from chaos.process_disk import NodeDisk, why_no_mount
from chaos.processes import ClusterError, ProcessCluster
from quorumvault.cli.admin import Access

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from msgspec import Struct

    from chaos.faults import Fault
    from chaos.wan import Wan

EXIT_UNEXPECTED: Final = 1
EXIT_CONFLICT: Final = 8
EXIT_FATAL: Final = 70
REFUSAL_S: Final = 60.0
"""How long a node may take to refuse a disk: it reads all of it first."""
READY_S: Final = 1.0
"""A node that does not answer so long is not ready."""
DEATH_S: Final = 30.0
"""How long a node with a failing disk may take to notice: its next write."""
REPLACE_S: Final = 180.0
"""How long until a new node has the seat everywhere, with other nodes coming and going."""
STOP_S: Final = 30.0
"""A drain lasts 10 s at most by default (drain_s); then there is the store to close."""
HAND_OUT_S: Final = 3.0
REPLACE_AGAIN_S: Final = 3.0
NEEDS_MOUNT: Final = (f.DiskFull, f.DiskFreed)
NEEDS_SHIM: Final = (f.DiskFails, f.DiskSlow)
NEEDS_CLOCK: Final = (f.ClockJump, f.ClockDrift, f.ClockStrobe)
NEEDS_WAN: Final = (f.Cut, f.Partition, f.Flap, f.ResetLinks, f.SlowWire)
NEVER: Final[dict[type[Struct], str]] = {
    f.BadWire: "TCP itself neither loses, doubles nor reorders; the simulator does it",
    f.TornWrite: "a process cannot tear its own disk's sectors; the simulator does it",
    f.HsmSlow: "SoftHSM has no switch for it; the simulator does it",
    f.Unplug: "a process has no interface of its own; the driver 'docker' does it",
    f.Plug: "nothing can be unplugged here",
}


class ProcessDriver:
    """Five node processes under one root folder; see `chaos.driver.Driver`.

    Args:
        root: an empty or new folder that gets all files.
        wan: lan, europe, world, or none: then no fault of the network can be done.
        shards: Raft groups.
        limit: guesses per registration.
        grace_s: seconds of grace after the last guess.
        kinds: names of the kinds that will be asked for; None prepares for all that are possible.
        say: told what is going on, for people.

    """

    name = "process"

    def __init__(
        self,
        root: Path,
        *,
        wan: str = "europe",
        shards: int = 3,
        limit: int = 10,
        grace_s: int = 5,
        kinds: frozenset[str] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._root = root
        self._wan_profile = wan
        self._shards, self._limit, self._grace_s = shards, limit, grace_s
        self._say = say
        self.impossible: Mapping[str, str] = _impossible(wan)
        self._kinds = set(map(tag, f.KINDS)) if kinds is None else set(kinds)
        self._kinds -= set(self.impossible)
        self._cluster: ProcessCluster | None = None
        self._disks: dict[int, NodeDisk] = {}
        self._clocks: dict[int, WallClock] = {}
        self._shims: dict[int, DiskShim] = {}
        self._turns: dict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._excuses: dict[int, dict[int, str]] = defaultdict(dict)
        self._lost: dict[int, str] = {}
        """Nodes that no disk can bring back any more, and why: they are to be replaced."""
        self._joining: set[int] = set()
        """Nodes that have a seat, and no vote in some shard yet."""
        self._operator = Operator(lambda: self.connection_file)
        self._killed: set[int] = set()
        """Process ids that we ended."""
        self._watches: set[asyncio.Task[None]] = set()
        self._deaths: list[Death] = []

    # ---------------------------------------------------------------- what it is

    @property
    def cluster(self) -> ProcessCluster:
        """The processes; for tests that look closer than a run does."""
        if self._cluster is None:
            raise DriverError("the vault is not started yet")
        return self._cluster

    @property
    def nodes(self) -> tuple[int, ...]:
        """Ids of the members, running or not."""
        return tuple(self.cluster.nodes)

    @property
    def connection_file(self) -> Path:
        """The vault's connection file, kept current."""
        return self.cluster.connection_file

    @property
    def witnesses(self) -> Sequence[Path]:
        """Witness files of all nodes that ever were."""
        return sorted(self._root.glob("node-*/witness.jsonl"))

    @property
    def logs(self) -> Mapping[int, Path]:
        """Each node's log, also of nodes that were replaced."""
        found = self._root.glob("node-*/node.log")
        return {int(path.parent.name.removeprefix("node-")): path for path in found}

    @property
    def deaths(self) -> Sequence[Death]:
        """Who ended by itself so far."""
        return self._deaths

    # ---------------------------------------------------------------- start and stop

    async def start(self) -> None:
        """Create the vault, prepare its ground, start every node and wait until all are ready."""
        try:
            self._cluster = await ProcessCluster.create(
                self._root,
                wan=self._wan_profile,
                shards=self._shards,
                limit=self._limit,
                grace_s=self._grace_s,
                witness=True,
                say=self._say,
            )
            for number in self.nodes:
                await asyncio.to_thread(self._prepare, number)
            for number in self.nodes:
                await self._spawn(number)
            await self.cluster.until_ready(self.nodes)
        except (ClusterError, DiskShimError, OSError) as error:
            raise DriverError(str(error)) from error

    def _prepare(self, number: int) -> None:
        """Disk, clock and shim of one node that does not run yet, as far as they are wanted."""
        node = self.cluster.nodes[number]
        disk = self._disks[number] = NodeDisk(node.data_dir, node.folder / "aside")
        if self._wants(NEEDS_MOUNT):
            disk.mount()
        preload: list[str] = []
        if self._wants(NEEDS_SHIM):
            node.data_dir.mkdir(mode=0o700, exist_ok=True)
            shim = DiskShim(build(self._root), node.folder / "disk.rules", node.data_dir)
            self._shims[number] = shim
            node.environment |= shim.environment
            preload.append(shim.environment["LD_PRELOAD"])
        if self._wants(NEEDS_CLOCK):
            library = build(self._root, CLOCK_SOURCE)
            clock = self._clocks[number] = WallClock(library, node.folder / "wall-clock")
            node.environment |= clock.environment
            preload.append(str(library))
        if preload:
            node.environment["LD_PRELOAD"] = ":".join(preload)

    def _wants(self, kinds: tuple[type, ...]) -> bool:
        return any(tag(kind) in self._kinds for kind in kinds)

    async def stop(self) -> None:
        """End every node, proxy and mount."""
        if self._cluster is not None:
            self._mark_killed(*self.nodes)
            await self._cluster.stop()
        await asyncio.gather(*self._watches, return_exceptions=True)
        for shim in self._shims.values():
            shim.close()
        for clock in self._clocks.values():
            clock.close()
        for disk in self._disks.values():
            await asyncio.to_thread(disk.unmount)

    # ---------------------------------------------------------------- processes

    async def _spawn(self, number: int) -> None:
        await self.cluster.spawn(number)
        process = self.cluster.nodes[number].process
        if process is not None:
            task = asyncio.create_task(self._watch(number, process))
            self._watches.add(task)
            task.add_done_callback(self._watches.discard)

    async def _watch(self, number: int, process: asyncio.subprocess.Process) -> None:
        """Note it when the node ends by itself."""
        code = await process.wait()
        if process.pid in self._killed:
            return
        excuse = self._excuses[number].get(code, "")
        now = time.monotonic_ns()
        text = await asyncio.to_thread(self.cluster.nodes[number].log.read_text, "utf-8", "replace")
        line = (text.strip().splitlines() or ["(empty log)"])[-1]
        self._deaths.append(Death(now, number, code, line, excuse))

    async def _kill(self, number: int) -> None:
        self._mark_killed(number)
        await self.cluster.kill(number)

    async def _drain(self, number: int) -> str:
        """SIGTERM, and wait until it has drained and ended; one that starts has nothing to drain.

        Raises:
            DriverError: it did not end in time, or not with 0.

        """
        node = self.cluster.nodes[number]
        if not node.running or node.process is None:
            return "it was down already"
        began = time.monotonic()
        starting = not await self._is_ready(number)
        self._mark_killed(number)
        self.cluster.signal(number, signal.SIGTERM)
        code = await self._ended(number, STOP_S)
        self.cluster.write_connection()
        if starting and code == -signal.SIGTERM:  # it did not listen to signals yet
            return "it was still starting, and ended"
        if code != 0:
            how = f"not within {STOP_S:g} s" if code is None else f"with exit code {code}"
            raise DriverError(f"node {number} was asked to stop and ended {how}")
        return f"drained and ended after {time.monotonic() - began:.1f} s"

    def _mark_killed(self, *numbers: int) -> None:
        for number in numbers:
            node = self.cluster.nodes[number]
            if node.running and node.process is not None:
                self._killed.add(node.process.pid)

    async def _ended(self, number: int, timeout_s: float) -> int | None:
        """Wait until a node has ended; its exit code, or None when it has not."""
        process = self.cluster.nodes[number].process
        if process is None:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return await process.wait()
        return None

    async def _begin(self, number: int) -> str:
        """Start a node that is down, on its right disk.

        Raises:
            DriverError: nothing but a replacement can bring it back.

        """
        disk = self._disks[number]
        if self.cluster.nodes[number].running:
            return "it runs already"
        if number in self._lost:
            raise DriverError(f"node {number} can only be replaced: {self._lost[number]}")
        note = "started"
        if disk.exchanged:
            await asyncio.to_thread(disk.put_right)
            note = "started with its right disk"
        self._excuses[number].clear()
        await self._spawn(number)
        return note

    async def ready(self) -> frozenset[int]:
        """The members that say now that they can serve, and vote."""
        found = await asyncio.gather(*map(self._is_ready, self.nodes))
        if self._joining:
            await asyncio.to_thread(self._look_who_joined)
        able = {n for n, ready in zip(self.nodes, found, strict=True) if ready}
        return frozenset(able - self._joining)

    def _look_who_joined(self) -> None:
        """A newcomer serves before it votes; until then its seat is an empty one."""
        for status in Access.from_connection(self.connection_file).statuses().values():
            if isinstance(status, dict):
                votes = [set(group["voters"]) for group in status["groups"]]
                self._joining -= set.intersection(*votes) if votes else set()

    async def _is_ready(self, number: int) -> bool:
        if not self.cluster.nodes[number].running:
            return False
        with contextlib.suppress(ClusterError):
            await self.cluster.until_ready([number], READY_S)
            return True
        return False

    # ---------------------------------------------------------------- faults

    async def apply(self, fault: Fault) -> str:
        """Do the fault; see `chaos.driver.Driver.apply`."""
        kind = tag(type(fault))
        for refusal in refusals(self, [kind]):
            raise FaultRefusedError(refusal)
        if kind not in self._kinds:
            raise FaultRefusedError(f"this vault was not prepared for {kind}: name it at creation")
        try:
            if isinstance(fault, f.Heal):
                return await self._heal_all()
            if isinstance(fault, f.Cut | f.Partition | f.SlowWire):
                return self._wire(fault)
            number = fault.node  # type: ignore[union-attr]  # BadWire is refused above
            if number not in self.cluster.nodes:
                raise DriverError(f"{kind}: there is no node {number} (any more)")
            async with self._turns[number]:
                return await self._to_one(fault)
        except (ClusterError, OSError) as error:
            raise DriverError(f"{kind}: {error}") from error

    async def _to_one(self, fault: Fault) -> str:  # noqa: C901, PLR0912 - one case per kind
        match fault:
            case f.Kill(node):
                await self._kill(node)
                return "SIGKILL"
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
                self.cluster.pause(node)
                return "SIGSTOP"
            case f.Resume(node):
                self.cluster.resume(node)
                return "SIGCONT"
            case f.Flap(node, times, every_ms):
                return await self._flap(node, times, every_ms)
            case f.ResetLinks(node):
                return f"{self._wan.reset(node)} connections reset"
            case f.DiskSlow(node, ms):
                self._shims[node].set("sync", delay_s=ms / 1000)
                return f"each sync takes {ms} ms longer"
            case f.DiskFull(node):
                self._excuses[node][EXIT_FATAL] = tag(f.DiskFull)
                size = await asyncio.to_thread(self._disks[node].fill)
                return f"filled with {size >> 20} MiB of ballast"
            case f.DiskFreed(node):
                await asyncio.to_thread(self._disks[node].free)
                if self.cluster.nodes[node].running:
                    self._excuses[node].clear()
                    return "ballast removed, the process never ended"
                return f"ballast removed, {await self._begin(node)}"
            case f.DiskFails(node):
                return await self._disk_fails(node)
            case f.DiskCopied(node):
                return await self._copy_disk(node)
            case f.DiskRestored(node):
                return await self._old_disk(node)
            case f.ByteFlipped(node, where):
                return await self._flip(node, where)
            case f.HsmGone(node):
                tokens = self.cluster.nodes[node].token_dir
                tokens.rename(tokens.with_name("tokens-away"))
                return "token directory taken away"
            case f.HsmBack(node):
                self._hsm_back(node)
                return "token directory is back"
            case f.Replace(node):
                return await self._replace(node)
            case f.Drain() | f.Undrain() | f.Transfer():
                return await self._operator.do(fault)
            case f.ClockJump(node, ms):
                self._clocks[node].jump(ms)
            case f.ClockDrift(node, rate):
                self._clocks[node].drift(rate)
            case f.ClockStrobe(node, ms, times, every_ms):
                await self._clocks[node].strobe(ms, times, every_ms)
            case _:
                raise FaultRefusedError(f"driver {self.name!r} cannot do {tag(type(fault))}")
        return await self._clock_seen(node)

    async def _clock_seen(self, node: int) -> str:
        ahead = await ahead_s(self.cluster.nodes[node].entry.ops)
        return "no answer" if ahead is None else f"the node's own Date is {ahead:+.0f} s off"

    def _hsm_back(self, number: int) -> None:
        tokens = self.cluster.nodes[number].token_dir
        away = tokens.with_name("tokens-away")
        if away.exists():
            away.rename(tokens)

    # ---------------------------------------------------------------- wires

    @property
    def _wan(self) -> Wan:
        if self.cluster.wan is None:
            raise DriverError("there is no simulated WAN")
        return self.cluster.wan

    def _wire(self, fault: f.Cut | f.Partition | f.SlowWire) -> str:
        match fault:
            case f.Cut(sender, receiver):
                self._wan.cut(sender, receiver)
                return f"nothing passes from {sender} to {receiver}"
            case f.Partition(sides):
                cut, groups = 0, f.placed(sides, self.cluster.nodes)
                for one, other in self._wan.proxies:
                    if any(one in side and other in side for side in groups):
                        self._wan.open(one, other)
                    else:
                        self._wan.cut(one, other)
                        cut += 1
                return f"{cut} of {len(self._wan.proxies)} directions cut"
            case f.SlowWire(low_ms, high_ms):
                self._wan.slow(low_ms, high_ms)
                return f"{low_ms} to {high_ms} ms one way"

    async def _flap(self, node: int, times: int, every_ms: int) -> str:
        for _ in range(times):
            self._wan.isolate(node)
            await asyncio.sleep(every_ms / 1000)
            for other in self.nodes:
                self._wan.open(node, other)
                self._wan.open(other, node)
            await asyncio.sleep(every_ms / 1000)
        return f"cut off and back {times} times"

    # ---------------------------------------------------------------- disks

    async def _disk_fails(self, node: int) -> str:
        """The next sync fails; the process must end and leave nothing half done."""
        self._excuses[node][EXIT_FATAL] = tag(f.DiskFails)
        self._shims[node].set("sync", error=errno.EIO, times=1)
        code = await self._ended(node, DEATH_S)
        self._shims[node].heal()
        return "it goes on: no sync came" if code is None else f"the process ended with {code}"

    async def _copy_disk(self, node: int) -> str:
        """An image as a volume snapshot would hold it: the process stands still meanwhile."""
        self.cluster.pause(node)
        try:
            await asyncio.to_thread(self._disks[node].copy)
        finally:
            self.cluster.resume(node)
        return "image taken"

    async def _old_disk(self, node: int) -> str:
        disk = self._disks[node]
        if not disk.has_image:
            raise DriverError(f"no image of node {node} was taken before")
        with contextlib.suppress(ClusterError):  # its present life is to have begun for good
            await self.cluster.until_ready([node], REFUSAL_S)
        await self._kill(node)
        await asyncio.to_thread(disk.put_image)
        codes = (EXIT_CONFLICT, EXIT_FATAL)
        return await self._tried(node, dict.fromkeys(codes, tag(f.DiskRestored)))

    async def _flip(self, node: int, where: float) -> str:
        await self._kill(node)
        what = await asyncio.to_thread(self._disks[node].flip, where)
        codes = (EXIT_UNEXPECTED, EXIT_CONFLICT, EXIT_FATAL)
        return f"{what}; " + await self._tried(node, dict.fromkeys(codes, tag(f.ByteFlipped)))

    async def _tried(self, node: int, excuses: Mapping[int, str]) -> str:
        """Start a node on a disk that is not its own; it ends, or the byte meant nothing."""
        self._excuses[node] |= excuses
        await self._spawn(node)
        ready = asyncio.create_task(self.cluster.until_ready([node], REFUSAL_S))
        code = await self._ended_or_ready(node, ready)
        if code is None:
            # What was wrong may still be met later, and then it ends the node.
            await asyncio.to_thread(self._disks[node].forget_right)
            return "the node started and is ready"
        if code == EXIT_FATAL:
            # It had come as far as stamping a new incarnation: now its right disk is an old one.
            self._lost[node] = "it has stamped its HSM while it ran on another disk"
        return f"refused with exit code {code}"

    async def _ended_or_ready(self, node: int, ready: asyncio.Task[None]) -> int | None:
        ended = asyncio.create_task(self._ended(node, REFUSAL_S))
        await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and ready.exception() is None:
            ended.cancel()
            return None
        ready.cancel()
        await asyncio.gather(ready, return_exceptions=True)
        code = await ended
        if code is None:
            raise DriverError(f"node {node} neither refused the disk nor became ready")
        return code

    # ---------------------------------------------------------------- lost for good

    async def _replace(self, old: int) -> str:
        """Lose a node with its disk and token, and put a new one in its seat, as people do it."""
        cluster = self.cluster
        began = time.monotonic()
        await self._kill(old)
        await asyncio.to_thread(self._lose, old)
        new = await self._write_book(old)
        node = replacing.enter(cluster, old, new)
        self._joining.discard(old)
        self._joining.add(new)
        await replacing.settle(cluster, node)
        await asyncio.to_thread(self._prepare, new)
        await self._spawn(new)
        await replacing.until_voter(cluster, old, REPLACE_S)
        return f"node {new} has the seat after {time.monotonic() - began:.1f} s"

    async def _hand_out(self, timeout_s: float) -> None:
        """Give the cluster file to members that were away when it changed; the last thing done.

        An operator is told to do it when they are back. Until the end of the load it is put off, so
        that members with the older file lead, vote, restart and are lost like any others.
        """
        deadline = time.monotonic() + timeout_s
        while await asyncio.to_thread(self._behind):
            if time.monotonic() > deadline:
                raise DriverError(f"a member did not take the cluster file within {timeout_s:g} s")
            self._say("  member sync, for those that were away when a node was replaced")
            with contextlib.suppress(ClusterError):  # it is not up yet: once more
                await replacing.sync(self.cluster)
            await asyncio.sleep(HAND_OUT_S)

    def _behind(self) -> bool:
        files = [node.cluster_file for node in self.cluster.nodes.values() if node.running]
        revisions = [json.loads(file.read_bytes())["revision"] for file in files]
        book = self.cluster.book
        return book is not None and min(revisions, default=book.revision) < book.revision

    def _lose(self, number: int) -> None:
        node = self.cluster.nodes[number]
        self._lost.pop(number, None)
        self._disks.pop(number).unmount()
        shutil.rmtree(node.data_dir, ignore_errors=True)
        shutil.rmtree(node.token_dir, ignore_errors=True)
        shutil.rmtree(node.token_dir.with_name("tokens-away"), ignore_errors=True)

    async def _write_book(self, old: int) -> int:
        """Ask until it is done: it is refused while it would cost the quorum, and says so."""
        deadline = time.monotonic() + REPLACE_S
        while True:
            try:
                return await replacing.write_book(self.cluster, old)
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(REPLACE_AGAIN_S)

    # ---------------------------------------------------------------- healing

    async def _heal_all(self) -> str:
        """End every fault and start who is down; does not wait until they are ready."""
        if self.cluster.wan is not None:
            self.cluster.wan.heal()
            self.cluster.wan.usual()
        for shim in self._shims.values():
            shim.heal()
        for clock in self._clocks.values():
            clock.right()
        started = []
        for number in self.nodes:
            async with self._turns[number]:
                self._hsm_back(number)
                self.cluster.resume(number)
                await asyncio.to_thread(self._disks[number].free)
                if self.cluster.nodes[number].running or number in self._lost:
                    await self._operator.undrain(number)
                    continue
                await self._begin(number)
                started.append(number)
        lost = f", {list(self._lost)} to be replaced" if self._lost else ""
        return (f"started {started}" if started else "everybody runs") + lost

    async def heal(self, timeout_s: float) -> None:
        """End every fault, start who is down, wait until every member is ready."""
        try:
            await self._heal_all()
            for number in list(self._lost):
                self._say(f"  replacing node {number}: {self._lost[number]}")
                await self._replace(number)
            await self._hand_out(timeout_s)
            await self.cluster.until_ready(self.nodes, timeout_s)
            book = self.cluster.book
            for old in [] if book is None else replacing.awaited(book):
                await replacing.until_voter(self.cluster, old, timeout_s)
        except (ClusterError, OSError) as error:
            raise DriverError(str(error)) from error


def _impossible(wan: str) -> dict[str, str]:
    """What cannot be done on this machine with this WAN, and why."""
    found = {tag(kind): reason for kind, reason in NEVER.items()}
    no_mount = why_no_mount()
    if no_mount is not None:
        found |= {tag(kind): no_mount for kind in NEEDS_MOUNT}
    if wan == "none":
        found |= {tag(kind): "there is no simulated WAN (--wan none)" for kind in NEEDS_WAN}
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        reason = "it is preloaded and needs a C compiler: on Debian, apt-get install gcc libc6-dev"
        found |= {tag(kind): reason for kind in (*NEEDS_CLOCK, *NEEDS_SHIM)}
    return found
