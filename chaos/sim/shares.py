"""The witness at every node's HSM boundary: who gave a share for what, and was it right to (I1-I3).

What it demands of each share by itself: the agreed log charged this very attempt, for this very
registration and era, at an index that this node has applied; the node's ledger on disk lists it;
and the node has not locked the registration. And of all together: per registration and era no more
than `limit` attempts, per seat as well as evaluated (shares of three seats); and a registration
has no second era without a proof that its owner made.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from chaos.sim.reference import Charged
from chaos.witness import Attempt
from cluster.ledger import decode_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.sim.node import SimNode
    from chaos.sim.reference import Reference
    from cluster.api import Give
    from cluster.types import AttemptId, RecordId, RegistrationId

THRESHOLD = 3


class Shares:
    """Every share of a run."""

    def __init__(self, reference: Reference, limit: int, broken: Callable[[str], None]) -> None:
        self._reference = reference
        self._limit = limit
        self._broken = broken
        self._seats: dict[tuple[RegistrationId, int, AttemptId], set[int]] = defaultdict(set)
        self._by_seat: dict[tuple[RegistrationId, int, int], set[AttemptId]] = defaultdict(set)
        self._evaluated: dict[tuple[RegistrationId, int], set[AttemptId]] = defaultdict(set)
        self._eras: dict[RegistrationId, set[int]] = defaultdict(set)
        self._proven: dict[RegistrationId, set[int]] = defaultdict(set)
        self.given: list[tuple[Attempt, int]] = []
        self.evaluations = 0

    def proven(self, registration: RegistrationId, era: int) -> None:
        """The owner signed a proof for this era: one more era may come."""
        self._proven[registration].add(era)

    def gave(self, seat: int, attempt: AttemptId, verdict: Give) -> None:
        """The seat's HSM made the share."""
        registration, era = verdict.registration_id, verdict.era
        key = (registration, era, attempt)
        if seat in self._seats[key]:
            return
        self._seats[key].add(seat)
        self._few(registration, era, attempt, seat)
        self.given.append((Attempt(registration.hex(), era, attempt.hex()), seat))

    def right(self, node: SimNode, record_id: RecordId, attempt: AttemptId, verdict: Give) -> None:
        """The node says that it may give its share, now."""
        share = Charged(record_id, attempt, verdict.registration_id, verdict.era)
        name = f"attempt {share.attempt_id.hex()[:8]} in era {share.era}"
        where = self._reference.charged.get(share)
        if where is None:
            self._broken(f"share-without-charge: node {node.id}, {name}: no log charged it")
            return
        applied = node.running._core.groups[where[0]].applied  # noqa: SLF001
        if applied < where[1]:
            self._broken(
                f"share-before-charge: node {node.id}, {name}: charged at {where[1]}, applied here"
                f" is {applied}"
            )
        stored = node.store.get("ledger", share.record_id)
        if stored is None or share.attempt_id not in decode_row(stored).ids:
            self._broken(f"share-before-ledger: node {node.id}, {name}: not in its ledger on disk")
        locked = self._reference.expired.get(share.registration_id)
        if locked is not None and applied >= locked[1]:
            self._broken(f"share-after-lock: node {node.id}, {name}: locked at {locked[1]}")

    def _few(self, registration: RegistrationId, era: int, attempt: AttemptId, seat: int) -> None:
        name = f"registration {registration.hex()[:8]} in era {era}"
        own = self._by_seat[registration, era, seat]
        own.add(attempt)
        if len(own) > self._limit:
            self._broken(f"budget-of-seat: {name}: seat {seat} gave for {len(own)} attempts")
        self._eras[registration].add(era)
        if len(self._eras[registration]) > 1 + len(self._proven[registration]):
            self._broken(
                f"free-reset: {name}: shares in eras {sorted(self._eras[registration])}, proofs"
                f" made in {sorted(self._proven[registration])}"
            )
        if len(self._seats[registration, era, attempt]) == THRESHOLD:
            self.evaluations += 1
            done = self._evaluated[registration, era]
            done.add(attempt)
            if len(done) > self._limit:
                self._broken(f"budget: {name}: {len(done)} attempts evaluated of {self._limit}")
