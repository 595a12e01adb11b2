"""Doctor in front of a running cluster: all well is all well, and each planted fault is named."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from harness import Vault5, wait_until
from reissue import reissue
from test_operator import Desk

from cluster.certificates import Authority, node_uri

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

Findings = dict[str, dict[str, str]]


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QUORUMVAULT_")}
    return subprocess.run(
        [sys.executable, "-m", "quorumvault.cli", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )


def examined(vault: Vault5) -> tuple[int, Findings]:
    said = doctor("--online", "--connection", str(vault.connection_file), "-o", "json")
    assert not said.stderr
    return said.returncode, {each["check"]: each for each in json.loads(said.stdout)["findings"]}


def bad(findings: Findings) -> dict[str, str]:
    found = {name: each["level"] for name, each in findings.items() if each["level"] != "ok"}
    assert all(findings[name]["next_step"] for name in found)
    return found


def test_a_healthy_cluster_has_all_well(shared_vault: Vault5):
    seen: list[tuple[int, Findings]] = []

    def well() -> bool:
        """Whatever was before may still be ending; shards go back to their seats in minutes."""
        seen.append(examined(shared_vault))
        return bad(seen[-1][1]).keys() <= {"leaders"}

    wait_until(well, "all is well", timeout_s=60)
    code, findings = seen[-1]
    assert code == (4 if bad(findings) else 0)
    assert findings["cluster"]["found"] == "healthy: 2 more nodes may fail"
    assert {"client listeners", "ops listeners", "clocks", "HSMs", "leaders"} <= findings.keys()
    table = doctor("--online", "--connection", str(shared_vault.connection_file))
    assert "[ok]   cluster: healthy: 2 more nodes may fail\n" in table.stdout


@contextlib.contextmanager
def kept(*paths: Path) -> Iterator[None]:
    files = {path: path.read_bytes() for path in paths}
    try:
        yield
    finally:
        for path, data in files.items():
            path.write_bytes(data)


def missed(status: dict[str, Any], dead: int) -> bool:
    """This node knows that the other is gone, and who leads its shards now."""
    gone = all(not peer["connected"] for peer in status["peers"] if peer["node"] == dead)
    return gone and all(group["leader"] not in (0, dead) for group in status["groups"])


def test_each_planted_fault_is_named_with_its_next_step(stormy_vault: Vault5):
    vault = stormy_vault
    desk = Desk(vault)
    folder = vault.root / "cluster"
    pair = [folder / "nodes" / "3" / name for name in ("cert.pem", "key.pem")]
    config = vault.cluster.nodes[1].config
    authority = Authority(
        (folder / "ca.pem").read_bytes(), (folder / "offline" / "ca.key").read_bytes()
    )
    cluster_id = json.loads((folder / "cluster.json").read_text())["cluster_id"]
    soon = reissue(
        authority, node_uri(cluster_id, 3), ["127.0.0.1"], ends_in=dt.timedelta(days=9, hours=1)
    )
    with kept(*pair, config):
        for path, data in zip(pair, (soon.cert_pem, soon.key_pem), strict=True):
            path.write_bytes(data)
        config.write_text("nonsense = 1\n" + config.read_text())
        try:
            assert desk.post(1, "reload")[0] == 422
            assert desk.post(2, "drain")[0] == 200
            assert desk.post(3, "reload")[0] == 200
            vault.kill(5)
            wait_until(
                lambda: all(missed(desk.status(node), 5) for node in (1, 2, 3, 4)), "5 is missed"
            )
            code, findings = examined(vault)
        finally:
            config.write_text(config.read_text().removeprefix("nonsense = 1\n"))
            assert desk.post(1, "reload")[0] == 200
            assert desk.post(2, "undrain")[0] == 200
    assert desk.post(3, "reload")[0] == 200
    found = bad(findings)
    assert code == 2
    assert found.pop("leaders", "warn") == "warn"  # those of the dead node are with others
    assert found == {
        "cluster": "warn",
        "client listener node 5": "fail",
        "admin listener node 5": "fail",
        "ops listener node 5": "warn",
        "certificate dates node 3": "warn",
        "readiness node 2": "warn",
        "configuration node 1": "warn",
    }
    assert "9 days left" in findings["certificate dates node 3"]["found"]
    assert "unknown field `nonsense`" in findings["configuration node 1"]["found"]
    assert "undrain 2" in findings["readiness node 2"]["next_step"]
    assert "1 more node may fail" in findings["cluster"]["found"]


def test_without_a_cluster_to_ask_the_next_step_is_told(tmp_path: Path):
    for arguments, words in (
        ((), "give --config FILE for this machine's node, or --online --connection FILE"),
        (("--online",), "give its connection file with --connection"),
        (("--online", "--connection", str(tmp_path / "none")), "No such file"),
    ):
        said = doctor(*arguments)
        assert (said.returncode, said.stdout) == (2, "")
        assert words in said.stderr
