"""Registering a backup key, so that a kill at any moment loses nothing and repeats nothing new.

The order (crypto.md, design section 8): backup key, proof key pair, OPAQUE start, the start at
three data centers, finish, boxes, state file, PUT, content compared at three data centers,
activation, content compared again, state dropped. Until the state file is written, nothing that
the vault keeps was sent: a kill before it costs nothing. After it, only the stored bytes are ever
sent again; a password is never registered twice by itself, for each new registration would be ten
more guesses for a hostile relay (I6).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from engines._engines import (
    ed25519_public_key,
    ed25519_sign,
    opaque_registration_finish,
    opaque_registration_start,
)
from engines.encoding import b64u_encode
from engines.identifiers import activation_message, content, registration_id
from quorumvault import _boxes
from quorumvault._asking import ask, ask_seats, meet, seats_met
from quorumvault._core import (
    THRESHOLD_SEATS,
    Answer,
    Flow,
    Request,
    Session,
    Told,
    compute,
    random_key,
)
from quorumvault._state import OpenRegistration, Unconfirmed
from quorumvault._wire import Id, Octets, RecordSeen, Started, Stored, body, decode_answer
from quorumvault.errors import Conflict, Superseded, Tampered, Unavailable, Unfinished

if TYPE_CHECKING:
    from collections.abc import Callable

COMPARE_ROUNDS: Final = 3
"""How often a silent data center is asked for the content before it counts as unconfirmed."""

MIN_COMPARED_SEATS: Final = 2
"""Without at least one other data center's word the old key is not given up."""


@dataclass(frozen=True, slots=True)
class Registered:
    """An active registration.

    Attributes:
        registration_id: 32 bytes.
        backup_key: the key that the vault keeps now; None when an interrupted registration was
            resumed: then only `recover` can show it.
        confirmed: True when three data centers keep exactly what this client sealed and four or
            more took part in its start.
        doubts: why it is not confirmed, one sentence each. Recover once through other data
            centers to confirm it.

    """

    registration_id: bytes
    backup_key: bytes | None = field(repr=False)
    confirmed: bool
    doubts: tuple[str, ...]


def register(session: Session, password: bytes, backup_key: bytes) -> Flow[Registered]:
    """Register `backup_key` under `password`; replaces the active registration, if there is one.

    Raises:
        Unfinished: an earlier registration was interrupted; resume or abandon it first.
        VaultError: see errors.py; nothing that was active is touched before activation.

    """
    if session.memory.registration is not None:
        raise Unfinished(
            "the state file holds an interrupted registration: resume it (its key is then active;"
            " recover shows it) or abandon it"
        )
    yield from meet(session, THRESHOLD_SEATS)
    seed = random_key()
    proof_key = ed25519_public_key(seed)
    client_state, request = opaque_registration_start(password)
    starts = yield from _start(session, request, proof_key)
    start = starts[0].value

    def finish() -> tuple[bytes, bytes, bytes]:
        return opaque_registration_finish(
            client_state,
            password,
            start.response,
            hazmat_identity_ksf=session.hazmat_identity_ksf,
        )

    try:
        record, export_key, server_key = yield from compute(finish)
    except ValueError as error:
        raise Tampered("the vault's registration response is no group element") from error
    if server_key != session.opaque_public_key:
        raise Tampered("the registration came with another OPAQUE public key than the pinned one")
    who = session.who(starts[0].place)
    session.pin(start.record_id, who)
    proof_box = _boxes.seal_proof_seed(export_key, start.registration_id, seed)
    wrapped_key = _boxes.seal_backup_key(export_key, start.registration_id, backup_key)
    signature = ed25519_sign(seed, activation_message(session.cluster_id, start.registration_id))
    fields = {
        "request": request,
        "proof_key": proof_key,
        "era": start.era,
        "record": record,
        "proof_box": proof_box,
        "wrapped_key": wrapped_key,
    }
    yield from session.remember(
        registration=OpenRegistration(
            registration_id=start.registration_id,
            content=Id(content(start.registration_id, record, proof_box, wrapped_key)),
            put_body=Octets(body(fields)),
            activation_body=Octets(body({"signature": signature})),
            seats=tuple(sorted(told.seat for told in starts if told.seat is not None)),
            verified=all(told.value.verified for told in starts),
        )
    )
    return (yield from _finish(session, backup_key))


def resume(session: Session) -> Flow[Registered | None]:
    """Finish the registration that the state file holds; None when there is none."""
    if session.memory.registration is None:
        return None
    yield from meet(session, THRESHOLD_SEATS)
    return (yield from _finish(session, None))


def abandon(session: Session) -> Flow[bool]:
    """Forget an interrupted registration; True when there was one.

    What the vault may have of it stays pending and can be activated by nobody else.
    """
    if session.memory.registration is None:
        return False
    yield from session.remember(registration=None)
    return True


