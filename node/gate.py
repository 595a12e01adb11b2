"""Whether this node takes new requests: not while it drains, or its disk is nearly full or slow.

Whoever is turned away is told before anything is proposed: charged `no` (I12). Requests that are
under way go on.
"""

from __future__ import annotations

from node.problems import Code, Problem

DRAIN_RETRY_S = 5
"""When a client that has only this node may try again: after a restart."""


class Gate:
    """Open by default."""

    def __init__(self) -> None:
        self.draining = False
        """On the way out."""
        self.drained = False
        """An operator had this node step aside; it stays."""
        self.disk_short = False
        self.disk_slow = False

    def check(self) -> None:
        """Raises Problem (503 draining, 429 busy) when new requests are not taken."""
        if self.draining or self.drained:
            what = "is shutting down" if self.draining else "is drained"
            raise Problem(
                Code.DRAINING,
                f"this node {what}; ask another node",
                retry_after_s=DRAIN_RETRY_S,
            )
        if self.disk_short or self.disk_slow:
            why = "is short of disk space" if self.disk_short else "has a slow disk"
            raise Problem(
                Code.BUSY, f"this node {why}; ask another node", retry_after_s=DRAIN_RETRY_S
            )
