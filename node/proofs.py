"""The proof of an attempt: verified here, decided in the log, and then the wrapped key is released.

Cheap refusals come first: whoever sends garbage touches neither HSM nor peers. This node looks at
its own applied state; only when the attempt is not there does it pay one Barrier and look again
(it may lag behind). The key is unsealed from the Prove outcome's grant and nothing else (I6, I7).
A proof charges nothing: `charged` is always `no`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.commands import Prove, ProveOutcome, Status
from cluster.signatures import verified
from engines import identifiers
from engines.encoding import b64u_encode
from hsm.errors import HsmError, SealBroken
from node.answers import ProofAnswer
from node.problems import Code, Problem, malformed

if TYPE_CHECKING:
    from cluster.record import Record, Registration
    from node.fields import ProofBody
    from node.parts import Parts


async def prove(parts: Parts, record_id: bytes, attempt_id: bytes, body: ProofBody) -> ProofAnswer:
    """Answer `POST /v1/attempts/{attempt_id}/proof`.

    Raises:
        Problem: 400 for an id that is not of this KE1, 403 for a signature that does not verify,
            409 for an attempt that is not open in this era, 503.

    """
    if identifiers.attempt_id(record_id, body.ke1) != attempt_id:
        raise malformed("attempt_id", "is not the id of this ke1 for this account")
    record, _ = parts.replica.view(record_id)
    active = provable(record, attempt_id, body.era)
    if active is None:
        record, _ = await parts.replica.linearizable(record_id)
        active = provable(record, attempt_id, body.era)
    if active is None:
        raise _superseded()
    message = identifiers.prove_message(
        parts.cluster.cluster_id, active.registration_id, body.era, attempt_id
    )
    if not verified(active.proof_key, message, body.signature):
        raise _rejected()
    parts.need_device()
    applied = await parts.replica.applied(
        Prove(record_id, active.registration_id, body.era, attempt_id, body.signature)
    )
    outcome = applied.outcome
    if not isinstance(outcome, ProveOutcome):
        raise TypeError(f"Prove was answered by {type(outcome).__name__}")
    if outcome.status is Status.REJECTED:
        raise _rejected()
    if outcome.grant is None:
        raise _superseded()
    try:
        contents = await parts.device.unseal(
            record_id, outcome.grant.registration_id, outcome.grant.sealed
        )
    except SealBroken:
        parts.alarm_broken_seal("proof")
        raise parts.device_gone() from None
    except HsmError:
        raise parts.device_gone() from None
    return ProofAnswer(
        wrapped_key=b64u_encode(contents.wrapped_key),
        registration_id=b64u_encode(outcome.grant.registration_id),
        receipt=parts.replica.receipt(applied.shard, applied.index, outcome.version),
    )


def provable(record: Record | None, attempt_id: bytes, era: int) -> Registration | None:
    """The registration that a proof of this attempt in this era would be about, or None.

    An era has one active registration, and an activation forgets the last proof: so what is found
    here, however old this state, is the registration that the signature must be of.
    """
    if record is None or record.active is None:
        return None
    last = record.last_proof
    listed = record.era == era and attempt_id in record.attempts
    proven = last is not None and last.era == era and last.attempt_id == attempt_id
    return record.active if listed or proven else None


def _superseded() -> Problem:
    return Problem(
        Code.SUPERSEDED,
        "the attempt is not open in this era; type the password again for a new one",
    )


def _rejected() -> Problem:
    return Problem(
        Code.PROOF_REJECTED,
        "signature: does not verify for this registration, era and attempt",
    )
