"""What a node has counted since its start, in four numbers for the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from node.problems import KINDS, Code

if TYPE_CHECKING:
    from cluster.api import HostStatus
    from node.metrics import Metrics

SERVER_ERRORS = frozenset(str(code) for code in Code if KINDS[code].status >= 500)


class Counts(Struct, frozen=True):
    """Since the process began."""

    attempts: int
    """Charges proposed here that came to an outcome, whichever."""
    lockouts: int
    """Records locked, as applied here: every node counts all of them."""
    requests: int
    """Client requests answered here."""
    errors: int
    """…of those with an HTTP status of 500 or more."""


def counts(metrics: Metrics, status: HostStatus) -> Counts:
    """The numbers now."""
    answered = metrics.answered()
    return Counts(
        attempts=metrics.charged(),
        lockouts=status.counters.lockouts,
        requests=sum(answered.values()),
        errors=sum(number for code, number in answered.items() if code in SERVER_ERRORS),
    )
