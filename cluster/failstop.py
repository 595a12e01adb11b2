"""The host behind a guard: any exception that leaves it ends the node, whoever called (I8, I9).

A host that raised has stopped in the middle of a rule. A request handler that turned this into an
error answer and went on would serve from it; so the guard stands at the host itself, not at its
callers.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from cluster.api import HostStopped
from cluster.store_format import StoreError
from cluster.types import InvariantError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.api import (
        Giver,
        HostStatus,
        Proposal,
        ProposalResult,
        Shape,
        ShareVerdict,
        VaultHost,
    )
    from cluster.commands import Command
    from cluster.handover import TransferResult
    from cluster.ledger import LedgerRow
    from cluster.record import Record
    from cluster.room import Room
    from cluster.types import AttemptId, Era, Index, NodeId, RecordId, ShardId

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("quorumvault.runtime")


class FailStop:
    """A `VaultHost` whose first exception is its last word: `on_fatal(line)` ends the process.

    Where `on_fatal` returns (in tests), every later call raises HostStopped. What a node asks for
    is followed by `wake`, so that a turn takes it up.
    """

    def __init__(
        self,
        host: VaultHost,
        on_fatal: Callable[[str], object],
        wake: Callable[[], None],
    ) -> None:
        self._host = host
        self._on_fatal = on_fatal
        self._wake = wake
        self.stopped = False

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call into the host.

        Raises:
            HostStopped: it failed, now or before.

        """
        if self.stopped:
            raise HostStopped("the host has stopped")
        try:
            return call(*args, **kwargs)
        except (HostStopped, InvariantError, StoreError) as error:
            failure: Exception = error
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - the outermost place that can end the process
            _log.critical("the host failed", exc_info=error)
            failure = error
            reason = f"{type(error).__name__}: {error}"
        self.fail(reason)
        raise HostStopped(reason) from failure

    def fail(self, reason: str) -> None:
        """End the node."""
        self.stopped = True
        self._on_fatal(reason)

    # ---- driver
    def start(self) -> None:
        """See VaultHost."""
        self.run(self._host.start)

    def on_frame(self, sender: NodeId, payload: bytes) -> None:
        """See VaultHost."""
        self.run(self._host.on_frame, sender, payload)

    def on_link_up(self, peer: NodeId) -> None:
        """See VaultHost."""
        self.run(self._host.on_link_up, peer)

    def on_link_down(self, peer: NodeId) -> None:
        """See VaultHost."""
        self.run(self._host.on_link_down, peer)

    def on_tick(self) -> None:
        """See VaultHost."""
        self.run(self._host.on_tick)

    def turn(self) -> None:
        """See VaultHost."""
        self.run(self._host.turn)

    # ---- node
    def propose(
        self,
        command: Command,
        *,
        timeout_s: float,
        done: Callable[[ProposalResult], None],
        shard: ShardId | None = None,
    ) -> Proposal:
        """See VaultHost."""
        proposal = self.run(
            self._host.propose, command, timeout_s=timeout_s, done=done, shard=shard
        )
        self._wake()
        return proposal

    def view(self, record_id: RecordId) -> tuple[Record | None, Index]:
        """See VaultHost."""
        return self.run(self._host.view, record_id)

    def ledger_row(self, record_id: RecordId) -> LedgerRow | None:
        """See VaultHost."""
        return self.run(self._host.ledger_row, record_id)

    def share_verdict(self, record_id: RecordId, era: Era, attempt_id: AttemptId) -> ShareVerdict:
        """See VaultHost."""
        return self.run(self._host.share_verdict, record_id, era, attempt_id)

    def want_share(self, record_id: RecordId) -> None:
        """See VaultHost."""
        self.run(self._host.want_share, record_id)
        self._wake()

    def watch(self, record_id: RecordId, callback: Callable[[], None]) -> Callable[[], None]:
        """See VaultHost."""
        return self.run(self._host.watch, record_id, callback)

    def share_givers(self, shard: ShardId) -> list[Giver]:
        """See VaultHost."""
        return self.run(self._host.share_givers, shard)

    def set_hsm(self, *, working: bool) -> None:
        """See VaultHost."""
        self.run(self._host.set_hsm, working=working)
        self._wake()

    def set_room(self, room: Room) -> None:
        """See VaultHost."""
        self.run(self._host.set_room, room)
        self._wake()

    def adopt(self, shape: Shape) -> None:
        """See VaultHost."""
        self.run(self._host.adopt, shape)
        self._wake()

    def status(self) -> HostStatus:
        """See VaultHost."""
        return self.run(self._host.status)

    def drain(self, done: Callable[[], None]) -> None:
        """See VaultHost."""
        self.run(self._host.drain, done)
        self._wake()

    def set_drained(self, *, drained: bool) -> None:
        """See VaultHost."""
        self.run(self._host.set_drained, drained=drained)
        self._wake()

    def transfer(self, shard: int, to: int, done: Callable[[TransferResult], None]) -> None:
        """See VaultHost."""
        self.run(self._host.transfer, shard, to, done)
        self._wake()

    def balance(self) -> list[ShardId]:
        """See VaultHost."""
        asked = self.run(self._host.balance)
        self._wake()
        return asked

    def stop(self) -> None:
        """See VaultHost."""
        self.run(self._host.stop)
