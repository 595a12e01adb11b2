"""A random schedule of faults, drawn from a seed: the same seed, the same faults at the same times.

An episode is a fault with its end. The deck holds each kind of episode once and is shuffled anew
when it is empty, so that a long run meets every kind evenly and a short one no kind twice. The
vault promises service with two data centers lost, so at no time are more than two nodes away (dead,
cut off, frozen, without HSM or space, or recovering from that); faults of the network are one at a
time, and no node has two faults at once. What a node is said to be away for is an upper bound.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from chaos import faults as f
from chaos.driver import tag
from chaos.faults import Fault, Planned, Schedule
from cluster.types import NodeId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_AWAY: Final = 2
FIRST_MS: Final = 2_000
"""The load runs undisturbed for so long."""
RECOVERY_MS: Final = 7_000
"""How long a node counts as away after its fault ended: a start takes seconds on a busy machine."""
SETTLED_MS: Final = 8_000
"""A node that was started is ready by then."""
REPLACING_MS: Final = 60_000
GAP_MS: Final = (500, 6_000)
HOLD_MS: Final = (2_000, 10_000)
EVERYBODY: Final = 5
SHARDS: Final = 256
"""At most so many; a vault with fewer counts on from 0 again."""

Draws = random.Random
Steps = list[tuple[int, Fault]]
"""Faults with their times since the episode began, in milliseconds."""


@dataclass(frozen=True)
class Episode:
    """One kind of trouble.

    `make` is given the draws, the victims, all nodes, and how long it is to hold (ms).
    """

    name: str
    victims: int
    make: Callable[[Draws, list[NodeId], list[NodeId], int], Steps]
    kinds: frozenset[str]
    """What the ground must be able to do."""
    away: bool = True
    """The victims count as away."""
    wire: bool = False
    """It changes the network: one of these at a time."""
    at_least_ms: int = 0
    """It lasts so long, whatever it is to hold."""


def _kill(_: Draws, victims: list[NodeId], __: list[NodeId], hold: int) -> Steps:
    return [*((0, f.Kill(n)) for n in victims), *((hold, f.Start(n)) for n in victims)]


def _stop(_: Draws, victims: list[NodeId], __: list[NodeId], hold: int) -> Steps:
    return [(0, f.Stop(victims[0])), (hold, f.Start(victims[0]))]


def _unplug(_: Draws, victims: list[NodeId], __: list[NodeId], hold: int) -> Steps:
    return [*((0, f.Unplug(n)) for n in victims), *((hold, f.Plug(n)) for n in victims)]


def _restart_loop(draws: Draws, victims: list[NodeId], _: list[NodeId], hold: int) -> Steps:
    times = draws.randint(2, 4)
    return [(0, f.RestartLoop(victims[0], times, hold // times))]


def _pause(_: Draws, victims: list[NodeId], __: list[NodeId], hold: int) -> Steps:
    return [*((0, f.Pause(n)) for n in victims), *((hold, f.Resume(n)) for n in victims)]


def _whole(nodes: list[NodeId]) -> f.Partition:
    return f.Partition((tuple(nodes),))


def _partition(_: Draws, victims: list[NodeId], nodes: list[NodeId], hold: int) -> Steps:
    rest = tuple(n for n in nodes if n not in victims)
    return [(0, f.Partition((rest, tuple(victims)))), (hold, _whole(nodes))]


def _one_way(draws: Draws, victims: list[NodeId], nodes: list[NodeId], hold: int) -> Steps:
    node = victims[0]
    others = [n for n in nodes if n != node]
    if draws.random() < 0.5:
        cuts: Steps = [(0, f.Cut(node, other)) for other in others]
    else:
        cuts = [(0, f.Cut(other, node)) for other in others]
    return [*cuts, (hold, _whole(nodes))]


def _partial_mesh(_: Draws, victims: list[NodeId], nodes: list[NodeId], hold: int) -> Steps:
    bridge, *rest = [n for n in nodes if n not in victims]
    return [
        (0, f.Partition(((bridge, *rest), (bridge, *victims)))),
        (hold, _whole(nodes)),
    ]


def _flap(draws: Draws, victims: list[NodeId], _: list[NodeId], hold: int) -> Steps:
    times = draws.randint(3, 8)
    return [(0, f.Flap(victims[0], times, hold // (2 * times)))]


def _reset(_: Draws, victims: list[NodeId], __: list[NodeId], ___: int) -> Steps:
    return [(0, f.ResetLinks(victims[0]))]


def _slow_wire(draws: Draws, _: list[NodeId], nodes: list[NodeId], hold: int) -> Steps:
    low = draws.randint(10, 60)
    steps: Steps = [(0, f.SlowWire(low, low + draws.randint(20, 120)))]
    return [*steps, (hold, f.SlowWire(5, 20))] if nodes else steps


def _disk_full(_: Draws, victims: list[NodeId], __: list[NodeId], hold: int) -> Steps:
    return [(0, f.DiskFull(victims[0])), (hold, f.DiskFreed(victims[0]))]


def _disk_fails(_: Draws, victims: list[NodeId], __: list[NodeId], hold: int) -> Steps:
    return [(0, f.DiskFails(victims[0])), (hold, f.Start(victims[0]))]


def _disk_slow(draws: Draws, victims: list[NodeId], _: list[NodeId], hold: int) -> Steps:
    ms = draws.choice((20, 100, 400, 1_500))
    return [(0, f.DiskSlow(victims[0], ms)), (hold, f.DiskSlow(victims[0], 0))]


def _old_image(_: Draws, victims: list[NodeId], __: list[NodeId], hold: int) -> Steps:
    """It ran again since the image: its HSM knows a newer incarnation, so its right disk fits."""
    node = victims[0]
    return [
        (0, f.DiskCopied(node)),
        (500, f.Kill(node)),
        (1_500, f.Start(node)),
        (hold + SETTLED_MS, f.DiskRestored(node)),
        (hold + SETTLED_MS + 5_000, f.Start(node)),
    ]


def _rolled_back(_: Draws, victims: list[NodeId], __: list[NodeId], hold: int) -> Steps:
    """It goes on from the image within the same incarnation: it may get as far as its peers."""
    node = victims[0]
    return [
        (0, f.DiskCopied(node)),
        (hold, f.DiskRestored(node)),
        (hold + 3_000, f.Replace(node)),
    ]


def _byte(draws: Draws, victims: list[NodeId], _: list[NodeId], hold: int) -> Steps:
    node = victims[0]
    return [(0, f.ByteFlipped(node, round(draws.random(), 4))), (hold, f.Start(node))]


def _hsm(_: Draws, victims: list[NodeId], __: list[NodeId], hold: int) -> Steps:
    return [*((0, f.HsmGone(n)) for n in victims), *((hold, f.HsmBack(n)) for n in victims)]


def _clock_jump(draws: Draws, victims: list[NodeId], _: list[NodeId], hold: int) -> Steps:
    node = victims[0]
    ms = draws.choice((-1, 1)) * draws.choice((900, 61_000, 3_600_000, 30 * 3_600_000))
    return [(0, f.ClockJump(node, ms)), (hold, f.ClockJump(node, -ms))]


def _clock_drift(draws: Draws, victims: list[NodeId], _: list[NodeId], hold: int) -> Steps:
    node = victims[0]
    return [(0, f.ClockDrift(node, draws.choice((0.1, 0.9, 1.5, 10.0)))), (hold, _steady(node))]


def _steady(node: NodeId) -> f.ClockDrift:
    return f.ClockDrift(node, 1.0)


def _clock_strobe(draws: Draws, victims: list[NodeId], _: list[NodeId], hold: int) -> Steps:
    times = draws.randint(5, 20)
    ms = draws.choice((-1, 1)) * draws.choice((300, 5_000, 600_000))
    return [(0, f.ClockStrobe(victims[0], ms, times, hold // (2 * times)))]


def _replace(_: Draws, victims: list[NodeId], __: list[NodeId], ___: int) -> Steps:
    return [(0, f.Kill(victims[0])), (1_000, f.Replace(victims[0]))]


def _drain(_: Draws, victims: list[NodeId], __: list[NodeId], hold: int) -> Steps:
    return [(0, f.Drain(victims[0])), (hold, f.Undrain(victims[0]))]


def _transfer(draws: Draws, victims: list[NodeId], _: list[NodeId], hold: int) -> Steps:
    """Some shards are wanted at one node, one after the other, as before work on the others."""
    times = draws.randint(1, 4)
    return [
        (hold * turn // times, f.Transfer(victims[0], draws.randint(0, SHARDS - 1)))
        for turn in range(times)
    ]


def _of(*kinds: type) -> frozenset[str]:
    return frozenset(map(tag, kinds))


DECK: Final = (
    Episode("kill", 1, _kill, _of(f.Kill, f.Start)),
    Episode("kill-two", 2, _kill, _of(f.Kill, f.Start)),
    Episode("stop", 1, _stop, _of(f.Stop, f.Start)),
    Episode("restart-loop", 1, _restart_loop, _of(f.RestartLoop)),
    Episode("pause", 1, _pause, _of(f.Pause, f.Resume)),
    Episode("pause-two", 2, _pause, _of(f.Pause, f.Resume)),
    Episode("partition", 1, _partition, _of(f.Partition), wire=True),
    Episode("partition-two", 2, _partition, _of(f.Partition), wire=True),
    Episode("one-way", 1, _one_way, _of(f.Cut, f.Partition), wire=True),
    Episode("partial-mesh", 2, _partial_mesh, _of(f.Partition), wire=True),
    Episode("flap", 1, _flap, _of(f.Flap), wire=True),
    Episode("reset-links", 1, _reset, _of(f.ResetLinks), wire=True),
    Episode("unplug", 1, _unplug, _of(f.Unplug, f.Plug), wire=True),
    Episode("unplug-two", 2, _unplug, _of(f.Unplug, f.Plug), wire=True),
    Episode("slow-wire", 0, _slow_wire, _of(f.SlowWire), wire=True),
    Episode("disk-full", 1, _disk_full, _of(f.DiskFull, f.DiskFreed)),
    Episode("disk-fails", 1, _disk_fails, _of(f.DiskFails, f.Start)),
    Episode("disk-slow", 1, _disk_slow, _of(f.DiskSlow)),
    Episode(
        "old-image", 1, _old_image, _of(f.DiskCopied, f.DiskRestored, f.Start), at_least_ms=25_000
    ),
    Episode(
        "rolled-back",
        1,
        _rolled_back,
        _of(f.DiskCopied, f.DiskRestored, f.Replace),
        at_least_ms=REPLACING_MS,
    ),
    Episode("byte-flipped", 1, _byte, _of(f.ByteFlipped, f.Start)),
    Episode("hsm-gone", 1, _hsm, _of(f.HsmGone, f.HsmBack)),
    Episode("hsm-gone-two", 2, _hsm, _of(f.HsmGone, f.HsmBack)),
    Episode("clock-jump", 1, _clock_jump, _of(f.ClockJump)),
    Episode("clock-drift", 1, _clock_drift, _of(f.ClockDrift), away=False),
    Episode("clock-strobe", 1, _clock_strobe, _of(f.ClockStrobe)),
    Episode("replace", 1, _replace, _of(f.Kill, f.Replace), at_least_ms=REPLACING_MS),
    Episode("drain", 1, _drain, _of(f.Drain, f.Undrain)),
    Episode("transfer", 1, _transfer, _of(f.Transfer), away=False),
)


@dataclass
class _Draft:
    """What is planned so far, and who is busy until when."""

    nodes: list[NodeId]
    planned: list[Planned] = field(default_factory=list)
    busy: dict[NodeId, int] = field(default_factory=dict)
    away: dict[NodeId, int] = field(default_factory=dict)
    wire: int = 0

    def victims(self, draws: Draws, episode: Episode, at_ms: int) -> list[NodeId] | None:
        """Who it happens to, or None when it must wait."""
        if episode.wire and self.wire > at_ms:
            return None
        gone = [n for n, until in self.away.items() if until > at_ms]
        if episode.away and len(gone) + episode.victims > MAX_AWAY:
            return None
        free = [n for n in self.nodes if self.busy.get(n, 0) <= at_ms]
        return draws.sample(free, episode.victims) if len(free) >= episode.victims else None

    def add(
        self, episode: Episode, victims: list[NodeId], at_ms: int, steps: Steps, hold: int
    ) -> None:
        """Take it into the schedule; it lasts `hold`, or until its last step."""
        lasts = max(hold, steps[-1][0], episode.at_least_ms)
        end = at_ms + lasts + RECOVERY_MS
        for node in victims:
            self.busy[node] = end
            if episode.away:
                self.away[node] = end
        if episode.wire:
            self.wire = end
        self.planned += [Planned(at_ms + later, fault) for later, fault in steps]
        for _, fault in steps:
            if isinstance(fault, f.Replace):
                self.replace(fault.node, end)

    def replace(self, old: NodeId, until: int) -> None:
        """Its seat is taken under the next free id."""
        new = NodeId(max(self.nodes) + 1)
        self.nodes[self.nodes.index(old)] = new
        self.busy[new] = self.away[new] = until
        self.away.pop(old, None)


def taken(fault: Fault, members: Sequence[int]) -> frozenset[int] | None:
    """Who this fault takes away, as far as it alone tells; None when it begins no trouble."""
    match fault:
        case (
            f.Kill(node) | f.Stop(node) | f.RestartLoop(node) | f.Pause(node) | f.Flap(node)
            | f.ResetLinks(node) | f.Unplug(node) | f.DiskFull(node) | f.DiskFails(node)
            | f.DiskRestored(node) | f.ByteFlipped(node) | f.HsmGone(node) | f.Replace(node)
            | f.Drain(node)
        ):  # fmt: skip
            return frozenset({node})
        case f.Partition(sides):
            return (frozenset(members) - f.placed(sides, members)[0]) or None
        case f.Cut():
            return frozenset()
        case _:
            return None


def random_schedule(seed: int, duration_ms: int, kinds: frozenset[str]) -> Schedule:
    """Draw episodes until the time is over; ends with `Heal`.

    Args:
        seed: the same seed gives the same schedule (for the same kinds).
        duration_ms: of the load; every episode ends within it.
        kinds: names of the kinds of faults that the ground can do.

    """
    draws = random.Random(f"{seed} schedule")  # noqa: S311 - a seed reproduces
    draft = _Draft([NodeId(number) for number in range(1, EVERYBODY + 1)])
    possible = [episode for episode in DECK if episode.kinds <= kinds]
    deck: list[Episode] = []
    at_ms = FIRST_MS
    while at_ms + HOLD_MS[0] + RECOVERY_MS < duration_ms:
        if not deck:
            deck = draws.sample(possible, len(possible))
        room = min(HOLD_MS[1], duration_ms - at_ms - RECOVERY_MS)
        hold = draws.randint(HOLD_MS[0], max(room, HOLD_MS[0]))
        for episode in deck:
            if at_ms + episode.at_least_ms + RECOVERY_MS > duration_ms:
                continue
            victims = draft.victims(draws, episode, at_ms)
            if victims is not None:
                deck.remove(episode)
                steps = episode.make(draws, victims, list(draft.nodes), hold)
                draft.add(episode, victims, at_ms, steps, hold)
                break
        at_ms += draws.randint(*GAP_MS)
    heal = Planned(duration_ms, f.Heal())
    return (*sorted(draft.planned, key=lambda each: each.at_ms), heal)
