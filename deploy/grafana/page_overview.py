"""What a person looks at first: is all well, what may still fail, what do clients see."""

from __future__ import annotations

from typing import Any

from panels import GREEN, MUST_BE_0, ORANGE, RED, Panel, dashboard, stat, states
from queries import here, quantile, rate


def page() -> dict[str, Any]:
    """The page."""
    return dashboard(
        "quorumvault-overview",
        "Quorumvault: overview",
        "Is all well, what may still fail, and what clients see.",
        [
            [
                stat(
                    "May still fail",
                    "So many more nodes may be lost before the vault stops; 2 of 5 when all is well. By Raft members in contact and by working HSMs, whichever is fewer.",
                    "quorumvault:failures_tolerated:min",
                    ((None, RED), (1, ORANGE), (2, GREEN)),
                ),
                stat(
                    "Nodes up",
                    "Nodes that answer Prometheus.",
                    'sum(up{job="quorumvault"})',
                    ((None, RED), (4, ORANGE), (5, GREEN)),
                ),
                stat(
                    "Nodes ready",
                    "Nodes whose every check passes, leader or follower.",
                    "sum(quorumvault_ready) or vector(0)",
                    ((None, RED), (4, ORANGE), (5, GREEN)),
                ),
                stat(
                    "Share-givers",
                    "Seats that can give shares, as the node with the best view sees it, of the shard with the fewest. An evaluation needs three.",
                    "max(quorumvault_share_givers) or vector(0)",
                    ((None, RED), (4, ORANGE), (5, GREEN)),
                ),
                stat(
                    "Shards without a leader",
                    "Accounts of such a shard cannot be served.",
                    "count(max by (shard) (quorumvault_raft_leader_known) == 0) or vector(0)",
                    MUST_BE_0,
                ),
                stat(
                    "Pages firing",
                    "Alerts that wake somebody; docs/alerts.md has a page for each.",
                    'count(ALERTS{alertstate="firing",severity="page"}) or vector(0)',
                    MUST_BE_0,
                ),
            ],
            [
                states(
                    "Ready",
                    "Able to serve; a node that is gone has no bar.",
                    here("quorumvault_ready"),
                    "{{node}} {{dc}}",
                ),
                Panel(
                    "Checks that fail",
                    "At how many nodes each check of /readyz fails.",
                    (("sum by (check) (1 - quorumvault_check)", "{{check}}"),),
                    steps=MUST_BE_0,
                ),
                Panel(
                    "Shards led",
                    "Leaders are spread when all is well; a drained or short node leads none.",
                    ((f"sum by (node) ({here('quorumvault_raft_leader')})", "node {{node}}"),),
                ),
            ],
            [
                Panel(
                    "Requests by outcome",
                    "What clients asked, at all nodes, by problem code (ok: none).",
                    ((rate("quorumvault_requests_total", "code"), "{{code}}"),),
                    unit="reqps",
                ),
                Panel(
                    "Share of failed requests",
                    "internal, no-quorum, hsm-unavailable, ledger-full or busy, of all. ErrorsHigh pages above 5 %.",
                    ((here("instance:quorumvault_requests_failed:ratio_rate5m"), "node {{node}}"),),
                    unit="percentunit",
                    steps=((None, GREEN), (0.05, RED)),
                ),
                Panel(
                    "Requests under way",
                    "At most 1,024 per node by default; beyond, clients get 429 busy.",
                    ((here("quorumvault_requests_in_flight"), "node {{node}}"),),
                ),
            ],
            [
                Panel(
                    "Latency, median by route",
                    "Half of the requests took no longer, over all nodes.",
                    ((quantile(0.5, "quorumvault_request_seconds", "route"), "{{route}}"),),
                    unit="s",
                    width=12,
                ),
                Panel(
                    "Latency, p99 by route",
                    "99 of 100 took no longer. SlowRequests is a ticket above 3.2 s.",
                    ((quantile(0.99, "quorumvault_request_seconds", "route"), "{{route}}"),),
                    unit="s",
                    width=12,
                    steps=((None, GREEN), (3.2, RED)),
                ),
            ],
            [
                Panel(
                    "Attempts by outcome",
                    "Charges proposed at all nodes: done is a guess that was counted; replayed is the same one asked again.",
                    ((rate("quorumvault_charges_total", "outcome"), "{{outcome}}"),),
                    unit="ops",
                ),
                Panel(
                    "Lockouts in 15 minutes",
                    "Records that ran out of guesses and were erased. LockoutSpike pages above 20.",
                    (("max(increase(quorumvault_lockouts_total[15m]))", "lockouts"),),
                    steps=((None, GREEN), (20, RED)),
                ),
                Panel(
                    "Records by state",
                    "As applied, summed over the shards.",
                    (
                        (
                            "sum by (state) (max by (shard, state) (quorumvault_records))",
                            "{{state}}",
                        ),
                    ),
                ),
            ],
        ],
    )
