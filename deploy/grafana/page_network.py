"""The links between the data centers."""

from __future__ import annotations

from typing import Any

from panels import GREEN, MUST_BE_1, ORANGE, RED, Panel, dashboard, matrix
from queries import here, rate_here


def page() -> dict[str, Any]:
    """The page."""
    return dashboard(
        "quorumvault-network",
        "Quorumvault: network",
        "Links between the nodes: who reaches whom, how far, and how much passes.",
        [
            [
                matrix(
                    "Round trip",
                    "From each node (rows) to each peer (columns); PeerSlow is a ticket above 0.4 s.",
                    "quorumvault_peer_rtt_seconds",
                    ((None, GREEN), (0.2, ORANGE), (0.4, RED)),
                    unit="s",
                ),
                matrix(
                    "Links",
                    "1: up. From each node (rows) to each peer (columns); each direction has its own.",
                    "quorumvault_peer_connected",
                    MUST_BE_1,
                ),
            ],
            [
                Panel(
                    "Round trip over time",
                    "By node and peer.",
                    ((here("quorumvault_peer_rtt_seconds"), "{{node}} to {{peer}}"),),
                    unit="s",
                    width=12,
                    steps=((None, GREEN), (0.4, RED)),
                ),
                Panel(
                    "Link errors",
                    "Links lost and dials that failed, by node and peer.",
                    (
                        (
                            rate_here("quorumvault_peer_errors_total", "node, peer"),
                            "{{node}} to {{peer}}",
                        ),
                    ),
                    unit="ops",
                    width=12,
                ),
            ],
            [
                Panel(
                    "Sent",
                    "Bytes to all peers.",
                    ((rate_here("quorumvault_peer_sent_bytes_total"), "node {{node}}"),),
                    unit="Bps",
                ),
                Panel(
                    "Received",
                    "Bytes from all peers.",
                    ((rate_here("quorumvault_peer_received_bytes_total"), "node {{node}}"),),
                    unit="Bps",
                ),
                Panel(
                    "Waiting to be sent",
                    "Bytes in the links' buffers; growing means that the link is too narrow.",
                    ((here("quorumvault_peer_backlog_bytes"), "{{node}} to {{peer}}"),),
                    unit="bytes",
                ),
            ],
            [
                Panel(
                    "Frames dropped",
                    "Because a link's buffer was full; Raft sends again.",
                    (
                        (
                            rate_here("quorumvault_peer_dropped_frames_total", "node, peer"),
                            "{{node}} to {{peer}}",
                        ),
                    ),
                    unit="ops",
                ),
                Panel(
                    "Links that came up",
                    "One for each at a start; more means that they break.",
                    (
                        (
                            rate_here("quorumvault_peer_connects_total", "node, peer"),
                            "{{node}} to {{peer}}",
                        ),
                    ),
                    unit="ops",
                ),
                Panel(
                    "Frames that did not decode",
                    "From peers; another version, or worse.",
                    ((rate_here("quorumvault_bad_service_frames_total"), "node {{node}}"),),
                    unit="ops",
                ),
            ],
        ],
    )
