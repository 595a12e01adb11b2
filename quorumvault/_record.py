"""Looking at a record and deleting it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from quorumvault._asking import ask, meet
from quorumvault._core import Answer, Flow, Request, Session
from quorumvault._wire import Deleted, RecordSeen, decode_answer
from quorumvault.errors import Conflict

if TYPE_CHECKING:
    from quorumvault._wire import Receipt


@dataclass(frozen=True, slots=True)
class RecordStatus:
    """What the vault keeps for the account.

    Attributes:
        state: none, active, exhausted (all guesses used, grace running) or locked.
        registration_id: 32 bytes of the active registration.
        pending: 32 bytes of a registration that was never activated.
        era: what a delete refers to.
        guesses_remaining: 0 when exhausted or locked; None when there is nothing to guess.
        limit: guesses between two proofs.
        receipt: where the vault was in its history.
        mine: the active registration is the last one that was made with this state file, even
            if the program was killed before it heard so.

    """

    state: Literal["none", "active", "exhausted", "locked"]
    registration_id: bytes | None
    pending: bytes | None
    era: int
    guesses_remaining: int | None
    limit: int
    receipt: Receipt
    mine: bool = False


def status(session: Session) -> Flow[RecordStatus]:
    """GET /v1/record at the nearest node; linearizable, charges nothing."""
    yield from meet(session, 1)

    def read(answer: Answer) -> RecordSeen:
        return decode_answer(RecordSeen, answer.body, session.who(answer.place))

    seen = (yield from ask(session, Request("GET", "/v1/record"), read)).value
    return RecordStatus(
        state=seen.state,
        registration_id=None if seen.registration_id is None else bytes(seen.registration_id),
        pending=None if seen.pending is None else bytes(seen.pending.registration_id),
        era=seen.era,
        guesses_remaining=seen.guesses_remaining,
        limit=seen.limit,
        receipt=seen.receipt,
        mine=seen.registration_id is not None and seen.registration_id == session.memory.registered,
    )


def delete(session: Session, only: bytes | None = None) -> Flow[None]:
    """Erase the record as it is now; the era of a fresh look makes the call repeatable.

    Args:
        session: whose record.
        only: the registration that must be the active one; None for whatever there is.

    Raises:
        Conflict: the record changed meanwhile, or is not that registration; look again.

    """
    now = yield from status(session)
    if only is not None and now.registration_id != only:
        raise Conflict("the vault keeps another registration than the one to delete; look again")

    def read(answer: Answer) -> Deleted:
        return decode_answer(Deleted, answer.body, session.who(answer.place))

    yield from ask(session, Request("DELETE", f"/v1/record?era={now.era}"), read)
    yield from session.remember(registration=None, attempt=None, unconfirmed=None, registered=None)
