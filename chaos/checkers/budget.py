"""I1, I2 and I6 from the share witness: what could anybody have evaluated?

Within a registration an era lasts from one proof to the next (or to the end), so the budget is
per registration and era, and a further era of the same registration needs a proof that a client
made. Every honest seat keeps the same bound on its own, by its ledger, whatever others do.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from chaos.checkers.findings import Finding, short
from engines.encoding import b64u_decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.checkers.operations import Operation
    from chaos.witness import Testimony

THRESHOLD = 3


def hexed(name: str) -> str:
    """An id of the API as the witness writes it."""
    return b64u_decode(name, 32).hex()


def check(operations: Sequence[Operation], testimony: Testimony, limit: int) -> list[Finding]:
    """Find what was evaluated, or given, beyond what the rules allow."""
    return [
        *_evaluated(testimony, limit),
        *_ledgers(testimony, limit),
        *_unasked(operations, testimony),
        *_unproven(operations, testimony),
    ]


def _evaluated(testimony: Testimony, limit: int) -> list[Finding]:
    return [
        Finding(
            "budget",
            "I1",
            f"registration {short(registration)} in era {era}: {len(attempts)} attempts evaluated,"
            f" the limit is {limit}: {sorted(map(short, attempts))}",
        )
        for (registration, era), attempts in testimony.evaluated(THRESHOLD).items()
        if len(attempts) > limit
    ]


def _ledgers(testimony: Testimony, limit: int) -> list[Finding]:
    """No seat alone gives for more than `limit` between two proofs."""
    given: dict[tuple[str, int, int], set[str]] = defaultdict(set)
    for attempt, seats in testimony.given.items():
        for seat in seats:
            given[attempt.registration_id, attempt.era, seat].add(attempt.attempt_id)
    return [
        Finding(
            "budget",
            "I1",
            f"seat {seat} gave shares for {len(attempts)} attempts of registration"
            f" {short(registration)} in era {era}; its ledger has room for {limit}",
        )
        for (registration, era, seat), attempts in given.items()
        if len(attempts) > limit
    ]


def _unasked(operations: Sequence[Operation], testimony: Testimony) -> list[Finding]:
    """A share for an attempt that no client made would be a guess of the vault's own."""
    made = {hexed(each.attempt_id) for each in operations if each.op == "attempt"}
    return [
        Finding(
            "budget",
            "I2",
            f"seats {sorted(seats)} gave shares for attempt {short(attempt.attempt_id)}, which no"
            f" client made (registration {short(attempt.registration_id)}, era {attempt.era})",
        )
        for attempt, seats in testimony.given.items()
        if attempt.attempt_id not in made
    ]


def _unproven(operations: Sequence[Operation], testimony: Testimony) -> list[Finding]:
    """A registration's first era is that of its activation, each later one follows a proof."""
    proofs: set[tuple[str, int]] = set()
    for each in operations:
        call = each.call
        if call.op == "prove" and not call.forged and call.registration_id:
            if call.era is None:
                return []  # a history that does not say what was proven cannot be judged so
            proofs.add((hexed(call.registration_id), call.era))
    opened: dict[str, set[int]] = defaultdict(set)
    for attempt in testimony.given:
        opened[attempt.registration_id].add(attempt.era)
    return [
        Finding(
            "budget",
            "I6",
            f"shares were given in eras {sorted(eras)} of registration {short(registration)}, but"
            f" nobody made a proof in era {era - 1}",
        )
        for registration, eras in sorted(opened.items())
        for era in sorted(eras)[1:]
        if (registration, era - 1) not in proofs
    ]
