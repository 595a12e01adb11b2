"""I7: is there one order of a record's operations that explains every answer?

The search of Wing and Gong with Lowe's memory of visited configurations, as porcupine does it,
one record at a time. An operation becomes steps, each with the span of the history in which it may
happen:

- an answer that was given: one step, which must happen;
- an effect that nobody can rule out: one step, which may happen, from the invoke on; without an
  answer it may happen at any later time. An operation with a definite answer may have had its
  effect silently before, too: the host learns no outcome that a snapshot jumped over and proposes
  again. Not so an attempt that was answered `charged: no` or as newly charged (I5, I12).

What this does not explain is searched again with what is rare: commands obeyed twice, and then
attempts that cross an era (see `Search`).

A full list may be locked at any time: the leader's grace is nobody's operation. Three things keep
the search small. A step that must happen and changes nothing is taken at once (unless it ends
the time for its own silent effect). Versions are exact,
so a state beyond the version of a step that is still to happen is dead, and so is one whose era
cannot become in time what that step tells (`Due`). Attempts whose outcome is
unknown are interchangeable where they have one id, or ids that nobody names again: of such the
earliest goes first.

What cannot be decided within the bound is a finding too: a run that cannot be judged is not good.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from enum import Flag, auto
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from chaos.checkers.findings import Finding
from chaos.checkers.model import Model, State
from chaos.checkers.operations import NEVER, by_account

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chaos.checkers.operations import Operation

MAX_CONFIGURATIONS: Final = 1_000_000
"""Under a minute per record; an honest history of hundreds of operations needs thousands, one with
many sends that nobody answered up to half a million (simulator seed 1100207)."""
LEARNT: Final = {"stale", "conflict", "superseded"}
"""Refusals that an applied outcome gave: behind a snapshot's jump the effect may lie before."""

UNFENCED: Final = {"register", "activate", "delete"}


class Rare(Flag):
    """What a search allows beyond the rule; it costs configurations, so it is tried last."""

    NOTHING = 0
    LATE_COPIES = auto()
    CROSSINGS = auto()


RARE: Final = (Rare.NOTHING, Rare.LATE_COPIES, Rare.LATE_COPIES | Rare.CROSSINGS)


@dataclass(frozen=True)
class Due:
    """An era that an answer told, and the version at which the record must have reached it.

    An answer with n attempts listed tells more than the era of its own version: whatever empties a
    list raises the era, and each of the n made a version since; so it began n versions before.
    """

    era: int
    version: int

    def can_be_met(self, state: State) -> bool:
        """Each version raises the era by one at most; from then on it stays."""
        missing = self.era - state.era
        return 0 <= missing <= max(0, self.version - state.version)


@dataclass(frozen=True)
class Step:
    """One thing that must, or may, happen to the record."""

    bits: int
    """Its own, lowest, and that of the silent effect that cannot happen after it."""
    silent: int
    operation: Operation
    run: Callable[[State], State | None]
    end: float
    required: bool
    version: float
    """The record's version after it, where the answer told it, or infinity."""
    due: Due | None
    """Where the answer told the era, too."""
    twins: str | None
    """An attempt of unknown outcome: its id, or nothing where nobody else names that; else None."""


def check(operations: Sequence[Operation], limit: int) -> list[Finding]:
    """Find records without any order that explains all answers."""
    found: list[Finding] = []
    for account, made in by_account(operations).items():
        for rare in RARE:
            search = Search(Model(limit), made, rare)
            if search.explain():
                break
        else:
            if search.exhausted:
                what = f"undecided after {MAX_CONFIGURATIONS} configurations"
            else:
                what = "no order of its operations explains the answers"
            told = f"account {account}: {what}. {search.story()}"
            found.append(Finding("linearizable", "I7", told))
    return found


