"""A second data center's word on the era, before a proof is signed for it.

KE2 authenticates the record but not the era: an owned node could name a later one, keep the proof
and use it to empty the list in that era (I6). So another data center is asked for the record, which
charges nothing, while Argon2 computes. It is asked for a short part of the deadline only: whoever
reaches a single data center must still get their key, and then signs on its word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from quorumvault._core import (
    Answer,
    Compute,
    Flow,
    Gather,
    Meanwhile,
    Reply,
    Request,
    Send,
    Session,
    Told,
    apart,
    compute,
)
from quorumvault._wire import Attempted, RecordSeen, decode_answer
from quorumvault.errors import Superseded, Tampered

if TYPE_CHECKING:
    from collections.abc import Callable

    from quorumvault._wire import Receipt

PATIENCE_S: Final = 2.0
"""TLS and a linearizable read over 300 ms of round trip take 1.5 s."""

PART: Final = 0.2
ROUNDS: Final = 4
"""Greet, ask the nearest; greet the others, ask them: at most 8 s, and 60 % of the deadline."""

LOOK: Final = Request("GET", "/v1/record", patience_s=PATIENCE_S, part=PART)
GREETING: Final = Request("GET", "/v1/vault", token=False, patience_s=PATIENCE_S, part=PART)

T = TypeVar("T")
Witness = Told[RecordSeen]


@dataclass(frozen=True, slots=True)
class _Question:
    request: Request
    places: list[int]


def look_meanwhile(
    session: Session, told: Told[Attempted], run: Callable[[], T | None]
) -> Flow[tuple[T | None, Witness | None]]:
    """Compute, and ask a node of another data center for the record at the same time.

    Where nothing comes of the computation, nobody else is asked. None of the refusals counts: who
    refuses says nothing of the era.

    Raises:
        Tampered, RollbackDetected: an answer contradicts itself, a pin or a receipt.

    """
    tried: set[int] = set()
    question = _next_question(session, told, tried)
    if question is None:
        return (yield from compute(run)), None
    floor = session.memory.receipt
    both: tuple[T | None, list[Reply]]
    both = yield Meanwhile(Compute(run), _sends(question))
    computed, replies = both
    witness = _hear(session, told, question, replies, floor, tried)
    if computed is None:
        return None, None
    for _ in range(ROUNDS - 1):
        question = _next_question(session, told, tried) if witness is None else None
        if question is None:
            break
        replies = yield _sends(question)
        witness = _hear(session, told, question, replies, floor, tried)
    return computed, witness


def check_era(session: Session, told: Told[Attempted], witness: Witness | None) -> None:
    """Sign for this era? Without a witness, yes: this client reaches no other data center.

    Raises:
        Tampered: the other data center knows no such era, or another registration in it.
        Superseded: the other data center is in a later era.

    """
    if witness is None:
        return
    tried, seen = told.value, witness.value
    if seen.era > tried.era:
        raise Superseded(
            f"{session.who(witness.place)} has seen a later proof or registration than"
            f" {session.who(told.place)}. Next: type the password again",
            charged="yes",
        )
    if seen.era < tried.era or seen.registration_id != tried.registration_id:
        # One of the two lies, and nothing tells which: ask others first from now on.
        session.last(told.place)
        session.last(witness.place)
        raise Tampered(
            f"{session.who(told.place)} and {session.who(witness.place)} disagree on the era or"
            " the registration of this record; no proof was signed. Try again through other"
            " endpoints, and tell the vault's operator",
            charged="yes",
        )


def vouched(session: Session, told: Told[Attempted], witness: Witness | None) -> bool:
    """The seat of the answering node is pinned, or the witness knows it, too."""
    endpoint = session.places[told.place].endpoint
    if endpoint.node == told.node and endpoint.seat == told.seat is not None:
        return True
    hello = None if witness is None else session.places[witness.place].hello
    return hello is not None and any(
        (row.id, row.seat) == (told.node, told.seat) for row in hello.nodes
    )


def _next_question(session: Session, told: Told[Attempted], tried: set[int]) -> _Question | None:
    """The nearest known node of another data center, then all of them, else the unknown ones."""
    ready = [
        i
        for i in session.order
        if i != told.place
        and not session.places[i].distrusted
        and session.places[i].not_before <= session.now
    ]
    known = [i for i in ready if i not in tried and _is_elsewhere(session, told, i)]
    if known:
        chosen = known if tried else known[:1]
        tried.update(chosen)
        return _Question(LOOK, chosen)
    strangers = [i for i in ready if i not in tried and not _is_known(session, i)]
    return _Question(GREETING, strangers) if strangers else None


def _is_known(session: Session, place: int) -> bool:
    """By its own word and certificate, or pinned."""
    endpoint = session.places[place].endpoint
    pinned = endpoint.node is not None and endpoint.seat is not None
    return pinned or session.places[place].hello is not None


def _is_elsewhere(session: Session, told: Told[Attempted], place: int) -> bool:
    known = session.places[place]
    node = known.endpoint.node if known.hello is None else known.hello.node
    return _is_known(session, place) and node != told.node and known.seat != told.seat


def _sends(question: _Question) -> Gather:
    return Gather(tuple(Send(i, question.request) for i in question.places), 1)


def _hear(
    session: Session,
    told: Told[Attempted],
    question: _Question,
    replies: list[Reply],
    floor: Receipt | None,
    tried: set[int],
) -> Witness | None:
    witness: Witness | None = None
    for reply in replies:
        problem = session.hear(reply, question.request)
        if not isinstance(reply, Answer) or problem is not None:
            tried.add(reply.place)
            continue
        if question.request is GREETING:
            session.greet(reply)
            continue
        who = session.who(reply.place)
        seen = decode_answer(RecordSeen, reply.body, who)
        session.check_receipt(seen.receipt, floor, who)
        one = Told(seen, reply.place, reply.node, session.places[reply.place].seat)
        if apart(one, told):
            witness = one
    return witness
