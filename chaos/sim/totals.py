"""What was done in one run or in many: sums, for the progress line and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Mapping


class Totals(Struct):
    """Sums over runs."""

    seeds: int = 0
    cluster_seconds: float = 0.0
    """Virtual time of whole clusters."""
    cpu_seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    """Done, by kind."""
    operations: dict[str, int] = field(default_factory=dict)
    """By operation, phase and code."""
    attempts: int = 0
    """Charged."""
    evaluations: int = 0
    """Shares of three seats were given."""
    restarts: int = 0
    refusals: int = 0
    """Disks that were refused, at boot or by what peers remembered."""
    replacements: int = 0
    elections: int = 0
    snapshots: int = 0
    """Installed."""
    entries: int = 0
    """Committed."""
    frames: int = 0

    @property
    def speed(self) -> float:
        """Cluster-seconds per CPU-second."""
        return self.cluster_seconds / self.cpu_seconds if self.cpu_seconds else 0.0

    def add(self, other: Totals) -> None:
        """Count another run in."""
        _sum(self.faults, other.faults)
        _sum(self.operations, other.operations)
        self.seeds += other.seeds
        self.cluster_seconds += other.cluster_seconds
        self.cpu_seconds += other.cpu_seconds
        self.attempts += other.attempts
        self.evaluations += other.evaluations
        self.restarts += other.restarts
        self.refusals += other.refusals
        self.replacements += other.replacements
        self.elections += other.elections
        self.snapshots += other.snapshots
        self.entries += other.entries
        self.frames += other.frames


def _sum(into: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        into[name] = into.get(name, 0) + count
