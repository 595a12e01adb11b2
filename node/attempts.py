"""One guess: charge it, evaluate it, answer.

The order is the law here (I2): nothing is evaluated for an attempt whose charge is not applied on
the node that gives the share, and this node answers only out of its own Charge outcome, whose
grant names registration, era and sealed bytes as of the outcome's own index. Asking the peers at
the same time as proposing spends nothing: they wait for the charge.

What each path says about `charged` stands in node.problems; `Spent` keeps count within one request.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, assert_never

from cluster.api import Applied, NotAppended, Unknown
from cluster.commands import Charge, ChargeOutcome, Grant, Status
from engines import identifiers
from engines._engines import opaque_ke2
from engines.encoding import b64u_encode
from hsm.errors import HsmError, SealBroken
from node.answers import AttemptAnswer
from node.evaluation import (
    Collection,
    SupersededError,
    TooFewError,
    disagreement,
    settle,
    too_few,
)
from node.problems import Charged, Code, Problem
from node.replica import charged_by, not_applied
from node.share_messages import AttemptAsk, AttemptShare, Share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.api import Giver
    from cluster.record import Record
    from hsm.sealing import SealedContents
    from node.fields import AttemptBody
    from node.parts import Parts

MAX_ROUNDS: Final = 6
"""Charges of one request after `stale`: each round means that somebody changed the record."""
MAX_ROUNDS_S: Final = 8.0
"""No new round after that; with its own deadline and the shares' a request ends within 24 s."""


@dataclass(slots=True)
class Spent:
    """What this request has done to the attempt so far."""

    charged: Charged = Charged.NO
    guesses_remaining: int | None = None


