"""`quorumvault cluster status` tells an operator and a script how the cluster is."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from harness import Vault5, vault5, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault5]:
    with vault5(tmp_path_factory.mktemp("status"), shards=4) as running:
        yield running


def status(vault: Vault5, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            *(sys.executable, "-m", "quorumvault.cli", "cluster", "status"),
            *("--connection", str(vault.connection_file), *options),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def overview(vault: Vault5) -> dict[str, Any]:
    return json.loads(status(vault, "-o", "json").stdout)


def test_a_healthy_cluster_says_who_leads_and_that_two_more_nodes_may_fail(vault: Vault5):
    # Hashes are exchanged every 10 s; until then agreement is "unknown", which is not healthy.
    found = wait_until(
        lambda: (
            (o := overview(vault))["verdict"] == "healthy"
            and all(s["state_hash"] == "agrees" for s in o["shards"])
            and o
        ),
        "healthy with agreeing hashes",
    )
    assert found["failures_tolerated"] == 2
    assert [line["shard"] for line in found["shards"]] == [0, 1, 2, 3]
    for line in found["shards"]:
        assert line["leader"] in {1, 2, 3, 4, 5}
        assert line["term"] >= 1
        assert 0 < line["applied"] <= line["commit"]
    assert [line["node"] for line in found["nodes"]] == [1, 2, 3, 4, 5]
    assert [line["seat"] for line in found["nodes"]] == [1, 2, 3, 4, 5]
    assert found["nodes"][0]["dc"] == "frankfurt"
    for line in found["nodes"]:
        assert line["reachable"]
        assert line["ready"]
        assert line["hsm"] == "working"
        assert line["lag"] is not None
        assert line["state_hash"] == "agrees"
    assert sum(line["leads"] for line in found["nodes"]) == 4
    assert status(vault).returncode == 0


def test_a_dead_node_and_a_lost_hsm_are_named_and_counted(vault: Vault5):
    vault.kill(2)
    tokens = vault.cluster.nodes[4].token_dir
    away = tokens.with_name("tokens-away")
    tokens.rename(away)
    try:
        found = wait_until(
            lambda: (o := overview(vault))["nodes"][3]["hsm"] == "away" and o,
            "node 4's HSM is reported away",
        )
        assert found["verdict"] == "degraded"
        assert found["failures_tolerated"] == 0
        assert not found["nodes"][1]["reachable"]
        assert any("node 2" in reason and "does not answer" in reason for reason in found["why"])
        assert any("node 4" in reason and "HSM away" in reason for reason in found["why"])
        shown = status(vault)
        assert shown.returncode == 4
        assert "degraded: 0 more nodes may fail" in shown.stdout
    finally:
        away.rename(tokens)
        vault.restart(2)
    wait_until(
        lambda: overview(vault)["failures_tolerated"] == 2, "both are back and counted again"
    )


def test_without_a_quorum_it_says_so_and_exits_5(vault: Vault5):
    vault.kill(1, 2, 3)
    try:
        shown = status(vault)
        assert shown.returncode == 5
        assert "no-quorum: 0 more nodes may fail" in shown.stdout
    finally:
        vault.restart(1, 2, 3)


def test_a_missing_or_foreign_connection_file_is_one_line(tmp_path):
    for content, what in ((None, "No such file"), ("{}", "not a connection file")):
        path = tmp_path / "connection.json"
        if content is not None:
            path.write_text(content)
        shown = subprocess.run(
            [sys.executable, "-m", "quorumvault.cli", "cluster", "status", "--connection", path],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert shown.returncode == 2
        assert what in shown.stderr
        assert shown.stderr.count("\n") == 1
