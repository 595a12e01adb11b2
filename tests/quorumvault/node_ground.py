"""One provisioned node on real SoftHSM, as its operator makes it, and copies to plant faults in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from link_mesh import free_ports
from node_toml import SOFTHSM, node_toml

from cluster.cluster_file import NodeEntry
from node import creation


@dataclass
class NodeGround:
    """A folder with one node's files; `environment` goes over the test's own."""

    root: Path
    entry: NodeEntry
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.root / "node.toml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def authority(self) -> Path:
        """The directory of `cluster create`."""
        return self.root / "cluster"

    def write(self) -> None:
        listen = {name: getattr(self.entry, name) for name in ("client", "peer", "admin", "ops")}
        self.config.write_text(node_toml("[limits]\nconcurrent_requests = 64", **listen))
        tokens = self.root / "tokens"
        tokens.mkdir(exist_ok=True)
        (self.root / "softhsm2.conf").write_text(f"directories.tokendir = {tokens}\n")

    def edit(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The real command in a process of its own."""
        own = {key: value for key, value in os.environ.items() if "QUORUMVAULT" not in key}
        return subprocess.Popen(
            [sys.executable, "-m", "quorumvault.cli", *arguments],
            env={**own, "SOFTHSM2_CONF": str(self.root / "softhsm2.conf"), **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a command that ends."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def copy(self, root: Path) -> NodeGround:
        """The same node, its files elsewhere: what is planted there stays there."""
        shutil.copytree(self.root, root, copy_function=shutil.copy2)
        made = NodeGround(root, self.entry)
        made.write()
        return made


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for the condition; the test fails when it never holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.02)


def make(root: Path) -> NodeGround:
    """Create a cluster, provision node 1's token with its custodians' words."""
    ports = iter(free_ports(20))
    nodes = [
        NodeEntry(n, n, f"dc-{n}", *(f"127.0.0.1:{next(ports)}" for _ in range(4)))
        for n in range(1, 6)
    ]
    ground = NodeGround(root, nodes[0])
    created = creation.create(ground.authority, name="demo", nodes=nodes)
    public = Ed25519PrivateKey.generate().public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (root / "tenant.pem").write_bytes(pem)
    for name in ("cluster.json", "ca.pem", "nodes/1/cert.pem", "nodes/1/key.pem"):
        shutil.copy2(ground.authority / name, root / Path(name).name)
    for name in ("pin", "so-pin"):
        creation.write_private(root / name, b"1234-" + name.encode() + b"\n")
    words = []
    for custodian, mnemonic in enumerate(created.shares[1][:3]):
        path = root / f"words-{custodian}"
        creation.write_private(path, mnemonic.encode())
        words += ["--words-file", str(path)]
    ground.write()
    code, _, err = ground.run(
        "hsm", "provision", "--init-token",
        "--cluster-file", str(root / "cluster.json"), "--node", "1",
        "--package", str(ground.authority / "seats/seat-1.package"),
        "--module", SOFTHSM, "--token-label", "seat-1",
        "--pin-file", str(root / "pin"), "--so-pin-file", str(root / "so-pin"), *words,
    )  # fmt: skip
    assert code == 0, err
    return ground