class Attempt:
    """One `POST /v1/attempts` under way."""

    def __init__(self, parts: Parts, record_id: bytes, body: AttemptBody) -> None:
        self._parts = parts
        self._record_id = record_id
        self._ke1 = body.ke1
        self._verify = body.verify
        self._attempt_id = identifiers.attempt_id(record_id, body.ke1)
        self._spent = Spent()
        self._givers: Sequence[Giver] = ()
        self._collection: Collection | None = None
        self._asked_era = 0

    async def answer(self) -> AttemptAnswer:
        """Charge, evaluate, open, answer.

        Raises:
            Problem: with an honest `charged`.

        """
        self._givers = self._parts.enough_givers(self._record_id)
        record, _ = self._parts.replica.view(self._record_id)
        try:
            if self._looks_open(record):
                self._ask_shares(record.era if record is not None else 0)
            applied, outcome, grant = await self._charge(record.era if record is not None else 0)
            evaluation, verified, contents = await self._evaluate(grant)
        finally:
            if self._collection is not None:
                self._collection.close()
        ke2 = self._ke2(contents, evaluation)
        return AttemptAnswer(
            record_id=b64u_encode(self._record_id),
            attempt_id=b64u_encode(self._attempt_id),
            registration_id=b64u_encode(grant.registration_id),
            era=grant.era,
            ke2=b64u_encode(ke2),
            proof_box=b64u_encode(contents.proof_box),
            guesses_remaining=outcome.guesses_remaining,
            limit=self._parts.cluster.limit,
            replayed=outcome.status is Status.REPLAYED,
            verified=verified,
            receipt=self._parts.replica.receipt(applied.shard, applied.index, outcome.version),
        )

    def _looks_open(self, record: Record | None) -> bool:
        """Whether asking the peers early is worth it; only a hint, the charge decides."""
        if record is None or record.active is None:
            return False
        listed = self._attempt_id in record.attempts
        return listed or len(record.attempts) < self._parts.cluster.limit

    def _ask_shares(self, era: int) -> Collection:
        """(Re)start the collection for this era."""
        if self._collection is not None:
            self._collection.close()
        record_id, ke1, parts = self._record_id, self._ke1, self._parts
        self._asked_era = era
        self._collection = Collection(
            parts.exchange,
            self._givers,
            parts.node_id,
            lambda number: AttemptAsk(number, record_id, era, ke1),
            threshold=parts.cluster.threshold,
            thorough=self._verify,
            hedge=parts.hedge,
            metrics=parts.metrics,
        )
        self._collection.begin()
        return self._collection

    async def _charge(self, era: int) -> tuple[Applied, ChargeOutcome, Grant]:
        """Propose until an outcome other than `stale`; returns what may be evaluated."""
        loop = asyncio.get_running_loop()
        last_start = loop.time() + MAX_ROUNDS_S
        for _ in range(MAX_ROUNDS):
            if loop.time() > last_start:
                break
            result = await self._parts.replica.propose(
                Charge(self._record_id, era, self._attempt_id)
            )
            match result:
                case NotAppended():
                    raise not_applied(result, self._spent.charged)
                case Unknown():
                    raise not_applied(result, self._spent.charged.combined(Charged.UNKNOWN))
                case Applied():
                    outcome = result.outcome
                    if not isinstance(outcome, ChargeOutcome):
                        raise TypeError(f"Charge was answered by {type(outcome).__name__}")
                case _:
                    assert_never(result)
            self._spent.charged = self._spent.charged.combined(charged_by(result, outcome))
            self._parts.metrics.charge(outcome.status)
            if outcome.status is Status.STALE:
                era = outcome.era
                self._ask_shares(era)
                continue
            if outcome.grant is None:
                self._refuse(outcome)
            self._spent.guesses_remaining = outcome.guesses_remaining
            return result, outcome, outcome.grant
        raise Problem(
            Code.BUSY,
            "the record kept changing meanwhile; ask again",
            charged=self._spent.charged,
        )

    def _refuse(self, outcome: ChargeOutcome) -> NoReturn:
        """An outcome that evaluates nothing, as a problem."""
        charged = self._spent.charged
        match outcome.status:
            case Status.SUPERSEDED:
                raise _superseded(charged)
            case Status.NOT_REGISTERED:
                raise Problem(
                    Code.NOT_REGISTERED,
                    "this account has no active registration; register first",
                    charged=charged,
                )
            case Status.LOCKED:
                raise Problem(
                    Code.LOCKED,
                    "the guesses ran out and the registration is gone; only a new registration, "
                    "with a new key, can follow",
                    charged=charged,
                    guesses_remaining=0,
                )
            case Status.EXHAUSTED:
                raise Problem(
                    Code.EXHAUSTED,
                    "no guesses are left; only an attempt made before can still be proven, and "
                    "only for a short time",
                    charged=charged,
                    guesses_remaining=0,
                )
            case _:
                raise TypeError(f"a Charge without grant ended as {outcome.status}")

    async def _evaluate(self, grant: Grant) -> tuple[bytes, bool, SealedContents]:
        """Collect shares for exactly this grant, and unseal meanwhile."""
        parts = self._parts
        collection = self._collection
        if collection is None or self._asked_era != grant.era:
            collection = self._ask_shares(grant.era)

        def counts(_seat: int, share: Share) -> bool:
            return (
                isinstance(share, AttemptShare)
                and share.registration_id == grant.registration_id
                and share.era == grant.era
            )

        collection.expect(grant.era, counts)
        try:
            contents = await parts.device.unseal(
                self._record_id, grant.registration_id, grant.sealed
            )
            shares = await collection.shares()
        except SealBroken:
            parts.alarm_broken_seal("attempt")
            raise self._gone() from None
        except HsmError:
            raise self._gone() from None
        except SupersededError:
            raise _superseded(self._spent.charged) from None
        except TooFewError as error:
            raise too_few(
                error,
                charged=self._spent.charged,
                guesses_remaining=self._spent.guesses_remaining,
            ) from None
        settled = settle(parts.cluster.threshold, shares, thorough=self._verify)
        if settled is None:
            parts.metrics.disagreements.inc()
            parts.log.error("shares disagree", seats=sorted(shares), kind="attempt")
            raise disagreement(
                charged=self._spent.charged, guesses_remaining=self._spent.guesses_remaining
            )
        parts.alarm_liars(settled.liars, "attempt")
        parts.metrics.evaluation("attempt", verified=settled.verified)
        parts.witness.write(
            "evaluation",
            "combined",
            record_id=self._record_id,
            registration_id=grant.registration_id,
            era=grant.era,
            attempt_id=self._attempt_id,
            element=settled.evaluation,
            seats=settled.seats,
        )
        return settled.evaluation, settled.verified, contents

    def _gone(self) -> Problem:
        return self._parts.device_gone(
            charged=self._spent.charged, guesses_remaining=self._spent.guesses_remaining
        )

    def _ke2(self, contents: SealedContents, evaluation: bytes) -> bytes:
        ake = self._parts.ake
        try:
            return opaque_ke2(self._ke1, contents.record, evaluation, ake.private, ake.public)
        except ValueError:
            self._parts.alarm_broken_seal("attempt")
            raise self._gone() from None


def _superseded(charged: Charged) -> Problem:
    return Problem(
        Code.SUPERSEDED,
        "the record has moved on since this attempt; type the password again for a new one",
        charged=charged,
    )
