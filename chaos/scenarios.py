"""Named schedules: the faults that an operator, or a reader of the Raft paper, would ask about.

Data only. `seconds` is how long the load goes on; every schedule ends with `Heal`. None leaves the
vault without a quorum for as long as a client is patient, so everybody must be served in all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from chaos import faults as f
from chaos.faults import Planned, Schedule
from cluster.types import NodeId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chaos.faults import Fault

N1, N2, N3, N4, N5 = EVERYBODY = tuple(NodeId(number) for number in range(1, 6))
WHOLE: Final = f.Partition((EVERYBODY,))


class Scenario(Struct, frozen=True):
    """A schedule with a name."""

    name: str
    story: str
    """One sentence."""
    seconds: int
    schedule: Schedule


def _at(*steps: tuple[float, Fault | Iterable[Fault]]) -> Schedule:
    """Seconds and faults, as a schedule in order."""
    planned: list[Planned] = []
    for seconds, what in steps:
        each = (what,) if isinstance(what, f.Fault) else tuple(what)
        planned += [Planned(int(seconds * 1000), fault) for fault in each]
    return tuple(sorted(planned, key=lambda each: each.at_ms))


def _cuts_from(node: NodeId) -> tuple[Fault, ...]:
    return tuple(f.Cut(node, other) for other in EVERYBODY if other != node)


_ALL: Final = (
    Scenario(
        "two-dead",
        "Any two data centers die at once, and another pair when they are back.",
        40,
        _at(
            (3, (f.Kill(N1), f.Kill(N2))),
            (12, (f.Start(N1), f.Start(N2))),
            (22, (f.Kill(N4), f.Kill(N5))),
            (30, (f.Start(N4), f.Start(N5))),
            (40, f.Heal()),
        ),
    ),
    Scenario(
        "rolling-restart",
        "One node after the other is killed and started, as an upgrade done badly would.",
        58,
        _at(
            *((3 + 10 * place, f.Kill(node)) for place, node in enumerate(EVERYBODY)),
            *((5 + 10 * place, f.Start(node)) for place, node in enumerate(EVERYBODY)),
            (58, f.Heal()),
        ),
    ),
    Scenario(
        "leader-isolated",
        "Each node in turn loses its peers but not its clients: it must answer nothing stale.",
        46,
        _at(
            *(
                (3 + 8 * place, f.Partition(((node,), tuple(n for n in EVERYBODY if n != node))))
                for place, node in enumerate(EVERYBODY)
            ),
            (43, WHOLE),
            (46, f.Heal()),
        ),
    ),
    Scenario(
        "one-way",
        "A node is heard but does not hear, then hears but is not heard.",
        36,
        _at(
            (3, _cuts_from(N1)),
            (11, WHOLE),
            (15, tuple(f.Cut(other, N2) for other in EVERYBODY if other != N2)),
            (23, WHOLE),
            (25, (f.Cut(N3, N4), f.Cut(N4, N5), f.Cut(N5, N3))),
            (33, WHOLE),
            (36, f.Heal()),
        ),
    ),
    Scenario(
        "partial-mesh",
        "One node sees all others, which see only half of each other; then a ring.",
        36,
        _at(
            (3, f.Partition(((N1, N2, N3), (N3, N4, N5)))),
            (14, WHOLE),
            (18, f.Partition(((N1, N2), (N2, N3), (N3, N4), (N4, N5), (N5, N1)))),
            (30, WHOLE),
            (36, f.Heal()),
        ),
    ),
    Scenario(
        "flapping",
        "A node's links come and go, fast and slow, and are reset.",
        34,
        _at(
            (3, f.Flap(N1, 10, 250)),
            (10, f.ResetLinks(N2)),
            (12, f.ResetLinks(N3)),
            (14, f.Flap(N4, 4, 1500)),
            (28, f.ResetLinks(N5)),
            (34, f.Heal()),
        ),
    ),
    Scenario(
        "pause-leader",
        "Every node in turn stands still for longer than an election, then goes on where it was.",
        48,
        _at(
            *((3 + 9 * place, f.Pause(node)) for place, node in enumerate(EVERYBODY)),
            *((8 + 9 * place, f.Resume(node)) for place, node in enumerate(EVERYBODY)),
            (48, f.Heal()),
        ),
    ),
    Scenario(
        "disk-full",
        "Two nodes run out of space, one after the other, and get it back.",
        40,
        _at(
            (3, f.DiskFull(N2)),
            (9, f.DiskFull(N4)),
            (18, f.DiskFreed(N2)),
            (26, f.DiskFreed(N4)),
            (40, f.Heal()),
        ),
    ),
    Scenario(
        "disk-fails",
        "A sync fails on one node, then on another; syncs are slow on a third.",
        36,
        _at(
            (3, f.DiskFails(N1)),
            (9, f.Start(N1)),
            (16, f.DiskFails(N5)),
            (20, f.DiskSlow(N3, 800)),
            (24, f.Start(N5)),
            (28, f.DiskSlow(N3, 0)),
            (36, f.Heal()),
        ),
    ),
    Scenario(
        "hsm-gone",
        "Two HSMs are lost and come back: three are left to give shares.",
        30,
        _at(
            (3, f.HsmGone(N1)),
            (6, f.HsmGone(N3)),
            (16, f.HsmBack(N1)),
            (20, f.HsmBack(N3)),
            (30, f.Heal()),
        ),
    ),
    Scenario(
        "clock-jump",
        "Wall clocks jump an hour, a day and back, run slow and fast, and flicker.",
        36,
        _at(
            (3, f.ClockJump(N1, 3_600_000)),
            (5, f.ClockJump(N2, -30_000)),
            (7, f.ClockDrift(N3, 10.0)),
            (9, f.ClockStrobe(N4, 600_000, 20, 200)),
            (18, f.ClockJump(N1, -90_000_000)),
            (22, f.ClockDrift(N3, 0.2)),
            (28, f.ClockJump(N1, 86_400_000)),
            (29, f.ClockDrift(N3, 1.0)),
            (36, f.Heal()),
        ),
    ),
    Scenario(
        "power-cut-all",
        "All five lose power at once, three times, at any moment.",
        46,
        _at(
            *((4 + 14 * time, map(f.Kill, EVERYBODY)) for time in range(3)),
            *((5 + 14 * time, map(f.Start, EVERYBODY)) for time in range(3)),
            (46, f.Heal()),
        ),
    ),
    Scenario(
        "old-image",
        "Two nodes come back with an older copy of their disk: refused, until the right one is in.",
        34,
        _at(
            (2, (f.DiskCopied(N1), f.DiskCopied(N4))),
            (3, (f.Kill(N1), f.Kill(N4))),
            (4, (f.Start(N1), f.Start(N4))),
            (14, f.DiskRestored(N1)),
            (18, f.DiskRestored(N4)),
            (22, f.Start(N1)),
            (26, f.Start(N4)),
            (34, f.Heal()),
        ),
    ),
    Scenario(
        "rolled-back",
        "A node goes on from a copy of the same life: its HSM or its peers refuse it for good.",
        80,
        _at(
            (3, f.DiskCopied(N3)),
            (13, f.DiskRestored(N3)),
            (20, f.Replace(N3)),
            (80, f.Heal()),
        ),
    ),
    Scenario(
        "byte-flipped",
        "One bit of a node's store is wrong: found, named, never a guess from it.",
        34,
        _at(
            (5, f.ByteFlipped(N2, 0.3)),
            (12, f.Start(N2)),
            (20, f.ByteFlipped(N5, 0.7)),
            (26, f.Start(N5)),
            (34, f.Heal()),
        ),
    ),
    Scenario(
        "replace",
        "A node is lost for good, and then another: new ones take their seats under new ids.",
        150,
        _at(
            (4, f.Kill(N2)),
            (6, f.Replace(N2)),
            (70, f.Kill(N5)),
            (72, f.Replace(N5)),
            (150, f.Heal()),
        ),
    ),
    Scenario(
        "old-book",
        "A node is away while another is replaced, and nobody gives it the newer cluster file.",
        90,
        _at(
            (3, f.Kill(N3)),
            (4, f.Kill(N2)),
            (5, f.Replace(N2)),
            (40, f.Start(N3)),
            (52, f.Kill(N1)),
            (60, f.Start(N1)),
            (68, f.Pause(N4)),
            (74, f.Resume(N4)),
            (80, f.Kill(N5)),
            (86, f.Start(N5)),
            (90, f.Heal()),
        ),
    ),
    Scenario(
        "operator",
        "Shards are handed about and nodes drained, while others die: a wish costs no guess.",
        40,
        _at(
            (3, (f.Transfer(N2, 0), f.Transfer(N2, 1), f.Transfer(N2, 2))),
            (6, f.Kill(N2)),
            (8, f.Transfer(N4, 0)),
            (12, (f.Start(N2), f.Drain(N4))),
            (16, f.Transfer(N4, 1)),
            (20, f.Undrain(N4)),
            (22, f.Drain(N1)),
            (24, f.Kill(N3)),
            (30, f.Start(N3)),
            (34, f.Undrain(N1)),
            (40, f.Heal()),
        ),
    ),
    Scenario(
        "everything",
        "Death, silence, lies of clock and disk, at most two nodes away at a time.",
        100,
        _at(
            (3, f.Kill(N1)),
            (5, f.HsmGone(N2)),
            (10, f.Start(N1)),
            (12, f.HsmBack(N2)),
            (16, f.Partition(((N1, N2, N3), (N4, N5)))),
            (18, f.ClockStrobe(N2, 5_000, 10, 300)),
            (26, WHOLE),
            (28, f.DiskCopied(N3)),
            (32, f.Pause(N4)),
            (33, f.DiskFull(N5)),
            (40, f.Resume(N4)),
            (44, f.DiskFreed(N5)),
            (50, f.DiskRestored(N3)),
            (52, f.Flap(N1, 6, 300)),
            (58, f.Start(N3)),
            (64, f.RestartLoop(N2, 3, 2500)),
            (66, f.ClockJump(N4, 3_600_000)),
            (72, f.ClockJump(N4, -3_600_000)),
            (76, f.DiskFails(N1)),
            (78, _cuts_from(N5)),
            (86, (WHOLE, f.Start(N1))),
            (90, f.ResetLinks(N3)),
            (100, f.Heal()),
        ),
    ),
)
SCENARIOS: Final = {scenario.name: scenario for scenario in _ALL}
