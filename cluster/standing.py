"""Is this node a share-giver of a shard now, and if not, why? It keeps I1 and I9.

Before any single attempt is looked at (`giving`): a voter with a durable, complete ledger, an HSM
that works, and a state that nobody contradicts. Whoever is in doubt about itself gives nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.room import Room

if TYPE_CHECKING:
    from cluster.core import Core
    from cluster.hashes import Hashes
    from cluster.marks import Gate
    from cluster.types import ShardId


class Standing:
    """Of one node, in all its shards."""

    def __init__(self, core: Core, hashes: Hashes, gate: Gate) -> None:
        self._core = core
        self._hashes = hashes
        self._gate = gate

    @property
    def doubt(self) -> bool:
        """What is applied here may not be what the others have."""
        full = self._core.room is Room.FULL  # it lags on purpose
        contradicted = self._hashes.doubt or bool(self._core.unsettled)
        return contradicted or not self._gate.open or full

    def gives(self, shard: ShardId) -> bool:
        """This node gives attempt shares of the shard."""
        core, group = self._core, self._core.groups[shard]
        voter = core.shape.node_id in group.voters and group.durable_ledger
        return voter and core.hsm and not self.doubt and not core.stopped

    def why_not(self) -> str:
        """Why it does not, in words."""
        if not self._core.hsm:
            return "the HSM is away"
        if self._hashes.doubt or self._core.unsettled:
            return "its state is contradicted"
        if self._core.room is Room.FULL:
            return "its disk is full"
        return self._gate.waiting_for or "not a voter of the shard with a complete ledger"
