"""An operator's commands at five real nodes, as typed, in a good moment and in the worst."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from harness import Vault5, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

DEAD, DRAINED = 2, 4
WELL = [1, 3, 5]


class Operator:
    """Somebody at a shell."""

    def __init__(self, vault: Vault5) -> None:
        self.vault = vault
        self.connection = vault.connection_file

    def types(self, line: str) -> subprocess.CompletedProcess[str]:
        words = [*line.split(), "--connection", str(self.connection)]
        done = subprocess.run(
            [sys.executable, "-m", "quorumvault.cli", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def gets(self, line: str, code: int = 0) -> str:
        """What is on stdout of a command that ends with this code."""
        done = self.types(line)
        assert done.returncode == code, (line, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def is_told(self, line: str, code: int) -> str:
        """The one line on stderr of a command that ends with this code."""
        done = self.types(line)
        assert done.returncode == code, (line, done.returncode, done.stdout, done.stderr)
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    def sees(self, line: str, code: int = 0) -> Any:
        return json.loads(self.gets(f"{line} -o json", code))

    def until_healthy(self) -> None:
        wait_until(lambda: self.types("cluster status").returncode == 0, "all is well", 60)


@pytest.fixture(scope="module")
def operator(shared_vault: Vault5) -> Iterator[Operator]:
    made = Operator(shared_vault)
    made.until_healthy()
    yield made
    made.types(f"node undrain {DRAINED}")


def test_in_a_good_moment_everything_says_so(operator: Operator):
    shown = operator.gets("cluster status")
    assert shown.startswith("healthy: 2 more nodes may fail\n\nnode ")
    assert max(map(len, shown.splitlines())) <= 80
    status = operator.sees("cluster status")
    assert [node["state"] for node in status["nodes"]] == ["ready"] * 5
    shards = len(status["shards"])
    members = operator.sees("cluster members")
    assert [(m["seat"], m["node"]) for m in members["members"]] == [(n, n) for n in range(1, 6)]
    assert all(len(m["voter"]) == m["ledger"] == shards for m in members["members"])
    assert operator.sees("node reload 1") == {"node": 1, "changed": [], "needs_restart": []}
    probed = operator.sees("probe")
    assert (probed["well"], len(probed["nodes"])) == (5, 5)
    kinds = {json.loads(row)["kind"] for row in operator.gets("events -o json").splitlines()}
    assert kinds & {"ready", "leader", "reload"}


def test_who_is_no_operator_is_told_so(operator: Operator, tmp_path: Path):
    folder = operator.vault.root / "cluster"
    told = operator.vault.connection
    told["admin"] |= {
        "cert_file": str(folder / "nodes" / "2" / "cert.pem"),
        "key_file": str(folder / "nodes" / "2" / "key.pem"),
    }
    path = tmp_path / "connection.json"
    path.write_text(json.dumps(told))
    peer = Operator(operator.vault)
    peer.connection = path
    assert "does not take this certificate for an operator's" in peer.is_told("node drain 1", 6)


def test_with_a_node_dead_and_another_drained_each_command_says_what_is_so(
    operator: Operator, stormy_vault: Vault5
):
    stormy_vault.kill(DEAD)
    assert "leads nothing after" in operator.is_told(f"node drain {DRAINED} --wait 30", 0)

    def settled() -> Any:
        done = operator.types("cluster status -o json")
        told = json.loads(done.stdout)
        led = {shard["leader"] for shard in told["shards"]}
        return done.returncode == 4 and led <= set(WELL) and told

    status = wait_until(settled, "the three others lead every shard", 60)
    assert status["verdict"] == "degraded"
    assert status["failures_tolerated"] == 1
    states = {node["node"]: node["state"] for node in status["nodes"]}
    assert states == {1: "ready", DEAD: "no answer", 3: "ready", DRAINED: "drained", 5: "ready"}
    assert any(f"node {DEAD} " in why and "does not answer" in why for why in status["why"])
    assert any(f"node {DRAINED} " in why and "drained" in why for why in status["why"])

    assert f"node {DEAD} (amsterdam) does not answer" in operator.gets("cluster members", 4)
    assert "does not answer at https://" in operator.is_told(f"node undrain {DEAD}", 3)
    assert "is drained" in operator.is_told(f"leader transfer --shard 0 --to {DRAINED}", 8)
    assert "is not connected" in operator.is_told(f"leader transfer --shard 0 --to {DEAD}", 8)
    assert "no node 6" in operator.is_told("leader transfer --shard 0 --to 6", 7)

    def gathered() -> bool:  # a leader hands over as soon as it knows how far the heir is
        return operator.types("leader transfer --shard all --to 3").returncode == 0

    wait_until(gathered, "node 3 leads every shard", 60)
    balanced = operator.sees("leader balance", 4)
    assert [each["node"] for each in balanced["nodes"]] == [1, 3, 4, 5]
    assert [each["node"] for each in balanced["not_asked"]] == [DEAD]

    probed = operator.sees("probe --timeout 3", 4)["nodes"]
    assert [line["node"] for line in probed if line["well"]] == WELL
    assert [line["why"] for line in probed if not line["well"]] == ["does not answer", "is drained"]

    told = [json.loads(row) for row in operator.gets("events --last 0 -o json", 4).splitlines()]
    assert any((each["node"], each["kind"]) == (DRAINED, "drain") for each in told)
    assert any((each["kind"], each.get("peer")) == ("peer-down", DEAD) for each in told)
    assert told == sorted(told, key=lambda each: each["t"])

    assert "serves again" in operator.is_told(f"node undrain {DRAINED}", 0)
    stormy_vault.restart(DEAD)
    operator.until_healthy()
    assert "started" in operator.gets(f"events --node {DEAD} --last 0")
