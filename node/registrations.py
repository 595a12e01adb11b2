"""Registering: start (evaluate, store nothing), put (pending), activate (the old key is gone).

The start evaluates only the element that its registration_id was made for, with proofs that each
share belongs to one key, so no data center alone chooses the OPRF key (crypto.md). The id of a
put is recomputed from what it names. Activation is the only thing that empties a list besides a
proof (I6), and the log decides it. None of these calls charges: `charged` is always `no`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.commands import Activate, ActivateOutcome, Register, RegisterOutcome, Status
from cluster.signatures import verified
from engines import identifiers
from engines._engines import opaque_registration_response, threshold_verify
from engines.encoding import b64u_encode
from hsm.errors import HsmError
from hsm.sealing import SealedContents
from node.answers import ActivationAnswer, RegistrationAnswer, RegistrationStartAnswer
from node.evaluation import (
    Collection,
    Settled,
    SupersededError,
    TooFewError,
    disagreement,
    settle,
    too_few,
)
from node.problems import Charged, Code, Problem, malformed
from node.share_messages import RegistrationAsk, RegistrationShare, Share

if TYPE_CHECKING:
    from node.fields import ActivationBody, RegistrationBody, RegistrationStartBody
    from node.parts import Parts


async def start(
    parts: Parts, record_id: bytes, body: RegistrationStartBody
) -> RegistrationStartAnswer:
    """Answer `POST /v1/registrations`."""
    parts.enough_givers(record_id)
    record, _ = await parts.replica.linearizable(record_id)
    era = 0 if record is None else record.era
    registration_id = identifiers.registration_id(record_id, era, body.request, body.proof_key)
    settled = await _evaluate(parts, record_id, era, registration_id, body)
    response = opaque_registration_response(settled.evaluation, parts.ake.public)
    return RegistrationStartAnswer(
        record_id=b64u_encode(record_id),
        registration_id=b64u_encode(registration_id),
        era=era,
        response=b64u_encode(response),
        verified=settled.verified,
    )


async def _evaluate(
    parts: Parts, record_id: bytes, era: int, registration_id: bytes, body: RegistrationStartBody
) -> Settled:
    """Proven shares of everybody reachable, combined."""
    cluster = parts.cluster

    def counts(seat: int, share: Share) -> bool:
        if not isinstance(share, RegistrationShare) or share.registration_id != registration_id:
            return False
        proven = threshold_verify(
            cluster.cluster_id.bytes,
            registration_id,
            seat,
            body.request,
            share.element,
            share.point,
            share.proof,
        )
        if not proven:
            parts.alarm_liars((seat,), "registration")
        return proven

    collection = Collection(
        parts.exchange,
        parts.enough_givers(record_id),
        parts.node_id,
        lambda number: RegistrationAsk(
            number, record_id, era, body.request, body.proof_key, registration_id
        ),
        threshold=cluster.threshold,
        thorough=True,
        hedge=parts.hedge,
        metrics=parts.metrics,
    )
    try:
        collection.begin()
        collection.expect(era, counts)
        shares = await collection.shares()
    except TooFewError as error:
        raise too_few(error, charged=Charged.NO) from None
    except SupersededError:
        raise _stale() from None
    finally:
        collection.close()
    settled = settle(cluster.threshold, shares, thorough=True)
    if settled is None:
        parts.metrics.disagreements.inc()
        parts.log.error("shares disagree", seats=sorted(shares), kind="registration")
        raise disagreement(charged=Charged.NO)
    parts.alarm_liars(settled.liars, "registration")
    parts.metrics.evaluation("registration", verified=settled.verified)
    parts.witness.write(
        "evaluation",
        "combined",
        record_id=record_id,
        registration_id=registration_id,
        era=era,
        element=settled.evaluation,
        seats=settled.seats,
    )
    return settled


async def put(
    parts: Parts, record_id: bytes, registration_id: bytes, body: RegistrationBody
) -> RegistrationAnswer:
    """Answer `PUT /v1/registrations/{registration_id}`."""
    computed = identifiers.registration_id(record_id, body.era, body.request, body.proof_key)
    if computed != registration_id:
        raise malformed(
            "registration_id", "is not the id of this request, proof_key and era for this account"
        )
    parts.need_device()
    contents = SealedContents(body.record, body.proof_box, body.wrapped_key)
    try:
        sealed = await parts.device.seal(record_id, registration_id, contents)
    except HsmError:
        raise parts.device_gone() from None
    applied = await parts.replica.applied(
        Register(record_id, body.era, body.request, body.proof_key, sealed)
    )
    outcome = applied.outcome
    if not isinstance(outcome, RegisterOutcome):
        raise TypeError(f"Register was answered by {type(outcome).__name__}")
    match outcome.status:
        case Status.DONE | Status.SAME:
            return RegistrationAnswer(
                state="active" if outcome.state == "active" else "pending",
                registration_id=b64u_encode(outcome.registration_id),
                receipt=parts.replica.receipt(applied.shard, applied.index, outcome.version),
            )
        case Status.STALE:
            raise _stale()
        case Status.CONFLICT:
            raise Problem(
                Code.CONFLICT,
                "this registration is in place with other record, proof_box or wrapped_key; "
                "start a new registration",
            )
        case Status.REJECTED:
            raise malformed("proof_key", "is weak; make a fresh Ed25519 key pair")
        case _:
            raise TypeError(f"a Register ended as {outcome.status}")


async def activate(
    parts: Parts, record_id: bytes, registration_id: bytes, body: ActivationBody
) -> ActivationAnswer:
    """Answer `POST /v1/registrations/{registration_id}/activation`."""
    record, _ = parts.replica.view(record_id)
    pending = None if record is None else record.pending
    if pending is not None and pending.registration_id == registration_id:
        # The id binds the proof key, so a bad signature is bad whatever happened since.
        message = identifiers.activation_message(parts.cluster.cluster_id, registration_id)
        if not verified(pending.proof_key, message, body.signature):
            raise _rejected()
    applied = await parts.replica.applied(Activate(record_id, registration_id, body.signature))
    outcome = applied.outcome
    if not isinstance(outcome, ActivateOutcome):
        raise TypeError(f"Activate was answered by {type(outcome).__name__}")
    match outcome.status:
        case Status.DONE | Status.SAME:
            return ActivationAnswer(
                state="active",
                registration_id=b64u_encode(registration_id),
                receipt=parts.replica.receipt(applied.shard, applied.index, outcome.version),
            )
        case Status.CONFLICT:
            raise Problem(
                Code.CONFLICT,
                "this registration is not the pending one; look at the record and register anew",
            )
        case Status.REJECTED:
            raise _rejected()
        case _:
            raise TypeError(f"an Activate ended as {outcome.status}")


def _stale() -> Problem:
    return Problem(Code.STALE, "era: the record has moved on; start the registration again")


def _rejected() -> Problem:
    return Problem(
        Code.PROOF_REJECTED,
        "signature: does not verify under the proof_key of this registration",
    )
