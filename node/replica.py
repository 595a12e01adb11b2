"""The replicated state as a request sees it: propose and await, read behind a Barrier (I7, I12).

Turns the host's callbacks into awaitables, and its results into answers or honest problems. A
request that is cancelled (its client went away) stops waiting and sending; what was charged stays
charged.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, assert_never

from cluster.api import Applied, NotAppended, ProposalResult, Unknown
from cluster.commands import Barrier, ChargeOutcome, Command, Status
from cluster.types import Index, RecordId, ShardId
from engines.identifiers import shard_of
from node.answers import Receipt
from node.problems import Charged, Code, Problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from cluster.api import Giver, VaultHost
    from cluster.record import Record

PROPOSE_S: Final = 8.0
"""The proposer's deadline of raft-host.md; past an election with two data centers gone."""
BUSY: Final = "busy"
"""NotAppended's reason when too many proposals are in flight: 429 instead of 503."""
DRAINING: Final = "draining"
"""NotAppended's reason when this node is on its way out."""
DISK_FULL: Final = "disk-full"
"""NotAppended's reason when this node takes no log entries for want of room."""


class Replica:
    """One node's view of the replicated records."""

    def __init__(
        self,
        host: VaultHost,
        cluster_id: UUID,
        shards: int,
        count: Callable[[ProposalResult], None],
    ) -> None:
        """`count` hears what came of every command."""
        self._host = host
        self._cluster_id = str(cluster_id)
        self._shards = shards
        self._count = count

    def shard(self, record_id: bytes) -> ShardId:
        """The group that keeps the record."""
        return ShardId(shard_of(record_id, self._shards))

    def view(self, record_id: bytes) -> tuple[Record | None, Index]:
        """The record as applied here, perhaps behind others."""
        return self._host.view(RecordId(record_id))

    def givers(self, record_id: bytes) -> list[Giver]:
        """The share-givers of the record's shard."""
        return self._host.share_givers(self.shard(record_id))

    async def propose(self, command: Command, shard: ShardId | None = None) -> ProposalResult:
        """Have a command applied and learn what came of it."""
        result: asyncio.Future[ProposalResult] = asyncio.get_running_loop().create_future()

        def done(each: ProposalResult) -> None:
            self._count(each)
            if not result.done():
                result.set_result(each)

        proposal = self._host.propose(command, timeout_s=PROPOSE_S, done=done, shard=shard)
        try:
            return await result
        except asyncio.CancelledError:
            proposal.cancel()
            raise

    async def applied(self, command: Command, shard: ShardId | None = None) -> Applied:
        """Have a command applied that charges nothing.

        Raises:
            Problem: 503 or 429, charged `no`; asking again is always safe.

        """
        result = await self.propose(command, shard)
        match result:
            case Applied():
                return result
            case NotAppended() | Unknown():
                raise not_applied(result, Charged.NO)
            case _:
                assert_never(result)

    async def linearizable(self, record_id: bytes) -> tuple[Record | None, Index]:
        """The record as of a Barrier proposed now.

        Raises:
            Problem: as `applied`.

        """
        await self.applied(Barrier(), self.shard(record_id))
        return self.view(record_id)

    def receipt(self, shard: ShardId, index: Index, version: int) -> Receipt:
        """What the client keeps to notice a vault that went back in time."""
        return Receipt(
            cluster_id=self._cluster_id, shard=shard, index=index, version=version, restore_epoch=0
        )


def charged_by(result: Applied, outcome: ChargeOutcome) -> Charged:
    """Whether this one proposal charged the attempt: the table of node.problems."""
    if outcome.status is Status.DONE:
        return Charged.YES
    if result.jumped:
        return Charged.UNKNOWN
    if outcome.status is Status.REPLAYED and result.sends > 1:
        return Charged.UNKNOWN
    return Charged.NO


def not_applied(result: NotAppended | Unknown, charged: Charged) -> Problem:
    """The problem for a command without an outcome."""
    if isinstance(result, NotAppended) and result.reason == BUSY:
        return Problem(
            Code.BUSY, "too many commands are under way; ask again shortly", charged=charged
        )
    if isinstance(result, NotAppended) and result.reason == DRAINING:
        return Problem(
            Code.DRAINING, "this node is shutting down; ask another node", charged=charged
        )
    if isinstance(result, NotAppended) and result.reason == DISK_FULL:
        return Problem(
            Code.BUSY, "this node is short of disk space; ask another node", charged=charged
        )
    return Problem(
        Code.NO_QUORUM,
        f"no quorum answered ({result.reason}); ask again, at any node",
        charged=charged,
    )
