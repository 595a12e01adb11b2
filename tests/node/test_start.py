"""What stops a node at its start: one line that says what and what to do, and the exit code."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from link_mesh import free_ports
from node_toml import node_toml

from cluster.cluster_file import NodeEntry, replaced, save
from cluster.datadir import DataDir
from node import creation
from node.start import EXIT_CONFIGURATION, EXIT_CONFLICT, StartRefused, open_node


class Ground:
    """A created cluster and node 1's files, with no token provisioned."""

    def __init__(self, root: Path) -> None:
        self.root = root
        ports = iter(free_ports(20))
        self.nodes = [
            NodeEntry(n, n, f"dc-{n}", *(f"127.0.0.1:{next(ports)}" for _ in range(4)))
            for n in range(1, 6)
        ]
        self.created = creation.create(root / "cluster", name="demo", nodes=self.nodes)
        public = Ed25519PrivateKey.generate().public_key()
        (root / "tenant.pem").write_bytes(
            public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        (root / "pin").write_text("1234\n")
        tokens = root / "tokens"
        tokens.mkdir()
        (root / "softhsm2.conf").write_text(f"directories.tokendir = {tokens}\n")
        self.config = root / "node.toml"
        self.write()

    def write(self, tables: str = "", **changes: object) -> None:
        entry = self.nodes[0]
        made = {
            "cluster_file": "cluster/cluster.json",
            "ca_file": "cluster/ca.pem",
            "cert_file": "cluster/nodes/1/cert.pem",
            "key_file": "cluster/nodes/1/key.pem",
            **{name: getattr(entry, name) for name in ("client", "peer", "admin", "ops")},
        }
        self.config.write_text(node_toml(tables, **made | changes))

    def run(self) -> subprocess.CompletedProcess[str]:
        """The real command, in its own process."""
        return subprocess.run(
            [sys.executable, "-m", "quorumvault.cli", "node", "run", "--config", self.config],
            env={**os.environ, "SOFTHSM2_CONF": str(self.root / "softhsm2.conf")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def _made(tmp_path_factory):
    return Ground(tmp_path_factory.mktemp("start"))


@pytest.fixture
def ground(_made):
    _made.write()
    shutil.rmtree(_made.root / "data", ignore_errors=True)  # of a node that came further
    return _made


def refused(ground: Ground) -> tuple[str, int]:
    with pytest.raises(StartRefused) as raised:
        open_node(ground.config)
    line = str(raised.value)
    assert "\n" not in line
    assert "Traceback" not in line
    return line, raised.value.exit_code


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tables": "[speed]"}, "speed"),
        ({"cluster_file": "none.json"}, "none.json"),
        ({"node_id": 9}, "node 9 is not in the cluster file"),
        ({"cert_file": "none.pem"}, "none.pem"),
        ({"ca_file": "pin"}, "pin"),
        ({"key_file": "cluster/nodes/2/key.pem"}, "do not load together"),
        ({"cert_file": "cluster/nodes/2/cert.pem"}, "is of node 2, and this is node 1"),
        ({"cert_file": "cluster/operator/cert.pem"}, "is of an operator"),
        ({"pin_file": "nopin"}, "nopin"),
        ({"client": "no.such.host.invalid:1"}, "listen.client"),
    ],
)
def test_a_wrong_or_missing_file_is_a_configuration_error(ground, changes, said):
    ground.write(**changes)
    line, code = refused(ground)
    assert said in line
    assert code == EXIT_CONFIGURATION
    assert not (ground.root / "data").exists()


@pytest.mark.parametrize("name", ["client", "peer", "admin", "ops"])
def test_a_port_in_use_is_a_conflict_that_names_it(ground, name):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        ground.write(**{name: address})
        line, code = refused(ground)
    assert f"listen.{name} = {address}" in line
    assert "in use" in line
    assert code == EXIT_CONFLICT
    assert not (ground.root / "data").exists()


def test_a_foreign_data_directory_is_a_conflict(ground, tmp_path):
    other = DataDir.claim(tmp_path / "theirs", ground.created.cluster.cluster_id, 2)
    other.release()
    ground.write(data_dir=str(tmp_path / "theirs"))
    line, code = refused(ground)
    assert "belongs to node 2" in line
    assert code == EXIT_CONFLICT
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"")
    ground.write(data_dir=str(tmp_path / "photos"))
    line, code = refused(ground)
    assert "cat.jpg" in line
    assert code == EXIT_CONFLICT


def test_a_directory_in_use_is_a_conflict(ground, tmp_path):
    held = DataDir.claim(tmp_path / "held", ground.created.cluster.cluster_id, 1)
    ground.write(data_dir=str(tmp_path / "held"))
    line, code = refused(ground)
    held.release()
    assert "in use by process" in line
    assert code == EXIT_CONFLICT


def test_after_a_refusal_nothing_stays_open(ground):
    with socket.create_server(("127.0.0.1", 0)) as other:
        ground.write(ops=f"127.0.0.1:{other.getsockname()[1]}")
        refused(ground)
    for entry in (ground.nodes[0].client, ground.nodes[0].peer, ground.nodes[0].admin):
        host, _, port = entry.rpartition(":")
        with socket.create_server((host, int(port))):
            pass


def test_the_command_prints_one_line_and_the_exit_code(ground):
    ground.write(tables="[speed]")
    ended = ground.run()
    assert (ended.returncode, ended.stdout) == (EXIT_CONFIGURATION, "")
    assert ended.stderr.count("\n") == 1
    assert "speed" in ended.stderr


def test_a_token_that_is_not_there_is_one_line(ground):
    ended = ground.run()
    assert (ended.returncode, ended.stdout) == (EXIT_CONFIGURATION, "")
    assert ended.stderr.count("\n") == 1
    assert "seat-1" in ended.stderr
    assert "1234" not in ended.stderr


def test_a_replaced_node_does_not_start_with_the_newer_cluster_file(ground):
    new = NodeEntry(6, 1, "dc-1", *(f"127.0.0.1:{port}" for port in free_ports(4)))
    save(ground.root / "newer.json", replaced(ground.created.cluster, 1, new))
    ground.write(cluster_file="newer.json")
    line, code = refused(ground)
    assert line.startswith("node 1 was replaced by node 6")
    assert line.endswith("shut this one down and destroy its HSM keys")
    assert code == EXIT_CONFLICT
