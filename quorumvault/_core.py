"""The client's judgement without I/O: whom to ask, what to believe, when to ask again.

A flow is a generator that yields effects (send, compute, save, pause) and receives their results;
`_transport` performs them. So every rule here is tested without a socket or a clock, and the sync
and async clients are one. The rules kept: I5 and I12 on the client's side (only the same bytes are
ever repeated, all sends of an attempt are combined), and receipts that never go back.

A single node is not believed when it says that the key is gone: such a refusal is final when a
node of a second data center says the same, or when nobody else can be asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import msgspec

from quorumvault._wire import (
    KSF,
    SUITE,
    Hello,
    Id,
    Problem,
    Receipt,
    decode_answer,
    decode_problem,
)
from quorumvault.errors import (
    Charged,
    Conflict,
    Denied,
    Exhausted,
    Locked,
    NotRegistered,
    Refused,
    RollbackDetected,
    StateFileError,
    Superseded,
    Tampered,
    Unavailable,
    UnavailableReason,
    VaultError,
    heavier,
)

if TYPE_CHECKING:
    from uuid import UUID

    from quorumvault._state import State

THRESHOLD_SEATS: Final = 3
"""A registration starts, and is compared, at three data centers: one honest one exposes two."""

HELLO_PATIENCE_S: Final = 5.0
CALL_PATIENCE_S: Final = 12.0
"""A node waits up to 8 s for shares; a slow link may add some."""

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 3.0
MAX_DETAIL_CHARS: Final = 300

# ---------------------------------------------------------------- effects and their results


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP call, the same at whatever node.

    Attributes:
        charges: an answer may have counted a guess.
        patience_s: how long to wait for the answer,
        part: and for how much of the time that is left to the whole call.

    """

    method: str
    path: str
    body: bytes | None = field(default=None, repr=False)
    token: bool = True
    charges: bool = False
    patience_s: float = CALL_PATIENCE_S
    part: float = 1.0


@dataclass(frozen=True, slots=True)
class Send:
    """A request to one place (an index into the endpoint list)."""

    place: int
    request: Request


@dataclass(frozen=True, slots=True)
class Gather:
    """Send all at once; result: list[Reply] in order of arrival.

    The rest is cancelled when `enough` answers with status 200 are there.
    """

    sends: tuple[Send, ...]
    enough: int


