"""The ledger of a node that joins: merged from its own rows and those of other seats (I1).

Pure; crypto.md, "A *replacement* node". The node that it replaces took its ledger with it, so what
that seat already gave shares for is learnt from the others: every evaluation took `threshold`
seats, and rows of so many other seats always have one of them. What a lying seat may say is
bounded: a row that could not have come about is refused with the whole file that it stands in; a
lower count than the truth is what the bound of crypto.md allows for; a higher one only denies
shares.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from cluster.ledger import NO_ROW, LedgerRow
from cluster.signatures import verified
from engines.identifiers import prove_message, registration_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.record import Rules


def fault(rules: Rules, record_id: bytes, row: LedgerRow) -> str | None:
    """Why no honest node has this row of `record_id`; None when one may.

    That the floor is the birth era + 1 and no id stands there twice, `ledger.decode_row` has seen.
    """
    current = row.current
    if current is None:
        return None
    computed = registration_id(record_id, current.birth_era, current.request, current.proof_key)
    if not hmac.compare_digest(computed, current.registration_id):
        return "its registration does not recompute from its fields"
    if row.floor != current.birth_era + 1:
        return "its floor is not its registration's birth era + 1"
    proof = row.proved
    if proof is not None:
        message = prove_message(
            rules.cluster_id, current.registration_id, proof.era, proof.attempt_id
        )
        if not verified(current.proof_key, message, proof.signature):
            return "its proof does not verify"
    return None


def merge(rules: Rules, own: LedgerRow | None, others: Sequence[LedgerRow | None]) -> LedgerRow:
    """The one row that counts no less than any of them, for one record; None: no such row there.

    floor: the highest. current: what all rows with that floor have, none if they differ. proved:
    the latest of the rows with this current. ids: all ids of the rows with this current and a
    proof of this era; one more than `limit` stand for any larger number, as no share is given.
    """
    rows = [NO_ROW if row is None else row for row in (own, *others)]
    floor = max(row.floor for row in rows)
    highest = [row for row in rows if row.floor == floor]
    current = highest[0].current
    if current is None or any(row.current != current for row in highest):
        return LedgerRow(floor, None, None, ())
    proofs = [row.proved for row in highest if row.proved is not None]
    proved = max(proofs, key=lambda proof: proof.era, default=None)
    era = None if proved is None else proved.era
    latest = [row for row in highest if (None if row.proved is None else row.proved.era) == era]
    ids = tuple(dict.fromkeys(attempt for row in latest for attempt in row.ids))
    return LedgerRow(floor, current, proved, ids[: rules.limit + 1])
