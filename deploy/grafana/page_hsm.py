"""The HSMs, the shares, and the process around them."""

from __future__ import annotations

from typing import Any

from panels import GREEN, MUST_BE_0, ORANGE, RED, Panel, dashboard, stat, states
from queries import here, rate, rate_here


def page() -> dict[str, Any]:
    """The page."""
    mean = (
        f"{rate_here('quorumvault_hsm_request_seconds_sum', 'operation')}"
        f" / {rate_here('quorumvault_hsm_request_seconds_count', 'operation')}"
    )
    return dashboard(
        "quorumvault-hsm",
        "Quorumvault: HSM and process",
        "HSMs, shares, certificates, and what the process needs.",
        [
            [
                states(
                    "HSM works",
                    "HSMDown is a ticket after a minute.",
                    here("quorumvault_hsm_up"),
                    "{{node}} {{dc}}",
                ),
                Panel(
                    "HSM request, mean by operation",
                    "From asking to the answer, waiting included.",
                    ((mean, "{{operation}}"),),
                    unit="s",
                ),
                Panel(
                    "HSM errors",
                    "HSMErrors is a ticket above 0.05 a second for five minutes.",
                    (
                        (
                            rate_here("quorumvault_hsm_errors_total", "node, operation"),
                            "{{node}} {{operation}}",
                        ),
                    ),
                    unit="ops",
                    steps=((None, GREEN), (0.05, RED)),
                ),
            ],
            [
                Panel(
                    "Sessions lost and reopened",
                    "How often the HSM went away and came back, since the node started.",
                    (
                        (here("quorumvault_hsm_sessions_lost_total"), "lost {{node}}"),
                        (here("quorumvault_hsm_sessions_reopened_total"), "reopened {{node}}"),
                    ),
                ),
                Panel(
                    "Waiting for the HSM",
                    "Requests in line; one thread asks, in order.",
                    ((here("quorumvault_hsm_waiting"), "node {{node}}"),),
                ),
                Panel(
                    "Turned away by a busy HSM",
                    "Too many waited.",
                    ((rate_here("quorumvault_hsm_busy_total"), "node {{node}}"),),
                    unit="ops",
                ),
            ],
            [
                Panel(
                    "Shares by result",
                    "That the nodes were asked for: given, or why not.",
                    ((rate("quorumvault_shares_total", "result"), "{{result}}"),),
                    unit="ops",
                ),
                Panel(
                    "Evaluations",
                    "Combined of three shares, or verified with four or five.",
                    (
                        (
                            rate("quorumvault_evaluations_total", "kind, verified"),
                            "{{kind}} verified {{verified}}",
                        ),
                    ),
                    unit="ops",
                ),
                Panel(
                    "Hedges",
                    "The nearest peers were too slow and further ones were asked.",
                    ((rate_here("quorumvault_share_hedges_total"), "node {{node}}"),),
                    unit="ops",
                ),
            ],
            [
                stat(
                    "Wrong shares",
                    "Must be 0: a seat's keys are wrong, or it is owned.",
                    "sum(quorumvault_wrong_shares_total)",
                    MUST_BE_0,
                ),
                stat(
                    "Disagreements",
                    "Must be 0: shares disagreed and no liar could be named.",
                    "sum(quorumvault_share_disagreements_total)",
                    MUST_BE_0,
                ),
                stat(
                    "Broken seals",
                    "Must be 0: a sealed registration did not open.",
                    "sum(quorumvault_broken_seals_total)",
                    MUST_BE_0,
                ),
                stat(
                    "Versions",
                    "More than one only during an upgrade.",
                    "count(count by (version) (quorumvault_build_info))",
                    ((None, GREEN), (2, ORANGE)),
                ),
                stat(
                    "Certificate days left",
                    "Of the certificate that ends first. A ticket below 30, a page below 7.",
                    "min(quorumvault_tls_not_after_timestamp_seconds - time()) / 86400",
                    ((None, RED), (7, ORANGE), (30, GREEN)),
                    least=None,
                ),
                stat(
                    "Configuration refused",
                    "Nodes whose last reload was refused: they run on what they had.",
                    "sum(quorumvault_configuration_refused)",
                    MUST_BE_0,
                ),
            ],
            [
                Panel(
                    "Event loop late, p99",
                    "A tick of 50 ms came so late. EventLoopSlow is a ticket above 0.25 s.",
                    ((here("instance:quorumvault_loop_late_seconds:p99_rate5m"), "node {{node}}"),),
                    unit="s",
                    steps=((None, GREEN), (0.25, RED)),
                ),
                Panel(
                    "CPU",
                    "Cores used.",
                    (
                        (
                            rate(
                                "process_cpu_seconds_total",
                                "node",
                                'job="quorumvault",node=~"$node"',
                            ),
                            "node {{node}}",
                        ),
                    ),
                ),
                Panel(
                    "Memory",
                    "Resident bytes.",
                    (
                        (
                            'process_resident_memory_bytes{job="quorumvault",node=~"$node"}',
                            "node {{node}}",
                        ),
                    ),
                    unit="bytes",
                ),
            ],
            [
                Panel(
                    "Open files",
                    "Of what the process may open.",
                    (
                        (
                            'process_open_fds{job="quorumvault",node=~"$node"} / process_max_fds{job="quorumvault",node=~"$node"}',
                            "node {{node}}",
                        ),
                    ),
                    unit="percentunit",
                ),
                Panel(
                    "Up for",
                    "Time since the process started; RestartLoop tells of a node that starts again and again.",
                    (
                        (
                            'time() - process_start_time_seconds{job="quorumvault",node=~"$node"}',
                            "node {{node}}",
                        ),
                    ),
                    unit="s",
                ),
                states(
                    "In service",
                    "Red: drained, by an operator or on its way down.",
                    f"1 - {here('quorumvault_draining')}",
                    "{{node}} {{dc}}",
                ),
            ],
        ],
    )
