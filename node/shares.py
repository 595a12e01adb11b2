"""Giving this node's share: the one place where the OPRF key is used (keeps I1, I2, I3, I9).

A share for an attempt is computed only when the host says `Give`: the charge is applied here, the
attempt is in this node's own ledger and that row is durable. The attempt id is computed from the
very KE1 that is evaluated. A share for a registration start is computed only when its id
recomputes from the very request that is evaluated, so this path evaluates nothing but the element
that a registration was made for: it is no guessing oracle. Each share given or refused is
witnessed before it leaves. The asker may be this node itself; it gets no other treatment.
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from cluster.api import Give, LaterEra, LedgerFull, NotAGiver, Refused, ShareVerdict, Wait
from cluster.types import AttemptId, Era, RecordId
from engines import identifiers
from engines._engines import element_is_valid, threshold_share, threshold_share_proven
from hsm.errors import HsmError
from node.share_messages import (
    Answer,
    AttemptAsk,
    AttemptShare,
    Declined,
    Reason,
    RegistrationAsk,
    RegistrationShare,
)

if TYPE_CHECKING:
    from uuid import UUID

    from cluster.api import VaultHost
    from node.device import Device
    from node.metrics import Metrics
    from node.witness import Witness

MAX_WAIT_S: Final = 8.0
"""How long an ask waits for its charge: the proposer's own deadline (design section 5)."""
MAX_WAITING: Final = 8192
"""Asks waiting at once, from all peers: four nodes with 1,024 requests each, and some verifying."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """Who we are in the threshold scheme."""

    cluster_id: UUID
    seat: int
    seats: int
    threshold: int


class Giver:
    """Answers asks for shares. Loop thread only."""

    def __init__(
        self,
        scheme: Scheme,
        host: VaultHost,
        device: Device,
        witness: Witness,
        metrics: Metrics,
        *,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        self._scheme = scheme
        self._host = host
        self._device = device
        self._witness = witness
        self._metrics = metrics
        self._max_wait_s = max_wait_s
        self._waiting = 0

    async def attempt(self, ask: AttemptAsk) -> Answer:
        """Answer an ask for an attempt; waits until the charge is visible and durable here.

        Cancelling it is how an asker's cancel arrives.
        """
        attempt = AttemptId(identifiers.attempt_id(ask.record_id, ask.ke1))
        element = ask.ke1[:32]
        if not element_is_valid(element):
            return self._refuse_attempt(ask, attempt, Reason.REFUSED, "not a group element")
        if self._waiting >= MAX_WAITING:
            return self._refuse_attempt(ask, attempt, Reason.BUSY, "too many asks wait here")
        self._waiting += 1
        try:
            verdict = await self._verdict(RecordId(ask.record_id), Era(ask.era), attempt)
        finally:
            self._waiting -= 1
        match verdict:
            case Give():
                return await self._give_attempt(ask, attempt, element, verdict)
            case Wait():
                return self._refuse_attempt(ask, attempt, Reason.TIMEOUT, "not charged here")
            case LaterEra(era):
                return self._refuse_attempt(
                    ask, attempt, Reason.LATER_ERA, "the record is in a later era", era
                )
            case LedgerFull():
                return self._refuse_attempt(ask, attempt, Reason.LEDGER_FULL, "the ledger is full")
            case NotAGiver(reason):
                return self._refuse_attempt(ask, attempt, Reason.NOT_A_GIVER, reason)
            case Refused(reason):
                return self._refuse_attempt(ask, attempt, Reason.REFUSED, reason)
            case _:
                assert_never(verdict)

    async def _verdict(self, record_id: RecordId, era: Era, attempt: AttemptId) -> ShareVerdict:
        """The host's verdict, at most MAX_WAIT_S later; `Wait` when the time is over."""
        verdict = self._host.share_verdict(record_id, era, attempt)
        if not isinstance(verdict, Wait):
            return verdict
        changed = asyncio.Event()
        unwatch = self._host.watch(record_id, changed.set)
        try:
            async with asyncio.timeout(self._max_wait_s):
                while isinstance(verdict, Wait):
                    self._host.want_share(record_id)
                    await changed.wait()
                    changed.clear()
                    verdict = self._host.share_verdict(record_id, era, attempt)
        except TimeoutError:
            return self._host.share_verdict(record_id, era, attempt)
        finally:
            unwatch()
        return verdict

    async def _give_attempt(
        self, ask: AttemptAsk, attempt: bytes, element: bytes, verdict: Give
    ) -> Answer:
        scheme = self._scheme
        try:
            prfs = await self._device.subset_prfs(verdict.registration_id)
            share = threshold_share(scheme.seat, scheme.seats, scheme.threshold, prfs, element)
        except HsmError:
            return self._refuse_attempt(ask, attempt, Reason.HSM_AWAY, "the HSM is away")
        except ValueError:
            return self._refuse_attempt(ask, attempt, Reason.REFUSED, "not a group element")
        self._witness.write(
            "attempt",
            "given",
            record_id=ask.record_id,
            registration_id=verdict.registration_id,
            era=verdict.era,
            attempt_id=attempt,
            element=share,
        )
        self._metrics.share("attempt", "given")
        return AttemptShare(ask.ask, verdict.registration_id, verdict.era, share)

    def _refuse_attempt(
        self, ask: AttemptAsk, attempt: bytes, reason: Reason, why: str, era: int = 0
    ) -> Declined:
        self._witness.write(
            "attempt",
            "refused",
            record_id=ask.record_id,
            era=ask.era,
            attempt_id=attempt,
            reason=f"{reason}: {why}",
        )
        self._metrics.share("attempt", str(reason))
        return Declined(ask.ask, reason, era)

    async def registration(self, ask: RegistrationAsk) -> Answer:
        """Answer an ask for a registration start."""
        computed = identifiers.registration_id(ask.record_id, ask.era, ask.request, ask.proof_key)
        if not hmac.compare_digest(computed, ask.registration_id):
            return self._refuse_registration(ask, Reason.REFUSED, "registration_id does not match")
        if not element_is_valid(ask.request):
            return self._refuse_registration(ask, Reason.REFUSED, "not a group element")
        scheme = self._scheme
        try:
            prfs = await self._device.subset_prfs(computed)
            share, point, proof = threshold_share_proven(
                scheme.cluster_id.bytes,
                computed,
                scheme.seat,
                scheme.seats,
                scheme.threshold,
                prfs,
                ask.request,
            )
        except HsmError:
            return self._refuse_registration(ask, Reason.HSM_AWAY, "the HSM is away")
        except ValueError:
            return self._refuse_registration(ask, Reason.REFUSED, "not a group element")
        self._witness.write(
            "registration",
            "given",
            record_id=ask.record_id,
            registration_id=computed,
            era=ask.era,
            element=share,
        )
        self._metrics.share("registration", "given")
        return RegistrationShare(ask.ask, computed, ask.era, share, point, proof)

    def _refuse_registration(self, ask: RegistrationAsk, reason: Reason, why: str) -> Declined:
        self._witness.write(
            "registration",
            "refused",
            record_id=ask.record_id,
            registration_id=ask.registration_id,
            era=ask.era,
            reason=f"{reason}: {why}",
        )
        self._metrics.share("registration", str(reason))
        return Declined(ask.ask, reason)
