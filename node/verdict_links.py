"""Which nodes a cluster has, which of them answer, and who of them hears whom (pure).

Part of `node.verdict`. Of a direction of a link both ends know something: the sender whether it is
connected, the receiver when it heard of the sender last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from node.report import PeerLine, StatusReport

HEARD_MS: Final = 2_000.0
"""Who was heard longer ago is not heard: a share-giver is none then, either (cluster.limits)."""


@dataclass(frozen=True)
class Place:
    """A node's place, as the cluster file or the connection file has it."""

    node: int
    seat: int
    dc: str

    @property
    def name(self) -> str:
        """For people."""
        return f"node {self.node} ({self.dc})"


@dataclass(frozen=True)
class Silent:
    """A node that does not answer for itself, and why."""

    reason: str


class Links:
    """Who hears whom, by the word of both."""

    def __init__(self, answering: Mapping[int, StatusReport]) -> None:
        self._peers: dict[int, dict[int, PeerLine]] = {
            node: {peer.node: peer for peer in report.peers} for node, report in answering.items()
        }

    def hears(self, node: int, other: int) -> bool:
        """By the word of `node`."""
        peer = self._peers.get(node, {}).get(other)
        return peer is not None and _is_fresh(peer)

    def heard(self, node: int) -> int:
        """How many others `node` exchanges frames with, by its own word."""
        return sum(peer.connected and _is_fresh(peer) for peer in self._peers[node].values())

    def down(self, sender: int, receiver: int) -> str | None:
        """Why frames from one to the other do not arrive; None: they do, or nobody can tell."""
        out = self._peers.get(sender, {}).get(receiver)
        back = self._peers.get(receiver, {}).get(sender)
        if out is not None and not out.connected:
            return out.last_error or "not connected"
        if back is not None and not _is_fresh(back):
            return "nothing arrives"
        return None

    def both_ways(self, one: int, other: int) -> bool:
        """Frames go there and back."""
        return self.down(one, other) is None and self.down(other, one) is None


def _is_fresh(peer: PeerLine) -> bool:
    return peer.last_contact_ms is not None and peer.last_contact_ms <= HEARD_MS
