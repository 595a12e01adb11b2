"""The parts of a running node that the calls work with, put together once by `node.vault`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from node.evaluation import distinct_seats
from node.problems import Charged, Code, Problem

if TYPE_CHECKING:
    import structlog

    from cluster.api import Giver
    from cluster.cluster_file import ClusterFile
    from cluster.types import NodeId
    from node.device import Device
    from node.evaluation import Hedge
    from node.exchange import Exchange
    from node.metrics import Metrics
    from node.replica import Replica
    from node.witness import Witness


@dataclass(frozen=True, slots=True)
class AkeKeys:
    """The vault's OPAQUE key pair, 32 bytes each; the private half is never shown."""

    private: bytes = field(repr=False)
    public: bytes


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a call needs."""

    cluster: ClusterFile
    node_id: NodeId
    seat: int
    replica: Replica
    device: Device
    exchange: Exchange
    hedge: Hedge
    ake: AkeKeys
    witness: Witness
    metrics: Metrics
    log: structlog.typing.FilteringBoundLogger

    def enough_givers(self, record_id: bytes) -> list[Giver]:
        """The share-givers of a record, at least the threshold of distinct seats.

        Raises:
            Problem: 503 hsm-unavailable, charged `no`: a guess that nobody can evaluate is not
                spent.

        """
        self.need_device()
        givers = distinct_seats(self.replica.givers(record_id))
        if len(givers) < self.cluster.threshold:
            raise Problem(
                Code.HSM_UNAVAILABLE,
                f"{len(givers)} of the {self.cluster.threshold} seats needed can give shares now; "
                "nothing was spent, ask again",
            )
        return givers

    def need_device(self) -> None:
        """Our own HSM works.

        Raises:
            Problem: 503 hsm-unavailable, charged `no`.

        """
        if not self.device.healthy:
            raise Problem(
                Code.HSM_UNAVAILABLE, "this node's HSM is away; nothing was spent, ask another node"
            )

    def device_gone(
        self, *, charged: Charged = Charged.NO, guesses_remaining: int | None = None
    ) -> Problem:
        """503: the HSM went away, or could not open what it should, in the middle of a call."""
        return Problem(
            Code.HSM_UNAVAILABLE,
            "this node's HSM cannot open the registration now; ask again, at any node",
            charged=charged,
            guesses_remaining=guesses_remaining,
        )

    def alarm_liars(self, liars: tuple[int, ...], kind: str) -> None:
        """Seats gave wrong shares: tell whoever watches."""
        for seat in liars:
            self.metrics.wrong_shares.labels(str(seat)).inc()
            self.log.error("wrong share", seat=seat, kind=kind)

    def alarm_broken_seal(self, call: str) -> None:
        """What is sealed does not open or is no OPAQUE record: tell whoever watches."""
        self.metrics.broken_seals.inc()
        self.log.error("sealed registration does not open", call=call)
