"""Faults of the one vocabulary, done to a simulated world.

A fault's `node` is a seat: whoever sits there when it strikes. What each does here, and why it is
honest:

- kill: at a moment of the node's next steps (frame sent, batch made, submitted, fsynced and not yet
  known, stamp written and not yet known, …) or at once. A batch in flight is on disk whole or not.
- partition, cut, flap: the links are lost at once, or stall first (`chaos.sim.wires`).
- bad-wire: a frame does not go and the host is told (a full buffer), or it vanishes without a word
  (worse than TCP); Raft messages come twice or late (`chaos.sim.wild`).
- disk-full: a neighbour fills the disk, at once or within two seconds, to nothing or to a level at
  which the node steps aside (`chaos.sim.space`: room is judged at every tick). A commit that meets
  no byte ends the process, files do not fit, and a start on a full disk waits until it is freed.
- disk-fails: the commit ends the process, as `cluster.disk` does; it is started again a second
  later, and the batch is there whole or not.
- hsm-gone, hsm-slow: stamps, shares and unsealing alike, also in the midst of one (`SimHsm`).
- disk-restored: an image of before, under the HSM's stamp of now; what is demanded of it, and what
  is not done, says `chaos.sim.old_disk`. byte-flipped: the real MACs and table sums of
  `cluster.store_format` must find it. Both leave a node that has to be replaced.
- drain, undrain, transfer: what the admin listener tells the host; a drain does not outlive the
  process.
- clock: the monotonic clock jumps forwards or runs at another rate; a strobe is jumps with a slow
  clock between them.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Final, assert_never

from chaos import faults as f
from chaos.sim.disk import flipped_byte_is_found
from chaos.sim.node import DISK_FAILED, NO_SPACE, SHARE_MS, STAMP_MS, Killed, Moment
from chaos.sim.old_disk import OldDisks
from chaos.sim.space import BRIM, LEVELS, TOTAL
from chaos.sim.units import MS, SECOND
from chaos.sim.wires import Wires
from cluster.boot import BootRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.sim.guard import Guard
    from chaos.sim.node import SimNode
    from chaos.sim.trace import Trace
    from chaos.sim.world import World
    from cluster.handover import TransferResult
    from cluster.ports import Batch
    from cluster.types import NodeId

MAJORITY: Final = 3
ARMED_NS: Final = 400 * MS
"""A kill that waits for its moment strikes then at the latest."""
POLL_NS: Final = 500 * MS
"""A process that waits for room looks so often."""
FILL_NS: Final = 40 * MS
SUPERVISOR_NS: Final = SECOND
"""A process that ended is started again so much later."""
MOMENTS: Final[tuple[Moment, ...]] = (
    "sending", "sent", "received", "turned", "batch", "submitted", "fsynced", "durable",
    "stamping", "stamp written", "stamped",
)  # fmt: skip

ProcessFault = f.Kill | f.TornWrite | f.Start | f.RestartLoop | f.Pause | f.Resume | f.Replace
DiskFault = (
    f.DiskSlow | f.DiskFull | f.DiskFreed | f.DiskFails | f.DiskCopied | f.DiskRestored
    | f.ByteFlipped
)  # fmt: skip
OperatorFault = f.Drain | f.Undrain | f.Transfer
DeviceFault = f.HsmGone | f.HsmBack | f.HsmSlow | f.ClockJump | f.ClockDrift | f.ClockStrobe


class Injector:
    """Does faults to one world, and starts processes that end by them."""

    def __init__(
        self,
        world: World,
        guard: Guard,
        trace: Trace,
        broken: Callable[[str], None],
    ) -> None:
        self._world = world
        self._guard = guard
        self._trace = trace
        self._broken = broken
        self._random = random.Random(f"{world.seed}/faults")  # noqa: S311
        self._armed: dict[NodeId, tuple[Moment, int]] = {}
        self._down: set[NodeId] = set()
        """Killed on purpose: nobody starts them before their `Start`."""
        self._old = OldDisks(world, self, broken)
        self.lost: set[NodeId] = set()
        """Refused for good: only a replacement helps."""
        self._wires = Wires(world, self._later)
        self._filling: dict[NodeId, object] = {}
        """Disks that a neighbour fills."""
        self._new: SimNode | None = None
        """A replacement that is under way."""
        self._waiting: set[NodeId] = set()
        """Members that are to be replaced."""
        self.done: dict[str, int] = {}
        """How often each kind of fault was done."""
        self.restarts = 0
        self.refusals = 0
        self.replacements = 0
        self.calm = False
        self._lull = self._lull_began = 0
        """Until then no fault is done: an old disk comes back."""
        world.moments.append(self._moment)
        world.lives.append(self._life)

    # ---- whom

    def member(self, seat: int) -> SimNode:
        """Who sits there now."""
        for node in self._world.nodes.values():
            if int(self._world.shape(node.id).seats[node.id]) == seat:
                return node
        raise AssertionError(f"nobody sits in seat {seat}")

    # ---- what

    def do(self, fault: f.Fault, salt: int) -> None:
        """Do it now; `salt` makes what is left to chance the fault's own."""
        together = isinstance(fault, f.DiskRestored) and self._world.now == self._lull_began
        if self._world.now < self._lull and not (together or isinstance(fault, f.Heal)):
            self._world.at(self._lull - self._world.now, partial(self._postponed, fault, salt))
            return
        rng = random.Random(f"{self._world.seed}/{salt}/{fault}")  # noqa: S311
        self._trace.say(0, f"fault: {fault}")
        name = f.kind(fault)
        self.done[name] = self.done.get(name, 0) + 1
        match fault:
            case f.Heal():
                self.heal()
            case f.Partition(sides):
                groups = ({self.member(seat).id for seat in side} for side in sides)
                self._wires.partition(groups, stalled=rng.random() < 0.4)
            case f.Cut(sender, receiver):
                ends = self.member(sender).id, self.member(receiver).id
                self._wires.cut(*ends, stalled=rng.random() < 0.4)
            case f.Stop() | f.Unplug() | f.Plug():
                raise ValueError(f"{name} is not simulated (chaos.faults.NOT_SIMULATED)")
            case f.BadWire(loss, double, reorder):
                self._world.loss, self._world.refused = loss / 2, loss / 2
                self._world.double, self._world.reorder = double, reorder
            case f.SlowWire(low_ms, high_ms):
                self._world.delay_ms = (low_ms, high_ms)
            case _:
                self._at(fault, self.member(fault.node), rng)

    def _at(
        self,
        fault: ProcessFault | DiskFault | DeviceFault | OperatorFault | f.Flap | f.ResetLinks,
        node: SimNode,
        rng: random.Random,
    ) -> None:
        match fault:
            case (
                f.Kill() | f.TornWrite() | f.Start() | f.RestartLoop() | f.Pause() | f.Resume()
                | f.Replace()
            ):  # fmt: skip
                self._process(fault, node, rng)
            case f.Flap(times=times, every_ms=every):
                self._repeat(times, every, partial(self._wires.flap, node, every))
            case f.ResetLinks():
                self._wires.flap(node, 0)
            case (
                f.DiskSlow() | f.DiskFull() | f.DiskFreed() | f.DiskFails() | f.DiskCopied()
                | f.DiskRestored() | f.ByteFlipped()
            ):  # fmt: skip
                self._disk(fault, node, rng)
            case f.Drain() | f.Undrain() | f.Transfer():
                self._operator(fault, node)
            case _:
                self._device(fault, node)

    def _process(self, fault: ProcessFault, node: SimNode, rng: random.Random) -> None:
        match fault:
            case f.Kill():
                self._kill(node, rng.choice((None, *MOMENTS)), rng.randint(1, 6))
            case f.TornWrite():
                self._kill(node, "submitted", 1)
            case f.Start():
                self._start_again(node)
            case f.RestartLoop(times=times, every_ms=every):
                self._repeat(times, every, partial(self._bounce, node, every))
            case f.Pause():
                node.pause()
                self._wires.frozen(node)
            case f.Resume():
                node.resume()
                self._wires.thawed(node)
            case f.Replace():
                self._replace(node)
            case _:
                assert_never(fault)

    def _disk(self, fault: DiskFault, node: SimNode, rng: random.Random) -> None:
        match fault:
            case f.DiskSlow(ms=ms):
                node.disk_ms = ms
            case f.DiskFull():
                self._fill(node, rng.choice(LEVELS), rng.choice((1, 1, 10, 50)))
            case f.DiskFreed():
                self._filling.pop(node.id, None)
                node.space.free = TOTAL
                self._later(POLL_NS, partial(self._start, node))
            case f.DiskFails():
                node.disk_fails = True
            case f.DiskCopied():
                self._old.copied(node)
            case f.DiskRestored():
                self._old.restore(node)
            case f.ByteFlipped(where=where):
                self._flip(node, where)
            case _:
                assert_never(fault)

    def _device(self, fault: DeviceFault, node: SimNode) -> None:
        match fault:
            case f.HsmGone():
                self._hsm(node, away=True)
            case f.HsmBack():
                self._hsm(node, away=False)
            case f.HsmSlow(ms=ms):
                node.stamp_ms = node.share_ms = ms
            case f.ClockJump(ms=ms):
                node.clock.jump(ms * MS)
            case f.ClockDrift(rate=rate):
                node.clock.run(rate)
            case f.ClockStrobe(ms=ms, times=times, every_ms=every):
                self._repeat(times, every, partial(self._strobe, node, ms, every))
            case _:
                assert_never(fault)

    def _operator(self, fault: OperatorFault, node: SimNode) -> None:
        """What the admin listener would tell the host; nobody answers there when it is down."""
        match fault:
            case f.Drain():
                self._set_drained(node, drained=True)
            case f.Undrain():
                self._set_drained(node, drained=False)
            case f.Transfer(shard=shard):
                self._transfer(shard % self._world.shards, node)
            case _:
                assert_never(fault)

    def _set_drained(self, node: SimNode, *, drained: bool) -> None:
        if node.up:
            node.call(lambda: node.running.set_drained(drained=drained))

    def _transfer(self, shard: int, heir: SimNode) -> None:
        """Whoever thinks that it leads is asked; two may, and one of them is wrong."""
        for node in self._world.alive:
            if node.running.status().groups[shard].role == "leader":
                self._trace.say(node.id, f"is to hand shard {shard} to node {heir.id}")
                told = partial(self._transferred, node, shard)
                node.call(partial(node.running.transfer, shard, heir.id, told))

    def _transferred(self, node: SimNode, shard: int, result: TransferResult) -> None:
        self._trace.say(node.id, f"shard {shard}: {type(result).__name__}")

    def heal(self) -> None:
        """Every fault ends; nodes that are down start, those that cannot are replaced."""
        self.calm = True
        self._rest()
        for node in list(self._world.nodes.values()):
            if node.id in self.lost:
                self._replace(node)

    def _rest(self) -> None:
        """Everything is as it should be, but for disks and nodes that are lost."""
        world = self._world
        self._armed.clear()
        self._down.clear()
        self._filling.clear()
        world.loss = world.refused = world.double = world.reorder = 0.0
        world.delay_ms = (2, 20)
        self._wires.heal()
        for node in list(world.nodes.values()):
            node.disk_fails = False
            node.space.free = TOTAL
            node.disk_ms, node.stamp_ms, node.share_ms = world.disk_ms, STAMP_MS, SHARE_MS
            node.clock.run(1.0)
            self._hsm(node, away=False)
            self._set_drained(node, drained=False)
            node.resume()
            self._start(node)

    def _postponed(self, fault: f.Fault, salt: int) -> None:
        if not self.calm:
            self.do(fault, salt)

    def _repeat(self, times: int, every_ms: int, call: Callable[[], object]) -> None:
        for number in range(times):
            self._later(number * every_ms * MS, call)

    def _later(self, delay_ns: int, call: Callable[[], object]) -> None:
        """Do it then, unless all is healed."""

        def then() -> None:
            if not self.calm and self._world.now >= self._lull:
                call()

        self._world.at(delay_ns, then)

    # ---- processes

    def _kill(self, node: SimNode, moment: Moment | None, count: int) -> None:
        self._down.add(node.id)
        if not node.up:
            return
        if moment is None:
            node.crash()
            return
        self._armed[node.id] = (moment, count)
        self._later(ARMED_NS, partial(self._overdue, node))

    def _overdue(self, node: SimNode) -> None:
        if self._armed.pop(node.id, None) is not None and node.up:
            node.crash()

    def _moment(self, node: SimNode, moment: Moment, _what: bytes | Batch) -> None:
        armed = self._armed.get(node.id)
        if armed is None or armed[0] != moment:
            return
        if armed[1] > 1:
            self._armed[node.id] = (moment, armed[1] - 1)
            return
        del self._armed[node.id]
        self._trace.say(node.id, f'killed at "{moment}"')
        raise Killed

    def _start_again(self, node: SimNode) -> None:
        self._overdue(node)
        self._down.discard(node.id)
        self._start(node)

    def _bounce(self, node: SimNode, every_ms: int) -> None:
        if node.up:
            node.crash()
        self._later(every_ms * MS // 2, partial(self._start, node))

    def _start(self, node: SimNode) -> None:
        gone = self._world.nodes.get(node.id) is not node
        if node.up or gone or node.id in self.lost or node.id in self._down:
            return
        if node.id in self._old.coming:
            return
        if node.space.too_little:
            self._trace.say(node.id, "waits for room")
            return
        self.restarts += 1
        try:
            node.start()
        except BootRefused as refusal:
            self._refused(node, str(refusal))
        if node.hsm_away:
            self._hsm(node, away=True)

    def _refused(self, node: SimNode, why: str) -> None:
        self.refusals += 1
        self.lost.add(node.id)
        self._trace.say(node.id, f"refused: {why}")
        if node.id not in self._old.restored:
            self._broken(f"good-disk-refused: node {node.id}: {why}")
        if self.calm:  # it was started before all was healed, and answered after
            self._world.at(0, partial(self._replace, node))

    def _life(self, node: SimNode, what: str) -> None:
        """Like a supervisor: what ended is started again, unless its word was that it must not."""
        if what != "ended" or node.stopped is None:
            return
        if node.stopped in (NO_SPACE, DISK_FAILED):
            self._world.at(SUPERVISOR_NS, partial(self._start, node))
        elif node.id in self._old.restored:
            self._refused(node, node.stopped)
        elif self._world.nodes.get(node.id) is node:
            self._broken(f"stopped: node {node.id}: {node.stopped}")

    # ---- disk, HSM, clock

    def _fill(self, node: SimNode, end: int, steps: int) -> None:
        """A neighbour fills the disk, at once or slower than the node can step aside."""
        filling = self._filling[node.id] = object()

        def write(step: int) -> None:
            if self._filling.get(node.id) is filling:
                node.space.free = end + (BRIM - end) * (steps - step) // steps

        for step in range(1, steps + 1):
            self._later((step - 1) * FILL_NS, partial(write, step))

    def lull(self, length_ns: int) -> None:
        """Every fault ends, and none is done for so long."""
        self._rest()
        self._lull, self._lull_began = self._world.now + length_ns, self._world.now

    def old_disk(self, node: SimNode) -> None:
        """Another disk is in the machine: it is started from that."""
        self._guard.restored(node.id)
        self._start(node)

    def _flip(self, node: SimNode, where: float) -> None:
        if node.up:
            node.crash()
        self._down.discard(node.id)
        if not flipped_byte_is_found(node.store, where):
            self._broken(f"flip-unnoticed: node {node.id}, at {where}")
        self.refusals += 1
        self.lost.add(node.id)
        self._trace.say(node.id, "refused: a stored byte is not what was written")

    def _hsm(self, node: SimNode, *, away: bool) -> None:
        node.hsm_away = away
        node.hsm.noticed()

    def _strobe(self, node: SimNode, ms: int, every_ms: int) -> None:
        node.clock.jump(ms * MS)
        node.clock.run(0.5)
        self._later(every_ms * MS // 2, partial(node.clock.run, 1.0))

    # ---- members

    def _replace(self, node: SimNode) -> None:
        """As an operator would: the old machine is gone for good, a new one takes its seat.

        One at a time, and only while three others run: else the operator waits.
        """
        world = self._world
        if world.nodes.get(node.id) is not node:
            return
        others = [other for other in world.alive if other.id != node.id]
        self._waiting.add(node.id)
        if self._joining() or len(others) < MAJORITY:
            world.at(SUPERVISOR_NS, partial(self._replace, node))
            return
        if node.up:
            node.crash()
        self.lost.discard(node.id)
        self._down.discard(node.id)
        self._waiting.discard(node.id)
        taken = world.replace(node.id)
        new = world.nodes[taken]
        self._new = new
        self.replacements += 1
        self._trace.say(new.id, f"takes the seat of node {node.id}")
        new.start()

    def unfinished(self) -> bool:
        """A member is lost, or its replacement is not a voter of every shard yet."""
        open_ = self.lost | self._waiting
        return self._joining() or bool(open_ & set(self._world.nodes))

    def _joining(self) -> bool:
        if self._new is None:
            return False
        for node in self._world.alive:
            groups = node.running.status().groups
            if all(self._new.id in group.voters for group in groups):
                self._new = None
                return False
        return True
