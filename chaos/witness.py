"""Judge rule I1 from what the nodes witnessed at their own HSM boundary.

Each node, when asked to, writes one JSON line per share that it gives or refuses and one per
evaluation that it combines (node/witness.py). An attempt counts as evaluated when three distinct
seats gave shares for it, whoever combined them. Within one registration an era lasts from one
proof, activation or lock to the next, so the budget is per (registration, era).
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Attempt:
    """One attempt as witnessed; ids in hex."""

    registration_id: str
    era: int
    attempt_id: str


@dataclass(frozen=True)
class Testimony:
    """All witnesses' lines of one run, put together."""

    given: Mapping[Attempt, frozenset[int]]
    """Seats that gave a share."""
    refused: tuple[Mapping[str, Any], ...]
    elements: Mapping[Attempt, frozenset[str]]
    """Hashes of the evaluated elements that were combined: one, or the vault is broken."""

    def evaluated(self, threshold: int = 3) -> dict[tuple[str, int], set[str]]:
        """Attempts with shares of `threshold` distinct seats, by (registration, era)."""
        found: dict[tuple[str, int], set[str]] = defaultdict(set)
        for attempt, seats in self.given.items():
            if len(seats) >= threshold:
                found[attempt.registration_id, attempt.era].add(attempt.attempt_id)
        return dict(found)

    def violations(self, limit: int, threshold: int = 3) -> list[str]:
        """Each broken rule as a sentence; empty when all hold."""
        broken = [
            f"I1: registration {registration[:16]} in era {era}: {len(attempts)} attempts "
            f"evaluated, the limit is {limit}"
            for (registration, era), attempts in self.evaluated(threshold).items()
            if len(attempts) > limit
        ]
        broken += [
            f"I5: attempt {attempt.attempt_id[:16]} evaluated to {len(hashes)} different elements"
            for attempt, hashes in self.elements.items()
            if len(hashes) > 1
        ]
        return broken


def gathered(
    shares: Iterable[tuple[Attempt, int]], elements: Iterable[tuple[Attempt, str]] = ()
) -> Testimony:
    """Put together what was witnessed in memory: (attempt, seat) and (attempt, element hash)."""
    given: dict[Attempt, set[int]] = defaultdict(set)
    made: dict[Attempt, set[str]] = defaultdict(set)
    for attempt, seat in shares:
        given[attempt].add(seat)
    for attempt, element in elements:
        made[attempt].add(element)
    return Testimony(
        {key: frozenset(seats) for key, seats in given.items()},
        (),
        {key: frozenset(hashes) for key, hashes in made.items()},
    )


def read(files: Iterable[Path]) -> Testimony:
    """Read witness files; a torn last line (its node was killed while writing) is left out.

    Raises:
        ValueError: a line that is not the last of its file is malformed.

    """
    given: dict[Attempt, set[int]] = defaultdict(set)
    elements: dict[Attempt, set[str]] = defaultdict(set)
    refused: list[Mapping[str, Any]] = []
    for path in files:
        if not path.exists():
            continue
        lines = path.read_text("utf-8").splitlines()
        for number, text in enumerate(lines):
            try:
                line = json.loads(text)
            except ValueError:
                if number == len(lines) - 1:
                    continue
                raise
            if line["result"] == "refused":
                refused.append(line)
            elif line["kind"] == "attempt" and line["result"] == "given":
                given[_attempt(line)].add(line["seat"])
            elif line["kind"] == "evaluation" and line["attempt_id"]:  # not a registration's
                elements[_attempt(line)].add(line["element_sha256"])
    return Testimony(
        {key: frozenset(seats) for key, seats in given.items()},
        tuple(refused),
        {key: frozenset(hashes) for key, hashes in elements.items()},
    )


def _attempt(line: Mapping[str, Any]) -> Attempt:
    return Attempt(line["registration_id"], line["era"], line["attempt_id"])
