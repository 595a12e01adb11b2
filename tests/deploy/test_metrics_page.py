"""docs/metrics.md lists what a running node has, and the labels stay few and clean.

`QUORUMVAULT_WRITE_DOCS=1 python -m pytest tests/deploy/test_metrics_page.py` writes the page anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from node import metrics_page

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
LABELS = {
    *("certificate", "check", "code", "kind", "le", "listener", "operation", "outcome", "peer"),
    *("reason", "result", "room", "route", "seat", "shard", "state", "verified", "version"),
}
"""All that ours may have; each is a small closed set."""


def test_the_page_is_what_running_nodes_answer(answers):
    page = metrics_page.page(answers)
    if os.environ.get("QUORUMVAULT_WRITE_DOCS"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page, (
        "run: QUORUMVAULT_WRITE_DOCS=1 python -m pytest tests/deploy/test_metrics_page.py"
    )


def test_names_and_labels_keep_prometheus_conventions(answers):
    for family in metrics_page.families(answers).values():
        if not family.name.startswith(metrics_page.OURS):
            continue
        assert re.fullmatch(r"quorumvault_[a-z][a-z_]*[a-z]", family.name)
        assert family.documentation.endswith("."), family.name
        assert "_ms" not in family.name
        for sample in family.samples:
            assert sample.labels.keys() <= LABELS, sample
            assert all(len(value) <= 64 for value in sample.labels.values()), sample


def test_counters_that_alerts_watch_begin_at_0_and_not_at_their_first_increase(answers):
    found = metrics_page.families(answers[:1])
    for name in (
        "wrong_shares",
        "broken_seals",
        "share_disagreements",
        "budget_violations",
        "lockouts",
        "hsm_errors",
        "charges",
        "evaluations",
        "shares",
        "connections_cut",
    ):
        assert [s.value for s in found[f"quorumvault_{name}"].samples if s.name.endswith("_total")]
    seats = {s.labels["seat"] for s in found["quorumvault_wrong_shares"].samples}
    assert seats == {"1", "2", "3", "4", "5"}


def test_the_disk_the_loop_the_hsm_and_the_links_were_really_measured(answers):
    for answer in answers:
        values = {
            (sample.name, *sample.labels.values()): sample.value
            for family in metrics_page.families([answer]).values()
            for sample in family.samples
        }
        assert 0 < values["quorumvault_disk_commit_seconds_sum",] < 60
        assert values["quorumvault_disk_commit_writes_count",] >= 1
        assert values["quorumvault_loop_late_seconds_count",] > 10
        assert values["quorumvault_hsm_request_seconds_count", "write_stamp"] >= 1
        peers = [key[1] for key in values if key[0] == "quorumvault_peer_sent_bytes_total"]
        assert len(peers) == 4
        for peer in peers:
            assert values["quorumvault_peer_sent_bytes_total", peer] > 0
            assert values["quorumvault_peer_received_bytes_total", peer] > 0
        now = values["process_start_time_seconds",]
        assert values["quorumvault_tls_not_after_timestamp_seconds", "node"] > now + 86_400
        assert values["quorumvault_tls_not_after_timestamp_seconds", "authority"] > now + 86_400
