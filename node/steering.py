"""What an operator may have a running node do: step aside and stay, lead again, hand shards over.

Nothing of it touches a count or a record (I6), and nothing of it survives a restart. A drained node
takes no requests and leads nothing if it can help it; it votes, replicates, answers peers and gives
shares as before, so the vault loses none of its strength.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from cluster.handover import HandedOver, NotInTime, NotLeader, NoVoter, Unwilling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cluster.api import VaultHost
    from cluster.handover import TransferResult
    from cluster.types import ShardId
    from node.events import Events
    from node.gate import Gate


class OnItsWayOut(Exception):  # noqa: N818 - it says what is so
    """The node was told to stop; that is not taken back."""


class Steering:
    """Of one node. `ask` hands a shard over, `leaving` tells whether the node was told to stop."""

    def __init__(
        self,
        host: VaultHost,
        gate: Gate,
        ask: Callable[[int, int], Awaitable[TransferResult]],
        leaving: Callable[[], bool],
        events: Events,
    ) -> None:
        self._host = host
        self._gate = gate
        self._ask = ask
        self._leaving = leaving
        self._events = events

    def drain(self, operator: str) -> int:
        """Take no requests and hand every shard over; how many it leads still."""
        if not self._gate.drained:
            self._events.tell("drain", f"drained by operator {operator}")
        self._gate.drained = True
        self._host.set_drained(drained=True)
        return sum(group.role == "leader" for group in self._host.status().groups)

    def undrain(self, operator: str) -> None:
        """Serve and lead again.

        Raises:
            OnItsWayOut: too late.

        """
        if self._leaving():
            raise OnItsWayOut("this node was told to stop; start it again when it has")
        if self._gate.drained:
            self._events.tell("undrain", f"undrained by operator {operator}")
        self._gate.drained = False
        self._host.set_drained(drained=False)

    async def transfer(self, operator: str, shard: int, to: int) -> TransferResult:
        """Have node `to` lead the shard; answered within 5 s."""
        result = await self._ask(shard, to)
        expected = isinstance(result, HandedOver | NotLeader)
        self._events.tell(
            "transfer", f"for operator {operator} {_outcome(result, to)}",
            level="info" if expected else "warning", shard=shard,
        )  # fmt: skip
        return result

    def balance(self, operator: str) -> list[ShardId]:
        """Ask the preferred seat of each shard led here; the shards asked for."""
        asked = self._host.balance()
        text = f"for operator {operator} preferred seats were asked to lead {len(asked)} shards"
        self._events.tell("transfer", text)
        return asked


def _outcome(result: TransferResult, to: int) -> str:
    """What became of it, as an event says it."""
    match result:
        case HandedOver():
            return f"node {to} leads"
        case NotLeader(leader):
            who = f"node {leader} leads already" if leader else "nobody is known to lead"
            return f"nothing was handed over here: {who}"
        case NoVoter(reason) | Unwilling(reason):
            return f"nothing was handed over: {reason}"
        case NotInTime(leader):
            who = f"node {leader} leads" if leader else "nobody is known to lead"
            return f"node {to} was asked to lead and does not: {who}"
        case _:
            assert_never(result)