class Search:
    """The search over one record's operations.

    With `LATE_COPIES` some commands may be obeyed once more at any time after they were asked for.
    A proposer that hears nothing sends again, so the log may hold a command twice. The era fences
    every copy but those that only touch a *pending* registration: a Register in its era, a Delete
    that found nothing, an Activate that came before its Register. They cost whoever put that
    registration a conflict, never a key or a guess.

    With `CROSSINGS` an attempt may be counted in an earlier era, too: its node lost that outcome to
    a snapshot, found the era over and asked again in the next (simulator seed 1201434). I5 promises
    one charge within an era; the count of the earlier one is gone with that era.
    """

    def __init__(self, model: Model, made: Sequence[Operation], rare: Rare = Rare.NOTHING) -> None:
        self._model = model
        self._steps = _Steps(model, made, crossings=Rare.CROSSINGS in rare).steps
        self._required = [each for each in self._steps if each.required]
        self._top = 2 * len(made) - 1
        """Place of the bit of the first step; the next one has the next lower bit."""
        self._must = sum(self._own(each) for each in self._required)
        self._may = sum(self._own(each) for each in self._steps if not each.required)
        self._least = [math.inf]
        """From each step on, the least version that an answer told."""
        self._due: list[Due | None] = [None]
        """From each step on, the era that must be reached first."""
        for each in reversed(self._steps):
            least = each.version if each.required else math.inf
            self._least.append(min(least, self._least[-1]))
            self._due.append(_sooner(each.due, self._due[-1]))
        self._least.reverse()
        self._due.reverse()
        copied = {
            (each.op, each.call.registration_id, each.call.era): each
            for each in reversed(made)  # the first one asked stays
            if each.op in UNFENCED and not each.is_start
        }
        self._copied = list(copied.values()) if Rare.LATE_COPIES in rare else []
        known = [each.version for each in self._required if each.version < math.inf]
        self._most = max(known, default=0) + len(self._copied)
        self._stuck: tuple[int, State, list[Step]] = (-1, State(), [])
        """How many answers were explained at most, and what did not go on there."""
        self.configurations = 0
        self.exhausted = False

    def explain(self) -> bool:
        """True when an order was found; False when there is none, or not within the bound."""
        seen: set[tuple[int, State]] = set()
        stack = [(0, State())]
        while stack:
            done, state = stack.pop()
            if (done, state) in seen:
                continue
            seen.add((done, state))
            self.configurations += 1
            if self.configurations > MAX_CONFIGURATIONS:
                self.exhausted = True
                return False
            undone = self._must & ~done
            if not undone:
                return True
            possible, ceiling, dues = self._possible(done, undone)
            explained = len(self._required) - undone.bit_count()
            if explained > self._stuck[0]:
                self._stuck = (explained, state, possible)
            if state.version <= ceiling and all(due.can_be_met(state) for due in dues):
                stack += reversed(list(self._after(done, state, possible, ceiling)))
        return False

    def _possible(self, done: int, undone: int) -> tuple[list[Step], float, list[Due]]:
        """What may happen next, the most urgent first; the version not to pass; the eras to reach.

        Only what begins before the first end of what must happen. All of that stands near the first
        step that is undone, but for effects that nobody can rule out: a long history is walked
        through, not searched from its start again and again.
        """
        place = at = self._top - (undone.bit_length() - 1)
        end = ceiling = math.inf
        near: list[Step] = []
        dues: list[Due] = []
        while at < len(self._steps) and self._steps[at].operation.begin <= end:
            each = self._steps[at]
            at += 1
            if self._own(each) & ~done:
                near.append(each)
                if each.required:
                    end, ceiling = min(end, each.end), min(ceiling, each.version)
                    dues += [each.due] if each.due else []
        possible = [each for each in near if each.operation.begin <= end]
        earlier = (self._may & ~done) >> (self._top - place + 1)
        while earlier:
            lowest = earlier & -earlier
            possible.append(self._steps[place - lowest.bit_length()])
            earlier ^= lowest
        later = self._due[at]
        dues += [later] if later else []
        ceiling = min(ceiling, self._least[at])
        return _without_later_twins(sorted(possible, key=_end)), ceiling, dues

    @staticmethod
    def _own(step: Step) -> int:
        return step.bits & -step.bits  # its lowest bit is its own

    def _after(
        self, done: int, state: State, possible: Sequence[Step], ceiling: float
    ) -> Iterator[tuple[int, State]]:
        """All configurations one step on."""
        after: list[tuple[int, State]] = []
        for each in possible:
            result = each.run(state)
            if result is None or result.version > ceiling:
                continue
            if result is not state:
                after.append((done | each.bits, result))
            elif each.required and not each.silent & ~done:
                yield done | each.bits, state
                return
            elif each.required:
                after.append((done | each.bits, result))
        yield from after
        locked = self._model.expire(state)
        if locked is not None and locked.version <= ceiling:
            yield done, locked
        if state.version < min(ceiling, self._most):
            until = min(each.end for each in possible if each.required)
            yield from self._late_copies(done, state, until)

    def _late_copies(self, done: int, state: State, until: float) -> Iterator[tuple[int, State]]:
        for each in self._copied:
            again = self._model.effect(each, state) if each.begin <= until else None
            if again is not None:
                yield done, again

    def story(self) -> str:
        """How far the search came, and what does not fit there."""
        reached, state, possible = self._stuck
        waiting = [str(each.operation) for each in possible if each.required]
        return (
            f"{reached} of {len(self._required)} answers are explained; then, with the record at"
            f" {state._replace(attempts=frozenset())} and {len(state.attempts)} attempts listed,"
            f" none of these fits: {'; '.join(waiting[:8])}"
        )


