"""I3: once exhausted without a proof, no new attempt is evaluated; once locked, none at all.

`Exhausted` is learnt from an answer that left no guess, a look, or a refusal. From then on a new
attempt (first sent later) may be answered only after a proof or an activation that can have come
in between; after a lock only an activation or a deletion brings anything back.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from chaos.checkers.budget import hexed
from chaos.checkers.findings import Finding, short
from chaos.checkers.operations import NEVER, by_account

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.checkers.operations import Operation
    from chaos.witness import Testimony


def check(operations: Sequence[Operation], testimony: Testimony) -> list[Finding]:
    """Find attempts answered, or given shares, behind a lock."""
    found: list[Finding] = []
    for account, made in by_account(operations).items():
        found += _answered(account, made)
        found += _shared(account, made, testimony)
    return found


def _answered(account: str, made: Sequence[Operation]) -> list[Finding]:
    first_sent = _first_sent(made)
    attempts = sorted((each for each in made if each.op == "attempt"), key=lambda one: one.begin)
    begins = [each.begin for each in attempts]
    found: list[Finding] = []
    for shut in (each for each in made if _exhausted(each) or _locked(each)):
        final = _locked(shut)
        opened = _opened(made, {"activate"} if final else {"activate", "prove"}, since=shut)
        # Of those that began later, only what ended before anything can have been opened.
        for later in attempts[bisect_left(begins, shut.end) : bisect_left(begins, opened)]:
            if not later.ok or later.end > opened:
                continue
            if not final and first_sent[later.attempt_id] < shut.end:
                continue  # it was listed before: within the grace it may be answered again
            word = "locked" if final else "exhausted"
            found.append(
                Finding(
                    "sticky_lock",
                    "I3",
                    f"account {account} was {word} at {shut}, and yet attempt"
                    f" {short(later.attempt_id)} was answered at {later}",
                )
            )
    return found


def _shared(account: str, made: Sequence[Operation], testimony: Testimony) -> list[Finding]:
    """Shares tell no time, but an attempt first sent after the last guess came after it."""
    first_sent = _first_sent(made)
    names = {hexed(name): name for name in first_sent}
    full = {
        (hexed(each.registration_id), each.era): each
        for each in reversed(made)
        if _exhausted(each) and each.registration_id and each.era is not None
    }
    found: list[Finding] = []
    for attempt, seats in testimony.given.items():
        shut = full.get((attempt.registration_id, attempt.era))
        name = names.get(attempt.attempt_id)
        if shut is not None and name is not None and first_sent[name] > shut.end:
            found.append(
                Finding(
                    "sticky_lock",
                    "I3",
                    f"account {account} was exhausted in era {attempt.era} at {shut}, and seats"
                    f" {sorted(seats)} gave shares for attempt {short(name)}, sent later",
                )
            )
    return found


def _first_sent(made: Sequence[Operation]) -> dict[str, int]:
    sent: dict[str, int] = {}
    for each in made:
        if each.op == "attempt":
            sent.setdefault(each.attempt_id, each.begin)
    return sent


def _exhausted(each: Operation) -> bool:
    if each.op == "attempt":
        return (each.ok and each.remaining == 0) or (each.failed and each.code == "exhausted")
    return (
        each.op == "observe"
        and each.ok
        and each.answer is not None
        and (each.answer.state == "exhausted")
    )


def _locked(each: Operation) -> bool:
    if each.op == "attempt":
        return each.failed and each.code == "locked"
    return (
        each.op == "observe"
        and each.ok
        and each.answer is not None
        and (each.answer.state == "locked")
    )


def _opened(made: Sequence[Operation], keys: set[str], *, since: Operation) -> float:
    """The first place at which an operation of these kinds can have taken effect since then.

    A proof of another era opens nothing: one that was never answered may still come, but in vain.
    """
    return min(
        (
            each.begin
            for each in made
            if each.op in keys
            and not each.call.forged
            and each.end > since.begin
            and not (each.op == "prove" and _other_era(each, since))
        ),
        default=NEVER,
    )


def _other_era(proof: Operation, shut: Operation) -> bool:
    known = proof.call.era is not None and shut.era is not None
    return known and proof.call.era != shut.era
