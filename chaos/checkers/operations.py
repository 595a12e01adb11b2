"""A history as operations: an invoke joined with what came of it.

Time here is the place in the history, not the clock: an operation began at its invoke's place and
ended at its answer's; one that nobody can tell the end of (`info`, or no answer at all) may take
effect at any place after its invoke, or never.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.checkers.findings import Finding, at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.history import Event, Op, Seen

NEVER = math.inf
"""The end of an operation whose outcome is unknown."""


@dataclass(frozen=True)
class Operation:
    """One request and its fate."""

    call: Event
    answer: Event | None
    begin: int
    end: float
    answered: float = NEVER
    """The place of the answer, also of one that says that the outcome is unknown."""

    @property
    def op(self) -> Op:
        """What was asked."""
        return self.call.op

    @property
    def account(self) -> str:
        """Of whom."""
        return self.call.account

    @property
    def ok(self) -> bool:
        """It was done."""
        return self.answer is not None and self.answer.phase == "ok"

    @property
    def failed(self) -> bool:
        """It was refused."""
        return self.answer is not None and self.answer.phase == "fail"

    @property
    def unknown(self) -> bool:
        """Nobody can say."""
        return not self.ok and not self.failed

    @property
    def registration_id(self) -> str:
        """As answered, or as asked."""
        answered = "" if self.answer is None else self.answer.registration_id
        return answered or self.call.registration_id

    @property
    def era(self) -> int | None:
        """As answered, or as asked."""
        answered = None if self.answer is None else self.answer.era
        return self.call.era if answered is None else answered

    @property
    def attempt_id(self) -> str:
        """As asked, or as answered."""
        answered = "" if self.answer is None else self.answer.attempt_id
        return self.call.attempt_id or answered

    @property
    def code(self) -> str:
        """The problem's code."""
        return "" if self.answer is None else self.answer.code

    @property
    def charged(self) -> str:
        """Whether this request charged: yes, no or unknown."""
        if self.answer is None:
            return "unknown"
        if self.ok:
            return "no" if self.answer.replayed else "yes"
        return self.answer.charged or "unknown"

    @property
    def remaining(self) -> int | None:
        """Guesses left, as answered."""
        return None if self.answer is None else self.answer.guesses_remaining

    @property
    def receipt(self) -> Seen | None:
        """The answer's."""
        return None if self.answer is None else self.answer.receipt

    @property
    def is_start(self) -> bool:
        """A registration's first call: it only reads the era."""
        return self.op == "register" and not self.call.registration_id

    def __str__(self) -> str:
        fate = at(self.answer) if self.answer is not None else "[no answer]"
        said = self.code or ("" if self.answer is None else self.answer.state)
        return f"{at(self.call)}…{fate}{' ' + said if said else ''}"


def pair(history: Sequence[Event]) -> tuple[list[Operation], list[Finding]]:
    """Join invokes with answers, in the order of the invokes; a malformed history is found."""
    found: list[Finding] = []
    open_calls: dict[int, tuple[int, Event]] = {}
    done: list[Operation] = []
    for place, event in enumerate(history):
        before = open_calls.get(event.client)
        if event.phase == "invoke":
            if before is not None:
                found.append(_malformed(f"{at(event)} while {at(before[1])} is open"))
                done.append(Operation(before[1], None, before[0], NEVER))
            open_calls[event.client] = (place, event)
            continue
        if before is None or (before[1].op, before[1].account) != (event.op, event.account):
            found.append(_malformed(f"{at(event)} answers nothing that was asked"))
            continue
        del open_calls[event.client]
        end = NEVER if event.phase == "info" else place
        done.append(Operation(before[1], event, before[0], end, place))
    done += [Operation(call, None, place, NEVER) for place, call in open_calls.values()]
    return sorted(done, key=lambda each: each.begin), found


def by_account(operations: Sequence[Operation]) -> dict[str, list[Operation]]:
    """Operations of each account, in order."""
    found: dict[str, list[Operation]] = {}
    for each in operations:
        found.setdefault(each.account, []).append(each)
    return found


def _malformed(what: str) -> Finding:
    return Finding("operations", "history", what)
