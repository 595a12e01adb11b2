"""A run as data: faults and client operations with their times, drawn from a seed.

Everything that a run decides beforehand is in its plan; as JSON a plan can be kept, shrunk and
played again. What is left to the world's own seeded randomness (delays, which frame is lost, at
which boundary a kill falls) follows from the plan's seed too. As in swarm testing every seed draws
its own mix of faults, so that rare ones meet without common ones drowning them.
"""

# ruff: noqa: TC003 - msgspec reads the annotations at run time

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, Literal

import msgspec
from msgspec import Struct

from chaos import faults as f
from cluster.types import NodeId

NODES: Final = 5
LANES: Final = 6
"""Clients; each has one operation open at a time."""
TORMENT_MS: Final = 1_500
"""How long a passing fault lasts at most, unless drawn longer."""

Work = Literal[
    "enrol",
    "login",
    "guess",
    "everywhere",
    "late",
    "alias",
    "forge",
    "observe",
    "delete",
    "again",
    "brink",
]
"""What a client does.

enrol: register and activate · login: an attempt with the right password, then the proof ·
guess: an attempt · everywhere: one attempt at several nodes at once · late: an old attempt again ·
alias: an attempt's id that another account has used · forge: a proof with a wrong signature ·
observe: a look · delete: a look, then a deletion · again: any Register, Activate, Prove or Delete
of the account once more, long after · brink: all guesses, and the last one's proof as grace ends.
"""
WORKS: Final[list[Work]] = [
    "guess", "login", "everywhere", "late", "alias", "forge", "observe", "delete", "again", "brink"
]  # fmt: skip
"""All but `enrol`, which comes first, and again now and then."""
WEIGHTS: Final = (4, 4, 2, 2, 1, 1, 3, 0.6, 1, 1)
"""How usual each is: mostly guesses, few deletions, or there is nothing to guess at."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """How a run is made; the defaults are those of `chaos sim`."""

    seconds: float = 20.0
    """Virtual seconds of load and faults; healing comes after."""
    shards: int = 2
    accounts: int = 4
    limit: int = 4
    grace_s: float = 3.0
    kinds: tuple[str, ...] = ()
    """Only faults of these kinds; empty: all."""


class Job(Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that a client does."""

    at_ms: int
    client: int
    account: int
    work: Work
    number: int
    """Unique in the plan: attempts and secrets are named by it."""
    nodes: tuple[NodeId, ...]
    """Where it is asked, in this order when it is asked again."""
    patience_ms: int
    """After so long without an answer the next node is asked, or it is given up."""


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """One run."""

    seed: int
    settings: Settings
    faults: f.Schedule
    jobs: tuple[Job, ...]
    delay_ms: tuple[float, float]
    curious: bool
    """Somebody asks every node for a share of everything, all the time."""