def _start(session: Session, request: bytes, proof_key: bytes) -> Flow[list[Told[Started]]]:
    """Three data centers must give the same answer; once more if only the era differs."""
    call = Request("POST", "/v1/registrations", body({"request": request, "proof_key": proof_key}))

    def read(answer: Answer) -> Started:
        who = session.who(answer.place)
        start = decode_answer(Started, answer.body, who)
        session.check_record(start.record_id, who)
        if start.registration_id != registration_id(start.record_id, start.era, request, proof_key):
            raise Tampered(f"{who} gave a registration id that does not recompute")
        if start.response[32:] != session.opaque_public_key:
            raise Tampered(f"{who} put another OPAQUE public key into its answer")
        return start

    for _ in range(2):
        starts = yield from ask_seats(session, call, read, seats=THRESHOLD_SEATS)
        first = starts[0].value
        if any(told.value.record_id != first.record_id for told in starts):
            raise Tampered("three data centers name different records for this account")
        if all(told.value.era == first.era for told in starts):
            if any(told.value.response != first.response for told in starts):
                raise Tampered(
                    "three data centers evaluated the same registration differently; nothing was"
                    " registered"
                )
            return starts
    raise Conflict("the record kept changing while the registration started; try again")


def _finish(session: Session, backup_key: bytes | None) -> Flow[Registered]:
    """From the state file to an active, compared registration."""
    open_ = session.memory.registration
    if open_ is None:
        raise RuntimeError("no registration to finish")  # the callers have looked
    try:
        yield from _store_and_activate(session, open_)
        doubts = yield from _compare(session, open_, active=True)
    except (Superseded, Conflict):
        # Two data centers said so: it can never become active any more.
        yield from session.remember(registration=None)
        raise
    if not open_.verified:
        doubts.append(
            "fewer than four data centers took part in the start, so a faulty one among them"
            " could not be told"
        )
    unconfirmed = Unconfirmed(open_.registration_id, open_.seats) if doubts else None
    yield from session.remember(
        registration=None,
        attempt=None,
        unconfirmed=unconfirmed,
        registered=open_.registration_id,
    )
    return Registered(bytes(open_.registration_id), backup_key, not doubts, tuple(doubts))


def _store_and_activate(session: Session, open_: OpenRegistration) -> Flow[None]:
    path = f"/v1/registrations/{b64u_encode(open_.registration_id)}"
    read = _stored(session, open_)
    put = Request("PUT", path, bytes(open_.put_body))
    stored = yield from ask(session, put, read)
    if stored.value.state == "active":  # an earlier run got as far as that
        return
    doubts = yield from _compare(session, open_, active=False)
    if len(doubts) > THRESHOLD_SEATS - MIN_COMPARED_SEATS:
        raise Unavailable(
            f"the pending registration could not be compared: {'; '.join(doubts)}. It was not"
            " activated; resume it later",
            reason="unreachable",
            charged="no",
        )
    activate = Request("POST", f"{path}/activation", bytes(open_.activation_body))
    activated = yield from ask(session, activate, read)
    if activated.value.state != "active":
        raise Tampered(f"{session.who(activated.place)} took the activation but did not activate")


def _stored(session: Session, open_: OpenRegistration) -> Callable[[Answer], Stored]:
    def read(answer: Answer) -> Stored:
        stored = decode_answer(Stored, answer.body, session.who(answer.place))
        if stored.registration_id != open_.registration_id:
            raise Tampered(f"{session.who(answer.place)} answered for another registration")
        return stored

    return read


def _compare(session: Session, open_: OpenRegistration, *, active: bool) -> Flow[list[str]]:
    """Ask three data centers what they keep; one doubt for each that could not say.

    Raises:
        Tampered: one keeps something else under our registration's name, or alone another
            registration, or the three are not agreed to be three data centers.
        Superseded: another registration has taken its place, as two say.

    """

    def read(answer: Answer) -> RecordSeen:
        return decode_answer(RecordSeen, answer.body, session.who(answer.place))

    try:
        told = yield from ask_seats(
            session,
            Request("GET", "/v1/record"),
            read,
            seats=THRESHOLD_SEATS,
            rounds=COMPARE_ROUNDS,
        )
    except (Superseded, Conflict) as error:
        raise Tampered(f"that is no answer to a look: {error}") from error
    doubts: list[str] = []
    others: list[str] = []
    for one in told:
        seen, who = one.value, session.who(one.place)
        pending = seen.pending
        if seen.registration_id == open_.registration_id:
            kept = seen.content  # active already: an earlier run's activation arrived
        elif not active and pending and pending.registration_id == open_.registration_id:
            kept = pending.content
        else:
            others.append(who)
            continue
        if kept is None:
            doubts.append(f"{who} could not open what it keeps (its HSM is away)")
        elif kept != open_.content:
            raise Tampered(
                f"{who} keeps other bytes than this client sealed; "
                + ("the new key must not be relied on" if active else "it was not activated")
            )
    if len(others) > 1:
        raise Superseded(
            f"{' and '.join(others)} keep another registration now; if no other device of yours"
            " registered, do not rely on this vault until its operator explains it"
        )
    if others:  # one alone is not believed: whoever forgets ours may have given up the old key
        raise Tampered(
            f"{others[0]} alone shows another registration: it lies, or another device of yours"
            " registers right now; nothing was given up: resume, and it will be known"
        )
    missing = THRESHOLD_SEATS - len(told)
    doubts.extend(
        f"a data center could not be asked ({len(seats_met(session))} known)"
        for _ in range(missing)
    )
    return doubts
