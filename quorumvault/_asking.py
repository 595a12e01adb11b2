"""Ways of asking the vault: get acquainted, ask any node, ask three data centers.

Flows over `_core`'s session: they decide whom to ask next and which refusal to believe, and send
only requests that may be repeated at any node (I5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from quorumvault._core import (
    HELLO_PATIENCE_S,
    SURE,
    Answer,
    Flow,
    Gather,
    HasReceipt,
    Reply,
    Request,
    Send,
    Session,
    Told,
    apart,
    is_temporary,
    pause,
    waits,
)
from quorumvault.errors import Refused, Tampered, VaultError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

HELLO: Final = Request("GET", "/v1/vault", token=False, patience_s=HELLO_PATIENCE_S)

_GRAVE: Final = ("stale", "conflict", "superseded", "exhausted", "not-registered", "locked")
"""Refusals from the mildest to the gravest."""

T = TypeVar("T")
R = TypeVar("R", bound=HasReceipt)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Final if it is true; one node alone may lie."""

    code: str
    error: VaultError


def meet(session: Session, seats: int) -> Flow[None]:
    """Get to know nodes in at least `seats` data centers, each by its certificate.

    Raises:
        Refused: the endpoint list can never give so many.
        Tampered: a node contradicts its certificate, a pin or the others.
        Unavailable: too few answered before the deadline.

    """
    if len(session.places) < seats:
        raise Refused(
            f"this call needs endpoints in {seats} data centers, the list has"
            f" {len(session.places)}: add endpoints of other data centers"
        )
    for wait in waits():
        if len(seats_met(session)) >= seats:
            return
        progress = yield from _greet_more(session, seats)
        if len(seats_met(session)) >= seats:
            continue
        if not progress:
            yield from pause(session, wait)


def seats_met(session: Session) -> set[int]:
    """The distinct seats of the nodes known by certificate and their own word."""
    return {p.seat for p in session.places if p.hello is not None and p.seat is not None}


def _greet_more(session: Session, seats: int) -> Flow[bool]:
    """One round of greetings to unknown places; True when somebody new is known."""
    strangers = [i for i in session.order if _is_stranger(session, i)]
    if not strangers:
        liars = [i for i, place in enumerate(session.places) if place.distrusted]
        if any(session.places[i].foreign for i in liars):
            raise session.unavailable()
        if liars:
            raise Tampered(
                f"{session.who(liars[0])}: {session.places[liars[0]].trouble}; check the endpoint"
                " list, and ask the vault's operator"
            )
        raise Refused(
            f"the endpoints lead to {len(seats_met(session))} data centers, this call needs"
            f" {seats}: add endpoints of other data centers"
        )
    enough = max(1, seats - len(seats_met(session)))
    replies: list[Reply] = yield Gather(tuple(Send(i, HELLO) for i in strangers), enough)
    before = len(seats_met(session))
    nearest: list[int] = []
    for reply in replies:
        problem = session.hear(reply, HELLO)
        if isinstance(reply, Answer) and problem is None:
            session.greet(reply)
            nearest.append(reply.place)
        elif problem is not None and isinstance(reply, Answer) and not is_temporary(reply.status):
            session.places[reply.place].distrusted = True
    # Who answered first is nearest: ask there first.
    session.order = nearest + [i for i in session.order if i not in nearest]
    return len(seats_met(session)) > before


def _is_stranger(session: Session, place: int) -> bool:
    known = session.places[place]
    return known.hello is None and not known.distrusted


def ask(
    session: Session,
    request: Request,
    read: Callable[[Answer], R],
    *,
    avoid: Collection[int] = (),
    prefer: Collection[int] = (),
    sure: frozenset[str] = frozenset(),
) -> Flow[Told[R]]:
    """Ask node after node, the nearest first, until one answers.

    Args:
        session: whose places are asked.
        request: what to send, the same to each.
        read: decodes and checks a success; raises Tampered.
        avoid: places not to ask, unless there are no others at all.
        prefer: places to ask before the others in each round.
        sure: codes of refusals that are believed from one node, beside those about the call.

    Raises:
        VaultError: a refusal that two data centers gave; or, after a round in which no two
            agreed, the mildest one.
        Unavailable: nobody answered before the deadline.

    """
    doubted: list[Told[_Refusal]] = []
    for wait in waits():
        # sorted() is stable: among equals the nearest stays first.
        for place in sorted(_askable(session, avoid), key=lambda i: i not in prefer):
            floor = session.memory.receipt
            replies: list[Reply] = yield Gather((Send(place, request),), 1)
            reply = replies[0]
            problem = session.hear(reply, request)
            if not isinstance(reply, Answer):
                continue
            if problem is None:
                value = read(reply)
                session.check_receipt(value.receipt, floor, session.who(place))
                return Told(value, place, reply.node, session.seat_of(place, reply.node))
            if is_temporary(reply.status):
                continue
            error = session.refusal(problem, reply.status, place)
            if problem.code in SURE | sure:
                raise error
            refusal = _Refusal(problem.code, error)
            one = Told(refusal, place, reply.node, session.seat_of(place, reply.node))
            if any(other.value.code == problem.code and apart(other, one) for other in doubted):
                raise error
            doubted.append(one)
        # A round is over: the refusal that nobody contradicted, or the mildest, stands.
        if doubted:
            raise min(doubted, key=lambda one: _harm(one.value.code)).value.error
        yield from pause(session, wait)
    raise AssertionError("waits() never ends")  # pragma: no cover