def to_json(plan: Plan) -> bytes:
    """A plan as one JSON document."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n"


def from_json(data: bytes) -> Plan:
    """Read what `to_json` wrote.

    Raises:
        msgspec.DecodeError: not a plan of this version.

    """
    return msgspec.json.decode(data, type=Plan)


def draw(seed: int, settings: Settings) -> Plan:
    """The plan of a seed."""
    rng = random.Random(seed)  # noqa: S311 - a seed reproduces, it does not protect
    low, high = rng.choice([(0.2, 1.0), (1, 10), (5, 40), (20, 120), (1, 200)])
    return Plan(
        seed=seed,
        settings=settings,
        faults=_Drawer(rng, settings).faults(),
        jobs=_jobs(rng, settings),
        delay_ms=(low, high),
        curious=rng.random() < 0.5,
    )


def _jobs(rng: random.Random, settings: Settings) -> tuple[Job, ...]:
    jobs: list[Job] = []
    nodes = [NodeId(node) for node in range(1, NODES + 1)]
    pause = rng.choice([30, 80, 200])
    works: list[Work] = rng.choices(
        WORKS,
        weights=[(rng.random() + 0.1) * usual for usual in WEIGHTS],
        k=24,
    )
    at, number = 0, 0
    for account in range(settings.accounts):
        jobs.append(Job(at, account % LANES, account, "enrol", number, _some(rng, nodes), 4_000))
        number += 1
    while at < settings.seconds * 1_000:
        at += 1 + int(rng.expovariate(1 / pause))
        work: Work = "enrol" if rng.random() < 0.1 else rng.choice(works)
        client, account = rng.randrange(LANES), rng.randrange(settings.accounts)
        patience = rng.choice([300, 1_000, 4_000, 10_000])
        jobs.append(Job(at, client, account, work, number, _some(rng, nodes), patience))
        number += 1
    return tuple(jobs)


def _some(rng: random.Random, nodes: list[NodeId]) -> tuple[NodeId, ...]:
    return tuple(rng.sample(nodes, rng.choice([1, 2, 3, 5])))


class _Drawer:
    """Draws a schedule: episodes of a few kinds, each with its end."""

    def __init__(self, rng: random.Random, settings: Settings) -> None:
        self._rng = rng
        self._settings = settings
        self._planned: list[f.Planned] = []
        self._lost: set[int] = set()
        """Nodes whose disk is not their own any more: at most two of a run."""

    def faults(self) -> f.Schedule:
        """All faults of a run; the last one is `Heal`."""
        rng = self._rng
        makers = {
            make.__name__: make
            for make, kinds in _EPISODES
            if not self._settings.kinds or set(kinds) & set(self._settings.kinds)
        }
        chosen = rng.sample(sorted(makers), rng.randint(1, len(makers))) if makers else []
        pause = rng.choice([300, 800, 2_000])
        at, end = 500, int(self._settings.seconds * 1_000)
        while chosen and at < end:
            makers[rng.choice(chosen)](self, at)
            at += 1 + int(rng.expovariate(1 / pause))
        kept = [each for each in self._planned if each.at_ms < end]
        kept.sort(key=lambda each: each.at_ms)
        return (*kept, f.Planned(end, f.Heal()))

    def _add(self, at: int, fault: f.Fault) -> None:
        self._planned.append(f.Planned(at, fault))

    def _node(self) -> NodeId:
        return NodeId(self._rng.randint(1, NODES))

    def _while(self) -> int:
        return int(self._rng.choice([50, 400, TORMENT_MS, 5_000]) * (0.2 + self._rng.random()))

    def _kill(self, at: int) -> None:
        for node in self._rng.sample(range(1, NODES + 1), self._rng.choice([1, 1, 1, 2, 3, 5])):
            self._add(at, f.Kill(NodeId(node)))
            self._add(at + self._while(), f.Start(NodeId(node)))

    def _torn(self, at: int) -> None:
        node = self._node()
        self._add(at, f.TornWrite(node))
        self._add(at + self._while(), f.Start(node))

    def _loop(self, at: int) -> None:
        every = self._rng.choice([60, 300, 1_200])
        self._add(at, f.RestartLoop(self._node(), self._rng.randint(2, 6), every))

    def _pause(self, at: int) -> None:
        node = self._node()
        self._add(at, f.Pause(node))
        self._add(at + self._while(), f.Resume(node))

    def _cut(self, at: int) -> None:
        a, b = self._rng.sample(range(1, NODES + 1), 2)
        self._add(at, f.Cut(NodeId(a), NodeId(b)))

    def _partition(self, at: int) -> None:
        nodes = [NodeId(node) for node in range(1, NODES + 1)]
        self._rng.shuffle(nodes)
        cut = self._rng.randint(1, 4)
        bridge = self._rng.random() < 0.3
        sides = (tuple(nodes[: cut + bridge]), tuple(nodes[cut:]))
        if self._rng.random() < 0.2:  # a ring: everybody hears two others
            sides = tuple((nodes[i], nodes[(i + 1) % NODES]) for i in range(NODES))  # type: ignore[assignment]
        self._add(at, f.Partition(sides))
        if self._rng.random() < 0.8:
            self._add(at + self._while(), f.Partition((tuple(sorted(nodes)),)))

    def _flap(self, at: int) -> None:
        every = self._rng.choice([30, 200, 900])
        self._add(at, f.Flap(self._node(), self._rng.randint(2, 8), every))

    def _reset(self, at: int) -> None:
        self._add(at, f.ResetLinks(self._node()))

    def _wire(self, at: int) -> None:
        bad = [0.0, 0.02, 0.1, 0.3]
        self._add(at, f.BadWire(*(self._rng.choice(bad) for _ in range(3))))
        self._add(at + self._while(), f.BadWire(0.0, 0.0, 0.0))

    def _slow_wire(self, at: int) -> None:
        low = self._rng.choice([1, 50, 200])
        self._add(at, f.SlowWire(low, low * self._rng.choice([2, 4])))
        self._add(at + self._while(), f.SlowWire(1, 20))

    def _slow_disk(self, at: int) -> None:
        node = self._node()
        self._add(at, f.DiskSlow(node, self._rng.choice([1, 40, 300, 2_500])))
        self._add(at + self._while(), f.DiskSlow(node, 4))

    def _full(self, at: int) -> None:
        node = self._node()
        self._add(at, f.DiskFull(node))
        self._add(at + self._while(), f.DiskFreed(node))

    def _fails(self, at: int) -> None:
        self._add(at, f.DiskFails(self._node()))

    def _copied(self, at: int) -> None:
        age = self._rng.choice([0, 60, self._while(), self._while(), self._while()])
        nodes = [self._spoilt() for _ in range(self._rng.choice([1, 2]))]
        for node in filter(None, nodes):
            self._add(at, f.DiskCopied(node))
            self._add(at + age, f.DiskRestored(node))
            self._add(at + age + 8_000, f.Replace(node))

    def _flipped(self, at: int) -> None:
        node = self._spoilt()
        if node is not None:
            self._add(at, f.ByteFlipped(node, self._rng.random()))
            self._add(at + 4_000, f.Replace(node))

    def _replaced(self, at: int) -> None:
        node = self._spoilt()
        if node is not None:
            self._add(at, f.Kill(node))
            self._add(at + self._while(), f.Replace(node))

    def _spoilt(self) -> NodeId | None:
        """A node that will never be the same, if the run may lose one more."""
        free = [node for node in range(1, NODES + 1) if node not in self._lost]
        if len(self._lost) >= 2:
            return None
        node = self._rng.choice(free)
        self._lost.add(node)
        return NodeId(node)

    def _hsm(self, at: int) -> None:
        for node in self._rng.sample(range(1, NODES + 1), self._rng.choice([1, 1, 2, 3])):
            self._add(at, f.HsmGone(NodeId(node)))
            self._add(at + self._while(), f.HsmBack(NodeId(node)))

    def _slow_hsm(self, at: int) -> None:
        node = self._node()
        self._add(at, f.HsmSlow(node, self._rng.choice([1, 100, 700, 3_000])))
        self._add(at + self._while(), f.HsmSlow(node, 4))

    def _drain(self, at: int) -> None:
        for node in self._rng.sample(range(1, NODES + 1), self._rng.choice([1, 1, 1, 2, 4, 5])):
            self._add(at, f.Drain(NodeId(node)))
            self._add(at + self._while(), f.Undrain(NodeId(node)))

    def _transfer(self, at: int) -> None:
        for turn in range(self._rng.choice([1, 1, 2, 6])):
            shard = self._rng.randrange(self._settings.shards)
            self._add(at + turn * self._rng.choice([0, 40, 700]), f.Transfer(self._node(), shard))

    def _jump(self, at: int) -> None:
        self._add(at, f.ClockJump(self._node(), self._rng.choice([40, 900, 5_000, 90_000])))

    def _drift(self, at: int) -> None:
        node = self._node()
        self._add(at, f.ClockDrift(node, self._rng.choice([0.3, 0.8, 1.25, 3.0])))
        self._add(at + self._while(), f.ClockDrift(node, 1.0))

    def _strobe(self, at: int) -> None:
        jump, every = self._rng.choice([30, 400, 2_000]), self._rng.choice([20, 150])
        self._add(at, f.ClockStrobe(self._node(), jump, self._rng.randint(3, 12), every))


_EPISODES: Final[tuple[tuple[Callable[[_Drawer, int], None], tuple[str, ...]], ...]] = (
    (_Drawer._kill, ("kill", "start")),  # noqa: SLF001
    (_Drawer._torn, ("torn-write",)),  # noqa: SLF001
    (_Drawer._loop, ("restart-loop",)),  # noqa: SLF001
    (_Drawer._pause, ("pause", "resume")),  # noqa: SLF001
    (_Drawer._cut, ("cut",)),  # noqa: SLF001
    (_Drawer._partition, ("partition",)),  # noqa: SLF001
    (_Drawer._flap, ("flap",)),  # noqa: SLF001
    (_Drawer._reset, ("reset-links",)),  # noqa: SLF001
    (_Drawer._wire, ("bad-wire",)),  # noqa: SLF001
    (_Drawer._slow_wire, ("slow-wire",)),  # noqa: SLF001
    (_Drawer._slow_disk, ("disk-slow",)),  # noqa: SLF001
    (_Drawer._full, ("disk-full", "disk-freed")),  # noqa: SLF001
    (_Drawer._fails, ("disk-fails",)),  # noqa: SLF001
    (_Drawer._copied, ("disk-copied", "disk-restored")),  # noqa: SLF001
    (_Drawer._flipped, ("byte-flipped",)),  # noqa: SLF001
    (_Drawer._replaced, ("replace",)),  # noqa: SLF001
    (_Drawer._hsm, ("hsm-gone", "hsm-back")),  # noqa: SLF001
    (_Drawer._slow_hsm, ("hsm-slow",)),  # noqa: SLF001
    (_Drawer._drain, ("drain", "undrain")),  # noqa: SLF001
    (_Drawer._transfer, ("transfer",)),  # noqa: SLF001
    (_Drawer._jump, ("clock-jump",)),  # noqa: SLF001
    (_Drawer._drift, ("clock-drift",)),  # noqa: SLF001
    (_Drawer._strobe, ("clock-strobe",)),  # noqa: SLF001
)
"""Each with the faults that it brings."""
