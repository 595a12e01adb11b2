"""I5 and I12: one attempt, one charge, one element; and `no` means no.

Within an era an attempt is charged by at most one request, whoever sends it and how often. It
always evaluates to the same element. An attempt of which every send was answered `charged: no`
was never counted, so nobody may have given a share for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING

from chaos.checkers.budget import hexed
from chaos.checkers.findings import Finding, short
from chaos.checkers.operations import by_account

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.checkers.operations import Operation
    from chaos.witness import Testimony


def check(operations: Sequence[Operation], testimony: Testimony, limit: int) -> list[Finding]:
    """Find attempts charged twice, evaluated to two elements, or given shares without a charge."""
    attempts = [each for each in operations if each.op == "attempt"]
    return [
        *_charged_twice(attempts),
        *_counted_twice(attempts, limit),
        *_two_elements(testimony),
        *_shares_for_no(attempts, testimony),
    ]


def _charged_twice(attempts: Sequence[Operation]) -> list[Finding]:
    charges: dict[tuple[str, str, int | None, str], list[Operation]] = defaultdict(list)
    for each in attempts:
        if each.ok and each.answer is not None and each.answer.replayed is False:
            charges[each.account, each.registration_id, each.era, each.attempt_id].append(each)
    return [
        Finding(
            "one_charge",
            "I5",
            f"account {account}: attempt {short(attempt)} was charged {len(sends)} times in era"
            f" {era} of registration {short(registration)}: {'; '.join(map(str, sends))}",
        )
        for (account, registration, era, attempt), sends in charges.items()
        if len(sends) > 1
    ]


def _counted_twice(attempts: Sequence[Operation], limit: int) -> list[Finding]:
    """An answer's count is never more than the attempts begun before it was given."""
    found: list[Finding] = []
    for account, made in by_account(attempts).items():
        first: dict[str, int] = {}
        for each in made:
            first[each.attempt_id] = min(each.begin, first.get(each.attempt_id, each.begin))
        begins = sorted(first.values())
        for each in made:
            if not each.ok or each.remaining is None:
                continue
            begun = bisect_right(begins, each.end)
            used = limit - each.remaining
            if used > begun:
                found.append(
                    Finding(
                        "one_charge",
                        "I5",
                        f"account {account}: {used} guesses counted, but only {begun}"
                        f" attempts were begun by then: {each}",
                    )
                )
    return found


def _two_elements(testimony: Testimony) -> list[Finding]:
    elements: dict[tuple[str, str], set[str]] = defaultdict(set)
    for attempt, made in testimony.elements.items():
        elements[attempt.registration_id, attempt.attempt_id] |= made
    return [
        Finding(
            "one_charge",
            "I5",
            f"attempt {short(attempt)} of registration {short(registration)} was evaluated to"
            f" {len(made)} different elements",
        )
        for (registration, attempt), made in elements.items()
        if len(made) > 1
    ]


def _shares_for_no(attempts: Sequence[Operation], testimony: Testimony) -> list[Finding]:
    sends: dict[str, list[Operation]] = defaultdict(list)
    for each in attempts:
        sends[hexed(each.attempt_id)].append(each)
    free = {
        name: made
        for name, made in sends.items()
        if all(each.failed and each.charged == "no" for each in made)
    }
    return [
        Finding(
            "one_charge",
            "I12",
            f"account {free[attempt.attempt_id][0].account}: seats {sorted(seats)} gave shares for"
            f" attempt {short(attempt.attempt_id)}, of which every send was answered `no`:"
            f" {'; '.join(map(str, free[attempt.attempt_id]))}",
        )
        for attempt, seats in testimony.given.items()
        if attempt.attempt_id in free
    ]