def _harm(code: str) -> int:
    """How much someone gives up who believes this refusal."""
    return _GRAVE.index(code) + 1 if code in _GRAVE else 0


def _askable(session: Session, avoid: Collection[int]) -> list[int]:
    """Places for one round: not distrusted, their Retry-After over."""
    trusted = [i for i in session.order if not session.places[i].distrusted]
    # When nobody else is configured, the one to avoid has to answer for itself.
    wanted = [i for i in trusted if i not in avoid] or trusted
    return [i for i in wanted if session.places[i].not_before <= session.now]


def ask_seats(
    session: Session,
    request: Request,
    read: Callable[[Answer], T],
    *,
    seats: int,
    rounds: int | None = None,
) -> Flow[list[Told[T]]]:
    """Ask nodes in `seats` different data centers at once; others step in for the silent ones.

    Args:
        session: whose places are asked.
        request: what to send, the same to each.
        read: decodes and checks a success; raises Tampered.
        seats: how many data centers shall answer.
        rounds: give up after so many with what there is; None: only the deadline ends it.

    Raises:
        VaultError: a node refused for good.
        Tampered: the nodes disagree on who sits where.
        Unavailable: fewer answered before the deadline (only without `rounds`).

    """
    told: dict[int, Told[T]] = {}
    for number, wait in enumerate(waits(), start=1):
        yield from meet(session, 1)
        tried: set[int] = set()
        while len(told) < seats:
            chosen = _one_per_seat(session, {*told}, tried, seats - len(told))
            if not chosen:
                break
            tried.update(chosen)
            for one in (yield from _ask_these(session, request, read, chosen)):
                if all(apart(one, other) for other in told.values()) and one.seat is not None:
                    told[one.seat] = one
        if len(told) >= seats or number == rounds:
            _same_table(session, list(told.values()))
            return list(told.values())
        if any(_is_stranger(session, i) for i in session.order):
            yield from _greet_more(session, len(session.places))
        yield from pause(session, wait)
    raise AssertionError("waits() never ends")  # pragma: no cover


def _ask_these(
    session: Session, request: Request, read: Callable[[Answer], T], places: list[int]
) -> Flow[list[Told[T]]]:
    """All at once; the checked successes. Raises a refusal that asking again cannot change."""
    floor = session.memory.receipt
    replies: list[Reply] = yield Gather(tuple(Send(i, request) for i in places), len(places))
    told: list[Told[T]] = []
    for reply in replies:
        problem = session.hear(reply, request)
        if not isinstance(reply, Answer):
            continue
        if problem is None:
            value = read(reply)
            receipt = getattr(value, "receipt", None)
            if receipt is not None:
                session.check_receipt(receipt, floor, session.who(reply.place))
            told.append(Told(value, reply.place, reply.node, session.places[reply.place].seat))
        elif not is_temporary(reply.status):
            raise session.refusal(problem, reply.status, reply.place)
    return told


def _one_per_seat(
    session: Session, have: Collection[int], tried: Collection[int], count: int
) -> list[int]:
    """The nearest untried known place of each seat that has not answered."""
    chosen: dict[int, int] = {}
    for index in session.order:
        place = session.places[index]
        ready = place.hello is not None and place.not_before <= session.now
        if ready and index not in tried and place.seat is not None:
            taken = place.seat in chosen or place.seat in have
            if not taken and len(chosen) < count:
                chosen[place.seat] = index
    return list(chosen.values())


def _same_table(session: Session, told: list[Told[T]]) -> None:
    """The nodes asked must agree with one another on who sits where.

    Raises:
        Tampered: two of their tables differ about one of them.

    """
    expected = {one.node: one.seat for one in told}
    for one in told:
        hello = session.places[one.place].hello
        rows = {} if hello is None else {row.id: row.seat for row in hello.nodes}
        if any(rows.get(node) != seat for node, seat in expected.items()):
            raise Tampered(
                f"{session.who(one.place)} disagrees with the others on which node sits in which"
                " data center; what they say was not believed"
            )
