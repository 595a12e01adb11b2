"""One typed password, one KE1: from the guess to the backup key.

KE1 and the OPAQUE client state are durable before the first send, so whatever happens the same
attempt is repeated and never a second one charged for it (I5). A KE2 that does not open is asked
for again at another data center with `verify`, since a faulty share looks like a wrong password;
only then the password is called wrong. A KE1 is signed for one era only, which a second data center
knows, too (`_witness`), and the signature is durable before it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from engines._engines import (
    OpaqueOpenError,
    ed25519_sign,
    opaque_derive_key_pair,
    opaque_ke2,
    opaque_login_finish,
    opaque_login_start,
    opaque_registration_finish,
    opaque_registration_response,
    opaque_registration_start,
    threshold_share,
)
from engines.encoding import b64u_encode
from engines.identifiers import attempt_id, prove_message
from quorumvault import _boxes
from quorumvault._asking import ask, meet
from quorumvault._core import Answer, Flow, Request, Session, Told, apart, compute, random_key
from quorumvault._state import OpenAttempt, Opened
from quorumvault._wire import Attempted, Ke1, Octets, Proven, body, decode_answer
from quorumvault._witness import Witness, check_era, look_meanwhile, vouched
from quorumvault.errors import (
    Conflict,
    Exhausted,
    Locked,
    NotRegistered,
    Superseded,
    Tampered,
    VaultError,
    WrongPassword,
    heavier,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_OVER: Final = (Exhausted, Locked, NotRegistered, Superseded, Conflict, WrongPassword)
"""Ends of an attempt: repeating its bytes can bring nothing more."""


@dataclass(frozen=True, slots=True)
class _Keys:
    """What a KE2 gave under the typed password."""

    export_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def recover(session: Session, password: bytes) -> Flow[bytes]:
    """The backup key for the right password.

    An attempt that the state file holds is finished with its own KE1 if it is of this password,
    right or wrong: then nothing more is charged. If it is of another one, it is forgotten.

    Raises:
        WrongPassword, Exhausted, Locked, NotRegistered, Superseded, Unavailable: see errors.py.
        Tampered: an answer contradicts what OPAQUE authenticates.

    """
    yield from meet(session, 1)
    left = session.memory.attempt
    if left is not None:
        session.charged = left.charged
        key = yield from _continue(session, left, password)
        if key is not None:
            return key
        session.charged = "no"  # the old attempt is over; what follows is another
    client_state, ke1 = opaque_login_start(password)
    attempt = OpenAttempt(Ke1(ke1), Octets(client_state), charged="unknown")
    yield from session.remember(attempt=attempt)
    return (yield from _run(session, attempt, password))


def _continue(session: Session, left: OpenAttempt, password: bytes) -> Flow[bytes | None]:
    """Finish an interrupted attempt; None when it was another password's or is over.

    Another password's is never sent again: it may not have reached the vault yet, and then it
    would be charged now, for a password that nobody means any more.
    """
    try:
        if left.opened is not None:
            keys = yield from compute(_opener(session, left, left.opened.ke2, password))
            if keys is not None:
                return (yield from _release(session, left.opened, keys))
        elif (yield from compute(lambda: _is_of(left, password))):
            return (yield from _run(session, left, password))
    except WrongPassword:
        raise  # what was not known is known now; a second guess would tell the same
    except _OVER:
        pass
    yield from session.remember(attempt=None)
    return None


def _is_of(attempt: OpenAttempt, password: bytes) -> bool:
    """Whether the attempt was begun with this password; nothing is sent.

    A vault of our own is played, with random keys and a single seat: its record of `password` opens
    the answer to the attempt's KE1 only if the same password was blinded in it. No Argon2 is
    needed, since nothing of this leaves the memory.
    """
    private, public = opaque_derive_key_pair(random_key())
    oprf_key = [(b"\x01", random_key() + random_key())]

    def evaluated(element: bytes) -> bytes:
        return threshold_share(1, 1, 1, oprf_key, element)

    state, request = opaque_registration_start(password)
    response = opaque_registration_response(evaluated(request), public)
    record, _, _ = opaque_registration_finish(state, password, response, hazmat_identity_ksf=True)
    ke1 = bytes(attempt.ke1)
    ke2 = opaque_ke2(ke1, record, evaluated(ke1[:32]), private, public)
    try:
        opaque_login_finish(attempt.client_state, password, ke2, hazmat_identity_ksf=True)
    except OpaqueOpenError:
        return False
    return True


def _run(session: Session, attempt: OpenAttempt, password: bytes) -> Flow[bytes]:
    """Guess, sign and release; note in the state file how the attempt ended."""
    try:
        told, keys, witness = yield from _guess(session, attempt, password)
        check_era(session, told, witness)
        opened = _sign(session, attempt, told, keys)
        session.pin(told.value.record_id, session.who(told.place))
        yield from session.remember(
            attempt=msgspec.structs.replace(attempt, charged="yes", opened=opened)
        )
    except VaultError as error:
        error.charged = heavier(error.charged, session.charged)
        over = isinstance(error, _OVER) or session.charged == "no"
        # Of an attempt that nobody counted nothing is kept: the next password gets its own.
        rest = None if over else msgspec.structs.replace(attempt, charged=session.charged)
        yield from session.remember(attempt=rest)
        raise
    key = yield from _release(session, opened, keys)
    _confirm(session, told, witness)
    return key


def _guess(
    session: Session, attempt: OpenAttempt, password: bytes
) -> Flow[tuple[Told[Attempted], _Keys, Witness | None]]:
    """Ask; where the answer does not open, ask another data center to verify its shares."""

    def read(answer: Answer) -> Attempted:
        who = session.who(answer.place)
        tried = decode_answer(Attempted, answer.body, who)
        session.check_record(tried.record_id, who)
        if tried.attempt_id != attempt_id(tried.record_id, attempt.ke1):
            raise Tampered(f"{who} gave an attempt id that does not recompute", charged="unknown")
        return tried

    doubtful = session.memory.unconfirmed
    prefer: set[int] = set()
    if doubtful is not None:  # an attempt through other seats would confirm it
        prefer = set(range(len(session.places))) - _places_of(session, set(doubtful.seats))
    avoid: set[int] = set()
    before: Told[Attempted] | None = None
    told: Told[Attempted] | None = None
    for verify in (doubtful is not None, True):
        fields = {"ke1": bytes(attempt.ke1)} | ({"verify": True} if verify else {})
        call = Request("POST", "/v1/attempts", body(fields), charges=True)
        before = told
        told = yield from ask(
            session, call, read, avoid=avoid, prefer=prefer, sure=frozenset({"superseded"})
        )
        finish = _opener(session, attempt, told.value.ke2, password)
        keys, witness = yield from look_meanwhile(session, told, finish)
        if keys is not None:
            return told, keys, witness
        avoid = {told.place} | _places_of(session, {told.seat} if told.seat else set())
    if told is None or before is None:
        raise RuntimeError("nobody was asked twice")  # the loop above runs
    verified = told.value.verified and apart(before, told)
    raise WrongPassword(told.value.guesses_remaining, verified=verified)


def _places_of(session: Session, seats: set[int]) -> set[int]:
    """The places known to be in these data centers."""
    return {i for i, place in enumerate(session.places) if place.seat in seats}


def _opener(
    session: Session, attempt: OpenAttempt, ke2: bytes, password: bytes
) -> Callable[[], _Keys | None]:
    def finish() -> _Keys | None:
        try:
            return _Keys(
                *opaque_login_finish(
                    attempt.client_state,
                    password,
                    ke2,
                    hazmat_identity_ksf=session.hazmat_identity_ksf,
                )
            )
        except OpaqueOpenError:
            return None
        except ValueError:  # no element, no key share: a faulty node, not a password
            return None

    return finish


def _sign(session: Session, attempt: OpenAttempt, told: Told[Attempted], keys: _Keys) -> Opened:
    """Sign the proof for the first era that came with a KE2 that opens."""
    tried, who = told.value, session.who(told.place)
    if keys.server_key != session.opaque_public_key:
        raise Tampered(
            f"{who} showed another OPAQUE public key than the one that this record was sealed for",
            charged="yes",
        )
    try:
        seed = _boxes.open_proof_seed(keys.export_key, tried.registration_id, tried.proof_box)
    except ValueError as error:
        raise Tampered(f"{who} gave a proof box that does not open", charged="yes") from error
    message = prove_message(session.cluster_id, tried.registration_id, tried.era, tried.attempt_id)
    fields = {
        "ke1": bytes(attempt.ke1),
        "era": tried.era,
        "signature": ed25519_sign(seed, message),
    }
    return Opened(
        registration_id=tried.registration_id,
        attempt_id=tried.attempt_id,
        era=tried.era,
        ke2=tried.ke2,
        proof_body=Octets(body(fields)),
    )


def _release(session: Session, opened: Opened, keys: _Keys) -> Flow[bytes]:
    """Send the proof, again and again the same, until the wrapped key comes."""
    session.charged = "yes"

    def read(answer: Answer) -> Proven:
        who = session.who(answer.place)
        proven = decode_answer(Proven, answer.body, who)
        if proven.registration_id != opened.registration_id:
            raise Tampered(f"{who} released another registration's key", charged="yes")
        return proven

    path = f"/v1/attempts/{b64u_encode(opened.attempt_id)}/proof"
    try:
        told = yield from ask(session, Request("POST", path, bytes(opened.proof_body)), read)
    except _OVER:
        yield from session.remember(attempt=None)
        raise
    try:
        key = _boxes.open_backup_key(
            keys.export_key, opened.registration_id, told.value.wrapped_key
        )
    except ValueError as error:
        raise Tampered(
            f"{session.who(told.place)} released a wrapped key that does not open", charged="yes"
        ) from error
    yield from session.remember(attempt=None)
    return key


def _confirm(session: Session, told: Told[Attempted], witness: Witness | None) -> None:
    """An attempt through a seat that took no part in the start opened: that confirms it."""
    doubtful = session.memory.unconfirmed
    if doubtful is None or told.seat is None:
        return
    if told.seat not in doubtful.seats and vouched(session, told, witness):
        session.memory = msgspec.structs.replace(session.memory, unconfirmed=None)
