"""`quorumvault cluster create`: once, with the words handed out before anything is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

NODES = [f"dc-{number}@127.0.0.{number}" for number in range(1, 6)]


def create(*arguments: str, nodes=NODES, name="prod") -> subprocess.CompletedProcess:
    options = [option for node in nodes for option in ("--node", node)]
    return subprocess.run(
        [
            *(sys.executable, "-m", "quorumvault.cli", "cluster", "create"),
            *(*arguments, "--name", name, *options),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_writes_each_part_for_its_reader_and_keeps_keys_private(tmp_path: Path):
    done = create(str(tmp_path / "c"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 25
    assert all(len(line.split(": ")[1].split()) == 33 for line in lines)
    written = {str(path.relative_to(tmp_path / "c")) for path in (tmp_path / "c").rglob("*")}
    for path in ("cluster.json", "ca.pem", "offline/ca.key", "operator/connection.json"):
        assert path in written
    for secret in (tmp_path / "c").rglob("*.key"):
        assert secret.stat().st_mode & 0o077 == 0
    for secret in (tmp_path / "c").rglob("key.pem"):
        assert secret.stat().st_mode & 0o077 == 0
    connection = json.loads((tmp_path / "c" / "operator" / "connection.json").read_text())
    assert connection["endpoints"][4]["url"] == "https://127.0.0.5:8443"
    words = {word for line in lines for word in line.split(": ")[1].split()}
    for path in (tmp_path / "c").rglob("*"):
        if path.is_file():
            assert len(words & set(path.read_text(errors="replace").split())) < 3, path


def test_a_cluster_is_created_once(tmp_path: Path):
    assert create(str(tmp_path / "c")).returncode == 0
    before = (tmp_path / "c" / "cluster.json").read_bytes()
    again = create(str(tmp_path / "c"))
    assert again.returncode == 8
    assert "created once" in again.stderr
    assert again.stderr.count("\n") == 1
    assert (tmp_path / "c" / "cluster.json").read_bytes() == before


def test_when_the_words_cannot_be_handed_out_nothing_is_created(tmp_path: Path):
    shares = tmp_path / "shares"
    assert create(str(tmp_path / "one"), "--shares-dir", str(shares)).returncode == 0
    refused = create(str(tmp_path / "two"), "--shares-dir", str(shares))
    assert refused.returncode == 8
    assert "no cluster was created" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "two").exists()
    assert len(list(shares.iterdir())) == 25


@pytest.mark.parametrize(
    ("nodes", "name", "says"),
    [
        (NODES[:4], "prod", "--node is given 4 times"),
        ([*NODES, "dc-6@h"], "prod", "--node is given 6 times"),
        ([*NODES[:4], "dc@127.0.0.1:17101"], "prod", "without a port"),
        ([*NODES[:4], "nowhere"], "prod", "write it as DC@HOST"),
        ([*NODES[:4], "dc@127.0.0.1"], "prod", "is already"),
        (NODES, "a name!", "$.name"),
    ],
)
def test_a_mistake_is_one_line_and_creates_nothing(tmp_path: Path, nodes, name, says):
    done = create(str(tmp_path / "c"), nodes=nodes, name=name)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "c").exists()
