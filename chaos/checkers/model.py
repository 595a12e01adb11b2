"""One record as the API shows it: the sequential model of design section 5, for the search.

Written from the page, not from `cluster.record`. A step of an operation is a function from a state
to the state after it, or to None where the answer that was given is impossible. A state that comes
back as the very same object was only looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from chaos.checkers.operations import Operation


class State(NamedTuple):
    """A record; ids as the API writes them."""

    version: int = 0
    era: int = 0
    active: str = ""
    pending: str = ""
    attempts: frozenset[str] = frozenset()
    proven: tuple[str, int] | None = None
    """The last proof's attempt and signed era."""
    locked: bool = False


class Model:
    """The transitions, for one cluster's limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    # ---- effects: the state after, or None where the command has no effect

    def register(self, each: Operation, state: State) -> State | None:
        """Pending, when nobody moved the era since."""
        name, era = each.registration_id, each.call.era
        if name in (state.active, state.pending) or era not in (None, state.era):
            return None
        return state._replace(version=state.version + 1, pending=name)

    def activate(self, each: Operation, state: State) -> State | None:
        """The pending one becomes active; everything of the old one is gone."""
        if each.call.forged or state.pending != each.registration_id:
            return None
        return State(state.version + 1, state.era + 1, active=state.pending)

    def charge(self, each: Operation, state: State) -> State | None:
        """One more on the list."""
        name = each.attempt_id
        full = len(state.attempts) >= self.limit
        proven = state.proven is not None and state.proven[0] == name
        if not state.active or full or proven or name in state.attempts:
            return None
        return state._replace(version=state.version + 1, attempts=state.attempts | {name})

    def prove(self, each: Operation, state: State) -> State | None:
        """An empty list and a new era."""
        if each.call.forged or not state.active or each.attempt_id not in state.attempts:
            return None
        if each.call.era not in (None, state.era):
            return None
        if each.registration_id not in ("", state.active):
            return None
        return state._replace(
            version=state.version + 1,
            era=state.era + 1,
            attempts=frozenset(),
            proven=(each.attempt_id, state.era),
        )

    def delete(self, each: Operation, state: State) -> State | None:
        """Nothing but era and version is left."""
        if each.call.era != state.era or not self.anything(state):
            return None
        return State(state.version + 1, state.era + 1)

    def expire(self, state: State) -> State | None:
        """The grace of a full list is over: nobody asked for it, so it may happen at any time."""
        if not state.active or len(state.attempts) < self.limit:
            return None
        return State(state.version + 1, state.era + 1, pending=state.pending, locked=True)

    @staticmethod
    def anything(state: State) -> bool:
        """Whether there is something to delete."""
        return bool(state.active or state.pending or state.locked)

    def effect(self, each: Operation, state: State) -> State | None:
        """The effect of an operation's command, whatever was answered."""
        match each.op:
            case "register":
                return None if each.is_start else self.register(each, state)
            case "activate":
                return self.activate(each, state)
            case "attempt":
                return self.charge(each, state)
            case "prove":
                return self.prove(each, state)
            case "delete":
                return self.delete(each, state)
            case "observe":
                return None

    # ---- answers: the state after an answer that was given, or None where it could not be given

    def answered(self, each: Operation, state: State) -> State | None:
        """Hold an `ok` against the state; exact in version, era, count and names."""
        after = self._answered(each, state)
        if after is None:
            return None
        if each.receipt is not None and each.receipt.version != after.version:
            return None
        return after

    def _answered(self, each: Operation, state: State) -> State | None:
        if each.call.forged:
            return None
        match each.op:
            case "register":
                return self._registered(each, state)
            case "activate":
                same = bool(state.active) and state.active == each.registration_id
                return state if same else self.activate(each, state)
            case "attempt":
                return self._attempted(each, state)
            case "prove":
                return state if self._is_last(each, state) else self.prove(each, state)
            case "delete":
                return self.delete(each, state) if self.anything(state) else state
            case "observe":
                return state if self._looks(each, state) else None

    def _registered(self, each: Operation, state: State) -> State | None:
        if each.is_start:
            return state if each.era in (None, state.era) else None
        said = "" if each.answer is None else each.answer.state
        if state.active == each.registration_id:
            return state if said in ("", "active") else None
        if said == "active":
            return None
        return state if state.pending == each.registration_id else self.register(each, state)

    def _attempted(self, each: Operation, state: State) -> State | None:
        replayed = None if each.answer is None else each.answer.replayed
        if each.attempt_id in state.attempts:
            after: State | None = None if replayed is False else state
        else:
            after = None if replayed else self.charge(each, state)
        if after is None or each.registration_id not in ("", after.active):
            return None
        if each.era not in (None, after.era):
            return None
        return after if each.remaining in (None, self.limit - len(after.attempts)) else None

    def _is_last(self, each: Operation, state: State) -> bool:
        if state.proven is None or state.proven[0] != each.attempt_id:
            return False
        if each.registration_id not in ("", state.active):
            return False
        return each.call.era in (None, state.proven[1])

    def _looks(self, each: Operation, state: State) -> bool:
        answer = each.answer
        if answer is None:
            return False
        name, remaining = self.standing(state)
        return (
            answer.state in ("", name)
            and answer.registration_id == state.active
            and answer.era in (None, state.era)
            and answer.guesses_remaining == remaining
            and answer.pending in (None, state.pending)
        )

    def standing(self, state: State) -> tuple[str, int | None]:
        """What a look calls it, and the guesses left."""
        if state.locked:
            return "locked", 0
        if not state.active:
            return "none", None
        left = self.limit - len(state.attempts)
        return ("active", left) if left > 0 else ("exhausted", 0)

    def refused(self, each: Operation, state: State) -> bool:
        """Whether this refusal, for good, was true; codes that speak of the node always are."""
        match each.op, each.code:
            case "attempt", "exhausted":
                return self.standing(state)[0] == "exhausted" and (
                    each.attempt_id not in state.attempts
                )
            case "attempt", "locked":
                return state.locked
            case "attempt", "not-registered":
                return not state.active and not state.locked
            case "register", "stale":
                return each.call.era != state.era or each.call.era is None
            case "activate", "conflict":
                return each.registration_id not in (state.active or None, state.pending or None)
            case "activate" | "prove", "proof-rejected":
                return each.call.forged
            case "prove", "superseded":
                return not self._is_last(each, state) and self.prove(each, state) is None
            case "delete", "stale":
                return self.anything(state) and each.call.era != state.era
            case _:
                return True
