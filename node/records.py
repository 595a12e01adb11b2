"""Looking at a record and deleting it; both through the log, so both linearizable (I7).

A look shows where the account stands and hashes of what is sealed, never sealed bytes, keys or
anything that helps a guesser (I11). Neither call charges: `charged` is always `no`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from cluster.commands import Delete, DeleteOutcome, Status
from cluster.record import state_of
from engines import identifiers
from engines.encoding import b64u_encode
from hsm.errors import HsmError, SealBroken
from node.answers import DeletionAnswer, PendingAnswer, RecordAnswer
from node.problems import Code, Problem

if TYPE_CHECKING:
    from cluster.record import Registration
    from node.parts import Parts


async def look(parts: Parts, record_id: bytes) -> RecordAnswer:
    """Answer `GET /v1/record`."""
    record, index = await parts.replica.linearizable(record_id)
    limit = parts.cluster.limit
    standing = state_of(record, limit)
    active = None if record is None else record.active
    pending = None if record is None else record.pending
    described: PendingAnswer | None = None
    if pending is not None:
        described = PendingAnswer(
            registration_id=b64u_encode(pending.registration_id),
            content=await _content(parts, record_id, pending),
        )
    return RecordAnswer(
        state=standing.state,
        pending=described,
        era=0 if record is None else record.era,
        limit=limit,
        receipt=parts.replica.receipt(
            parts.replica.shard(record_id), index, 0 if record is None else record.version
        ),
        registration_id=UNSET if active is None else b64u_encode(active.registration_id),
        content=UNSET if active is None else await _content(parts, record_id, active),
        guesses_remaining=(
            UNSET if standing.guesses_remaining is None else standing.guesses_remaining
        ),
    )


async def _content(parts: Parts, record_id: bytes, registration: Registration) -> str | UnsetType:
    """The hash of what is sealed; absent while the HSM is away or cannot open it."""
    if not parts.device.healthy:
        return UNSET
    try:
        contents = await parts.device.unseal(
            record_id, registration.registration_id, registration.sealed
        )
    except SealBroken:
        parts.alarm_broken_seal("record")
        return UNSET
    except HsmError:
        return UNSET
    return b64u_encode(
        identifiers.content(
            registration.registration_id, contents.record, contents.proof_box, contents.wrapped_key
        )
    )


async def delete(parts: Parts, record_id: bytes, era: int) -> DeletionAnswer:
    """Answer `DELETE /v1/record?era=N`."""
    applied = await parts.replica.applied(Delete(record_id, era))
    outcome = applied.outcome
    if not isinstance(outcome, DeleteOutcome):
        raise TypeError(f"Delete was answered by {type(outcome).__name__}")
    if outcome.status is Status.STALE:
        raise Problem(
            Code.STALE, "era: the record has moved on; look at it again before deleting it"
        )
    return DeletionAnswer(
        state="none",
        receipt=parts.replica.receipt(applied.shard, applied.index, outcome.version),
    )