@dataclass(frozen=True, slots=True)
class Compute:
    """Run something heavy off the event loop; result: what it returns. Its repr shows nothing."""

    run: Callable[[], object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Compute and ask at the same time; result: (what was computed, list[Reply])."""

    compute: Compute
    gather: Gather


@dataclass(frozen=True, slots=True)
class Save:
    """Make the state durable before going on; result: None."""

    state: State = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait at least so long, with jitter; result: the time now (s), or None past the deadline."""

    seconds: float


Effect = Gather | Compute | Meanwhile | Save | Pause


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer from the node that the certificate names."""

    place: int
    node: int
    cluster_id: UUID
    status: int
    body: bytes = field(repr=False)
    retry_after: float | None
    now: float


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer.

    Attributes:
        sent: the request may have reached the node.
        timeout: time was up, as opposed to a connection refused or lost.
        foreign: the certificate is not that of the expected node; asking again cannot help.

    """

    place: int
    detail: str
    now: float
    sent: bool = False
    timeout: bool = False
    foreign: bool = False


Reply = Answer | Silence

T = TypeVar("T")
Flow = Generator[Effect, Any, T]


def compute(run: Callable[[], T]) -> Flow[T]:
    """Run off the event loop."""
    result: T = yield Compute(run)
    return result


# ---------------------------------------------------------------- what is known of the vault


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node listens for clients; node and seat, when known beforehand, are pinned."""

    url: str
    node: int | None = None
    seat: int | None = None
    dc: str | None = None


@dataclass(slots=True)
class Place:
    """One endpoint and what this client has learned of it."""

    endpoint: Endpoint
    hello: Hello | None = None
    seat: int | None = None
    not_before: float = 0.0
    trouble: str = ""
    distrusted: bool = False
    foreign: bool = False


class HasReceipt(Protocol):
    """An answer that places itself in the vault's history."""

    @property
    def receipt(self) -> Receipt: ...


@dataclass(frozen=True, slots=True)
class Told(Generic[T]):
    """A checked answer and who gave it."""

    value: T
    place: int
    node: int
    seat: int | None


def apart(one: Told[Any], other: Told[Any]) -> bool:
    """Two nodes by certificate, in two data centers as far as is known."""
    if one.seat is None or other.seat is None:
        return False
    return one.node != other.node and one.seat != other.seat


_REASON_WEIGHT: Final[dict[UnavailableReason, int]] = {
    "timeout": 0,
    "unreachable": 1,
    "busy": 2,
    "draining": 3,
    "ledger-full": 4,
    "hsm-unavailable": 5,
    "no-quorum": 6,
}
_REASON_OF_CODE: Final[dict[str, UnavailableReason]] = {
    "busy": "busy",
    "draining": "draining",
    "ledger-full": "ledger-full",
    "hsm-unavailable": "hsm-unavailable",
    "no-quorum": "no-quorum",
}
_ERROR_OF_CODE: Final[dict[str, type[VaultError]]] = {
    "token": Denied,
    "forbidden": Denied,
    "proof-rejected": Tampered,
    "not-registered": NotRegistered,
    "stale": Conflict,
    "conflict": Conflict,
    "superseded": Superseded,
    "exhausted": Exhausted,
    "locked": Locked,
}
SURE: Final = frozenset({"token", "forbidden", "malformed", "too-large"})
"""Refusals about the call itself: believed from one node."""

_NEXT_STEP: Final[dict[type[VaultError], str]] = {
    Denied: "get a fresh token with the scope of this call",
    NotRegistered: "register first",
    Conflict: "look at the record's status and begin the call anew",
    Superseded: "type the password again",
    Exhausted: "the key is gone for ever unless an attempt counted before is proven in time",
    Locked: "the old key is gone for ever; register a new one",
    Tampered: "do not rely on this vault until its operator explains it",
    Refused: "update quorumvault, or check the endpoint",
}


_ANOTHER_ACCOUNT: Final = "the file belongs to another account; use one state file for each account"


class Session:
    """What one client knows: places, memory (the state file), and the outcome of this call."""

    def __init__(
        self,
        endpoints: tuple[Endpoint, ...],
        memory: State,
        *,
        hazmat_identity_ksf: bool = False,
    ) -> None:
        self.places = [Place(endpoint, seat=endpoint.seat) for endpoint in endpoints]
        self.order = list(range(len(endpoints)))
        self.hazmat_identity_ksf = hazmat_identity_ksf
        self.memory = memory
        self.saved = memory
        self.now = 0.0
        self.charged: Charged = "no"
        self._reason: UnavailableReason | None = None

    def begin(self, memory: State) -> None:
        """Start a call with the state as it is on disk now."""
        self.memory = self.saved = memory
        self.charged = "no"
        self._reason = None
        for place in self.places:
            place.distrusted, place.trouble = False, ""

    def who(self, place: int) -> str:
        """How an error names a node."""
        hello, url = self.places[place].hello, self.places[place].endpoint.url
        return url if hello is None else f"node {hello.node} ({url})"

    def remember(self, **changes: object) -> Flow[None]:
        """Change the memory, durably."""
        self.memory = msgspec.structs.replace(self.memory, **changes)
        yield Save(self.memory)
        self.saved = self.memory

    @property
    def opaque_public_key(self) -> Id:
        """The pinned key, or the one that every node met so far agrees on."""
        if self.memory.pins.opaque_public_key is not None:
            return self.memory.pins.opaque_public_key
        return self.any_hello().opaque_public_key

    @property
    def cluster_id(self) -> UUID:
        """The pinned id, or the one that every node met so far agrees on."""
        return self.memory.pins.cluster_id or self.any_hello().cluster_id

    def any_hello(self) -> Hello:
        """Of any node; `meet` has made sure of one."""
        return next(place.hello for place in self.places if place.hello is not None)

    def pin(self, record_id: Id, who: str) -> None:
        """Fix cluster, OPAQUE key and record once an answer is proven right.

        Raises:
            Tampered: another record than the state file's.

        """
        pins = self.memory.pins
        self.check_record(record_id, who)
        self.memory = msgspec.structs.replace(
            self.memory,
            pins=msgspec.structs.replace(
                pins,
                cluster_id=self.cluster_id,
                opaque_public_key=self.opaque_public_key,
                record_id=record_id,
            ),
        )

    def check_record(self, record_id: Id, who: str) -> None:
        """An account's record never changes its id."""
        known = self.memory.pins.record_id
        if known is not None and known != record_id:
            raise Tampered(
                f"{who} answered for another record than this state file's: {_ANOTHER_ACCOUNT}"
            )

    # ------------------------------------------------------------ hearing

    def greet(self, answer: Answer) -> None:
        """Take in a node's GET /v1/vault, or distrust the place."""
        place = self.places[answer.place]
        hello = decode_answer(Hello, answer.body, self.who(answer.place))
        seat = next((row.seat for row in hello.nodes if row.id == answer.node), None)
        pinned_seat = place.endpoint.seat
        if (hello.suite, hello.ksf) != (SUITE, KSF):
            raise Refused(
                f"{self.who(answer.place)} uses {hello.suite[:60]!r} with {hello.ksf[:60]!r};"
                f" this client knows {SUITE!r} with {KSF!r}: update quorumvault"
            )
        if hello.node != answer.node or hello.cluster_id != answer.cluster_id or seat is None:
            place.trouble = "what it says of itself contradicts its certificate"
        elif pinned_seat is not None and pinned_seat != seat:
            place.trouble = f"it says that it is seat {seat}, but it was given as {pinned_seat}"
        elif any(p.hello and p.hello.node == hello.node and p.seat != seat for p in self.places):
            place.trouble = f"it says that it is seat {seat}, and another seat elsewhere"
        else:
            self._agree(hello, answer.place)
            place.hello, place.seat, place.trouble = hello, seat, ""
            return
        place.distrusted = True

    def _agree(self, hello: Hello, place: int) -> None:
        pins = self.memory.pins
        known = next((p.hello for p in self.places if p.hello is not None), None)
        clusters = {pins.cluster_id, known.cluster_id if known else None} - {None}
        keys = {pins.opaque_public_key, known.opaque_public_key if known else None} - {None}
        if clusters - {hello.cluster_id}:
            raise Tampered(
                f"{self.who(place)} is of cluster {hello.cluster_id}, not the pinned one;"
                " check the endpoint list and the state file"
            )
        if keys - {hello.opaque_public_key}:
            raise Tampered(
                f"{self.who(place)} shows another OPAQUE public key than the pinned or the other"
                " nodes' one; do not type a password until the operator explains it"
            )

    def hear(self, reply: Reply, request: Request) -> Problem | None:
        """Note who answered what: charge, trouble, Retry-After. A refusal is returned."""
        self.now = max(self.now, reply.now)
        place = self.places[reply.place]
        if isinstance(reply, Silence):
            place.trouble = reply.detail
            place.distrusted = place.distrusted or reply.foreign
            place.foreign = reply.foreign
            self._count("unknown" if request.charges and reply.sent else "no")
            self._blame("timeout" if reply.timeout else "unreachable")
            self.last(reply.place)
            return None
        if reply.status == 200:
            self._count("yes" if request.charges else "no")
            place.trouble = ""
            return None
        problem = decode_problem(reply.body)
        self._count(problem.charged if request.charges else "no")
        code = printable(problem.code) or f"HTTP {reply.status}"
        place.trouble = f"{code}: {printable(problem.detail)}"
        if is_temporary(reply.status):
            place.not_before = reply.now + (reply.retry_after or 0.0)
            self._blame(_REASON_OF_CODE.get(problem.code, "unreachable"))
            self.last(reply.place)
        return problem

    def _count(self, charged: Charged) -> None:
        self.charged = heavier(self.charged, charged)

    def _blame(self, reason: UnavailableReason) -> None:
        if self._reason is None or _REASON_WEIGHT[reason] > _REASON_WEIGHT[self._reason]:
            self._reason = reason

    def last(self, place: int) -> None:
        """Ask this place after all the others from now on."""
        self.order.remove(place)
        self.order.append(place)

    def seat_of(self, place: int, node: int) -> int | None:
        """The node's seat as its own table, or else anybody's, tells."""
        if self.places[place].seat is not None:
            return self.places[place].seat
        return next((row.seat for row in self.any_hello().nodes if row.id == node), None)

    def check_receipt(self, new: Receipt, floor: Receipt | None, who: str) -> None:
        """Compare with the last receipt that was known when the request went out; keep the newest.

        Raises:
            RollbackDetected: index, version or restore epoch went back.
            Tampered: another cluster, or another shard: the state file may be another account's.

        """
        if new.cluster_id != self.cluster_id:
            raise Tampered(f"{who} gave a receipt of another cluster than its own")
        if floor is not None and new.shard != floor.shard:  # an account's record never moves
            raise Tampered(
                f"{who} answered from shard {new.shard}, but the account of this state file is in"
                f" shard {floor.shard}: {_ANOTHER_ACCOUNT}; if this file is of this account, do"
                " not rely on the vault until its operator explains it"
            )
        for name in ("restore_epoch", "index", "version"):
            if floor is not None and getattr(new, name) < getattr(floor, name):
                # The version counts for one record, the others for all of the shard.
                other = f" (or: {_ANOTHER_ACCOUNT})" if name == "version" else ""
                raise RollbackDetected(
                    f"{who} shows {name} {getattr(new, name)} after {getattr(floor, name)} was"
                    f" seen: the vault went back in time; tell its operator before going on{other}"
                )
        last = self.memory.receipt
        if last is None or (new.restore_epoch, new.index) > (last.restore_epoch, last.index):
            self.memory = msgspec.structs.replace(self.memory, receipt=new)

    # ------------------------------------------------------------ saying

    def unavailable(self) -> Unavailable:
        """The deadline has passed: say what each place did."""
        reason: UnavailableReason = self._reason or "timeout"
        waits = [p.not_before - self.now for p in self.places if p.not_before > self.now]
        troubles = "; ".join(
            f"{self.who(index)}: {place.trouble}"
            for index, place in enumerate(self.places)
            if place.trouble
        )
        return Unavailable(
            f"the vault could not answer in time ({reason}). {troubles or 'No node was asked'}."
            " Try again; the same attempt is repeated, not counted twice",
            reason=reason,
            charged=self.charged,
            retry_after=min(waits) if waits else None,
        )

    def refusal(self, problem: Problem, status: int, place: int) -> VaultError:
        """The typed error for a refusal that is final."""
        kind = _ERROR_OF_CODE.get(problem.code)
        if kind is None:
            kind = Denied if status in {401, 403} else Refused
        detail = printable(problem.detail) or f"HTTP {status}"
        step = _NEXT_STEP[kind]
        told = "" if step in detail else f". Next: {step}"  # the node may have said it already
        return kind(
            f"{self.who(place)} refused ({printable(problem.code) or status}): {detail}{told}",
            charged=self.charged,
        )


def is_temporary(status: int) -> bool:
    """Worth asking again: busy, unavailable, or a proxy's trouble."""
    return status == 429 or status >= 500


def printable(text: str) -> str:
    """A node's words, safe for a terminal and short."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in text)
    return clean[:MAX_DETAIL_CHARS]


def waits() -> Iterator[float]:
    """Seconds between two rounds; the driver adds jitter."""
    wait = FIRST_WAIT_S
    while True:
        yield wait
        wait = min(wait * 2, LONGEST_WAIT_S)


def random_key() -> bytes:
    """32 random bytes: a backup key or the seed of a proof key."""
    return os.urandom(32)


def pause(session: Session, seconds: float) -> Flow[None]:
    """Wait before another round.

    Raises:
        Unavailable: the deadline does not allow it.

    """
    ready = min((p.not_before for p in session.places if not p.distrusted), default=0.0)
    now: float | None = yield Pause(max(seconds, ready - session.now))
    if now is None:
        raise session.unavailable()
    session.now = max(session.now, now)


def concluded(session: Session, flow: Flow[T]) -> Flow[T]:
    """A whole call: keep the last receipt, combine the charge of all its sends into its error."""
    try:
        result = yield from flow
    except StateFileError as error:  # the disk refuses: no second try
        error.charged = heavier(error.charged, session.charged)
        raise
    except VaultError as error:
        error.charged = heavier(error.charged, session.charged)
        if session.memory != session.saved:
            yield Save(session.memory)
        raise
    if session.memory != session.saved:
        yield Save(session.memory)
    return result