def _without_later_twins(steps: Sequence[Step]) -> list[Step]:
    """Whatever a later one of the same could do now, the earlier one can."""
    kept: list[Step] = []
    met: set[str] = set()
    for each in steps:
        if each.twins not in met:
            kept.append(each)
        if each.twins is not None:
            met.add(each.twins)
    return kept


def _sooner(one: Due | None, other: Due | None) -> Due | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=attrgetter("version"))


def _end(step: Step) -> tuple[float, int]:
    return step.end, step.operation.begin


class _Steps:
    """The steps of all operations, in the order in which they may begin."""

    def __init__(self, model: Model, made: Sequence[Operation], *, crossings: bool) -> None:
        self._model = model
        self._crossings = crossings
        self._named = Counter(each.attempt_id for each in made if each.attempt_id)
        self._bits = 1 << 2 * len(made)
        self.steps: list[Step] = []
        for each in made:
            self._of(each)

    def _of(self, each: Operation) -> None:
        if each.ok:
            self._answered(each, lambda state: self._model.answered(each, state))
        elif each.op == "attempt":
            self._attempt(each)
        elif each.op == "observe" or each.is_start:
            return
        elif each.unknown:
            self._add(each, self._effect(each), required=False)
        elif each.code in LEARNT | {"proof-rejected"}:
            self._answered(each, self._refusal(each))

    def _attempt(self, each: Operation) -> None:
        """An attempt that was not answered: `charged` says what became of it."""
        before = 0
        if each.charged != "no" and self._crossings:
            before = self._add(each, self._effect(each), required=False, alone=True)
        if each.charged == "yes":
            self._add(each, self._charge(each), required=True, end=each.answered, closes=before)
        elif each.charged == "no":
            self._add(each, self._refusal(each), required=True, end=each.answered)
        else:
            self._add(each, self._effect(each), required=False)

    def _answered(self, each: Operation, run: Callable[[State], State | None]) -> None:
        """A definite answer, and the silent effect that it may have had before."""
        newly = each.op == "attempt" and each.answer is not None and each.answer.replayed is False
        silent = 0
        fenced = newly and not self._crossings  # within its era, that is: `Model` sees to it
        if not fenced and each.op != "observe" and not each.is_start:
            silent = self._add(each, self._effect(each), required=False, end=each.end)
        self._add(each, run, required=True, end=each.end, closes=silent)

    def _add(
        self,
        each: Operation,
        run: Callable[[State], State | None],
        *,
        required: bool,
        end: float = NEVER,
        closes: int = 0,
        alone: bool = False,
    ) -> int:
        self._bits >>= 1
        version = each.receipt.version if required and each.receipt is not None else math.inf
        due = self._due(each) if required else None
        twins = None
        if each.op == "attempt" and not required and end == NEVER and not alone:
            twins = each.attempt_id if self._named[each.attempt_id] > 1 else ""
        self.steps.append(
            Step(self._bits | closes, closes, each, run, end, required, version, due, twins)
        )
        return self._bits

    def _due(self, each: Operation) -> Due | None:
        """Of answers that tell version and era of one moment."""
        if each.receipt is None or each.answer is None or each.answer.era is None:
            return None
        if not each.ok or each.op not in ("attempt", "observe"):
            return None
        listed = 0
        if each.remaining is not None and each.answer.state in ("", "active", "exhausted"):
            listed = self._model.limit - each.remaining
        return Due(each.answer.era, each.receipt.version - listed)

    def _effect(self, each: Operation) -> Callable[[State], State | None]:
        return lambda state: self._model.effect(each, state)

    def _refusal(self, each: Operation) -> Callable[[State], State | None]:
        return lambda state: state if self._model.refused(each, state) else None

    def _charge(self, each: Operation) -> Callable[[State], State | None]:
        def run(state: State) -> State | None:
            after = self._model.charge(each, state)
            if after is None or each.remaining is None:
                return after
            return after if each.remaining == self._model.limit - len(after.attempts) else None

        return run
