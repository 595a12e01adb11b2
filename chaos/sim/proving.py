"""A proof at a node, as `node/proofs.py` handles it, over the real host."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chaos.sim.reply import FULL, Reply, not_applied, wrapped_name
from chaos.sim.units import CLUSTER
from cluster.api import Applied
from cluster.commands import Barrier, Prove, ProveOutcome, Status
from cluster.signatures import verified
from cluster.types import RecordId
from engines.encoding import b64u_encode
from engines.identifiers import prove_message

if TYPE_CHECKING:
    from chaos.sim.desk import Desk, Request
    from cluster.api import ProposalResult
    from cluster.record import Registration


class Proving:
    """One proof under way at one node."""

    def __init__(self, desk: Desk, request: Request, command: Prove) -> None:
        self._desk, self._request, self._command = desk, request, command
        self._record_id = RecordId(command.record_id)

    def propose(self) -> None:
        """Without a look, as a node that lies would, or a copy that comes late."""
        self._request.propose(self._command, self._decided)

    def look(self, *, again: bool) -> None:
        """Cheap refusals first; when the attempt is not there, once more behind a Barrier."""
        request, command = self._request, self._command
        active = self._provable()
        if active is None and again:
            request.propose(Barrier(), self._behind, self._desk.shard(self._record_id))
        elif active is None:
            request.answer(Reply("fail", "superseded", charged="no"))
        elif not verified(
            active.proof_key,
            prove_message(CLUSTER, active.registration_id, command.era, command.attempt_id),
            command.signature,
        ):
            request.answer(Reply("fail", "proof-rejected", charged="no"))
        elif not request.node.hsm.healthy:
            request.answer(FULL)
        else:
            request.propose(command, self._decided)

    def _provable(self) -> Registration | None:
        record, _ = self._request.host.view(self._record_id)
        if record is None or record.active is None:
            return None
        wanted = (self._command.era, self._command.attempt_id)
        last = record.last_proof
        listed = record.era == wanted[0] and wanted[1] in record.attempts
        proven = last is not None and (last.era, last.attempt_id) == wanted
        return record.active if listed or proven else None

    def _behind(self, result: ProposalResult) -> None:
        if isinstance(result, Applied):
            self.look(again=False)
        else:
            self._request.answer(replace(not_applied(result), phase="fail"))

    def _decided(self, result: ProposalResult) -> None:
        if not isinstance(result, Applied):
            self._request.answer(not_applied(result))
            return
        outcome = result.outcome
        if not isinstance(outcome, ProveOutcome):
            raise TypeError(f"a Prove came out as {outcome}")
        if outcome.grant is None:
            rejected = outcome.status is Status.REJECTED
            code = "proof-rejected" if rejected else "superseded"
            self._request.answer(Reply("fail", code, charged="no"))
            return
        opened = Reply(
            "ok",
            registration_id=b64u_encode(outcome.grant.registration_id),
            wrapped=wrapped_name(outcome.grant.sealed),
            receipt=self._desk.receipt(result, outcome.version),
            charged="no",
        )
        gone = Reply("info", "hsm-unavailable", charged="no")
        request = self._request
        request.node.hsm.use(
            lambda there: request.answer(opened if there else gone), lambda: not request.over
        )
