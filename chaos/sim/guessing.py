"""One attempt at a node, as `node/attempts.py` handles it, over the real host: charge, evaluate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chaos.sim.collecting import Collection
from chaos.sim.reply import FULL, Reply, not_applied
from cluster.api import Applied, NotAppended, Unknown
from cluster.commands import Charge, ChargeOutcome, Grant, Status
from cluster.types import AttemptId, Era, NodeId, RecordId, RegistrationId
from engines.encoding import b64u_encode

if TYPE_CHECKING:
    from chaos.history import Phase
    from chaos.sim.desk import Desk, Request
    from cluster.api import ProposalResult

MAX_ROUNDS = 6


class Guessing:
    """One `POST /v1/attempts` under way at one node."""

    def __init__(
        self, desk: Desk, request: Request, record_id: RecordId, attempt: AttemptId
    ) -> None:
        self._desk, self._request = desk, request
        self._record_id, self._attempt = record_id, attempt
        self._charged = "no"
        self._rounds = 0
        self._collection: Collection | None = None
        self._givers: list[tuple[NodeId, int]] = []

    def begin(self) -> None:
        """Three share-givers are known, or nothing is spent."""
        host = self._request.host
        if self._desk.few_givers(self._request, self._record_id):
            self._request.answer(FULL)
            return
        givers = host.share_givers(self._desk.shard(self._record_id))
        self._givers = [(giver.node_id, int(giver.seat)) for giver in givers]
        record, _ = host.view(self._record_id)
        era = Era(0 if record is None else record.era)
        if record is not None and record.active is not None:
            listed = self._attempt in record.attempts
            if listed or len(record.attempts) < self._desk.world.limit:
                self._collect(era)
        self._charge(era)

    def _collect(self, era: Era) -> Collection:
        self._collection = Collection(
            self._desk, self._request, self._record_id, self._attempt, era, self._givers
        )
        self._collection.begin()
        return self._collection

    def _charge(self, era: Era) -> None:
        self._rounds += 1
        command = Charge(self._record_id, era, self._attempt)
        self._request.propose(command, self._charged_so)

    def _charged_so(self, result: ProposalResult) -> None:
        if isinstance(result, NotAppended):
            phase: Phase = "fail" if self._charged == "no" else "info"
            reply = not_applied(result)
            self._request.answer(replace(reply, phase=phase, charged=self._charged))
            return
        if isinstance(result, Unknown):
            self._charged = _most(self._charged, "unknown")
            self._request.answer(Reply("info", "no-quorum", charged=self._charged))
            return
        outcome = result.outcome
        if not isinstance(outcome, ChargeOutcome):
            raise TypeError(f"a Charge came out as {outcome}")
        self._charged = _most(self._charged, _charged_by(result, outcome))
        if outcome.status is Status.STALE and self._rounds < MAX_ROUNDS:
            self._collect(Era(outcome.era))
            self._charge(Era(outcome.era))
        elif outcome.grant is None:
            code = "busy" if outcome.status is Status.STALE else str(outcome.status)
            self._request.answer(Reply("fail", code, charged=self._charged))
        else:
            self._evaluate(result, outcome, outcome.grant)

    def _evaluate(self, result: Applied, outcome: ChargeOutcome, grant: Grant) -> None:
        collection = self._collection
        if collection is None or collection.era != grant.era:
            collection = self._collect(Era(grant.era))
        answered: list[str] = []  # by the two that are waited for: the shares, and our own HSM

        def ready(code: str) -> None:
            answered.append(code)
            if not code and len(answered) < 2:
                return
            replayed = outcome.status is Status.REPLAYED
            known = Reply(
                "fail",
                code,
                registration_id=b64u_encode(grant.registration_id),
                era=grant.era,
                charged=self._charged,
                guesses_remaining=outcome.guesses_remaining,
            )
            if not code:
                receipt = self._desk.receipt(result, outcome.version)
                known = replace(known, phase="ok", receipt=receipt, replayed=replayed, grant=grant)
            self._request.answer(known)

        collection.expect(RegistrationId(grant.registration_id), ready)
        request = self._request
        request.node.hsm.use(
            lambda there: ready("" if there else "hsm-unavailable"), lambda: not request.over
        )


def _charged_by(result: Applied, outcome: ChargeOutcome) -> str:
    """The table of node.problems."""
    if outcome.status is Status.DONE:
        return "yes"
    if result.jumped or (outcome.status is Status.REPLAYED and result.sends > 1):
        return "unknown"
    return "no"


def _most(one: str, other: str) -> str:
    """Yes over unknown over no."""
    order = ("no", "unknown", "yes")
    return max(one, other, key=order.index)
